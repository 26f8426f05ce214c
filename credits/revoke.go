package credits

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
)

// RevokeParams describe a clawback, such as that of a refunded or disputed payment.
type RevokeParams struct {
	// Account loses the credits. Required.
	Account string
	// Amount is above zero.
	Amount Amount
	// Grant is the entry whose credits are taken first. Zero: none, the order of use decides.
	Grant uuid.UUID
	// IntoDebt takes the whole amount: after what is left of the grant, the account's other credits, and what they
	// cannot cover becomes debt, which later grants pay first. False: only what is left is taken, of the grant if one
	// is named and of the account otherwise; the entry's Amount tells how much that was.
	IntoDebt bool
	// Reason is shown in the history. Required.
	Reason string
	// Reference names the cause, such as a refund's id. Optional.
	Reference string
	// Metadata is kept with the entry. Optional.
	Metadata map[string]string
	// IdempotencyKey makes a repetition return the first result. Empty: none.
	IdempotencyKey string
}

// Revoke takes credits back. What holds have set aside stays theirs. A frozen account can be revoked from. The errors
// are [ErrAmountNotPositive], [ErrReasonRequired], [ErrAccountRequired], [ErrEntryNotFound] (the account has no such
// grant), [ErrErased], [ErrIdempotencyMismatch] and [ErrOverflow].
func (l *Ledger) Revoke(ctx context.Context, p RevokeParams) (Entry, error) {
	o, err := newRevoke(p)
	if err != nil {
		return Entry{}, err
	}
	if err := l.group(ctx, accountByte(p.Account), o); err != nil {
		return Entry{}, err
	}
	return o.entry, nil
}

// RevokeTx is [Ledger.Revoke] inside the caller's transaction.
func (l *Ledger) RevokeTx(ctx context.Context, tx *sqlx.Tx, p RevokeParams) (Entry, error) {
	o, err := newRevoke(p)
	if err != nil {
		return Entry{}, err
	}
	if err := l.do(ctx, tx, o); err != nil {
		return Entry{}, err
	}
	return o.entry, nil
}

type revokeOp struct {
	p     RevokeParams
	mark  string
	entry Entry
}

func newRevoke(p RevokeParams) (*revokeOp, error) {
	if err := checkAccount(p.Account); err != nil {
		return nil, err
	}
	if p.Amount <= 0 {
		return nil, ErrAmountNotPositive
	}
	if err := checkReason(&p.Reason); err != nil {
		return nil, err
	}
	mark, err := fingerprint(p.IdempotencyKey, "revoke", p)
	return &revokeOp{p: p, mark: mark}, err
}

func (o *revokeOp) needs(n *needs) {
	n.account(o.p.Account).make = true
	n.key(o.p.Account, o.p.IdempotencyKey)
}

func (o *revokeOp) apply(ctx context.Context, w *work) error {
	a := w.account(o.p.Account)
	e, found, err := w.replay(a.ID, o.p.IdempotencyKey, o.mark)
	if found || err != nil {
		o.entry = e
		return err
	}
	if a.ErasedAt != nil {
		return ErrErased
	}
	owns, err := a.owns()
	if err != nil {
		return err
	}
	if _, err := owns.Sub(o.p.Amount); err != nil && o.p.IntoDebt {
		return err
	}
	named := o.p.Grant != uuid.Nil
	var grant []*lot
	if named {
		if grant, err = w.lotsOf(ctx, a, o.p.Grant); err != nil {
			return err
		}
	}
	left := o.p.Amount
	var shares []share
	for _, x := range grant {
		part := min(left, x.Free)
		if part > 0 {
			w.draw(a, x, part)
			left -= part
			shares = append(shares, share{x, -part})
		}
	}
	if len(shares) > 0 {
		a.adrift = true
	}
	if rest := min(left, a.Available); rest > 0 && (o.p.IntoDebt || !named) {
		more, err := w.take(ctx, a, rest)
		if err != nil {
			return err
		}
		left -= rest
		for _, s := range more {
			shares = append(shares, share{s.lot, -s.amount})
		}
	}
	var debt Amount
	if o.p.IntoDebt {
		debt, a.more = left, true
		if a.Debt, err = a.Debt.Add(debt); err != nil {
			return w.broke(err)
		}
	}
	o.entry, err = w.write(a, KindRevoke, -(o.p.Amount-left)-debt, debt, "", shares, note{reason: o.p.Reason, reference: o.p.Reference,
		metadata: o.p.Metadata, key: o.p.IdempotencyKey, fingerprint: o.mark})
	return w.broke(err)
}

// lotsOf returns the lots that an entry of the account opened.
func (w *work) lotsOf(ctx context.Context, a *account, entry uuid.UUID) ([]*lot, error) {
	var ids []uuid.UUID
	for _, x := range a.lots { // opened in this change
		if x.fresh && x.Entry == entry {
			ids = append(ids, x.ID)
		}
	}
	if len(ids) == 0 {
		const opened = `SELECT lot_id FROM qs_credit_shares WHERE entry_id = ? AND account_id = ? AND amount > 0`
		if err := w.selectText(ctx, &ids, opened, entry, a.ID); err != nil {
			return nil, fmt.Errorf("credits: lots of entry %s: %w", entry, err)
		}
	}
	if len(ids) == 0 {
		return nil, ErrEntryNotFound
	}
	if err := w.find(ctx, ids...); err != nil {
		return nil, err
	}
	lots := make([]*lot, len(ids))
	for i, id := range ids {
		lots[i] = w.lots[id]
	}
	return lots, nil
}

// UsedTx tells how much of what a grant gave was used, transferred or is held: what neither is left, nor has expired, nor
// was revoked. It reads the account's whole history, and is for what seldom happens. It takes part in the caller's
// transaction and changes nothing; the account should be locked by the caller.
func (l *Ledger) UsedTx(ctx context.Context, tx *sqlx.Tx, account string, grant uuid.UUID) (Amount, error) {
	const find = `SELECT COALESCE(-SUM(u.amount), 0) FROM (
			SELECT s.lot_id, s.amount FROM qs_credit_shares s JOIN qs_credit_entries e ON e.id = s.entry_id
				WHERE s.account_id = ? AND e.account_id = ? AND e.kind NOT IN ('expire', 'revoke') AND s.entry_id <> ?
			UNION ALL SELECT h.lot_id, -h.amount FROM qs_credit_held h WHERE h.account_id = ?
		) u WHERE u.lot_id IN (SELECT g.lot_id FROM qs_credit_shares g WHERE g.entry_id = ? AND g.account_id = ? AND g.amount > 0)`
	var used Amount
	if err := l.db.GetTx(ctx, tx, &used, find, account, account, grant, account, grant, account); err != nil {
		return 0, fmt.Errorf("credits: what was used of entry %s: %w", grant, err)
	}
	return used, nil
}
