package admin_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/webhook"
)

var moneySchema = dbtest.Schema{Name: "admin-money", Migrate: func(ctx context.Context, db *database.DB) error {
	e, err := jobs.New(jobs.Config{DB: db})
	if err != nil {
		return err
	}
	return errors.Join(e.Migrate(ctx), database.Migrate(ctx, db, admin.Migrations(), auth.Migrations(), credits.Migrations(), webhook.Migrations(), billing.Migrations()))
}}

// counter is a back office over billing on the double, without webhooks: what Stripe knows is read when a test says so.
type counter struct {
	*office

	billing *billing.Billing
	double  *stripetest.Test
	buyer   auth.User
	pack    *stripe.Price
	ran     chan string
}

func runMoney(t *testing.T, fn func(t *testing.T, c *counter)) {
	t.Helper()
	t.Parallel()
	dbtest.Run(t, moneySchema, func(t *testing.T, db *database.DB) {
		quiet := slog.New(slog.DiscardHandler)
		c := &counter{double: stripetest.New(t, func(c *stripetest.Config) { c.Logger = quiet }), ran: make(chan string, 10)}
		ledger, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
		require.NoError(t, err)
		c.billing, err = billing.New(billing.Config{DB: db.Writer(), ReadDB: db.Reader(), Stripe: c.double.Stripe, Ledger: ledger, BaseURL: "https://x.example", Logger: quiet,
			Customer: func(*http.Request) (billing.Customer, bool) { return billing.Customer{}, false }})
		require.NoError(t, err)
		engine, err := jobs.New(jobs.Config{DB: db, PollInterval: 20 * time.Millisecond, Logger: quiet})
		require.NoError(t, err)
		for _, task := range []admin.Task{admin.TaskReconcile, admin.TaskCatalogue} {
			require.NoError(t, engine.Every(string(task), time.Hour, func(context.Context) error {
				c.ran <- string(task)
				return nil
			}))
		}
		c.office = newOffice(t, db, func(cfg *admin.Config) {
			cfg.Payments, cfg.Refunds, cfg.Catalogue, cfg.Reconciler, cfg.Subscriptions = c.billing, c.billing, c.billing, c.billing, c.billing
			cfg.Adjuster, cfg.Jobs, cfg.Dashboard = ledger, engine.Client(), "https://dashboard.stripe.com/test"
			cfg.RunTask = func(ctx context.Context, tx *sqlx.Tx, task admin.Task) (bool, error) {
				return engine.RunTx(ctx, tx, string(task))
			}
		})
		product, err := c.double.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("Starter <b>"), Metadata: map[string]string{"credits": "100.5"}})
		require.NoError(t, err)
		c.pack, err = c.double.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(1000)})
		require.NoError(t, err)
		require.NoError(t, c.billing.SyncCatalogue(t.Context()))
		c.buyer = c.user("grace@example.com", "Grace")
		fn(t, c)
	})
}

func (c *counter) buy(card string) billing.Payment {
	c.t.Helper()
	ctx := c.t.Context()
	checkout, err := c.billing.Checkout(ctx, billing.CheckoutParams{Price: c.pack.ID,
		Customer: billing.Customer{Account: c.buyer.ID, Email: c.buyer.Email, Verified: true}})
	require.NoError(c.t, err)
	_, err = c.double.Pay(ctx, checkout.SessionID, stripetest.Card{Number: card})
	require.NoError(c.t, err)
	_, err = c.billing.SyncCheckout(ctx, c.buyer.ID, checkout.SessionID)
	require.NoError(c.t, err)
	payments, _, err := c.billing.Payments(ctx, billing.PaymentsParams{Account: c.buyer.ID, Type: billing.TypePurchase})
	require.NoError(c.t, err)
	return payments[0]
}

func (c *counter) balance() credits.Balance {
	c.t.Helper()
	b, err := c.ledger.Balance(c.t.Context(), c.buyer.ID)
	require.NoError(c.t, err)
	return b
}

