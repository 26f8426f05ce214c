package auth_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

// choice is what a person has decided about mails.
func (k *kit) choice(userID string) (c auth.MailChoice) {
	k.t.Helper()
	err := k.db.InTx(k.t.Context(), func(ctx context.Context, tx *sqlx.Tx) (err error) {
		c, err = k.MailChoiceTx(ctx, tx, userID)
		return err
	})
	require.NoError(k.t, err)
	return c
}

// The link of a mail ends such mails without a log-in, by a button and by one click, and nothing else of the account.
func TestUnsubscribe_EndsMailsByTheirLink(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u, other := k.user(email), k.user("other@example.com")
		require.NoError(t, k.SetProfile(t.Context(), u.ID, auth.Profile{Name: "Ada", Company: "Acme", Notify: true}))
		c := k.choice(u.ID)
		assert.True(t, c.Wanted)
		assert.True(t, c.OneClick)
		link, err := url.Parse(c.Stop)
		require.NoError(t, err)
		path := link.RequestURI()
		b := k.browser()
		for range 2 {
			page := b.get(path)
			assert.Equal(t, http.StatusOK, page.StatusCode)
			assert.Equal(t, "no-referrer", page.Header.Get("Referrer-Policy"))
			assert.NotContains(t, page.body, email, "who holds the link need not know the address")
			assert.True(t, k.choice(u.ID).Wanted, "opening the link changes nothing")
		}
		token := link.Query().Get("token")
		assert.Contains(t, b.post("/auth/unsubscribe", "token", token).body, "Send them again")
		assert.False(t, k.choice(u.ID).Wanted)
		b.post("/auth/unsubscribe", "token", token, "email_notifications", "on")
		assert.True(t, k.choice(u.ID).Wanted)

		// RFC 8058: no cookies, no origin, a body that says nothing more, and no redirect.
		for _, body := range []string{"List-Unsubscribe=One-Click", ""} {
			require.NoError(t, k.SetNotify(t.Context(), u.ID, true))
			res := k.browser().do(http.MethodPost, path, "application/x-www-form-urlencoded", body)
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.False(t, k.choice(u.ID).Wanted)
		}
		res := k.browser().do(http.MethodPost, path, "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--x--\r\n")
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Contains(t, k.browser().json().do(http.MethodPost, path, "", "").body, `"email_notifications":false`)

		p, err := k.Profile(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Equal(t, auth.Profile{Name: "Ada", Company: "Acme"}, p, "the rest of the profile stays")
		assert.True(t, k.choice(other.ID).Wanted)
		signedIn := k.browser()
		signedIn.logIn(email, password)
		assert.Contains(t, signedIn.json().get("/account/profile").body, `"email_notifications":false`)
		for _, bad := range []string{"", "x", token[:len(token)-2], strings.ToUpper(token), url.QueryEscape(other.ID)} {
			assert.Equal(t, "link_invalid", code(t, k.browser().json().do(http.MethodPost, "/auth/unsubscribe?token="+bad, "", "")), bad)
			assert.NotEqual(t, http.StatusOK, k.browser().get("/auth/unsubscribe?token="+bad).StatusCode)
		}
		require.ErrorIs(t, k.SetNotify(t.Context(), "nobody", false), auth.ErrNotFound)
	})
}

// Without a secret there is no link that works without a log-in, and mails about security come whatever was decided.
func TestUnsubscribe_NeverKeepsMailsAboutSecurity(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		c := k.choice(u.ID)
		assert.False(t, c.OneClick)
		assert.Equal(t, base+"/account/profile", c.Stop)
		assert.Equal(t, http.StatusConflict, k.browser().get("/auth/unsubscribe?token=x").StatusCode)
		require.NoError(t, k.SetNotify(t.Context(), u.ID, false))
		tm := newTeam(t, k)
		for _, p := range tm.people {
			require.NoError(t, k.SetNotify(t.Context(), p.ID, false))
		}
		k.browser().post("/auth/password/forgot", "email", email)
		first, second := k.browser(), k.browser()
		first.logIn(email, password)
		second.logIn(email, password)
		_, err := k.AskForOrganisationDeletion(t.Context(), tm.people[auth.OrgOwner].ID, tm.org.ID, auth.Client{})
		require.NoError(t, err)
		kinds := map[string]int{}
		for _, m := range k.mails() {
			kinds[m.Kind]++
		}
		for kind, n := range map[string]int{"auth.reset": 1, "auth.device": 1, "auth.orgdeletion": 4, "auth.invitation": 3} {
			assert.Equal(t, n, kinds[kind], kind)
		}
	}, func(c *auth.Config) { c.Secret = nil })
}
