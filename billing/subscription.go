package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/webhook"
)

// Subscription is the subscription of an account as Stripe has it: the one that lives, or the last one that did.
type Subscription struct {
	ID      string `json:"id"`
	Account string `json:"-"`
	// Status is Stripe's, one of eight.
	Status stripe.SubscriptionStatus `json:"status"`
	// Plan is what is paid for now. It has only its price's id where the catalogue does not know it any more.
	Plan     Offer  `json:"plan"`
	Quantity int64  `json:"quantity"`
	Currency string `json:"currency"`
	// PeriodStart and PeriodEnd bound the period that is paid for, or is to be paid.
	PeriodStart time.Time `json:"period_start"`
	PeriodEnd   time.Time `json:"period_end"`
	// CancelAtPeriodEnd says that it does not renew.
	CancelAtPeriodEnd bool       `json:"cancel_at_period_end"`
	CancelAt          *time.Time `json:"cancel_at,omitempty"`
	CanceledAt        *time.Time `json:"canceled_at,omitempty"`
	EndedAt           *time.Time `json:"ended_at,omitempty"`
	TrialEnd          *time.Time `json:"trial_end,omitempty"`
	// PastDueSince is when a renewal was not paid. Nil: all are.
	PastDueSince *time.Time `json:"past_due_since,omitempty"`
	// Next is the plan that begins at NextAt. Nil: the same.
	Next   *Offer     `json:"next,omitempty"`
	NextAt *time.Time `json:"next_at,omitempty"`
	// PendingPrice is the plan of a change that waits for its payment at PayURL.
	PendingPrice string `json:"pending_price,omitempty"`
	// PayURL is where an open invoice is paid; empty when there is none.
	PayURL string `json:"pay_url,omitempty"`
	// PaidThrough is set in a pause, and after it until an invoice is paid: access ends then. ResumesAt is when Stripe ends
	// the pause; nil for not by itself.
	PaidThrough *time.Time `json:"paid_through,omitempty"`
	ResumesAt   *time.Time `json:"resumes_at,omitempty"`

	schedule, item, pause string
}

// Active says that the status gives access: active or trialing.
func (s Subscription) Active() bool {
	return s.Status == stripe.SubscriptionStatusActive || s.Status == stripe.SubscriptionStatusTrialing
}

// Ended says that it never comes back, so that another one can be bought.
func (s Subscription) Ended() bool {
	return s.Status == stripe.SubscriptionStatusCanceled || s.Status == stripe.SubscriptionStatusIncompleteExpired
}

// DaysLeft is how many days, the last one counted whole, there are until the period ends; 0 once it has.
func (s Subscription) DaysLeft(now time.Time) int {
	const day = 24 * time.Hour
	return int(max(0, s.PeriodEnd.Sub(now)+day-1) / day)
}

type subscriptionRow struct {
	Account           string                    `db:"account_id"`
	ID                string                    `db:"subscription_id"`
	CustomerID        string                    `db:"customer_id"`
	ItemID            string                    `db:"item_id"`
	Status            stripe.SubscriptionStatus `db:"status"`
	PriceID           string                    `db:"price_id"`
	Quantity          int64                     `db:"quantity"`
	Currency          string                    `db:"currency"`
	PeriodStart       database.Time             `db:"period_start"`
	PeriodEnd         database.Time             `db:"period_end"`
	CancelAtPeriodEnd bool                      `db:"cancel_at_period_end"`
	CancelAt          *database.Time            `db:"cancel_at"`
	CanceledAt        *database.Time            `db:"canceled_at"`
	EndedAt           *database.Time            `db:"ended_at"`
	TrialEnd          *database.Time            `db:"trial_end"`
	PastDueSince      *database.Time            `db:"past_due_since"`
	ScheduleID        string                    `db:"schedule_id"`
	NextPriceID       string                    `db:"next_price_id"`
	NextAt            *database.Time            `db:"next_at"`
	PendingPriceID    string                    `db:"pending_price_id"`
	PayURL            string                    `db:"pay_url"`
	PauseBehavior     string                    `db:"pause_behavior"`
	ResumesAt         *database.Time            `db:"resumes_at"`
	PaidThrough       *database.Time            `db:"paid_through"`
	Version           int64                     `db:"version"`
	CreatedAt         database.Time             `db:"created_at"`
	UpdatedAt         database.Time             `db:"updated_at"`
}

