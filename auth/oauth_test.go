package auth_test

import (
	"crypto/rand"
	"crypto/rsa"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

func TestOAuth_SignsUpWhoIsNewAndKnowsThemAgain(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		assert.Contains(t, k.browser().get("/auth/login").body, "Go on with Acme ID")
		b := k.browser()
		address := b.start("/auth/oauth/acme", "next", "/account/profile")
		q, err := url.Parse(address)
		require.NoError(t, err)
		assert.Equal(t, "S256", q.Query().Get("code_challenge_method"))
		assert.Len(t, q.Query().Get("code_challenge"), 43)
		assert.Len(t, q.Query().Get("nonce"), 43)
		assert.Len(t, q.Query().Get("state"), 43)
		back := p.visit(address)
		b.get(back.RequestURI()).leadsTo(t, "/account/profile")
		assert.True(t, b.in())
		u, err := k.FindUserByEmail(t.Context(), "ada@example.com")
		require.NoError(t, err)
		assert.True(t, u.Verified(), "the other site vouches for the address")
		assert.Equal(t, "Ada L", u.Name)
		assert.Equal(t, []auth.EventKind{auth.EventSignUp, auth.EventVerified, auth.EventLinked, auth.EventLogIn}, k.events(u.ID))
		assert.NotEmpty(t, p.exchanges[0].Get("code_verifier"), "PKCE goes through goth's exchange")

		asked, err := url.Parse(b.start("/auth/oauth/acme"))
		require.NoError(t, err)
		assert.Equal(t, "login", asked.Query().Get("prompt"), "who is signed in is asked anew there")
		assert.NotContains(t, q.RawQuery, "prompt=")

		// The address there may change: the subject names the person.
		p.claims["email"], p.claims["email_verified"] = "lovelace@example.net", false
		again := k.browser()
		again.through(p).leadsTo(t, "/account/")
		sessions, _, err := k.Sessions(t.Context(), auth.SessionsParams{UserID: u.ID})
		require.NoError(t, err)
		assert.Len(t, sessions, 2)
		u, err = k.FindUser(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Equal(t, "ada@example.com", u.Email)
		has, err := k.HasPassword(t.Context(), u.ID)
		require.NoError(t, err)
		assert.False(t, has)
	})
}

