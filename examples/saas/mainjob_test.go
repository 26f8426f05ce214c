package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/dbtest"
)

func sqlite(t *testing.T) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "saas.db")
}

// onBoth runs a test against the example on SQLite and on PostgreSQL.
func onBoth(t *testing.T, fn func(t *testing.T, p *process)) {
	t.Helper()
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		fn(t, start(t, sqlite(t)))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		fn(t, start(t, dbtest.PostgresURL(t, dbtest.Empty)))
	})
}

const text = "The quick brown fox jumps over the lazy dog. It barks."

func TestMainJob_SignUpBuySpend(t *testing.T) {
	onBoth(t, func(t *testing.T, p *process) {
		v := visit(t, p)
		v.join("grace@example.com")
		assert.Equal(t, "0", v.balance())

		// Declined: told, and nothing granted.
		page := v.checkout()
		a := v.pay(page, "4000000000000002")
		assert.Equal(t, http.StatusPaymentRequired, a.status)
		assert.Contains(t, a.text(), "declined")
		assert.Equal(t, "0", v.balance())
		// Cancelled: told, and nothing granted.
		a = v.get(v.find(page, `id="cancel" href="([^"]+)"`))
		assert.Equal(t, "/billing/cancel", a.url.Path)
		assert.Contains(t, a.text(), "Nothing was charged")
		assert.Equal(t, "0", v.balance())

		v.buy()
		assert.Equal(t, "100", v.balance())
		v.assertPage("/credits/", http.StatusOK, "Purchase: Starter", "100")
		v.assertPage("/billing/payments", http.StatusOK, "Starter", "10.00 USD", "RCP-")

		v.assertPage("/services/", http.StatusOK, "Text analysis")
		a = v.post("/services/text-analysis", "text", text, "operation", "count_words")
		require.Equal(t, http.StatusOK, a.status, a.text())
		assert.Contains(t, a.text(), "11", "eleven words")
		assert.Contains(t, a.text(), "0.5")
		assert.Contains(t, a.text(), "99.5")
		assert.Equal(t, "99.5", v.balance())

		// The dashboard tells of all of it.
		a = v.assertPage("/account/", http.StatusOK, "Purchase: Starter", "+100", "Service: Text analysis", "-0.5", "Use a service for the first time")
		assert.Contains(t, a.body, "<rect ", "the chart of use")
	})
}

func TestMainJob_TooFewCreditsChargesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, p *process) {
		v := visit(t, p)
		v.join("poor@example.com")
		a := v.post("/services/text-analysis", "text", text, "operation", "summarize")
		assert.Equal(t, http.StatusPaymentRequired, a.status)
		assert.Contains(t, a.text(), "5 credits")
		assert.Contains(t, a.text(), "5 more are needed")
		assert.Contains(t, a.body, `href="/billing/"`)
		assert.Contains(t, a.body, "The quick brown fox", "what was typed is kept")
		assert.Equal(t, "0", v.balance())
		a = v.post("/services/text-analysis", "text", "", "operation", "summarize")
		assert.Equal(t, http.StatusUnprocessableEntity, a.status)
	})
}

