package billing

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/webhook"
)

// Register adds billing's handlers to the processor of Stripe's events: the end of checkouts, changes of the catalogue,
// subscriptions and their invoices, top-ups, refunds and disputes. Each reads its object afresh.
func (b *Billing) Register(p *webhook.Processor) {
	session := webhook.WithFetch(b.fetchSession)
	for _, kind := range []stripe.EventType{
		stripe.EventTypeCheckoutSessionCompleted, stripe.EventTypeCheckoutSessionAsyncPaymentSucceeded,
		stripe.EventTypeCheckoutSessionAsyncPaymentFailed, stripe.EventTypeCheckoutSessionExpired,
	} {
		webhook.On(p, string(kind), b.onSession, session)
	}
	product := webhook.WithFetch(b.fetchProduct)
	for _, kind := range []stripe.EventType{stripe.EventTypeProductCreated, stripe.EventTypeProductUpdated} {
		webhook.On(p, string(kind), func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.Product]) error {
			return b.saveProduct(ctx, tx, ev.Object, b.now())
		}, product)
	}
	price := webhook.WithFetch(b.fetchPrice)
	for _, kind := range []stripe.EventType{stripe.EventTypePriceCreated, stripe.EventTypePriceUpdated} {
		webhook.On(p, string(kind), func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.Price]) error {
			return b.savePrice(ctx, tx, ev.Object, b.now())
		}, price)
	}
	subscription := webhook.WithFetch(b.fetchSubscription)
	for _, kind := range []stripe.EventType{
		stripe.EventTypeCustomerSubscriptionCreated, stripe.EventTypeCustomerSubscriptionUpdated, stripe.EventTypeCustomerSubscriptionDeleted,
		stripe.EventTypeCustomerSubscriptionPaused, stripe.EventTypeCustomerSubscriptionResumed,
		stripe.EventTypeCustomerSubscriptionPendingUpdateApplied, stripe.EventTypeCustomerSubscriptionPendingUpdateExpired,
	} {
		webhook.On(p, string(kind), b.onSubscription, subscription)
	}
	invoice := webhook.WithFetch(b.fetchInvoice)
	for _, kind := range []stripe.EventType{
		stripe.EventTypeInvoicePaid, stripe.EventTypeInvoicePaymentFailed, stripe.EventTypeInvoicePaymentActionRequired, stripe.EventTypeInvoiceVoided,
		stripe.EventTypeInvoiceMarkedUncollectible,
	} {
		webhook.On(p, string(kind), b.onInvoice, invoice)
	}
	intent := webhook.WithFetch(b.fetchIntent)
	for _, kind := range []stripe.EventType{
		stripe.EventTypePaymentIntentSucceeded, stripe.EventTypePaymentIntentPaymentFailed, stripe.EventTypePaymentIntentCanceled,
	} {
		webhook.On(p, string(kind), b.onIntent, intent)
	}
	webhook.On(p, string(stripe.EventTypeChargeRefunded), b.onCharge, webhook.WithFetch(b.fetchCharge))
	webhook.On(p, string(stripe.EventTypeChargeRefundUpdated), b.onRefund, webhook.WithFetch(b.fetchRefund))
	dispute := webhook.WithFetch(b.fetchDispute)
	for _, kind := range []stripe.EventType{
		stripe.EventTypeChargeDisputeCreated, stripe.EventTypeChargeDisputeUpdated, stripe.EventTypeChargeDisputeFundsWithdrawn,
		stripe.EventTypeChargeDisputeFundsReinstated, stripe.EventTypeChargeDisputeClosed,
	} {
		webhook.On(p, string(kind), b.onDispute, dispute)
	}
	// What was deleted cannot be read afresh.
	webhook.On(p, string(stripe.EventTypeProductDeleted), func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.Product]) error {
		return b.retire(ctx, tx, `UPDATE qs_billing_products SET active = ?, updated_at = ? WHERE id = ?`, ev.ObjectID)
	})
	webhook.On(p, string(stripe.EventTypePriceDeleted), func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.Price]) error {
		return b.retire(ctx, tx, `UPDATE qs_billing_prices SET active = ?, updated_at = ? WHERE id = ?`, ev.ObjectID)
	})
}

