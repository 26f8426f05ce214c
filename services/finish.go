package services

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// How long a call's outcome is tried to be recorded: the tries of one outcome together, each of them, and the pause
// after the first, which doubles. A call is given up for dead holdMargin after its time limit, later than any try.
const (
	recordLimit   = 20 * time.Second
	recordTry     = 5 * time.Second
	recordTries   = 5
	recordBackoff = 50 * time.Millisecond
	holdMargin    = time.Minute
)

// carryOut does the work of a call that has begun and records its outcome.
func (s *Services) carryOut(ctx context.Context, c *prepared, row callRow) (Result, error) {
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	call := s.newCall(c, row.ID, row.Price, stop)
	started := time.Now()
	output, workErr := s.work(working, c, call)
	latency := time.Since(started)
	used := call.m.end()
	if c.background && workErr != nil && ctx.Err() != nil && !errors.Is(context.Cause(ctx), errCanceled) {
		return Result{}, fmt.Errorf("services: call %s: the process ends: %w", row.ID, ctx.Err()) // begun again elsewhere
	}
	e, failure := s.judge(ctx, c, row.ID, used, output, workErr)
	e.latency = latency
	if failure != nil {
		call.Logger.ErrorContext(ctx, "service failed", slog.Any("error", workErr))
	}
	// The outcome is recorded although the caller may be gone.
	balance, err := s.record(context.WithoutCancel(ctx), c, row, e)
	switch {
	case errors.Is(err, errGivenUp), errors.Is(err, credits.ErrHoldReleased):
		return Result{}, &CallError{Call: row.ID, Code: codeInterrupted, Message: interrupted, cause: err}
	case problem.From(err) != nil:
		// The ledger refuses the charge, as for an account that was frozen meanwhile: the call has failed.
		refusal := problem.From(err)
		failure = &CallError{Call: row.ID, Code: refusal.ErrorCode(), Message: refusal.ErrorMessage(), cause: err}
		e = end{status: Failed, code: failure.Code, text: failure.Message, units: e.units, latency: e.latency}
		_, err = s.record(context.WithoutCancel(ctx), c, row, e)
	}
	switch {
	case err != nil:
		call.Logger.ErrorContext(ctx, "outcome not recorded", slog.Any("error", err))
		return Result{}, fmt.Errorf("%w (%w)", ErrOutcomeUnknown, err)
	case failure != nil:
		return Result{}, failure
	}
	result := Result{Service: row.Service, Version: row.Version, CallID: row.ID, Output: output, Charged: e.charged, Balance: balance, Units: used.units, Cached: e.cached}
	if e.status == PartlySucceeded {
		result.Incomplete = &Incomplete{e.code, e.text}
	}
	return result, nil
}

// judge decides what a call comes to. Work that succeeds is charged, and so is output that is not complete; a stream
// that the caller, the time limit or its credits ended is charged for what it used. Everything else has failed, for
// nothing unless the service says otherwise.
func (s *Services) judge(ctx context.Context, c *prepared, id uuid.UUID, used metered, output json.RawMessage, workErr error) (e end, failure *CallError) {
	e = end{status: Succeeded, charge: true, charged: used.due, cached: used.cached, units: unitsText(used.units)}
	if workErr == nil && !used.out {
		e.output = c.kept(output)
		if !used.cached && c.r.opts.cache.For > 0 {
			e.until = new(database.At(s.now().Add(c.r.opts.cache.For)))
		}
		return e, nil
	}
	failure = explain(ctx, c.r, id, used, workErr)
	e.code, e.text = failure.Code, failure.Message
	stopped := c.sink != nil && (used.out || used.left || ctx.Err() != nil || errors.Is(workErr, errTimeout))
	if output != nil || (stopped && used.due > 0 && (used.sent || c.r.pricing.kind == PriceMetered)) {
		e.status, e.output = PartlySucceeded, c.kept(output)
		return e, nil
	}
	e.status = Failed
	if e.charge = c.r.opts.chargeOnFailure; !e.charge {
		e.charged = 0
	}
	failure.Charged = e.charged
	return e, failure
}

// kept is what is stored of an output: nothing where nobody will ask for it again.
func (c *prepared) kept(output json.RawMessage) json.RawMessage {
	if c.IdempotencyKey == "" && !c.background && c.r.opts.cache.For == 0 {
		return nil
	}
	return output
}