func TestMainJob_APIKey(t *testing.T) {
	onBoth(t, func(t *testing.T, p *process) {
		v := visit(t, p)
		v.join("grace@example.com")
		v.buy()
		a := v.post("/account/api-keys", "name", "laptop")
		require.Equal(t, http.StatusCreated, a.status, a.text())
		key := v.find(a, `(qs_[a-z0-9_]+\.[A-Za-z0-9_-]+)`)
		secret := key[strings.Index(key, ".")+1:]
		assert.NotContains(t, v.get("/account/api-keys").body, secret, "shown once")

		status, out := v.call(key, "text-analysis", `{"text":"one two three","operation":"count_words"}`)
		assert.Equal(t, http.StatusOK, status)
		assert.InDelta(t, 3, out.Data.Result["word_count"], 0)
		assert.Equal(t, "0.5", out.Data.CreditsCharged)
		assert.Equal(t, "99.5", out.Data.Balance)

		for _, c := range []struct {
			name, key, service, body string
			status                   int
			code                     string
		}{
			{"wrong secret", key + "x", "text-analysis", `{}`, 401, "unauthenticated"},
			{"no key", "", "text-analysis", `{}`, 401, "unauthenticated"},
			{"unknown service", key, "no-such", `{}`, 404, "not_found"},
			{"unknown operation", key, "text-analysis", `{"text":"a","operation":"sing"}`, 422, "invalid"},
			{"unknown field", key, "text-analysis", `{"text":"a","operation":"analyze","admin":true}`, 422, "invalid"},
			{"no JSON", key, "text-analysis", `text=a`, 400, "malformed"},
		} {
			status, out := v.call(c.key, c.service, c.body)
			assert.Equal(t, c.status, status, c.name)
			assert.False(t, out.Success, c.name)
			assert.Equal(t, c.code, out.Error.Code, c.name)
			assert.NotEmpty(t, out.Error.Message, c.name)
		}
		assert.Equal(t, "99.5", v.balance())

		// Spend the rest: 19 summaries leave 4.5, and the twentieth is refused.
		for range 19 {
			status, _ = v.call(key, "text-analysis", `{"text":"one. two. three.","operation":"summarize"}`)
			require.Equal(t, http.StatusOK, status)
		}
		status, out = v.call(key, "text-analysis", `{"text":"one. two.","operation":"summarize"}`)
		assert.Equal(t, http.StatusPaymentRequired, status)
		assert.Equal(t, "insufficient_credits", out.Error.Code)
		assert.Equal(t, map[string]any{"required": "5", "available": "4.5", "shortfall": "0.5"}, out.Error.Details)
		assert.Equal(t, "4.5", v.balance())
	})
}

func TestMainJob_AdminLooks(t *testing.T) {
	onBoth(t, func(t *testing.T, p *process) {
		v := visit(t, p)
		v.join("grace@example.com")
		v.buy()
		for _, path := range []string{"/admin/", "/admin/users", "/admin/payments", "/admin/webhooks", "/admin/audit", "/admin/nothing"} {
			v.assertPage(path, http.StatusNotFound)
			visit(t, p).assertPage(path, http.StatusNotFound)
		}
		staff := visit(t, p)
		staff.login(adminEmail, seedPassword)
		staff.assertPage("/admin/", http.StatusOK, "Latest payments", "grace@example.com")
		a := staff.get("/admin/users?q=grace")
		require.Equal(t, http.StatusOK, a.status)
		assert.NotContains(t, a.text(), userEmail)
		a = staff.get(staff.find(a, `href="(/admin/users/[^"]+)">grace@example.com`))
		require.Equal(t, http.StatusOK, a.status)
		assert.Contains(t, a.text(), "Purchase: Starter")
		assert.Contains(t, a.text(), "10.00 USD")
		staff.assertPage("/admin/payments", http.StatusOK, "Starter", "10.00 USD")
		staff.assertPage("/admin/webhooks", http.StatusOK, "checkout.session.completed", "done")
		staff.assertPage("/admin/audit", http.StatusOK, "user_view", "q=grace")
	})
}

func TestSmoke_TwoProcessesOnOnePostgres(t *testing.T) {
	t.Parallel()
	database := dbtest.PostgresURL(t, dbtest.Empty)
	var first, second *process
	var group sync.WaitGroup
	group.Go(func() { first = start(t, database) })
	group.Go(func() { second = start(t, database) })
	group.Wait()
	require.False(t, t.Failed())

	v := visit(t, first)
	v.join("grace@example.com")
	w := &visitor{t, second.base, v.client} // cookies know no ports: the same session in the other process
	assert.Equal(t, "0", w.balance())
	v.buy()
	assert.Equal(t, "100", w.balance())
	w.post("/services/text-analysis", "text", text, "operation", "analyze")
	assert.Equal(t, "98", v.balance())
	var page struct{ Payments []any }
	w.json("/billing/payments", &page)
	assert.Len(t, page.Payments, 1, "two endpoints heard of one payment")
	v.get("/account/")
	a := v.post("/auth/logout")
	assert.Equal(t, http.StatusOK, a.status)
	assert.Equal(t, "/auth/login", w.get("/account/").url.Path, "signed out everywhere at once")
}

