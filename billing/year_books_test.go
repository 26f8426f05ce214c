package billing_test

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
)

// books are all that the double holds, and what follows from it by rules that are written down here once more.
type books struct {
	customers     map[string]*stripe.Customer // by account
	subscriptions map[string]*stripe.Subscription
	sessions      []*stripe.CheckoutSession
	invoices      []*stripe.Invoice
	charges       map[string]*stripe.Charge
	refunds       []*stripe.Refund
	disputes      []*stripe.Dispute
	worth         map[string]*big.Int // a price's credits, in millionths
	trial         map[string]*big.Int
	accounts      map[string]string // by customer
	pending       map[string]*stripe.PaymentIntent
}

// line is a payment as it should be kept.
type line struct {
	Type, Status, Charge       string
	Amount, Refunded, Disputed int64
}

// bought is credits that came with money.
type purchased struct {
	amount     *big.Int
	paid, gone int64
	at         int64
	expires    int64 // 0: never
}

func (y *year) books() *books {
	y.t.Helper()
	b := &books{customers: map[string]*stripe.Customer{}, subscriptions: map[string]*stripe.Subscription{}, charges: map[string]*stripe.Charge{},
		worth: map[string]*big.Int{}, trial: map[string]*big.Int{}, accounts: map[string]string{}, pending: map[string]*stripe.PaymentIntent{}}
	api, page := y.double.Stripe, stripe.ListParams{Limit: stripe.Int64(100)}
	customers := api.Customers.List(&stripe.CustomerListParams{ListParams: page})
	for customers.Next() {
		c := customers.Customer()
		require.NotContains(y.t, b.customers, c.Metadata["account"], "an account has one customer")
		b.customers[c.Metadata["account"]], b.accounts[c.ID] = c, c.Metadata["account"]
	}
	require.NoError(y.t, customers.Err())
	prices := &stripe.PriceListParams{ListParams: page}
	prices.AddExpand("data.product")
	for it := api.Prices.List(prices); it.Next(); {
		p := it.Price()
		b.worth[p.ID], b.trial[p.ID] = millionths(p.Product.Metadata["credits"]), millionths(p.Product.Metadata["trial_credits"])
	}
	subscriptions := &stripe.SubscriptionListParams{ListParams: page, Status: stripe.String("all")}
	subscriptions.AddExpand("data.schedule")
	subscriptions.AddExpand("data.latest_invoice")
	for it := api.Subscriptions.List(subscriptions); it.Next(); {
		sub := it.Subscription()
		if of := b.accounts[sub.Customer.ID]; b.subscriptions[of] == nil { // the newest comes first
			b.subscriptions[of] = sub
		}
	}
	sessions := &stripe.CheckoutSessionListParams{ListParams: page}
	sessions.AddExpand("data.payment_intent")
	sessions.AddExpand("data.line_items")
	for it := api.CheckoutSessions.List(sessions); it.Next(); {
		b.sessions = append(b.sessions, it.CheckoutSession())
	}
	for it := api.Invoices.List(&stripe.InvoiceListParams{ListParams: page}); it.Next(); {
		b.invoices = append(b.invoices, it.Invoice())
	}
	for it := api.Charges.List(&stripe.ChargeListParams{ListParams: page}); it.Next(); {
		b.charges[it.Charge().ID] = it.Charge()
	}
	for it := api.Refunds.List(&stripe.RefundListParams{ListParams: page}); it.Next(); {
		b.refunds = append(b.refunds, it.Refund())
	}
	for it := api.Disputes.List(&stripe.DisputeListParams{ListParams: page}); it.Next(); {
		b.disputes = append(b.disputes, it.Dispute())
	}
	require.NotEmpty(y.t, b.disputes)
	require.NotEmpty(y.t, b.refunds)
	return b
}

// millionths reads a number of credits.
func millionths(s string) *big.Int {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return new(big.Int)
	}
	r.Mul(r, big.NewRat(1_000_000, 1))
	return r.Num()
}

