package billing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/webhook"
)

// invoicePicture is an invoice as Stripe has it, with the paid ones of its subscription that we have not heard of and that
// were paid before it, in that order.
type invoicePicture struct {
	*stripe.Invoice

	before []*stripe.Invoice
}

// fetchInvoice reads an invoice. What it does to the credits depends on those that were paid before it, whose webhooks may
// come later or not at all: they are read with it.
func (b *Billing) fetchInvoice(ctx context.Context, id string) (*invoicePicture, error) {
	inv, err := b.readInvoice(ctx, id)
	if err != nil {
		return nil, err
	}
	picture := &invoicePicture{Invoice: inv}
	if inv.Status != stripe.InvoiceStatusPaid || inv.Subscription == nil || inv.BillingReason == stripe.InvoiceBillingReasonSubscriptionCreate {
		return picture, nil
	}
	var known []string
	// Runs along qs_billing_payments_account. From the writer: a reader may be behind.
	const find = `SELECT p.invoice_id FROM qs_billing_payments p JOIN qs_billing_customers c ON c.account_id = p.account_id
		WHERE c.customer_id = ? AND p.subscription_id = ? AND p.status IN ('succeeded', 'partially_refunded', 'refunded') AND p.invoice_id IS NOT NULL`
	if err := b.db.Writer().SelectContext(ctx, &known, b.db.Rebind(find), inv.Customer.ID, inv.Subscription.ID); err != nil {
		return nil, fmt.Errorf("billing: invoices of subscription %s: %w", inv.Subscription.ID, err)
	}
	if slices.Contains(known, id) {
		return picture, nil
	}
	params := &stripe.InvoiceListParams{Subscription: &inv.Subscription.ID, Status: stripe.String(string(stripe.InvoiceStatusPaid)),
		ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(10)}}
	list := b.cfg.Stripe.Invoices.List(params)
	for list.Next() {
		other := list.Invoice()
		if slices.Contains(known, other.ID) {
			break // and so are those before it
		}
		if paidAt(other) >= paidAt(inv) {
			continue
		}
		if other, err = b.readInvoice(ctx, other.ID); err != nil {
			return nil, err
		}
		picture.before = append(picture.before, other)
	}
	if err := list.Err(); err != nil {
		return nil, stripeError("list the invoices of subscription "+inv.Subscription.ID, err)
	}
	slices.SortStableFunc(picture.before, func(x, y *stripe.Invoice) int { return cmp.Compare(paidAt(x), paidAt(y)) })
	return picture, nil
}

// paidAt is when an invoice was paid, in Unix time; 0: it is not.
func paidAt(inv *stripe.Invoice) int64 {
	if inv.StatusTransitions == nil {
		return 0
	}
	return inv.StatusTransitions.PaidAt
}

func (b *Billing) readInvoice(ctx context.Context, id string) (*stripe.Invoice, error) {
	params := &stripe.InvoiceParams{}
	params.Context = ctx
	params.AddExpand("charge")
	params.AddExpand("subscription")
	inv, err := b.cfg.Stripe.Invoices.Get(id, params)
	if err != nil {
		return nil, stripeError("read invoice "+id, err)
	}
	if inv.Lines != nil && inv.Lines.HasMore {
		lines := b.cfg.Stripe.Invoices.ListLines(&stripe.InvoiceListLinesParams{
			ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}, Invoice: &id,
		})
		inv.Lines.Data = nil
		for lines.Next() {
			inv.Lines.Data = append(inv.Lines.Data, lines.InvoiceLineItem())
		}
		if err := lines.Err(); err != nil {
			return nil, stripeError("read the lines of invoice "+id, err)
		}
	}
	for _, line := range linesOf(inv) {
		if line.Price != nil {
			if err := b.knowPrice(ctx, line.Price.ID); err != nil {
				return nil, err
			}
		}
	}
	return inv, nil
}

func linesOf(inv *stripe.Invoice) []*stripe.InvoiceLineItem {
	if inv.Lines == nil {
		return nil
	}
	return inv.Lines.Data
}

// syncInvoice takes over an invoice without waiting for its webhook.
func (b *Billing) syncInvoice(ctx context.Context, id string) error {
	inv, err := b.fetchInvoice(ctx, id)
	if err != nil {
		return err
	}
	return b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.saveInvoices(ctx, tx, inv) })
}

func (b *Billing) onInvoice(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[invoicePicture]) error {
	return b.saveInvoices(ctx, tx, ev.Object)
}

func (b *Billing) saveInvoices(ctx context.Context, tx *sqlx.Tx, p *invoicePicture) error {
	for _, inv := range append(slices.Clone(p.before), p.Invoice) {
		if err := b.saveInvoice(ctx, tx, inv); err != nil {
			return err
		}
	}
	return nil
}

