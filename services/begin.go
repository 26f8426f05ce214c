package services

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// maxRounds bounds how often a call finds its key taken and, at the next look, free again.
const maxRounds = 10

// errTaken: another call got the key between our look and our write.
var errTaken = errors.New("services: the idempotency key was taken meanwhile")

// begin records the intent of a call and sets its price aside, or returns the call that owns the key.
func (s *Services) begin(ctx context.Context, c *prepared) (callRow, error) {
	for round := 1; ; round++ {
		row, err := s.beginOnce(ctx, c)
		switch {
		case errors.Is(err, errTaken) && round < maxRounds:
			continue // the look of the next round finds it
		case c.IdempotencyKey != "" && problem.From(err) != nil:
			// What the ledger misses may have gone to the first call with this key, while this one waited for the account.
			if owner, lookErr := s.lookAgain(ctx, c); lookErr != nil || owner != nil {
				if owner != nil {
					return *owner, lookErr
				}
				return callRow{}, lookErr
			}
		}
		return row, err
	}
}

func (s *Services) lookAgain(ctx context.Context, c *prepared) (owner *callRow, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		owner, err = s.owner(ctx, tx, c)
		return err
	})
	return owner, err
}

// owner returns the call that owns the key, or nil when the key is free. It is one that has ended, or that waits or runs
// in the background where that was asked for.
func (s *Services) owner(ctx context.Context, tx *sqlx.Tx, c *prepared) (*callRow, error) {
	if c.IdempotencyKey == "" {
		return nil, nil
	}
	row, err := s.findKey(ctx, tx, c.Account, c.IdempotencyKey)
	if err != nil || row == nil {
		return nil, err
	}
	open := row.Status == Running || row.Status == Queued
	switch {
	case open && !row.ExpiresAt.After(s.now()):
		// Its process has died: the key is free, even if the sweep has not come by.
		_, err := s.giveUp(ctx, tx, *row)
		return nil, err
	case row.Fingerprint != c.mark:
		return nil, ErrKeyMismatch
	case open && !c.background:
		return nil, ErrInProgress
	}
	return row, nil
}

func (s *Services) beginOnce(ctx context.Context, c *prepared) (row callRow, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		owner, err := s.owner(ctx, tx, c)
		if err != nil {
			return err
		}
		if owner != nil {
			row = *owner
			return nil
		}
		if c.refusal != nil {
			return c.refusal
		}
		if row, err = s.newRow(c); err != nil {
			return err
		}
		// The account's lock comes first, and calls of one account with one key queue up behind it.
		if c.quote.Credits > 0 {
			if err := s.reserve(ctx, tx, c, &row); err != nil {
				return err
			}
		}
		if !c.background {
			if err := s.limit(ctx, tx, c.r, row.Account); err != nil {
				return err
			}
		}
		inserted, err := s.insert(ctx, tx, row, c.Tags)
		if err != nil {
			return err
		}
		if !inserted {
			return errTaken
		}
		if c.background {
			return s.enqueue(ctx, tx, row.ID)
		}
		return nil
	})
	return row, err
}

// newRow is the row of a call that begins.
func (s *Services) newRow(c *prepared) (callRow, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return callRow{}, fmt.Errorf("services: make an id: %w", err)
	}
	now := s.now()
	row := callRow{ID: id, Account: c.Account, Service: c.r.info.Name, Version: c.r.info.Version, Status: Running, Price: c.quote.Credits, Fingerprint: c.mark,
		CreatedAt: database.At(now), ExpiresAt: database.At(now.Add(c.r.opts.timeout + holdMargin)), Units: emptyObject, Tags: c.tags, Notify: c.notify}
	if c.IdempotencyKey != "" {
		row.Key = &c.IdempotencyKey
	}
	if c.background {
		input, err := json.Marshal(c.in)
		if err != nil {
			return callRow{}, fmt.Errorf("services: write the input of call %s: %w", id, err)
		}
		row.Status, row.Input = Queued, new(string(input))
		row.ExpiresAt = database.At(row.ExpiresAt.Add(maxQueued))
	} else {
		row.StartedAt, row.Attempts = &row.CreatedAt, 1
	}
	return row, nil
}

