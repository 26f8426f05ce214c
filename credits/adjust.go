package credits

import (
	"context"
	"maps"

	"github.com/jmoiron/sqlx"
)

// AdjustParams describe a correction by staff.
type AdjustParams struct {
	// Account is corrected. Required.
	Account string
	// Amount is added, as a lot of source [Admin] that does not expire, or below zero taken, in the order of use. Not
	// zero.
	Amount Amount
	// By is who did it. Required; kept in the entry's metadata under "by".
	By string
	// Reason is shown in the history. Required.
	Reason string
	// Reference names the cause. Optional.
	Reference string
	// Metadata is kept with the entry. Optional.
	Metadata map[string]string
	// IdempotencyKey makes a repetition return the first result. Empty: none.
	IdempotencyKey string
}

// Adjust corrects an account either way. What it takes, the account must have: for more there is [Ledger.Revoke]. A
// frozen account can be adjusted. The errors are [*InsufficientError], [ErrAmountZero], [ErrReasonRequired] (also
// without By), [ErrAccountRequired], [ErrErased], [ErrIdempotencyMismatch] and [ErrOverflow].
func (l *Ledger) Adjust(ctx context.Context, p AdjustParams) (Entry, error) {
	o, err := newAdjust(p)
	if err != nil {
		return Entry{}, err
	}
	if err := l.group(ctx, accountByte(p.Account), o); err != nil {
		return Entry{}, err
	}
	return o.entry, nil
}

// AdjustTx is [Ledger.Adjust] inside the caller's transaction.
func (l *Ledger) AdjustTx(ctx context.Context, tx *sqlx.Tx, p AdjustParams) (Entry, error) {
	o, err := newAdjust(p)
	if err != nil {
		return Entry{}, err
	}
	if err := l.do(ctx, tx, o); err != nil {
		return Entry{}, err
	}
	return o.entry, nil
}

type adjustOp struct {
	p     AdjustParams
	mark  string
	entry Entry
}

func newAdjust(p AdjustParams) (*adjustOp, error) {
	if err := checkAccount(p.Account); err != nil {
		return nil, err
	}
	if p.Amount == 0 || p.Amount == MinAmount {
		return nil, ErrAmountZero
	}
	if err := checkReason(&p.Reason); err != nil {
		return nil, err
	}
	if err := checkReason(&p.By); err != nil {
		return nil, err
	}
	mark, err := fingerprint(p.IdempotencyKey, "adjust", p)
	return &adjustOp{p: p, mark: mark}, err
}

func (o *adjustOp) needs(n *needs) {
	a := n.account(o.p.Account)
	if o.p.Amount > 0 {
		a.make, a.order = true, true
	}
	n.key(o.p.Account, o.p.IdempotencyKey)
}

func (o *adjustOp) apply(ctx context.Context, w *work) error {
	a := w.account(o.p.Account)
	e, found, err := w.replay(a.ID, o.p.IdempotencyKey, o.mark)
	if found || err != nil {
		o.entry = e
		return err
	}
	metadata := map[string]string{"by": o.p.By}
	maps.Copy(metadata, o.p.Metadata)
	n := note{reason: o.p.Reason, reference: o.p.Reference, metadata: metadata, key: o.p.IdempotencyKey, fingerprint: o.mark}
	if o.p.Amount > 0 {
		o.entry, err = w.add(ctx, a, KindAdjust, Admin, priorityOther, o.p.Amount, nil, n)
		return err
	}
	switch {
	case a.ErasedAt != nil:
		return ErrErased
	case -o.p.Amount > a.Available:
		return &InsufficientError{Required: -o.p.Amount, Available: a.Available, Debt: a.Debt}
	}
	o.entry, err = w.use(ctx, a, KindAdjust, -o.p.Amount, "", n)
	return err
}
