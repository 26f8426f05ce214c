package credits

import (
	"context"

	"github.com/jmoiron/sqlx"
)

// DebitParams describe a debit.
type DebitParams struct {
	// Account pays. Required.
	Account string
	// Amount is zero or more. A debit of zero leaves an entry, which counts as use.
	Amount Amount
	// Reason is shown in the history. Required.
	Reason string
	// Reference names the cause. Optional.
	Reference string
	// Metadata is kept with the entry. Optional.
	Metadata map[string]string
	// IdempotencyKey makes a repetition return the first result. Keys are the account's own, and shared by grants and
	// debits. Empty: none.
	IdempotencyKey string
}

// Debit uses credits, whole or not at all. The entry's allocations tell which lots gave how much. The errors are
// [*InsufficientError], [ErrAccountRequired], [ErrAmountNegative], [ErrReasonRequired] and [ErrIdempotencyMismatch];
// none of them leaves a trace.
func (l *Ledger) Debit(ctx context.Context, p DebitParams) (e Entry, err error) {
	err = l.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		e, err = l.DebitTx(ctx, tx, p)
		return err
	})
	return e, err
}

// DebitTx is [Ledger.Debit] inside the caller's transaction. After an error the transaction must be rolled back,
// except after [*InsufficientError] and [ErrIdempotencyMismatch], where it may go on.
func (l *Ledger) DebitTx(ctx context.Context, tx *sqlx.Tx, p DebitParams) (Entry, error) {
	if p.Amount < 0 {
		return Entry{}, ErrAmountNegative
	}
	if err := checkReason(&p.Reason); err != nil {
		return Entry{}, err
	}
	print, err := fingerprint(struct {
		Op string
		DebitParams
	}{"debit", p})
	if err != nil {
		return Entry{}, err
	}
	c, err := l.begin(ctx, tx, p.Account)
	if err != nil {
		return Entry{}, err
	}
	if e, found, err := c.replay(ctx, p.IdempotencyKey, print); found || err != nil {
		return e, err
	}
	if err := c.require(p.Amount); err != nil {
		return Entry{}, err
	}
	c.acc.Available -= p.Amount
	e, err := c.write(ctx, KindDebit, -p.Amount, "", note{p.Reason, p.Reference, p.Metadata, p.IdempotencyKey, print})
	if err != nil {
		return Entry{}, err
	}
	err = c.take(ctx, p.Amount, func(lot lotRow, share Amount) error {
		if err := c.moveLot(ctx, lot.ID, -share, 0); err != nil {
			return err
		}
		return c.allocate(ctx, &e, Allocation{lot.ID, lot.Source, -share})
	})
	if err != nil {
		return Entry{}, err
	}
	return e, c.save(ctx)
}

// require refuses what the account cannot cover.
func (c *change) require(amount Amount) error {
	if amount > 0 && amount > c.acc.Available {
		return &InsufficientError{Required: amount, Available: c.acc.Available}
	}
	return nil
}