const subscriptionColumns = `account_id, subscription_id, customer_id, item_id, status, price_id, quantity, currency, period_start, period_end,
	cancel_at_period_end, cancel_at, canceled_at, ended_at, trial_end, past_due_since, schedule_id, next_price_id, next_at, pending_price_id, pay_url,
	pause_behavior, resumes_at, paid_through, version, created_at, updated_at`

func (r subscriptionRow) subscription() Subscription {
	return Subscription{ID: r.ID, Account: r.Account, Status: r.Status, Plan: Offer{PriceID: r.PriceID}, Quantity: r.Quantity, Currency: r.Currency,
		PeriodStart: r.PeriodStart.Time, PeriodEnd: r.PeriodEnd.Time, CancelAtPeriodEnd: r.CancelAtPeriodEnd, CancelAt: r.CancelAt.Std(),
		CanceledAt: r.CanceledAt.Std(), EndedAt: r.EndedAt.Std(), TrialEnd: r.TrialEnd.Std(), PastDueSince: r.PastDueSince.Std(), NextAt: r.NextAt.Std(),
		PendingPrice: r.PendingPriceID, PayURL: r.PayURL, PaidThrough: r.PaidThrough.Std(), ResumesAt: r.ResumesAt.Std(),
		schedule: r.ScheduleID, item: r.ItemID, pause: r.PauseBehavior}
}

// Errors about subscriptions.
var (
	ErrNoSubscription error = problem.New(problem.CodeNotFound, "You have no subscription. Choose a plan to begin one.")
	ErrEnded          error = problem.New("subscription_ended", "This subscription has ended. Choose a plan to begin a new one.")
	ErrNotCanceled    error = problem.New("subscription_not_canceled", "This subscription is neither canceled nor paused, so there is nothing to resume.")
)

// FindSubscription returns an account's subscription, also one that has ended; [ErrNoSubscription] when there never was one.
func (b *Billing) FindSubscription(ctx context.Context, account string) (Subscription, error) {
	var row subscriptionRow
	err := b.db.Get(ctx, &row, `SELECT `+subscriptionColumns+` FROM qs_billing_subscriptions WHERE account_id = ?`, account)
	if database.IsNoRows(err) {
		return Subscription{}, ErrNoSubscription
	}
	if err != nil {
		return Subscription{}, fmt.Errorf("billing: subscription of account %s: %w", account, err)
	}
	s := row.subscription()
	var offers []offerRow
	if err := b.db.Select(ctx, &offers, `SELECT `+offerColumns+offerTables+` WHERE r.id IN (?, ?)`, row.PriceID, row.NextPriceID); err != nil {
		return Subscription{}, fmt.Errorf("billing: plans of account %s: %w", account, err)
	}
	if row.NextPriceID != "" {
		s.Next = &Offer{PriceID: row.NextPriceID}
	}
	for _, o := range offers {
		if o.PriceID == row.PriceID {
			s.Plan = o.offer()
		}
		if o.PriceID == row.NextPriceID {
			next := o.offer()
			s.Next = &next
		}
	}
	return s, nil
}

// Entitled tells whether an account's plan has a feature: the product's metadata "features" names it, and the
// subscription is active or trialing, or past due for less than Config.Grace, and no pause has left its period unpaid. An
// empty feature asks for any plan.
func (b *Billing) Entitled(ctx context.Context, account, feature string) (bool, error) {
	s, err := b.FindSubscription(ctx, account)
	if errors.Is(err, ErrNoSubscription) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	inGrace := s.Status == stripe.SubscriptionStatusPastDue && s.PastDueSince != nil && b.now().Before(s.PastDueSince.Add(b.cfg.Grace))
	if !s.Active() && !inGrace || s.PaidThrough != nil && !b.now().Before(*s.PaidThrough) {
		return false, nil
	}
	if feature == "" {
		return true, nil
	}
	return slices.Contains(s.Plan.Features, feature), nil
}

// subscriptionPicture is a subscription as Stripe had it when our row was at a version.
type subscriptionPicture struct {
	*stripe.Subscription

	version int64
}

// errStalePicture says that another picture was taken over since this one was taken.
var errStalePicture = errors.New("billing: the subscription was read before its last change")

