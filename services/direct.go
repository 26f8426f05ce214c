package services

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
)

// direct tells that a call is charged in one step after its work; see [ChargeAfter].
func (c *prepared) direct() bool {
	o := &c.r.opts
	return o.chargeAfter && c.IdempotencyKey == "" && c.sink == nil && !c.background && c.r.pricing.kind != PriceMetered &&
		o.perAccount == 0 && o.inAll == 0 && o.cache.For == 0
}

// runDirect does the work and then charges it. The debit is the record of the charge; the usage row follows.
func (s *Services) runDirect(ctx context.Context, c *prepared) (Result, error) {
	done, err := s.funds.take(ctx, s.cfg.Ledger, c.Account, c.quote.Credits)
	if err != nil {
		return Result{}, err
	}
	defer done(nil)
	id, err := uuid.NewV7()
	if err != nil {
		return Result{}, fmt.Errorf("services: make an id: %w", err)
	}
	row := &ended{id: id, account: c.Account, service: c.r.info.Name, version: c.r.info.Version, price: c.quote.Credits, began: s.now(), tags: c.Tags, tagsText: c.tags}
	// Nothing but the end of its time ends such work: it has no stream and no metered price.
	call := s.newCall(c, id, row.price, func(error) {})
	started := time.Now()
	output, workErr := s.work(ctx, c, call)
	row.latency = time.Since(started)
	used := call.m.end()
	e, failure := s.judge(ctx, c, id, used, output, workErr)
	if failure != nil {
		call.Logger.ErrorContext(ctx, "service failed", slog.Any("error", workErr))
	}
	row.status, row.charged, row.code, row.text, row.units = e.status, e.charged, e.code, e.text, e.units
	var balance credits.Amount
	if e.charge {
		p := c.debit(id, e.charged)
		p.Metadata = row.metadata()
		// The work is done although the caller may be gone.
		entry, err := s.debit(context.WithoutCancel(ctx), p)
		switch refusal := problem.From(err); {
		case err == nil:
			row.entry, balance = entry.ID, entry.Available
			done(&balance)
		case refusal != nil:
			failure = &CallError{Call: id, Code: refusal.ErrorCode(), Message: refusal.ErrorMessage(), cause: err}
			row.status, row.code, row.text, row.charged = Failed, failure.Code, failure.Message, 0
		default:
			call.Logger.ErrorContext(ctx, "outcome not recorded", slog.Any("error", err))
			return Result{}, fmt.Errorf("%w (%w)", ErrOutcomeUnknown, err)
		}
	}
	row.finished = s.now()
	s.recorder.add(ctx, row)
	if failure != nil {
		return Result{}, failure
	}
	result := Result{Service: row.service, Version: row.version, CallID: id, Output: output, Charged: row.charged, Balance: balance, Units: used.units}
	if e.status == PartlySucceeded {
		result.Incomplete = &Incomplete{e.code, e.text}
	}
	return result, nil
}

// debit charges a call, with others that are charged in the same moment. Tried again under its key, it happens once.
func (s *Services) debit(ctx context.Context, p credits.DebitParams) (credits.Entry, error) {
	end := time.Now().Add(recordLimit)
	pause := recordBackoff
	for try := 1; ; try++ {
		entry, err := s.debitOnce(ctx, p)
		if err == nil || try == recordTries || problem.From(err) != nil || time.Now().Add(2*pause).After(end) {
			return entry, err
		}
		time.Sleep(pause + rand.N(pause))
		pause *= 2
	}
}

func (s *Services) debitOnce(ctx context.Context, p credits.DebitParams) (credits.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTry)
	defer cancel()
	return s.cfg.Ledger.Debit(ctx, p)
}

// fundsCache knows what accounts had a moment ago and what their calls under way will cost, so that work is not done for
// accounts that cannot pay. It decides nothing: the ledger does.
type fundsCache struct {
	mu       sync.Mutex
	accounts map[string]*fund
}

type fund struct {
	available credits.Amount
	at        time.Time
	pending   credits.Amount
	calls     int
}

const (
	// fundsAge is how long a balance that suffices is believed.
	fundsAge = 5 * time.Second
	// maxFunds bounds the accounts that are remembered.
	maxFunds = 10_000
)

// take admits a call that costs price. done is called with the balance after its charge, or nil; calls after the first
// do nothing.
func (f *fundsCache) take(ctx context.Context, ledger Ledger, account string, price credits.Amount) (done func(left *credits.Amount), err error) {
	if price == 0 {
		return func(*credits.Amount) {}, nil
	}
	if !f.admit(account, price) {
		b, err := ledger.Balance(ctx, account)
		switch {
		case err != nil:
			return nil, err
		case b.Frozen:
			return nil, credits.ErrFrozen
		}
		f.learn(account, b.Available)
		if !f.admit(account, price) {
			return nil, &credits.InsufficientError{Required: price, Available: b.Available, Debt: b.Debt}
		}
	}
	var once sync.Once
	return func(left *credits.Amount) { once.Do(func() { f.end(account, price, left) }) }, nil
}

func (f *fundsCache) admit(account string, price credits.Amount) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.accounts[account]
	if a == nil || time.Since(a.at) > fundsAge || a.available-a.pending < price {
		return false
	}
	a.pending += price
	a.calls++
	return true
}

func (f *fundsCache) learn(account string, available credits.Amount) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.accounts == nil {
		f.accounts = map[string]*fund{}
	}
	a := f.accounts[account]
	if a == nil {
		if len(f.accounts) >= maxFunds {
			f.shrink()
		}
		a = &fund{}
		f.accounts[account] = a
	}
	a.available, a.at = available, time.Now()
}

// forget makes the next call look at the balance: something else was set aside.
func (f *fundsCache) forget(account string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.accounts[account]; a != nil {
		a.at = time.Time{}
	}
}

// shrink forgets accounts without calls.
func (f *fundsCache) shrink() {
	for account, a := range f.accounts {
		if a.calls == 0 {
			delete(f.accounts, account)
		}
	}
}

func (f *fundsCache) end(account string, price credits.Amount, left *credits.Amount) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.accounts[account]
	a.pending -= price
	a.calls--
	if left != nil {
		a.available, a.at = *left, time.Now()
	}
}
