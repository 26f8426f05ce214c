package quickscale_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	stripewebhook "github.com/stripe/stripe-go/v76/webhook"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/webhook"
	"github.com/quickscale/quickscale/webhook/outbound"
)

// mailbox keeps what the application received as webhooks or queued as mail, by name.
type mailbox struct {
	mu  sync.Mutex
	got map[string][]string
}

func (m *mailbox) add(name, body string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.got == nil {
		m.got = map[string][]string{}
	}
	m.got[name] = append(m.got[name], body)
}

func (m *mailbox) of(name string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.got[name]
}

func TestOutbound_ProgramsAreToldOfPurchasesPlansRefundsAndCredits(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		double := stripetest.New(t, func(c *stripetest.Config) { c.Logger = slog.New(slog.DiscardHandler) })
		app := newApp(t, db, func(c *quickscale.Config) {
			c.JobPoll, c.LowCredits, c.OutboundLoopback, c.Stripe = 10*time.Millisecond, 5*credits.Credit, true, double.Stripe
			c.AdminEmail = "boss@example.com"
		})
		require.NoError(t, app.Migrate(t.Context()))
		require.NoError(t, app.Start(t.Context()))
		t.Cleanup(func() { assert.NoError(t, app.Stop(context.Background())) })
		u, err := app.Auth.CreateUser(t.Context(), auth.CreateUserParams{Email: "ada@example.com", Password: "correct horse battery", Verified: true, Role: auth.RoleUser})
		require.NoError(t, err)

		var box mailbox
		var verifier *standardwebhooks.Webhook
		var gone atomic.Bool
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err == nil {
				err = verifier.Verify(body, r.Header)
			}
			var m struct {
				Type string `json:"type"`
			}
			if err == nil {
				err = json.Unmarshal(body, &m)
			}
			if err != nil {
				t.Error(err)
			}
			box.add(m.Type, string(body))
			if gone.Load() && m.Type == outbound.TypeTest {
				w.WriteHeader(http.StatusGone)
			}
		}))
		t.Cleanup(server.Close)
		e, secret, err := app.Outbound.CreateEndpoint(t.Context(), outbound.EndpointParams{Account: u.ID, URL: server.URL})
		require.NoError(t, err)
		verifier, err = standardwebhooks.NewWebhook(secret)
		require.NoError(t, err)
		told := func(kind string, n int) []string {
			t.Helper()
			require.Eventually(t, func() bool { return len(box.of(kind)) >= n }, time.Minute, 10*time.Millisecond, "%s is told of", kind)
			return box.of(kind)
		}

		// A pack is bought; the page after it and the webhook both take it over.
		sell := func(name string, recurring *stripe.PriceRecurringParams) string {
			product, err := double.Stripe.Products.New(&stripe.ProductParams{Name: &name, Metadata: map[string]string{"credits": "10"}})
			require.NoError(t, err)
			price, err := double.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(1000), Recurring: recurring})
			require.NoError(t, err)
			require.NoError(t, app.Billing.SyncCatalogue(t.Context()))
			return price.ID
		}
		buy := func(price string) string {
			c, err := app.Billing.Checkout(t.Context(), billing.CheckoutParams{Price: price, Customer: billing.Customer{Account: u.ID, Email: u.Email, Verified: true}})
			require.NoError(t, err)
			_, err = double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds, Name: "Ada"})
			require.NoError(t, err)
			for range 2 {
				_, err = app.Billing.SyncCheckout(t.Context(), u.ID, c.SessionID)
				require.NoError(t, err)
			}
			return c.SessionID
		}
		buy(sell("Starter", nil))
		assert.Contains(t, told(outbound.TypePurchaseCompleted, 1)[0], `"type":"credit_purchase","amount":1000,"currency":"usd","credits":"10"`)
		buy(sell("Plan", &stripe.PriceRecurringParams{Interval: stripe.String("month")}))
		told(outbound.TypeSubscriptionCreated, 1)
		told(outbound.TypePurchaseCompleted, 2)
		_, err = app.Billing.CancelSubscription(t.Context(), u.ID, false)
		require.NoError(t, err)
		assert.Contains(t, told(outbound.TypeSubscriptionCanceled, 1)[0], `"cancel_at_period_end":true`)
		_, err = app.Billing.ResumeSubscription(t.Context(), u.ID)
		require.NoError(t, err)
		told(outbound.TypeSubscriptionResumed, 1)
		_, err = app.Billing.CancelSubscription(t.Context(), u.ID, true)
		require.NoError(t, err)
		assert.Contains(t, told(outbound.TypeSubscriptionEnded, 1)[0], `"status":"canceled"`)

		_, err = app.Credits.Debit(t.Context(), credits.DebitParams{Account: u.ID, Amount: 16 * credits.Credit, Reason: "Use"})
		require.NoError(t, err)
		assert.Contains(t, told(outbound.TypeCreditsLow, 1)[0], `"available":"4","threshold":"5"`)
		soon := time.Now().Add(time.Hour)
		_, err = app.Credits.Grant(t.Context(), credits.GrantParams{Account: u.ID, Amount: credits.Credit / 2, Source: credits.Bonus, Reason: "Gift", ExpiresAt: &soon})
		require.NoError(t, err)
		_, err = app.Credits.WarnExpiring(t.Context())
		require.NoError(t, err)
		assert.Contains(t, told(outbound.TypeCreditsExpiring, 1)[0], `"amount":"0.5"`)

		payments, _, err := app.Billing.Payments(t.Context(), billing.PaymentsParams{Account: u.ID, Type: billing.TypePurchase})
		require.NoError(t, err)
		_, err = app.Billing.Refund(t.Context(), billing.RefundParams{Payment: payments[0].ID, Amount: 250, Reason: billing.ReasonRequested, Note: "asked", Staff: "boss"})
		require.NoError(t, err)
		assert.Contains(t, told(outbound.TypePaymentRefunded, 1)[0], fmt.Sprintf(`"payment":%q`, payments[0].ID))

		for kind, n := range map[string]int{outbound.TypePurchaseCompleted: 2, outbound.TypeSubscriptionCreated: 1, outbound.TypeSubscriptionCanceled: 1,
			outbound.TypeSubscriptionResumed: 1, outbound.TypeSubscriptionEnded: 1, outbound.TypePaymentRefunded: 1, outbound.TypeCreditsLow: 1} {
			assert.Len(t, box.of(kind), n, "%s is told once per cause", kind)
		}

		// An endpoint that is gone is disabled, and its owner gets a mail.
		gone.Store(true)
		_, err = app.Outbound.SendTest(t.Context(), u.ID, e.ID)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			_, body, _ := get(t, app.Handler(), "/dev/mail", "Accept", "application/json")
			return strings.Contains(body, "is disabled") && strings.Contains(body, "/account/webhooks/"+e.ID.String())
		}, time.Minute, 20*time.Millisecond)
	})
}

