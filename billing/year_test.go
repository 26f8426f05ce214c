package billing_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/webhook"
)

// year is a shop with customers who live on the double for a year.
type year struct {
	*shop

	random  *rand.Rand
	people  []*person
	packs   []string
	plans   []string
	delayed []string // sessions whose money is on its way
	did     map[string]int
	refused map[string]int
}

// person is a customer. Those who have subscriptions use no credits: what a plan's are used for before they expire is in
// no book of Stripe's.
type person struct {
	billing.Customer
	subscribes bool
	used       credits.Amount
}

// Of a year's webhooks 30 % are lost, and the others come twice and in any order. One reconciliation at its end makes the
// local state and the credits what the double's books say, to the millionth. Seeds are fixed; what differs between two runs is
// which webhooks come before what people do next. The race detector makes SQLite, which is compiled to Go, many times slower:
// with it the year has fewer customers, enough for everything that people do to be done.
func TestReconcile_AYearOfBadDeliveryEndsAsTheDoublesBooksSay(t *testing.T) {
	t.Parallel()
	customers := 200
	if raceEnabled {
		customers = 40
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		testYear(t, dbtest.SQLite(t, schema), customers)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		testYear(t, dbtest.Postgres(t, schema), customers)
	})
}

func testYear(t *testing.T, db *database.DB, customers int) {
	t.Helper()
	y := &year{shop: newShop(t, db), random: rand.New(rand.NewPCG(20, 26)), did: map[string]int{}, refused: map[string]int{}}
	y.begin(customers)
	for _, p := range y.people {
		require.NoError(t, y.checkout(p, y.packs[0], 1))
	}
	const fortnights = 26
	for range fortnights {
		for _, p := range y.people {
			if y.random.IntN(2) == 0 {
				y.act(p)
			}
		}
		y.caughtUp()
		y.pass(14*day + time.Duration(y.random.IntN(36)-18)*time.Hour)
	}
	require.NoError(t, y.settleDelayed(1))
	y.pass(2 * time.Hour) // drafts are paid after one
	y.caughtUp()
	t.Logf("done: %v; refused: %v", y.did, y.refused)

	report, err := y.Reconcile(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Failed)
	require.Greater(t, len(report.Repaired), customers, "much was missed")
	t.Logf("%d objects, %d repaired", report.Checked, len(report.Repaired))
	y.compare()

	again, err := y.Reconcile(t.Context())
	require.NoError(t, err)
	assert.Empty(t, again.Repaired)
	assert.Empty(t, again.Failed)
	dead, _, err := y.inbox.List(t.Context(), webhook.ListParams{Status: webhook.StatusDead})
	require.NoError(t, err)
	assert.Empty(t, dead)
}

// begin makes the catalogue, the people and the bad delivery.
func (y *year) begin(customers int) {
	y.t.Helper()
	ctx := y.t.Context()
	large, err := y.double.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("Large pack"), Metadata: map[string]string{"credits": "333.333333"}})
	require.NoError(y.t, err)
	y.packs = []string{y.pack.ID, y.price(large.ID, 2999, "").ID}
	y.plans = []string{y.plan("Basic", "100", 900, "month").ID, y.plan("Pro", "1000", 2900, "month", "trial_days", "14", "trial_credits", "50").ID,
		y.plan("Team", "2500.5", 7900, "month").ID, y.plan("Year", "13000", 29000, "year").ID}
	for i := range customers {
		name := fmt.Sprintf("c%d", i)
		y.people = append(y.people, &person{Customer: billing.Customer{Account: name, Email: name + "@example.com", Verified: true}, subscribes: i%2 == 0})
	}
	// An endpoint gets what it asks for: what billing handles.
	endpoints := y.double.Stripe.WebhookEndpoints.List(&stripe.WebhookEndpointListParams{})
	for endpoints.Next() {
		_, err := y.double.Stripe.WebhookEndpoints.Update(endpoints.WebhookEndpoint().ID, &stripe.WebhookEndpointParams{EnabledEvents: stripe.StringSlice([]string{
			"checkout.session.completed", "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed", "checkout.session.expired",
			"customer.subscription.created", "customer.subscription.updated", "customer.subscription.deleted",
			"customer.subscription.pending_update_applied", "customer.subscription.pending_update_expired",
			"invoice.paid", "invoice.payment_failed", "invoice.voided", "invoice.marked_uncollectible", "charge.refunded", "charge.refund.updated",
			"charge.dispute.created", "charge.dispute.funds_withdrawn", "charge.dispute.closed",
		})})
		require.NoError(y.t, err)
	}
	require.NoError(y.t, endpoints.Err())
	for _, f := range []stripetest.Fault{{Kind: stripetest.FaultLose, Probability: 0.3, Seed: 1}, {Kind: stripetest.FaultDuplicate}, {Kind: stripetest.FaultReorder, Delay: 50 * time.Millisecond, Seed: 2}} {
		_, err := y.double.Inject(ctx, f)
		require.NoError(y.t, err)
	}
}

