package auth_test

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/mail"
)

func sqlite(t *testing.T) *database.DB {
	t.Helper()
	return dbtest.SQLite(t, schema)
}

func TestCreateUser_ChecksTheLengthOnly(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u, err := k.CreateUser(t.Context(), auth.CreateUserParams{Email: "user@example.com", Password: "quickscale-dev", Verified: true, Role: auth.RoleAdmin})
		require.NoError(t, err)
		assert.True(t, u.Verified() && u.IsStaff())
		assert.Len(t, u.ID, 36)
		assert.Equal(t, start, u.CreatedAt)
		k.browser().logIn("user@example.com", "quickscale-dev").leadsTo(t, "/account/")
		_, err = k.CreateUser(t.Context(), auth.CreateUserParams{Email: "USER@example.com", Password: "quickscale-dev"})
		require.ErrorIs(t, err, auth.ErrEmailTaken)
		_, err = k.CreateUser(t.Context(), auth.CreateUserParams{Email: "b@example.com", Password: "quickscale-dev", Role: "root"})
		require.ErrorIs(t, err, auth.ErrRole)
		for _, bad := range []auth.CreateUserParams{{Email: "b@example.com", Password: "1234567"}, {Email: "x", Password: "12345678"}, {Email: "b@example.com", Password: "12345678", Name: "\x00"}} {
			_, err = k.CreateUser(t.Context(), bad)
			assert.Equal(t, problem.CodeInvalid, codeOf(err))
		}
		assert.Empty(t, k.mails())
	})
}

func TestFindUser_ByIDAndAddress(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		got, err := k.FindUser(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Equal(t, u, got)
		got, err = k.FindUserByEmail(t.Context(), " ada@EXAMPLE.com ")
		require.NoError(t, err)
		assert.Equal(t, u, got)
		assert.Equal(t, u.ID, slog.AnyValue(u).Resolve().String(), "logs hold the id alone")
		for _, bad := range []string{"", "x", "' OR 1=1", strings.ToUpper(u.ID), "urn:uuid:" + u.ID, "0197d9a0-0000-7000-8000-000000000000"} {
			_, err := k.FindUser(t.Context(), bad)
			require.ErrorIs(t, err, auth.ErrNotFound, bad)
			_, err = k.FindUserByEmail(t.Context(), bad)
			require.ErrorIs(t, err, auth.ErrNotFound, bad)
			require.ErrorIs(t, k.SetRole(t.Context(), bad, auth.RoleAdmin), auth.ErrNotFound)
			require.ErrorIs(t, k.SetDisabled(t.Context(), bad, true), auth.ErrNotFound)
		}
	})
}