func TestOAuth_ALieLetsNobodyIn(t *testing.T) {
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	lies := map[string]func(p *idp){
		"another nonce":         func(p *idp) { p.lie = func(c map[string]any) { c["nonce"] = "another" } },
		"no nonce":              func(p *idp) { p.lie = func(c map[string]any) { delete(c, "nonce") } },
		"another audience":      func(p *idp) { p.lie = func(c map[string]any) { c["aud"] = "client-2" } },
		"a foreign issuer":      func(p *idp) { p.lie = func(c map[string]any) { c["iss"] = "https://evil.example" } },
		"expired":               func(p *idp) { p.lie = func(c map[string]any) { c["exp"] = p.clock.Now().Add(-time.Hour).Unix() } },
		"no subject":            func(p *idp) { p.lie = func(c map[string]any) { delete(c, "sub") } },
		"a subject without end": func(p *idp) { p.lie = func(c map[string]any) { c["sub"] = strings.Repeat("x", 256) } },
		"signed by another":     func(p *idp) { p.signer = foreign },
		"not signed":            func(p *idp) { p.unsigned = true },
		"userinfo of another": func(p *idp) {
			delete(p.claims, "email")
			p.userinfo = map[string]any{"sub": "eve-1", "email": "ada@example.com", "email_verified": true}
		},
	}
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		honest := p.claims
		for name, lie := range lies {
			p.lie, p.signer, p.unsigned, p.userinfo, p.claims = nil, nil, false, nil, maps.Clone(honest)
			lie(p)
			b := k.browser()
			a := b.through(p)
			assert.Equal(t, http.StatusServiceUnavailable, a.StatusCode, name)
			assert.False(t, b.in(), name)
			assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_users`), name)
			assert.NotContains(t, a.body, "nonce", "what was wrong is for the log only")
		}
		p.unsigned = false
		assert.NotContains(t, k.log.String(), "access-1")
	})
}

func TestOAuth_AnUnverifiedAddressSignsNobodyUpAndLinksNothing(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		for _, word := range []any{false, "false", nil, 0} {
			p.claims["email_verified"] = word
			var bodies []string
			for _, known := range []string{"ada@example.com", "nobody@example.com"} {
				p.claims["email"] = known
				if known == "ada@example.com" {
					_, err := k.FindUserByEmail(t.Context(), known)
					if err != nil {
						k.user(known)
					}
				}
				b := k.browser().json()
				back := p.visit(jsonRedirect(t, b.post("/auth/oauth/acme")))
				a := b.get(back.RequestURI())
				assert.Equal(t, "oauth_email", code(t, a))
				assert.False(t, b.in())
				bodies = append(bodies, a.body)
			}
			assert.Equal(t, bodies[0], bodies[1], "the answer does not tell whether there is an account")
		}
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_users`))
		assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_identities`))
		delete(p.claims, "email")
		p.userinfo = map[string]any{"sub": "ada-1", "email": "other@example.com", "email_verified": "true"}
		b := k.browser()
		b.through(p).leadsTo(t, "/account/") // some sites tell the address at userinfo only, and write true as a word
		_, err := k.FindUserByEmail(t.Context(), "other@example.com")
		require.NoError(t, err)
	})
}

func jsonRedirect(t *testing.T, a answer) string {
	t.Helper()
	var to struct {
		Redirect string `json:"redirect"`
	}
	data(t, a, &to)
	require.NotEmpty(t, to.Redirect, a.body)
	return to.Redirect
}

func TestOAuth_TheStateIsOfThisBrowserAndOfOneUse(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		b := k.browser()
		back := p.visit(b.start("/auth/oauth/acme"))
		refused := func(b *browser, uri, why string) {
			t.Helper()
			a := b.json().get(uri)
			assert.Equal(t, "oauth_state", code(t, a), why)
			assert.False(t, b.in(), why)
			b.header["Accept"] = "text/html"
		}
		other := k.browser()
		refused(other, back.RequestURI(), "log-in CSRF: a victim's browser is sent to the attacker's callback")
		other.start("/auth/oauth/acme")
		refused(other, back.RequestURI(), "nor with a log-in of its own under way")
		q := back.Query()
		for name, change := range map[string]func(url.Values){
			"no state": func(q url.Values) { q.Del("state") }, "another state": func(q url.Values) { q.Set("state", strings.Repeat("A", 43)) }, "nonsense": func(q url.Values) { q.Set("state", "x'--") },
		} {
			c := url.Values{"state": q["state"], "code": q["code"]}
			change(c)
			refused(b, back.Path+"?"+c.Encode(), name)
		}
		refused(b, strings.Replace(back.RequestURI(), "/acme/", "/other/", 1), "another provider's callback")
		assert.Empty(t, p.exchanges, "no code was given away")

		b.get(back.RequestURI()).leadsTo(t, "/account/")
		thief := k.browser()
		refused(thief, back.RequestURI(), "the address from a log, in another browser")
		b.post("/auth/logout")
		refused(b, back.RequestURI(), "a second time")
		assert.Len(t, p.exchanges, 1)

		late := k.browser()
		back = p.visit(late.start("/auth/oauth/acme"))
		k.clock.Advance(10 * time.Minute)
		refused(late, back.RequestURI(), "after ten minutes")
	}, func(cfg *auth.Config) {
		cfg.OAuth = append(cfg.OAuth, auth.OpenID("other", "Other", issuer, clientID, clientSecret))
	})
}

func TestOAuth_ACallerCannotChooseTheState(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		chosen := strings.Repeat("A", 43)
		b := k.browser()
		address := b.start("/auth/oauth/acme?state="+chosen, "state", chosen)
		assert.NotContains(t, address, chosen)
		assert.Equal(t, http.StatusMethodNotAllowed, b.get("/auth/oauth/acme").StatusCode, "no link of another site begins a log-in")
		b.header["Sec-Fetch-Site"] = "cross-site"
		assert.Equal(t, http.StatusForbidden, b.post("/auth/oauth/acme").StatusCode)
	})
}

func TestOAuth_ACodeOfAnotherLogInIsRefusedByPKCE(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		victim, attacker := k.browser(), k.browser()
		stolen := p.visit(victim.start("/auth/oauth/acme")).Query().Get("code")
		back := p.visit(attacker.start("/auth/oauth/acme"))
		q := back.Query()
		q.Set("code", stolen)
		a := attacker.get(back.Path + "?" + q.Encode())
		assert.Equal(t, http.StatusServiceUnavailable, a.StatusCode)
		assert.False(t, attacker.in())
	})
}

func TestOAuth_ErrorAnswersAndOtherIssuersAreRefused(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		for name, c := range map[string]struct {
			change func(url.Values)
			code   string
		}{
			"the person said no":  {func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }, "oauth_refused"},
			"an error and a code": {func(q url.Values) { q.Set("error", "server_error") }, "oauth_refused"},
			"no code":             {func(q url.Values) { q.Del("code") }, "oauth_refused"},
			"a code of nobody":    {func(q url.Values) { q.Set("code", "x") }, "unavailable"},
			"a mixed-up issuer":   {func(q url.Values) { q.Set("iss", "https://evil.example") }, "oauth_state"},
		} {
			b := k.browser().json()
			back := p.visit(jsonRedirect(t, b.post("/auth/oauth/acme")))
			q := back.Query()
			c.change(q)
			assert.Equal(t, c.code, code(t, b.get(back.Path+"?"+q.Encode())), name)
			assert.False(t, b.in(), name)
			assert.Equal(t, "oauth_state", code(t, b.get(back.RequestURI())), "%s: and is over", name)
		}
		b := k.browser()
		back := p.visit(b.start("/auth/oauth/acme"))
		q := back.Query()
		q.Set("iss", issuer)
		b.get(back.Path+"?"+q.Encode()).leadsTo(t, "/account/")
		assert.Equal(t, http.StatusNotFound, b.post("/auth/oauth/nobody").StatusCode)
	})
}

func TestOAuth_NextIsALocalPath(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		for _, next := range []string{"https://evil.example", "//evil.example", `/\evil.example`, "javascript:alert(1)", "/\t/evil.example"} {
			k.browser().through(p, "next", next).leadsTo(t, "/account/")
		}
		k.browser().through(p, "next", "/credits/?a=b").leadsTo(t, "/credits/?a=b")
	})
}

func TestOAuth_AnAccountWithTheAddressIsLinkedOnlyByItsOwner(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		ada, eve := k.user("ada@example.com"), k.user("eve@example.com")
		b := k.browser()
		b.through(p, "next", "/credits/").leadsTo(t, "/auth/oauth/link")
		assert.False(t, b.in(), "an address alone lets nobody in")
		page := b.get("/auth/oauth/link")
		assert.Contains(t, page.body, "Log in to link it")
		b.post("/auth/oauth/link").leadsTo(t, "/auth/login?next=%2Faccount%2F")
		assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_identities`))

		stranger := b.copy()
		stranger.logIn("eve@example.com", password)
		assert.NotContains(t, stranger.get("/auth/oauth/link").body, ">Link it<")
		assert.Equal(t, http.StatusConflict, stranger.post("/auth/oauth/link").StatusCode, "another person cannot take it")
		assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_identities`))
		_ = eve

		b.post("/auth/login", "email", "ada@example.com", "password", password, "next", "/auth/oauth/link").leadsTo(t, "/auth/oauth/link")
		assert.Contains(t, b.get("/auth/oauth/link").body, ">Link it<")
		b.post("/auth/oauth/link").leadsTo(t, "/credits/")
		assert.Contains(t, k.events(ada.ID), auth.EventLinked)
		last := k.mails()[len(k.mails())-1]
		assert.Equal(t, "auth.change", last.Kind)
		assert.Contains(t, last.Text, "Acme ID was linked")
		assert.Equal(t, http.StatusConflict, b.post("/auth/oauth/link").StatusCode, "once")
		again := k.browser()
		again.through(p).leadsTo(t, "/account/")
	})
}

func TestOAuth_AnOfferEndsAfterTenMinutes(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		u := k.user("ada@example.com")
		b := k.browser()
		b.through(p).leadsTo(t, "/auth/oauth/link")
		handle := b.cookie("__Host-qs_oauth")
		_, err := k.Offer(t.Context(), handle)
		require.NoError(t, err)
		k.clock.Advance(10 * time.Minute)
		_, err = k.Offer(t.Context(), handle)
		require.ErrorIs(t, err, auth.ErrNoOffer)
		_, err = k.AcceptOffer(t.Context(), u.ID, handle, auth.Client{})
		require.ErrorIs(t, err, auth.ErrNoOffer)
	})
}

func TestOAuth_AnUnconfirmedAccountIsTakenOverEmpty(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		// Pre-hijacking: somebody signs up with the address of another and waits.
		attacker := k.browser()
		attacker.post("/auth/signup", "email", "Ada@Example.com", "password", "attackers phrase", "name", "Mallory")
		_, verify := k.link("auth.verify")

		b := k.browser()
		b.through(p).leadsTo(t, "/account/")
		now, err := k.FindUserByEmail(t.Context(), "ada@example.com")
		require.NoError(t, err)
		assert.Equal(t, "Ada L", now.Name)
		_, err = k.LogIn(t.Context(), auth.LogInParams{Email: email, Password: "attackers phrase"})
		require.ErrorIs(t, err, auth.ErrCredentials)
		attacker.post("/auth/verify", "token", verify)
		assert.False(t, attacker.in())
		has, err := k.HasPassword(t.Context(), now.ID)
		require.NoError(t, err)
		assert.False(t, has)
	})
}

func TestOAuth_IsLinkedAndUnlinkedOnThePageSecurity(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		u := k.user(email)
		p.claims["email"], p.claims["email_verified"] = "elsewhere@example.net", false
		b := k.browser()
		b.logIn(email, password)
		assert.Contains(t, b.get("/account/security").body, "Link an account at Acme ID")
		back := p.visit(b.start("/account/security/identities/acme"))
		b.get(back.RequestURI()).leadsTo(t, "/account/security")
		linked, err := k.Identities(t.Context(), u.ID)
		require.NoError(t, err)
		require.Len(t, linked, 1)
		page := b.get("/account/security")
		assert.Contains(t, page.body, "elsewhere@example.net")
		assert.NotContains(t, page.body, "Link an account at Acme ID")
		k.browser().through(p).leadsTo(t, "/account/")

		other := k.user("eve@example.com")
		eve := k.browser()
		eve.logIn("eve@example.com", password)
		back = p.visit(eve.start("/account/security/identities/acme"))
		a := eve.get(back.RequestURI())
		assert.Equal(t, http.StatusConflict, a.StatusCode, "it is Ada's")
		assert.Contains(t, a.body, "linked to another one here")
		require.ErrorIs(t, k.Unlink(t.Context(), other.ID, linked[0].ID, auth.Client{}), auth.ErrNoIdentity)
		assert.Equal(t, http.StatusNotFound, eve.post("/account/security/identities/"+linked[0].ID+"/unlink").StatusCode)

		b.post("/account/security/identities/"+linked[0].ID+"/unlink").leadsTo(t, "/account/security")
		assert.Contains(t, k.events(u.ID), auth.EventUnlinked)
		assert.Contains(t, k.mails()[len(k.mails())-1].Text, "was unlinked")
		stranger := k.browser()
		stranger.through(p)
		assert.False(t, stranger.in())
	})
}

func TestOAuth_ALinkBegunByOneIsNotFinishedByAnother(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		k.user(email)
		k.user("eve@example.com")
		b := k.browser()
		b.logIn(email, password)
		back := p.visit(b.start("/account/security/identities/acme"))
		b.post("/auth/logout")
		b.logIn("eve@example.com", password)
		a := b.get(back.RequestURI())
		assert.Equal(t, http.StatusConflict, a.StatusCode)
		assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_identities`))
	})
}

