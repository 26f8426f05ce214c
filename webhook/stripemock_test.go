package webhook_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/stripemock"
	"github.com/quickscale/quickscale/webhook"
)

// fixtures are where stripe-mock has the objects that the types of events are about, by the beginning of the type. They
// are in testdata/stripe-mock, by the part before the id.
var fixtures = []struct{ types, path string }{
	{"checkout.session.", "/v1/checkout/sessions/cs_123"},
	{"product.", "/v1/products/prod_123"},
	{"price.", "/v1/prices/price_123"},
	{"payment_intent.", "/v1/payment_intents/pi_123"},
	{"customer.subscription.", "/v1/subscriptions/sub_123"},
	{"invoice.", "/v1/invoices/in_123"},
	{"charge.dispute.", "/v1/disputes/dp_123"},
	{"charge.refund.", "/v1/refunds/re_123"},
	{"charge.refunded", "/v1/charges/ch_123"},
	{"", "/v1/refunds"}, // the list that goes with a charge
}

func fixtureFile(path string) string {
	name := strings.Split(strings.TrimPrefix(strings.TrimPrefix(path, "/v1/"), "checkout/"), "/")
	if len(name) == 1 {
		return filepath.Join("testdata", "stripe-mock", name[0]+"_list.json")
	}
	return filepath.Join("testdata", "stripe-mock", name[0]+".json")
}

func writeFixtures(t *testing.T) {
	t.Helper()
	paths := make([]string, len(fixtures))
	for i, f := range fixtures {
		paths[i] = f.path
	}
	objects, err := stripemock.Fixtures(t.Context(), paths...)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join("testdata", "stripe-mock"), 0o755))
	for i, path := range paths {
		var out bytes.Buffer
		require.NoError(t, json.Indent(&out, objects[i], "", "  "))
		out.WriteByte('\n')
		require.NoError(t, os.WriteFile(fixtureFile(path), out.Bytes(), 0o600))
	}
}

// fixtureStripe answers every read with Stripe's example of such an object, under the id that was asked for.
func fixtureStripe(t *testing.T) *client.API {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, f := range fixtures {
			collection := f.path[:strings.LastIndex(f.path, "/")]
			if r.Method != http.MethodGet || r.URL.Path != f.path && (collection == "/v1" || !strings.HasPrefix(r.URL.Path, collection+"/")) {
				continue
			}
			body, err := os.ReadFile(fixtureFile(f.path))
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body)
			return
		}
		t.Errorf("%s %s is asked of Stripe, and there is no fixture", r.Method, r.URL)
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{URL: stripe.String(server.URL), MaxNetworkRetries: stripe.Int64(0),
		LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull}})
	return client.New("sk_test_123", &stripe.Backends{API: backend, Connect: backend, Uploads: backend})
}

func TestGolden_StripesOwnExamplesOfEveryTypeAreProcessed(t *testing.T) {
	if *update {
		writeFixtures(t)
	}
	dbtest.Run(t, shopSchema, func(t *testing.T, db *database.DB) {
		quiet := slog.New(slog.DiscardHandler)
		in := newInbox(t, db, func(c *webhook.Config) { c.MaxAttempts = 1 })
		ledger, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
		require.NoError(t, err)
		shop, err := billing.New(billing.Config{DB: db.Writer(), ReadDB: db.Reader(), Stripe: fixtureStripe(t), Ledger: ledger, BaseURL: "https://shop.example",
			Logger: quiet, Customer: func(*http.Request) (billing.Customer, bool) { return billing.Customer{}, false }})
		require.NoError(t, err)
		shop.Register(in.Processor)
		in.start(t)
		require.NotEmpty(t, in.Types())
		for i, kind := range in.Types() {
			var object []byte
			for _, f := range fixtures {
				if f.types != "" && strings.HasPrefix(kind, f.types) {
					object, err = os.ReadFile(fixtureFile(f.path))
					require.NoError(t, err, "make it with go test ./webhook -run Golden -update")
					break
				}
			}
			require.NotEmpty(t, object, "stripe-mock's example for %s", kind)
			id := fmt.Sprintf("evt_mock_%d", i)
			body := fmt.Appendf(nil, `{"id":%q,"object":"event","type":%q,"api_version":%q,"created":%d,"livemode":false,"data":{"object":%s}}`,
				id, kind, stripe.APIVersion, time.Now().Unix(), object)
			require.Equal(t, http.StatusOK, in.post(body), kind)
			var e struct {
				ID string `json:"id"`
			}
			require.NoError(t, json.Unmarshal(object, &e))
			var r webhook.Record
			require.Eventually(t, func() bool {
				r, err = in.Find(t.Context(), id)
				return err == nil && r.Status != webhook.StatusReceived
			}, time.Minute, 10*time.Millisecond)
			assert.Equal(t, webhook.StatusDone, r.Status, "%s: %s", kind, r.LastError)
			assert.Equal(t, e.ID, r.ObjectID, kind)
		}
		// Of the catalogue there is something to see: the product and its price are mirrored.
		var name string
		require.NoError(t, db.Get(t.Context(), &name, `SELECT name FROM qs_billing_products`))
		assert.NotEmpty(t, name)
	})
}
