package credits

import (
	"context"
	"fmt"
	"time"

	"github.com/quickscale/quickscale/internal/database"
)

// DefaultDailyEntries keeps [Ledger.DailyUse] to milliseconds for every account.
const DefaultDailyEntries = 20_000

// DailyUseParams choose what [Ledger.DailyUse] adds up.
type DailyUseParams struct {
	Account string
	// From is a moment of the first day (UTC).
	From time.Time
	// Entries is how many of the account's last entries are looked at. 0: 20,000.
	Entries int64
}

// DayUse is what was used on a day.
type DayUse struct {
	Day  time.Time `json:"day"` // midnight UTC
	Used Amount    `json:"used"`
}

var useByDay = database.Query{
	Postgres: `SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, SUM(-amount) AS used`,
	SQLite:   `SELECT substr(created_at, 1, 10) AS day, SUM(-amount) AS used`,
}

// lastEntries bounds a query to the last entries of an account; it runs along the unique key (account_id, seq).
const lastEntries = ` FROM qs_credit_entries WHERE account_id = ? AND seq > (SELECT last_seq FROM qs_credit_accounts WHERE id = ?) - ?`

// DailyUse adds up what an account used on each day until now, without days of no use, earliest first. Where the entries
// that it looks at do not reach back to From, since is the first day that they hold whole, and otherwise the day of From.
func (l *Ledger) DailyUse(ctx context.Context, p DailyUseParams) (days []DayUse, since time.Time, err error) {
	if p.Entries <= 0 {
		p.Entries = DefaultDailyEntries
	}
	since = p.From.UTC().Truncate(24 * time.Hour)
	var edge database.Time
	err = l.db.Get(ctx, &edge, `SELECT created_at FROM qs_credit_entries WHERE account_id = ? AND seq = (SELECT last_seq FROM qs_credit_accounts WHERE id = ?) - ?`, p.Account, p.Account, p.Entries)
	switch {
	case database.IsNoRows(err): // they all are within
	case err != nil:
		return nil, since, fmt.Errorf("credits: use of account %s: %w", p.Account, err)
	case !edge.Before(since):
		since = edge.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
	}
	var rows []struct {
		Day  string `db:"day"`
		Used Amount `db:"used"`
	}
	query := useByDay.For(l.db.Dialect()) + lastEntries + ` AND kind = ? AND created_at >= ? GROUP BY day ORDER BY day`
	if err := l.db.Select(ctx, &rows, query, p.Account, p.Account, p.Entries, KindDebit, database.At(since)); err != nil {
		return nil, since, fmt.Errorf("credits: use of account %s by day: %w", p.Account, err)
	}
	days = make([]DayUse, 0, len(rows))
	for _, r := range rows {
		day, err := time.Parse(time.DateOnly, r.Day)
		if err != nil {
			return nil, since, fmt.Errorf("credits: day %q: %w", r.Day, err)
		}
		if r.Used > 0 {
			days = append(days, DayUse{day, r.Used})
		}
	}
	return days, since, nil
}
