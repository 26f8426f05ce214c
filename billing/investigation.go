package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v76"
)

// Compared is one figure as it is held here and as Stripe has it now.
type Compared struct {
	Name   string `json:"name"`
	Ours   string `json:"ours"`
	Stripe string `json:"stripe"`
	// Differs says that the two do not agree.
	Differs bool `json:"differs"`
}

// LiveObject is an object of Stripe's beside what is held of it.
type LiveObject struct {
	// Kind is Stripe's name of it, such as payment_intent.
	Kind string `json:"kind"`
	ID   string `json:"id"`
	// Problem says why it could not be read, in words for staff. Empty: it was.
	Problem string     `json:"problem,omitempty"`
	Fields  []Compared `json:"fields"`
}

// Differs tells that something of it does not agree, or that Stripe has none.
func (o LiveObject) Differs() bool {
	if o.Problem != "" {
		return true
	}
	for _, f := range o.Fields {
		if f.Differs {
			return true
		}
	}
	return false
}

func (o *LiveObject) compare(name, ours, stripes string) {
	o.Fields = append(o.Fields, Compared{name, ours, stripes, ours != stripes})
}

// Investigate reads, for staff, the objects of Stripe's that a payment is of, and compares each with what is held here.
// Nothing is changed; what differs is repaired by [Billing.ReconcileAndKeep]. It asks Stripe up to four times. An object
// that cannot be read is told in its Problem. [ErrNotFound] when there is no such payment.
func (b *Billing) Investigate(ctx context.Context, payment uuid.UUID) ([]LiveObject, error) {
	p, err := b.LookUpPayment(ctx, payment)
	if err != nil {
		return nil, err
	}
	var customers []string
	if err := b.db.Select(ctx, &customers, `SELECT customer_id FROM qs_billing_customers WHERE account_id = ? AND customer_id IS NOT NULL`, p.Account); err != nil {
		return nil, fmt.Errorf("billing: customer of account %s: %w", p.Account, err)
	}
	customer := ""
	if len(customers) > 0 {
		customer = customers[0]
	}
	objects := []LiveObject{}
	look := func(kind, id string, read func(o *LiveObject) error) {
		if id == "" {
			return
		}
		o := LiveObject{Kind: kind, ID: id, Fields: []Compared{}}
		if err := read(&o); err != nil {
			o.Problem = "Stripe cannot be asked about it now. Try again in a moment."
			if e, ok := asStripe(err); ok && e.HTTPStatusCode == http.StatusNotFound {
				o.Problem = "Stripe has no such object."
			}
			b.cfg.Logger.WarnContext(ctx, "an object of a payment cannot be read", slog.String("object", id), slog.Any("error", err))
		}
		objects = append(objects, o)
	}
	if p.Type == TypeRefund {
		refund, err := b.refundOfRow(ctx, p.ID)
		if err != nil {
			return nil, err
		}
		look("refund", refund.RefundID, func(o *LiveObject) error { return b.compareRefund(ctx, o, refund) })
		return objects, nil
	}
	look("payment_intent", p.IntentID, func(o *LiveObject) error { return b.compareIntent(ctx, o, p, customer) })
	look("charge", p.ChargeID, func(o *LiveObject) error { return b.compareCharge(ctx, o, p) })
	look("invoice", p.InvoiceID, func(o *LiveObject) error { return b.compareInvoice(ctx, o, p, customer) })
	if s, err := b.FindSubscription(ctx, p.Account); err == nil && s.ID == p.SubscriptionID {
		look("subscription", s.ID, func(o *LiveObject) error { return b.compareSubscription(ctx, o, s) })
	} else if err != nil && !errors.Is(err, ErrNoSubscription) {
		return nil, err
	}
	return objects, nil
}

// paid says whether the money is there.
func paid(yes bool) string {
	if yes {
		return "paid"
	}
	return "not paid"
}

