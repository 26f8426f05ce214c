package credits

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/quickscale/quickscale/internal/database"
)

// DefaultExpiringWithin is how far ahead [Ledger.Balance] looks for expiring credits.
const DefaultExpiringWithin = 7 * 24 * time.Hour

// Balance is what an account has at a moment. It is news, not a promise: another operation may come between reading
// it and acting on it, and only the operation itself decides.
type Balance struct {
	// Available can be spent; Held is set aside by open holds.
	Available Amount `json:"available"`
	Held      Amount `json:"held"`
	// BySource splits Available, without sources that have nothing.
	BySource map[Source]Amount `json:"by_source"`
	// NextExpiry is when the next part of Available stops counting. Nil: none does.
	NextExpiry *time.Time `json:"next_expiry,omitempty"`
	// Expiring are the parts of Available that expire within the asked time, by day (UTC), earliest first.
	Expiring []Expiring `json:"expiring,omitempty"`
}

// Expiring is what expires on a day.
type Expiring struct {
	Day    time.Time `json:"day"` // midnight UTC
	Amount Amount    `json:"amount"`
}

// Balance reads an account; one that was never used has nothing. Expiring credits are told for the next seven days.
// The cost grows with the lots that are open, not with the history.
func (l *Ledger) Balance(ctx context.Context, account string) (Balance, error) {
	return l.BalanceWithin(ctx, account, DefaultExpiringWithin)
}

// BalanceWithin is [Ledger.Balance] with another look ahead.
func (l *Ledger) BalanceWithin(ctx context.Context, account string, within time.Duration) (Balance, error) {
	// One statement sees one state. Shares of holds whose time is over count as given back, though no write has
	// done so yet.
	const open = `SELECT l.source, l.expires_at, SUM(l.remaining - l.held + COALESCE(b.amount, 0)) AS free, SUM(l.held - COALESCE(b.amount, 0)) AS held
		FROM qs_credit_lots l LEFT JOIN (
			SELECT s.lot_id, SUM(s.amount) AS amount FROM qs_credit_holds h JOIN qs_credit_hold_lots s ON s.hold_id = h.id
			WHERE h.account_id = ? AND h.status = 'open' AND h.expires_at <= ? GROUP BY s.lot_id
		) AS b ON b.lot_id = l.id
		WHERE l.account_id = ? AND l.remaining > 0 GROUP BY l.source, l.expires_at`
	now := l.now()
	var rows []struct {
		Source    Source         `db:"source"`
		ExpiresAt *database.Time `db:"expires_at"`
		Free      Amount         `db:"free"`
		Held      Amount         `db:"held"`
	}
	if err := l.db.Select(ctx, &rows, open, account, database.At(now), account); err != nil {
		return Balance{}, fmt.Errorf("credits: balance of account %s: %w", account, err)
	}
	b := Balance{BySource: map[Source]Amount{}}
	days := map[time.Time]Amount{}
	for _, r := range rows {
		b.Held += r.Held
		expires := r.ExpiresAt.Std()
		if r.Free == 0 || (expires != nil && !expires.After(now)) {
			continue
		}
		b.Available += r.Free
		b.BySource[r.Source] += r.Free
		if expires == nil {
			continue
		}
		if b.NextExpiry == nil || expires.Before(*b.NextExpiry) {
			b.NextExpiry = expires
		}
		if expires.Before(now.Add(within)) {
			days[expires.Truncate(24*time.Hour)] += r.Free
		}
	}
	for day, amount := range days {
		b.Expiring = append(b.Expiring, Expiring{day, amount})
	}
	slices.SortFunc(b.Expiring, func(x, y Expiring) int { return x.Day.Compare(y.Day) })
	return b, nil
}