func TestUnlink_NeverTakesTheLastWayIn(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		b := k.browser()
		b.through(p)
		u, err := k.FindUserByEmail(t.Context(), "ada@example.com")
		require.NoError(t, err)
		linked, err := k.Identities(t.Context(), u.ID)
		require.NoError(t, err)
		path := "/account/security/identities/" + linked[0].ID + "/unlink"
		a := b.post(path)
		assert.Equal(t, http.StatusConflict, a.StatusCode)
		assert.Contains(t, a.body, "only way into your account")
		page := b.get("/account/security")
		assert.Contains(t, page.body, "Set the password")
		assert.NotContains(t, page.body, "Current password")
		weak := b.post("/account/security/password/add", "password", "password")
		assert.Equal(t, http.StatusUnprocessableEntity, weak.StatusCode)
		b.post("/account/security/password/add", "password", password).leadsTo(t, "/account/security")
		assert.True(t, b.in(), "the session goes on")
		require.ErrorIs(t, k.AddPassword(t.Context(), u.ID, "another good phrase", auth.Client{}), auth.ErrHasPassword)
		assert.Contains(t, k.events(u.ID), auth.EventPasswordSet)
		b.post(path).leadsTo(t, "/account/security")
		k.browser().logIn("ada@example.com", password).leadsTo(t, "/account/")
	})
}

