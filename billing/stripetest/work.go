package stripetest

import (
	"context"
	"time"
)

// work is a transaction with the time at which it happens and the request that it happens for.
type work struct {
	storeTx
	now time.Time
	// clock is the test clock that tells now; empty: the double's own.
	clock string
	// request and key identify the API call in its events; nil for what happens by itself.
	request, key any
}

// timeID is the object that remembers how far [Server.AdvanceTo] has moved the double's time.
const timeID = "_time"

// do runs fn alone, after everything that became due before it, and wakes the deliveries afterwards.
func (s *Server) do(ctx context.Context, fn func(tx *work) error) error {
	if err := s.quietly(ctx, fn); err != nil {
		return err
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// quietly is do without waking the deliveries.
func (s *Server) quietly(ctx context.Context, fn func(tx *work) error) error {
	return s.cfg.Store.do(ctx, func(raw storeTx) error {
		tx, err := s.begin(raw)
		if err != nil {
			return err
		}
		if _, err := s.runDue(tx, tx.now, dueAtOnce); err != nil {
			return err
		}
		return fn(tx)
	})
}

func (s *Server) begin(raw storeTx) (*work, error) {
	tx := &work{storeTx: raw, now: s.cfg.Clock().UTC()}
	d, err := raw.get(timeID)
	if d == nil || err != nil {
		return tx, err
	}
	o, err := d.object()
	if err != nil {
		return nil, err
	}
	tx.now = tx.now.Add(time.Duration(number(o["ahead"])) * time.Millisecond)
	return tx, nil
}

// unix is the time of a transaction as objects have it.
func (tx *work) unix() int64 { return tx.now.Unix() }

// follow makes a transaction happen at the time of the test clock that an object is bound to, if there is one.
func (tx *work) follow(o object) error {
	clock := text(o["_clock"])
	if clock == "" || clock == tx.clock {
		return nil
	}
	d, err := tx.get(clock)
	if err != nil || d == nil || d.Kind != testClock {
		return err
	}
	c, err := d.object()
	if err != nil {
		return err
	}
	tx.clock, tx.now = clock, time.Unix(number(c["frozen_time"]), 0).UTC()
	return nil
}

// wait makes an object due at a time, in seconds; 0: never. It belongs to the clock of the transaction.
func (tx *work) wait(o object, at int64) {
	o["_queue"], o["_due"] = tx.clock, at*1000
}

// load returns an object of a kind, or Stripe's error about param. The transaction follows its test clock.
func load(tx *work, kind, id, param string) (object, error) {
	d, err := tx.get(id)
	if err != nil {
		return nil, err
	}
	if d == nil || d.Kind != kind {
		return nil, noSuch(kind, id, param)
	}
	o, err := d.object()
	if err != nil {
		return nil, err
	}
	return o, tx.follow(o)
}

// all returns every object of a query.
func all(tx *work, q query) ([]object, error) {
	docs, err := tx.find(q)
	if err != nil {
		return nil, err
	}
	out := make([]object, len(docs))
	for i, d := range docs {
		if out[i], err = d.object(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