func TestOutbound_CanBeTurnedOffAndIsGuarded(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, dbtest.Empty)
	app := newApp(t, db, func(c *quickscale.Config) { c.WithoutOutbound = true })
	require.NoError(t, app.Migrate(t.Context()))
	assert.Nil(t, app.Outbound)
	status, _, _ := get(t, app.Handler(), "/account/webhooks/", "Accept", "application/json")
	assert.Equal(t, http.StatusNotFound, status)

	app = newApp(t, db)
	status, _, _ = get(t, app.Handler(), "/account/webhooks/", "Accept", "application/json")
	assert.Equal(t, http.StatusUnauthorized, status)
	_, _, err := app.Outbound.CreateEndpoint(t.Context(), outbound.EndpointParams{Account: "ada", URL: "https://127.0.0.1/x"})
	require.Error(t, err, "this machine is no place for an endpoint unless it is said")
	_, err = quickscale.New(quickscale.Config{DB: db.Writer(), BaseURL: "https://app.example.com", OutboundLoopback: true})
	require.ErrorContains(t, err, "Config.OutboundLoopback")

	e, err := quickscale.FromEnvironment(environment(map[string]string{"QUICKSCALE_OUTBOUND_LOOPBACK": "1"}))
	require.NoError(t, err)
	assert.True(t, e.Config.OutboundLoopback)
	e, err = quickscale.FromEnvironment(environment(map[string]string{"QUICKSCALE_ENV": "production", "QUICKSCALE_OUTBOUND_LOOPBACK": "1"}))
	require.NoError(t, err)
	e.Config.DB = db.Writer()
	_, err = quickscale.New(e.Config)
	require.ErrorContains(t, err, "QUICKSCALE_OUTBOUND_LOOPBACK")
	e, err = quickscale.FromEnvironment(environment(nil))
	require.NoError(t, err)
	assert.False(t, e.Config.OutboundLoopback)
	_, err = quickscale.FromEnvironment(environment(map[string]string{"QUICKSCALE_OUTBOUND_LOOPBACK": "perhaps"}))
	require.ErrorContains(t, err, "QUICKSCALE_OUTBOUND_LOOPBACK")
}