// hidden are the values that a preview's form carries on.
func hidden(body string) (fields []string) {
	for _, m := range regexp.MustCompile(`type="hidden" name="([a-z_]+)" value="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		fields = append(fields, m[1], m[2])
	}
	return fields
}

func (c *counter) audited(action admin.Action) []admin.Record {
	c.t.Helper()
	records, _, err := c.Audit(c.t.Context(), admin.AuditParams{Action: action})
	require.NoError(c.t, err)
	return records
}

func TestRefund_IsPreviewedThenMadeOnce(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		p := c.buy(stripetest.CardSucceeds)
		_, err := c.ledger.Debit(t.Context(), credits.DebitParams{Account: c.buyer.ID, Amount: 80 * credits.Credit, Reason: "use"})
		require.NoError(t, err)
		at := "/admin/payments/" + p.ID.String()
		_, body := c.get("/admin/payments")
		assert.Contains(t, body, `href="`+at+`"`)
		status, body := c.get(at)
		assert.Equal(t, http.StatusOK, status)
		for _, said := range []string{"10.00 USD", "100.5", "https://dashboard.stripe.com/test/payments/" + p.IntentID, "Starter &lt;b&gt;"} {
			assert.Contains(t, body, said)
		}
		for field, form := range map[string][]string{
			"amount":                     {"amount", "10.01", "reason", "duplicate", "note", "twice"},
			"f-amount-error":             {"amount", "3.333", "reason", "duplicate", "note", "twice"},
			"f-note-error":               {"amount", "3", "reason", "duplicate", "note", " "},
			"Choose duplicate, fraudule": {"amount", "3", "reason", "mood", "note", "twice"},
		} {
			status, body, _ = c.post(at+"/refund/preview", form...)
			assert.Equal(t, http.StatusUnprocessableEntity, status, field)
			assert.Contains(t, body, field)
			status, _, _ = c.post(at+"/refund", append(form, "left", "1000")...)
			assert.Equal(t, http.StatusUnprocessableEntity, status, field)
		}
		status, _, _ = c.post(at+"/refund", "amount", "3.33", "reason", "duplicate", "note", "twice")
		assert.Equal(t, http.StatusUnprocessableEntity, status, "not without a preview")

		status, body, _ = c.post(at+"/refund/preview", "amount", "3.33", "reason", "duplicate", "note", "paid <twice>")
		require.Equal(t, http.StatusOK, status, body)
		for _, said := range []string{"3.33 USD", "33.4665", "12.9665", "Nothing has happened yet", "rounded up", "paid &lt;twice&gt;"} {
			assert.Contains(t, body, said)
		}
		assert.Equal(t, "20.5", c.balance().Available.String(), "a preview does nothing")
		form := hidden(body)
		for i := range form {
			form[i] = strings.NewReplacer("&lt;", "<", "&gt;", ">").Replace(form[i])
		}
		status, _, header := c.post(at+"/refund", form...)
		require.Equal(t, http.StatusSeeOther, status)
		assert.Equal(t, "12.9665", c.balance().Debt.String())
		status, body, _ = c.post(at+"/refund", form...)
		assert.Equal(t, http.StatusConflict, status, "the form was sent twice")
		assert.Contains(t, body, "since you looked")
		assert.Equal(t, "12.9665", c.balance().Debt.String())
		refunds, _, err := c.billing.Refunds(t.Context(), billing.RefundsParams{})
		require.NoError(t, err)
		require.Len(t, refunds, 1)
		assert.Equal(t, "staff:s1 ada@example.com", refunds[0].Staff)

		status, body = c.get(header.Get("Location"))
		assert.Equal(t, http.StatusOK, status)
		assert.Less(t, strings.Index(body, ">requested<"), strings.LastIndex(body, ">succeeded<"))
		assert.Contains(t, body, "paid &lt;twice&gt;")
		for query, found := range map[string]bool{"": true, "?status=failed": false, "?status=succeeded&reason=duplicate": true, "?reason=fraudulent": false,
			"?staff=staff:s1+ada@example.com": true, "?staff=sue": false, "?account=nobody": false, "?account=" + c.buyer.ID: true} {
			_, body = c.get("/admin/refunds" + query)
			assert.Equal(t, found, strings.Contains(body, "3.33 USD"), query)
		}
		_, body = c.get("/admin/users/" + c.buyer.ID)
		assert.Contains(t, body, "Latest refunds")
		lines := c.audited(admin.ActionRefund)
		require.Len(t, lines, 3, "also those that were refused: too much, and sent twice")
		assert.Equal(t, p.ID.String(), lines[1].Subject)
		assert.Equal(t, "amount=3.33 reason=duplicate note=paid <twice>", lines[1].Detail)
		assert.Len(t, c.audited(admin.ActionRefundPreview), 2)
		assert.Len(t, c.audited(admin.ActionRefundView), 1)

		status, body = c.get("/admin/refunds/stats")
		assert.Equal(t, http.StatusOK, status)
		for _, said := range []string{"33.3 %", "100.0 %", "duplicate", "ada@example.com", "Worth a look", "less than a day after credits were used", "<svg"} {
			assert.Contains(t, body, said)
		}
		assert.Equal(t, 1, strings.Count(body, "<rect"))
		assert.NotContains(t, body, "style=")
		_, body = c.get("/admin/refunds/stats?days=90", "Accept", "application/json")
		assert.Contains(t, body, `"kind":"after_use"`)
	})
}

func TestRefund_ThatFailsLaterIsSeenStepByStep(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		p := c.buy(stripetest.CardRefundPends)
		_, body, _ := c.post("/admin/payments/"+p.ID.String()+"/refund/preview", "reason", "fraudulent", "note", "x")
		status, _, header := c.post("/admin/payments/"+p.ID.String()+"/refund", hidden(body)...)
		require.Equal(t, http.StatusSeeOther, status)
		_, body = c.get(header.Get("Location"))
		assert.Contains(t, body, ">pending<")
		refunds, _, err := c.billing.Refunds(t.Context(), billing.RefundsParams{})
		require.NoError(t, err)
		require.NoError(t, c.double.FailRefund(t.Context(), refunds[0].RefundID, "lost_or_stolen_card"))
		_, err = c.billing.ReconcileAndKeep(t.Context())
		require.NoError(t, err)
		_, body = c.get(header.Get("Location"))
		assert.Contains(t, body, "The money stayed")
		assert.Contains(t, body, "lost_or_stolen_card")
		assert.Equal(t, "100.5", c.balance().Available.String())

		_, body = c.get("/admin/reconcile")
		assert.Contains(t, body, refunds[0].RefundID)
		assert.Contains(t, body, "pending")
		assert.Contains(t, body, "Finished")
	})
}

func TestDispute_ShowsWhatIsFrozenAndUntilWhen(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		p := c.buy(stripetest.CardSucceeds)
		_, err := c.billing.Reconcile(t.Context())
		require.NoError(t, err)
		id, err := c.double.OpenDispute(t.Context(), p.ChargeID, stripetest.DisputeParams{})
		require.NoError(t, err)
		_, err = c.billing.Reconcile(t.Context())
		require.NoError(t, err)
		_, body := c.get("/admin/disputes?status=needs_response")
		assert.Contains(t, body, id)
		address := regexp.MustCompile(`href="(/admin/disputes/[^"?]+)"`).FindStringSubmatch(body)
		require.NotNil(t, address)
		status, body := c.get(address[1])
		assert.Equal(t, http.StatusOK, status)
		for _, said := range []string{"frozen until it decides", "10.00 USD of 10.00 USD", "100.5 of 100.5", "https://dashboard.stripe.com/test/disputes/" + id, p.Receipt} {
			assert.Contains(t, body, said)
		}
		assert.NotContains(t, body, "not awaited", "there is a deadline")
		_, body = c.get("/admin/disputes?status=lost")
		assert.NotContains(t, body, id)
		_, body = c.get("/admin/payments/" + p.ID.String())
		assert.Contains(t, body, "Nothing of this payment can be refunded.")
		assert.Contains(t, body, id)
		assert.Len(t, c.audited(admin.ActionDisputeView), 1)
	})
}