// gone is what refunds and disputes have taken of a charge.
func (b *books) gone(charge string, amount int64) (refunded, disputed int64) {
	for _, r := range b.refunds {
		if r.Charge.ID == charge && (r.Status == stripe.RefundStatusSucceeded || r.Status == stripe.RefundStatusPending) {
			refunded += r.Amount
		}
	}
	for _, d := range b.disputes {
		if d.Charge.ID == charge && (d.Status == stripe.DisputeStatusNeedsResponse || d.Status == stripe.DisputeStatusUnderReview || d.Status == stripe.DisputeStatusLost) {
			disputed += d.Amount
		}
	}
	return refunded, min(disputed, amount-refunded)
}

// payment is a line of an account's that is paid.
func (b *books) payment(kind, charge string, amount int64) line {
	l := line{Type: kind, Status: "succeeded", Charge: charge, Amount: amount}
	l.Refunded, l.Disputed = b.gone(charge, amount)
	switch {
	case l.Refunded == amount && amount > 0:
		l.Status = "refunded"
	case l.Refunded > 0:
		l.Status = "partially_refunded"
	}
	return l
}

// account is what an account's payments should be, by the session or invoice that they are of, and its credits.
func (b *books) account(name string, now int64) (lines map[string]line, owns *big.Int) {
	lines = map[string]line{}
	var all []purchased
	var changes []int64
	for _, s := range b.sessions {
		if s.Metadata["account"] != name || s.Mode != stripe.CheckoutSessionModePayment || s.PaymentStatus != stripe.CheckoutSessionPaymentStatusPaid {
			continue
		}
		item := s.LineItems.Data[0]
		l := b.payment("credit_purchase", s.PaymentIntent.LatestCharge.ID, s.AmountTotal)
		lines[s.PaymentIntent.ID] = l
		all = append(all, purchased{amount: new(big.Int).Mul(b.worth[item.Price.ID], big.NewInt(item.Quantity)), paid: l.Amount, gone: l.Refunded + l.Disputed})
	}
	for _, inv := range b.invoices {
		if b.accounts[inv.Customer.ID] != name {
			continue
		}
		l, p, change := b.invoice(inv)
		if l == nil {
			continue
		}
		lines[inv.ID] = *l
		all = append(all, p)
		if change {
			changes = append(changes, p.at)
		}
	}
	owns = new(big.Int)
	for _, p := range all {
		kept := p.expires == 0 || p.expires > now || slices.ContainsFunc(changes, func(at int64) bool { return p.at < at && at < p.expires })
		if kept {
			owns.Add(owns, p.left())
		}
	}
	return lines, owns
}

// left is what is kept after money went back: the share that goes is rounded up.
func (p purchased) left() *big.Int {
	if p.paid == 0 {
		return p.amount
	}
	kept := new(big.Int).Mul(p.amount, big.NewInt(p.paid-p.gone))
	return kept.Quo(kept, big.NewInt(p.paid))
}

