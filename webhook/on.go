package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"
)

// Event is an event about an object of type T, one of stripe-go's.
type Event[T any] struct {
	ID       string
	Type     string
	ObjectID string
	// Account is the connected account (acct_…), empty for our own.
	Account string
	Created time.Time
	// Object is the object, read afresh where the handler was registered with [WithFetch], and the event's picture of
	// it otherwise.
	Object *T
}

// Option changes how a handler is run.
type Option[T any] func(*typed[T])

// WithFetch reads the object before the transaction begins. It is read again when another event about it took effect
// in between, so what the handler sees is never older than the last effect. A fetch that fails is tried again later.
//
// Handlers that are registered with the same option, the value of one call, share one read per event. A fetch that
// needs further objects, or that several options have in common, shares those with [Cached]; [FromContext] tells it
// which event it is for, and so which connected account.
func WithFetch[T any](fetch func(ctx context.Context, id string) (*T, error)) Option[T] {
	shared := &fetcher[T]{read: fetch}
	return func(h *typed[T]) { h.fetch = shared }
}

// fetcher is what one call of [WithFetch] made. Its address is the key of the cache.
type fetcher[T any] struct {
	read func(ctx context.Context, id string) (*T, error)
}

// On registers fn for an event type. fn works in tx and calls nothing outside: tx commits its effects together with
// the mark that the event is done. An error rolls both back, and the event is tried again with growing pauses; wrap
// it with [Permanent] where trying again cannot help, with [NeedsPerson] where somebody has to mend something first.
// Several functions of one type run in the order of registration
// in one transaction. A type may be registered before events arrive only.
func On[T any](p *Processor, eventType string, fn func(ctx context.Context, tx *sqlx.Tx, ev Event[T]) error, opts ...Option[T]) {
	h := &typed[T]{fn: fn}
	for _, o := range opts {
		o(h)
	}
	p.handlers[eventType] = append(p.handlers[eventType], h)
}

// handler is a [typed] of any type.
type handler interface {
	// fetches tells whether prepare reads the object from Stripe.
	fetches() bool
	// prepare makes the event outside of any transaction.
	prepare(ctx context.Context, r Record, payload []byte) (any, error)
	run(ctx context.Context, tx *sqlx.Tx, event any) error
}

type typed[T any] struct {
	fn    func(ctx context.Context, tx *sqlx.Tx, ev Event[T]) error
	fetch *fetcher[T]
}

func (h *typed[T]) fetches() bool { return h.fetch != nil }

func (h *typed[T]) prepare(ctx context.Context, r Record, payload []byte) (any, error) {
	ev := Event[T]{ID: r.ID, Type: r.Type, ObjectID: r.ObjectID, Account: r.Account, Created: r.CreatedAt}
	if h.fetch != nil {
		object, err := Cached(ctx, h.fetch, func(ctx context.Context) (*T, error) { return h.fetch.read(ctx, r.ObjectID) })
		if err != nil {
			return nil, fmt.Errorf("webhook: fetch %s: %w", r.ObjectID, err)
		}
		ev.Object = object
		return ev, nil
	}
	if len(payload) == 0 {
		return nil, Permanent(fmt.Errorf("webhook: the payload of event %s was pruned and the handler reads it", r.ID))
	}
	if r.APIVersion != stripe.APIVersion {
		// Fields move between versions; decoding would leave them empty without a word.
		return nil, Permanent(fmt.Errorf("webhook: event %s has API version %q and the handler reads %s; register it with WithFetch, or pin the"+
			" endpoint's version", r.ID, r.APIVersion, stripe.APIVersion))
	}
	var body struct {
		Data struct {
			Object *T `json:"object"`
		} `json:"data"`
	}
	if err := json.Unmarshal(payload, &body); err != nil {
		return nil, Permanent(fmt.Errorf("webhook: decode event %s: %w", r.ID, err))
	}
	ev.Object = body.Data.Object
	return ev, nil
}

func (h *typed[T]) run(ctx context.Context, tx *sqlx.Tx, event any) error {
	ev, ok := event.(Event[T])
	if !ok {
		return errors.New("webhook: an event of another type")
	}
	return h.fn(ctx, tx, ev)
}
