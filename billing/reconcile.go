package billing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/database"
)

// Stripe keeps events for 30 days (docs.stripe.com/api/events); a day of it is left for a run that takes long. The
// overlap is for clocks that differ, and for events that are listed late.
const (
	eventsKept       = 29 * 24 * time.Hour
	reconcileOverlap = time.Hour
)

// The kinds of objects that are reconciled, in the order in which they are: a refund needs its payment, and that its
// checkout.
const (
	kindSession      = "checkout.session"
	kindSubscription = "subscription"
	kindInvoice      = "invoice"
	kindRefund       = "refund"
	kindDispute      = "dispute"
)

var reconciled = []string{kindSession, kindSubscription, kindInvoice, kindRefund, kindDispute}

// Repair is an object that we held differently from Stripe, or not at all.
type Repair struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
	// Before and After are what we held, empty for nothing.
	Before string `json:"before"`
	After  string `json:"after"`
}

// Failure is an object that could not be reconciled.
type Failure struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
	Err  error  `json:"-"`
}

// Reconciliation is what a run did.
type Reconciliation struct {
	ID uuid.UUID `json:"id"`
	// Since is where it began; zero: all objects that Stripe has were walked.
	Since    time.Time `json:"since"`
	Checked  int       `json:"checked"`
	Repaired []Repair  `json:"repaired"`
	Failed   []Failure `json:"failed"`
}

// Reconcile walks what has changed in Stripe since the last run that failed nowhere, as its events tell, delivered or not,
// and on the first run and after a month without one all objects. Each is read afresh and taken over by the same code as
// a webhook's, so that nothing happens twice. The error is about the run as a whole; objects that failed are in the report,
// and the next run begins where this one did. Several runs at once do no harm.
func (b *Billing) Reconcile(ctx context.Context) (Reconciliation, error) {
	started := b.now()
	r := Reconciliation{}
	var err error
	if r.ID, err = uuid.NewV7(); err != nil {
		return r, fmt.Errorf("billing: make an id: %w", err)
	}
	if r.Since, err = b.reconciledUntil(ctx, started); err != nil {
		return r, err
	}
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := b.db.ExecTx(ctx, tx, `INSERT INTO qs_billing_reconciliations (id, started_at) VALUES (?, ?)`, r.ID, database.At(started))
		return err
	})
	if err != nil {
		return r, fmt.Errorf("billing: begin a reconciliation: %w", err)
	}
	if err := b.SyncCatalogue(ctx); err != nil {
		return r, err
	}
	find := b.changedObjects
	if r.Since.IsZero() {
		find = b.allObjects
	}
	objects, err := find(ctx, r.Since)
	if err != nil {
		return r, err
	}
	for _, kind := range reconciled {
		// Stripe lists the newest first, and what came first is taken over first: a subscription ends before the next begins.
		for _, id := range slices.Backward(objects[kind]) {
			if err := ctx.Err(); err != nil {
				return r, err
			}
			b.reconcile(ctx, &r, kind, id)
		}
	}
	return r, b.endReconciliation(ctx, r)
}

func (b *Billing) reconciledUntil(ctx context.Context, now time.Time) (time.Time, error) {
	var last []database.Time
	const find = `SELECT started_at FROM qs_billing_reconciliations WHERE finished_at IS NOT NULL ORDER BY started_at DESC LIMIT 1`
	if err := b.db.Select(ctx, &last, find); err != nil {
		return time.Time{}, fmt.Errorf("billing: the last reconciliation: %w", err)
	}
	if len(last) == 0 || now.Sub(last[0].Time) > eventsKept {
		return time.Time{}, nil
	}
	return last[0].Add(-reconcileOverlap), nil
}

