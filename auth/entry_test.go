package auth_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/auth"
)

func TestSignUp_LinkLogsInTheBrowserThatSignedUp(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		b := k.browser()
		res := b.post("/auth/signup", "email", " "+email+" ", "password", password, "name", "Ada", "role", "admin", "id", "me", "verified_at", "2026-01-01")
		require.Equal(t, http.StatusOK, res.StatusCode, res.body)
		assert.False(t, b.in(), "signing up is not logging in")
		assert.Equal(t, http.StatusConflict, b.logIn(email, password).StatusCode)
		u, err := k.FindUserByEmail(t.Context(), "ADA@example.COM")
		require.NoError(t, err)
		assert.Equal(t, auth.RoleUser, u.Role, "a form cannot choose the role")
		assert.Equal(t, email, u.Email, "as it was written, trimmed")
		assert.False(t, u.Verified())

		path, token := k.link("auth.verify")
		for _, method := range []string{http.MethodHead, http.MethodGet, http.MethodGet} {
			scanner := k.browser()
			res := scanner.do(method, path, "", "")
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.Equal(t, "no-referrer", res.Header.Get("Referrer-Policy"))
			assert.Empty(t, res.Cookies())
		}
		assert.Equal(t, http.StatusOK, b.get(path).StatusCode)
		u, err = k.FindUser(t.Context(), u.ID)
		require.NoError(t, err)
		require.False(t, u.Verified(), "opening a link changes nothing")

		b.post("/auth/verify", "token", token).leadsTo(t, "/account/")
		assert.True(t, b.in())
		assert.Contains(t, b.get("/account/").body, "Hello, Ada")
		assert.Empty(t, b.cookie("__Host-qs_signup"), "the ticket has done its work")
		assert.Equal(t, http.StatusConflict, k.browser().post("/auth/verify", "token", token).StatusCode, "once")
		assert.Equal(t, http.StatusConflict, k.browser().get(path).StatusCode)
		assert.Equal(t, []auth.EventKind{auth.EventSignUp, auth.EventVerified, auth.EventLogIn}, k.events(u.ID))
	})
}

func TestVerify_InAnotherBrowserNeedsThePasswordToo(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		b := k.browser()
		b.post("/auth/signup", "email", email, "password", password)
		_, token := k.link("auth.verify")

		phone := k.browser()
		phone.post("/auth/verify", "token", token).leadsTo(t, "/auth/login")
		assert.Contains(t, phone.get("/auth/login").body, "One step is left")
		assert.False(t, phone.in())
		assert.Equal(t, http.StatusUnauthorized, phone.logIn(email, "something else").StatusCode)
		assert.False(t, phone.in())
		phone.logIn(email, password).leadsTo(t, "/account/")
		assert.True(t, phone.in())
		assert.Equal(t, http.StatusConflict, b.post("/auth/verify", "token", token).StatusCode, "the link is spent")
		b.logIn(email, password).leadsTo(t, "/account/")

		program := k.browser().json()
		assert.Equal(t, "link_invalid", code(t, program.post("/auth/verify", "token", token)))
	})
}

func TestVerify_ProgramsAreToldThatThePasswordIsNeeded(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		_, err := k.SignUp(t.Context(), auth.SignUpParams{Email: email, Password: password})
		require.NoError(t, err)
		_, token := k.link("auth.verify")
		p := k.browser().json()
		assert.Equal(t, "password_required", code(t, p.do(http.MethodPost, "/auth/verify", "application/json", `{"token":"`+token+`"}`)))
		res := p.do(http.MethodPost, "/auth/login", "application/json", `{"email":"ada@example.com","password":"`+password+`","remember":true}`)
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.JSONEq(t, `{"success":true,"data":{"redirect":"/account/"}}`, res.body)
		assert.True(t, p.in())
	})
}

