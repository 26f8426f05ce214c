package credits

import (
	"context"

	"github.com/jmoiron/sqlx"
)

// SetLowAt sets the available balance below which one account counts as low, and leaves its other [Limits] as they are;
// nil means the ledger's [Config.LowAt] again. An account that is below it already is told of at once. The errors are
// [ErrAccountRequired] and [ErrAmountNegative].
func (l *Ledger) SetLowAt(ctx context.Context, account string, lowAt *Amount) error {
	o, err := newLowAt(account, lowAt)
	if err != nil {
		return err
	}
	return l.alone(ctx, o)
}

// SetLowAtTx is [Ledger.SetLowAt] inside the caller's transaction.
func (l *Ledger) SetLowAtTx(ctx context.Context, tx *sqlx.Tx, account string, lowAt *Amount) error {
	o, err := newLowAt(account, lowAt)
	if err != nil {
		return err
	}
	return l.do(ctx, tx, o)
}

type lowAtOp struct {
	account string
	lowAt   *Amount
}

func newLowAt(account string, lowAt *Amount) (*lowAtOp, error) {
	if err := checkAccount(account); err != nil {
		return nil, err
	}
	if lowAt != nil && *lowAt < 0 {
		return nil, ErrAmountNegative
	}
	return &lowAtOp{account, lowAt}, nil
}

func (o *lowAtOp) needs(n *needs) { n.account(o.account).make = true }

func (o *lowAtOp) apply(_ context.Context, w *work) error {
	a := w.account(o.account)
	a.LowAt, a.dirty, a.more = o.lowAt, true, true
	if o.lowAt != nil {
		a.Low = false // told anew, also of an account that never was above
	}
	return nil
}