// caughtUp waits until every event that has come was worked once. Some are tried again later: a refund's, of whose payment
// nothing was heard.
func (y *year) caughtUp() {
	y.t.Helper()
	idle := 0
	require.Eventually(y.t, func() bool {
		waiting, _, err := y.inbox.List(y.t.Context(), webhook.ListParams{Status: webhook.StatusReceived, Limit: 500})
		if err != nil || slices.ContainsFunc(waiting, func(r webhook.Record) bool { return r.Attempts == 0 }) {
			idle = 0
			return false
		}
		idle++
		return idle == 3
	}, 60*time.Second, 40*time.Millisecond)
}

// act does one thing that people do.
func (y *year) act(p *person) {
	y.t.Helper()
	actions := []string{"buy", "buy", "buy", "buy", "use", "refund", "refund in Stripe", "dispute", "end a dispute", "settle", "move"}
	if p.subscribes {
		actions = []string{"buy", "buy", "refund", "refund in Stripe", "dispute", "end a dispute", "settle", "move", "cancel", "cancel now", "resume", "resume", "cancel in Stripe",
			"break the card", "pay the invoice", "pay the invoice", "pay the invoice", "change", "change", "change", "change", "change", "change", "subscribe", "subscribe"}
	}
	action := actions[y.random.IntN(len(actions))]
	if _, err := y.FindSubscription(y.t.Context(), p.Account); p.subscribes && errors.Is(err, billing.ErrNoSubscription) {
		action = "subscribe"
	}
	y.did[action]++
	if err := y.do(p, action); err != nil {
		y.refused[action]++
		refusal := problem.From(err) != nil && !errors.Is(err, billing.ErrStripe)
		_, isStripe := errors.AsType[*stripe.Error](err)
		require.True(y.t, refusal || isStripe || errors.Is(err, errNothing), "%s of %s: %v", action, p.Account, err)
	}
}

// errNothing says that there was nothing to do it with.
var errNothing = errors.New("there is nothing to do it with")

func (y *year) do(p *person, action string) error { //nolint:cyclop,funlen // a list of what people do
	ctx, account := y.t.Context(), p.Account
	switch action {
	case "buy":
		return y.checkout(p, y.packs[y.random.IntN(len(y.packs))], int64(1+y.random.IntN(3)))
	case "subscribe":
		return y.checkout(p, y.plans[y.random.IntN(len(y.plans))], 1)
	case "use":
		b, err := y.ledger.Balance(ctx, account)
		if err != nil || b.Available == 0 {
			return cmp.Or(err, errNothing)
		}
		amount := credits.Amount(1 + y.random.Int64N(int64(b.Available)))
		p.used += amount
		_, err = y.ledger.Debit(ctx, credits.DebitParams{Account: account, Amount: amount, Reason: "use"})
		return err
	case "refund":
		payments, _, err := y.Payments(ctx, billing.PaymentsParams{Account: account})
		if err != nil || len(payments) == 0 {
			return cmp.Or(err, errNothing)
		}
		of := payments[y.random.IntN(len(payments))]
		amount := int64(0)
		if left := of.Left(); left > 0 && y.random.IntN(2) == 0 {
			amount = 1 + y.random.Int64N(left)
		}
		_, err = y.refund(of.ID, amount)
		return err
	case "refund in Stripe":
		c, err := y.charge(p)
		if err != nil {
			return err
		}
		_, err = y.double.Stripe.Refunds.New(&stripe.RefundParams{Charge: &c.ID, Amount: stripe.Int64(max(1, (c.Amount-c.AmountRefunded)/int64(1+y.random.IntN(3))))})
		return err
	case "dispute":
		c, err := y.charge(p)
		if err != nil || c.Disputed || c.Refunded {
			return cmp.Or(err, errNothing)
		}
		params := stripetest.DisputeParams{Inquiry: y.random.IntN(4) == 0}
		if y.random.IntN(3) == 0 {
			params.Amount = max(1, (c.Amount-c.AmountRefunded)/3)
		}
		_, err = y.double.OpenDispute(ctx, c.ID, params)
		return err
	case "end a dispute":
		return y.endDispute(p)
	case "settle":
		if err := y.settleDelayed(0.5); err != nil {
			return err
		}
		return y.settleRefund(p)
	case "move":
		p.Email = fmt.Sprintf("%s.%d@example.com", account, y.random.IntN(1000))
		return y.FollowCustomer(ctx, p.Customer)
	case "cancel", "cancel now":
		_, err := y.CancelSubscription(ctx, account, action == "cancel now")
		return err
	case "resume":
		_, err := y.ResumeSubscription(ctx, account)
		return err
	case "change":
		_, err := y.ChangePlan(ctx, billing.ChangeParams{Account: account, Price: y.plans[y.random.IntN(len(y.plans))]})
		return err
	default:
		return y.inStripe(p, action)
	}
}

