package credits

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// Source is where credits came from.
type Source string

// The sources.
const (
	Subscription Source = "subscription" // expires with its billing period
	Purchase     Source = "purchase"     // pay as you go, never expires
	Admin        Source = "admin"        // an adjustment by staff
	Bonus        Source = "bonus"        // a gift
)

// Priorities of the sources; lower ones are used first.
const (
	prioritySubscription = 10
	priorityOther        = 20
	// MaxPriority bounds [GrantParams.Priority].
	MaxPriority = 1000
)

func (s Source) priority() (int, error) {
	switch s {
	case Subscription:
		return prioritySubscription, nil
	case Purchase, Admin, Bonus:
		return priorityOther, nil
	}
	return 0, ErrUnknownSource
}

// GrantParams describe a grant.
type GrantParams struct {
	// Account gets the credits; it is made when it is new. Required.
	Account string
	// Amount is above zero.
	Amount Amount
	// Source is one of the four. Required.
	Source Source
	// Reason is shown in the history. Required.
	Reason string
	// ExpiresAt is when the rest stops counting. Nil: never.
	ExpiresAt *time.Time
	// Priority decides which lots are used first: lower ones, from 1 to [MaxPriority]. 0: that of the source, 10 for
	// subscription credits and 20 for all others.
	Priority int
	// Reference names the cause, such as a payment's id. Optional.
	Reference string
	// Metadata is kept with the entry. Optional.
	Metadata map[string]string
	// IdempotencyKey makes a repetition return the first result. Keys are the account's own, and shared by all
	// operations but holds. Empty: none.
	IdempotencyKey string
}

// Grant adds credits as a lot of their own. Debt is paid first, with an entry of its own. The errors are
// [ErrAccountRequired], [ErrAmountNotPositive], [ErrUnknownSource], [ErrReasonRequired], [ErrAlreadyExpired],
// [ErrErased], [ErrIdempotencyMismatch] and [ErrOverflow].
func (l *Ledger) Grant(ctx context.Context, p GrantParams) (Entry, error) {
	o, err := newGrant(p)
	if err != nil {
		return Entry{}, err
	}
	if err := l.group(ctx, accountByte(p.Account), o); err != nil {
		return Entry{}, err
	}
	return o.entry, nil
}

// GrantTx is [Ledger.Grant] inside the caller's transaction.
func (l *Ledger) GrantTx(ctx context.Context, tx *sqlx.Tx, p GrantParams) (Entry, error) {
	o, err := newGrant(p)
	if err != nil {
		return Entry{}, err
	}
	if err := l.do(ctx, tx, o); err != nil {
		return Entry{}, err
	}
	return o.entry, nil
}

type grantOp struct {
	p     GrantParams
	mark  string
	entry Entry
}

func newGrant(p GrantParams) (*grantOp, error) {
	if err := checkAccount(p.Account); err != nil {
		return nil, err
	}
	priority, err := p.Source.priority()
	if err != nil {
		return nil, err
	}
	if p.Amount <= 0 {
		return nil, ErrAmountNotPositive
	}
	if err := checkReason(&p.Reason); err != nil {
		return nil, err
	}
	if p.ExpiresAt != nil {
		at := database.Canonical(*p.ExpiresAt)
		p.ExpiresAt = &at
	}
	if p.Priority == 0 {
		p.Priority = priority
	}
	if p.Priority < 0 || p.Priority > MaxPriority {
		return nil, ErrPriority
	}
	mark, err := fingerprint(p.IdempotencyKey, "grant", p)
	return &grantOp{p: p, mark: mark}, err
}

func (o *grantOp) needs(n *needs) {
	a := n.account(o.p.Account)
	a.make, a.order = true, true
	n.key(o.p.Account, o.p.IdempotencyKey)
}

func (o *grantOp) apply(ctx context.Context, w *work) error {
	a := w.account(o.p.Account)
	e, found, err := w.replay(a.ID, o.p.IdempotencyKey, o.mark)
	if found || err != nil {
		o.entry = e
		return err
	}
	o.entry, err = w.add(ctx, a, KindGrant, o.p.Source, o.p.Priority, o.p.Amount, o.p.ExpiresAt, note{reason: o.p.Reason, reference: o.p.Reference,
		metadata: o.p.Metadata, key: o.p.IdempotencyKey, fingerprint: o.mark})
	return err
}

// add writes an entry that opens a lot.
func (w *work) add(ctx context.Context, a *account, kind Kind, source Source, priority int, amount Amount, expires *time.Time, n note) (Entry, error) {
	return w.addLots(ctx, a, kind, source, amount, []*lot{{Source: source, Priority: priority, Amount: amount, ExpiresAt: database.AtPtr(expires)}}, n)
}

// addLots writes an entry that opens lots, whose amounts add up to amount.
func (w *work) addLots(ctx context.Context, a *account, kind Kind, source Source, amount Amount, lots []*lot, n note) (Entry, error) {
	if a.ErasedAt != nil {
		return Entry{}, ErrErased
	}
	owns, err := a.owns()
	if err != nil {
		return Entry{}, err
	}
	if _, err := owns.Add(amount); err != nil {
		return Entry{}, err
	}
	if _, err := a.Available.Add(amount); err != nil {
		return Entry{}, err
	}
	if n.id == uuid.Nil {
		if n.id, err = newID(); err != nil {
			return Entry{}, err
		}
	}
	for _, x := range lots {
		if x.ExpiresAt != nil && x.expired(a.now) {
			return Entry{}, ErrAlreadyExpired
		}
	}
	var shares []share
	for _, x := range lots {
		if x.ID, err = newID(); err != nil {
			return Entry{}, w.broke(err)
		}
		x.Entry, x.Seq = n.id, a.LastSeq+1
		if err := w.openLot(ctx, a, x, x.Amount); err != nil {
			return Entry{}, err
		}
		shares = append(shares, share{x, x.Amount})
	}
	e, err := w.write(a, kind, amount, 0, source, shares, n)
	if err != nil {
		return Entry{}, w.broke(err)
	}
	return e, w.repay(ctx, a, n)
}
