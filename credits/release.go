package credits

import (
	"context"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
)

// Release ends a hold that nothing (more) came of: what is left of it becomes available again, except what has expired
// meanwhile. Releasing a hold that was given back before does nothing. The errors are [ErrHoldNotFound] and
// [ErrHoldSettled].
func (l *Ledger) Release(ctx context.Context, hold uuid.UUID) error {
	return l.group(ctx, hold[15], releaseOp(hold))
}

// ReleaseTx is [Ledger.Release] inside the caller's transaction.
func (l *Ledger) ReleaseTx(ctx context.Context, tx *sqlx.Tx, hold uuid.UUID) error {
	return l.do(ctx, tx, releaseOp(hold))
}

type releaseOp uuid.UUID

func (o releaseOp) needs(n *needs) { n.holds = append(n.holds, uuid.UUID(o)) }

func (o releaseOp) apply(ctx context.Context, w *work) error {
	h := w.holds[uuid.UUID(o)]
	if h == nil {
		return ErrHoldNotFound
	}
	switch h.Status {
	case HoldSettled:
		return ErrHoldSettled
	case HoldReleased, HoldExpired:
		return nil
	case HoldOpen:
	}
	a := w.account(h.Account)
	if err := w.knowShares(ctx, h); err != nil {
		return err
	}
	back := h.shares
	w.giveBack(a, h, back, HoldReleased)
	return w.afterReturn(ctx, a, back, false, note{reference: h.Reference, service: h.Service})
}

// giveBack ends a hold and returns what is left of it to its lots.
func (w *work) giveBack(a *account, h *hold, back []share, status HoldStatus) {
	for _, s := range back {
		a.Held -= s.amount
		w.put(a, s.lot, s.amount)
	}
	h.Remaining, h.Status, h.shares = 0, status, nil
	a.dirty, h.dirty = true, true
}

// afterReturn closes the lots that expired under a hold, and pays debt with what others got.
func (w *work) afterReturn(ctx context.Context, a *account, back []share, partial bool, n note) error {
	if partial {
		return nil
	}
	for _, s := range back {
		if s.lot.expired(a.now) {
			if err := w.expireLot(a, s.lot); err != nil {
				return w.broke(err)
			}
		}
	}
	return w.repay(ctx, a, n)
}
