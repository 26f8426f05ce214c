package credits

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// TransferParams describe a transfer between sources of an account, or between accounts.
type TransferParams struct {
	// Account gives. Required.
	Account string
	// To is the account that gets. Empty: the same one, whose credits change their source.
	To string
	// From is the source that is taken from. Empty: all, in the order of use.
	From Source
	// Into is the source that the credits have afterwards, as one lot that expires at ExpiresAt. Empty: the lots keep
	// their sources, priorities and expiries; that is for transfers between accounts only.
	Into Source
	// ExpiresAt is the expiry of the lot that Into asks for. Nil: it never expires.
	ExpiresAt *time.Time
	// Amount is above zero; with All it must be zero.
	Amount Amount
	// All takes all that is available, which may be nothing.
	All bool
	// Reason is shown in both histories. Required.
	Reason string
	// Reference names the cause. Optional.
	Reference string
	// Metadata is kept with both entries. Optional.
	Metadata map[string]string
	// IdempotencyKey makes a repetition return the first result. Keys are those of Account. Empty: none.
	IdempotencyKey string
}

// Transferred are the two entries of a transfer. Both are zero where All found nothing.
type Transferred struct {
	Out Entry `json:"out"`
	In  Entry `json:"in"`
}

// Transfer moves credits. Both entries are written, or none. It does not count towards limits. The errors are
// [*InsufficientError], [*FrozenError] (of Account), [ErrErased], [ErrAccountRequired], [ErrAmountNotPositive],
// [ErrSameSource], [ErrUnknownSource], [ErrReasonRequired], [ErrAlreadyExpired], [ErrIdempotencyMismatch] and
// [ErrOverflow].
func (l *Ledger) Transfer(ctx context.Context, p TransferParams) (Transferred, error) {
	o, err := newTransfer(p)
	if err != nil {
		return Transferred{}, err
	}
	if err := l.alone(ctx, o); err != nil {
		return Transferred{}, err
	}
	return o.done, nil
}

// TransferTx is [Ledger.Transfer] inside the caller's transaction.
func (l *Ledger) TransferTx(ctx context.Context, tx *sqlx.Tx, p TransferParams) (Transferred, error) {
	o, err := newTransfer(p)
	if err != nil {
		return Transferred{}, err
	}
	if err := l.do(ctx, tx, o); err != nil {
		return Transferred{}, err
	}
	return o.done, nil
}

type transferOp struct {
	p        TransferParams
	priority int // of Into
	mark     string
	done     Transferred
}

func newTransfer(p TransferParams) (*transferOp, error) {
	if p.To == "" {
		p.To = p.Account
	}
	for _, account := range []string{p.Account, p.To} {
		if err := checkAccount(account); err != nil {
			return nil, err
		}
	}
	if (p.Amount <= 0) != p.All || p.Amount < 0 {
		return nil, ErrAmountNotPositive
	}
	if p.To == p.Account && (p.Into == "" || p.Into == p.From) {
		return nil, ErrSameSource
	}
	o := &transferOp{}
	for _, source := range []Source{p.From, p.Into} {
		if source != "" {
			var err error
			if o.priority, err = source.priority(); err != nil {
				return nil, err
			}
		}
	}
	if err := checkReason(&p.Reason); err != nil {
		return nil, err
	}
	if p.ExpiresAt != nil {
		at := database.Canonical(*p.ExpiresAt)
		p.ExpiresAt = &at
	}
	o.p = p
	var err error
	o.mark, err = fingerprint(p.IdempotencyKey, "transfer", p)
	return o, err
}

func (o *transferOp) needs(n *needs) {
	n.account(o.p.Account)
	to := n.account(o.p.To)
	to.make, to.order = true, true
	n.key(o.p.Account, o.p.IdempotencyKey)
}

