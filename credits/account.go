package credits

import (
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/database"
)

// account is the row that every change locks first, with what the change knows of its lots.
type account struct {
	ID           string         `db:"id"`
	Available    Amount         `db:"available"`
	Held         Amount         `db:"held"`
	Debt         Amount         `db:"debt"`
	HeadLot      *uuid.UUID     `db:"head_lot"`
	HeadSource   Source         `db:"head_source"`
	HeadFree     Amount         `db:"head_free"`
	Subscription Amount         `db:"subscription"`
	Purchase     Amount         `db:"purchase"`
	Admin        Amount         `db:"admin"`
	Bonus        Amount         `db:"bonus"`
	NextChangeAt *database.Time `db:"next_change_at"`
	LastSeq      int64          `db:"last_seq"`
	LastAt       database.Time  `db:"last_at"`
	Frozen       string         `db:"frozen"`
	LowAt        *Amount        `db:"low_at"`
	Low          bool           `db:"low"`
	DayLimit     *Amount        `db:"day_limit"`
	MonthLimit   *Amount        `db:"month_limit"`
	SpentOn      string         `db:"spent_on"`
	SpentDay     Amount         `db:"spent_day"`
	SpentMonth   Amount         `db:"spent_month"`
	ErasedAt     *database.Time `db:"erased_at"`

	now   time.Time // of this change: not before the last entry
	dirty bool      // something has changed,
	more  bool      // and not only what touchAccounts writes
	// head is the lot of HeadLot; nil when there is none. What is free in it is not in the four columns of sources.
	head *lot
	// lots are those that the change has seen, in the order of use; those up to bound are all that are open.
	lots   []*lot
	bound  *lot
	whole  bool // lots are all that are open
	adrift bool // the head may no longer be the first lot
}

const accountColumns = `id, available, held, debt, head_lot, head_source, head_free, subscription, purchase, admin, bonus, next_change_at, last_seq,
	last_at, frozen, low_at, low, day_limit, month_limit, spent_on, spent_day, spent_month, erased_at`

var (
	updateAccounts = newBulk("qs_credit_accounts", 1, `id text, available bigint, held bigint, debt bigint, head_lot uuid, head_source text, head_free bigint,
		subscription bigint, purchase bigint, admin bigint, bonus bigint, next_change_at timestamptz, last_seq bigint, last_at timestamptz, frozen text,
		low_at bigint, low boolean, day_limit bigint, month_limit bigint, spent_on text, spent_day bigint, spent_month bigint, erased_at timestamptz`)
	// touchAccounts is updateAccounts for those where only the commonest columns have changed.
	touchAccounts = newBulk("qs_credit_accounts", 1, `id text, available bigint, held bigint, head_free bigint, next_change_at timestamptz, last_seq bigint,
		last_at timestamptz`)
	insertAccounts = database.Query{
		Postgres: `INSERT INTO qs_credit_accounts (id, last_at, created_at)
			SELECT u, ?, ? FROM unnest(?::text[]) AS u ORDER BY u ON CONFLICT (id) DO NOTHING`,
		SQLite: `INSERT INTO qs_credit_accounts (id, last_at, created_at) SELECT value, ?, ? FROM json_each(?) WHERE true ON CONFLICT (id) DO NOTHING`,
	}
	// lockAccounts locks accounts by their ids and by those of holds of theirs, in the order of their ids. Each is looked
	// up by its key, whatever the statistics say.
	lockAccounts = database.Query{
		Postgres: `SELECT a.* FROM (SELECT id FROM (SELECT unnest(?::text[]) AS id
				UNION SELECT h.account_id FROM unnest(?::uuid[]) AS u(id)
					CROSS JOIN LATERAL (SELECT account_id FROM qs_credit_holds WHERE id = u.id LIMIT 1) AS h) AS ids ORDER BY id COLLATE "C") AS u
			CROSS JOIN LATERAL (SELECT ` + accountColumns + ` FROM qs_credit_accounts WHERE id = u.id FOR UPDATE) AS a`,
		SQLite: `SELECT ` + accountColumns + ` FROM qs_credit_accounts WHERE id IN (SELECT value FROM json_each(?)
			UNION SELECT account_id FROM qs_credit_holds WHERE id IN (SELECT value FROM json_each(?)))`,
	}
)

// values are the row as updateAccounts takes it.
func (a *account) values() []any {
	var head *uuid.UUID
	var source Source
	var free Amount
	if a.head != nil {
		head, source, free = &a.head.ID, a.head.Source, a.head.Free
	}
	return []any{a.ID, a.Available, a.Held, a.Debt, head, string(source), free, a.Subscription, a.Purchase, a.Admin, a.Bonus, a.NextChangeAt, a.LastSeq,
		a.LastAt, a.Frozen, a.LowAt, a.Low, a.DayLimit, a.MonthLimit, a.SpentOn, a.SpentDay, a.SpentMonth, a.ErasedAt}
}

func (a *account) fewValues() []any {
	return []any{a.ID, a.Available, a.Held, a.headFree(), a.NextChangeAt, a.LastSeq, a.LastAt}
}

// begin prepares a row that was just read.
func (a *account) begin(now time.Time) {
	a.now = now
	if a.LastAt.After(now) {
		a.now = a.LastAt.Time
	}
	if a.HeadLot != nil {
		a.head = &lot{ID: *a.HeadLot, Account: a.ID, Source: a.HeadSource, Free: a.HeadFree}
	}
	a.whole = a.Available == a.HeadFree // no other lot has anything
}

// rest is what is free of a source in lots other than the head.
func (a *account) rest(s Source) *Amount {
	switch s {
	case Subscription:
		return &a.Subscription
	case Purchase:
		return &a.Purchase
	case Admin:
		return &a.Admin
	default:
		return &a.Bonus
	}
}

func (a *account) due() bool { return a.NextChangeAt != nil && !a.NextChangeAt.After(a.now) }

// changesAt makes sure that the account is looked at again at t.
func (a *account) changesAt(t *time.Time) {
	if t != nil && (a.NextChangeAt == nil || t.Before(a.NextChangeAt.Time)) {
		a.NextChangeAt = database.AtPtr(t)
	}
}

// owns is what the account has, holds included and debt subtracted.
func (a *account) owns() (Amount, error) {
	sum, err := a.Available.Add(a.Held)
	if err != nil {
		return 0, err
	}
	return sum.Sub(a.Debt)
}

// usable refuses what the account may not give away, or does not have: of available, which is all or that of a source.
func (a *account) usable(amount, available Amount) error {
	switch {
	case a.ErasedAt != nil:
		return ErrErased
	case a.Frozen != "":
		return &FrozenError{Reason: a.Frozen}
	case amount > 0 && amount > available:
		return &InsufficientError{Required: amount, Available: available, Debt: a.Debt}
	}
	return nil
}

// require refuses a use of credits that the account cannot cover or may not make.
func (a *account) require(amount Amount) error {
	if err := a.usable(amount, a.Available); err != nil {
		return err
	}
	return a.withinLimits(amount)
}

// of is what is available of a source.
func (a *account) of(s Source) Amount {
	sum := *a.rest(s)
	if a.head != nil && a.head.Source == s {
		sum += a.head.Free
	}
	return sum
}