func TestLogIn_WithoutAPasswordCostsAndAnswersTheSame(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		k.browser().through(p) // ada@example.com has no password
		k.user("bob@example.com")
		seen := map[string]int64{}
		for _, address := range []string{"ada@example.com", "bob@example.com", "nobody@example.com"} {
			before := k.Hashes()
			a := k.browser().json().logIn(address, "a wrong password")
			assert.Equal(t, http.StatusUnauthorized, a.StatusCode, address)
			seen[a.body] = k.Hashes() - before
		}
		assert.Len(t, seen, 1, "one body")
		for _, hashes := range seen {
			assert.EqualValues(t, 1, hashes)
		}
		_, err := k.LogIn(t.Context(), auth.LogInParams{Email: "ada@example.com", Password: ""})
		require.Error(t, err)
		u, err := k.FindUserByEmail(t.Context(), "ada@example.com")
		require.NoError(t, err)
		_, err = k.ChangePassword(t.Context(), auth.ChangePasswordParams{UserID: u.ID, Current: "", New: "another good phrase"})
		require.ErrorIs(t, err, auth.ErrPassword, "no password is not the empty one")
		require.NoError(t, k.ForgotPassword(t.Context(), "ada@example.com", auth.Client{}))
		_, token := k.link("auth.reset")
		require.NoError(t, k.ResetPassword(t.Context(), auth.ResetParams{Token: token, Password: "another good phrase"}))
		k.browser().logIn("ada@example.com", "another good phrase").leadsTo(t, "/account/")
	})
}

