package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Errors of plan changes.
var (
	ErrSamePlan     error = problem.New("same_plan", "This is your plan already.")
	ErrCanceling    error = problem.New("subscription_canceled", "Your subscription is canceled. Resume it before you change its plan.")
	ErrUnpaid       error = problem.New("subscription_unpaid", "An invoice is open. Pay it before you change your plan.")
	ErrPreviewStale error = problem.New("preview_stale", "This preview is not up to date any more. Look at the change again before you agree.")
	ErrNotAPlan     error = problem.New("not_a_plan", "This is not a plan. Choose one of the plans.")
)

// ChangeLine is one line of what a change costs.
type ChangeLine struct {
	Description string `json:"description"`
	Price       Money  `json:"amount"`
}

// Change is a change of plan: what it would be, or what it has become.
type Change struct {
	From Offer `json:"from"`
	To   Offer `json:"to"`
	// AtOnce tells a change that happens now from one at the period's end; At is when.
	AtOnce bool      `json:"at_once"`
	At     time.Time `json:"at"`
	// Due is what is charged now, with Lines. Nothing for changes at the period's end.
	Due   Money        `json:"due"`
	Lines []ChangeLine `json:"lines,omitempty"`
	// Credits are granted once Due is paid.
	Credits credits.Amount `json:"credits"`
	// ProrationDate is the second, in Unix time, that Due was reckoned at. Hand it back to [Billing.ChangePlan].
	ProrationDate int64 `json:"proration_date,omitempty"`
	// Policy is what becomes of the credits that are left.
	Policy CreditPolicy `json:"policy"`

	subscription Subscription
}

// ChangeParams describe a change of plan.
type ChangeParams struct {
	Account string
	// Price is the plan's to change to. The current one's drops a change that was to come at the period's end.
	Price string
	// ProrationDate is that of the preview which the person agreed to, an hour old at most. 0: now.
	ProrationDate int64
}

// PreviewChange tells what changing an account's plan would cost and give, as Stripe reckons it. The errors are
// [ErrNoSubscription], [ErrEnded], [ErrNotForSale], [ErrNotAPlan], [ErrSamePlan], [ErrCurrency], [ErrCanceling],
// [ErrPaused], [ErrUnpaid] and [ErrStripe].
func (b *Billing) PreviewChange(ctx context.Context, account, price string) (Change, error) {
	c, err := b.change(ctx, ChangeParams{Account: account, Price: price})
	if err != nil || !c.AtOnce {
		return c, err
	}
	if !isUpgrade(c.From, c.To) {
		return c, nil // at once and nothing to pay
	}
	params := &stripe.InvoiceUpcomingParams{
		Subscription:                  &c.subscription.ID,
		SubscriptionItems:             []*stripe.SubscriptionItemsParams{{ID: &c.subscription.item, Price: &c.To.PriceID}},
		SubscriptionProrationBehavior: stripe.String(string(stripe.SubscriptionSchedulePhaseProrationBehaviorAlwaysInvoice)),
		SubscriptionProrationDate:     &c.ProrationDate,
	}
	params.Context = ctx
	inv, err := b.cfg.Stripe.Invoices.Upcoming(params)
	if err != nil {
		return Change{}, stripeError("preview a plan change", err)
	}
	c.Due = Money{inv.AmountDue, string(inv.Currency)}
	for _, line := range linesOf(inv) {
		c.Lines = append(c.Lines, ChangeLine{line.Description, Money{line.Amount, string(line.Currency)}})
	}
	if sum, ok := sumChange(inv); ok {
		c.Credits = changeGrant(b.cfg.Policy, sum, c.To, c.From, c.subscription.Quantity, c.subscription.Quantity)
	}
	return c, nil
}