func (b *Billing) retire(ctx context.Context, tx *sqlx.Tx, update, id string) error {
	if _, err := b.db.ExecTx(ctx, tx, update, false, database.At(b.now()), id); err != nil {
		return fmt.Errorf("billing: retire %s: %w", id, err)
	}
	return nil
}

func (b *Billing) fetchSession(ctx context.Context, id string) (*stripe.CheckoutSession, error) {
	params := &stripe.CheckoutSessionParams{}
	params.Context = ctx
	params.AddExpand("payment_intent.latest_charge")
	params.AddExpand("invoice.payment_intent") // a plan's session has no payment intent of its own
	return b.cfg.Stripe.CheckoutSessions.Get(id, params)
}

// refusedLater tells that the money of a completed session, which was to come later, does not come.
func refusedLater(s *stripe.CheckoutSession) bool {
	intent := s.PaymentIntent
	if intent == nil && s.Invoice != nil {
		intent = s.Invoice.PaymentIntent
	}
	return intent != nil && (intent.Status == stripe.PaymentIntentStatusRequiresPaymentMethod || intent.Status == stripe.PaymentIntentStatusCanceled)
}

// onSession brings a checkout to the state of its session. What the event is called does not matter.
func (b *Billing) onSession(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
	return b.settle(ctx, tx, ev.Object)
}

// SyncCheckout takes over what an account's checkout has become without waiting for the webhook, and returns it. The
// page after a checkout calls it; whether it or the webhook comes first, there is one effect. The errors are
// [ErrNotFound] and [ErrStripe].
func (b *Billing) SyncCheckout(ctx context.Context, account, session string) (Checkout, error) {
	c, err := b.FindCheckout(ctx, account, session)
	if err != nil || c.Status == CheckoutPaid || c.Status == CheckoutExpired {
		return c, err
	}
	s, err := b.fetchSession(ctx, session)
	if err != nil {
		return c, stripeError("read session "+session, err)
	}
	if err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.settle(ctx, tx, s) }); err != nil {
		return c, err
	}
	if s.Subscription != nil {
		if err := b.syncSubscription(ctx, s.Subscription.ID); err != nil {
			return c, err
		}
	}
	if s.Invoice != nil {
		if err := b.syncInvoice(ctx, s.Invoice.ID); err != nil {
			return c, err
		}
	}
	return b.FindCheckout(ctx, account, session)
}

func (b *Billing) settle(ctx context.Context, tx *sqlx.Tx, s *stripe.CheckoutSession) error {
	id, err := uuid.Parse(s.ClientReferenceID)
	if err != nil {
		b.cfg.Logger.InfoContext(ctx, "checkout session is not ours", slog.String("session", s.ID))
		return nil //nolint:nilerr // what another application sells is no failure of ours
	}
	c, found, err := b.findCheckoutTx(ctx, tx, `id = ?`, id)
	if err != nil {
		return err
	}
	if !found && s.Metadata["account"] != "" && s.PaymentStatus == stripe.CheckoutSessionPaymentStatusPaid {
		// Ours and paid, and the row is gone, as after a restored backup: a person has to look.
		return webhook.Permanent(fmt.Errorf("billing: session %s is paid and its checkout %s is not known", s.ID, id))
	}
	if !found {
		b.cfg.Logger.InfoContext(ctx, "checkout session is not ours", slog.String("session", s.ID))
		return nil
	}
	if c.Status == CheckoutPaid && c.SessionID == s.ID {
		return nil // that is its end: without a lock there is nothing that a disk would have to wait for
	}
	if err := b.lockAccount(ctx, tx, c.Account); err != nil {
		return err
	}
	if c, _, err = b.findCheckoutTx(ctx, tx, `id = ?`, id); err != nil { // as it is under the lock
		return err
	}
	if c.SessionID != "" && c.SessionID != s.ID && s.Status != stripe.CheckoutSessionStatusComplete {
		return nil // one whose making Stripe answered with an error: nobody knows its page
	}
	if c.SessionID != "" && c.SessionID != s.ID {
		return webhook.Permanent(fmt.Errorf("billing: session %s names checkout %s, which is of session %s", s.ID, id, c.SessionID))
	}
	c.SessionID = s.ID
	if c.Status == CheckoutPaid {
		return nil
	}
	switch {
	case s.Status == stripe.CheckoutSessionStatusExpired:
		c.Status = CheckoutExpired
	case s.Status != stripe.CheckoutSessionStatusComplete:
		return nil
	case s.PaymentStatus == stripe.CheckoutSessionPaymentStatusPaid, s.PaymentStatus == stripe.CheckoutSessionPaymentStatusNoPaymentRequired:
		return b.fulfil(ctx, tx, c, s)
	case refusedLater(s):
		c.Status = CheckoutFailed
	case c.Status == CheckoutFailed: // a picture that is older
		return nil
	default:
		c.Status = CheckoutWaiting
	}
	return b.move(ctx, tx, c)
}

