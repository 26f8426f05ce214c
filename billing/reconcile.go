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
	kindIntent       = "payment_intent" // of top-ups only
	kindSubscription = "subscription"
	kindInvoice      = "invoice"
	kindRefund       = "refund"
	kindDispute      = "dispute"
)

var reconciled = []string{kindSession, kindIntent, kindSubscription, kindInvoice, kindRefund, kindDispute}

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

// ReconcileParams choose what [Billing.ReconcileWith] looks at.
type ReconcileParams struct {
	// Since is from when on changes are looked for. Zero, or longer ago than Stripe keeps events: as for
	// [Billing.Reconcile]. A run since a later time than that leaves the next one to begin where it would have anyway.
	Since time.Time
	// All walks all objects that Stripe has, whatever has changed. It goes before Since.
	All bool
	// DryRun reports what a run would repair and repairs nothing; only the catalogue is brought up to date, as it is every
	// hour. What depends on an object that is missing here, such as the refund of a payment, may be told as a failure.
	DryRun bool
}

// Reconciliation is what a run did.
type Reconciliation struct {
	ID uuid.UUID `json:"id"`
	// Since is where it began; zero: all objects that Stripe has were walked.
	Since    time.Time `json:"since"`
	Checked  int       `json:"checked"`
	Repaired []Repair  `json:"repaired"`
	Failed   []Failure `json:"failed"`
	// DryRun says that nothing was repaired: Repaired are what would be.
	DryRun bool `json:"dry_run,omitempty"`
}

// Reconcile walks what has changed in Stripe since the last run that failed nowhere, as its events tell, delivered or not,
// and on the first run and after a month without one all objects. Each is read afresh and taken over by the same code as
// a webhook's, so that nothing happens twice. The error is about the run as a whole; objects that failed are in the report,
// and the next run begins where this one did. Several runs at once do no harm.
func (b *Billing) Reconcile(ctx context.Context) (Reconciliation, error) {
	return b.ReconcileWith(ctx, ReconcileParams{})
}

