package credits

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/web"
)

// Limits of a page of history.
const (
	DefaultPage = database.DefaultPage // 50
	MaxPage     = database.MaxPage     // 500
)

// HistoryParams choose a page of an account's history. Filters that are empty leave nothing out; of several, all must
// match.
type HistoryParams struct {
	Account string
	// Before is the Seq of the last entry of the page before. 0: begin with the newest.
	Before int64
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
	// Kind leaves out entries of other kinds.
	Kind Kind
	// Source leaves out entries that touched no lot of the source.
	Source Source
	// Service and Reference leave out entries with others.
	Service   string
	Reference string
	// From and Until bound the time: from From on, and before Until. The zero time is no bound.
	From, Until time.Time
	// Text must be part of the reason, the reference or the service, in any case of letters (on SQLite, of ASCII ones).
	Text string
}

// History returns a page of entries, newest first, without their allocations, and whether older ones follow. The next
// page begins Before the last entry's Seq.
func (l *Ledger) History(ctx context.Context, p HistoryParams) (entries []Entry, more bool, err error) {
	first, before, err := l.bounds(ctx, p)
	if err != nil {
		return nil, false, err
	}
	// Runs along the unique key (account_id, seq).
	list := database.NewList(`SELECT ` + entryColumns + ` FROM qs_credit_entries e`)
	list.And(`account_id = ? AND seq >= ? AND seq < ?`, p.Account, first, before)
	for _, f := range []struct{ clause, value string }{
		{"kind = ?", string(p.Kind)},
		{"service = ?", p.Service},
		{"reference = ?", p.Reference},
		{`EXISTS (SELECT 1 FROM qs_credit_shares s JOIN qs_credit_lots x ON x.id = s.lot_id WHERE s.entry_id = e.id AND x.source = ?)`, string(p.Source)},
	} {
		list.If(f.value != "", f.clause, f.value)
	}
	if p.Text != "" {
		list.And(`LOWER(reason || ' ' || reference || ' ' || service) LIKE ? ESCAPE '\'`,
			"%"+strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(p.Text))+"%")
	}
	rows, more, err := database.Rows[entryRow](ctx, l.db, list, `seq DESC`, p.Limit)
	if err == nil {
		entries, err = entriesOf(rows)
	}
	if err != nil {
		return nil, false, fmt.Errorf("credits: history of account %s: %w", p.Account, err)
	}
	return entries, more, nil
}

func (l *Ledger) entries(ctx context.Context, query string, args ...any) ([]Entry, error) {
	var rows []entryRow
	if err := l.db.Select(ctx, &rows, query, args...); err != nil {
		return nil, err
	}
	return entriesOf(rows)
}