// saveInvoice keeps the payment of an invoice, and grants what it paid for. An invoice that is paid stays so, whatever
// older pictures say.
func (b *Billing) saveInvoice(ctx context.Context, tx *sqlx.Tx, inv *stripe.Invoice) error {
	var metadata map[string]string
	if inv.SubscriptionDetails != nil {
		metadata = inv.SubscriptionDetails.Metadata
	}
	account, err := b.accountOf(ctx, tx, inv.Customer, metadata)
	if err != nil {
		return err
	}
	if account == "" {
		b.cfg.Logger.InfoContext(ctx, "invoice is not ours", slog.String("invoice", inv.ID))
		return nil
	}
	if p, _, err := b.paymentTx(ctx, tx, `invoice_id = ?`, inv.ID); err != nil || p.payment().Kept() {
		return err // without a lock, since what was paid stays so
	}
	if err := b.lockAccount(ctx, tx, account); err != nil {
		return err
	}
	p, found, err := b.paymentTx(ctx, tx, `invoice_id = ?`, inv.ID) // as it is under the lock
	if err != nil || p.payment().Kept() {
		return err
	}
	switch {
	case inv.Status == stripe.InvoiceStatusPaid:
		return b.paidInvoice(ctx, tx, account, p, inv)
	case inv.Status == stripe.InvoiceStatusOpen && inv.AttemptCount > p.Attempts:
		p.Status, p.Attempts = PaymentFailed, inv.AttemptCount
		notice := Notice{Kind: NoticePaymentFailed, Account: account, Price: Money{inv.AmountRemaining, string(inv.Currency)},
			URL: inv.HostedInvoiceURL, Key: fmt.Sprintf("stripe:invoice:%s:attempt:%d", inv.ID, inv.AttemptCount)}
		if p, err = b.keepInvoice(ctx, tx, account, p, inv); err != nil {
			return err
		}
		notice.Description = p.Description
		return b.notify(ctx, tx, notice)
	case (found || inv.AttemptCount > 0) && (inv.Status == stripe.InvoiceStatusVoid || inv.Status == stripe.InvoiceStatusUncollectible):
		p.Attempts = inv.AttemptCount
		p.Status = PaymentCanceled
		_, err = b.keepInvoice(ctx, tx, account, p, inv)
	}
	return err
}

// keepInvoice writes an invoice's payment, which is there already when it has an id.
func (b *Billing) keepInvoice(ctx context.Context, tx *sqlx.Tx, account string, p paymentRow, inv *stripe.Invoice) (paymentRow, error) {
	p.Account, p.InvoiceID, p.InvoiceURL = account, &inv.ID, inv.HostedInvoiceURL
	p.Amount, p.Currency = inv.AmountDue, string(inv.Currency)
	if p.Status == PaymentSucceeded {
		p.Amount = inv.AmountPaid
	}
	if inv.Subscription != nil {
		p.SubscriptionID = &inv.Subscription.ID
	}
	if inv.PaymentIntent != nil {
		p.IntentID = &inv.PaymentIntent.ID
	}
	if inv.Charge != nil {
		p.ChargeID, p.ReceiptURL = inv.Charge.ID, inv.Charge.ReceiptURL
	}
	switch inv.BillingReason {
	case stripe.InvoiceBillingReasonSubscriptionCreate, stripe.InvoiceBillingReasonSubscriptionCycle:
		p.Type = TypeSubscription
	case stripe.InvoiceBillingReasonSubscriptionUpdate:
		p.Type = TypePlanChange
	default:
		p.Type = TypeInvoice
	}
	p.Description = "Invoice " + inv.Number
	if line := newPlanLine(inv); line != nil {
		offer, err := b.offerTx(ctx, tx, line.Price.ID)
		if err != nil {
			return p, err
		}
		if offer.Name != "" {
			p.Description = offer.Name
			if p.Type == TypePlanChange {
				p.Description = "Change to " + offer.Name
			}
		}
	}
	if p.ID == uuid.Nil {
		return b.insertPayment(ctx, tx, p)
	}
	return p, b.updatePayment(ctx, tx, p)
}

