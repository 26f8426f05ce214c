package services

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// RunParams are one call.
type RunParams struct {
	// Account pays. Required.
	Account string
	// Service is the name of a registered service. Required.
	Service string
	// Input is a value of the service's In, or JSON as json.RawMessage or []byte.
	Input any
	// IdempotencyKey makes a repetition with the same input return the first answer and no second charge, in any
	// process. Keys are the account's own, 1 to 255 characters. A call that failed for free gives its key free. Empty:
	// none.
	IdempotencyKey string
}

// Result is the answer of a call that succeeded.
type Result struct {
	Service string    `json:"service"`
	CallID  uuid.UUID `json:"call_id"`
	// Output is the service's Out as JSON.
	Output json.RawMessage `json:"result"`
	// Charged is what the call cost.
	Charged credits.Amount `json:"credits_charged"`
	// Balance is what the account can spend after the call; for a repeated call, now.
	Balance credits.Amount `json:"balance"`
}

// How long a call's outcome is tried to be recorded: the tries of one outcome together, each of them, and the pause
// after the first, which doubles. A call is given up for dead holdMargin after its time limit, later than any try.
const (
	recordLimit   = 20 * time.Second
	recordTry     = 5 * time.Second
	recordTries   = 5
	recordBackoff = 50 * time.Millisecond
	holdMargin    = time.Minute
)

// Bounds of what a call names.
const (
	maxKey     = 255
	maxAccount = 200
)

// Run calls a service and charges for it. Nothing is recorded or charged when it is refused: by [ErrNotFound], input
// that is malformed or invalid, [ErrInactive], [*credits.InsufficientError], [ErrKeyInvalid], [ErrKeyMismatch] or
// [ErrInProgress]. A call that began and failed returns a [*CallError]. [ErrOutcomeUnknown] says that the work
// succeeded and its charge could not be recorded in time; then its result is kept back, and what was set aside for it
// comes back by itself if the charge indeed was not made.
func (s *Services) Run(ctx context.Context, p RunParams) (Result, error) {
	r, err := s.find(p.Service)
	if err != nil {
		return Result{}, err
	}
	if p.Account == "" || len(p.Account) > maxAccount {
		return Result{}, credits.ErrAccountRequired
	}
	if p.IdempotencyKey != "" && !validKey(p.IdempotencyKey) {
		return Result{}, ErrKeyInvalid
	}
	in, err := r.accept(p.Input)
	if err != nil {
		return Result{}, err
	}
	mark, err := fingerprint(r.info.Name, in)
	if err != nil {
		return Result{}, err
	}
	price, err := r.price(in)
	if err != nil {
		return Result{}, fmt.Errorf("services: price of %s: %w", r.info.Name, err)
	}
	if price < 0 {
		return Result{}, fmt.Errorf("services: price of %s: %s is below zero", r.info.Name, price)
	}
	began, err := s.begin(ctx, r, p, price, mark)
	if err != nil {
		return Result{}, err
	}
	if began.Status != Running {
		return s.replay(ctx, began)
	}
	return s.carryOut(ctx, r, began, in)
}

func validKey(key string) bool {
	if !utf8.ValidString(key) || utf8.RuneCountInString(key) > maxKey || key == "" {
		return false
	}
	for _, c := range key {
		if unicode.IsControl(c) {
			return false
		}
	}
	return true
}

// accept makes a valid In of what Run was given.
func (r *registered) accept(given any) (any, error) {
	switch v := given.(type) {
	case json.RawMessage:
		return r.input.decode(v)
	case []byte:
		return r.input.decode(v)
	}
	if reflect.TypeOf(given) != r.input.goType {
		return nil, fmt.Errorf("services: the input of %s is a %s or JSON, not %T", r.info.Name, r.input.goType, given)
	}
	// A value passes through JSON as well, so that every front end has the same rules.
	text, err := json.Marshal(given)
	if err != nil {
		return nil, fmt.Errorf("services: write the input of %s: %w", r.info.Name, err)
	}
	return r.input.decode(text)
}

// maxRounds bounds how often a call finds its key taken and, at the next look, free again.
const maxRounds = 10

// errTaken: another call got the key between our look and our write.
var errTaken = errors.New("services: the idempotency key was taken meanwhile")

// begin records the intent of a call and sets its price aside, or returns the ended call that owns the key.
func (s *Services) begin(ctx context.Context, r *registered, p RunParams, price credits.Amount, mark string) (callRow, error) {
	for round := 1; ; round++ {
		row, err := s.beginOnce(ctx, r, p, price, mark)
		switch {
		case errors.Is(err, errTaken) && round < maxRounds:
			continue // the look of the next round finds it
		case p.IdempotencyKey != "" && problem.From(err) != nil:
			// What the ledger misses may have gone to the first call with this key, while this one waited for the account.
			if owner, lookErr := s.lookAgain(ctx, p, mark); lookErr != nil || owner != nil {
				if owner != nil {
					return *owner, lookErr
				}
				return callRow{}, lookErr
			}
		}
		return row, err
	}
}