// change checks a change of plan and decides when it happens.
func (b *Billing) change(ctx context.Context, p ChangeParams) (Change, error) {
	s, err := b.living(ctx, p.Account)
	if err != nil {
		return Change{}, err
	}
	to, err := b.offer(ctx, p.Price)
	if err != nil {
		return Change{}, err
	}
	now := b.now()
	c := Change{From: s.Plan, To: to, At: now.Truncate(time.Second), Due: Money{0, s.Currency}, ProrationDate: p.ProrationDate, Policy: b.cfg.Policy, subscription: s}
	switch {
	case !to.isPlan():
		return Change{}, ErrNotAPlan
	case s.CancelAtPeriodEnd:
		return Change{}, ErrCanceling
	case s.Paused():
		return Change{}, ErrPaused
	case !s.Active() || s.PendingPrice != "":
		return Change{}, ErrUnpaid
	case to.Price.Currency != s.Currency:
		return Change{}, ErrCurrency
	case to.PriceID == s.Plan.PriceID && s.Next == nil, s.Next != nil && s.Next.PriceID == to.PriceID:
		return Change{}, ErrSamePlan
	case to.PriceID == s.Plan.PriceID: // what was to come is dropped
		c.ProrationDate = 0
		return c, nil
	}
	c.AtOnce = !b.cfg.UpgradeAtPeriodEnd
	if !isUpgrade(c.From, c.To) {
		// A shorter period cannot begin within a longer one without money going back.
		c.AtOnce = b.cfg.DowngradeAtOnce && c.To.days() == c.From.days()
	}
	if !c.AtOnce {
		c.At, c.ProrationDate = s.PeriodEnd, 0
		return c, nil
	}
	if c.ProrationDate == 0 {
		c.ProrationDate = now.Unix()
	}
	agreed := time.Unix(c.ProrationDate, 0)
	if agreed.After(now) || agreed.Before(now.Add(-previewLife)) || agreed.Before(s.PeriodStart) {
		return Change{}, ErrPreviewStale
	}
	return c, nil
}

// ChangePlan changes an account's plan: an upgrade at once, charged at once, and anything else at the period's end,
// unless Config says otherwise. An upgrade whose payment does not go through leaves the old plan, and Subscription's
// PendingPrice and PayURL say what is missing. Doing the same with the same proration date again is the same change.
// The errors are those of [Billing.PreviewChange], and [ErrPreviewStale].
func (b *Billing) ChangePlan(ctx context.Context, p ChangeParams) (Subscription, error) {
	c, err := b.change(ctx, p)
	if err != nil {
		return Subscription{}, err
	}
	intent, err := b.changeIntent(ctx, c)
	if err != nil {
		return Subscription{}, err
	}
	s := c.subscription
	err = b.carryOut(ctx, c, intent)
	if isOutage(err) {
		err = errors.Join(err, b.renewChange(ctx, intent), b.syncSubscription(ctx, s.ID)) // the next try sees what has happened
	}
	if errors.Is(err, ErrStripe) {
		return Subscription{}, err // it may have happened: the intent stays, and its webhooks tell
	}
	if err != nil {
		if saveErr := b.endChange(ctx, intent, err); saveErr != nil {
			err = errors.Join(err, saveErr)
		}
		return b.after(ctx, s, "change the plan of", err)
	}
	s, err = b.after(ctx, s, "change the plan of", nil)
	if err != nil {
		return Subscription{}, err
	}
	if err := b.syncLatestInvoice(ctx, s.ID); err != nil {
		// The webhook brings it.
		b.cfg.Logger.WarnContext(ctx, "invoice of a change not synced", slog.String("subscription", s.ID), slog.Any("error", err))
	}
	return s, b.endChange(ctx, intent, nil)
}

// carryOut asks Stripe for the change.
func (b *Billing) carryOut(ctx context.Context, c Change, intent changeRow) error {
	s := c.subscription
	if !c.AtOnce && c.To.PriceID != c.From.PriceID {
		return b.schedule(ctx, c, intent)
	}
	if err := b.releaseSchedule(ctx, s); err != nil {
		return err
	}
	if c.To.PriceID == c.From.PriceID {
		return nil
	}
	params := &stripe.SubscriptionParams{Items: []*stripe.SubscriptionItemsParams{{ID: &s.item, Price: &c.To.PriceID}}}
	if isUpgrade(c.From, c.To) {
		// Without the first a failed payment would be a free upgrade (docs.stripe.com/billing/subscriptions/pending-updates).
		params.PaymentBehavior = stripe.String("pending_if_incomplete")
		params.ProrationBehavior = stripe.String("always_invoice")
		params.ProrationDate = &c.ProrationDate
	} else {
		params.ProrationBehavior = stripe.String("none")
	}
	params.Context = ctx
	params.SetIdempotencyKey(intent.key("update"))
	_, err := b.cfg.Stripe.Subscriptions.Update(s.ID, params)
	if err != nil {
		return stripeError("change the plan of subscription "+s.ID, err)
	}
	return nil
}

