package credits

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// ReserveParams describe a hold.
type ReserveParams struct {
	// Account pays in the end. Required.
	Account string
	// Amount is the most that the work may cost, above zero.
	Amount Amount
	// TTL is after how long the hold gives itself back, from the moment when it was asked for. Required; choose it longer
	// than the work may take.
	TTL time.Duration
	// Over is what a settlement above Amount does. Empty: [OverDebt].
	Over Over `json:",omitempty"`
	// Service names what is used. Optional.
	Service string `json:",omitempty"`
	// Reason is shown in the history once the hold is settled. Required.
	Reason string
	// Reference names the cause. Optional.
	Reference string
	// IdempotencyKey makes a repetition return the first hold, while that is open or settled; a hold that was given
	// back frees its key. Keys are the account's own and apart from those of other operations. Empty: none.
	IdempotencyKey string
}

// Reserve sets credits aside for work whose outcome is not known yet. The errors are those of [Ledger.Debit],
// [ErrAmountNotPositive], [ErrTTLRequired] and [ErrUnknownOver].
func (l *Ledger) Reserve(ctx context.Context, p ReserveParams) (Hold, error) {
	o, err := newReserve(p)
	if err != nil {
		return Hold{}, err
	}
	if err := l.group(ctx, accountByte(p.Account), o); err != nil {
		return Hold{}, err
	}
	return o.hold, nil
}

// ReserveTx is [Ledger.Reserve] inside the caller's transaction.
func (l *Ledger) ReserveTx(ctx context.Context, tx *sqlx.Tx, p ReserveParams) (Hold, error) {
	o, err := newReserve(p)
	if err != nil {
		return Hold{}, err
	}
	if err := l.do(ctx, tx, o); err != nil {
		return Hold{}, err
	}
	return o.hold, nil
}

type reserveOp struct {
	p    ReserveParams
	mark string
	hold Hold
}

func newReserve(p ReserveParams) (*reserveOp, error) {
	if err := checkAccount(p.Account); err != nil {
		return nil, err
	}
	switch {
	case p.Amount <= 0:
		return nil, ErrAmountNotPositive
	case p.TTL <= 0:
		return nil, ErrTTLRequired
	}
	switch p.Over {
	case "":
		p.Over = OverDebt
	case OverDebt, OverCap, OverRefuse:
	default:
		return nil, ErrUnknownOver
	}
	if err := checkReason(&p.Reason); err != nil {
		return nil, err
	}
	mark, err := fingerprint(p.IdempotencyKey, "reserve", p)
	return &reserveOp{p: p, mark: mark}, err
}

func (o *reserveOp) needs(n *needs) {
	a := n.account(o.p.Account)
	a.use += min(o.p.Amount, MaxAmount-a.use)
	if o.p.IdempotencyKey != "" {
		n.holdKeys = append(n.holdKeys, key{o.p.Account, o.p.IdempotencyKey})
	}
}

func (o *reserveOp) apply(ctx context.Context, w *work) error {
	a := w.account(o.p.Account)
	if h := w.holdKeys[key{a.ID, o.p.IdempotencyKey}]; h != nil && (h.Status == HoldOpen || h.Status == HoldSettled) {
		if h.Fingerprint == nil || *h.Fingerprint != o.mark {
			return ErrIdempotencyMismatch
		}
		o.hold = h.hold()
		return nil
	}
	if err := a.require(o.p.Amount); err != nil {
		return err
	}
	held, err := a.Held.Add(o.p.Amount)
	if err != nil {
		return err
	}
	id, err := newHoldID(a.ID)
	if err != nil {
		return err
	}
	shares, err := w.take(ctx, a, o.p.Amount)
	if err != nil {
		return err
	}
	a.Held = held
	h := &hold{ID: id, Account: a.ID, Amount: o.p.Amount, Remaining: o.p.Amount, Status: HoldOpen, Over: o.p.Over, Service: o.p.Service, Reason: o.p.Reason,
		Reference: o.p.Reference, Key: orNull(o.p.IdempotencyKey), Fingerprint: orNull(o.mark), ExpiresAt: database.At(a.now.Add(o.p.TTL)),
		CreatedAt: database.At(a.now), shares: shares, fresh: true}
	if len(shares) == 1 {
		h.Lot = &shares[0].lot.ID
	}
	w.holds[id] = h
	if o.p.IdempotencyKey != "" {
		w.holdKeys[key{a.ID, o.p.IdempotencyKey}] = h
	}
	a.changesAt(&h.ExpiresAt.Time)
	o.hold = h.hold()
	return nil
}