func (s *Services) lookAgain(ctx context.Context, p RunParams, mark string) (owner *callRow, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		owner, err = s.owner(ctx, tx, p, mark)
		return err
	})
	return owner, err
}

// owner returns the ended call that owns the key, or nil when the key is free.
func (s *Services) owner(ctx context.Context, tx *sqlx.Tx, p RunParams, mark string) (*callRow, error) {
	if p.IdempotencyKey == "" {
		return nil, nil
	}
	row, err := s.findKey(ctx, tx, p.Account, p.IdempotencyKey)
	switch {
	case err != nil || row == nil:
		return nil, err
	case row.Status == Running && !row.ExpiresAt.After(s.now()):
		// Its process has died: the key is free, even if the sweep has not come by.
		_, err := s.giveUp(ctx, tx, *row)
		return nil, err
	case row.Fingerprint != mark:
		return nil, ErrKeyMismatch
	case row.Status == Running:
		return nil, ErrInProgress
	}
	return row, nil
}

func (s *Services) beginOnce(ctx context.Context, r *registered, p RunParams, price credits.Amount, mark string) (row callRow, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		owner, err := s.owner(ctx, tx, p, mark)
		if err != nil {
			return err
		}
		if owner != nil {
			row = *owner
			return nil
		}
		if r.opts.inactive {
			return ErrInactive
		}
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("services: make an id: %w", err)
		}
		now, ttl := s.now(), r.opts.timeout+holdMargin
		row = callRow{ID: id, Account: p.Account, Service: r.info.Name, Version: r.info.Version, Status: Running, Price: price, Fingerprint: mark,
			CreatedAt: database.At(now), ExpiresAt: database.At(now.Add(ttl))}
		if p.IdempotencyKey != "" {
			row.Key = &p.IdempotencyKey
		}
		// The account's lock comes first, and calls of one account with one key queue up behind it.
		if price > 0 {
			hold, err := s.cfg.Ledger.ReserveTx(ctx, tx, credits.ReserveParams{Account: p.Account, Amount: price, TTL: ttl,
				Reason: row.reason(r.info.Title), Reference: row.reference()})
			if err != nil {
				return err
			}
			row.HoldID = &hold.ID
		}
		inserted, err := s.insert(ctx, tx, row)
		if err == nil && !inserted {
			return errTaken
		}
		return err
	})
	return row, err
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
	return Result{Service: row.Service, CallID: row.ID, Output: json.RawMessage(*row.Output), Charged: row.Charged, Balance: balance.Available}, nil
}

// carryOut does the work of a call that has begun and records its outcome.
func (s *Services) carryOut(ctx context.Context, r *registered, row callRow, in any) (Result, error) {
	call := &Call{ID: row.ID, Service: row.Service, Account: row.Account,
		Logger: s.cfg.Logger.With(slog.String("service", row.Service), slog.String("call", row.ID.String()))}
	started := time.Now()
	output, workErr := r.work(ctx, call, in)
	e := end{status: Succeeded, charge: true, charged: row.Price, output: output, latency: time.Since(started)}
	var failure *CallError
	if workErr != nil {
		call.Logger.ErrorContext(ctx, "service failed", slog.Any("error", workErr))
		failure = explain(ctx, r, row.ID, workErr)
		e.status, e.output, e.code, e.text = Failed, nil, failure.Code, failure.Message
		if e.charge = r.opts.chargeOnFailure; !e.charge {
			e.charged = 0
		}
		failure.Charged = e.charged
	}
	// The outcome is recorded although the caller may be gone.
	balance, err := s.record(context.WithoutCancel(ctx), r, row, e)
	switch {
	case errors.Is(err, errGivenUp), errors.Is(err, credits.ErrHoldReleased):
		return Result{}, &CallError{Call: row.ID, Code: codeInterrupted, Message: interrupted, cause: err}
	case problem.From(err) != nil:
		// The ledger refuses the charge, as for an account that was frozen meanwhile: the call has failed.
		refusal := problem.From(err)
		failure = &CallError{Call: row.ID, Code: refusal.ErrorCode(), Message: refusal.ErrorMessage(), cause: err}
		e = end{status: Failed, code: failure.Code, text: failure.Message, latency: e.latency}
		_, err = s.record(context.WithoutCancel(ctx), r, row, e)
	}
	switch {
	case err != nil:
		call.Logger.ErrorContext(ctx, "outcome not recorded", slog.Any("error", err))
		return Result{}, fmt.Errorf("%w (%w)", ErrOutcomeUnknown, err)
	case failure != nil:
		return Result{}, failure
	}
	return Result{Service: row.Service, CallID: row.ID, Output: output, Charged: e.charged, Balance: balance}, nil
}