func TestUsers_PagesAndSearches(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		for i := range 7 {
			_, err := k.CreateUser(t.Context(), auth.CreateUserParams{Email: fmt.Sprintf("user_%d@example.com", i), Password: password, Name: fmt.Sprintf("Élan %d", i)})
			require.NoError(t, err)
		}
		k.user("userX@example.com")
		list := func(p auth.UsersParams) (addresses []string, more bool) {
			users, more, err := k.Users(t.Context(), p)
			require.NoError(t, err)
			for _, u := range users {
				addresses = append(addresses, strings.TrimSuffix(u.Email, "@example.com"))
			}
			return addresses, more
		}
		var all []string
		before := ""
		for pages := range 3 {
			users, more, err := k.Users(t.Context(), auth.UsersParams{Before: before, Limit: 3})
			require.NoError(t, err)
			for _, u := range users {
				all = append(all, u.Email)
			}
			assert.Equal(t, pages < 2, more)
			before = users[len(users)-1].ID
		}
		assert.Len(t, all, 8)
		assert.Equal(t, "userX@example.com", all[0], "newest first")
		got, _ := list(auth.UsersParams{Query: " USER_3"})
		assert.Equal(t, []string{"user_3"}, got)
		got, _ = list(auth.UsersParams{Query: "user_"})
		assert.Len(t, got, 7, "an underscore stands for itself")
		got, more := list(auth.UsersParams{Query: "éLAN", Limit: 5})
		assert.Len(t, got, 5)
		assert.True(t, more)
		for _, none := range []string{"%", `\`, "ser_", "nobody", "'"} {
			got, _ = list(auth.UsersParams{Query: none})
			assert.Empty(t, got, none)
		}
		got, _ = list(auth.UsersParams{Query: "user_1\x00", Before: "nonsense"})
		assert.Equal(t, []string{"user_1"}, got)
	})
}

func TestAdminEmail_BecomesAdminWhenVerified(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		b := k.browser()
		b.post("/auth/signup", "email", email, "password", password)
		u, err := k.FindUserByEmail(t.Context(), email)
		require.NoError(t, err)
		assert.False(t, u.IsStaff(), "not before the mailbox is shown to be theirs")
		_, token := k.link("auth.verify")
		b.post("/auth/verify", "token", token)
		u, err = k.FindUserByEmail(t.Context(), email)
		require.NoError(t, err)
		assert.True(t, u.IsStaff())
		assert.Equal(t, 1, countKind(k.events(u.ID), auth.EventRoleChanged))
		require.NoError(t, k.SetRole(t.Context(), u.ID, auth.RoleUser))
		require.NoError(t, k.SetRole(t.Context(), u.ID, auth.RoleUser), "again changes nothing")
		require.ErrorIs(t, k.SetRole(t.Context(), u.ID, "root"), auth.ErrRole)
		b.logIn(email, password)
		u, err = k.FindUserByEmail(t.Context(), email)
		require.NoError(t, err)
		assert.False(t, u.IsStaff(), "what was taken stays taken")
		assert.Equal(t, 2, countKind(k.events(u.ID), auth.EventRoleChanged))
		other := k.user("other@example.com")
		assert.False(t, other.IsStaff())
	}, func(c *auth.Config) { c.AdminEmail = "ADA@example.com" })
}

func TestEvents_AreAppendOnlyAndTellWhereFrom(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		k.browser().logIn(email, password)
		events, more, err := k.SecurityEvents(t.Context(), auth.EventsParams{UserID: u.ID, Limit: 1})
		require.NoError(t, err)
		assert.True(t, more)
		e := events[0]
		assert.Equal(t, auth.EventLogIn, e.Kind)
		assert.Equal(t, "192.0.2.1", e.IP)
		assert.Equal(t, "Test/1.0", e.Agent)
		assert.Equal(t, start, e.CreatedAt)
		rest, more, err := k.SecurityEvents(t.Context(), auth.EventsParams{UserID: u.ID, Before: e.ID})
		require.NoError(t, err)
		assert.False(t, more)
		assert.Len(t, rest, 2)
		none, _, err := k.SecurityEvents(t.Context(), auth.EventsParams{UserID: "x"})
		require.NoError(t, err)
		assert.Empty(t, none)
		for _, statement := range []string{`UPDATE qs_auth_events SET kind = 'logout'`, `DELETE FROM qs_auth_events`} {
			_, err := k.db.Writer().Exec(statement)
			require.ErrorContains(t, err, "append-only")
		}
		for _, kind := range []auth.EventKind{auth.EventSignUp, auth.EventVerified, auth.EventLogIn, auth.EventLogInFailed, auth.EventLocked, auth.EventUnlocked, auth.EventLogOut, auth.EventPasswordChanged,
			auth.EventPasswordReset, auth.EventKeyCreated, auth.EventKeyRevoked, auth.EventSessionRevoked, auth.EventRoleChanged, auth.EventDisabled, auth.EventEnabled} {
			assert.NotEmpty(t, kind.Label(), kind)
		}
	})
}

// Somebody with a copy of the database, or of the log, can neither log in nor use a link or a key.
func TestStorage_HoldsNoSecretInClear(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		b := k.browser()
		b.post("/auth/signup", "email", email, "password", password, "name", "Ada")
		_, verify := k.link("auth.verify")
		signup := b.cookie("__Host-qs_signup")
		b.post("/auth/verify", "token", verify)
		u, err := k.FindUserByEmail(t.Context(), email)
		require.NoError(t, err)
		_, key, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.NoError(t, err)
		b.logIn(email, "wrong password words")
		b.logIn("unknown@example.com", "wrong password words")
		b.post("/auth/password/forgot", "email", email)
		_, reset := k.link("auth.reset")
		b.post("/auth/password/reset", "token", reset, "password", "brand new words", "keep_api_keys", "on")
		b.logIn(email, "brand new words")
		session := b.cookie("__Host-qs_session")
		require.NotEmpty(t, session)

		_, secret, _ := strings.Cut(key, ".")
		dump := k.dump()
		require.Contains(t, dump, key[:15], "the dump is one")
		require.Contains(t, dump, strings.ToLower(email))
		logged := k.log.String()
		require.Contains(t, logged, u.ID)
		for _, secret := range []string{password, "wrong password words", "brand new words", verify, signup, reset, session, secret} {
			require.NotEmpty(t, secret)
			assert.NotContains(t, dump, secret)
			assert.NotContains(t, logged, secret)
		}
		// Where it came from is logged with the events; who it was, as an id only.
		for _, personal := range []string{email, strings.ToLower(email), "Ada", "unknown@"} {
			assert.NotContains(t, logged, personal)
		}
		assert.NotContains(t, k.dump(), "unknown@", "nor is it known who was tried")
		for _, table := range []string{"qs_auth_limits", "qs_auth_tokens"} {
			assert.Positive(t, k.count(`SELECT COUNT(*) FROM `+table), table)
		}
	})
}

// dump is all that auth's tables hold, as text.
func (k *kit) dump() string {
	k.t.Helper()
	var all strings.Builder
	for _, table := range []string{"qs_auth_users", "qs_auth_sessions", "qs_auth_tokens", "qs_auth_api_keys", "qs_auth_events", "qs_auth_limits"} {
		all.WriteString("\n" + strings.TrimPrefix(table, "qs_auth_") + "\n" + k.rows(table))
	}
	return all.String()
}

func (k *kit) rows(table string) string {
	k.t.Helper()
	rows, err := k.db.Writer().Query(`SELECT * FROM ` + table)
	require.NoError(k.t, err)
	defer rows.Close()
	var all strings.Builder
	for rows.Next() {
		values, err := sqlx.SliceScan(rows)
		require.NoError(k.t, err)
		for _, v := range values {
			fmt.Fprintf(&all, "%s\t", v) // bytes as they are
		}
	}
	require.NoError(k.t, rows.Err())
	return all.String()
}

func TestSweep_DeletesWhatNothingNeeds(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		kept := k.user("kept@example.com")
		b := k.browser()
		b.logIn(kept.Email, password)
		b.post("/auth/password/forgot", "email", kept.Email)
		b.post("/auth/signup", "email", "slow@example.com", "password", password)
		b.post("/auth/signup", "email", "never@example.com", "password", password)
		_, err := k.CreateUser(t.Context(), auth.CreateUserParams{Email: "staff@example.com", Password: password, Role: auth.RoleAdmin})
		require.NoError(t, err)
		n, err := k.Sweep(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n)
		k.clock.Advance(29 * 24 * time.Hour)
		b.post("/auth/verify/resend", "email", "slow@example.com")
		k.clock.Advance(24 * time.Hour)
		_, err = k.Sweep(t.Context())
		require.NoError(t, err)
		users, _, err := k.Users(t.Context(), auth.UsersParams{})
		require.NoError(t, err)
		var left []string
		for _, u := range users {
			left = append(left, u.Email)
		}
		assert.Equal(t, []string{"staff@example.com", "slow@example.com", "kept@example.com"}, left)
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_sessions`))
		k.clock.Advance(30 * 24 * time.Hour)
		_, err = k.Sweep(t.Context())
		require.NoError(t, err)
		for _, table := range []string{"qs_auth_sessions", "qs_auth_tokens", "qs_auth_limits"} {
			assert.Zero(t, k.count(`SELECT COUNT(*) FROM `+table), table)
		}
		assert.NotEmpty(t, k.events(kept.ID))
	})
}

