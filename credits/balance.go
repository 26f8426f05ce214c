package credits

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/database"
)

// DefaultExpiringWithin is how far ahead [Ledger.Balance] looks for expiring credits.
const DefaultExpiringWithin = 7 * 24 * time.Hour

// Balance is what an account has at a moment. It is news, not a promise: another operation may come between reading
// it and acting on it, and only the operation itself decides.
type Balance struct {
	// Available can be spent; Held is set aside by open holds; Debt is owed, and while it is nothing is available.
	Available Amount `json:"available"`
	Held      Amount `json:"held"`
	Debt      Amount `json:"debt,omitempty"`
	// BySource splits Available, without sources that have nothing.
	BySource map[Source]Amount `json:"by_source"`
	// NextExpiry is when the next part of Available stops counting. Nil: none does.
	NextExpiry *time.Time `json:"next_expiry,omitempty"`
	// Expiring are the parts of Available that expire within the asked time, by day (UTC), earliest first.
	Expiring []Expiring `json:"expiring,omitempty"`
	// Frozen tells that use is refused.
	Frozen bool `json:"frozen,omitempty"`
}

// Expiring is what expires on a day.
type Expiring struct {
	Day    time.Time `json:"day"` // midnight UTC
	Amount Amount    `json:"amount"`
}

// Balance reads an account; one that was never used has nothing. Expiring credits are told for the next seven days.
// It reads the account's row and the lots that expire within that time: neither the length of the history nor the
// number of other lots matters.
func (l *Ledger) Balance(ctx context.Context, account string) (Balance, error) {
	return l.BalanceWithin(ctx, account, DefaultExpiringWithin)
}

// accountRow is an account where a parameter hides the name.
type accountRow = account

// readBalance reads the account and, in the rows, what expires within a time, one row at least.
const readBalance = `SELECT a.id, a.available, a.held, a.debt, a.frozen, a.head_source, a.head_free, a.subscription, a.purchase, a.admin, a.bonus,
		a.next_change_at, x.expires_at, x.free, (SELECT l.expires_at FROM qs_credit_lots l
			WHERE l.account_id = a.id AND l.open AND l.expires_at IS NOT NULL AND (a.head_free > 0 OR a.head_lot IS NULL OR l.id <> a.head_lot)
			ORDER BY l.expires_at LIMIT 1) AS first_at
	FROM qs_credit_accounts a
	LEFT JOIN (
		SELECT account_id, expires_at, SUM(free) AS free FROM qs_credit_lots_now
		WHERE account_id = ? AND open AND expires_at IS NOT NULL AND expires_at < ? AND free > 0
		GROUP BY account_id, expires_at
	) AS x ON x.account_id = a.id
	WHERE a.id = ?`

// BalanceWithin is [Ledger.Balance] with another look ahead.
func (l *Ledger) BalanceWithin(ctx context.Context, account string, within time.Duration) (Balance, error) {
	now := l.now()
	var rows []struct {
		accountRow
		FirstAt   *database.Time `db:"first_at"`
		ExpiresAt *database.Time `db:"expires_at"`
		Free      *Amount        `db:"free"`
	}
	// One statement sees one state.
	if err := l.reads.rows(ctx, &rows, l.db.Rebind(readBalance), account, database.At(now.Add(within)), account); err != nil {
		return Balance{}, fmt.Errorf("credits: balance of account %s: %w", account, err)
	}
	b := Balance{BySource: map[Source]Amount{}}
	if len(rows) == 0 {
		return b, nil
	}
	a := rows[0].accountRow
	a.begin(now)
	if a.NextChangeAt != nil && !a.NextChangeAt.After(now) {
		return l.dueBalance(ctx, account, within, now)
	}
	b.Available, b.Held, b.Debt, b.Frozen, b.NextExpiry = a.Available, a.Held, a.Debt, a.Frozen != "", rows[0].FirstAt.Std()
	for _, s := range []Source{Subscription, Purchase, Admin, Bonus} {
		rest := *a.rest(s)
		if s == a.HeadSource {
			rest += a.HeadFree
		}
		if rest > 0 {
			b.BySource[s] = rest
		}
	}
	for _, r := range rows {
		if r.ExpiresAt != nil {
			b.expires(r.ExpiresAt.Time, *r.Free)
		}
	}
	return b, nil
}