// What each end of a dispute means is said on its page, with the steps that led there.
func TestDispute_SaysHowItEnded(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		_, err := c.billing.Reconcile(t.Context())
		require.NoError(t, err)
		page := func(id string) string {
			t.Helper()
			_, err := c.billing.Reconcile(t.Context())
			require.NoError(t, err)
			_, body := c.get("/admin/disputes")
			address := regexp.MustCompile(`href="(/admin/disputes/[^"?]+)"><code>` + id).FindStringSubmatch(body)
			require.NotNil(t, address, id)
			status, body := c.get(address[1])
			require.Equal(t, http.StatusOK, status)
			return body
		}
		open := func(params stripetest.DisputeParams) string {
			t.Helper()
			id, err := c.double.OpenDispute(t.Context(), c.buy(stripetest.CardSucceeds).ChargeID, params)
			require.NoError(t, err)
			return id
		}
		won := open(stripetest.DisputeParams{})
		assert.Contains(t, page(won), "frozen until it decides")
		require.NoError(t, c.double.CloseDispute(t.Context(), won, true))
		body := page(won)
		assert.Contains(t, body, "Won: the money and the credits are back")
		assert.Contains(t, body, "0.00 USD of 10.00 USD")
		_, trail, _ := strings.Cut(body, "What happened")
		assert.Regexp(t, `(?s)>needs_response<.*>won<`, trail)
		assert.Equal(t, 2, strings.Count(trail, "10.00 USD"))

		lost := open(stripetest.DisputeParams{Amount: 400})
		require.NoError(t, c.double.CloseDispute(t.Context(), lost, false))
		body = page(lost)
		assert.Contains(t, body, "Lost: the money is gone, and its share of the credits with it.")
		assert.Contains(t, body, "4.00 USD of 10.00 USD")
		assert.Contains(t, body, "40.2 of 100.5")
		assert.NotContains(t, body, "Evidence is submitted")

		asked := open(stripetest.DisputeParams{Inquiry: true})
		body = page(asked)
		assert.Contains(t, body, "The bank asks about this payment. No money and no credits have moved.")
		assert.Contains(t, body, "0 of 100.5")
		require.NoError(t, c.double.CloseDispute(t.Context(), asked, true))
		body = page(asked)
		assert.Contains(t, body, "left it at that")
		_, trail, _ = strings.Cut(body, "What happened")
		assert.Regexp(t, `(?s)>warning_needs_response<.*>warning_closed<`, trail)
		assert.Equal(t, "261.3", c.balance().Available.String(), "three packs less what was lost")
	})
}