func (b *Billing) endReconciliation(ctx context.Context, r Reconciliation) error {
	var finished *database.Time
	if len(r.Failed) == 0 {
		at := database.At(b.now())
		finished = &at
	}
	err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_reconciliations SET finished_at = ?, checked = ?, repaired = ?, failed = ? WHERE id = ?`,
			finished, r.Checked, len(r.Repaired), len(r.Failed), r.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("billing: end a reconciliation: %w", err)
	}
	b.cfg.Logger.InfoContext(ctx, "reconciled with Stripe", slog.Time("since", r.Since), slog.Int("checked", r.Checked),
		slog.Int("repaired", len(r.Repaired)), slog.Int("failed", len(r.Failed)))
	return nil
}

// objectIDs are ids by kind, each once, in the order in which they were found.
type objectIDs struct {
	ids  map[string][]string
	seen map[string]bool
}

func (o *objectIDs) add(kind, id string) {
	if id != "" && !o.seen[id] {
		o.seen[id] = true
		o.ids[kind] = append(o.ids[kind], id)
	}
}

func newObjectIDs() *objectIDs { return &objectIDs{map[string][]string{}, map[string]bool{}} }

// changedObjects are those that events since a time are about.
func (b *Billing) changedObjects(ctx context.Context, since time.Time) (map[string][]string, error) {
	found := newObjectIDs()
	events := b.cfg.Stripe.Events.List(&stripe.EventListParams{
		ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}, CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: since.Unix()},
	})
	for events.Next() {
		ev := events.Event()
		var object struct {
			ID     string `json:"id"`
			Object string `json:"object"`
		}
		if ev.Data == nil || json.Unmarshal(ev.Data.Raw, &object) != nil {
			continue // not one of ours: those have an id and say what they are
		}
		if object.Object == "charge" && strings.HasPrefix(string(ev.Type), "charge.refund") {
			if err := b.refundsOf(ctx, object.ID, found); err != nil {
				return nil, err
			}
		}
		for _, kind := range reconciled {
			if object.Object == kind {
				found.add(kind, object.ID)
			}
		}
	}
	if err := events.Err(); err != nil {
		return nil, stripeError("list events", err)
	}
	return found.ids, nil
}

func (b *Billing) refundsOf(ctx context.Context, charge string, found *objectIDs) error {
	if found.seen[charge] {
		return nil
	}
	found.seen[charge] = true
	refunds := b.cfg.Stripe.Refunds.List(&stripe.RefundListParams{ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}, Charge: &charge})
	for refunds.Next() {
		found.add(kindRefund, refunds.Refund().ID)
	}
	if err := refunds.Err(); err != nil {
		return stripeError("list the refunds of charge "+charge, err)
	}
	return nil
}

// allObjects are all that Stripe has.
func (b *Billing) allObjects(ctx context.Context, _ time.Time) (map[string][]string, error) {
	found := newObjectIDs()
	page := stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}
	sessions := b.cfg.Stripe.CheckoutSessions.List(&stripe.CheckoutSessionListParams{ListParams: page})
	for sessions.Next() {
		found.add(kindSession, sessions.CheckoutSession().ID)
	}
	subscriptions := b.cfg.Stripe.Subscriptions.List(&stripe.SubscriptionListParams{ListParams: page, Status: stripe.String("all")})
	for subscriptions.Next() {
		found.add(kindSubscription, subscriptions.Subscription().ID)
	}
	invoices := b.cfg.Stripe.Invoices.List(&stripe.InvoiceListParams{ListParams: page})
	for invoices.Next() {
		found.add(kindInvoice, invoices.Invoice().ID)
	}
	refunds := b.cfg.Stripe.Refunds.List(&stripe.RefundListParams{ListParams: page})
	for refunds.Next() {
		found.add(kindRefund, refunds.Refund().ID)
	}
	disputes := b.cfg.Stripe.Disputes.List(&stripe.DisputeListParams{ListParams: page})
	for disputes.Next() {
		found.add(kindDispute, disputes.Dispute().ID)
	}
	if err := errors.Join(sessions.Err(), subscriptions.Err(), invoices.Err(), refunds.Err(), disputes.Err()); err != nil {
		return nil, stripeError("list all objects", err)
	}
	return found.ids, nil
}

// reconcile takes one object over, and notes what that has changed.
func (b *Billing) reconcile(ctx context.Context, r *Reconciliation, kind, id string) {
	r.Checked++
	fail := func(err error) {
		b.cfg.Logger.ErrorContext(ctx, "not reconciled", slog.String("kind", kind), slog.String("id", id), slog.Any("error", err))
		r.Failed = append(r.Failed, Failure{kind, id, err})
	}
	before, err := b.held(ctx, kind, id)
	if err != nil {
		fail(err)
		return
	}
	if err := b.takeOver(ctx, kind, id); err != nil {
		fail(err)
		return
	}
	after, err := b.held(ctx, kind, id)
	if err != nil {
		fail(err)
		return
	}
	if before != after {
		b.cfg.Logger.WarnContext(ctx, "repaired", slog.String("kind", kind), slog.String("id", id), slog.String("before", before), slog.String("after", after))
		r.Repaired = append(r.Repaired, Repair{kind, id, before, after})
	}
}

func (b *Billing) takeOver(ctx context.Context, kind, id string) error {
	switch kind {
	case kindSession:
		s, err := b.fetchSession(ctx, id)
		if err != nil {
			return err
		}
		return b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.settle(ctx, tx, s) })
	case kindSubscription:
		return b.syncSubscription(ctx, id)
	case kindInvoice:
		return b.syncInvoice(ctx, id)
	case kindRefund:
		r, err := b.fetchRefund(ctx, id)
		if err != nil {
			return err
		}
		return b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.saveRefund(ctx, tx, r) })
	default:
		d, err := b.fetchDispute(ctx, id)
		if err != nil {
			return err
		}
		return b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.saveDispute(ctx, tx, d) })
	}
}

// holding reads, by kind, what we hold of an object: the facts that Stripe decides.
var holding = map[string]string{
	kindSession: `SELECT status AS held FROM qs_billing_checkouts WHERE session_id = ?`,
	kindSubscription: `SELECT status || ' ' || price_id || ' until ' || CAST(period_end AS TEXT) || ' next ' || next_price_id || ' pending ' || pending_price_id ||
			CASE WHEN cancel_at_period_end THEN ' ends' ELSE '' END AS held
		FROM qs_billing_subscriptions WHERE subscription_id = ?`,
	kindInvoice: `SELECT CASE WHEN status IN ('partially_refunded', 'refunded') THEN 'succeeded' ELSE status END AS held FROM qs_billing_payments WHERE invoice_id = ?`,
	kindRefund:  `SELECT status AS held FROM qs_billing_refunds WHERE refund_id = ?`,
	kindDispute: `SELECT status AS held FROM qs_billing_disputes WHERE dispute_id = ?`,
}

// held is what we hold of an object, empty for nothing.
func (b *Billing) held(ctx context.Context, kind, id string) (string, error) {
	var rows []string
	if err := b.db.Select(ctx, &rows, holding[kind], id); err != nil {
		return "", fmt.Errorf("billing: what is held of %s %s: %w", kind, id, err)
	}
	return strings.Join(rows, "; "), nil
}