func unitsText(u Units) string {
	if len(u) == 0 {
		return emptyObject
	}
	text, err := json.Marshal(u)
	if err != nil {
		panic(err) // a map of numbers can be written
	}
	return string(text)
}

// record writes the outcome of a call and its charge in one transaction. It tries again for a while when the database
// does not answer; each try does nothing where one before came through without our hearing of it. It returns what the
// account can spend then, for a call that was charged.
func (s *Services) record(ctx context.Context, c *prepared, row callRow, e end) (credits.Amount, error) {
	ctx, cancel := context.WithTimeout(ctx, recordLimit)
	defer cancel()
	pause := recordBackoff
	for try := 1; ; try++ {
		balance, err := s.recordOnce(ctx, c, row, e, try < recordTries)
		if err == nil || try == recordTries || errors.Is(err, errGivenUp) || (problem.From(err) != nil && !errors.Is(err, errNotTold)) {
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

var (
	// errGivenUp: the call was taken for dead while it still worked, and its hold given back.
	errGivenUp = errors.New("services: the call was given up before it ended")
	// errNotTold: Config.OnEndTx failed.
	errNotTold = errors.New("services: nobody could be told of the end of a call")
)

// recordOnce writes the outcome once. tell lets [Config.OnEndTx] take part; the last try does without, since the charge
// weighs more.
func (s *Services) recordOnce(ctx context.Context, c *prepared, row callRow, e end, tell bool) (balance credits.Amount, err error) {
	ctx, cancel := context.WithTimeout(ctx, recordTry)
	defer cancel()
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		entry, err := s.settle(ctx, tx, c, row, e)
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
		if err != nil || !closed || !row.Notify {
			return err
		}
		if !tell {
			s.cfg.Logger.ErrorContext(ctx, "nobody is told of the end of a call", slog.String("call", row.ID.String()))
			return nil
		}
		return s.tell(ctx, tx, row.ID)
	})
	return balance, err
}

// settle charges a call, or gives back what was set aside.
func (s *Services) settle(ctx context.Context, tx *sqlx.Tx, c *prepared, row callRow, e end) (entry credits.Entry, err error) {
	switch {
	case e.charge && row.HoldID != nil:
		return s.cfg.Ledger.SettleTx(ctx, tx, *row.HoldID, e.charged)
	case e.charge:
		return s.cfg.Ledger.DebitTx(ctx, tx, c.debit(row.ID, 0))
	case row.HoldID != nil:
		err = s.cfg.Ledger.ReleaseTx(ctx, tx, *row.HoldID)
	}
	return entry, err
}

// debit is the charge of a call for which nothing was set aside.
func (c *prepared) debit(id uuid.UUID, amount credits.Amount) credits.DebitParams {
	reference := referenceOf(id)
	return credits.DebitParams{Account: c.Account, Amount: amount, Service: c.r.info.Name, Reason: reasonOf(c.r.info.Title), Reference: reference,
		IdempotencyKey: reference}
}

// tell calls [Config.OnEndTx] with a call that has ended in tx.
func (s *Services) tell(ctx context.Context, tx *sqlx.Tx, id uuid.UUID) error {
	var row callRow
	if err := s.db.GetTx(ctx, tx, &row, `SELECT `+callColumns+` FROM qs_service_calls WHERE id = ?`, id); err != nil {
		return fmt.Errorf("services: read call %s: %w", id, err)
	}
	record, err := row.record()
	if err != nil {
		return err
	}
	if err := s.cfg.OnEndTx(ctx, tx, record); err != nil {
		return fmt.Errorf("%w: call %s: %w", errNotTold, id, err)
	}
	return nil
}

// explain says what a person may know of a failure, or of an output that is not complete.
func explain(ctx context.Context, r *registered, id uuid.UUID, used metered, err error) *CallError {
	e := &CallError{Call: id, cause: err}
	own := problem.From(err)
	partial, isPartial := errors.AsType[*partialError](err)
	switch {
	case isPartial:
		e.Code, e.Message = codePartial, storable(partial.message)
	case used.out:
		e.Code, e.Message = codeOutOfCredits, problem.From(ErrOutOfCredits).ErrorMessage()
	case errors.Is(err, errTimeout):
		e.Code, e.Message = codeTimeout, fmt.Sprintf("The service did not finish within %s and was stopped.", r.opts.timeout)
	case ctx.Err() != nil || used.left:
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