// expires adds to the day's expiring credits.
func (b *Balance) expires(at time.Time, amount Amount) {
	day := at.Truncate(24 * time.Hour)
	i, found := slices.BinarySearchFunc(b.Expiring, day, func(e Expiring, d time.Time) int { return e.Day.Compare(d) })
	if !found {
		b.Expiring = slices.Insert(b.Expiring, i, Expiring{Day: day})
	}
	b.Expiring[i].Amount += amount
}

// dueBalance is the balance of an account whose row the clock has overtaken, though no write has noticed: it goes
// through the open lots, and does what the next write will do with the holds whose time is over.
func (l *Ledger) dueBalance(ctx context.Context, account string, within time.Duration, now time.Time) (Balance, error) {
	tx, err := l.snapshot(ctx)
	if err != nil {
		return Balance{}, err
	}
	defer tx.end()
	var rows []accountRow
	if err := tx.selectAll(ctx, &rows, `SELECT `+accountColumns+` FROM qs_credit_accounts WHERE id = ?`, account); err != nil {
		return Balance{}, fmt.Errorf("credits: balance of account %s: %w", account, err)
	}
	const (
		open = `SELECT ` + lotColumns + ` FROM qs_credit_lots_now WHERE account_id = ? AND open`
		due  = `SELECT h.hold_id, h.expires_at AS until, h.amount, l.id, l.source, l.priority, l.seq, l.expires_at
			FROM qs_credit_held h JOIN qs_credit_lots l ON l.id = h.lot_id WHERE h.account_id = ? AND h.expires_at <= ?
			ORDER BY h.expires_at, h.hold_id, l.priority, (l.expires_at IS NULL), l.expires_at, l.seq, l.id`
	)
	var lots []*lot
	if err := tx.selectAll(ctx, &lots, open, account); err != nil {
		return Balance{}, fmt.Errorf("credits: open lots of account %s: %w", account, err)
	}
	var returns []struct {
		Hold      uuid.UUID      `db:"hold_id"`
		Until     database.Time  `db:"until"`
		Back      Amount         `db:"amount"`
		ID        uuid.UUID      `db:"id"`
		Source    Source         `db:"source"`
		Priority  int            `db:"priority"`
		Seq       int64          `db:"seq"`
		ExpiresAt *database.Time `db:"expires_at"`
	}
	if err := tx.selectAll(ctx, &returns, due, account, database.At(now)); err != nil {
		return Balance{}, fmt.Errorf("credits: due holds of account %s: %w", account, err)
	}
	b := Balance{Held: rows[0].Held, Debt: rows[0].Debt, Frozen: rows[0].Frozen != "", BySource: map[Source]Amount{}}
	for _, r := range returns {
		b.Held -= r.Back
		x := &lot{ID: r.ID, Source: r.Source, Priority: r.Priority, Seq: r.Seq, ExpiresAt: r.ExpiresAt}
		if x.expired(r.Until.Time) {
			continue
		}
		// While there is debt nothing is available, so that what is given back is all that can pay.
		paid := min(b.Debt, r.Back)
		b.Debt -= paid
		x.Free = r.Back - paid
		lots = append(lots, x)
	}
	for _, x := range lots {
		if x.Free == 0 || x.expired(now) {
			continue
		}
		b.Available += x.Free
		b.BySource[x.Source] += x.Free
		expires := x.ExpiresAt.Std()
		if expires == nil {
			continue
		}
		if b.NextExpiry == nil || expires.Before(*b.NextExpiry) {
			b.NextExpiry = expires
		}
		if expires.Before(now.Add(within)) {
			b.expires(*expires, x.Free)
		}
	}
	return b, nil
}