// schedule makes the new plan follow when the period ends: a schedule with two phases that lets go of the subscription
// afterwards (docs.stripe.com/billing/subscriptions/subscription-schedules).
func (b *Billing) schedule(ctx context.Context, c Change, intent changeRow) error {
	s := c.subscription
	id := s.schedule
	if id == "" {
		params := &stripe.SubscriptionScheduleParams{FromSubscription: &s.ID}
		params.Context = ctx
		params.SetIdempotencyKey(intent.key("schedule"))
		made, err := b.cfg.Stripe.SubscriptionSchedules.New(params)
		if err != nil {
			made = b.scheduleOf(ctx, s.ID, err)
		}
		if made == nil {
			return stripeError("make a schedule for subscription "+s.ID, err)
		}
		id = made.ID
	}
	phase := func(price string) *stripe.SubscriptionSchedulePhaseParams {
		return &stripe.SubscriptionSchedulePhaseParams{Items: []*stripe.SubscriptionSchedulePhaseItemParams{{Price: &price, Quantity: &s.Quantity}},
			ProrationBehavior: stripe.String(string(stripe.SubscriptionSchedulePhaseProrationBehaviorNone))}
	}
	now, next := phase(c.From.PriceID), phase(c.To.PriceID)
	now.StartDate, now.EndDate = stripe.Int64(s.PeriodStart.Unix()), stripe.Int64(s.PeriodEnd.Unix())
	next.Iterations = stripe.Int64(1)
	params := &stripe.SubscriptionScheduleParams{Phases: []*stripe.SubscriptionSchedulePhaseParams{now, next},
		EndBehavior: stripe.String(string(stripe.SubscriptionScheduleEndBehaviorRelease))}
	params.Context = ctx
	params.SetIdempotencyKey(intent.key("phases-" + id))
	if _, err := b.cfg.Stripe.SubscriptionSchedules.Update(id, params); err != nil {
		return stripeError("plan the phases of schedule "+id, err)
	}
	return nil
}

// scheduleOf returns the schedule that a subscription has already where another one was refused: the answer that told of it was
// lost, and we have not heard of it yet.
func (b *Billing) scheduleOf(ctx context.Context, subscription string, refused error) *stripe.SubscriptionSchedule {
	if e, ok := asStripe(refused); !ok || e.Type != stripe.ErrorTypeInvalidRequest {
		return nil
	}
	picture, err := b.fetchSubscription(ctx, subscription)
	if err != nil || picture.Schedule == nil || picture.Schedule.Status != stripe.SubscriptionScheduleStatusActive {
		return nil
	}
	return picture.Schedule
}

// syncLatestInvoice takes over the invoice that a change has made.
func (b *Billing) syncLatestInvoice(ctx context.Context, subscription string) error {
	picture, err := b.fetchSubscription(ctx, subscription)
	if err != nil || picture.LatestInvoice == nil {
		return err
	}
	return b.syncInvoice(ctx, picture.LatestInvoice.ID)
}

// changeRow is the intent of a change.
type changeRow struct {
	ID           uuid.UUID     `db:"id"`
	Account      string        `db:"account_id"`
	Subscription string        `db:"subscription_id"`
	From         string        `db:"from_price"`
	To           string        `db:"to_price"`
	AtOnce       bool          `db:"at_once"`
	ProrationAt  int64         `db:"proration_at"`
	Status       string        `db:"status"`
	Generation   int64         `db:"generation"`
	Error        string        `db:"error"`
	CreatedAt    database.Time `db:"created_at"`
	UpdatedAt    database.Time `db:"updated_at"`
}

const changeColumns = `id, account_id, subscription_id, from_price, to_price, at_once, proration_at, status, generation, error, created_at, updated_at`

// key is the idempotency key of one of the change's calls.
func (r changeRow) key(step string) string {
	return "change-" + r.ID.String() + "-" + strconv.FormatInt(r.Generation, 10) + "-" + step
}

