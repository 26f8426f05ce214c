package credits

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// DebitParams describe a debit.
type DebitParams struct {
	// Account pays. Required.
	Account string
	// Amount is zero or more. A debit of zero leaves an entry, which counts as use.
	Amount Amount
	// Service names what is used. Optional.
	Service string `json:",omitempty"`
	// Reason is shown in the history. Required.
	Reason string
	// Reference names the cause. Optional.
	Reference string
	// Metadata is kept with the entry. Optional.
	Metadata map[string]string
	// IdempotencyKey makes a repetition return the first result. Keys are the account's own, and shared by all
	// operations but holds. Empty: none.
	IdempotencyKey string
}

// Debit uses credits, whole or not at all. The entry's allocations tell which lots gave how much. The errors are
// [*InsufficientError], [*FrozenError], [*LimitError], [ErrErased], [ErrAccountRequired], [ErrAmountNegative],
// [ErrReasonRequired] and [ErrIdempotencyMismatch]; none of them leaves a trace.
//
// Debits that arrive while another is under way are done together, each for itself, in the order in which they came.
// When ctx ends, or the connection is lost, before the answer is there, the debit may or may not have happened: repeat
// it with the same IdempotencyKey to find out.
func (l *Ledger) Debit(ctx context.Context, p DebitParams) (Entry, error) {
	o, err := newDebit(p)
	if err != nil {
		return Entry{}, err
	}
	if err := l.group(ctx, accountByte(p.Account), o); err != nil {
		return Entry{}, err
	}
	return o.entry, nil
}

// DebitTx is [Ledger.Debit] inside the caller's transaction. After an error the transaction must be rolled back,
// except after a refusal ([*InsufficientError], [*FrozenError], [*LimitError], [ErrErased], [ErrIdempotencyMismatch]),
// where it may go on.
func (l *Ledger) DebitTx(ctx context.Context, tx *sqlx.Tx, p DebitParams) (Entry, error) {
	o, err := newDebit(p)
	if err != nil {
		return Entry{}, err
	}
	if err := l.do(ctx, tx, o); err != nil {
		return Entry{}, err
	}
	return o.entry, nil
}

type debitOp struct {
	p     DebitParams
	print string
	entry Entry
}

func newDebit(p DebitParams) (*debitOp, error) {
	if err := checkAccount(p.Account); err != nil {
		return nil, err
	}
	if p.Amount < 0 {
		return nil, ErrAmountNegative
	}
	if err := checkReason(&p.Reason); err != nil {
		return nil, err
	}
	print, err := fingerprint(p.IdempotencyKey, "debit", p)
	return &debitOp{p: p, print: print}, err
}

func (o *debitOp) note() note {
	return note{service: o.p.Service, reason: o.p.Reason, reference: o.p.Reference, metadata: o.p.Metadata, key: o.p.IdempotencyKey, fingerprint: o.print}
}

func (o *debitOp) needs(n *needs) {
	a := n.account(o.p.Account)
	a.use += min(o.p.Amount, MaxAmount-a.use)
	a.make = a.make || o.p.Amount == 0
	n.key(o.p.Account, o.p.IdempotencyKey)
}

func (o *debitOp) apply(ctx context.Context, w *work) error {
	a := w.account(o.p.Account)
	e, found, err := w.replay(a.ID, o.p.IdempotencyKey, o.print)
	if found || err != nil {
		o.entry = e
		return err
	}
	if err := a.require(o.p.Amount); err != nil {
		return err
	}
	o.entry, err = w.use(ctx, a, KindDebit, o.p.Amount, "", o.note())
	a.spend(o.p.Amount)
	return err
}

// use takes amount, which the account has, and writes an entry of it.
func (w *work) use(ctx context.Context, a *account, kind Kind, amount Amount, source Source, n note) (Entry, error) {
	shares, err := w.take(ctx, a, amount)
	if err != nil {
		return Entry{}, err
	}
	for i := range shares {
		shares[i].amount = -shares[i].amount
	}
	e, err := w.write(a, kind, -amount, 0, source, shares, n)
	return e, w.broke(err)
}

// oneDebit does a debit that the head covers, of an account that has nothing else to look after, in one statement: it
// reads and changes the account's row alone. Row locks make it exact: a statement that waited for the row looks at it
// afresh. It finds no row where anything needs a longer look.
const oneDebit = `WITH a AS (
	UPDATE qs_credit_accounts SET available = available - $2::bigint, head_free = head_free - $2::bigint, last_seq = last_seq + 1,
		last_at = GREATEST(last_at, $3::timestamptz)
	WHERE id = $1::text AND head_free >= $2::bigint AND debt = 0 AND frozen = '' AND erased_at IS NULL AND day_limit IS NULL AND month_limit IS NULL
		AND (next_change_at IS NULL OR next_change_at > $3::timestamptz) AND (low OR available - $2::bigint >= COALESCE(low_at, $4::bigint))
		AND ($5::text IS NULL OR NOT EXISTS (SELECT 1 FROM qs_credit_entries WHERE account_id = $1::text AND idempotency_key = $5::text))
	RETURNING last_seq, last_at, available, held, head_lot, head_source)
INSERT INTO qs_credit_entries (id, account_id, seq, kind, amount, balance, available, lot_id, service, reason, reference, metadata, idempotency_key,
	fingerprint, created_at)
SELECT $6::uuid, $1::text, a.last_seq, 'debit', -$2::bigint, a.available + a.held, a.available, a.head_lot, $7::text, $8::text, $9::text, $10::text,
	$5::text, $11::text, a.last_at FROM a
RETURNING seq, balance, available, lot_id, (SELECT head_source FROM a), created_at`

// one tries [oneDebit]. done is false where the debit has to go the long way; nothing has happened then.
func (l *Ledger) one(ctx context.Context, o *debitOp) (done bool, err error) {
	if l.db.Dialect() != database.Postgres || o.p.Amount == 0 || l.pooled {
		return false, nil
	}
	id, err := newID()
	if err != nil {
		return false, err
	}
	metadata, err := encodeMetadata(o.p.Metadata)
	if err != nil {
		return false, err
	}
	e := Entry{ID: id, Account: o.p.Account, Kind: KindDebit, Amount: -o.p.Amount, Service: o.p.Service, Reason: o.p.Reason, Reference: o.p.Reference}
	if len(o.p.Metadata) > 0 {
		e.Metadata = o.p.Metadata
	}
	share := Allocation{Amount: -o.p.Amount}
	var at database.Time
	row := l.statements.row(ctx, oneDebit, o.p.Account, int64(o.p.Amount), database.At(l.now()), int64(l.lowAt), orNull(o.p.IdempotencyKey), id,
		o.p.Service, o.p.Reason, o.p.Reference, metadata, orNull(o.print))
	err = row.Scan(&e.Seq, &e.Balance, &e.Available, &share.Lot, &share.Source, &at)
	switch {
	case errors.Is(err, sql.ErrNoRows), database.IsRetryable(err), database.IsUniqueViolation(err):
		return false, nil // the last: somebody else wrote the key meanwhile
	case err != nil:
		return false, fmt.Errorf("credits: debit account %s: %w", o.p.Account, err)
	}
	e.CreatedAt, e.Allocations = at.Time, []Allocation{share}
	o.entry = e
	return true, nil
}
