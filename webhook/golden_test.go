package webhook_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/webhook"
)

var update = flag.Bool("update", false, "write the golden payloads anew")

// golden are the payloads of every type that billing handles, as the double delivers them.
func golden(t *testing.T, kind string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", kind+".json"))
	require.NoError(t, err, "make it with go test ./webhook -run Golden -update")
	return body
}

func TestGolden_EveryTypeThatIsHandledIsTakenAndRead(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	dbtest.Run(t, shopSchema, func(t *testing.T, db *database.DB) {
		s := newShop(t, db)
		s.in.start(t)
		types := s.in.Types()
		require.NotEmpty(t, types)
		for _, kind := range types {
			body := golden(t, kind)
			require.Equal(t, 200, s.in.post(body), kind)
			var e struct {
				ID   string `json:"id"`
				Data struct {
					Object struct {
						ID string `json:"id"`
					} `json:"object"`
				} `json:"data"`
			}
			require.NoError(t, json.Unmarshal(body, &e))
			r, err := s.in.Find(t.Context(), e.ID)
			require.NoError(t, err)
			assert.Equal(t, kind, r.Type)
			assert.Equal(t, e.Data.Object.ID, r.ObjectID)
			assert.Equal(t, stripe.APIVersion, r.APIVersion)
			// Nothing of a person is shown unasked, and the rest still is JSON.
			shown, err := s.in.Payload(t.Context(), webhook.PayloadParams{ID: e.ID})
			require.NoError(t, err)
			assert.True(t, json.Valid(shown))
			assert.NotContains(t, string(shown), "ada@example.com", kind)
			assert.NotContains(t, string(shown), "Lovelace", kind)
			assert.Contains(t, string(shown), e.Data.Object.ID)
		}
		// These need no read from Stripe and so are done; the objects of the others are unknown to this double.
		for _, kind := range []string{"price.deleted", "product.deleted"} {
			var e envelopeID
			require.NoError(t, json.Unmarshal(golden(t, kind), &e))
			s.in.waitFor(t, e.ID, webhook.StatusDone)
		}
	})
}

type envelopeID struct {
	ID string `json:"id"`
}

// gallery keeps the first event of each type. It looks again and again, since events older than 30 days are not listed.
type gallery struct {
	*shop

	made map[string][]byte
}

func (g *gallery) collect(t *testing.T) {
	t.Helper()
	for _, ev := range g.events(t, func(ev *stripe.Event) bool { return g.made[string(ev.Type)] == nil }) {
		if g.made[string(ev.Type)] == nil {
			whole, err := g.double.Stripe.Events.Get(ev.ID, nil)
			require.NoError(t, err)
			g.made[string(ev.Type)] = whole.LastResponse.RawJSON
		}
	}
}

// writeGolden has the double make an event of each type that billing handles.
func writeGolden(t *testing.T) {
	t.Helper()
	g := &gallery{shop: newShop(t, dbtest.SQLite(t, shopSchema)), made: map[string][]byte{}}
	for _, act := range []func(*testing.T){g.changeCatalogue, g.sellPacks, g.giveBack, g.renew, g.changePlans, g.pause} {
		act(t)
	}
	g.made["price.deleted"] = priceDeleted(t, g.made["price.updated"])
	require.NoError(t, os.MkdirAll("testdata", 0o755))
	for _, kind := range g.in.Types() {
		require.Contains(t, g.made, kind)
		var out bytes.Buffer
		require.NoError(t, json.Indent(&out, g.made[kind], "", "  "))
		out.WriteByte('\n')
		require.NoError(t, os.WriteFile(filepath.Join("testdata", kind+".json"), out.Bytes(), 0o600))
	}
}

// priceDeleted makes the event of a deletion from that of an update. The API has no call that deletes a price, only the
// Dashboard can, so the double never does; Stripe's event has the price as it was.
func priceDeleted(t *testing.T, updated []byte) []byte {
	t.Helper()
	var ev map[string]any
	decoder := json.NewDecoder(bytes.NewReader(updated))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&ev))
	data, ok := ev["data"].(map[string]any)
	require.True(t, ok)
	delete(data, "previous_attributes")
	ev["type"], ev["id"] = "price.deleted", ev["id"].(string)+"deleted" //nolint:forcetypeassert // the double's own event
	deleted, err := json.Marshal(ev)
	require.NoError(t, err)
	return deleted
}

func (g *gallery) changeCatalogue(t *testing.T) {
	products, prices := g.double.Stripe.Products, g.double.Stripe.Prices
	price, err := prices.Get(g.pack, nil)
	require.NoError(t, err)
	_, err = products.Update(price.Product.ID, &stripe.ProductParams{Name: stripe.String("Starter pack")})
	require.NoError(t, err)
	_, err = prices.Update(g.pack, &stripe.PriceParams{Nickname: stripe.String("ten dollars")})
	require.NoError(t, err)
	mistake, err := products.New(&stripe.ProductParams{Name: stripe.String("Mistake")})
	require.NoError(t, err)
	_, err = products.Del(mistake.ID, nil)
	require.NoError(t, err)
	g.collect(t)
}