// record writes the outcome of a call and its charge in one transaction. It tries again for a while when the database
// does not answer; each try does nothing where one before came through without our hearing of it. It returns what the
// account can spend then, for a call that was charged.
func (s *Services) record(ctx context.Context, r *registered, row callRow, e end) (credits.Amount, error) {
	ctx, cancel := context.WithTimeout(ctx, recordLimit)
	defer cancel()
	pause := recordBackoff
	for try := 1; ; try++ {
		balance, err := s.recordOnce(ctx, r, row, e)
		if err == nil || try == recordTries || errors.Is(err, errGivenUp) || problem.From(err) != nil {
			return balance, err
		}
		select {
		case <-ctx.Done():
			return 0, err
		case <-time.After(pause + rand.N(pause)):
			pause *= 2
		}
	}
}

// errGivenUp: the call was taken for dead while it still worked, and its hold given back.
var errGivenUp = errors.New("services: the call was given up before it ended")

func (s *Services) recordOnce(ctx context.Context, r *registered, row callRow, e end) (balance credits.Amount, err error) {
	ctx, cancel := context.WithTimeout(ctx, recordTry)
	defer cancel()
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		var entry credits.Entry
		var err error
		switch {
		case e.charge && row.HoldID != nil:
			entry, err = s.cfg.Ledger.SettleTx(ctx, tx, *row.HoldID, e.charged)
		case e.charge:
			entry, err = s.cfg.Ledger.DebitTx(ctx, tx, credits.DebitParams{Account: row.Account, Reason: row.reason(r.info.Title),
				Reference: row.reference(), IdempotencyKey: row.reference()})
		case row.HoldID != nil:
			err = s.cfg.Ledger.ReleaseTx(ctx, tx, *row.HoldID)
		}
		if err != nil {
			return err
		}
		if entry.ID != uuid.Nil {
			e.entry, balance = &entry.ID, entry.Available
		}
		closed, status, err := s.close(ctx, tx, row.ID, e)
		if err == nil && !closed && status != e.status {
			return errGivenUp
		}
		return err
	})
	return balance, err
}

// errTimeout: the time limit passed before Execute returned.
var errTimeout = errors.New("services: the time limit passed")

// outcome is what came of Execute.
type outcome struct {
	output json.RawMessage
	err    error
}

// work runs Execute under its time limit and catches its panics. Where Execute does not heed the end of its context
// the answer is not kept waiting, and what it returns later is dropped. A caller that goes away does end the context,
// but what Execute then returns counts: work that succeeds is charged.
func (r *registered) work(ctx context.Context, call *Call, in any) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.opts.timeout, errTimeout)
	defer cancel()
	done := make(chan outcome, 1)
	go func() {
		o := outcome{err: errors.New("services: Execute ended its goroutine")}
		defer func() {
			if cause := recover(); cause != nil {
				o = outcome{err: fmt.Errorf("services: Execute panicked: %v\n%s", cause, debug.Stack())}
			}
			done <- o
		}()
		out, err := r.execute(ctx, call, in)
		if err == nil {
			o.output, o.err = json.Marshal(out)
			// A part that was JSON already is passed on as it was, and PostgreSQL takes no text that is not UTF-8.
			o.output = bytes.ToValidUTF8(o.output, []byte("\uFFFD"))
		} else {
			o.err = err
		}
	}()
	limit := time.NewTimer(r.opts.timeout)
	defer limit.Stop()
	select {
	case o := <-done:
		if o.err != nil && errors.Is(context.Cause(ctx), errTimeout) {
			return nil, fmt.Errorf("%w (%w)", errTimeout, o.err)
		}
		return o.output, o.err
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

// explain says what a person may know of a failure.
func explain(ctx context.Context, r *registered, id uuid.UUID, err error) *CallError {
	e := &CallError{Call: id, cause: err}
	own := problem.From(err)
	switch {
	case errors.Is(err, errTimeout):
		e.Code, e.Message = codeTimeout, fmt.Sprintf("The service did not finish within %s and was stopped.", r.opts.timeout)
	case ctx.Err() != nil:
		e.Code, e.Message = codeCanceled, "The call was abandoned before it finished."
	case own != nil && own.ErrorCode() != "":
		e.Code, e.Message = storable(own.ErrorCode()), storable(own.ErrorMessage())
	default:
		e.Code, e.Message = codeFailed, "The service failed. Try again, and tell us the call's number if it happens again."
	}
	return e
}

// storable is text as every database takes it: what a service passes on from elsewhere may be anything.
func storable(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\uFFFD"), "\uFFFD")
}
