package credits

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

var entryDay = database.Query{
	Postgres: `to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')`,
	SQLite:   `substr(e.created_at, 1, 10)`,
}

// addDays adds the entries of a seal to the sums of their days, in the transaction of the seal: each entry is in one seal,
// and so is added once.
func (l *Ledger) addDays(ctx context.Context, tx *sqlx.Tx, seal int64) error {
	day := entryDay.For(l.db.Dialect())
	query := `INSERT INTO qs_credit_days (day, kind, source, amount, debt, entries)
		SELECT ` + day + `, e.kind, e.source, SUM(e.amount), SUM(e.debt), COUNT(*)
		FROM qs_credit_seal_spans s JOIN qs_credit_entries e ON e.account_id = s.account_id AND e.seq BETWEEN s.from_seq AND s.to_seq
		WHERE s.n = ? GROUP BY ` + day + `, e.kind, e.source
		ON CONFLICT (day, kind, source) DO UPDATE SET amount = qs_credit_days.amount + excluded.amount, debt = qs_credit_days.debt + excluded.debt,
			entries = qs_credit_days.entries + excluded.entries`
	if _, err := l.db.ExecTx(ctx, tx, query, seal); err != nil {
		return fmt.Errorf("credits: add seal %d to its days: %w", seal, err)
	}
	return nil
}

// DaySum is what the entries of one day, kind and source add up to.
type DaySum struct {
	// Day is in UTC, as 2026-03-01.
	Day     string `db:"day"     json:"day"`
	Kind    Kind   `db:"kind"    json:"kind"`
	Source  Source `db:"source"  json:"source,omitempty"`
	Amount  Amount `db:"amount"  json:"amount"`
	Entries int64  `db:"entries" json:"entries"`
}

// FiguresParams choose days.
type FiguresParams struct {
	// From is the first day.
	From time.Time
}

// Figures are sums of the ledger up to the last seal, which is minutes old where the jobs run.
type Figures struct {
	// Days are those from the first one on, in order.
	Days []DaySum `json:"days"`
	// Outstanding is what all accounts together can still spend or have set aside: what is owed to them. Debt is what they owe.
	Outstanding Amount `json:"outstanding"`
	Debt        Amount `json:"debt"`
	// AsOf is when the last seal was made. Nil: nothing is sealed yet.
	AsOf *time.Time `json:"as_of"`
}

// Figures returns sums by day. It reads what is kept by day, whatever the number of accounts and entries.
func (l *Ledger) Figures(ctx context.Context, p FiguresParams) (f Figures, err error) {
	f.Days = []DaySum{}
	const days = `SELECT day, kind, source, amount, entries FROM qs_credit_days WHERE day >= ? ORDER BY day, kind, source`
	if err := l.db.Select(ctx, &f.Days, days, p.From.UTC().Format(time.DateOnly)); err != nil {
		return f, fmt.Errorf("credits: sums of days: %w", err)
	}
	var all struct {
		Amount Amount `db:"amount"`
		Debt   Amount `db:"debt"`
	}
	const sums = `SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) AS amount, CAST(COALESCE(SUM(debt), 0) AS BIGINT) AS debt FROM qs_credit_days`
	if err := l.db.Get(ctx, &all, sums); err != nil {
		return f, fmt.Errorf("credits: sums of all days: %w", err)
	}
	f.Outstanding, f.Debt = all.Amount+all.Debt, all.Debt
	var sealed []database.Time
	if err := l.db.Select(ctx, &sealed, `SELECT created_at FROM qs_credit_seals ORDER BY n DESC LIMIT 1`); err != nil {
		return f, fmt.Errorf("credits: last seal: %w", err)
	}
	if len(sealed) > 0 {
		f.AsOf = sealed[0].Std()
	}
	return f, nil
}

// keepFaults remembers what a verification of the ledger by itself found.
func (l *Ledger) keepFaults(ctx context.Context, found []Discrepancy) error {
	if len(found) == 0 {
		return nil
	}
	const upsert = `INSERT INTO qs_credit_faults (account_id, object_id, rule, want, got, seen_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (account_id, object_id, rule) DO UPDATE SET want = excluded.want, got = excluded.got, seen_at = excluded.seen_at`
	return l.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		for _, d := range found {
			if _, err := l.db.ExecTx(ctx, tx, upsert, d.Account, d.ID, d.Rule, d.Want, d.Got, database.At(l.now())); err != nil {
				return fmt.Errorf("credits: keep a discrepancy of account %s: %w", d.Account, err)
			}
		}
		return nil
	})
}

// MaxFaults bounds what [Ledger.Faults] returns.
const MaxFaults = 100

// Faults are the discrepancies that the ledger's own verification, which is done day by day, found since a moment, at most
// a hundred. What was mended is not found again.
func (l *Ledger) Faults(ctx context.Context, since time.Time) ([]Discrepancy, error) {
	var rows []struct {
		Account string `db:"account_id"`
		ID      string `db:"object_id"`
		Rule    string `db:"rule"`
		Want    Amount `db:"want"`
		Got     Amount `db:"got"`
	}
	// Runs along qs_credit_faults_seen.
	const query = `SELECT account_id, object_id, rule, want, got FROM qs_credit_faults WHERE seen_at >= ? ORDER BY account_id, rule, object_id LIMIT ?`
	if err := l.db.Select(ctx, &rows, query, database.At(since), MaxFaults); err != nil {
		return nil, fmt.Errorf("credits: kept discrepancies: %w", err)
	}
	found := make([]Discrepancy, len(rows))
	for i, r := range rows {
		found[i] = Discrepancy{Account: r.Account, ID: r.ID, Rule: r.Rule, Want: r.Want, Got: r.Got}
	}
	return found, nil
}