// buyPack opens a checkout of the pack and pays it with a card, and returns the session.
func (g *gallery) buyPack(t *testing.T, card string) string {
	t.Helper()
	c, err := g.Checkout(t.Context(), billing.CheckoutParams{Customer: buyer("ada"), Price: g.pack})
	require.NoError(t, err)
	if card != "" {
		_, err = g.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: card, Name: "Ada Lovelace"})
		require.NoError(t, err)
	}
	return c.SessionID
}

func (g *gallery) sellPacks(t *testing.T) {
	g.buyPack(t, stripetest.CardSucceeds)
	for _, paid := range []bool{true, false} {
		require.NoError(t, g.double.SettleDelayed(t.Context(), g.buyPack(t, stripetest.Delayed), paid))
	}
	_, err := g.double.Stripe.CheckoutSessions.Expire(g.buyPack(t, ""), nil)
	require.NoError(t, err)
	g.collect(t)
}

// giveBack makes a refund that fails later, and a dispute that is won with evidence.
func (g *gallery) giveBack(t *testing.T) {
	refunded, err := g.double.Stripe.CheckoutSessions.Get(g.buyPack(t, stripetest.CardRefundPends), nil)
	require.NoError(t, err)
	refund, err := g.double.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: &refunded.PaymentIntent.ID, Amount: stripe.Int64(250)})
	require.NoError(t, err)
	require.NoError(t, g.double.FailRefund(t.Context(), refund.ID, "lost_or_stolen_card"))
	g.buyPack(t, stripetest.CardDisputed)
	disputes := g.double.Stripe.Disputes.List(&stripe.DisputeListParams{})
	require.True(t, disputes.Next())
	_, err = g.double.Stripe.Disputes.Update(disputes.Dispute().ID, &stripe.DisputeParams{
		Evidence: &stripe.DisputeEvidenceParams{CustomerEmailAddress: stripe.String("ada@example.com"), UncategorizedText: stripe.String("winning_evidence")},
	})
	require.NoError(t, err)
	g.collect(t)
}

// renew makes a renewal whose payment is declined and comes later.
func (g *gallery) renew(t *testing.T) {
	sub := g.subscribe(t, "ada", g.plan(t, "Basic", "100", 1000))
	g.useCard(t, sub.ID, "pm_card_chargeCustomerFail")
	g.collect(t)
	g.advance(t, sub.PeriodEnd.Add(2*time.Hour))
	g.payLatest(t, sub.ID)
	g.collect(t)
}

// changePlans makes changes whose payment comes later, does not come, and is given up, and cancels.
func (g *gallery) changePlans(t *testing.T) {
	sub, err := g.FindSubscription(t.Context(), "ada")
	require.NoError(t, err)
	g.useCard(t, sub.ID, "pm_card_chargeCustomerFail")
	g.change(t, sub.ID, g.plan(t, "Pro", "400", 3000), g.now())
	g.payLatest(t, sub.ID)
	g.useCard(t, sub.ID, "pm_card_authenticationRequired")
	g.change(t, sub.ID, g.plan(t, "Max", "2000", 9000), g.now())
	g.advance(t, g.now().Add(24*time.Hour))
	g.useCard(t, sub.ID, "pm_card_chargeCustomerFail")
	g.change(t, sub.ID, g.plan(t, "Team", "3000", 12000), g.now())
	_, err = g.double.Stripe.Invoices.MarkUncollectible(g.latest(t, sub.ID).LatestInvoice.ID, nil)
	require.NoError(t, err)
	_, err = g.double.Stripe.Subscriptions.Cancel(sub.ID, nil)
	require.NoError(t, err)
	g.collect(t)
}

// pause makes a trial that ends without a card, and goes on once there is one. Billing's own checkouts always ask for one.
func (g *gallery) pause(t *testing.T) {
	client := g.double.Stripe
	who, err := client.Customers.New(&stripe.CustomerParams{Email: stripe.String("ada@example.com"), Name: stripe.String("Ada Lovelace")})
	require.NoError(t, err)
	sub, err := client.Subscriptions.New(&stripe.SubscriptionParams{
		Customer: &who.ID, TrialPeriodDays: stripe.Int64(5), Items: []*stripe.SubscriptionItemsParams{{Price: stripe.String(g.plan(t, "Trial", "100", 1000))}},
		TrialSettings: &stripe.SubscriptionTrialSettingsParams{EndBehavior: &stripe.SubscriptionTrialSettingsEndBehaviorParams{MissingPaymentMethod: stripe.String("pause")}},
	})
	require.NoError(t, err)
	g.advance(t, time.Unix(sub.TrialEnd, 0).Add(2*time.Hour))
	g.useCard(t, sub.ID, "pm_card_visa")
	_, err = client.Subscriptions.Resume(sub.ID, &stripe.SubscriptionResumeParams{BillingCycleAnchor: stripe.String("now")})
	require.NoError(t, err)
	g.collect(t)
}
