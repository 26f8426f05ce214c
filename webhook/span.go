package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/event"

	"github.com/quickscale/quickscale/internal/problem"
)

// Lister lists Stripe's events; the field Events of stripe-go's client.API is one.
type Lister interface {
	List(params *stripe.EventListParams) *event.Iter
}

// Limits of Stripe's list (docs.stripe.com/api/events/list).
const (
	// MaxSpan is how long Stripe lists events.
	MaxSpan      = 30 * 24 * time.Hour
	maxSpanTypes = 20
	spanPage     = 100
)

// SpanParams choose a span of Stripe's events.
type SpanParams struct {
	// From and To bound the time of creation, both inclusive, to the second. Zero To: now. From is at most 30 days ago.
	From time.Time
	To   time.Time
	// Types leaves out other types; at most 20. Empty: all.
	Types []string
	// Undelivered leaves out events that Stripe delivered to all endpoints.
	Undelivered bool
	// Account is the connected account whose events are listed. Empty: our own.
	Account string
	// Again runs those once more that are in the inbox and came to an end. Otherwise only missing events are taken.
	Again bool
	// By is who asks; recorded where Again has an effect. Required.
	By string
	// Reason is recorded too. Optional.
	Reason string
	// DryRun tells what would be done and does nothing.
	DryRun bool
}

// Span is what became of a span of events.
type Span struct {
	// Listed is how many events Stripe has, Missing how many of them were not in the inbox, Replayed how many ran again.
	Listed   int  `json:"listed"`
	Missing  int  `json:"missing"`
	Replayed int  `json:"replayed"`
	DryRun   bool `json:"dry_run"`
}

func (p *Processor) validSpan(params *SpanParams) error {
	if params.To.IsZero() {
		params.To = p.now()
	}
	switch {
	case params.By == "":
		return ErrNoActor
	case params.From.IsZero() || params.From.After(params.To):
		return problem.Invalid(map[string]string{"from": "Say when the span begins; it must be before its end."})
	case p.now().Sub(params.From) > MaxSpan:
		return problem.Invalid(map[string]string{"from": "Stripe lists the events of the last 30 days only."})
	case len(params.Types) > maxSpanTypes:
		return problem.Invalid(map[string]string{"types": "At most 20 types at once."})
	}
	return nil
}

// ReplaySpan takes the events of a span of time from Stripe's list: those that never arrived are stored and processed
// as if they had been delivered, and with Again the others run once more. It can be interrupted and called again.
// Errors: [ErrNoActor], a [problem.Error] for a span that Stripe does not list, Stripe's own.
func (p *Processor) ReplaySpan(ctx context.Context, stripeEvents Lister, params SpanParams) (Span, error) {
	if err := p.validSpan(&params); err != nil {
		return Span{}, err
	}
	list := &stripe.EventListParams{CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: params.From.Unix(), LesserThanOrEqual: params.To.Unix()}}
	list.Context = ctx
	list.Limit = stripe.Int64(spanPage)
	if len(params.Types) > 0 {
		list.Types = stripe.StringSlice(params.Types)
	}
	if params.Undelivered {
		list.DeliverySuccess = stripe.Bool(false)
	}
	if params.Account != "" {
		list.SetStripeAccount(params.Account)
	}
	span := Span{DryRun: params.DryRun}
	var page []*arrival
	iter := stripeEvents.List(list)
	for iter.Next() {
		a, err := p.listed(iter.Event(), params.Account)
		if err != nil {
			return span, err
		}
		span.Listed++
		if page = append(page, a); len(page) < intakeBatch {
			continue
		}
		if err := p.replayPage(ctx, page, params, &span); err != nil {
			return span, err
		}
		page = nil
	}
	if err := iter.Err(); err != nil {
		return span, fmt.Errorf("webhook: list Stripe's events: %w", err)
	}
	return span, p.replayPage(ctx, page, params, &span)
}

// listed makes of a listed event what a delivery would have brought.
func (p *Processor) listed(ev *stripe.Event, account string) (*arrival, error) {
	if ev.Account == "" {
		ev.Account = account // the list of a connected account leaves it out
	}
	body, err := json.Marshal(ev)
	if err != nil {
		return nil, fmt.Errorf("webhook: encode event %s: %w", ev.ID, err)
	}
	e, err := parse(body)
	if err != nil {
		return nil, fmt.Errorf("webhook: event %s of Stripe's list: %w", ev.ID, err)
	}
	if e.Livemode != p.cfg.Livemode {
		return nil, fmt.Errorf("webhook: event %s of Stripe's list is of the other mode (live or test) than Config.Livemode", ev.ID)
	}
	return &arrival{event: e, payload: string(body)}, nil
}

// replayPage stores what is missing of a page and runs the rest again where that is asked for.
func (p *Processor) replayPage(ctx context.Context, page []*arrival, params SpanParams, span *Span) error {
	if len(page) == 0 {
		return nil
	}
	now := p.now()
	err := p.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if params.DryRun {
			return p.missing(ctx, tx, page, now)
		}
		return p.storeTx(ctx, tx, page, now)
	})
	if err != nil {
		return err
	}
	var known []string
	for _, a := range page {
		if a.stored {
			span.Missing++
		} else {
			known = append(known, a.event.ID)
		}
	}
	if !params.Again || len(known) == 0 {
		return nil
	}
	acted, err := p.Replay(ctx, ActParams{IDs: known, By: params.By, Reason: params.Reason, DryRun: params.DryRun})
	span.Replayed += len(acted.Events)
	return err
}

// missing marks as stored what storeTx would store.
func (p *Processor) missing(ctx context.Context, tx *sqlx.Tx, page []*arrival, now time.Time) error {
	unseen, err := p.unseen(ctx, tx, append([]*arrival(nil), page...), now)
	if err != nil || len(unseen) == 0 {
		return err
	}
	ids := make([]string, len(unseen))
	for i, a := range unseen {
		ids[i] = a.event.ID
	}
	query, args, err := sqlx.In(`SELECT id FROM qs_webhook_events WHERE id IN (?)`, ids)
	if err != nil {
		return fmt.Errorf("webhook: look for events: %w", err)
	}
	var known []string
	if err := p.db.SelectTx(ctx, tx, &known, query, args...); err != nil {
		return fmt.Errorf("webhook: look for events: %w", err)
	}
	there := make(map[string]bool, len(known))
	for _, id := range known {
		there[id] = true
	}
	for _, a := range unseen {
		a.stored = !there[a.event.ID]
	}
	return nil
}