// inStripe does what does not go through us.
func (y *year) inStripe(p *person, action string) error {
	ctx := y.t.Context()
	sub, err := y.FindSubscription(ctx, p.Account)
	if err != nil {
		return err
	}
	switch action {
	case "cancel in Stripe":
		_, err = y.double.Stripe.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(true)})
	case "break the card":
		theirs, err := y.double.Stripe.Subscriptions.Get(sub.ID, nil)
		if err != nil {
			return err
		}
		pm, err := y.double.Stripe.PaymentMethods.Attach("pm_card_chargeCustomerFail", &stripe.PaymentMethodAttachParams{Customer: &theirs.Customer.ID})
		if err != nil {
			return err
		}
		_, err = y.double.Stripe.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{DefaultPaymentMethod: &pm.ID})
		return err
	case "pay the invoice":
		open := y.double.Stripe.Invoices.List(&stripe.InvoiceListParams{Subscription: &sub.ID, Status: stripe.String("open")})
		if !open.Next() {
			return cmp.Or(open.Err(), errNothing)
		}
		return y.double.PayInvoice(ctx, open.Invoice().ID, stripetest.Card{Number: stripetest.CardSucceeds})
	}
	return err
}

// checkout buys with one of many cards. Half of those who pay come back to the page.
func (y *year) checkout(p *person, price string, quantity int64) error {
	ctx := y.t.Context()
	c, err := y.Checkout(ctx, billing.CheckoutParams{Customer: p.Customer, Price: price, Quantity: quantity})
	if err != nil {
		return err
	}
	cards := []string{stripetest.CardSucceeds, stripetest.CardSucceeds, stripetest.CardSucceeds, stripetest.CardSucceeds, stripetest.CardSucceeds, stripetest.CardRefundPends,
		stripetest.CardRefundFails, stripetest.CardDisputed, stripetest.CardInquired, stripetest.CardDeclined, stripetest.Delayed, stripetest.CardFailsLater}
	card := cards[y.random.IntN(len(cards))]
	if c.Mode == billing.ModeSubscription {
		card = cards[y.random.IntN(7)]
	}
	if _, err := y.double.Pay(ctx, c.SessionID, stripetest.Card{Number: card}); err != nil {
		return nil //nolint:nilerr // declined: the session stays open until it expires
	}
	if card == stripetest.Delayed {
		y.delayed = append(y.delayed, c.SessionID)
	}
	if y.random.IntN(2) == 0 {
		_, err = y.SyncCheckout(ctx, p.Account, c.SessionID)
	}
	return err
}

// charge is one of a person's payments as the double has it.
func (y *year) charge(p *person) (*stripe.Charge, error) {
	payments, _, err := y.Payments(y.t.Context(), billing.PaymentsParams{Account: p.Account})
	if err != nil {
		return nil, err
	}
	payments = slices.DeleteFunc(payments, func(p billing.Payment) bool { return p.ChargeID == "" || !p.Kept() })
	if len(payments) == 0 {
		return nil, errNothing
	}
	return y.double.Stripe.Charges.Get(payments[y.random.IntN(len(payments))].ChargeID, nil)
}

func (y *year) endDispute(p *person) error {
	disputes, _, err := y.Disputes(y.t.Context(), billing.DisputesParams{Account: p.Account})
	if err != nil || len(disputes) == 0 {
		return cmp.Or(err, errNothing)
	}
	d, err := y.double.Stripe.Disputes.Get(disputes[0].DisputeID, nil)
	if err != nil || d.Status == stripe.DisputeStatusWon || d.Status == stripe.DisputeStatusLost || d.Status == stripe.DisputeStatusWarningClosed {
		return cmp.Or(err, errNothing)
	}
	won := y.random.IntN(2) == 0
	if d.Status == stripe.DisputeStatusWarningNeedsResponse && !won {
		return y.double.EscalateDispute(y.t.Context(), d.ID)
	}
	return y.double.CloseDispute(y.t.Context(), d.ID, won)
}

func (y *year) settleRefund(p *person) error {
	refunds, _, err := y.Refunds(y.t.Context(), billing.RefundsParams{Account: p.Account})
	if err != nil {
		return err
	}
	for _, r := range refunds {
		if r.Status != billing.RefundPending {
			continue
		}
		theirs, err := y.double.Stripe.Refunds.Get(r.RefundID, nil)
		if err != nil || theirs.Status != stripe.RefundStatusPending {
			return cmp.Or(err, errNothing)
		}
		if y.random.IntN(2) == 0 {
			return y.double.SettleRefund(y.t.Context(), r.RefundID)
		}
		return y.double.FailRefund(y.t.Context(), r.RefundID, "expired_or_canceled_card")
	}
	return errNothing
}

// settleDelayed ends the wait for the money of a share of the bank debits.
func (y *year) settleDelayed(share float64) error {
	var left []string
	for _, session := range y.delayed {
		if y.random.Float64() >= share {
			left = append(left, session)
			continue
		}
		if err := y.double.SettleDelayed(y.t.Context(), session, y.random.IntN(3) > 0); err != nil {
			return err
		}
	}
	y.delayed = left
	return nil
}