// What the preview says of the debt is what the refund makes of it.
func TestRefund_ThePreviewTellsWhatWillBeOwed(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		said := regexp.MustCompile(`(?s)Of which owed</p>\s*<p[^>]*>([^<]*)<`)
		refund := func(p billing.Payment, amount, owed string) {
			t.Helper()
			before := c.balance().Debt
			at := "/admin/payments/" + p.ID.String()
			_, body, _ := c.post(at+"/refund/preview", "amount", amount, "reason", "requested_by_customer", "note", "asked")
			stat := said.FindStringSubmatch(body)
			require.NotNil(t, stat, body)
			assert.Equal(t, owed, stat[1])
			status, _, _ := c.post(at+"/refund", hidden(body)...)
			require.Equal(t, http.StatusSeeOther, status)
			assert.Equal(t, owed, (c.balance().Debt - before).String())
		}
		use := func(amount credits.Amount) {
			t.Helper()
			_, err := c.ledger.Debit(t.Context(), credits.DebitParams{Account: c.buyer.ID, Amount: amount, Reason: "use"})
			require.NoError(t, err)
		}
		first := c.buy(stripetest.CardSucceeds)
		second := c.buy(stripetest.CardSucceeds)
		use(150 * credits.Credit)
		refund(first, "4.00", "0") // 40.2 of the 51 that the other pack has left
		refund(first, "6.00", "49.5")
		refund(second, "1.00", "10.05") // all of it: nothing is left to take
	})
}

func TestProducts_AreArrangedAndSynced(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		id := c.pack.Product.ID
		_, err := c.double.Stripe.Prices.New(&stripe.PriceParams{Product: &id, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(9000),
			Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("year")}})
		require.NoError(t, err)
		_, err = c.double.Stripe.Products.Update(id, &stripe.ProductParams{Name: stripe.String("Bigger")})
		require.NoError(t, err)
		status, _, header := c.post("/admin/products/" + id + "/sync")
		assert.Equal(t, http.StatusSeeOther, status)
		assert.Equal(t, "/admin/products", header.Get("Location"))
		_, body := c.get("/admin/products")
		for _, said := range []string{"Bigger", "10.00 USD", "0.100", "every year", "90.00 USD"} {
			assert.Contains(t, body, said)
		}
		status, body, _ = c.post("/admin/products/"+id+"/arrange", "position", "first")
		assert.Equal(t, http.StatusUnprocessableEntity, status)
		assert.Contains(t, body, "whole number")
		status, _, _ = c.post("/admin/products/"+id+"/arrange", "position", "7", "hidden", "true")
		assert.Equal(t, http.StatusSeeOther, status)
		packs, err := c.billing.Packs(t.Context())
		require.NoError(t, err)
		assert.Empty(t, packs, "what is hidden is not sold")
		lines := c.audited(admin.ActionProductArrange)
		require.Len(t, lines, 1)
		assert.Equal(t, "position 0, hidden false", lines[0].Before)
		assert.Equal(t, "position 7, hidden true", lines[0].After)
		status, _, _ = c.post("/admin/products/prod_none/arrange", "position", "7")
		assert.Equal(t, http.StatusNotFound, status)
		status, _, _ = c.post("/admin/products/prod_none/sync")
		assert.Equal(t, http.StatusNotFound, status)
	})
}