func (b *Billing) fetchSubscription(ctx context.Context, id string) (*subscriptionPicture, error) {
	var versions []int64
	// From the writer: a reader may be behind, and would then find every picture stale.
	err := b.db.Writer().SelectContext(ctx, &versions, b.db.Rebind(`SELECT version FROM qs_billing_subscriptions WHERE subscription_id = ?`), id)
	if err != nil {
		return nil, fmt.Errorf("billing: version of subscription %s: %w", id, err)
	}
	picture := &subscriptionPicture{}
	if len(versions) > 0 {
		picture.version = versions[0]
	}
	params := &stripe.SubscriptionParams{}
	params.Context = ctx
	params.AddExpand("latest_invoice")
	params.AddExpand("schedule")
	if picture.Subscription, err = b.cfg.Stripe.Subscriptions.Get(id, params); err != nil {
		return nil, stripeError("read subscription "+id, err)
	}
	for _, price := range picture.prices() {
		if err := b.knowPrice(ctx, price); err != nil {
			return nil, err
		}
	}
	return picture, nil
}

// prices are those that the mirror has to know.
func (p *subscriptionPicture) prices() []string {
	var ids []string
	if p.Items != nil {
		for _, item := range p.Items.Data {
			ids = append(ids, item.Price.ID)
		}
	}
	if next, _ := p.next(); next != "" {
		ids = append(ids, next)
	}
	return ids
}

// next is the plan that a schedule brings after this period, and when.
func (p *subscriptionPicture) next() (price string, at int64) {
	if p.Items == nil || len(p.Items.Data) != 1 || p.Schedule == nil || p.Schedule.Status != stripe.SubscriptionScheduleStatusActive {
		return "", 0
	}
	for _, phase := range p.Schedule.Phases {
		if phase.StartDate >= p.CurrentPeriodEnd && len(phase.Items) == 1 && phase.Items[0].Price != nil && phase.Items[0].Price.ID != p.Items.Data[0].Price.ID {
			return phase.Items[0].Price.ID, phase.StartDate
		}
	}
	return "", 0
}

func (b *Billing) onSubscription(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[subscriptionPicture]) error {
	return b.saveSubscription(ctx, tx, ev.Object)
}

// syncSubscription takes over a subscription without waiting for its webhook: as it is now, or later. Where somebody else
// was faster twice, the second of them has begun to read after this has, so that what they took over is as new.
func (b *Billing) syncSubscription(ctx context.Context, id string) error {
	for range 2 {
		picture, err := b.fetchSubscription(ctx, id)
		if err != nil {
			return err
		}
		err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.saveSubscription(ctx, tx, picture) })
		if !errors.Is(err, errStalePicture) {
			return err
		}
	}
	return nil
}

// saveSubscription takes a picture over.
func (b *Billing) saveSubscription(ctx context.Context, tx *sqlx.Tx, p *subscriptionPicture) error {
	account, err := b.accountOf(ctx, tx, p.Customer, p.Metadata)
	if err != nil {
		return err
	}
	if account == "" || p.Items == nil || len(p.Items.Data) != 1 {
		// What another application sells, or sells otherwise, is no failure of ours.
		b.cfg.Logger.InfoContext(ctx, "subscription is not ours", slog.String("subscription", p.ID))
		return nil
	}
	if err := b.lockAccount(ctx, tx, account); err != nil {
		return err
	}
	var rows []subscriptionRow
	if err := b.db.SelectTx(ctx, tx, &rows, `SELECT `+subscriptionColumns+` FROM qs_billing_subscriptions WHERE account_id = ?`, account); err != nil {
		return fmt.Errorf("billing: subscription of account %s: %w", account, err)
	}
	next := p.row(account, b.now())
	var paidThrough *database.Time
	if len(rows) > 0 {
		old := rows[0]
		switch {
		case old.ID == p.ID && old.Version != p.version:
			return errStalePicture
		case old.ID == p.ID:
			next.CreatedAt = old.CreatedAt
		case next.subscription().Ended() && (old.EndedAt == nil || p.Created < old.EndedAt.Unix()): // an old one's last words
			return nil
		case !old.subscription().Ended() && old.Status != stripe.SubscriptionStatusIncomplete:
			b.cfg.Logger.ErrorContext(ctx, "an account has two subscriptions; cancel one in Stripe",
				slog.String("account", account), slog.String("kept", old.ID), slog.String("other", p.ID))
			return nil
		}
		next.Version = old.Version + 1
		if old.ID == p.ID {
			paidThrough = old.PaidThrough
		}
		if old.ID == p.ID && old.PastDueSince != nil && next.PastDueSince != nil {
			next.PastDueSince = old.PastDueSince
		}
	}
	p.followPause(&next, paidThrough)
	if err := b.writeSubscription(ctx, tx, next); err != nil {
		return err
	}
	var old *subscriptionRow
	if len(rows) > 0 {
		old = &rows[0]
	}
	return b.tellSubscription(ctx, tx, old, next)
}