// A process that dies between the payment and the webhook loses nothing: the next one finishes the work.
func TestSmoke_KilledBetweenPaymentAndCredits(t *testing.T) {
	t.Parallel()
	database := sqlite(t)
	p := start(t, database)
	v := visit(t, p)
	v.join("grace@example.com")
	for range 2 {
		a := v.pay(v.checkout(), "4242424242424242")
		p.kill()
		p = startAt(t, strings.TrimPrefix(p.base, "http://"), database)
		v.thanked(a)
	}
	assert.Equal(t, "200", v.balance())
}

func TestSmoke_BannerTellsWhereThingsAre(t *testing.T) {
	t.Parallel()
	p := start(t, sqlite(t))
	// What the process wrote before it was ready reaches us a moment later on a busy machine.
	for _, said := range []string{p.base, userEmail, adminEmail, seedPassword, "/dev/mail", "/dev/stripe/", "simulated"} {
		require.Eventually(t, func() bool { return strings.Contains(p.printed(), said) }, time.Minute, 10*time.Millisecond, said)
	}
	v := visit(t, p)
	v.assertPage("/", http.StatusOK, "Know your text", "Starter", "10.00 USD", "100 credits, once", "15.00 USD", "200 credits every month")
	v.assertPage("/about", http.StatusOK, "About")
	v.assertPage("/contact", http.StatusOK, "Message")
	v.assertPage("/healthz", http.StatusOK)
	v.assertPage("/nowhere", http.StatusNotFound, "nothing at this address")
	v.login(userEmail, seedPassword)
	p.stop()
}

func TestRun_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	busy := start(t, sqlite(t))
	for _, c := range []struct {
		name, want string
		env        map[string]string
	}{
		{"a port that is taken", "QUICKSCALE_ADDR", map[string]string{"QUICKSCALE_ADDR": strings.TrimPrefix(busy.base, "http://"), "QUICKSCALE_DATABASE_URL": sqlite(t)}},
		{"an unknown database", "sqlite:", map[string]string{"QUICKSCALE_DATABASE_URL": "mysql://x"}},
		{"an address without a port", "host:port", map[string]string{"QUICKSCALE_ADDR": "localhost"}},
		{"development for the world", "known password", map[string]string{"QUICKSCALE_ADDR": "0.0.0.0:0"}},
		{"production without secrets", "STRIPE_SECRET_KEY", map[string]string{"QUICKSCALE_ENV": "production", "QUICKSCALE_BASE_URL": "https://x.example", "QUICKSCALE_DATABASE_URL": sqlite(t)}},
		{"production over http", "must be https", map[string]string{"QUICKSCALE_ENV": "production", "QUICKSCALE_BASE_URL": "http://x.example", "QUICKSCALE_DATABASE_URL": sqlite(t)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := run(t.Context(), func(name string) string { return c.env[name] }, &strings.Builder{})
			require.ErrorContains(t, err, c.want)
		})
	}
}

// Many people at once on one process: nobody's credits go to another.
func TestMainJob_ManyAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, p *process) {
		const people = 6
		var group sync.WaitGroup
		for i := range people {
			group.Go(func() {
				v := visit(t, p)
				v.join(fmt.Sprintf("p%d@example.com", i))
				v.buy()
				for range i {
					v.post("/services/text-analysis", "text", "one", "operation", "count_words")
				}
				assert.Equal(t, fmt.Sprintf("%g", 100-0.5*float64(i)), v.balance())
			})
		}
		done := make(chan struct{})
		go func() { group.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(3 * time.Minute):
			t.Fatal("they did not finish")
		}
	})
}
