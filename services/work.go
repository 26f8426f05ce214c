package services

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

// errTimeout: the time limit passed before Execute returned.
var errTimeout = errors.New("services: the time limit passed")

// newCall is a call as Execute sees it. stop ends its work.
func (s *Services) newCall(c *prepared, id uuid.UUID, price credits.Amount, stop func(cause error)) *Call {
	name := c.r.info.Name
	call := &Call{ID: id, Service: name, Version: c.r.info.Version, Account: c.Account, Tags: c.Tags,
		Logger: slog.New(&callHandler{Handler: s.cfg.Logger.Handler(), service: name, call: id})}
	call.m = &meter{kind: c.r.pricing.kind, rates: c.quote.Rates, limit: price, stop: stop, sink: c.sink, units: c.priced()}
	return call
}

// priced are the units that a call has before it meters any: those of its price.
func (c *prepared) priced() Units {
	if c.r.pricing.kind != PricePerUnit {
		return nil
	}
	return maps.Clone(c.quote.Units)
}

// outcome is what came of Execute.
type outcome struct {
	output json.RawMessage
	err    error
}

// work does the work of a call: an equal input's answer if there is one, else Execute within its time limit. Where
// Execute does not heed the end of its context the answer is not kept waiting, and what it returns later is dropped. A
// caller that goes away does end the context, but what Execute then returns counts: work that succeeds is charged.
func (s *Services) work(ctx context.Context, c *prepared, call *Call) (json.RawMessage, error) {
	if output, err := s.equal(ctx, c, call); output != nil || err != nil {
		return output, err
	}
	started := time.Now()
	ctx, cancel := context.WithTimeoutCause(context.WithValue(ctx, callKey{}, call), c.r.opts.timeout, errTimeout)
	defer cancel()
	done := make(chan outcome, 1)
	go func() {
		o := outcome{err: errors.New("services: Execute ended its goroutine")}
		defer func() { done <- o }()
		o = c.r.tries(ctx, c, call)
	}()
	select {
	case o := <-done:
		return o.ended(ctx)
	case <-ctx.Done():
	}
	// The time may be over, or the caller gone.
	limit := time.NewTimer(time.Until(started.Add(c.r.opts.timeout)))
	defer limit.Stop()
	select {
	case o := <-done:
		return o.ended(ctx)
	case <-limit.C:
	}
	select {
	case o := <-done: // both came at once
		if o.err == nil {
			return o.output, nil
		}
	default:
	}
	return nil, errTimeout
}

// ended is what came of Execute, whose context was ctx.
func (o outcome) ended(ctx context.Context) (json.RawMessage, error) {
	if o.err != nil && errors.Is(context.Cause(ctx), errTimeout) {
		return nil, fmt.Errorf("%w (%w)", errTimeout, o.err)
	}
	return o.output, o.err
}

const firstPause = 100 * time.Millisecond

// tries executes, again after errors that the service's policy names.
func (r *registered) tries(ctx context.Context, c *prepared, call *Call) outcome {
	again, pause := r.opts.retries.If, r.opts.retries.Pause
	if again == nil {
		again = isTemporary
	}
	if pause == 0 {
		pause = firstPause
	}
	for try := 0; ; try++ {
		o := r.try(ctx, call, c.in)
		if o.err == nil || try == r.opts.retries.Max || !again(o.err) || !call.m.restart(c.priced()) {
			return o
		}
		call.Logger.WarnContext(ctx, "service is tried again", slog.Any("error", o.err))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return o
		case <-timer.C:
			pause *= 2
		}
	}
}

// try executes once and catches panics.
func (r *registered) try(ctx context.Context, call *Call, in any) (o outcome) {
	defer func() {
		if cause := recover(); cause != nil {
			o = outcome{err: fmt.Errorf("services: Execute panicked: %v\n%s", cause, debug.Stack())}
		}
	}()
	out, err := r.execute(ctx, call, in)
	if err == nil || isPartial(err) {
		output, writing := marshal(out)
		if writing != nil {
			return outcome{err: writing}
		}
		return outcome{output, err}
	}
	return outcome{err: err}
}

func isPartial(err error) bool {
	_, ok := errors.AsType[*partialError](err)
	return ok
}

// equal returns the kept answer of an equal input, or nil.
func (s *Services) equal(ctx context.Context, c *prepared, call *Call) (json.RawMessage, error) {
	if c.r.opts.cache.For == 0 {
		return nil, nil
	}
	// Runs along qs_service_calls_equal. The writer knows of answers that were recorded a moment ago.
	query := `SELECT ` + callColumns + ` FROM qs_service_calls WHERE service = ? AND fingerprint = ? AND cached_until > ? AND version = ? AND output IS NOT NULL`
	args := []any{c.r.info.Name, c.mark, database.At(s.now()), c.r.info.Version}
	if !c.r.opts.cache.Shared {
		query, args = query+` AND account_id = ?`, append(args, c.Account)
	}
	var row callRow
	err := s.db.Writer().GetContext(ctx, &row, s.db.Rebind(query+` ORDER BY cached_until DESC LIMIT 1`), args...)
	if database.IsNoRows(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("services: look for the answer of an equal input: %w", err)
	}
	units := Units{}
	if err := json.Unmarshal([]byte(row.Units), &units); err != nil {
		return nil, fmt.Errorf("services: units of call %s: %w", row.ID, err)
	}
	return json.RawMessage(*row.Output), call.m.again(units, c.r.opts.cache.Charge)
}

// again makes a call cost what an earlier one with an equal input has used, or nothing.
func (m *meter) again(units Units, charge bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cached, m.units = true, units
	if !charge {
		m.units, m.cost, m.set = Units{}, 0, new(credits.Amount(0))
		return nil
	}
	if m.kind != PriceMetered {
		return nil
	}
	var err error
	m.cost, err = m.rates.cost(units)
	return err
}
