package credits

import (
	"context"
	"fmt"
)

// Limits of a page of history.
const (
	DefaultPage = 50
	MaxPage     = 500
)

// HistoryParams choose a page of an account's history.
type HistoryParams struct {
	Account string
	// Before is the Seq of the last entry of the page before. 0: begin with the newest.
	Before int64
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
	// Kind leaves out entries of other kinds. Empty: all.
	Kind Kind
}

// History returns a page of entries, newest first, without their allocations, and whether older ones follow. The next
// page begins Before the last entry's Seq.
func (l *Ledger) History(ctx context.Context, p HistoryParams) (entries []Entry, more bool, err error) {
	if p.Limit <= 0 {
		p.Limit = DefaultPage
	}
	p.Limit = min(p.Limit, MaxPage)
	// Runs along the unique key (account_id, seq).
	query, args := `SELECT `+entryColumns+` FROM qs_credit_entries WHERE account_id = ?`, []any{p.Account}
	if p.Before > 0 {
		query, args = query+` AND seq < ?`, append(args, p.Before)
	}
	if p.Kind != "" {
		query, args = query+` AND kind = ?`, append(args, p.Kind)
	}
	query, args = query+` ORDER BY seq DESC LIMIT ?`, append(args, p.Limit+1)
	var rows []entryRow
	if err := l.db.Select(ctx, &rows, query, args...); err != nil {
		return nil, false, fmt.Errorf("credits: history of account %s: %w", p.Account, err)
	}
	if more = len(rows) > p.Limit; more {
		rows = rows[:p.Limit]
	}
	entries = make([]Entry, len(rows))
	for i, r := range rows {
		if entries[i], err = r.entry(); err != nil {
			return nil, false, err
		}
	}
	return entries, more, nil
}