func TestTasks_AreQueuedOnceWithTheirLine(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		_, body := c.get("/admin/reconcile")
		assert.Contains(t, body, "No run yet")
		for path, action := range map[string]admin.Action{"/admin/reconcile": admin.ActionReconcile, "/admin/products/sync": admin.ActionProductsSync} {
			status, _, header := c.post(path)
			assert.Equal(t, http.StatusSeeOther, status)
			assert.NotEmpty(t, header.Get("Location"))
			c.post(path)
			assert.Len(t, c.audited(action), 2)
		}
		var queued int
		require.NoError(t, c.db.Writer().GetContext(t.Context(), &queued, "SELECT COUNT(*) FROM river_job WHERE kind = 'quickscale_task'"))
		assert.Equal(t, 2, queued, "one of each, however often they are asked for")
		assert.Empty(t, c.ran, "the request does not run them")
	})
}

func TestAdjust_IsPreviewedThenMadeOnce(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		at := "/admin/users/" + c.buyer.ID + "/credits"
		for _, form := range [][]string{{"amount", "0", "reason", "x"}, {"amount", "many", "reason", "x"}, {"amount", "5", "reason", ""}, {"amount", "-5", "reason", "x"}} {
			status, body, _ := c.post(at+"/preview", form...)
			assert.Equal(t, http.StatusUnprocessableEntity, status, form)
			assert.Contains(t, body, `-error"`, form)
		}
		status, _, _ := c.post(at, "amount", "5", "reason", "x")
		assert.Equal(t, http.StatusUnprocessableEntity, status, "not without a preview")
		status, body, _ := c.post(at+"/preview", "amount", "5.5", "reason", "sorry")
		require.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, "Nothing is changed yet")
		assert.Equal(t, "0", c.balance().Available.String())
		form := hidden(body)
		for range 2 {
			status, _, _ = c.post(at, form...)
			assert.Equal(t, http.StatusSeeOther, status)
		}
		assert.Equal(t, "5.5", c.balance().Available.String())
		status, _, _ = c.post(at, "amount", "-6", "reason", "x", "key", "0198c0de-0000-7000-8000-000000000001")
		assert.Equal(t, http.StatusUnprocessableEntity, status)
		lines := c.audited(admin.ActionAdjust)
		require.NotEmpty(t, lines)
		line := lines[len(lines)-1]
		assert.Equal(t, []string{"amount=5.5", "sorry", "0", "5.5"}, []string{line.Detail, line.Reason, line.Before, line.After})
		assert.Equal(t, c.buyer.ID, lines[0].Subject)
	})
}

func TestMoney_IsNotThereForOthers(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		p := c.buy(stripetest.CardSucceeds)
		c.staff = nil
		payment, user, product := "/admin/payments/"+p.ID.String(), "/admin/users/"+c.buyer.ID, "/admin/products/"+c.pack.Product.ID
		for _, path := range []string{payment, "/admin/refunds", "/admin/refunds/stats", "/admin/disputes", "/admin/reconcile", "/admin/products", "/admin/audit.csv"} {
			status, _ := c.get(path)
			assert.Equal(t, http.StatusNotFound, status, path)
		}
		for _, path := range []string{payment + "/refund/preview", payment + "/refund", user + "/credits/preview", user + "/credits", product + "/arrange", product + "/sync",
			"/admin/products/sync", "/admin/reconcile"} {
			status, _, _ := c.post(path, "amount", "1", "reason", "duplicate", "note", "x", "left", "1000", "key", "0198c0de-0000-7000-8000-000000000001", "hidden", "true")
			assert.Equal(t, http.StatusNotFound, status, path)
		}
		assert.Empty(t, c.audit())
		assert.Equal(t, "100.5", c.balance().Available.String())
		packs, err := c.billing.Packs(t.Context())
		require.NoError(t, err)
		assert.Len(t, packs, 1)
	})
}