// invoice is what an invoice should have become; change tells that it paid for another plan.
func (b *books) invoice(inv *stripe.Invoice) (l *line, p purchased, change bool) {
	kind := map[stripe.InvoiceBillingReason]string{stripe.InvoiceBillingReasonSubscriptionUpdate: "plan_change"}[inv.BillingReason]
	if kind == "" {
		kind = "subscription"
	}
	charge := ""
	if inv.Charge != nil {
		charge = inv.Charge.ID
	}
	switch inv.Status {
	case stripe.InvoiceStatusPaid:
	case stripe.InvoiceStatusOpen, stripe.InvoiceStatusVoid, stripe.InvoiceStatusUncollectible:
		if inv.AttemptCount == 0 {
			return nil, p, false
		}
		status := map[bool]string{true: "failed", false: "canceled"}[inv.Status == stripe.InvoiceStatusOpen]
		return &line{Type: kind, Status: status, Charge: charge, Amount: inv.AmountDue}, purchased{amount: new(big.Int)}, false
	default:
		return nil, p, false
	}
	made := b.payment(kind, charge, inv.AmountPaid)
	p = purchased{amount: new(big.Int), paid: made.Amount, gone: made.Refunded + made.Disputed, at: inv.StatusTransitions.PaidAt}
	if kind == "plan_change" {
		net, plan := int64(0), (*stripe.InvoiceLineItem)(nil)
		for _, x := range inv.Lines.Data {
			if net += x.Amount; x.Amount >= 0 {
				plan = x
			}
		}
		// What was paid, at the new plan's rate, and never more than a period's.
		p.amount.Mul(b.worth[plan.Price.ID], big.NewInt(min(max(net, 0), plan.Price.UnitAmount)))
		p.amount.Quo(p.amount, big.NewInt(plan.Price.UnitAmount))
		p.expires = plan.Period.End
		return &made, p, true
	}
	for _, x := range inv.Lines.Data {
		if x.Proration {
			continue
		}
		p.expires, p.amount = x.Period.End, b.worth[x.Price.ID]
		if x.Amount == 0 {
			p.amount = b.trial[x.Price.ID]
		}
	}
	if inv.Total == 0 && p.amount.Sign() == 0 {
		return nil, p, false
	}
	return &made, p, false
}

// compare holds what we keep against the books.
func (y *year) compare() {
	y.t.Helper()
	b := y.books()
	assert.Len(y.t, b.customers, len(y.people))
	now := y.now().Unix()
	for _, p := range y.people {
		y.me = p.Customer
		c := b.customers[p.Account]
		require.NotNil(y.t, c, p.Account)
		assert.Equal(y.t, p.Email, c.Email)
		y.compareSubscription(b.subscriptions[p.Account])
		lines, owns := b.account(p.Account, now)
		y.compareMoney(b, c.ID, lines)
		have, err := y.ledger.Balance(y.t.Context(), p.Account)
		require.NoError(y.t, err)
		assert.Equal(y.t, credits.Amount(owns.Int64())-p.used, have.Available+have.Held-have.Debt, "%s: %v", p.Account, lines)
	}
	y.compareSessions(b)
}

func (y *year) compareSubscription(theirs *stripe.Subscription) {
	y.t.Helper()
	ours, err := y.FindSubscription(y.t.Context(), y.me.Account)
	if theirs == nil {
		require.ErrorIs(y.t, err, billing.ErrNoSubscription)
		return
	}
	require.NoError(y.t, err, y.me.Account)
	unix := func(at *time.Time) int64 {
		if at == nil {
			return 0
		}
		return at.Unix()
	}
	next, pending, pay := "", "", ""
	if theirs.Schedule != nil && theirs.Schedule.Status == stripe.SubscriptionScheduleStatusActive {
		for _, phase := range theirs.Schedule.Phases {
			if phase.StartDate >= theirs.CurrentPeriodEnd && phase.Items[0].Price.ID != theirs.Items.Data[0].Price.ID {
				next = phase.Items[0].Price.ID
			}
		}
	}
	if theirs.PendingUpdate != nil && len(theirs.PendingUpdate.SubscriptionItems) > 0 {
		pending = theirs.PendingUpdate.SubscriptionItems[0].Price.ID
	}
	if theirs.LatestInvoice != nil && theirs.LatestInvoice.Status == stripe.InvoiceStatusOpen {
		pay = theirs.LatestInvoice.HostedInvoiceURL
	}
	want := []any{theirs.ID, theirs.Status, theirs.Items.Data[0].Price.ID, theirs.CurrentPeriodStart, theirs.CurrentPeriodEnd, theirs.CancelAtPeriodEnd, theirs.CancelAt,
		theirs.CanceledAt, theirs.EndedAt, theirs.TrialEnd, next, pending, pay}
	ourNext := ""
	if ours.Next != nil {
		ourNext = ours.Next.PriceID
	}
	assert.Equal(y.t, want, []any{ours.ID, ours.Status, ours.Plan.PriceID, ours.PeriodStart.Unix(), ours.PeriodEnd.Unix(), ours.CancelAtPeriodEnd, unix(ours.CancelAt),
		unix(ours.CanceledAt), unix(ours.EndedAt), unix(ours.TrialEnd), ourNext, ours.PendingPrice, ours.PayURL}, y.me.Account)
}