// paidInvoice grants what an invoice paid for, once: the account is locked, the payment's row has the invoice's id, and
// the ledger has its key.
func (b *Billing) paidInvoice(ctx context.Context, tx *sqlx.Tx, account string, p paymentRow, inv *stripe.Invoice) error {
	g, err := b.invoiceGrant(ctx, tx, inv)
	if err != nil {
		return err
	}
	p.Status = PaymentSucceeded
	if inv.BillingReason == stripe.InvoiceBillingReasonSubscriptionUpdate && g.reason != "" {
		at := b.now()
		if paid := paidAt(inv); paid > 0 {
			at = time.Unix(paid, 0)
		}
		if err := b.applyPolicy(ctx, tx, account, inv.ID, "stripe:invoice:"+inv.ID, at); err != nil {
			return err
		}
	}
	if g.amount > 0 {
		entry, err := b.cfg.Ledger.GrantTx(ctx, tx, credits.GrantParams{
			Account: account, Amount: g.amount, Source: credits.Subscription, Reason: g.reason, ExpiresAt: &g.expires, Reference: inv.ID,
			IdempotencyKey: "stripe:invoice:" + inv.ID + ":grant",
		})
		expires := database.At(g.expires)
		p.Credits, p.CreditsExpire = g.amount, &expires
		switch {
		case errors.Is(err, credits.ErrAlreadyExpired):
			// We hear of it after its period: there is nothing left to use.
			b.cfg.Logger.WarnContext(ctx, "an invoice's credits have expired before they were granted", slog.String("invoice", inv.ID), slog.String("account", account))
		case err != nil:
			return fmt.Errorf("billing: grant for invoice %s: %w", inv.ID, err)
		default:
			p.EntryID = &entry.ID
		}
	}
	if inv.Total == 0 && p.Credits == 0 { // the start of a trial without credits is no payment
		return nil
	}
	if p, err = b.keepInvoice(ctx, tx, account, p, inv); err != nil {
		return err
	}
	if err := b.tellPaid(ctx, tx, p); err != nil {
		return err
	}
	if err := b.paidThrough(ctx, tx, inv); err != nil {
		return fmt.Errorf("billing: what invoice %s pays for: %w", inv.ID, err)
	}
	b.cfg.Logger.InfoContext(ctx, "invoice paid", slog.String("invoice", inv.ID), slog.String("account", account), slog.String("reason", string(inv.BillingReason)),
		slog.String("credits", p.Credits.String()))
	return nil
}

// grant is what an invoice gives.
type grant struct {
	amount  credits.Amount
	expires time.Time
	reason  string
}

// invoiceGrant reckons what an invoice gives: the plan's credits for the first and every further period, whatever
// prorations it has besides, and for a change of plan what the policy says.
func (b *Billing) invoiceGrant(ctx context.Context, tx *sqlx.Tx, inv *stripe.Invoice) (grant, error) {
	switch inv.BillingReason {
	case stripe.InvoiceBillingReasonSubscriptionCreate, stripe.InvoiceBillingReasonSubscriptionCycle:
	case stripe.InvoiceBillingReasonSubscriptionUpdate:
		return b.changeOf(ctx, tx, inv)
	default:
		return grant{}, nil
	}
	line := planLine(inv)
	if line == nil {
		return grant{}, nil
	}
	offer, err := b.offerTx(ctx, tx, line.Price.ID)
	if err != nil {
		return grant{}, err
	}
	g := grant{amount: offer.Credits, expires: periodEnd(inv, line, offer), reason: "Plan: " + offer.Name}
	if isTrial(inv, line) {
		g.amount, g.reason = offer.TrialCredits, "Trial: "+offer.Name
	}
	if g.amount, err = g.amount.Mul(line.Quantity); err != nil {
		return grant{}, fmt.Errorf("billing: credits of invoice %s: %w", inv.ID, err)
	}
	return g, nil
}

// planLine is the line that pays for a period of a plan.
func planLine(inv *stripe.Invoice) *stripe.InvoiceLineItem {
	for _, line := range linesOf(inv) {
		if line.Type == stripe.InvoiceLineItemTypeSubscription && !line.Proration && line.Price != nil {
			return line
		}
	}
	return nil
}

// newPlanLine is the line about the plan that an invoice is for, which after a change may be a proration.
func newPlanLine(inv *stripe.Invoice) *stripe.InvoiceLineItem {
	if line := planLine(inv); line != nil {
		return line
	}
	c, _ := sumChange(inv)
	return c.line
}

// isTrial tells that a line is for a trial: nothing was to pay, and its period ends with the trial.
func isTrial(inv *stripe.Invoice, line *stripe.InvoiceLineItem) bool {
	return line.Amount == 0 && line.Period != nil && inv.Subscription != nil && inv.Subscription.TrialEnd != 0 && line.Period.End <= inv.Subscription.TrialEnd
}

// periodEnd is when the credits of a line expire. Where Stripe names no end, 31 days are taken for plans that are not
// yearly, and 365 for those that are.
func periodEnd(inv *stripe.Invoice, line *stripe.InvoiceLineItem, offer Offer) time.Time {
	if line.Period != nil && line.Period.End > 0 {
		return time.Unix(line.Period.End, 0).UTC()
	}
	days := 31
	if offer.Interval == "year" {
		days = 365
	}
	return time.Unix(inv.Created, 0).UTC().AddDate(0, 0, days)
}