func TestOAuth_TheSecondStepIsAskedForAndClosedAccountsStayClosed(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		k.browser().through(p)
		u, err := k.FindUserByEmail(t.Context(), "ada@example.com")
		require.NoError(t, err)
		app, _ := k.phone(u)
		b := k.browser()
		b.through(p, "next", "/credits/").leadsTo(t, "/auth/2fa?next=%2Fcredits%2F")
		assert.False(t, b.in())
		b.post("/auth/2fa", "code", app.code(), "next", "/credits/").leadsTo(t, "/credits/")
		assert.True(t, b.in())
		require.NoError(t, k.SetDisabled(t.Context(), u.ID, true))
		closed := k.browser()
		assert.Equal(t, http.StatusForbidden, closed.through(p).StatusCode)
		assert.False(t, closed.in())
	})
}

func TestOAuth_TwoAtOnceAreOneAccount(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		var backs []*url.URL
		var browsers []*browser
		for range 8 {
			b := k.browser()
			backs = append(backs, p.visit(b.start("/auth/oauth/acme")))
			browsers = append(browsers, b)
		}
		var in, offered atomic.Int32
		var group sync.WaitGroup
		for i, b := range browsers {
			group.Go(func() {
				switch a := b.get(backs[i].RequestURI()); a.Header.Get("Location") {
				case "/account/":
					in.Add(1)
				case "/auth/oauth/link": // the account was there a moment before its link was seen
					offered.Add(1)
				default:
					assert.Fail(t, "neither", "%d %s", a.StatusCode, a.body)
				}
			})
		}
		group.Wait()
		assert.GreaterOrEqual(t, in.Load(), int32(1))
		assert.EqualValues(t, 8, in.Load()+offered.Load())
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_users`))
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_identities`))
	})
}