// compareMoney holds payments, refunds and disputes of an account against the books.
func (y *year) compareMoney(b *books, customer string, want map[string]line) {
	y.t.Helper()
	ctx := y.t.Context()
	payments, more, err := y.Payments(ctx, billing.PaymentsParams{Account: y.me.Account, Limit: billing.MaxPage})
	require.NoError(y.t, err)
	require.False(y.t, more)
	got, refundLines := map[string]line{}, []string{}
	for _, p := range payments {
		if p.Type == billing.TypeRefund {
			refundLines = append(refundLines, fmt.Sprint(p.ChargeID, -p.Price.Amount, p.Status))
			continue
		}
		id := p.InvoiceID
		if id == "" {
			id = p.IntentID
		}
		require.NotContains(y.t, got, id, "kept twice")
		got[id] = line{string(p.Type), string(p.Status), p.ChargeID, p.Price.Amount, p.Refunded, p.Disputed}
	}
	assert.Equal(y.t, want, got, y.me.Account)

	refunds, more, err := y.Refunds(ctx, billing.RefundsParams{Account: y.me.Account, Limit: billing.MaxPage})
	require.NoError(y.t, err)
	require.False(y.t, more)
	ours, theirs, wantLines := map[string]string{}, map[string]string{}, []string{}
	for _, r := range refunds {
		if r.RefundID == "" { // Stripe refused it
			assert.Equal(y.t, billing.RefundFailed, r.Status)
			continue
		}
		ours[r.RefundID] = fmt.Sprint(r.Price, r.Status)
	}
	for _, r := range b.refunds {
		if b.charges[r.Charge.ID].Customer.ID == customer {
			theirs[r.ID] = fmt.Sprint(billing.Money{Amount: r.Amount, Currency: string(r.Currency)}, r.Status)
			wantLines = append(wantLines, fmt.Sprint(r.Charge.ID, r.Amount, r.Status))
		}
	}
	assert.Equal(y.t, theirs, ours, y.me.Account)
	assert.ElementsMatch(y.t, wantLines, refundLines, y.me.Account)

	disputes, more, err := y.Disputes(ctx, billing.DisputesParams{Account: y.me.Account, Limit: billing.MaxPage})
	require.NoError(y.t, err)
	require.False(y.t, more)
	ours, theirs = map[string]string{}, map[string]string{}
	for _, d := range disputes {
		ours[d.DisputeID] = fmt.Sprint(d.Price, d.Status, d.Reason)
	}
	for _, d := range b.disputes {
		if b.charges[d.Charge.ID].Customer.ID == customer {
			theirs[d.ID] = fmt.Sprint(billing.Money{Amount: d.Amount, Currency: string(d.Currency)}, d.Status, d.Reason)
		}
	}
	assert.Equal(y.t, theirs, ours, y.me.Account)
}

func (y *year) compareSessions(b *books) {
	y.t.Helper()
	for _, s := range b.sessions {
		want := billing.CheckoutStatus(s.Status)
		if s.Status == stripe.CheckoutSessionStatusComplete {
			switch {
			case s.PaymentStatus != stripe.CheckoutSessionPaymentStatusUnpaid:
				want = billing.CheckoutPaid
			case s.PaymentIntent != nil && s.PaymentIntent.Status == stripe.PaymentIntentStatusRequiresPaymentMethod:
				want = billing.CheckoutFailed
			default:
				want = billing.CheckoutWaiting
			}
		}
		c, err := y.FindCheckout(y.t.Context(), s.Metadata["account"], s.ID)
		require.NoError(y.t, err)
		assert.Equal(y.t, want, c.Status, s.ID)
		assert.NotEqual(y.t, uuid.Nil, c.ID)
		assert.True(y.t, strings.HasPrefix(s.ClientReferenceID, c.ID.String()))
	}
}
