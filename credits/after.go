package credits

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// EntriesAfterParams choose entries of all accounts.
type EntriesAfterParams struct {
	// After is the id of the last entry of the page before. uuid.Nil: begin with the oldest.
	After uuid.UUID
	// Until leaves out entries whose id was made then or later. An entry's id is some moments older than the end of its
	// transaction, so that one who reads on and on chooses an Until that is older than any transaction. Zero: no bound.
	Until time.Time
	// Limit is the size of the page, at most 1,000. 0: 500.
	Limit int
}

// MaxEntries is the largest page of [Ledger.EntriesAfter].
const MaxEntries = 1000

// EntriesAfter returns a page of the entries of all accounts, without their allocations, in the order of their ids, which
// is that in which they were made but for how far the clocks of processes differ. It is for those who follow what happens
// in the ledger, such as a record of their own that may have missed something.
func (l *Ledger) EntriesAfter(ctx context.Context, p EntriesAfterParams) ([]Entry, error) {
	if p.Limit <= 0 {
		p.Limit = MaxPage
	}
	// Runs along the primary key, by the writer: a replica may be behind.
	query, args := `SELECT `+entryColumns+` FROM qs_credit_entries WHERE id > ?`, []any{p.After}
	if !p.Until.IsZero() {
		query, args = query+` AND id < ?`, append(args, firstIDAt(p.Until))
	}
	var rows []entryRow
	err := l.db.Writer().SelectContext(ctx, &rows, l.db.Rebind(query+` ORDER BY id LIMIT ?`), append(args, min(p.Limit, MaxEntries))...)
	if err != nil {
		return nil, fmt.Errorf("credits: entries after %s: %w", p.After, err)
	}
	return entriesOf(rows)
}

// firstIDAt is before all ids that are made at t or later (RFC 9562, section 5.7).
func firstIDAt(t time.Time) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:], uint64(max(t.UnixMilli(), 0))<<16)
	return id
}
