package credits

import (
	"context"
	"fmt"
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
	// Reference names the cause, such as a payment's id. Optional.
	Reference string
	// Metadata is kept with the entry. Optional.
	Metadata map[string]string
	// IdempotencyKey makes a repetition return the first result. Keys are the account's own, and shared by grants and
	// debits. Empty: none.
	IdempotencyKey string
}

// Lot is a grant with what is left of it.
type Lot struct {
	ID      uuid.UUID `json:"id"`
	Account string    `json:"account"`
	Source  Source    `json:"source"`
	Amount  Amount    `json:"amount"`
	// Remaining is what is not used, holds included; Held is the part that holds have set aside.
	Remaining Amount     `json:"remaining"`
	Held      Amount     `json:"held"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
}

// Grant adds credits as a lot of their own. The errors are [ErrAccountRequired], [ErrAmountNotPositive],
// [ErrUnknownSource], [ErrReasonRequired], [ErrAlreadyExpired], [ErrIdempotencyMismatch] and [ErrOverflow].
func (l *Ledger) Grant(ctx context.Context, p GrantParams) (e Entry, err error) {
	err = l.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		e, err = l.GrantTx(ctx, tx, p)
		return err
	})
	return e, err
}

// GrantTx is [Ledger.Grant] inside the caller's transaction.
func (l *Ledger) GrantTx(ctx context.Context, tx *sqlx.Tx, p GrantParams) (Entry, error) {
	priority, err := p.Source.priority()
	if err != nil {
		return Entry{}, err
	}
	if p.Amount <= 0 {
		return Entry{}, ErrAmountNotPositive
	}
	if err := checkReason(&p.Reason); err != nil {
		return Entry{}, err
	}
	if p.ExpiresAt != nil {
		at := database.Canonical(*p.ExpiresAt)
		p.ExpiresAt = &at
	}
	c, err := l.begin(ctx, tx, p.Account)
	if err != nil {
		return Entry{}, err
	}
	print, err := fingerprint(struct {
		Op string
		GrantParams
	}{"grant", p})
	if err != nil {
		return Entry{}, err
	}
	if e, found, err := c.replay(ctx, p.IdempotencyKey, print); found || err != nil {
		return e, err
	}
	if p.ExpiresAt != nil && !p.ExpiresAt.After(c.now) {
		return Entry{}, ErrAlreadyExpired
	}
	if c.acc.Available, err = c.acc.Available.Add(p.Amount); err != nil {
		return Entry{}, err
	}
	e, err := c.write(ctx, KindGrant, p.Amount, p.Source, note{p.Reason, p.Reference, p.Metadata, p.IdempotencyKey, print})
	if err != nil {
		return Entry{}, err
	}
	lot, err := newID()
	if err != nil {
		return Entry{}, err
	}
	const insert = `INSERT INTO qs_credit_lots (id, account_id, entry_id, seq, source, priority, amount, remaining, expires_at, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	_, err = l.db.ExecTx(ctx, tx, insert, lot, e.Account, e.ID, e.Seq, p.Source, priority, p.Amount, p.Amount, database.AtPtr(p.ExpiresAt), database.At(c.now))
	if err != nil {
		return Entry{}, fmt.Errorf("credits: write a lot of account %s: %w", e.Account, err)
	}
	if err := c.allocate(ctx, &e, Allocation{lot, p.Source, p.Amount}); err != nil {
		return Entry{}, err
	}
	if p.ExpiresAt != nil {
		c.changesAt(*p.ExpiresAt)
	}
	return e, c.save(ctx)
}