func TestEmail_IsComparedInOneForm(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"ada@example.com": "ada@example.com", "Ada@Example.COM": "ada@example.com", "ada+tag@example.com": "ada+tag@example.com", "o'neil@example.co.uk": "o'neil@example.co.uk",
		"ada@bücher.example": "ada@xn--bcher-kva.example", "ada@XN--BCHER-KVA.example": "ada@xn--bcher-kva.example", "ada@BÜCHER.example": "ada@xn--bcher-kva.example",
		"jörg@example.com": "jörg@example.com", "JÖRG@example.com": "jörg@example.com", "чай@example.com": "чай@example.com",
	} {
		shown, key, err := auth.EmailKey(in)
		require.NoError(t, err, in)
		assert.Equal(t, want, key)
		assert.Equal(t, in, shown)
		_, trimmed, err := auth.EmailKey(" \t" + in + " ")
		require.NoError(t, err)
		assert.Equal(t, key, trimmed)
	}
	for _, bad := range []string{
		"", "@", "ada", "ada@", "@example.com", "ada@localhost", "ada@example.", "ada@.com", "ada@exa mple.com", "a da@example.com", "ada@@example.com", "ada@b@example.com", ".ada@example.com", "ada.@example.com",
		"a..da@example.com", "ada@example.com\nBcc: eve@example.com", "ada@exam\x00ple.com", "ada\x00@example.com", `"ada"@example.com`, "ada@[127.0.0.1]", "Ada <ada@example.com>", "ada,eve@example.com", "ada;@example.com",
		strings.Repeat("a", 65) + "@example.com", "a@" + strings.Repeat("abcdefg.", 40) + "com", "ada@-example.com", "ada@exa_mple.com", "\xff@example.com",
		"ada@ｅxample.com", "ａda@example.com", // fullwidth
		"mıke@example.com", "mİke@example.com", "\u212Aate@example.com", "ſam@example.com", // dotless and dotted i, Kelvin sign, long s
		"ﬁ@example.com", "a\u200bda@example.com", "a\u202eda@example.com", "😀@example.com",
	} {
		_, _, err := auth.EmailKey(bad)
		assert.Error(t, err, "%q", bad)
	}
}

