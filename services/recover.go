package services

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

// DefaultLost is the age from which a charge without a usage row has lost it: longer than a process tries to write rows,
// with some minutes for clocks that differ.
const DefaultLost = 5 * time.Minute

// The metadata of the entry of a call that was charged in one step. With the entry's own fields it is all that the usage
// row has but the latency. What is left out is empty, a success, or for the price what was charged.
const (
	keptVersion = "version"
	keptStatus  = "status"
	keptCode    = "error_code"
	keptText    = "error"
	keptPrice   = "price"
	keptUnits   = "units"
	keptTags    = "tags"
)

const emptyObject = "{}"

// metadata is what the entry keeps of the row besides its own fields.
func (e *ended) metadata() map[string]string {
	var m map[string]string
	keep := func(name, value, usual string) {
		if value == usual {
			return
		}
		if m == nil {
			m = map[string]string{}
		}
		m[name] = value
	}
	keep(keptVersion, e.version, "")
	keep(keptStatus, string(e.status), string(Succeeded))
	keep(keptCode, e.code, "")
	keep(keptText, e.text, "")
	keep(keptUnits, e.units, emptyObject)
	keep(keptTags, e.tagsText, emptyObject)
	if e.price != e.charged {
		keep(keptPrice, e.price.String(), "")
	}
	return m
}

// endedOf is the row that the entry of a charge has lost. ok is false for an entry that is not of a call.
func endedOf(entry *credits.Entry) (row ended, ok bool, err error) {
	text, isCall := strings.CutPrefix(entry.Reference, referencePrefix)
	if !isCall || entry.Service == "" || entry.Kind != credits.KindDebit {
		return ended{}, false, nil
	}
	row = ended{account: entry.Account, service: entry.Service, version: entry.Metadata[keptVersion], status: Succeeded, charged: -entry.Amount, entry: entry.ID,
		code: entry.Metadata[keptCode], text: entry.Metadata[keptText], began: entry.CreatedAt, finished: entry.CreatedAt, units: emptyObject, tagsText: emptyObject}
	if row.id, err = uuid.Parse(text); err != nil {
		return ended{}, false, nil //nolint:nilerr // a host's own reference that begins alike
	}
	if status := Status(entry.Metadata[keptStatus]); status != "" {
		row.status = status
	}
	if units := entry.Metadata[keptUnits]; units != "" {
		row.units = units
	}
	row.price = row.charged
	if price := entry.Metadata[keptPrice]; price != "" {
		if row.price, err = credits.ParseAmount(price); err != nil {
			return ended{}, false, fmt.Errorf("services: price of entry %s: %w", entry.ID, err)
		}
	}
	if tags := entry.Metadata[keptTags]; tags != "" {
		row.tagsText = tags
		if err := json.Unmarshal([]byte(tags), &row.tags); err != nil {
			return ended{}, false, fmt.Errorf("services: tags of entry %s: %w", entry.ID, err)
		}
	}
	return row, true, nil
}

// recoverPage is how many entries [Services.Recover] looks at in one step.
const recoverPage = 1000

// Recover makes the usage rows again of calls that were charged in one step ([ChargeAfter]) and whose process died, or
// had no database, before it had written them: of the ledger's entries of calls that are older than age, such as
// [DefaultLost], each gets a row that has none. The entry has all of the row but its latency. It returns how many it
// made, and goes on where it was at the last time, in any process. Run it periodically, in any number of processes.
func (s *Services) Recover(ctx context.Context, age time.Duration) (made int64, err error) {
	until := time.Now().Add(-age) // ids have the time of their process, whatever Config.Clock says
	for {
		n, more, err := s.recoverPage(ctx, until)
		if made += n; err != nil || !more {
			return made, err
		}
	}
}

func (s *Services) recoverPage(ctx context.Context, until time.Time) (made int64, more bool, err error) {
	var at uuid.UUID
	err = s.db.Writer().GetContext(ctx, &at, `SELECT last_entry FROM qs_service_recovery`)
	if err != nil {
		return 0, false, fmt.Errorf("services: read how far usage is recovered: %w", err)
	}
	entries, err := s.cfg.Ledger.EntriesAfter(ctx, credits.EntriesAfterParams{After: at, Until: until, Limit: recoverPage})
	if err != nil || len(entries) == 0 {
		return 0, false, err
	}
	rows := make([]ended, 0, len(entries))
	for i := range entries {
		row, ok, err := endedOf(&entries[i])
		switch {
		case err != nil:
			s.cfg.Logger.ErrorContext(ctx, "a usage row cannot be recovered", slog.Any("error", err)) // and the others can
		case ok:
			rows = append(rows, row)
		}
	}
	last := entries[len(entries)-1].ID
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		lost, err := s.lost(ctx, tx, rows)
		if err != nil {
			return err
		}
		if made = int64(len(lost)); made > 0 {
			if err := s.insertEndedTx(ctx, tx, lost, true); err != nil {
				return err
			}
		}
		_, err = s.db.ExecTx(ctx, tx, `UPDATE qs_service_recovery SET last_entry = ? WHERE last_entry < ?`, last, last)
		if err != nil {
			return fmt.Errorf("services: write how far usage is recovered: %w", err)
		}
		return nil
	})
	if err != nil {
		return 0, false, err
	}
	return made, len(entries) == recoverPage, nil
}

var findCalls = database.Query{
	Postgres: `SELECT id FROM qs_service_calls WHERE id = ANY(?::uuid[])`,
	SQLite:   `SELECT id FROM qs_service_calls WHERE id IN (SELECT value FROM json_each(?))`,
}

// lost are those of the rows that are not there.
func (s *Services) lost(ctx context.Context, tx *sqlx.Tx, rows []ended) ([]ended, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	ids := make([]uuid.UUID, len(rows))
	var list array
	for i := range rows {
		ids[i] = rows[i].id
		list.uuid(rows[i].id)
	}
	arg := list.literal()
	if s.db.Dialect() == database.SQLite {
		text, err := json.Marshal(ids)
		if err != nil {
			return nil, fmt.Errorf("services: write ids: %w", err)
		}
		arg = string(text)
	}
	var found []uuid.UUID
	if err := s.db.SelectTx(ctx, tx, &found, findCalls.For(s.db.Dialect()), arg); err != nil {
		return nil, fmt.Errorf("services: look for usage rows: %w", err)
	}
	there := make(map[uuid.UUID]bool, len(found))
	for _, id := range found {
		there[id] = true
	}
	lost := rows[:0]
	for _, row := range rows {
		if !there[row.id] {
			lost = append(lost, row)
		}
	}
	return lost, nil
}