func TestOutbound_IsInTheAccountsMenuAndTakesTheHostsTypes(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		app := newApp(t, db, func(c *quickscale.Config) { c.OutboundTypes = []string{"report.ready"} })
		require.NoError(t, app.Migrate(t.Context()))
		u, err := app.Auth.CreateUser(t.Context(), auth.CreateUserParams{Email: "ada@example.com", Password: "correct horse battery", Verified: true, Role: auth.RoleUser})
		require.NoError(t, err)
		r := httptest.NewRequest(http.MethodPost, "/auth/login", strings.NewReader("email=ada%40example.com&password=correct+horse+battery"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		app.Handler().ServeHTTP(w, r)
		require.Equal(t, http.StatusSeeOther, w.Code, w.Body.String())
		var cookies []string
		for _, c := range w.Result().Cookies() {
			cookies = append(cookies, c.Name+"="+c.Value)
		}
		signedIn := strings.Join(cookies, "; ")
		for _, path := range []string{"/account/", "/account/profile", "/account/security", "/account/api-keys"} {
			status, body, _ := get(t, app.Handler(), path, "Cookie", signedIn)
			require.Equal(t, http.StatusOK, status, path)
			assert.Contains(t, body, `<a href="/account/webhooks/">Webhooks</a>`, path)
		}
		status, body, _ := get(t, app.Handler(), "/account/webhooks/", "Cookie", signedIn)
		assert.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, `value="report.ready"`)
		_, err = app.Outbound.Send(t.Context(), outbound.Message{Account: u.ID, Type: "report.ready", Key: "report/1", Data: map[string]int{"report": 1}})
		require.NoError(t, err)
	})
}

func TestWebhooks_EventThatIsGivenUpIsMailedToTheAdministrator(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, dbtest.Empty)
	app := newApp(t, db, func(c *quickscale.Config) { c.JobPoll, c.AdminEmail = 10*time.Millisecond, "boss@example.com" })
	require.NoError(t, app.Migrate(t.Context()))
	webhook.On(app.Webhooks, "test.broken", func(context.Context, *sqlx.Tx, webhook.Event[thing]) error {
		return webhook.Permanent(errors.New("makes no sense"))
	})
	require.NoError(t, app.Start(t.Context()))
	t.Cleanup(func() { assert.NoError(t, app.Stop(context.Background())) })
	body := fmt.Appendf(nil, `{"id":"evt_broken","object":"event","type":"test.broken","api_version":%q,"created":%d,"data":{"object":{"id":"obj_1"}}}`,
		stripe.APIVersion, time.Now().Unix())
	at := time.Now()
	r := httptest.NewRequest(http.MethodPost, "/webhooks/stripe", bytes.NewReader(body))
	r.Header.Set("Stripe-Signature", fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(stripewebhook.ComputeSignature(at, body, stripetest.DefaultWebhookSecret))))
	w := httptest.NewRecorder()
	app.Handler().ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
	require.Eventually(t, func() bool {
		_, body, _ := get(t, app.Handler(), "/dev/mail", "Accept", "application/json")
		return strings.Contains(body, "boss@example.com") && strings.Contains(body, "was given up") && strings.Contains(body, "/admin/webhooks/evt_broken")
	}, time.Minute, 20*time.Millisecond)
}
