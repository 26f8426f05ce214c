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