func (o *transferOp) apply(ctx context.Context, w *work) error {
	a, to := w.account(o.p.Account), w.account(o.p.To)
	out, found, err := w.replay(a.ID, o.p.IdempotencyKey, o.mark)
	if err != nil {
		return err
	}
	if found {
		return o.replayed(ctx, w, out)
	}
	available := a.Available
	if o.p.From != "" {
		available = a.of(o.p.From)
	}
	amount := o.p.Amount
	if o.p.All {
		amount = available
	}
	if err := a.usable(amount, available); err != nil || amount == 0 {
		return err
	}
	if err := o.accepts(to, a, amount); err != nil {
		return err
	}
	shares, err := w.takeFrom(ctx, a, o.p.From, amount)
	if err != nil {
		return err
	}
	in, err := newID()
	if err != nil {
		return w.broke(err)
	}
	lots := []*lot{{Source: o.p.Into, Priority: o.priority, Amount: amount, ExpiresAt: database.AtPtr(o.p.ExpiresAt)}}
	if o.p.Into == "" {
		lots = nil
		for _, s := range shares {
			lots = append(lots, &lot{Source: s.lot.Source, Priority: s.lot.Priority, Amount: s.amount, ExpiresAt: s.lot.ExpiresAt})
		}
	}
	for i := range shares {
		shares[i].amount = -shares[i].amount
	}
	n := note{reason: o.p.Reason, reference: o.p.Reference, key: o.p.IdempotencyKey, fingerprint: o.mark,
		metadata: map[string]string{"to": to.ID, "entry": in.String()}}
	maps.Copy(n.metadata, o.p.Metadata)
	if o.done.Out, err = w.write(a, KindTransfer, -amount, 0, o.p.From, shares, n); err != nil {
		return w.broke(err)
	}
	n = note{reason: o.p.Reason, reference: o.p.Reference, id: in, metadata: map[string]string{"from": a.ID, "entry": o.done.Out.ID.String()}}
	maps.Copy(n.metadata, o.p.Metadata)
	o.done.In, err = w.addLots(ctx, to, KindTransfer, o.p.Into, amount, lots, n)
	return w.broke(err)
}

// accepts checks before anything is changed what would fail after it.
func (o *transferOp) accepts(to, from *account, amount Amount) error {
	if to.ErasedAt != nil {
		return ErrErased
	}
	if o.p.ExpiresAt != nil && !o.p.ExpiresAt.After(to.now) {
		return ErrAlreadyExpired
	}
	if to == from {
		return nil
	}
	owns, err := to.owns()
	if err != nil {
		return err
	}
	_, err = owns.Add(amount + to.Debt)
	return err
}

func (o *transferOp) replayed(ctx context.Context, w *work, out Entry) error {
	id, err := uuid.Parse(out.Metadata["entry"])
	if err != nil {
		return w.broke(fmt.Errorf("credits: entry %s names no other: %w", out.ID, err))
	}
	in, err := readEntry(func(dest any, query string, args ...any) error {
		return w.broke(w.db().SelectTx(ctx, w.tx, dest, query, args...))
	}, `id = ?`, id)
	o.done = Transferred{Out: out, In: in}
	return err
}

// takeFrom is take from one source, or from all where it is empty.
func (w *work) takeFrom(ctx context.Context, a *account, source Source, amount Amount) ([]share, error) {
	if source != "" || (a.head != nil && !a.head.known) {
		// What lots are like must be known to make others like them.
		const open = `SELECT ` + lotColumns + ` FROM qs_credit_lots WHERE account_id = ? AND open ORDER BY ` + lotOrder
		var found []*lot
		if err := w.selectText(ctx, &found, open, a.ID); err != nil {
			return nil, fmt.Errorf("credits: lots of account %s: %w", a.ID, err)
		}
		for _, x := range found {
			w.see(a, x)
		}
		a.whole = true
	}
	if source == "" {
		return w.take(ctx, a, amount)
	}
	var shares []share
	for _, x := range a.lots {
		if part := min(amount, x.Free); part > 0 && x.Source == source {
			w.draw(a, x, part)
			shares = append(shares, share{x, part})
			amount -= part
		}
	}
	a.adrift = true
	if amount > 0 {
		return nil, w.broke(fmt.Errorf("credits: account %s has %s less of source %s in its lots than it says", a.ID, amount, source))
	}
	return shares, nil
}