// ReconcileWith is [Billing.Reconcile] of what p chooses.
func (b *Billing) ReconcileWith(ctx context.Context, p ReconcileParams) (Reconciliation, error) {
	started := b.now()
	r := Reconciliation{Repaired: []Repair{}, Failed: []Failure{}, DryRun: p.DryRun}
	var err error
	if r.ID, err = uuid.NewV7(); err != nil {
		return r, fmt.Errorf("billing: make an id: %w", err)
	}
	usual, err := b.reconciledUntil(ctx, started)
	if err != nil {
		return r, err
	}
	switch r.Since = usual; {
	case p.All || !p.Since.IsZero() && started.Sub(p.Since) > eventsKept:
		r.Since = time.Time{}
	case !p.Since.IsZero():
		r.Since = database.Canonical(p.Since)
	}
	if err := b.SyncCatalogue(ctx); err != nil {
		return r, err
	}
	if p.DryRun {
		return r, b.walk(ctx, &r, b.rehearse)
	}
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		// Nor will it be, when its time comes.
		if _, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_reconciliations SET finished_at = NULL WHERE started_at > ?`, database.At(started)); err != nil {
			return err
		}
		_, err := b.db.ExecTx(ctx, tx, `INSERT INTO qs_billing_reconciliations (id, started_at) VALUES (?, ?)`, r.ID, database.At(started))
		return err
	})
	if err != nil {
		return r, fmt.Errorf("billing: begin a reconciliation: %w", err)
	}
	if err := b.walk(ctx, &r, b.repair); err != nil {
		return r, err
	}
	// Nothing is known to be right between the usual beginning and a later one.
	whole := !usual.IsZero() && !r.Since.After(usual) || r.Since.IsZero()
	return r, b.endReconciliation(ctx, r, whole)
}

// walk takes over each object that may have changed since r.Since, and notes what that changes.
func (b *Billing) walk(ctx context.Context, r *Reconciliation, take func(ctx context.Context, kind, id string) (held string, err error)) error {
	find := b.changedObjects
	if r.Since.IsZero() {
		find = b.allObjects
	}
	objects, err := find(ctx, r.Since)
	if err != nil {
		return err
	}
	for _, kind := range reconciled {
		// Stripe lists the newest first, and what came first is taken over first: a subscription ends before the next begins.
		for _, id := range slices.Backward(objects[kind]) {
			if err := ctx.Err(); err != nil {
				return err
			}
			b.reconcile(ctx, r, kind, id, take)
		}
	}
	return nil
}

func (b *Billing) reconciledUntil(ctx context.Context, now time.Time) (time.Time, error) {
	var last []database.Time
	// A run that began after now was one of a clock that went ahead: what happened since is not known to it.
	const find = `SELECT started_at FROM qs_billing_reconciliations WHERE finished_at IS NOT NULL AND started_at <= ? ORDER BY started_at DESC LIMIT 1`
	if err := b.db.Select(ctx, &last, find, database.At(now)); err != nil {
		return time.Time{}, fmt.Errorf("billing: the last reconciliation: %w", err)
	}
	if len(last) == 0 || now.Sub(last[0].Time) > eventsKept {
		return time.Time{}, nil
	}
	return last[0].Add(-reconcileOverlap), nil
}

func (b *Billing) endReconciliation(ctx context.Context, r Reconciliation, whole bool) error {
	var finished *database.Time
	if whole && len(r.Failed) == 0 {
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
			ID       string            `json:"id"`
			Object   string            `json:"object"`
			Metadata map[string]string `json:"metadata"`
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
			if object.Object == kind && (kind != kindIntent || object.Metadata[topUpKey] != "") {
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
	intents := b.cfg.Stripe.PaymentIntents.List(&stripe.PaymentIntentListParams{ListParams: page})
	for intents.Next() {
		if pi := intents.PaymentIntent(); pi.Metadata[topUpKey] != "" {
			found.add(kindIntent, pi.ID)
		}
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
	if err := errors.Join(sessions.Err(), intents.Err(), subscriptions.Err(), invoices.Err(), refunds.Err(), disputes.Err()); err != nil {
		return nil, stripeError("list all objects", err)
	}
	return found.ids, nil
}

// reconcile takes one object over, and notes what that changes.
func (b *Billing) reconcile(ctx context.Context, r *Reconciliation, kind, id string, take func(ctx context.Context, kind, id string) (held string, err error)) {
	r.Checked++
	before, err := b.held(ctx, kind, id)
	var after string
	if err == nil {
		after, err = take(ctx, kind, id)
	}
	switch {
	case err != nil:
		b.cfg.Logger.ErrorContext(ctx, "not reconciled", slog.String("kind", kind), slog.String("id", id), slog.Any("error", err))
		r.Failed = append(r.Failed, Failure{kind, id, err})
	case before != after:
		b.cfg.Logger.WarnContext(ctx, "held differently from Stripe", slog.String("kind", kind), slog.String("id", id), slog.String("before", before),
			slog.String("after", after), slog.Bool("repaired", !r.DryRun))
		r.Repaired = append(r.Repaired, Repair{kind, id, before, after})
	}
}

// repair takes an object over and returns what is held of it then.
func (b *Billing) repair(ctx context.Context, kind, id string) (string, error) {
	if err := b.takeOver(ctx, kind, id); err != nil {
		return "", err
	}
	return b.held(ctx, kind, id)
}

// errRehearsed undoes what was rehearsed.
var errRehearsed = errors.New("billing: rehearsed")

// rehearse takes an object over by the same code as repair, in transactions that are all undone, tells nobody, and returns
// what would be held of it.
func (b *Billing) rehearse(ctx context.Context, kind, id string) (held string, err error) {
	dry := *b
	dry.cfg.Notify = nil
	dry.cfg.Logger = slog.New(slog.DiscardHandler)
	dry.rehearsing = func(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) error {
		err := b.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			if err := fn(ctx, tx); err != nil {
				return err
			}
			var rows []string
			if err := b.db.SelectTx(ctx, tx, &rows, holding[kind], id); err != nil {
				return fmt.Errorf("billing: what would be held of %s %s: %w", kind, id, err)
			}
			held = strings.Join(rows, "; ")
			return errRehearsed
		})
		if errors.Is(err, errRehearsed) {
			return nil
		}
		return err
	}
	err = dry.takeOver(ctx, kind, id)
	return held, err
}

func (b *Billing) takeOver(ctx context.Context, kind, id string) error {
	switch kind {
	case kindSession:
		s, err := b.fetchSession(ctx, id)
		if err != nil {
			return err
		}
		return b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.settle(ctx, tx, s) })
	case kindIntent:
		pi, err := b.fetchIntent(ctx, id)
		if err != nil {
			return err
		}
		return b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.saveIntent(ctx, tx, pi) })
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
	kindIntent:  `SELECT status AS held FROM qs_billing_topups WHERE intent_id = ?`,
	kindSubscription: `SELECT status || ' ' || price_id || ' until ' || CAST(period_end AS TEXT) || ' next ' || next_price_id || ' pending ' || pending_price_id ||
			CASE WHEN cancel_at_period_end THEN ' ends' ELSE '' END || CASE WHEN pause_behavior <> '' THEN ' paused' ELSE '' END AS held
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
