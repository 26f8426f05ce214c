package webhook_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/webhook"
)

func buyer(account string) billing.Customer {
	return billing.Customer{Account: account, Email: account + "@example.com", Name: "Ada Lovelace", Verified: true}
}

// plan makes a monthly price of a product that is worth credits, lets billing know it, and returns it.
func (s *shop) plan(t *testing.T, name, worth string, amount int64) string {
	t.Helper()
	product, err := s.double.Stripe.Products.New(&stripe.ProductParams{Name: &name, Metadata: map[string]string{"credits": worth}})
	require.NoError(t, err)
	price, err := s.double.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: &amount,
		Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("month")}})
	require.NoError(t, err)
	require.NoError(t, s.SyncCatalogue(t.Context()))
	return price.ID
}

// subscribe buys a plan. Billing hears of it from the page after the checkout, without any event.
func (s *shop) subscribe(t *testing.T, account, price string) billing.Subscription {
	t.Helper()
	c, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: buyer(account), Price: price})
	require.NoError(t, err)
	_, err = s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
	require.NoError(t, err)
	_, err = s.SyncCheckout(t.Context(), account, c.SessionID)
	require.NoError(t, err)
	sub, err := s.FindSubscription(t.Context(), account)
	require.NoError(t, err)
	return sub
}

func (s *shop) latest(t *testing.T, subscription string) *stripe.Subscription {
	t.Helper()
	sub, err := s.double.Stripe.Subscriptions.Get(subscription, nil)
	require.NoError(t, err)
	return sub
}

// useCard makes a card what pays for a subscription from now on.
func (s *shop) useCard(t *testing.T, subscription, card string) {
	t.Helper()
	method, err := s.double.Stripe.PaymentMethods.Attach(card, &stripe.PaymentMethodAttachParams{Customer: &s.latest(t, subscription).Customer.ID})
	require.NoError(t, err)
	_, err = s.double.Stripe.Subscriptions.Update(subscription, &stripe.SubscriptionParams{DefaultPaymentMethod: &method.ID})
	require.NoError(t, err)
}

// payLatest pays a subscription's open invoice as its subscriber does.
func (s *shop) payLatest(t *testing.T, subscription string) {
	t.Helper()
	require.NoError(t, s.double.PayInvoice(t.Context(), s.latest(t, subscription).LatestInvoice.ID, stripetest.Card{Number: stripetest.CardSucceeds}))
}

// change moves a subscription to another price at Stripe, as billing does, but behind billing's back.
func (s *shop) change(t *testing.T, subscription, price string, at time.Time) {
	t.Helper()
	_, err := s.double.Stripe.Subscriptions.Update(subscription, &stripe.SubscriptionParams{
		Items:             []*stripe.SubscriptionItemsParams{{ID: &s.latest(t, subscription).Items.Data[0].ID, Price: &price}},
		ProrationBehavior: stripe.String("always_invoice"), PaymentBehavior: stripe.String("pending_if_incomplete"), ProrationDate: stripe.Int64(at.Unix()),
	})
	require.NoError(t, err)
}

// orderSeed draws the orders that are tried where all of them are too many.
const orderSeed = 1815

// orders are all orders of up to 4 things, and 24 that are drawn of more.
func orders(n int) [][]int {
	if n <= 4 {
		return permutations(n)
	}
	draw := rand.New(rand.NewPCG(orderSeed, uint64(n)))
	drawn := make([][]int, 24)
	for i := range drawn {
		drawn[i] = draw.Perm(n)
	}
	return drawn
}

// outcome is how the events of a subscription end.
type outcome struct {
	Credits map[credits.Source]string
	Status  stripe.SubscriptionStatus
	Plan    string
	// Current says that the period is the one that Stripe has; Waiting is the price that waits for its payment, and where
	// to pay.
	Current bool
	Waiting string
	// Payments and the ledger's Entries, the newest first.
	Payments []string
	Entries  []string
	// Told is what billing told of it, sorted: each occasion once.
	Told []string
}

func (s *shop) outcome(t *testing.T, account string) outcome {
	t.Helper()
	sub, err := s.FindSubscription(t.Context(), account)
	require.NoError(t, err)
	o := outcome{Credits: map[credits.Source]string{}, Status: sub.Status, Plan: sub.Plan.Name, Waiting: sub.PendingPrice + sub.PayURL,
		Told: s.told(t, account), Current: s.latest(t, sub.ID).CurrentPeriodEnd == sub.PeriodEnd.Unix()}
	balance, err := s.ledger.Balance(t.Context(), account)
	require.NoError(t, err)
	for source, amount := range balance.BySource {
		o.Credits[source] = amount.String()
	}
	payments, _, err := s.Payments(t.Context(), billing.PaymentsParams{Account: account})
	require.NoError(t, err)
	for _, p := range payments {
		o.Payments = append(o.Payments, fmt.Sprintf("%s %s %s: %s", p.Type, p.Status, p.Price, p.Credits))
	}
	history, _, err := s.ledger.History(t.Context(), credits.HistoryParams{Account: account})
	require.NoError(t, err)
	for _, e := range history {
		o.Entries = append(o.Entries, e.Amount.String())
	}
	return o
}

func kindsOf(events []*stripe.Event) (kinds []stripe.EventType) {
	for _, ev := range events {
		kinds = append(kinds, ev.Type)
	}
	return kinds
}

