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

// Register adds billing's handlers to the processor of Stripe's events: the end of checkouts, and changes of the
// catalogue. Each reads its object afresh.
func (b *Billing) Register(p *webhook.Processor) {
	session := webhook.WithFetch(b.fetchSession)
	for _, kind := range []stripe.EventType{
		stripe.EventTypeCheckoutSessionCompleted, stripe.EventTypeCheckoutSessionAsyncPaymentSucceeded,
		stripe.EventTypeCheckoutSessionAsyncPaymentFailed, stripe.EventTypeCheckoutSessionExpired,
	} {
		webhook.On(p, string(kind), b.onSession, session)
	}
	product := webhook.WithFetch(func(ctx context.Context, id string) (*stripe.Product, error) {
		params := &stripe.ProductParams{}
		params.Context = ctx
		return b.cfg.Stripe.Products.Get(id, params)
	})
	for _, kind := range []stripe.EventType{stripe.EventTypeProductCreated, stripe.EventTypeProductUpdated} {
		webhook.On(p, string(kind), func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.Product]) error {
			return b.saveProduct(ctx, tx, ev.Object)
		}, product)
	}
	price := webhook.WithFetch(func(ctx context.Context, id string) (*stripe.Price, error) {
		params := &stripe.PriceParams{}
		params.Context = ctx
		return b.cfg.Stripe.Prices.Get(id, params)
	})
	for _, kind := range []stripe.EventType{stripe.EventTypePriceCreated, stripe.EventTypePriceUpdated} {
		webhook.On(p, string(kind), func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.Price]) error {
			return b.savePrice(ctx, tx, ev.Object)
		}, price)
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
	return b.cfg.Stripe.CheckoutSessions.Get(id, params)
}

// onSession brings a checkout to the state of its session. What the event is called does not matter.
func (b *Billing) onSession(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
	s := ev.Object
	id, err := uuid.Parse(s.ClientReferenceID)
	if err != nil {
		b.cfg.Logger.InfoContext(ctx, "checkout session is not ours", slog.String("session", s.ID))
		return nil //nolint:nilerr // what another application sells is no failure of ours
	}
	var row checkoutRow
	err = b.db.GetTx(ctx, tx, &row, `SELECT `+checkoutColumns+` FROM qs_billing_checkouts WHERE id = ?`+b.db.Dialect().ForUpdate(), id)
	if database.IsNoRows(err) {
		b.cfg.Logger.InfoContext(ctx, "checkout session is not ours", slog.String("session", s.ID))
		return nil
	}
	if err != nil {
		return fmt.Errorf("billing: lock checkout %s: %w", id, err)
	}
	if row.SessionID != nil && *row.SessionID != s.ID {
		return webhook.Permanent(fmt.Errorf("billing: session %s names checkout %s, which is of session %s", s.ID, id, *row.SessionID))
	}
	c := row.checkout()
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
	case s.PaymentIntent != nil && s.PaymentIntent.Status == stripe.PaymentIntentStatusRequiresPaymentMethod:
		c.Status = CheckoutFailed
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

// fulfil grants the credits and writes the payment, once per session: the checkout is locked, and the ledger's key and
// the payment's unique columns stand behind that lock.
func (b *Billing) fulfil(ctx context.Context, tx *sqlx.Tx, c Checkout, s *stripe.CheckoutSession) error {
	entry, err := b.cfg.Ledger.GrantTx(ctx, tx, credits.GrantParams{
		Account: c.Account, Amount: c.Credits, Source: credits.Purchase, Reason: "Purchase: " + c.Name, Reference: s.ID,
		IdempotencyKey: "stripe:cs:" + s.ID + ":fulfil",
	})
	if err != nil {
		return fmt.Errorf("billing: grant for checkout %s: %w", c.ID, err)
	}
	p := paymentRow{Account: c.Account, CheckoutID: c.ID, Amount: s.AmountTotal, Currency: string(s.Currency), Credits: c.Credits, Description: c.Name,
		SessionID: s.ID, EntryID: entry.ID}
	if pi := s.PaymentIntent; pi != nil {
		p.IntentID = &pi.ID
		if pi.LatestCharge != nil {
			p.ChargeID, p.ReceiptURL = pi.LatestCharge.ID, pi.LatestCharge.ReceiptURL
		}
	}
	if err := b.insertPayment(ctx, tx, p); err != nil {
		return err
	}
	c.Status = CheckoutPaid
	return b.move(ctx, tx, c)
}
