package billing

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"
)

// EventKind is what happened to an account's payments or its subscription.
type EventKind string

// The kinds of events.
const (
	EventPaid                  EventKind = "paid"                   // a payment succeeded, and its credits are granted
	EventRefunded              EventKind = "refunded"               // a refund succeeded
	EventSubscriptionCreated   EventKind = "subscription_created"   // a subscription began
	EventSubscriptionRenewed   EventKind = "subscription_renewed"   // a further period began
	EventSubscriptionChanged   EventKind = "subscription_changed"   // the plan, the quantity or the plan to come is another
	EventSubscriptionCanceled  EventKind = "subscription_canceled"  // it will end and not renew
	EventSubscriptionResumed   EventKind = "subscription_resumed"   // a cancellation was undone, or a pause ended
	EventSubscriptionPaused    EventKind = "subscription_paused"    // Stripe paused it, as when a trial ends without a card
	EventSubscriptionPastDue   EventKind = "subscription_past_due"  // a renewal was not paid
	EventSubscriptionRecovered EventKind = "subscription_recovered" // what was past due has been paid
	EventSubscriptionEnded     EventKind = "subscription_ended"     // it is over
)

// Event is what happened, for other programs; see [Config.OnEvent].
type Event struct {
	Kind    EventKind
	Account string
	// Key is the same for the same occasion, and other for every other.
	Key string
	// Payment is that of EventPaid, and the line of the money that went back of EventRefunded. Nil with the others.
	Payment *Payment
	// Refund is that of EventRefunded.
	Refund *Refund
	// Subscription is that of the other kinds, as it is now; its plans have only their price's id.
	Subscription *Subscription
}

func (b *Billing) tell(ctx context.Context, tx *sqlx.Tx, e Event) error {
	if b.cfg.OnEvent == nil {
		return nil
	}
	if err := b.cfg.OnEvent(ctx, tx, e); err != nil {
		return fmt.Errorf("billing: event %s: %w", e.Key, err)
	}
	return nil
}

func (b *Billing) tellPaid(ctx context.Context, tx *sqlx.Tx, r paymentRow) error {
	p := r.payment()
	return b.tell(ctx, tx, Event{Kind: EventPaid, Account: r.Account, Key: "payment/" + r.ID.String(), Payment: &p})
}

// tellRefunded tells of a refund whose money went back, once: it moves to that status once.
func (b *Billing) tellRefunded(ctx context.Context, tx *sqlx.Tx, r refundRow) error {
	if r.Status != RefundSucceeded || b.cfg.OnEvent == nil {
		return nil
	}
	refund := r.refund()
	e := Event{Kind: EventRefunded, Account: r.Account, Key: "refund/" + r.ID.String(), Refund: &refund}
	if r.RowID != nil {
		line, found, err := b.paymentTx(ctx, tx, `id = ?`, *r.RowID)
		if err != nil {
			return err
		}
		if found {
			p := line.payment()
			e.Payment = &p
		}
	}
	return b.tell(ctx, tx, e)
}

// tellSubscription tells what is new in a picture of a subscription. The row's version makes the key: it counts the
// pictures that were taken over.
func (b *Billing) tellSubscription(ctx context.Context, tx *sqlx.Tx, old *subscriptionRow, now subscriptionRow) error {
	for _, kind := range subscriptionEvents(old, now) {
		s := now.subscription()
		if now.NextPriceID != "" {
			s.Next = &Offer{PriceID: now.NextPriceID}
		}
		e := Event{Kind: kind, Account: now.Account, Key: fmt.Sprintf("subscription/%s/%d/%s", now.ID, now.Version, kind), Subscription: &s}
		if err := b.tell(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}

// subscriptionEvents compares two pictures; old is nil when the account had no subscription. One that was never paid for
// is no subscription yet.
func subscriptionEvents(old *subscriptionRow, now subscriptionRow) (kinds []EventKind) {
	begun := func(r *subscriptionRow) bool {
		return r != nil && r.ID == now.ID && r.Status != stripe.SubscriptionStatusIncomplete && r.Status != stripe.SubscriptionStatusIncompleteExpired
	}
	if !begun(&now) {
		return nil
	}
	if !begun(old) {
		kinds = append(kinds, EventSubscriptionCreated)
		old = &subscriptionRow{ID: now.ID, Status: stripe.SubscriptionStatusActive, PriceID: now.PriceID, Quantity: now.Quantity, PeriodStart: now.PeriodStart,
			NextPriceID: now.NextPriceID}
	}
	add := func(happened bool, kind EventKind) {
		if happened {
			kinds = append(kinds, kind)
		}
	}
	const paused = stripe.SubscriptionStatusPaused
	ends := func(r *subscriptionRow) bool { return r.CancelAtPeriodEnd || r.CancelAt != nil }
	owes := func(r *subscriptionRow) bool {
		return r.Status == stripe.SubscriptionStatusPastDue || r.Status == stripe.SubscriptionStatusUnpaid
	}
	over := now.subscription().Ended()
	samePlan := now.PriceID == old.PriceID
	add(!over && now.PeriodStart.After(old.PeriodStart.Time) && samePlan, EventSubscriptionRenewed)
	// The plan that was to come has come, or another was chosen.
	add(!samePlan || now.Quantity != old.Quantity || !over && now.NextPriceID != old.NextPriceID, EventSubscriptionChanged)
	add(!over && ends(&now) && !ends(old), EventSubscriptionCanceled)
	add(!over && (!ends(&now) && ends(old) || old.Status == paused && now.subscription().Active()), EventSubscriptionResumed)
	add(now.Status == paused && old.Status != paused, EventSubscriptionPaused)
	add(owes(&now) && !owes(old), EventSubscriptionPastDue)
	add(now.subscription().Active() && owes(old), EventSubscriptionRecovered)
	add(over && !old.subscription().Ended(), EventSubscriptionEnded)
	return kinds
}