// reserve sets the price of a call aside, or what the account has of it where the service takes that.
func (s *Services) reserve(ctx context.Context, tx *sqlx.Tx, c *prepared, row *callRow) error {
	p := credits.ReserveParams{Account: c.Account, Amount: row.Price, TTL: row.ExpiresAt.Sub(row.CreatedAt.Time), Over: credits.OverCap,
		Service: row.Service, Reason: reasonOf(c.r.info.Title), Reference: referenceOf(row.ID)}
	hold, err := s.cfg.Ledger.ReserveTx(ctx, tx, p)
	if short, ok := errors.AsType[*credits.InsufficientError](err); ok && c.r.opts.least > 0 && short.Debt == 0 && short.Available >= c.r.opts.least {
		p.Amount = short.Available
		hold, err = s.cfg.Ledger.ReserveTx(ctx, tx, p)
	}
	if err != nil {
		return err
	}
	s.funds.forget(c.Account)
	row.HoldID, row.Price = &hold.ID, hold.Amount
	return nil
}

// limit refuses a call beyond the service's limits of concurrency. Calls whose process has died do not count.
func (s *Services) limit(ctx context.Context, tx *sqlx.Tx, r *registered, account string) error {
	if r.opts.perAccount == 0 && r.opts.inAll == 0 {
		return nil
	}
	// One after the other, of all accounts: what is counted does not change before our row is there.
	const ensure = `INSERT INTO qs_service_settings (service, updated_at) VALUES (?, ?) ON CONFLICT DO NOTHING`
	if _, err := s.db.ExecTx(ctx, tx, ensure, r.info.Name, database.At(s.now())); err != nil {
		return fmt.Errorf("services: make the settings of %s: %w", r.info.Name, err)
	}
	var name string
	if err := s.db.GetTx(ctx, tx, &name, `SELECT service FROM qs_service_settings WHERE service = ?`+s.db.Dialect().ForUpdate(), r.info.Name); err != nil {
		return fmt.Errorf("services: lock the settings of %s: %w", r.info.Name, err)
	}
	// Runs along qs_service_calls_busy.
	const count = `SELECT COUNT(*) AS in_all, COALESCE(SUM(CASE WHEN account_id = ? THEN 1 ELSE 0 END), 0) AS of_account
		FROM qs_service_calls WHERE service = ? AND status = 'running' AND expires_at > ?`
	var running struct {
		InAll     int `db:"in_all"`
		OfAccount int `db:"of_account"`
	}
	if err := s.db.GetTx(ctx, tx, &running, count, account, r.info.Name, database.At(s.now())); err != nil {
		return fmt.Errorf("services: count the calls of %s: %w", r.info.Name, err)
	}
	if (r.opts.perAccount > 0 && running.OfAccount >= r.opts.perAccount) || (r.opts.inAll > 0 && running.InAll >= r.opts.inAll) {
		return ErrBusy
	}
	return nil
}

// replay answers with a call that ended before.
func (s *Services) replay(ctx context.Context, row callRow) (Result, error) {
	if row.Status == Failed {
		return Result{}, &CallError{Call: row.ID, Charged: row.Charged, Code: row.ErrorCode, Message: row.ErrorText}
	}
	balance, err := s.cfg.Ledger.Balance(ctx, row.Account)
	if err != nil {
		return Result{}, err
	}
	return row.result(balance.Available)
}

// result is the answer of a call that succeeded and whose output was kept.
func (r callRow) result(balance credits.Amount) (Result, error) {
	result := Result{Service: r.Service, Version: r.Version, CallID: r.ID, Charged: r.Charged, Balance: balance, Cached: r.Cached}
	if r.Output != nil {
		result.Output = json.RawMessage(*r.Output)
	}
	if r.Status == PartlySucceeded {
		result.Incomplete = &Incomplete{r.ErrorCode, r.ErrorText}
	}
	if r.Units == emptyObject {
		return result, nil
	}
	if err := json.Unmarshal([]byte(r.Units), &result.Units); err != nil {
		return Result{}, fmt.Errorf("services: units of call %s: %w", r.ID, err)
	}
	return result, nil
}