// allOrdersEndAlike delivers the events since a time, count of each subscription, in another order for each, each event
// more than once, and checks how it ends.
func (s *shop) allOrdersEndAlike(t *testing.T, subs []billing.Subscription, since time.Time, count int, want outcome) {
	t.Helper()
	types := s.in.Types()
	of := map[string][]*stripe.Event{}
	s.events(t, func(ev *stripe.Event) bool {
		if who, ok := ev.Data.Object["customer"].(string); ok && ev.Created >= since.Unix() && slices.Contains(types, string(ev.Type)) {
			of[who] = append(of[who], ev)
		}
		return false
	})
	for _, sub := range subs {
		require.NotEqual(t, want, s.outcome(t, sub.Account), "only the events bring it")
	}
	s.in.start(t)
	var group errgroup.Group
	group.SetLimit(6)
	for i, order := range orders(count) {
		events := of[s.latest(t, subs[i].ID).Customer.ID]
		require.Len(t, events, count, "%s", kindsOf(events))
		group.Go(func() error { return s.deliver(t, events, order) })
	}
	require.NoError(t, group.Wait())
	for i, order := range orders(count) {
		require.Equal(t, want, s.outcome(t, subs[i].Account), "order %v", order)
	}
	dead, _, err := s.in.List(t.Context(), webhook.ListParams{Status: webhook.StatusDead})
	require.NoError(t, err)
	assert.Empty(t, dead)
}

// Whatever order the events of a renewal come in, and however often, the end is the same: the new period's credits, once.
func TestRenewal_AllOrdersOfItsEventsEndAlike(t *testing.T) {
	t.Parallel()
	for declined, count := range map[bool]int{false: 3, true: 8} {
		t.Run(fmt.Sprintf("declined first: %t", declined), func(t *testing.T) {
			t.Parallel()
			dbtest.Run(t, shopSchema, func(t *testing.T, db *database.DB) {
				s := newShop(t, db)
				plan := s.plan(t, "Pro", "1000", 2900)
				var subs []billing.Subscription
				for i := range orders(count) {
					sub := s.subscribe(t, fmt.Sprintf("ada-%d", i), plan)
					if declined {
						s.useCard(t, sub.ID, "pm_card_chargeCustomerFail")
					}
					subs = append(subs, sub)
				}
				since := subs[0].PeriodEnd
				s.advance(t, subs[len(subs)-1].PeriodEnd.Add(2*time.Hour))
				if declined {
					for _, sub := range subs {
						s.payLatest(t, sub.ID)
					}
				}
				paid := "subscription succeeded 29.00 USD: 1000"
				s.allOrdersEndAlike(t, subs, since, count, outcome{
					Credits: map[credits.Source]string{credits.Subscription: "1000"}, Status: stripe.SubscriptionStatusActive, Plan: "Pro", Current: true,
					Payments: []string{paid, paid}, Entries: []string{"1000", "-1000", "1000"},
					Told: []string{"paid", "paid", "subscription_created", "subscription_renewed"},
				})
			})
		})
	}
}

// So does a change from Basic (100 credits for 10.00, of which 40 are used) to Pro (400 for 30.00) in the middle of a
// period, made at Stripe: 60 credits are kept for good, and the 10.00 to pay buy 133.333333 of Pro's.
func TestPlanChange_AllOrdersOfItsEventsEndAlike(t *testing.T) {
	t.Parallel()
	for declined, count := range map[bool]int{false: 3, true: 8} {
		t.Run(fmt.Sprintf("declined first: %t", declined), func(t *testing.T) {
			t.Parallel()
			dbtest.Run(t, shopSchema, func(t *testing.T, db *database.DB) {
				s := newShop(t, db)
				basic, pro := s.plan(t, "Basic", "100", 1000), s.plan(t, "Pro", "400", 3000)
				var subs []billing.Subscription
				for i := range orders(count) {
					sub := s.subscribe(t, fmt.Sprintf("ada-%d", i), basic)
					_, err := s.ledger.Debit(t.Context(), credits.DebitParams{Account: sub.Account, Amount: credits.MustAmount("40"), Reason: "use"})
					require.NoError(t, err)
					if declined {
						s.useCard(t, sub.ID, "pm_card_chargeCustomerFail")
					}
					subs = append(subs, sub)
				}
				middle := func(sub billing.Subscription) time.Time {
					return sub.PeriodStart.Add(sub.PeriodEnd.Sub(sub.PeriodStart) / 2)
				}
				since := middle(subs[len(subs)-1])
				s.advance(t, since)
				for _, sub := range subs {
					s.change(t, sub.ID, pro, middle(sub))
					if declined {
						s.payLatest(t, sub.ID)
					}
				}
				s.allOrdersEndAlike(t, subs, since, count, outcome{
					Credits: map[credits.Source]string{credits.Purchase: "60", credits.Subscription: "133.333333"},
					Status:  stripe.SubscriptionStatusActive, Plan: "Pro", Current: true,
					Payments: []string{"plan_change succeeded 10.00 USD: 133.333333", "subscription succeeded 10.00 USD: 100"},
					Entries:  []string{"133.333333", "60", "-60", "-40", "100"},
					Told:     []string{"paid", "paid", "subscription_changed", "subscription_created"},
				})
			})
		})
	}
}