func (b *Billing) compareIntent(ctx context.Context, o *LiveObject, p Payment, customer string) error {
	pi, err := b.fetchIntent(ctx, o.ID)
	if err != nil {
		return err
	}
	live, charge := "", ""
	if pi.Customer != nil {
		live = pi.Customer.ID
	}
	if pi.LatestCharge != nil {
		charge = pi.LatestCharge.ID
	}
	succeeded := pi.Status == stripe.PaymentIntentStatusSucceeded
	amount := pi.Amount
	if succeeded {
		amount = pi.AmountReceived
	}
	o.compare("state", paid(p.Kept()), paid(succeeded))
	o.compare("amount", p.Price.String(), Money{amount, string(pi.Currency)}.String())
	o.compare("customer", customer, live)
	if p.ChargeID != "" {
		o.compare("charge", p.ChargeID, charge)
	}
	return nil
}

func (b *Billing) compareCharge(ctx context.Context, o *LiveObject, p Payment) error {
	params := &stripe.ChargeParams{}
	params.Context = ctx
	charge, err := b.cfg.Stripe.Charges.Get(o.ID, params)
	if err != nil {
		return err
	}
	o.compare("state", paid(p.Kept()), paid(charge.Paid && charge.Captured))
	o.compare("amount", p.Price.String(), Money{charge.Amount, string(charge.Currency)}.String())
	o.compare("refunded", p.RefundedMoney().String(), Money{charge.AmountRefunded, string(charge.Currency)}.String())
	return nil
}

func (b *Billing) compareInvoice(ctx context.Context, o *LiveObject, p Payment, customer string) error {
	inv, err := b.readInvoice(ctx, o.ID)
	if err != nil {
		return err
	}
	live, subscription := "", ""
	if inv.Customer != nil {
		live = inv.Customer.ID
	}
	if inv.Subscription != nil {
		subscription = inv.Subscription.ID
	}
	isPaid := inv.Status == stripe.InvoiceStatusPaid
	amount := inv.AmountDue
	if isPaid {
		amount = inv.AmountPaid
	}
	o.compare("state", paid(p.Kept()), paid(isPaid))
	o.compare("amount", p.Price.String(), Money{amount, string(inv.Currency)}.String())
	o.compare("customer", customer, live)
	o.compare("subscription", p.SubscriptionID, subscription)
	return nil
}

func (b *Billing) compareSubscription(ctx context.Context, o *LiveObject, s Subscription) error {
	params := &stripe.SubscriptionParams{}
	params.Context = ctx
	live, err := b.cfg.Stripe.Subscriptions.Get(o.ID, params)
	if err != nil {
		return err
	}
	price := ""
	if live.Items != nil && len(live.Items.Data) > 0 && live.Items.Data[0].Price != nil {
		price = live.Items.Data[0].Price.ID
	}
	o.compare("status", string(s.Status), string(live.Status))
	o.compare("price", s.Plan.PriceID, price)
	o.compare("ends with the period", fmt.Sprint(s.CancelAtPeriodEnd), fmt.Sprint(live.CancelAtPeriodEnd))
	return nil
}

func (b *Billing) compareRefund(ctx context.Context, o *LiveObject, r Refund) error {
	live, err := b.fetchRefund(ctx, o.ID)
	if err != nil {
		return err
	}
	o.compare("status", string(r.Status), string(live.Status))
	o.compare("amount", r.Price.String(), Money{live.Amount, string(live.Currency)}.String())
	return nil
}

// refundOfRow is the refund that a row of the history of payments is of; [ErrNotFound] when there is none.
func (b *Billing) refundOfRow(ctx context.Context, row uuid.UUID) (Refund, error) {
	var rows []refundRow
	if err := b.db.Select(ctx, &rows, `SELECT `+refundColumns+` FROM qs_billing_refunds WHERE row_id = ?`, row); err != nil {
		return Refund{}, fmt.Errorf("billing: refund of payment %s: %w", row, err)
	}
	if len(rows) == 0 {
		return Refund{}, ErrNotFound
	}
	return rows[0].refund(), nil
}
