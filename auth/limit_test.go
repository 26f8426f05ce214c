package auth_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

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
		for _, same := range []string{"ADA@EXAMPLE.COM", "ada+shop@example.com", "Ada+1+2@example.com"} {
			assert.Equal(t, http.StatusOK, k.browser().post("/auth/password/forgot", "email", same).StatusCode)
		}
		assert.Len(t, k.mails(), 2, "beyond the limit nothing is sent and nobody is told, however the mailbox is written")
		_, token := k.link("auth.reset")
		k.browser().post("/auth/password/reset", "token", token, "password", "brand new words").leadsTo(t, "/auth/login") // the last link that was sent works
		k.clock.Advance(time.Hour)
		k.browser().post("/auth/password/forgot", "email", email)
		assert.Len(t, k.mails(), 4)
	}, func(c *auth.Config) { c.Limits.Mail = auth.Limit{Max: 2, Per: time.Hour} })
}

// What all networks together may try is bounded too, in all processes; who is logged in stays so, and a reset works.
func TestLimits_AllLogInsTogetherAreBounded(t *testing.T) {
	few := func(c *auth.Config) { c.Limits.AllLogIns = auth.Limit{Max: 10, Per: time.Minute} }
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		old := k.browser()
		old.logIn(email, password).leadsTo(t, "/account/")
		processes := []*kit{k, newKit(t, k.db, few)}
		from := func(i int) *browser {
			b := processes[i%2].browser()
			b.addr = fmt.Sprintf("203.0.113.%d:1", i)
			return b
		}
		for i := range 9 {
			assert.Equal(t, http.StatusUnauthorized, from(i).logIn(fmt.Sprintf("u%d@example.com", i), "wrong password").StatusCode)
		}
		for i := range 2 {
			res := from(100+i).logIn(email, password)
			assert.Equal(t, http.StatusTooManyRequests, res.StatusCode)
			assert.Equal(t, "60", res.Header.Get("Retry-After"))
		}
		assert.True(t, old.in(), "sessions go on")
		assert.Equal(t, http.StatusOK, from(1).post("/auth/password/forgot", "email", email).StatusCode)
		_, token := k.link("auth.reset")
		from(1).post("/auth/password/reset", "token", token, "password", "brand new words").leadsTo(t, "/auth/login")
		k.clock.Advance(time.Minute)
		k.browser().logIn(email, "brand new words").leadsTo(t, "/account/")
	}, few)
}

func TestLimits_ExactlyAsManyAsAllowedPassAtOnce(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		second := newKit(t, k.db, func(c *auth.Config) { c.Limits.LogIn = auth.Limit{Max: 10, Per: time.Minute} })
		var passed, limited atomic.Int32
		var group errgroup.Group
		for i := range 40 {
			process := []*kit{k, second}[i%2]
			group.Go(func() error {
				_, err := process.LogIn(t.Context(), auth.LogInParams{Email: email, Password: password, Client: auth.Client{IP: "203.0.113.1"}})
				if retry, ok := errors.AsType[*auth.RetryError](err); ok && retry.Code == "too_many" {
					limited.Add(1)
					return nil
				}
				passed.Add(1)
				return err
			})
		}
		require.NoError(t, group.Wait())
		assert.EqualValues(t, 10, passed.Load())
		assert.EqualValues(t, 30, limited.Load())
	}, func(c *auth.Config) { c.Limits.LogIn = auth.Limit{Max: 10, Per: time.Minute} })
}
