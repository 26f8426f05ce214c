package admin_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/webhook"
)

type echoed struct {
	Text string `json:"text"`
}

// runServices has a back office with two services: one that records its cost, and one that may fail.
func runServices(t *testing.T, fn func(t *testing.T, o *office, s *services.Services, now *time.Time)) {
	t.Helper()
	t.Parallel()
	withServices := dbtest.Of(admin.Migrations(), auth.Migrations(), credits.Migrations(), webhook.Migrations(), services.Migrations())
	dbtest.Run(t, withServices, func(t *testing.T, db *database.DB) {
		now := time.Now().UTC()
		clock := func() time.Time { return now }
		o := newOffice(t, db)
		s, err := services.New(services.Config{DB: db.Writer(), ReadDB: db.Reader(), Ledger: o.ledger, Clock: clock, Logger: slog.New(slog.DiscardHandler),
			API:  func(*http.Request) (services.Caller, error) { return services.Caller{}, services.ErrUnauthenticated },
			User: func(*http.Request) (services.Caller, bool) { return services.Caller{}, false }})
		require.NoError(t, err)
		require.NoError(t, services.Register(s, services.Func(services.Info{Name: "echo", Title: "Echo"}, services.Fixed(2*credits.Credit),
			func(_ context.Context, call *services.Call, in echoed) (echoed, error) {
				if err := call.Meter(admin.CostUnit, 500_000); err != nil {
					return in, err
				}
				return in, nil
			})))
		require.NoError(t, services.Register(s, services.Func(services.Info{Name: "moody", Title: "Moody"}, services.Fixed(credits.Credit),
			func(_ context.Context, _ *services.Call, in echoed) (echoed, error) {
				if in.Text == "no" {
					return in, errors.New("no")
				}
				return in, nil
			})))
		o.reset(func(c *admin.Config) { c.Services, c.Clock = s, clock })
		_, err = o.ledger.Grant(t.Context(), credits.GrantParams{Account: "a", Amount: 100 * credits.Credit, Source: credits.Purchase, Reason: "Pack"})
		require.NoError(t, err)
		fn(t, o, s, &now)
	})
}

// row is the line of a table by its id.
func row(body, id string) string {
	return regexp.MustCompile(`(?s)<tr id="` + id + `">.*?</tr>`).FindString(body)
}

func TestServices_ShowWhatTheyEarn(t *testing.T) {
	runServices(t, func(t *testing.T, o *office, s *services.Services, _ *time.Time) {
		for _, c := range []struct{ name, text string }{{"echo", "x"}, {"echo", "y"}, {"moody", "x"}, {"moody", "no"}} {
			_, err := s.Run(t.Context(), services.RunParams{Service: c.name, Account: "a", Input: []byte(`{"text":"` + c.text + `"}`)})
			assert.Equal(t, c.text == "no", err != nil, "%v", err)
		}
		status, body := o.get("/admin/services")
		require.Equal(t, http.StatusOK, status)
		echo, moody := row(body, "service-echo"), row(body, "service-moody")
		for _, said := range []string{">2<", ">4<", ">1<", ">3<"} { // calls, credits, cost, profit
			assert.Contains(t, echo, said)
		}
		assert.Contains(t, moody, "50.0 %")
		_, body = o.get("/admin/services/echo")
		for _, said := range []string{"Profit", "after a cost of 1", "95 of 100 within", "Calls by day", "Override the price"} {
			assert.Contains(t, body, said)
		}
		status, _ = o.get("/admin/services/nothing")
		assert.Equal(t, http.StatusNotFound, status)
	})
}