func FuzzEmail(f *testing.F) {
	for _, s := range []string{"ada@example.com", "ADA@BÜCHER.example", "mıke@example.com", "ａ@b.c", "a@b.c", "ǅ@b.c", "a@ß.de", "ϓ@x.yz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		shown, key, err := auth.EmailKey(s)
		if err != nil {
			return
		}
		require.NoError(t, mail.Message{Kind: "k", To: shown, Subject: "s", Text: "t"}.Validate(), "it can be written to")
		_, again, err := auth.EmailKey(key)
		require.NoError(t, err, "the form in which addresses are compared is an address: %q", key)
		require.Equal(t, key, again, "and compares with itself")
		require.Equal(t, strings.ToLower(key), key)
	})
}

func FuzzTokens(f *testing.F) {
	f.Add(strings.Repeat("A", 43))
	f.Add(strings.Repeat("A", 42) + "\n")
	f.Add(strings.Repeat("A", 42) + "=")
	f.Add(strings.Repeat("A", 42) + "B") // with bits that say nothing: a token has one form only
	f.Fuzz(func(t *testing.T, s string) {
		if auth.IsSecret(s) {
			require.Regexp(t, `^[A-Za-z0-9_-]{43}$`, s)
			raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
			require.NoError(t, err)
			require.Equal(t, s, base64.RawURLEncoding.EncodeToString(raw), "it is written in one way only")
		}
	})
}

func TestMailTemplates_HostReplacesAText(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		k.browser().post("/auth/password/forgot", "email", email)
		assert.Contains(t, k.mails()[0].Text, "Mine at Acme Text: https://app.example/auth/password/reset?token=")
	}, func(c *auth.Config) {
		c.MailTemplates = fstest.MapFS{"auth.reset.txt": {Data: []byte("Subject: Mine\n\nMine at {{site}}: {{.Link}}\n")}}
	})
}

func TestHandler_KeepsToItsPaths(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		b := k.browser()
		b.post("/enter/login", "email", email, "password", password).leadsTo(t, "/home?x=1")
		assert.Equal(t, http.StatusOK, b.get("/me/").StatusCode)
		for _, path := range []string{"/me/", "/me/profile", "/me/security", "/me/api-keys", "/enter/signup"} {
			other := b.copy()
			if path == "/enter/signup" {
				other = k.browser()
			}
			_, main, found := strings.Cut(other.get(path).body, "<main")
			require.True(t, found, path)
			assert.NotContains(t, main, `"/auth`, path)
			assert.NotContains(t, main, `"/account`, path)
		}
		b.post("/enter/password/forgot", "email", email)
		assert.Contains(t, k.mails()[0].Text, base+"/enter/password/reset?token=")
	}, func(c *auth.Config) {
		c.Path, c.AccountPath, c.Home, c.BaseURL = "/enter", "/me", "/home?x=1", base+"/"
	})
}