// Somebody signs up with an address of somebody else, who presses the button in the mail: nobody gets in by that, and
// the owner of the mailbox becomes the owner of the account.
func TestVerify_StrangersPasswordIsNeverActivated(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		thief, owner := k.browser(), k.browser()
		const stolen = "the thief's choice"
		thief.post("/auth/signup", "email", email, "password", stolen)
		_, token := k.link("auth.verify")
		owner.post("/auth/verify", "token", token).leadsTo(t, "/auth/login")
		assert.Equal(t, http.StatusConflict, thief.logIn(email, stolen).StatusCode)

		// The owner signs up too; the thief does so once more. Whose link the owner presses decides nothing.
		owner.post("/auth/signup", "email", email, "password", password)
		thief.post("/auth/signup", "email", email, "password", stolen)
		_, token = k.link("auth.verify")
		owner.post("/auth/verify", "token", token).leadsTo(t, "/auth/login")
		assert.Equal(t, http.StatusUnauthorized, owner.logIn(email, password).StatusCode)
		assert.Equal(t, http.StatusConflict, thief.logIn(email, stolen).StatusCode)

		owner.post("/auth/password/forgot", "email", email)
		_, token = k.link("auth.reset")
		owner.post("/auth/password/reset", "token", token, "password", password).leadsTo(t, "/auth/login")
		owner.logIn(email, password).leadsTo(t, "/account/")
		assert.True(t, owner.in())
		assert.Equal(t, http.StatusUnauthorized, thief.logIn(email, stolen).StatusCode)
		assert.False(t, thief.in())
	})
}

func TestVerify_TheNewestLinkForThreeDays(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		b := k.browser()
		b.post("/auth/signup", "email", email, "password", password)
		_, first := k.link("auth.verify")
		b.post("/auth/verify/resend", "email", strings.ToUpper(email))
		_, second := k.link("auth.verify")
		require.NotEqual(t, first, second)
		assert.Equal(t, http.StatusConflict, b.post("/auth/verify", "token", first).StatusCode, "a newer one cancels it")
		k.clock.Advance(3 * 24 * time.Hour)
		assert.Equal(t, http.StatusConflict, b.post("/auth/verify", "token", second).StatusCode, "too late")
		b.post("/auth/verify/resend", "email", email)
		_, third := k.link("auth.verify")
		k.clock.Advance(3*24*time.Hour - time.Second)
		for _, bad := range []string{"", "x", strings.Repeat("A", 43), first + "=", "' OR 1=1 --"} {
			assert.Equal(t, http.StatusConflict, b.post("/auth/verify", "token", bad).StatusCode, bad)
		}
		b.post("/auth/verify", "token", third).leadsTo(t, "/account/")
	})
}

// A link is for the address that it was sent to.
func TestVerify_IsBoundToTheAddress(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		ticket, err := k.SignUp(t.Context(), auth.SignUpParams{Email: email, Password: password})
		require.NoError(t, err)
		_, token := k.link("auth.verify")
		_, err = k.db.Writer().Exec(`UPDATE qs_auth_users SET email = 'eve@example.com', email_key = 'eve@example.com'`)
		require.NoError(t, err)
		_, err = k.VerifyEmail(t.Context(), auth.VerifyParams{Token: token, Ticket: ticket})
		require.ErrorIs(t, err, auth.ErrLink)
	})
}

