package billing

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// Errors of pauses.
var (
	ErrPaused     error = problem.New("subscription_paused", "Your subscription is paused. Resume it first.")
	ErrOnTrial    error = problem.New("subscription_on_trial", "A trial cannot be paused. Cancel it instead: nothing is charged.")
	ErrPauseUntil error = problem.Invalid(map[string]string{"until": "This must be a day from tomorrow on, at most a year away, such as 2027-01-31."})
)

// maxPause is how far away the end of a pause may be.
const maxPause = 366 * 24 * time.Hour

// PauseParams describe a pause.
type PauseParams struct {
	Account string
	// Until is when Stripe resumes the subscription by itself, a year away at most. Zero: it stays paused until somebody
	// resumes it.
	Until time.Time
}

// PauseSubscription stops the payments of an account's subscription: invoices that Stripe makes while it is paused are
// void, so that nothing is charged and no credits are granted. Access and credits last until the end of the period that
// is paid for (Subscription.PaidThrough); then neither is there until the first invoice after the pause is paid, which is
// the next one that the unchanged rhythm of the plan brings. What was bought in packs stays, and auto top-up goes on. The
// errors are [ErrNoSubscription], [ErrEnded], [ErrPaused], [ErrUnpaid], [ErrOnTrial], [ErrCanceling], [ErrPauseUntil] and
// [ErrStripe]. See docs.stripe.com/billing/subscriptions/pause-payment.
func (b *Billing) PauseSubscription(ctx context.Context, p PauseParams) (Subscription, error) {
	s, err := b.living(ctx, p.Account)
	if err != nil {
		return Subscription{}, err
	}
	switch {
	case s.Paused():
		return Subscription{}, ErrPaused
	case s.Status == stripe.SubscriptionStatusTrialing:
		return Subscription{}, ErrOnTrial
	case !s.Active() || s.PendingPrice != "":
		return Subscription{}, ErrUnpaid
	case s.CancelAtPeriodEnd || s.CancelAt != nil:
		return Subscription{}, ErrCanceling
	case !p.Until.IsZero() && (!p.Until.After(b.now()) || p.Until.After(b.now().Add(maxPause))):
		return Subscription{}, ErrPauseUntil
	}
	pause := &stripe.SubscriptionPauseCollectionParams{Behavior: stripe.String(string(stripe.SubscriptionPauseCollectionBehaviorVoid))}
	if !p.Until.IsZero() {
		pause.ResumesAt = stripe.Int64(p.Until.Unix())
	}
	params := &stripe.SubscriptionParams{PauseCollection: pause}
	params.Context = ctx
	_, err = b.cfg.Stripe.Subscriptions.Update(s.ID, params)
	return b.after(ctx, s, "pause", err)
}

// Paused says that its payments are paused.
func (s Subscription) Paused() bool { return s.pause != "" }

// resumeParams undo a cancellation and a pause.
func resumeParams(ctx context.Context, s Subscription) *stripe.SubscriptionParams {
	params := &stripe.SubscriptionParams{}
	params.Context = ctx
	if s.CancelAtPeriodEnd || s.CancelAt != nil {
		params.CancelAtPeriodEnd = stripe.Bool(false)
	}
	if s.Paused() {
		params.AddExtra("pause_collection", "")
	}
	return params
}

// followPause works out until when a subscription is paid for. Only a pause makes that differ from its status: the periods
// that begin in one are not paid, and neither is the rest of such a period after the pause.
func (p *subscriptionPicture) followPause(next *subscriptionRow, before *database.Time) {
	if p.PauseCollection != nil {
		next.PauseBehavior, next.ResumesAt = string(p.PauseCollection.Behavior), moment(p.PauseCollection.ResumesAt)
	}
	inv := p.LatestInvoice
	unpaid := inv != nil && (inv.Status == stripe.InvoiceStatusVoid || inv.Status == stripe.InvoiceStatusUncollectible)
	switch {
	case before != nil && (next.PauseBehavior != "" || inv == nil || inv.Status != stripe.InvoiceStatusPaid):
		next.PaidThrough = before
	case before == nil && next.PauseBehavior != "" && unpaid: // we hear of the pause after a period of it has begun
		next.PaidThrough = &next.PeriodStart
	case before == nil && next.PauseBehavior != "":
		next.PaidThrough = &next.PeriodEnd
	}
}

// paidThrough notes that an invoice has paid for a period of a subscription that is paused, or was when it began.
func (b *Billing) paidThrough(ctx context.Context, tx *sqlx.Tx, inv *stripe.Invoice) error {
	line := newPlanLine(inv)
	if inv.Subscription == nil || line == nil || line.Period == nil {
		return nil
	}
	end := moment(line.Period.End)
	const over = `UPDATE qs_billing_subscriptions SET paid_through = NULL WHERE subscription_id = ? AND pause_behavior = '' AND paid_through < ?`
	if _, err := b.db.ExecTx(ctx, tx, over, inv.Subscription.ID, end); err != nil {
		return err
	}
	const longer = `UPDATE qs_billing_subscriptions SET paid_through = ? WHERE subscription_id = ? AND pause_behavior <> '' AND paid_through < ?`
	_, err := b.db.ExecTx(ctx, tx, longer, end, inv.Subscription.ID, end)
	return err
}

func (b *Billing) postPause(w http.ResponseWriter, r *http.Request, who Customer) {
	var in struct {
		Until string `json:"until"`
	}
	if err := web.Decode(w, r, &in); err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	s, err := b.pauseUntil(r.Context(), who.Account, in.Until)
	if errors.Is(err, ErrPauseUntil) && !web.WantsJSON(r) {
		page, pageErr := b.subscriptionPage(r, who)
		if pageErr != nil {
			b.cfg.Site.Fail(w, r, pageErr)
			return
		}
		page.Until = in.Until
		b.views.Reject(w, r, "subscription", page, err)
		return
	}
	said := "Your subscription is paused. Nothing is charged until you resume it."
	if s.PaidThrough != nil {
		said = "Your subscription is paused. Access and credits last until " + s.PaidThrough.Format("2 Jan 2006") + "."
	}
	b.changed(w, r, s, err, said)
}

// pauseUntil reads the day, empty for none, and pauses.
func (b *Billing) pauseUntil(ctx context.Context, account, until string) (Subscription, error) {
	p := PauseParams{Account: account}
	if until != "" {
		day, err := time.Parse(time.DateOnly, until)
		if err != nil {
			return Subscription{}, ErrPauseUntil
		}
		p.Until = day
	}
	return b.PauseSubscription(ctx, p)
}