// move writes a checkout's new status.
func (b *Billing) move(ctx context.Context, tx *sqlx.Tx, c Checkout) error {
	const update = `UPDATE qs_billing_checkouts SET status = ?, session_id = ?, url = '', updated_at = ? WHERE id = ?`
	if _, err := b.db.ExecTx(ctx, tx, update, c.Status, c.SessionID, database.At(b.now()), c.ID); err != nil {
		return fmt.Errorf("billing: move checkout %s: %w", c.ID, err)
	}
	b.log(ctx, "checkout moved", c)
	return nil
}

// fulfil ends a checkout that is paid. A pack's credits are granted and its payment is written, once per session: the
// account is locked, and the ledger's key and the payment's unique columns stand behind that lock. A plan's come with
// its invoices.
func (b *Billing) fulfil(ctx context.Context, tx *sqlx.Tx, c Checkout, s *stripe.CheckoutSession) error {
	c.Status = CheckoutPaid
	if c.Mode == ModeSubscription {
		return b.move(ctx, tx, c)
	}
	p := paymentRow{Account: c.Account, Type: TypePurchase, CheckoutID: &c.ID, Amount: s.AmountTotal, Currency: string(s.Currency), Credits: c.Credits,
		Description: c.Name, SessionID: &s.ID}
	if c.Quantity > 1 {
		p.Description = fmt.Sprintf("%d × %s", c.Quantity, c.Name)
	}
	if s.PaymentIntent != nil {
		p.paidBy(s.PaymentIntent)
	}
	if _, err := b.deliver(ctx, tx, p, s.ID, "stripe:cs:"+s.ID+":fulfil"); err != nil {
		return err
	}
	return b.move(ctx, tx, c)
}

// deliver grants the credits of a purchase whose money is there, and writes its payment.
func (b *Billing) deliver(ctx context.Context, tx *sqlx.Tx, p paymentRow, reference, key string) (paymentRow, error) {
	entry, err := b.cfg.Ledger.GrantTx(ctx, tx, credits.GrantParams{
		Account: p.Account, Amount: p.Credits, Source: credits.Purchase, Reason: "Purchase: " + p.Description, Reference: reference, IdempotencyKey: key,
	})
	if err != nil {
		return p, fmt.Errorf("billing: grant for %s: %w", reference, err)
	}
	p.Status, p.EntryID = PaymentSucceeded, &entry.ID
	if p, err = b.insertPayment(ctx, tx, p); err != nil {
		return p, err
	}
	return p, b.tellPaid(ctx, tx, p)
}

// paidBy notes the payment intent and its charge.
func (r *paymentRow) paidBy(pi *stripe.PaymentIntent) {
	r.IntentID = &pi.ID
	if pi.LatestCharge != nil {
		r.ChargeID, r.ReceiptURL = pi.LatestCharge.ID, pi.LatestCharge.ReceiptURL
	}
}
