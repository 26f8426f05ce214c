package credits

import (
	"context"
	"fmt"
	"maps"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
)

// Over is what a settlement above its hold does.
type Over string

// The policies. The work is done by then, so what it cost is charged unless the host has promised something else.
const (
	OverDebt   Over = "debt"   // all is charged; what the account cannot cover becomes debt
	OverCap    Over = "cap"    // the hold is charged, and not more
	OverRefuse Over = "refuse" // nothing is charged, [ErrOverHold]; the hold stays
)

// SettleParams describe a settlement.
type SettleParams struct {
	// Hold is the hold. Required.
	Hold uuid.UUID
	// Amount is what the work has cost, zero or more; of a partial settlement, what it has cost since the last one.
	Amount Amount
	// Partial leaves the hold open with the rest, for a stream that is charged as it goes. End it with a settlement
	// that is not partial, which may be zero, or with a release.
	Partial bool
	// Metadata is kept with the entry. Optional.
	Metadata map[string]string
	// IdempotencyKey makes the repetition of a partial settlement return the first result; it shares the account's
	// keys with debits. A settlement that ends its hold needs none: it happens once.
	IdempotencyKey string
}

// Settle ends a hold: actual leaves the account in an entry, and what the hold has beyond it becomes available again,
// except what has expired meanwhile. Above the hold, its [Over] decides. Settling again with the same amount returns
// the first entry. The errors are [ErrHoldNotFound], [ErrHoldSettled] (before, with another amount), [ErrHoldReleased],
// [ErrOverHold] and [ErrAmountNegative].
func (l *Ledger) Settle(ctx context.Context, hold uuid.UUID, actual Amount) (Entry, error) {
	return l.SettleWith(ctx, SettleParams{Hold: hold, Amount: actual})
}

// SettleTx is [Ledger.Settle] inside the caller's transaction.
func (l *Ledger) SettleTx(ctx context.Context, tx *sqlx.Tx, hold uuid.UUID, actual Amount) (Entry, error) {
	return l.SettleWithTx(ctx, tx, SettleParams{Hold: hold, Amount: actual})
}

// SettleWith is [Ledger.Settle] with more to say, and the partial settlement of streams. It adds the error
// [ErrIdempotencyMismatch].
func (l *Ledger) SettleWith(ctx context.Context, p SettleParams) (Entry, error) {
	o, err := newSettle(p)
	if err != nil {
		return Entry{}, err
	}
	if err := l.group(ctx, p.Hold[15], o); err != nil {
		return Entry{}, err
	}
	return o.entry, nil
}

// SettleWithTx is [Ledger.SettleWith] inside the caller's transaction.
func (l *Ledger) SettleWithTx(ctx context.Context, tx *sqlx.Tx, p SettleParams) (Entry, error) {
	o, err := newSettle(p)
	if err != nil {
		return Entry{}, err
	}
	if err := l.do(ctx, tx, o); err != nil {
		return Entry{}, err
	}
	return o.entry, nil
}

type settleOp struct {
	p     SettleParams
	mark  string
	entry Entry
}

func newSettle(p SettleParams) (*settleOp, error) {
	if p.Amount < 0 {
		return nil, ErrAmountNegative
	}
	mark, err := fingerprint(p.IdempotencyKey, "settle", p)
	return &settleOp{p: p, mark: mark}, err
}

func (o *settleOp) needs(n *needs) { n.holds = append(n.holds, o.p.Hold) }

// metadata is what the entry shall keep.
func (o *settleOp) metadata() map[string]string {
	m := map[string]string{"hold": o.p.Hold.String()}
	maps.Copy(m, o.p.Metadata)
	return m
}

// metadataText is metadata as it is kept.
func (o *settleOp) metadataText(m map[string]string) (string, error) {
	if len(m) == 1 {
		return `{"hold":"` + m["hold"] + `"}`, nil // the common case, without reflection
	}
	return encodeMetadata(m)
}

