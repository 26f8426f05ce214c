package auth_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

// evilNexts are of the kinds that browsers take for another site; web.LocalPath has more of them.
var evilNexts = []string{"//evil.example", `/\evil.example`, "https:evil.example", "javascript:alert('evil.example')", "/\t/evil.example", "/%2Fevil.example", "http://app.example@evil.example"}

// Wherever the address to go on to is taken, it leads to this site only: neither an answer nor a page has another one.
func TestNext_LeadsToThisSiteOnlyWhereverItIsTaken(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u, second := k.user(email), k.user("grace@example.com")
		p, _ := k.phone(second)
		stays := func(from string, res answer) {
			t.Helper()
			to := res.Header.Get("Location")
			require.Equal(t, http.StatusSeeOther, res.StatusCode, "%s: %s", from, res.body)
			assert.Regexp(t, `^/(account|auth)/[^/\\]*`, to, from)
			assert.NotContains(t, to, "evil", from)
		}
		for _, evil := range evilNexts {
			b := k.browser()
			for _, page := range []string{"/auth/login", "/auth/signup", "/auth/magic", "/auth/password/forgot", "/auth/verify/resend"} {
				assert.NotContains(t, b.get(page+"?next="+urlEscape(evil)).body, "evil.example", page)
				res := b.post(page+"?next="+urlEscape(evil), "email", "no address", "password", "x", "next", evil)
				assert.NotContains(t, res.body, "evil.example", page)
			}
			b.post("/auth/magic", "email", email, "next", evil).leadsTo(t, "/auth/magic/code")
			stays("magic code", b.post("/auth/magic/code", "code", k.code()))
			stays("a page for who is out, when in: "+evil, b.get("/auth/login?next="+urlEscape(evil)))
			assert.NotContains(t, b.get("/auth/confirm?next="+urlEscape(evil)).body, "evil.example")
			stays("confirm", b.post("/auth/confirm", "password", password, "next", evil))
			assert.NotContains(t, b.post("/auth/confirm", "password", "wrong", "next", evil).body, "evil.example")
			stays("confirm", b.post("/auth/confirm", "password", password, "next", evil))
			stays("login", k.browser().post("/auth/login", "email", u.Email, "password", password, "next", evil))

			b = k.browser()
			stays("second step", b.post("/auth/login", "email", second.Email, "password", password, "next", evil))
			assert.NotContains(t, b.get("/auth/2fa?next="+urlEscape(evil)).body, "evil.example")
			assert.NotContains(t, b.post("/auth/2fa", "code", "000000", "next", evil).body, "evil.example")
			k.clock.Advance(time.Minute)
			stays("second step", b.post("/auth/2fa", "code", p.code(), "next", evil))
		}
		// What a guarded page sends to the log-in and back is its own address, whatever that looks like.
		guard := k.RequireUser(http.NotFoundHandler())
		b := k.browser()
		b.h = guard
		for _, path := range []string{"//evil.example", `/x?u=https://evil.example`} {
			to := b.get(path).Header.Get("Location")
			require.True(t, strings.HasPrefix(to, "/auth/login?next="), to)
			fresh := k.browser()
			page := fresh.get(to).body
			if strings.HasPrefix(path, "//") {
				assert.NotContains(t, page, "evil.example")
			}
		}
	}, func(c *auth.Config) { c.MaxFailures = 20 })
}
