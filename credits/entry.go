package credits

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/database"
)

// Kind is what an entry records.
type Kind string

// The kinds of entries.
const (
	KindGrant  Kind = "grant"
	KindDebit  Kind = "debit"
	KindExpire Kind = "expire"
)

// Entry is one line of an account's history. Entries are never changed or removed.
type Entry struct {
	ID      uuid.UUID `json:"id"`
	Account string    `json:"account"`
	// Seq counts the account's entries from 1.
	Seq  int64 `json:"seq"`
	Kind Kind  `json:"kind"`
	// Amount is above zero for grants, and zero or below for the others.
	Amount Amount `json:"amount"`
	// Balance is what the account owned after the entry, holds included; Available what it could spend.
	Balance   Amount `json:"balance"`
	Available Amount `json:"available"`
	// Source is that of the lot for grants and expiries, and empty for debits, which may span several.
	Source    Source            `json:"source,omitempty"`
	Reason    string            `json:"reason"`
	Reference string            `json:"reference,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	CreatedAt time.Time         `json:"created_at"`
	// Allocations are the shares of the lots that the entry touched. History leaves them out; see [Ledger.Allocations].
	Allocations []Allocation `json:"allocations,omitempty"`
}

// Allocation is the share of one lot in an entry, negative where the lot was used.
type Allocation struct {
	Lot    uuid.UUID `json:"lot" db:"lot_id"`
	Source Source    `json:"source" db:"source"`
	Amount Amount    `json:"amount" db:"amount"`
}

type entryRow struct {
	ID          uuid.UUID     `db:"id"`
	Account     string        `db:"account_id"`
	Seq         int64         `db:"seq"`
	Kind        Kind          `db:"kind"`
	Amount      Amount        `db:"amount"`
	Balance     Amount        `db:"balance"`
	Available   Amount        `db:"available"`
	Source      Source        `db:"source"`
	Reason      string        `db:"reason"`
	Reference   string        `db:"reference"`
	Metadata    string        `db:"metadata"`
	Fingerprint *string       `db:"fingerprint"`
	CreatedAt   database.Time `db:"created_at"`
}

const entryColumns = `id, account_id, seq, kind, amount, balance, available, source, reason, reference, metadata, fingerprint, created_at`

func (r entryRow) entry() (Entry, error) {
	e := Entry{ID: r.ID, Account: r.Account, Seq: r.Seq, Kind: r.Kind, Amount: r.Amount, Balance: r.Balance, Available: r.Available,
		Source: r.Source, Reason: r.Reason, Reference: r.Reference, CreatedAt: r.CreatedAt.Time}
	if err := json.Unmarshal([]byte(r.Metadata), &e.Metadata); err != nil {
		return Entry{}, fmt.Errorf("credits: metadata of entry %s: %w", r.ID, err)
	}
	if len(e.Metadata) == 0 {
		e.Metadata = nil
	}
	return e, nil
}

// note is what the caller says about an entry.
type note struct {
	reason, reference string
	metadata          map[string]string
	key, fingerprint  string
}

// write adds an entry that changes the account's total by amount. The account's available and held amounts already
// are what they shall be after it; the allocations are written by the caller.
func (c *change) write(ctx context.Context, kind Kind, amount Amount, source Source, n note) (Entry, error) {
	id, err := newID()
	if err != nil {
		return Entry{}, err
	}
	metadata, err := json.Marshal(n.metadata)
	if err != nil {
		return Entry{}, fmt.Errorf("credits: metadata: %w", err)
	}
	if n.metadata == nil {
		metadata = []byte("{}")
	}
	balance, err := c.acc.Available.Add(c.acc.Held)
	if err != nil {
		return Entry{}, err
	}
	c.acc.LastSeq++
	e := Entry{ID: id, Account: c.acc.ID, Seq: c.acc.LastSeq, Kind: kind, Amount: amount, Balance: balance, Available: c.acc.Available,
		Source: source, Reason: n.reason, Reference: n.reference, Metadata: n.metadata, CreatedAt: c.now}
	const insert = `INSERT INTO qs_credit_entries (id, account_id, seq, kind, amount, balance, available, source, reason, reference,
		metadata, idempotency_key, fingerprint, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	_, err = c.l.db.ExecTx(ctx, c.tx, insert, e.ID, e.Account, e.Seq, e.Kind, e.Amount, e.Balance, e.Available, e.Source, e.Reason, e.Reference,
		string(metadata), orNull(n.key), orNull(n.fingerprint), database.At(c.now))
	if err != nil {
		return Entry{}, fmt.Errorf("credits: write an entry of account %s: %w", c.acc.ID, err)
	}
	return e, nil
}

func (c *change) allocate(ctx context.Context, e *Entry, a Allocation) error {
	const insert = `INSERT INTO qs_credit_allocations (entry_id, lot_id, amount) VALUES (?, ?, ?)`
	if _, err := c.l.db.ExecTx(ctx, c.tx, insert, e.ID, a.Lot, a.Amount); err != nil {
		return fmt.Errorf("credits: allocate entry %s: %w", e.ID, err)
	}
	e.Allocations = append(e.Allocations, a)
	return nil
}

// replay finds the entry that was written under key before. found is false when there is none;
// [ErrIdempotencyMismatch] when it was written for something else.
func (c *change) replay(ctx context.Context, key, fingerprint string) (e Entry, found bool, err error) {
	if key == "" {
		return Entry{}, false, nil
	}
	var row entryRow
	err = c.l.db.GetTx(ctx, c.tx, &row, `SELECT `+entryColumns+` FROM qs_credit_entries WHERE account_id = ? AND idempotency_key = ?`, c.acc.ID, key)
	if database.IsNoRows(err) {
		return Entry{}, false, nil
	}
	if err != nil {
		return Entry{}, false, fmt.Errorf("credits: look for the key of account %s: %w", c.acc.ID, err)
	}
	if row.Fingerprint == nil || *row.Fingerprint != fingerprint {
		return Entry{}, false, ErrIdempotencyMismatch
	}
	if e, err = row.entry(); err != nil {
		return Entry{}, false, err
	}
	if err := c.l.db.SelectTx(ctx, c.tx, &e.Allocations, selectAllocations, e.ID); err != nil {
		return Entry{}, false, fmt.Errorf("credits: allocations of entry %s: %w", e.ID, err)
	}
	return e, true, nil
}

const selectAllocations = `SELECT a.lot_id, l.source, a.amount FROM qs_credit_allocations a JOIN qs_credit_lots l ON l.id = a.lot_id
	WHERE a.entry_id = ? ORDER BY l.priority, l.expires_at, l.seq`

// Allocations returns the shares of the lots that an entry touched, in the order of use.
func (l *Ledger) Allocations(ctx context.Context, entry uuid.UUID) ([]Allocation, error) {
	var as []Allocation
	if err := l.db.Select(ctx, &as, selectAllocations, entry); err != nil {
		return nil, fmt.Errorf("credits: allocations of entry %s: %w", entry, err)
	}
	return as, nil
}

// fingerprint condenses the parameters that must be the same under one key.
func fingerprint(params any) (string, error) {
	text, err := json.Marshal(params)
	if err != nil {
		return "", fmt.Errorf("credits: fingerprint: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