func (o *settleOp) apply(ctx context.Context, w *work) error {
	h := w.holds[o.p.Hold]
	if h == nil {
		return ErrHoldNotFound
	}
	a := w.account(h.Account)
	if o.p.IdempotencyKey != "" {
		// Keys of settlements are looked up here: the account is known from the hold only.
		if err := w.loadKeys(ctx, []key{{a.ID, o.p.IdempotencyKey}}); err != nil {
			return err
		}
		if e, found, err := w.replay(a.ID, o.p.IdempotencyKey, o.mark); found || err != nil {
			o.entry = e
			return err
		}
	}
	switch h.Status {
	case HoldSettled:
		return o.settledBefore(ctx, w, h)
	case HoldReleased, HoldExpired:
		return ErrHoldReleased
	case HoldOpen:
	}
	amount, metadata := o.p.Amount, o.metadata()
	if amount > h.Remaining {
		switch h.Over {
		case OverRefuse:
			return ErrOverHold
		case OverCap:
			metadata["actual"] = amount.String()
			amount = h.Remaining
		case OverDebt:
		}
	}
	e, err := w.settle(ctx, a, h, amount, o.p.Partial, note{service: h.Service, reason: h.Reason, reference: h.Reference, metadata: metadata,
		key: o.p.IdempotencyKey, fingerprint: o.mark})
	o.entry = e
	return err
}

// settle uses amount, of the hold first. What is left of the hold is given back, unless the settlement is partial.
func (w *work) settle(ctx context.Context, a *account, h *hold, amount Amount, partial bool, n note) (Entry, error) {
	ofHold := min(amount, h.Remaining)
	beyond := amount - ofHold
	covered := min(beyond, a.Available)
	debt := beyond - covered
	if _, err := a.Debt.Add(debt); err != nil {
		return Entry{}, err
	}
	owns, err := a.owns()
	if err != nil {
		return Entry{}, err
	}
	if _, err := owns.Sub(amount); err != nil {
		return Entry{}, err
	}
	rest := h.Remaining - ofHold
	if rest > 0 && !partial {
		if err := w.knowShares(ctx, h); err != nil {
			return Entry{}, err
		}
	}
	var used, back []share
	left := ofHold
	for i := range h.shares {
		s := &h.shares[i]
		part := min(left, s.amount)
		left -= part
		s.amount -= part
		if part > 0 {
			used = append(used, share{s.lot, -part})
		}
		if s.amount > 0 {
			back = append(back, *s)
		}
	}
	if covered > 0 {
		more, err := w.take(ctx, a, covered)
		if err != nil {
			return Entry{}, err
		}
		for _, m := range more {
			used = addShare(used, share{m.lot, -m.amount})
		}
	}
	if debt > 0 {
		a.Debt, a.more = a.Debt+debt, true
	}
	a.Held -= ofHold
	h.Remaining -= ofHold
	a.dirty, h.dirty = true, true
	a.spend(amount)
	if !partial {
		w.giveBack(a, h, back, HoldSettled)
	}
	e, err := w.write(a, KindDebit, -amount, debt, "", used, n)
	if err != nil {
		return Entry{}, w.broke(err)
	}
	if !partial {
		h.EntryID, h.entry = &e.ID, &e
	}
	return e, w.afterReturn(ctx, a, back, partial, n)
}

// addShare adds to the share of the same lot if there is one.
func addShare(shares []share, s share) []share {
	for i := range shares {
		if shares[i].lot.ID == s.lot.ID {
			shares[i].amount += s.amount
			return shares
		}
	}
	return append(shares, s)
}

// settledBefore answers the repetition of a settlement.
func (o *settleOp) settledBefore(ctx context.Context, w *work, h *hold) error {
	if h.entry == nil {
		var found []entryRow
		if err := w.selectText(ctx, &found, `SELECT `+entryColumns+` FROM qs_credit_entries WHERE id = ?`, *h.EntryID); err != nil {
			return fmt.Errorf("credits: entry of hold %s: %w", h.ID, err)
		}
		e, err := found[0].entry()
		if err != nil {
			return w.broke(err)
		}
		if err := w.selectText(ctx, &e.Allocations, selectAllocations, e.ID); err != nil {
			return fmt.Errorf("credits: allocations of entry %s: %w", e.ID, err)
		}
		h.entry = &e
	}
	charged := -h.entry.Amount
	if actual := h.entry.Metadata["actual"]; h.Over == OverCap && actual != "" {
		var err error
		if charged, err = ParseAmount(actual); err != nil {
			return w.broke(err)
		}
	}
	if charged != o.p.Amount {
		return ErrHoldSettled
	}
	o.entry = *h.entry
	return nil
}
