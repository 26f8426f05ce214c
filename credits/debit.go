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
	mark  string
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
	mark, err := fingerprint(p.IdempotencyKey, "debit", p)
	return &debitOp{p: p, mark: mark}, err
}

func (o *debitOp) note() note {
	return note{service: o.p.Service, reason: o.p.Reason, reference: o.p.Reference, metadata: o.p.Metadata, key: o.p.IdempotencyKey, fingerprint: o.mark}
}

func (o *debitOp) needs(n *needs) {
	a := n.account(o.p.Account)
	a.use += min(o.p.Amount, MaxAmount-a.use)
	a.make = a.make || o.p.Amount == 0
	n.key(o.p.Account, o.p.IdempotencyKey)
}

func (o *debitOp) apply(ctx context.Context, w *work) error {
	a := w.account(o.p.Account)
	e, found, err := w.replay(a.ID, o.p.IdempotencyKey, o.mark)
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