func entriesOf(rows []entryRow) ([]Entry, error) {
	entries := make([]Entry, len(rows))
	for i, r := range rows {
		var err error
		if entries[i], err = r.entry(); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// bounds turns the times of p into the numbers of the first entry and of the one after the last.
func (l *Ledger) bounds(ctx context.Context, p HistoryParams) (first, before int64, err error) {
	last, err := l.lastSeq(ctx, p.Account)
	if err != nil {
		return 0, 0, err
	}
	get := func(dest any, query string, args ...any) error { return l.db.Get(ctx, dest, query, args...) }
	first, before = 1, last+1
	if !p.From.IsZero() {
		if first, err = firstSeq(get, p.Account, last, p.From); err != nil {
			return 0, 0, err
		}
	}
	if !p.Until.IsZero() {
		if before, err = firstSeq(get, p.Account, last, p.Until); err != nil {
			return 0, 0, err
		}
	}
	if p.Before > 0 {
		before = min(before, p.Before)
	}
	return first, before, nil
}

func (l *Ledger) lastSeq(ctx context.Context, account string) (last int64, err error) {
	err = l.db.Get(ctx, &last, `SELECT last_seq FROM qs_credit_accounts WHERE id = ?`, account)
	if err != nil && !database.IsNoRows(err) {
		return 0, fmt.Errorf("credits: last entry of account %s: %w", account, err)
	}
	return last, nil
}

// firstSeq is the number of the account's first entry at or after since, and last+1 when there is none. Times never go
// back within an account, so that some twenty looks along the key find it among a million.
func firstSeq(get func(dest any, query string, args ...any) error, account string, last int64, since time.Time) (int64, error) {
	var err error
	n := sort.Search(int(last), func(i int) bool {
		if err != nil {
			return true
		}
		var at database.Time
		err = get(&at, `SELECT created_at FROM qs_credit_entries WHERE account_id = ? AND seq = ?`, account, int64(i)+1)
		return !at.Before(since)
	})
	if err != nil {
		return 0, fmt.Errorf("credits: entries of account %s since %s: %w", account, since, err)
	}
	return int64(n) + 1, nil
}

// Entry returns an entry of an account by its id, with its allocations; [ErrEntryNotFound] when there is none.
func (l *Ledger) Entry(ctx context.Context, account string, id uuid.UUID) (Entry, error) {
	return l.findEntry(ctx, `id = ? AND account_id = ?`, id, account)
}

// EntryByKey returns the entry that was written under an idempotency key, with its allocations; [ErrEntryNotFound] when
// there is none.
func (l *Ledger) EntryByKey(ctx context.Context, account, key string) (Entry, error) {
	return l.findEntry(ctx, `account_id = ? AND idempotency_key = ?`, account, key)
}

func (l *Ledger) findEntry(ctx context.Context, where string, args ...any) (Entry, error) {
	return readEntry(func(dest any, query string, args ...any) error { return l.db.Select(ctx, dest, query, args...) }, where, args...)
}

func readEntry(find func(dest any, query string, args ...any) error, where string, args ...any) (Entry, error) {
	var rows []entryRow
	if err := find(&rows, `SELECT `+entryColumns+` FROM qs_credit_entries WHERE `+where, args...); err != nil {
		return Entry{}, fmt.Errorf("credits: find an entry: %w", err)
	}
	if len(rows) == 0 {
		return Entry{}, ErrEntryNotFound
	}
	e, err := rows[0].entry()
	if err != nil {
		return Entry{}, err
	}
	if err := find(&e.Allocations, selectAllocations, e.ID); err != nil {
		return Entry{}, fmt.Errorf("credits: allocations of entry %s: %w", e.ID, err)
	}
	return e, nil
}

// HistoryCSV writes all entries that p chooses as CSV, newest first, with a line of column names, reading page after
// page; p.Limit does not bound it.
func (l *Ledger) HistoryCSV(ctx context.Context, w io.Writer, p HistoryParams) error {
	out := csv.NewWriter(w)
	if err := out.Write([]string{"seq", "time", "kind", "amount", "debt", "balance", "available", "source", "service", "reason", "reference", "id"}); err != nil {
		return fmt.Errorf("credits: write CSV: %w", err)
	}
	p.Limit = MaxPage
	for {
		entries, more, err := l.History(ctx, p)
		if err != nil {
			return err
		}
		for _, e := range entries {
			record := []string{strconv.FormatInt(e.Seq, 10), e.CreatedAt.Format(time.RFC3339Nano), string(e.Kind), e.Amount.String(), e.Debt.String(),
				e.Balance.String(), e.Available.String(), string(e.Source), web.CSVText(e.Service), web.CSVText(e.Reason), web.CSVText(e.Reference), e.ID.String()}
			if err := out.Write(record); err != nil {
				return fmt.Errorf("credits: write CSV: %w", err)
			}
		}
		out.Flush()
		if err := out.Error(); err != nil {
			return fmt.Errorf("credits: write CSV: %w", err)
		}
		if !more {
			return nil
		}
		p.Before = entries[len(entries)-1].Seq
	}
}

// Statement is a month of an account.
type Statement struct {
	Account string    `json:"account"`
	From    time.Time `json:"from"`  // the month's first instant, UTC
	Until   time.Time `json:"until"` // the next month's
	// Opening and Closing are what the account owned: available and held less debt.
	Opening Amount `json:"opening"`
	Closing Amount `json:"closing"`
	// Movements are the sums of the month's entries by kind. Opening and they add up to Closing.
	Movements []Movement `json:"movements"`
}

// Movement is what the entries of a kind come to.
type Movement struct {
	Kind    Kind   `db:"kind"    json:"kind"`
	Entries int64  `db:"entries" json:"entries"`
	Amount  Amount `db:"amount"  json:"amount"`
}

// Statement adds up the month (UTC) that holds the time. Its entries are those of [Ledger.History] from From until
// Until.
func (l *Ledger) Statement(ctx context.Context, account string, month time.Time) (Statement, error) {
	month = month.UTC()
	s := Statement{Account: account, From: time.Date(month.Year(), month.Month(), 1, 0, 0, 0, 0, time.UTC)}
	s.Until = s.From.AddDate(0, 1, 0)
	first, before, err := l.bounds(ctx, HistoryParams{Account: account, From: s.From, Until: s.Until})
	if err != nil {
		return Statement{}, err
	}
	for _, at := range []struct {
		seq  int64
		dest *Amount
	}{{first - 1, &s.Opening}, {before - 1, &s.Closing}} {
		err := l.db.Get(ctx, at.dest, `SELECT balance FROM qs_credit_entries WHERE account_id = ? AND seq = ?`, account, at.seq)
		if err != nil && !database.IsNoRows(err) {
			return Statement{}, fmt.Errorf("credits: balance of account %s at entry %d: %w", account, at.seq, err)
		}
	}
	const sums = `SELECT kind, COUNT(*) AS entries, SUM(amount) AS amount FROM qs_credit_entries
		WHERE account_id = ? AND seq >= ? AND seq < ? GROUP BY kind ORDER BY kind`
	if err := l.db.Select(ctx, &s.Movements, sums, account, first, before); err != nil {
		return Statement{}, fmt.Errorf("credits: movements of account %s: %w", account, err)
	}
	return s, nil
}
