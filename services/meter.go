package services

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
)

// Call is one use of a service, as Execute sees it. Its methods are safe for concurrent use, and do nothing once
// Execute has returned.
type Call struct {
	ID      uuid.UUID
	Service string
	Version string
	// Account pays for the call.
	Account string
	// Tags are those that the caller gave for its own accounting.
	Tags map[string]string
	// Logger adds the call's id to each line.
	Logger *slog.Logger

	m *meter
}

// NewCall makes a call that is not charged, for tests of Execute by itself.
func NewCall(service, account string) *Call {
	c := &Call{ID: uuid.New(), Service: service, Account: account, Logger: slog.New(slog.DiscardHandler)}
	c.m = &meter{units: Units{}, kind: PriceFree, stop: func(error) {}}
	return c
}

// Meter reports that the work used n more units, such as tokens. Of a metered price the unit must have a rate; with any
// other price the units are only recorded. [ErrOutOfCredits] says that what was set aside is used up: ctx has ended too,
// and the work should return what it has. Nothing is written to the database before the end of the call.
func (c *Call) Meter(unit string, n int64) error { return c.m.add(unit, n) }

// Charge sets what a call without a metered price costs, between zero and the price that was quoted, such as for output
// that is not complete.
func (c *Call) Charge(amount credits.Amount) error { return c.m.charge(amount) }

// Used are the units that were metered until now, and what they cost.
func (c *Call) Used() (Units, credits.Amount) { return c.m.used() }

// Streaming tells whether the caller sees what [Call.Send] sends while the work goes on.
func (c *Call) Streaming() bool { return c.m.sink != nil }

// Send sends a part of the output, which is encoded as JSON, to a caller who waits for a stream; for others it does
// nothing. What Execute returns at the end is the whole output, or a summary of it: it is what is kept, and given again
// under the same idempotency key. The errors are [ErrOutOfCredits], [ErrLeft] and that of an encoding.
func (c *Call) Send(part any) error { return c.m.send(part) }

var (
	// ErrOutOfCredits says that what was set aside for the call is used up.
	ErrOutOfCredits error = problem.New(codeOutOfCredits, "The credits for this call are used up, so it was stopped.")
	// ErrLeft says that the caller of a stream is gone.
	ErrLeft = errors.New("services: the caller of the stream is gone")
)

// errEnded: the call is over.
var errEnded = errors.New("services: the call has ended")

// Part is a part of a stream.
type Part struct {
	// Data is what was sent, as JSON.
	Data json.RawMessage
	// Units are those metered until then, and Credits what the call costs if it ends there.
	Units   Units
	Credits credits.Amount
}

// meter counts what one call uses.
type meter struct {
	kind  PriceKind
	rates Rates
	// limit is what was set aside, or the price.
	limit credits.Amount
	// stop ends the work with a cause.
	stop func(cause error)
	// sink gets the parts of a stream. Nil: nobody waits for them.
	sink func(part Part) error

	mu     sync.Mutex
	units  Units
	cost   credits.Amount // of a metered price
	set    *credits.Amount
	sent   bool
	out    bool // of credits
	left   bool
	cached bool
	ended  bool
}

func (m *meter) add(unit string, n int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.ended:
		return errEnded
	case n < 0 || unit == "" || len(unit) > maxUnit:
		return fmt.Errorf("services: meter %d of %q: it takes a name of up to %d bytes and zero or more units", n, unit, maxUnit)
	}
	next := maps.Clone(m.units)
	if m.kind != PriceMetered {
		next = m.units
	}
	if next == nil {
		next = Units{}
	}
	next[unit] += n
	if m.kind != PriceMetered {
		m.units = next
		return nil
	}
	cost, err := m.rates.cost(next)
	if err != nil {
		return err
	}
	m.units, m.cost = next, cost
	if cost > m.limit {
		m.out = true
		m.stop(ErrOutOfCredits)
		return ErrOutOfCredits
	}
	return nil
}

func (m *meter) charge(amount credits.Amount) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.ended:
		return errEnded
	case m.kind == PriceMetered:
		return errors.New("services: a metered call costs what it has metered")
	case amount < 0 || amount > m.limit:
		return fmt.Errorf("services: a call of the price %s cannot cost %s", m.limit, amount)
	}
	m.set = &amount
	return nil
}

func (m *meter) used() (Units, credits.Amount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.units), m.due()
}

// due is what the call costs if it counts, and is asked under the lock.
func (m *meter) due() credits.Amount {
	switch {
	case m.kind == PriceMetered:
		return min(m.cost, m.limit)
	case m.set != nil:
		return *m.set
	default:
		return m.limit
	}
}

func (m *meter) send(part any) error {
	if m.sink == nil {
		return nil
	}
	text, err := json.Marshal(part)
	if err != nil {
		return fmt.Errorf("services: write a part of a stream: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.ended:
		return errEnded
	case m.left:
		return ErrLeft
	case m.out:
		return ErrOutOfCredits
	}
	if err := m.sink(Part{Data: text, Units: maps.Clone(m.units), Credits: m.due()}); err != nil {
		m.left = true
		m.stop(ErrLeft)
		return ErrLeft
	}
	m.sent = true
	return nil
}

// end stops the counting and returns what was counted.
func (m *meter) end() metered {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	return metered{units: m.units, due: m.due(), sent: m.sent, out: m.out, left: m.left, cached: m.cached}
}

// restart forgets what a failed try has counted, and tells whether another may follow.
func (m *meter) restart(units Units) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sent || m.out || m.left {
		return false
	}
	m.units, m.cost, m.set = maps.Clone(units), 0, nil
	return true
}

// metered is what a call has used in the end.
type metered struct {
	units Units
	// due is what the call costs if it counts.
	due             credits.Amount
	sent, out, left bool
	cached          bool
}

type callKey struct{}

// CallFrom returns the call whose work ctx belongs to.
func CallFrom(ctx context.Context) (*Call, bool) {
	c, ok := ctx.Value(callKey{}).(*Call)
	return c, ok
}
