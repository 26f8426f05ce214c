package admin

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// headRow is the end of the chain.
type headRow struct {
	N        int64  `db:"n"`
	Hash     string `db:"hash"`
	Unlinked int64  `db:"unlinked"`
}

const selectHead = `SELECT n, hash, unlinked FROM qs_admin_audit_head WHERE id = 1`

// linkTx makes a line the next one of the chain. The chain's end stays locked until tx ends, so lines are linked in the
// order in which they are committed.
func (a *Admin) linkTx(ctx context.Context, tx *sqlx.Tx, row *recordRow) error {
	var head headRow
	if err := a.db.GetTx(ctx, tx, &head, selectHead+a.db.Dialect().ForUpdate()); err != nil {
		return fmt.Errorf("admin: lock the end of the audit log: %w", err)
	}
	n := head.N + 1
	sum := row.link(n, head.Hash)
	row.N, row.Hash = &n, &sum
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_admin_audit_head SET n = ?, hash = ? WHERE id = 1`, n, sum); err != nil {
		return fmt.Errorf("admin: move the end of the audit log: %w", err)
	}
	return nil
}

// link is the SHA-256 over the line, its number and the hash of the line before, in hexadecimal.
func (r recordRow) link(n int64, previous string) string {
	h := sha256.New()
	hashText(h, "quickscale admin audit 1", strconv.FormatInt(n, 10), previous, r.ID.String(), r.StaffID, r.StaffEmail, string(r.Action), r.Subject, r.Detail,
		r.Reason, r.Before, r.After, r.Address, r.RequestID, r.CreatedAt.Format(time.RFC3339Nano))
	return hex.EncodeToString(h.Sum(nil))
}

// hashText hashes texts so that no other texts give the same: each with its length before it.
func hashText(h hash.Hash, texts ...string) {
	for _, t := range texts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(t), t) // a hash never fails
	}
}

// DefaultVerifyLines is how many lines [Admin.VerifyAudit] recomputes at once.
const DefaultVerifyLines = 5000

// maxFaults bounds the faults of one report.
const maxFaults = 100

// AuditFault is something in the audit log that does not add up.
type AuditFault struct {
	// N is the line's number; 0 for what has none.
	N int64 `json:"n"`
	// Rule is what should hold.
	Rule string `json:"rule"`
}

// AuditReport is what [Admin.VerifyAudit] found in one batch.
type AuditReport struct {
	// Lines is how many were recomputed.
	Lines int64 `json:"lines"`
	// Next goes into the next call's after. 0: the end was reached, and N and Hash are the last line's, to be kept where
	// the database's owner cannot change them.
	Next int64  `json:"next,omitempty"`
	N    int64  `json:"n,omitempty"`
	Hash string `json:"hash,omitempty"`
	// Unlinked is how many lines are from before there was a chain: their number is checked, their texts are not.
	Unlinked int64        `json:"unlinked,omitempty"`
	Faults   []AuditFault `json:"faults"`
}

// VerifyAudit recomputes up to limit lines of the audit log after the one with number after; 0: [DefaultVerifyLines]. It
// tells of lines that were changed, removed or inserted, at most a hundred at once. Who can rewrite the whole database can
// rewrite the chain too: compare its end with one that was kept elsewhere ([Admin.CheckAuditEnd]). It locks nothing.
func (a *Admin) VerifyAudit(ctx context.Context, after int64, limit int) (report AuditReport, err error) {
	if limit <= 0 {
		limit = DefaultVerifyLines
	}
	options := &sql.TxOptions{ReadOnly: true}
	if a.db.Dialect() == database.Postgres {
		options.Isolation = sql.LevelRepeatableRead
	}
	tx, err := a.db.Reader().BeginTxx(ctx, options)
	if err != nil {
		return report, fmt.Errorf("admin: begin to read: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing to keep
	report.Faults = []AuditFault{}
	fault := func(n int64, rule string) {
		if len(report.Faults) < maxFaults {
			report.Faults = append(report.Faults, AuditFault{n, rule})
		}
	}
	previous, known := "", after == 0
	if after > 0 {
		var hashes []string
		if err := a.db.SelectTx(ctx, tx, &hashes, `SELECT hash FROM qs_admin_audit WHERE n = ?`, after); err != nil {
			return report, fmt.Errorf("admin: line %d: %w", after, err)
		}
		if len(hashes) > 0 {
			previous, known = hashes[0], true
		}
	}
	var rows []recordRow
	if err := a.db.SelectTx(ctx, tx, &rows, `SELECT `+recordColumns+` FROM qs_admin_audit WHERE n > ? ORDER BY n LIMIT ?`, after, limit+1); err != nil {
		return report, fmt.Errorf("admin: lines after %d: %w", after, err)
	}
	more := len(rows) > limit
	if more {
		rows = rows[:limit]
	}
	last := after
	for _, row := range rows {
		switch {
		case *row.N != last+1:
			fault(last+1, "a line follows the one before: some were removed")
		case known && row.link(*row.N, previous) != *row.Hash:
			fault(*row.N, "a line is as it was written")
		}
		last, previous, known = *row.N, *row.Hash, true
		report.Lines++
	}
	if more {
		report.Next = last
		return report, nil
	}
	var head headRow
	if err := a.db.GetTx(ctx, tx, &head, selectHead); err != nil {
		return report, fmt.Errorf("admin: end of the audit log: %w", err)
	}
	report.N, report.Hash = last, previous
	switch {
	case last < head.N:
		fault(last+1, "the log ends where it was written last: lines were removed")
	case last > head.N, previous != head.Hash:
		fault(last, "the log ends where it was written last: a line was inserted or changed")
	}
	if err := a.db.GetTx(ctx, tx, &report.Unlinked, `SELECT COUNT(*) FROM qs_admin_audit WHERE n IS NULL`); err != nil {
		return report, fmt.Errorf("admin: lines outside the chain: %w", err)
	}
	if report.Unlinked != head.Unlinked {
		fault(0, fmt.Sprintf("lines outside the chain are those from before it: there were %d and are %d", head.Unlinked, report.Unlinked))
	}
	return report, nil
}

// CheckAuditEnd tells whether the line with a number still has the hash that was kept of it.
func (a *Admin) CheckAuditEnd(ctx context.Context, n int64, hash string) (same bool, err error) {
	var hashes []string
	if err := a.db.Select(ctx, &hashes, `SELECT hash FROM qs_admin_audit WHERE n = ?`, n); err != nil {
		return false, fmt.Errorf("admin: line %d: %w", n, err)
	}
	return len(hashes) == 1 && hashes[0] == hash, nil
}