func TestMoney_StrangeAddressesAreNoFault(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		for path, want := range map[string]int{
			"/admin/payments/x": 404, "/admin/payments/0198c0de-0000-7000-8000-000000000001": 404, "/admin/refunds/x": 404,
			"/admin/refunds/0198c0de-0000-7000-8000-000000000001": 404, "/admin/disputes/x": 404, "/admin/disputes/0198c0de-0000-7000-8000-000000000001": 404,
			"/admin/refunds?before=x&status=nothing": 200, "/admin/reconcile?run=x": 200, "/admin/refunds/stats?days=-1": 200,
			"/admin/audit?from=yesterday": 422, "/admin/audit.csv?until=x": 422,
		} {
			status, body := c.get(path)
			assert.Equal(t, want, status, "%s: %s", path, body)
		}
	})
}

func TestAudit_IsFilteredAndDownloaded(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		u := o.user("grace@example.com", "Grace")
		o.get("/admin/users/" + u.ID)
		o.get("/admin/payments?q==1%2b1")
		today := time.Now().UTC().Format(time.DateOnly)
		for query, found := range map[string]bool{"subject=" + u.ID: true, "subject=other": false, "staff=s1": true, "staff=s2": false,
			"from=" + today: true, "until=" + today: true, "until=2020-01-01": false, "action=user_view&from=2020-01-01": true} {
			_, body := o.get("/admin/audit.csv?" + query)
			assert.Equal(t, found, strings.Contains(body, u.ID), query)
			var page struct {
				Data struct{ Records []admin.Record }
			}
			_, body = o.get("/admin/audit?"+query, "Accept", "application/json")
			require.NoError(t, json.Unmarshal([]byte(body), &page))
			assert.Equal(t, found, len(page.Data.Records) > 0, query)
		}
		for i := range admin.MaxPage + 1 {
			o.get(fmt.Sprintf("/admin/?n=%d", i))
		}
		_, body := o.get("/admin/audit.csv")
		lines, err := csv.NewReader(strings.NewReader(body)).ReadAll()
		require.NoError(t, err)
		assert.Greater(t, len(lines), admin.MaxPage+3, "more than one page")
		assert.Equal(t, "user_view", lines[len(lines)-1][3])
		assert.Equal(t, "q==1%2b1", lines[len(lines)-2][5])
	})
}

func TestJobs_AreListedCanceledAndRunAgain(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		_, body := c.get("/admin/jobs")
		assert.Contains(t, body, "No jobs")
		c.post("/admin/reconcile")
		_, body = c.get("/admin/jobs")
		assert.Contains(t, body, "quickscale_task")
		found := regexp.MustCompile(`/admin/jobs/(\d+)/retry`).FindStringSubmatch(body)
		require.NotNil(t, found)
		at := "/admin/jobs/" + found[1]
		shown := func(state string) bool {
			_, body := c.get("/admin/jobs?state=" + state)
			return strings.Contains(body, at)
		}
		c.staff = nil
		for _, path := range []string{at + "/cancel", at + "/retry"} {
			status, _, _ := c.post(path)
			assert.Equal(t, http.StatusNotFound, status)
		}
		c.staff = &admin.Staff{ID: "s1", Email: "ada@example.com"}
		assert.True(t, shown("available"))
		status, _, _ := c.post(at + "/cancel")
		assert.Equal(t, http.StatusSeeOther, status)
		assert.True(t, shown("cancelled"))
		assert.False(t, shown("available"))
		status, _, _ = c.post(at + "/retry")
		assert.Equal(t, http.StatusSeeOther, status)
		assert.True(t, shown("available"))
		for _, path := range []string{"/admin/jobs/999999/retry", "/admin/jobs/x/cancel"} {
			status, _, _ = c.post(path)
			assert.Equal(t, http.StatusNotFound, status, path)
		}
		status, _ = c.get("/admin/jobs?before=nonsense")
		assert.Equal(t, http.StatusNotFound, status)
		require.Len(t, c.audited(admin.ActionJobCancel), 1)
		assert.Equal(t, found[1], c.audited(admin.ActionJobRetry)[0].Subject)
	})
}
