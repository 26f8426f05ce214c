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
	KindGrant    Kind = "grant"
	KindDebit    Kind = "debit"
	KindExpire   Kind = "expire"
	KindAdjust   Kind = "adjust"   // a correction by staff, either way
	KindTransfer Kind = "transfer" // out of a source or an account, or into one
	KindRevoke   Kind = "revoke"   // a clawback
	KindRepay    Kind = "repay"    // credits that came in paid debt; the balance stays
)

// Entry is one line of an account's history. Entries are never changed or removed; [Ledger.Erase] blanks their texts.
type Entry struct {
	ID      uuid.UUID `json:"id"`
	Account string    `json:"account"`
	// Seq counts the account's entries from 1.
	Seq  int64 `json:"seq"`
	Kind Kind  `json:"kind"`
	// Amount is above zero where credits came, below where they went, and zero for free use and repayments.
	Amount Amount `json:"amount"`
	// Debt is what the entry added to the account's debt, below zero where it paid some. The shares of the lots
	// add up to Amount + Debt.
	Debt Amount `json:"debt,omitempty"`
	// Balance is what the account owned after the entry: available and held less debt. Available is what it could
	// spend.
	Balance   Amount `json:"balance"`
	Available Amount `json:"available"`
	// Source is that of the lot, and empty for uses, which may span several.
	Source Source `json:"source,omitempty"`
	// Service is what was used, as the caller named it.
	Service   string            `json:"service,omitempty"`
	Reason    string            `json:"reason"`
	Reference string            `json:"reference,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	CreatedAt time.Time         `json:"created_at"`
	// Allocations are the shares of the lots that the entry touched. History leaves them out; see [Ledger.Allocations].
	Allocations []Allocation `json:"allocations,omitempty"`
}

// Allocation is the share of one lot in an entry, negative where the lot was used.
type Allocation struct {
	Lot    uuid.UUID `db:"lot_id" json:"lot"`
	Source Source    `db:"source" json:"source"`
	Amount Amount    `db:"amount" json:"amount"`
}

type entryRow struct {
	ID          uuid.UUID     `db:"id"`
	Account     string        `db:"account_id"`
	Seq         int64         `db:"seq"`
	Kind        Kind          `db:"kind"`
	Amount      Amount        `db:"amount"`
	Debt        Amount        `db:"debt"`
	Balance     Amount        `db:"balance"`
	Available   Amount        `db:"available"`
	Source      Source        `db:"source"`
	Service     string        `db:"service"`
	Reason      string        `db:"reason"`
	Reference   string        `db:"reference"`
	Metadata    string        `db:"metadata"`
	Key         *string       `db:"idempotency_key"`
	Fingerprint *string       `db:"fingerprint"`
	CreatedAt   database.Time `db:"created_at"`
}

const entryColumns = `id, account_id, seq, kind, amount, debt, balance, available, source, service, reason, reference, metadata, idempotency_key,
	fingerprint, created_at`

var (
	insertEntries = newBulk("qs_credit_entries", 0, `id uuid, account_id text, seq bigint, kind text, amount bigint, debt bigint, balance bigint,
		available bigint, lot_id uuid, source text, service text, reason text, reference text, metadata text, idempotency_key text, fingerprint text,
		created_at timestamptz`)
	insertAllocations = newBulk("qs_credit_allocations", 0, `entry_id uuid, lot_id uuid, amount bigint`)
	// entriesByKey finds entries by pairs of account and idempotency key.
	entriesByKey = database.Query{
		Postgres: `SELECT e.* FROM unnest(?::text[], ?::text[]) AS u(account_id, key) CROSS JOIN LATERAL (SELECT ` + entryColumns + `
			FROM qs_credit_entries WHERE account_id = u.account_id AND idempotency_key = u.key LIMIT 1) AS e`,
		SQLite: `SELECT ` + entryColumns + ` FROM qs_credit_entries WHERE (account_id, idempotency_key) IN
			(SELECT a.value, k.value FROM json_each(?) AS a JOIN json_each(?) AS k ON k.key = a.key)`,
	}
)

func (r entryRow) entry() (Entry, error) {
	e := Entry{ID: r.ID, Account: r.Account, Seq: r.Seq, Kind: r.Kind, Amount: r.Amount, Debt: r.Debt, Balance: r.Balance, Available: r.Available,
		Source: r.Source, Service: r.Service, Reason: r.Reason, Reference: r.Reference, CreatedAt: r.CreatedAt.Time}
	if r.Metadata == noMetadata {
		return e, nil
	}
	if err := json.Unmarshal([]byte(r.Metadata), &e.Metadata); err != nil {
		return Entry{}, fmt.Errorf("credits: metadata of entry %s: %w", r.ID, err)
	}
	return e, nil
}

const noMetadata = "{}"

func encodeMetadata(m map[string]string) (string, error) {
	if len(m) == 0 {
		return noMetadata, nil
	}
	text, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("credits: metadata: %w", err)
	}
	return string(text), nil
}

// note is what the caller says about an entry.
type note struct {
	service, reason, reference string
	metadata                   map[string]string
	key, fingerprint           string
	id                         uuid.UUID // of the entry; zero: a new one
}

// write adds an entry that changes what the account owns by amount and its debt by debt; shares add up to the sum of
// both. The account's numbers already are what they shall be after it.
func (w *work) write(a *account, kind Kind, amount, debt Amount, source Source, shares []share, n note) (Entry, error) {
	id := n.id
	if id == uuid.Nil {
		var err error
		if id, err = newID(); err != nil {
			return Entry{}, err
		}
	}
	metadata, err := encodeMetadata(n.metadata)
	if err != nil {
		return Entry{}, err
	}
	balance, err := a.owns()
	if err != nil {
		return Entry{}, err
	}
	a.LastSeq++
	a.LastAt = database.At(a.now)
	a.dirty = true
	e := Entry{ID: id, Account: a.ID, Seq: a.LastSeq, Kind: kind, Amount: amount, Debt: debt, Balance: balance, Available: a.Available,
		Source: source, Service: n.service, Reason: n.reason, Reference: n.reference, CreatedAt: a.now}
	if len(n.metadata) > 0 {
		e.Metadata = n.metadata
	}
	var only *uuid.UUID
	e.Allocations = make([]Allocation, len(shares))
	for i, s := range shares {
		e.Allocations[i] = Allocation{s.lot.ID, s.lot.Source, s.amount}
	}
	if len(shares) == 1 && !shares[0].lot.fresh { // a lot that is new refers to its entry, which so cannot refer to it
		only = &shares[0].lot.ID
	} else {
		for _, s := range shares {
			w.allocations.add(id, s.lot.ID, s.amount)
		}
	}
	w.entries.add(id, a.ID, e.Seq, string(kind), amount, debt, balance, a.Available, only, string(source), n.service, n.reason, n.reference, metadata,
		orNull(n.key), orNull(n.fingerprint), a.LastAt)
	if n.key != "" {
		w.keys[key{a.ID, n.key}] = done{e, n.fingerprint}
	}
	return e, nil
}

// key names an idempotency key of an account.
type key struct{ account, key string }

// done is what was done under a key.
type done struct {
	entry       Entry
	fingerprint string
}

// replay finds the entry that was written under the key before. found is false when there is none;
// [ErrIdempotencyMismatch] when it was written for something else.
func (w *work) replay(account, name, fingerprint string) (e Entry, found bool, err error) {
	if name == "" {
		return Entry{}, false, nil
	}
	d, ok := w.keys[key{account, name}]
	switch {
	case !ok:
		return Entry{}, false, nil
	case d.fingerprint != fingerprint:
		return Entry{}, false, ErrIdempotencyMismatch
	}
	return d.entry, true, nil
}

// loadKeys reads the entries of the keys that the operations bring.
func (w *work) loadKeys(ctx context.Context, keys []key) error {
	if len(keys) == 0 {
		return nil
	}
	accounts, names := split(keys)
	var found []entryRow
	if err := w.selectAll(ctx, &found, entriesByKey, w.list(accounts), w.list(names)); err != nil {
		return fmt.Errorf("credits: look for idempotency keys: %w", err)
	}
	for _, r := range found {
		e, err := r.entry()
		if err != nil {
			return w.broke(err)
		}
		if err := w.selectText(ctx, &e.Allocations, selectAllocations, e.ID); err != nil {
			return fmt.Errorf("credits: allocations of entry %s: %w", e.ID, err)
		}
		d := done{entry: e}
		if r.Fingerprint != nil {
			d.fingerprint = *r.Fingerprint
		}
		w.keys[key{r.Account, *r.Key}] = d
	}
	return nil
}

func split(keys []key) (accounts, names []string) {
	for _, k := range keys {
		accounts, names = append(accounts, k.account), append(names, k.key)
	}
	return accounts, names
}

const selectAllocations = `SELECT s.lot_id, l.source, s.amount FROM qs_credit_shares s JOIN qs_credit_lots l ON l.id = s.lot_id
	WHERE s.entry_id = ? ORDER BY l.priority, (l.expires_at IS NULL), l.expires_at, l.seq, l.id`

// Allocations returns the shares of the lots that an entry touched, in the order of use.
func (l *Ledger) Allocations(ctx context.Context, entry uuid.UUID) ([]Allocation, error) {
	var as []Allocation
	if err := l.db.Select(ctx, &as, selectAllocations, entry); err != nil {
		return nil, fmt.Errorf("credits: allocations of entry %s: %w", entry, err)
	}
	return as, nil
}

// fingerprint condenses the parameters of an operation that must be the same under one key. Without a key none is
// needed.
func fingerprint(key, op string, params any) (string, error) {
	if key == "" {
		return "", nil
	}
	text, err := json.Marshal(params)
	if err != nil {
		return "", fmt.Errorf("credits: fingerprint: %w", err)
	}
	sum := sha256.Sum256(append([]byte(op+"\n"), text...))
	return hex.EncodeToString(sum[:]), nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func newID() (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("credits: make an id: %w", err)
	}
	return id, nil
}