func TestVerify_FiftyAtOnceSpendItOnce(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		ticket, err := k.SignUp(t.Context(), auth.SignUpParams{Email: email, Password: password})
		require.NoError(t, err)
		_, token := k.link("auth.verify")
		assert.Equal(t, 1, atOnce(t, 50, auth.ErrLink, func() error {
			_, err := k.VerifyEmail(t.Context(), auth.VerifyParams{Token: token, Ticket: ticket})
			return err
		}))
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_sessions`))
	})
}

// atOnce runs fn n times together and counts the successes; every failure must be want.
func atOnce(t *testing.T, n int, want error, fn func() error) int {
	t.Helper()
	var group errgroup.Group
	done := make(chan struct{}, n)
	for range n {
		group.Go(func() error {
			err := fn()
			if err == nil {
				done <- struct{}{}
				return nil
			}
			if want != nil && assert.ErrorIs(t, err, want) {
				return nil
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
	return len(done)
}

func TestSignUp_TwentyAtOnceMakeOneUser(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		forms := []string{"ada@example.com", "ADA@example.com", "Ada@EXAMPLE.com", " ada@example.com"}
		var group errgroup.Group
		for i := range 20 {
			group.Go(func() error {
				_, err := k.SignUp(t.Context(), auth.SignUpParams{Email: forms[i%len(forms)], Password: password})
				return err
			})
		}
		require.NoError(t, group.Wait())
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_users`))
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_tokens WHERE ended_at IS NULL`))
		assert.Len(t, k.mails(), 20)
	})
}

var (
	requestID = regexp.MustCompile(`[A-Z2-7]{26}`)
	ticket    = regexp.MustCompile(`qs_(signup|magic)=[A-Za-z0-9_-]{43};`)
)

// told is all that an answer tells: status, headers and body, less what is random.
func (a answer) told() string {
	var all strings.Builder
	_ = a.Header.Write(&all) // a strings.Builder takes everything
	return http.StatusText(a.StatusCode) + "\n" + ticket.ReplaceAllString(requestID.ReplaceAllString(all.String(), "ID"), "qs_$1=TICKET;") + "\n" + a.body
}

// Status, headers, body and the work done are the same whatever the account is, for people and for programs.
func TestAnswers_DoNotTellWhetherAnAccountExists(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		// One length and form of address, so that bodies that repeat it can be compared.
		const unknown, verified, unverified, locked, closed = "unknown0@example.com", "verified@example.com", "unverif0@example.com", "locked00@example.com", "closed00@example.com"
		k.user(verified)
		_, err := k.CreateUser(t.Context(), auth.CreateUserParams{Email: unverified, Password: password})
		require.NoError(t, err)
		k.user(locked)
		for range 5 {
			k.browser().logIn(locked, "wrong password")
		}
		require.NoError(t, k.SetDisabled(t.Context(), k.user(closed).ID, true))

		for _, accept := range []string{"text/html", "application/json"} {
			for _, route := range []struct {
				path, password string
				mails          int
				hashes         int64
			}{{"/auth/login", "wrong password", 0, 1}, {"/auth/login", strings.Repeat("x", 600), 0, 0}, {"/auth/password/forgot", "", 1, 0}, {"/auth/magic", "", 1, 0}, {"/auth/verify/resend", "", 1, 0}, {"/auth/signup", "another password", 1, 1}} {
				var want string
				for _, address := range []string{unknown, verified, unverified, locked, closed} {
					b := k.browser()
					b.header["Accept"] = accept
					mails, hashes := len(k.mails()), k.Hashes()
					fields := []string{"email", address}
					if route.password != "" {
						fields = append(fields, "password", route.password)
					}
					got := strings.ReplaceAll(b.post(route.path, fields...).told(), address, "ADDRESS")
					if want == "" {
						want = got
					}
					assert.Equal(t, want, got, "%s %s for %s", accept, route.path, address)
					assert.Equal(t, route.hashes, k.Hashes()-hashes, "%s hashes as often for %s", route.path, address)
					sent := k.mails()[mails:]
					assert.Len(t, sent, route.mails, "%s queues as many mails for %s", route.path, address)
					for _, m := range sent {
						assert.Equal(t, address, m.Recipient)
					}
				}
				assert.NotContains(t, want, http.StatusText(http.StatusInternalServerError))
			}
			// The right password of a locked account does not show either.
			b := k.browser()
			b.header["Accept"] = accept
			right, wrong := b.logIn(locked, password).told(), b.logIn(locked, "wrong password").told()
			assert.Equal(t, wrong, right)
		}
	})
}

func TestSignUp_KnownAddressIsToldByMailOnly(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		k.browser().post("/auth/signup", "email", "ada@example.com", "password", "another password", "name", "Eve")
		all := k.mails()
		require.Len(t, all, 1)
		assert.Equal(t, "auth.exists", all[0].Kind)
		assert.Equal(t, email, all[0].Recipient, "to the address that the owner wrote, not to what was entered now")
		assert.NotContains(t, all[0].Text, "Eve")
		assert.Contains(t, all[0].Text, base+"/auth/login")
		got, err := k.FindUser(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Equal(t, u, got)
		k.browser().logIn(email, password).leadsTo(t, "/account/")
	})
}

func TestSignUp_MailsGreetNobodyUnverifiedByName(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		b := k.browser()
		b.post("/auth/signup", "email", email, "password", password, "name", "Win at https://spam.example")
		b.post("/auth/password/forgot", "email", email)
		b.post("/auth/verify/resend", "email", email)
		for _, m := range k.mails() {
			assert.NotContains(t, m.Text, "spam")
		}
	})
}

// Links begin with BaseURL, whatever the request calls the host.
func TestMails_LinksComeFromTheConfiguration(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		b := k.browser()
		b.header["X-Forwarded-Host"] = "evil.example"
		b.header["X-Forwarded-Proto"] = "http"
		b.h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Host = "evil.example"
			k.h.ServeHTTP(w, r)
		})
		b.post("/auth/password/forgot", "email", email)
		b.post("/auth/signup", "email", "new@example.com", "password", password)
		b.post("/auth/verify/resend", "email", "none@example.com")
		require.Len(t, k.mails(), 3)
		for _, m := range k.mails() {
			assert.NotContains(t, m.Text, "evil")
			assert.Contains(t, m.Text, base+"/auth/")
		}
	})
}

func TestLogIn_FiveFailuresLockForFiveMinutes(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		old := k.browser()
		old.logIn(email, password).leadsTo(t, "/account/")
		b := k.browser()
		for range 4 {
			assert.Equal(t, http.StatusUnauthorized, b.logIn(email, "wrong password").StatusCode)
		}
		b.logIn(email, password).leadsTo(t, "/account/") // which sets the count back
		b = k.browser()
		for range 5 {
			b.logIn(email, "wrong password")
		}
		assert.Equal(t, http.StatusUnauthorized, b.logIn(email, password).StatusCode, "locked, even for the right one")
		assert.True(t, old.in(), "sessions go on")
		k.clock.Advance(4 * time.Minute)
		b.logIn(email, "wrong password")
		assert.Equal(t, http.StatusUnauthorized, b.logIn(email, password).StatusCode)
		k.clock.Advance(time.Minute)
		b.logIn(email, password).leadsTo(t, "/account/") // tries meanwhile did not prolong it
		kinds := k.events(u.ID)
		assert.Equal(t, 1, countKind(kinds, auth.EventLocked))
		assert.Equal(t, 1, countKind(kinds, auth.EventUnlocked))

		b = k.browser()
		for range 5 {
			b.logIn(email, "wrong password")
		}
		k.clock.Advance(5 * time.Minute)
		for range 4 {
			b.logIn(email, "wrong password")
		}
		b.logIn(email, password).leadsTo(t, "/account/") // after a lock the count begins anew
	})
}

func countKind(kinds []auth.EventKind, kind auth.EventKind) (n int) {
	for _, k := range kinds {
		if k == kind {
			n++
		}
	}
	return n
}

func TestLogIn_HundredWrongAtOnceCountAsHundred(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		assert.Zero(t, atOnce(t, 100, auth.ErrCredentials, func() error {
			_, err := k.LogIn(t.Context(), auth.LogInParams{Email: email, Password: "wrong password"})
			return err
		}))
		assert.Equal(t, 100, k.count(`SELECT failed_logins FROM qs_auth_users`))
		kinds := k.events(u.ID)
		assert.Equal(t, 100, countKind(kinds, auth.EventLogInFailed))
		assert.Equal(t, 1, countKind(kinds, auth.EventLocked))
	})
}

func TestLogIn_ResetWorksWhileLocked(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		for range 6 {
			b.logIn(email, "wrong password")
		}
		b.post("/auth/password/forgot", "email", email)
		_, token := k.link("auth.reset")
		b.post("/auth/password/reset", "token", token, "password", "brand new words").leadsTo(t, "/auth/login")
		b.logIn(email, "brand new words").leadsTo(t, "/account/")
		assert.Equal(t, 1, countKind(k.events(u.ID), auth.EventUnlocked))
	})
}

func TestLogIn_DisabledIsToldToWhoKnowsThePassword(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		require.NoError(t, k.SetDisabled(t.Context(), u.ID, true))
		assert.False(t, b.in(), "at once")
		b.json()
		assert.Equal(t, "account_disabled", code(t, b.logIn(email, password)))
		assert.Equal(t, "invalid_credentials", code(t, b.logIn(email, "wrong password")))
		b.post("/auth/password/forgot", "email", email)
		assert.Equal(t, "auth.noaccount", k.mails()[0].Kind, "no link leads in")
		require.NoError(t, k.SetDisabled(t.Context(), u.ID, false))
		require.NoError(t, k.SetDisabled(t.Context(), u.ID, false), "again changes nothing")
		assert.False(t, b.in(), "old sessions stay ended")
		assert.Equal(t, http.StatusOK, b.logIn(email, password).StatusCode)
		assert.Equal(t, []auth.EventKind{auth.EventSignUp, auth.EventVerified, auth.EventLogIn, auth.EventDisabled, auth.EventLogInFailed, auth.EventEnabled, auth.EventLogIn}, k.events(u.ID))
	})
}

func TestLogIn_NextStaysOnThisSite(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		k.browser().post("/auth/login", "email", email, "password", password, "next", "/billing/?a=b").leadsTo(t, "/billing/?a=b")
		for _, evil := range []string{"//evil.example", `/\evil.example`, "https://evil.example", "https:evil", "javascript:alert(1)", "/\t/evil", "%2F%2Fevil", "/\r\nSet-Cookie: x=y", "http://app.example@evil"} {
			b := k.browser()
			assert.NotContains(t, b.get("/auth/login?next="+strings.ReplaceAll(urlEscape(evil), "+", "%20")).body, `name="next"`, evil)
			b.post("/auth/login", "email", email, "password", password, "next", evil).leadsTo(t, "/account/")
		}
	})
}

func TestLimits_CountANetworkInTheDatabase(t *testing.T) {
	few := auth.Limit{Max: 3, Per: time.Minute}
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		second := newKit(t, k.db, func(c *auth.Config) { c.Limits.LogIn = few })
		for _, route := range []string{"/auth/login", "/auth/signup", "/auth/password/forgot", "/auth/verify/resend"} {
			b := k.browser()
			b.addr = "198.51.100.7:1"
			post := func() answer {
				return b.post(route, "email", "x@example.com", "password", "not right at all")
			}
			for i := range 3 {
				b.header["X-Forwarded-For"] = strings.Repeat("9", i+1) + ".0.0.1"
				require.NotEqual(t, http.StatusTooManyRequests, post().StatusCode, route)
			}
			res := post()
			require.Equal(t, http.StatusTooManyRequests, res.StatusCode, "%s: a header moves nobody", route)
			assert.Equal(t, "60", res.Header.Get("Retry-After"))
			b.addr = "198.51.100.8:1"
			require.NotEqual(t, http.StatusTooManyRequests, post().StatusCode, "%s: another network", route)
			k.clock.Advance(time.Minute)
			b.addr = "198.51.100.7:1"
			require.NotEqual(t, http.StatusTooManyRequests, post().StatusCode, "%s: a new window", route)
		}

		b := k.browser()
		b.addr = "[2001:db8:1:2:3::4]:1"
		for range 3 {
			b.logIn(email, password).leadsTo(t, "/account/")
		}
		other := second.browser()
		other.addr = "[2001:db8:1:2:ffff::9]:1"
		second.clock.Advance(k.clock.Now().Sub(start))
		assert.Equal(t, http.StatusTooManyRequests, other.logIn(email, password).StatusCode, "one /64 counts as one, in all processes, and no success clears it")
		other.addr = "[2001:db8:1:3::9]:1"
		other.logIn(email, password).leadsTo(t, "/account/")
	}, func(c *auth.Config) {
		c.Limits.LogIn, c.Limits.SignUp, c.Limits.Forgot, c.Limits.Resend = few, few, few, few
	})
}

func TestLimits_AMailboxIsNotFlooded(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		var first string
		for i := range 6 {
			b := k.browser()
			b.addr = "198.51.100." + strings.Repeat("1", i%2+1) + ":1"
			got := b.post("/auth/password/forgot", "email", "ada@example.com").told()
			if first == "" {
				first = got
			}
			assert.Equal(t, first, got)
		}
		assert.Len(t, k.mails(), 2, "beyond the limit nothing is sent and nobody is told")
		_, token := k.link("auth.reset")
		k.browser().post("/auth/password/reset", "token", token, "password", "brand new words").leadsTo(t, "/auth/login") // the last link that was sent works
		k.clock.Advance(time.Hour)
		k.browser().post("/auth/password/forgot", "email", email)
		assert.Len(t, k.mails(), 4)
	}, func(c *auth.Config) { c.Limits.Mail = auth.Limit{Max: 2, Per: time.Hour} })
}

// No route but a POST changes anything, and no other site can make one.
func TestRoutes_RefuseOtherSitesAndChangeNothingOnGET(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		session := b.cookie("__Host-qs_session")
		id := "0197d9a0-0000-7000-8000-000000000000"
		posts := []string{"/auth/signup", "/auth/login", "/auth/logout", "/auth/verify", "/auth/verify/resend", "/auth/password/forgot", "/auth/password/reset", "/account/profile",
			"/account/security/password", "/account/security/sessions/revoke-others", "/account/security/sessions/" + id + "/revoke", "/account/api-keys", "/account/api-keys/" + id + "/revoke"}
		events := len(k.events(u.ID))
		for _, path := range posts {
			for _, header := range [][2]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
				evil := b.copy()
				evil.header[header[0]] = header[1]
				res := evil.post(path, "email", email, "password", password, "name", "Eve")
				assert.Equal(t, http.StatusForbidden, res.StatusCode, "%s %v", path, header)
			}
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				b.do(method, path, "", "")
			}
		}
		assert.Len(t, k.events(u.ID), events)
		assert.Empty(t, k.mails())
		assert.Equal(t, session, b.cookie("__Host-qs_session"))
		assert.True(t, b.in())
	})
}