func TestServices_AreSwitchedOneOrInBulk(t *testing.T) {
	runServices(t, func(t *testing.T, o *office, s *services.Services, _ *time.Time) {
		run := func(name string) error {
			_, err := s.Run(t.Context(), services.RunParams{Service: name, Account: "a", Input: []byte(`{"text":"x"}`)})
			return err
		}
		// By HTMX: the answer is the page, of which the browser takes the line.
		r := httptest.NewRequest(http.MethodPost, "/admin/services/switch", strings.NewReader(url.Values{"service": {"echo"}, "on": {"false"}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("HX-Request", "true")
		w := httptest.NewRecorder()
		o.handler.ServeHTTP(w, r)
		assert.Equal(t, http.StatusOK, w.Code)
		assert.Contains(t, row(w.Body.String(), "service-echo"), `aria-checked="false"`)
		require.Eventually(t, func() bool { return run("echo") != nil }, 10*time.Second, 50*time.Millisecond)
		require.NoError(t, run("moody"))

		// Without JavaScript: back to the page.
		status, _, header := o.post("/admin/services/switch", "service", "echo", "on", "true")
		assert.Equal(t, http.StatusSeeOther, status)
		assert.Equal(t, "/admin/services", header.Get("Location"))
		_, _, _ = o.post("/admin/services/switch", "service", "echo", "service", "moody", "on", "false")
		_, body := o.get("/admin/services")
		for _, id := range []string{"service-echo", "service-moody"} {
			assert.Contains(t, row(body, id), `aria-checked="false"`)
		}
		records, _, err := o.Audit(t.Context(), admin.AuditParams{Action: admin.ActionServiceSwitch})
		require.NoError(t, err)
		require.Len(t, records, 4)
		assert.Equal(t, []string{"moody", "on", "off"}, []string{records[0].Subject, records[0].Before, records[0].After})
		status, _, _ = o.post("/admin/services/switch", "service", "echo", "service", "nothing", "on", "true")
		assert.Equal(t, http.StatusNotFound, status)
		_, body = o.get("/admin/services")
		assert.Contains(t, row(body, "service-echo"), `aria-checked="false"`, "all or none")
		status, _, _ = o.post("/admin/services/switch", "on", "true")
		assert.Equal(t, http.StatusUnprocessableEntity, status)
	})
}

func TestServices_APriceHoldsFromItsMoment(t *testing.T) {
	runServices(t, func(t *testing.T, o *office, s *services.Services, now *time.Time) {
		rate := func() credits.Amount {
			set, err := s.Settings(t.Context())
			require.NoError(t, err)
			if r, ok := set["echo"].Rates["call"]; ok {
				return r.Amount
			}
			return 2 * credits.Credit
		}
		const at = "/admin/services/echo/price"
		for want, form := range map[string][]string{
			"number of credits": {"rate", "call", "amount", "many", "reason", "x"},
			"Say why":           {"rate", "call", "amount", "1"},
			"a day and a time":  {"rate", "call", "amount", "1", "reason", "x", "from", "soon"},
			"that the price":    {"rate", "words", "amount", "1", "reason", "x"},
		} {
			status, body, _ := o.post(at, form...)
			assert.Equal(t, http.StatusUnprocessableEntity, status)
			assert.Contains(t, body, want)
		}
		status, body, _ := o.post(at, "rate", "call", "amount", "1.5", "reason", "sale")
		require.Equal(t, http.StatusSeeOther, status, body)
		assert.Equal(t, credits.MustAmount("1.5"), rate())
		later := now.Add(2 * time.Hour)
		_, _, _ = o.post(at, "rate", "call", "amount", "3", "reason", "new list", "from", later.Format("2006-01-02T15:04:05"))
		_, _, _ = o.post(at, "rate", "call", "amount", "9", "reason", "mistake", "from", later.Format("2006-01-02T15:04:05"))
		n, err := o.ApplyPrices(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n, "not yet")
		_, body = o.get("/admin/services/echo")
		mistake := regexp.MustCompile(`(/admin/services/echo/price/[^"]+/cancel)`).FindString(body)
		status, _, _ = o.post(mistake)
		assert.Equal(t, http.StatusSeeOther, status)
		status, _, _ = o.post(mistake)
		assert.Equal(t, http.StatusConflict, status)

		*now = later.Add(time.Second)
		n, err = o.ApplyPrices(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		assert.Equal(t, 3*credits.Credit, rate())
		records, _, err := o.Audit(t.Context(), admin.AuditParams{Action: admin.ActionServicePriceDue})
		require.NoError(t, err)
		require.Len(t, records, 1)
		assert.Equal(t, []string{"echo", "call 3", "new list"}, []string{records[0].Subject, records[0].After, records[0].Reason})
		_, _, _ = o.post(at, "reset", "true", "reason", "over")
		assert.Equal(t, 2*credits.Credit, rate())
	})
}