func (b *Billing) writeSubscription(ctx context.Context, tx *sqlx.Tx, r subscriptionRow) error {
	const upsert = `INSERT INTO qs_billing_subscriptions (` + subscriptionColumns + `)
		VALUES (:account_id, :subscription_id, :customer_id, :item_id, :status, :price_id, :quantity, :currency, :period_start, :period_end,
			:cancel_at_period_end, :cancel_at, :canceled_at, :ended_at, :trial_end, :past_due_since, :schedule_id, :next_price_id, :next_at, :pending_price_id, :pay_url,
			:pause_behavior, :resumes_at, :paid_through, :version, :created_at, :updated_at)
		ON CONFLICT (account_id) DO UPDATE SET subscription_id = excluded.subscription_id, customer_id = excluded.customer_id, item_id = excluded.item_id,
			status = excluded.status, price_id = excluded.price_id, quantity = excluded.quantity, currency = excluded.currency,
			period_start = excluded.period_start, period_end = excluded.period_end, cancel_at_period_end = excluded.cancel_at_period_end,
			cancel_at = excluded.cancel_at, canceled_at = excluded.canceled_at, ended_at = excluded.ended_at, trial_end = excluded.trial_end,
			past_due_since = excluded.past_due_since, schedule_id = excluded.schedule_id, next_price_id = excluded.next_price_id, next_at = excluded.next_at,
			pending_price_id = excluded.pending_price_id, pay_url = excluded.pay_url, pause_behavior = excluded.pause_behavior,
			resumes_at = excluded.resumes_at, paid_through = excluded.paid_through, version = excluded.version, created_at = excluded.created_at,
			updated_at = excluded.updated_at`
	query, args, err := sqlx.Named(upsert, r)
	if err != nil {
		return fmt.Errorf("billing: name the columns of a subscription: %w", err)
	}
	if _, err := b.db.ExecTx(ctx, tx, query, args...); err != nil {
		return fmt.Errorf("billing: save subscription %s: %w", r.ID, err)
	}
	b.cfg.Logger.InfoContext(ctx, "subscription saved", slog.String("subscription", r.ID), slog.String("account", r.Account),
		slog.String("status", string(r.Status)), slog.String("price", r.PriceID))
	return nil
}

// row is what is kept of a picture.
func (p *subscriptionPicture) row(account string, now time.Time) subscriptionRow {
	item := p.Items.Data[0]
	r := subscriptionRow{Account: account, ID: p.ID, ItemID: item.ID, Status: p.Status, PriceID: item.Price.ID, Quantity: item.Quantity,
		Currency: string(p.Currency), PeriodStart: database.At(time.Unix(p.CurrentPeriodStart, 0)), PeriodEnd: database.At(time.Unix(p.CurrentPeriodEnd, 0)),
		CancelAtPeriodEnd: p.CancelAtPeriodEnd, CancelAt: moment(p.CancelAt), CanceledAt: moment(p.CanceledAt), EndedAt: moment(p.EndedAt),
		TrialEnd: moment(p.TrialEnd), Version: 1, CreatedAt: database.At(now), UpdatedAt: database.At(now)}
	if p.Customer != nil {
		r.CustomerID = p.Customer.ID
	}
	if p.Schedule != nil && p.Schedule.Status == stripe.SubscriptionScheduleStatusActive {
		r.ScheduleID = p.Schedule.ID
	}
	price, at := p.next()
	r.NextPriceID, r.NextAt = price, moment(at)
	if p.PendingUpdate != nil && len(p.PendingUpdate.SubscriptionItems) > 0 && p.PendingUpdate.SubscriptionItems[0].Price != nil {
		r.PendingPriceID = p.PendingUpdate.SubscriptionItems[0].Price.ID
	}
	if p.LatestInvoice != nil && p.LatestInvoice.Status == stripe.InvoiceStatusOpen {
		r.PayURL = p.LatestInvoice.HostedInvoiceURL
	}
	if p.Status == stripe.SubscriptionStatusPastDue || p.Status == stripe.SubscriptionStatusUnpaid {
		r.PastDueSince = &r.UpdatedAt
	}
	return r
}