// changeIntent writes the change down, or finds it where it was before: after a failure with a new key, and otherwise
// with the one that Stripe may know.
func (b *Billing) changeIntent(ctx context.Context, c Change) (row changeRow, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return row, fmt.Errorf("billing: make an id: %w", err)
	}
	at := c.ProrationDate
	if at == 0 {
		at = b.now().Unix()
	}
	s := c.subscription
	const upsert = `INSERT INTO qs_billing_changes (` + changeColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, 'requested', 0, '', ?, ?)
		ON CONFLICT (subscription_id, from_price, to_price, proration_at) DO UPDATE SET updated_at = excluded.updated_at,
			generation = qs_billing_changes.generation + CASE WHEN qs_billing_changes.status = 'failed' THEN 1 ELSE 0 END, status = 'requested'`
	const find = `SELECT ` + changeColumns + ` FROM qs_billing_changes WHERE subscription_id = ? AND from_price = ? AND to_price = ? AND proration_at = ?`
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := b.lockAccount(ctx, tx, s.Account); err != nil {
			return err
		}
		now := database.At(b.now())
		if _, err := b.db.ExecTx(ctx, tx, upsert, id, s.Account, s.ID, c.From.PriceID, c.To.PriceID, c.AtOnce, at, now, now); err != nil {
			return err
		}
		return b.db.GetTx(ctx, tx, &row, find, s.ID, c.From.PriceID, c.To.PriceID, at)
	})
	if err != nil {
		return row, fmt.Errorf("billing: intent of a plan change: %w", err)
	}
	return row, nil
}

// renewChange gives a change a new key for the next try: Stripe repeats an error of its own under the old one. If the call has
// had its effect all the same, the next one asks for the plan that there is already, which charges nothing.
func (b *Billing) renewChange(ctx context.Context, r changeRow) error {
	err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_changes SET generation = ? WHERE id = ? AND status = 'requested' AND generation = ?`, r.Generation+1, r.ID, r.Generation)
		return err
	})
	if err != nil {
		return fmt.Errorf("billing: renew plan change %s: %w", r.ID, err)
	}
	return nil
}

// endChange records the outcome. A change at once that cost nothing has no invoice to carry the policy out.
func (b *Billing) endChange(ctx context.Context, r changeRow, failed error) error {
	status, text := "done", ""
	if failed != nil {
		status, text = "failed", failed.Error()
	}
	err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := b.lockAccount(ctx, tx, r.Account); err != nil {
			return err
		}
		n, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_changes SET status = ?, error = ?, updated_at = ? WHERE id = ? AND status = 'requested'`,
			status, text, database.At(b.now()), r.ID)
		if err != nil || n == 0 || failed != nil || !r.AtOnce {
			return err
		}
		from, err := b.offerTx(ctx, tx, r.From)
		if err != nil {
			return err
		}
		to, err := b.offerTx(ctx, tx, r.To)
		if err != nil || isUpgrade(from, to) || from.PriceID == to.PriceID {
			return err
		}
		return b.applyPolicy(ctx, tx, r.Account, "change:"+r.ID.String(), "change:"+r.ID.String(), r.CreatedAt.Time)
	})
	if err != nil {
		return fmt.Errorf("billing: outcome of plan change %s: %w", r.ID, err)
	}
	return nil
}

// How long a change waits for its outcome: a minute for the process that asks, and a day, after which Stripe has
// forgotten the key, until it counts as one that never happened.
const (
	changeLease = time.Minute
	changeLife  = 24 * time.Hour
)

// ResumeChanges records the outcome of changes of plan whose answer was lost, as the subscription tells it, and does what
// the policy asks of them. Call it now and then; it returns how many have an outcome now.
func (b *Billing) ResumeChanges(ctx context.Context) (resumed int, err error) {
	var rows []changeRow
	// Runs along qs_billing_changes_open.
	const open = `SELECT ` + changeColumns + ` FROM qs_billing_changes WHERE status = 'requested' AND updated_at < ? ORDER BY updated_at LIMIT 100`
	if err := b.db.Select(ctx, &rows, open, database.At(b.now().Add(-changeLease))); err != nil {
		return 0, fmt.Errorf("billing: open plan changes: %w", err)
	}
	for _, row := range rows {
		ended, one := b.resumeChange(ctx, row)
		if ended {
			resumed++
		}
		err = errors.Join(err, one)
	}
	return resumed, err
}

func (b *Billing) resumeChange(ctx context.Context, row changeRow) (ended bool, err error) {
	if err := b.syncSubscription(ctx, row.Subscription); err != nil {
		return false, err
	}
	s, err := b.FindSubscription(ctx, row.Account)
	if err != nil {
		return false, err
	}
	next := row.From
	if s.Next != nil {
		next = s.Next.PriceID
	}
	happened := s.ID == row.Subscription && (s.Plan.PriceID == row.To && (row.AtOnce || row.From != row.To) || s.PendingPrice == row.To || !row.AtOnce && next == row.To)
	if happened {
		return true, b.endChange(ctx, row, nil)
	}
	if b.now().Sub(row.UpdatedAt.Time) < changeLife {
		return false, nil
	}
	return true, b.endChange(ctx, row, errors.New("it did not happen within a day"))
}