// moment makes a column of a time of Stripe's, where 0 is none.
func moment(unix int64) *database.Time {
	if unix == 0 {
		return nil
	}
	at := database.At(time.Unix(unix, 0))
	return &at
}

// CancelSubscription ends an account's subscription: at the end of the period that is paid for, or at once. Either way
// no money goes back and the credits last until that end; a plan that was to come next is dropped. The errors are
// [ErrNoSubscription], [ErrEnded] and [ErrStripe].
func (b *Billing) CancelSubscription(ctx context.Context, account string, atOnce bool) (Subscription, error) {
	s, err := b.living(ctx, account)
	if err != nil {
		return Subscription{}, err
	}
	if err := b.releaseSchedule(ctx, s); err != nil {
		return Subscription{}, err
	}
	if atOnce {
		params := &stripe.SubscriptionCancelParams{}
		params.Context = ctx
		_, err = b.cfg.Stripe.Subscriptions.Cancel(s.ID, params)
	} else {
		params := &stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(true)}
		params.Context = ctx
		_, err = b.cfg.Stripe.Subscriptions.Update(s.ID, params)
	}
	return b.after(ctx, s, "cancel", err)
}

// ResumeSubscription undoes a cancellation whose time has not come, and a pause. The errors are [ErrNoSubscription], [ErrEnded],
// [ErrNotCanceled] and [ErrStripe].
func (b *Billing) ResumeSubscription(ctx context.Context, account string) (Subscription, error) {
	s, err := b.living(ctx, account)
	if err != nil {
		return Subscription{}, err
	}
	if !s.CancelAtPeriodEnd && s.CancelAt == nil && !s.Paused() {
		return Subscription{}, ErrNotCanceled
	}
	_, err = b.cfg.Stripe.Subscriptions.Update(s.ID, resumeParams(ctx, s))
	return b.after(ctx, s, "resume", err)
}

// living is an account's subscription unless it has ended.
func (b *Billing) living(ctx context.Context, account string) (Subscription, error) {
	s, err := b.FindSubscription(ctx, account)
	if err != nil {
		return Subscription{}, err
	}
	if s.Ended() {
		return Subscription{}, ErrEnded
	}
	return s, nil
}

// after takes over what a call has made of a subscription, also a call that failed: Stripe may know better than we did.
func (b *Billing) after(ctx context.Context, s Subscription, action string, failed error) (Subscription, error) {
	if failed != nil {
		failed = stripeError(action+" subscription "+s.ID, failed)
		if errors.Is(failed, ErrStripe) {
			return Subscription{}, failed
		}
	}
	if err := b.syncSubscription(ctx, s.ID); err != nil {
		return Subscription{}, errors.Join(failed, err)
	}
	now, err := b.FindSubscription(ctx, s.Account)
	switch {
	case err != nil:
		return Subscription{}, errors.Join(failed, err)
	case failed != nil && now.Ended():
		return Subscription{}, ErrEnded
	case failed != nil:
		return Subscription{}, failed
	}
	b.cfg.Logger.InfoContext(ctx, "subscription changed", slog.String("action", action), slog.String("subscription", s.ID), slog.String("account", s.Account))
	return now, nil
}

// releaseSchedule frees a subscription from the schedule that would change its plan.
func (b *Billing) releaseSchedule(ctx context.Context, s Subscription) error {
	if s.schedule == "" {
		return nil
	}
	params := &stripe.SubscriptionScheduleReleaseParams{}
	params.Context = ctx
	if _, err := b.cfg.Stripe.SubscriptionSchedules.Release(s.schedule, params); err != nil {
		if e, ok := asStripe(err); ok && e.Type == stripe.ErrorTypeInvalidRequest {
			return b.syncSubscription(ctx, s.ID) // it was released or has run out; the call that follows tells
		}
		return stripeError("release schedule "+s.schedule, err)
	}
	return nil
}
