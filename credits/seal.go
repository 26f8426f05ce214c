package credits

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// sealEntries is about how many entries one seal holds.
const sealEntries = 10_000

// sealAccounts is how many accounts one seal holds at most.
const sealAccounts = 1_000

// span is a run of an account's entries in a seal.
type span struct {
	Account string `db:"account_id"`
	From    int64  `db:"from_seq"`
	To      int64  `db:"to_seq"`
}

// sealRow is a sealed batch.
type sealRow struct {
	N         int64         `db:"n"`
	Previous  string        `db:"previous"`
	Root      string        `db:"root"`
	Entries   int64         `db:"entries"`
	CreatedAt database.Time `db:"created_at"`
}

const sealColumns = `n, previous, root, entries, created_at`

// Seal seals all entries that are not yet: batch after batch, each with a root that is the SHA-256 of its number, the
// root before it and its entries, in the order of accounts and within them of numbers. An entry that is changed,
// removed or inserted afterwards no longer fits its root, nor does any later root. Seal returns how many entries it
// sealed. It locks nothing that other operations use, and several at once do no harm: one of them wins each batch.
//
// Since an account's entries are committed in the order of their numbers, none can appear later below a sealed one.
func (l *Ledger) Seal(ctx context.Context) (entries int, err error) {
	for after, more := "", true; more; {
		var n int
		n, after, more, err = l.sealBatch(ctx, after)
		entries += n
		if err != nil {
			return entries, err
		}
	}
	return entries, nil
}

// sealBatch seals the first accounts after a name that have entries to seal. next is the name after which to go on, if
// there is more.
func (l *Ledger) sealBatch(ctx context.Context, after string) (entries int, next string, more bool, err error) {
	// Batches are chained, so one follows the other: the row of the newest is what they race for.
	const unsealed = `SELECT account_id, from_seq, to_seq FROM (
			SELECT a.id AS account_id, a.last_seq AS to_seq,
				COALESCE((SELECT MAX(s.to_seq) FROM qs_credit_seal_spans s WHERE s.account_id = a.id), 0) + 1 AS from_seq
			FROM qs_credit_accounts a WHERE a.id > ?
		) AS open WHERE to_seq >= from_seq ORDER BY account_id LIMIT ?`
	err = l.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		entries, next, more = 0, after, false
		var newest []sealRow
		if err := l.db.SelectTx(ctx, tx, &newest, `SELECT `+sealColumns+` FROM qs_credit_seals ORDER BY n DESC LIMIT 1`); err != nil {
			return fmt.Errorf("credits: last seal: %w", err)
		}
		s := sealRow{N: 1, CreatedAt: database.At(l.now())}
		if len(newest) > 0 {
			s.N, s.Previous = newest[0].N+1, newest[0].Root
		}
		var open []span
		if err := l.db.SelectTx(ctx, tx, &open, unsealed, after, sealAccounts); err != nil {
			return fmt.Errorf("credits: entries to seal: %w", err)
		}
		if len(open) == 0 {
			return nil
		}
		read := func(dest any, query string, args ...any) error { return l.db.SelectTx(ctx, tx, dest, query, args...) }
		sum := newRoot(s.N, s.Previous)
		var spans []span
		for _, x := range open {
			if s.Entries >= sealEntries {
				break
			}
			// A long run is continued by the next batch.
			x.To = min(x.To, x.From+sealEntries-1)
			n, err := hashEntries(sum, read, x)
			if err != nil {
				return err
			}
			if n != x.To-x.From+1 {
				return fmt.Errorf("credits: account %s has %d entries from %d to %d", x.Account, n, x.From, x.To)
			}
			s.Entries += n
			spans = append(spans, x)
		}
		s.Root = hex.EncodeToString(sum.Sum(nil))
		if _, err := l.db.ExecTx(ctx, tx, `INSERT INTO qs_credit_seals (`+sealColumns+`) VALUES (?, ?, ?, ?, ?)`,
			s.N, s.Previous, s.Root, s.Entries, s.CreatedAt); err != nil {
			return fmt.Errorf("credits: write seal %d: %w", s.N, err)
		}
		for _, x := range spans {
			if _, err := l.db.ExecTx(ctx, tx, `INSERT INTO qs_credit_seal_spans (n, account_id, from_seq, to_seq) VALUES (?, ?, ?, ?)`,
				s.N, x.Account, x.From, x.To); err != nil {
				return fmt.Errorf("credits: write a span of seal %d: %w", s.N, err)
			}
		}
		if err := l.addDays(ctx, tx, s.N); err != nil {
			return err
		}
		entries = int(s.Entries)
		last := len(spans) - 1
		if spans[last].To < open[last].To {
			last-- // that account has more
		}
		if last >= 0 {
			next = spans[last].Account
		}
		more = true
		return nil
	})
	if database.IsUniqueViolation(err) {
		return 0, "", false, nil // another process seals; what it leaves is the next run's
	}
	return entries, next, more, err
}

// newRoot begins the hash of a batch.
func newRoot(n int64, previous string) hash.Hash {
	h := sha256.New()
	hashText(h, "quickscale credits seal 1", strconv.FormatInt(n, 10), previous)
	return h
}

// hashText hashes texts so that no other texts give the same: each with its length before it.
func hashText(h hash.Hash, texts ...string) {
	for _, t := range texts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(t), t) // a hash never fails
	}
}

// sealedEntry is an entry as it is sealed.
type sealedEntry struct {
	entryRow
	Lot    *string `db:"lot_id"`
	Erased *string `db:"erased"`
}

// textsHash condenses what an erasure takes away.
func (e sealedEntry) textsHash() string {
	if e.Erased != nil {
		return *e.Erased
	}
	h := sha256.New()
	hashText(h, e.ID.String(), e.Reason, e.Reference, e.Metadata)
	return hex.EncodeToString(h.Sum(nil))
}

// hashEntries adds a span's entries with their shares to a hash, and returns how many there are.
func hashEntries(h hash.Hash, read func(dest any, query string, args ...any) error, x span) (int64, error) {
	const page = 2000
	var n int64
	for from := x.From; from <= x.To; from += page {
		to := min(from+page-1, x.To)
		var found []sealedEntry
		err := read(&found, `SELECT `+entryColumns+`, lot_id, erased FROM qs_credit_entries WHERE account_id = ? AND seq BETWEEN ? AND ? ORDER BY seq`,
			x.Account, from, to)
		if err != nil {
			return n, fmt.Errorf("credits: entries of account %s: %w", x.Account, err)
		}
		var shares []struct {
			Seq    int64  `db:"seq"`
			Lot    string `db:"lot_id"`
			Amount Amount `db:"amount"`
		}
		err = read(&shares, `SELECT e.seq, CAST(x.lot_id AS TEXT) AS lot_id, x.amount FROM qs_credit_entries e JOIN qs_credit_allocations x ON x.entry_id = e.id
			WHERE e.account_id = ? AND e.seq BETWEEN ? AND ? ORDER BY e.seq, x.lot_id`, x.Account, from, to)
		if err != nil {
			return n, fmt.Errorf("credits: shares of entries of account %s: %w", x.Account, err)
		}
		next := 0
		for _, e := range found {
			hashText(h, e.ID.String(), e.Account, strconv.FormatInt(e.Seq, 10), string(e.Kind), e.Amount.String(), e.Debt.String(), e.Balance.String(),
				e.Available.String(), orEmpty(e.Lot), string(e.Source), e.Service, orEmpty(e.Key), orEmpty(e.Fingerprint),
				e.CreatedAt.Format(time.RFC3339Nano), e.textsHash())
			for ; next < len(shares) && shares[next].Seq == e.Seq; next++ {
				hashText(h, shares[next].Lot, shares[next].Amount.String())
			}
		}
		n += int64(len(found))
	}
	return n, nil
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// DefaultVerifySeals is how many seals [Ledger.VerifyAll] checks at once.
const DefaultVerifySeals = 20

// SealsReport is what [Ledger.VerifySeals] found.
type SealsReport struct {
	// Seals is how many were checked.
	Seals int `json:"seals"`
	// Next goes into the next call's after. 0: the last seal was reached.
	Next          int64         `json:"next,omitempty"`
	Discrepancies []Discrepancy `json:"discrepancies"`
}

// VerifySeals recomputes up to limit seals after the one with number after from their entries. It reports seals whose
// root does not fit: an entry of theirs was changed, removed or inserted, or the seal itself was; and breaks of the
// chain, counted and logged as those of [Ledger.Verify] are. Who can rewrite entries can rewrite all later roots too: compare with a receipt that was kept elsewhere
// ([Ledger.CheckReceipt]).
func (l *Ledger) VerifySeals(ctx context.Context, after int64, limit int) (SealsReport, error) {
	tx, err := l.snapshot(ctx)
	if err != nil {
		return SealsReport{}, err
	}
	defer tx.end()
	read := func(dest any, query string, args ...any) error { return tx.selectAll(ctx, dest, query, args...) }
	var seals []sealRow
	if err := read(&seals, `SELECT `+sealColumns+` FROM qs_credit_seals WHERE n >= ? ORDER BY n LIMIT ?`, after, limit+2); err != nil {
		return SealsReport{}, fmt.Errorf("credits: seals: %w", err)
	}
	report := SealsReport{Discrepancies: []Discrepancy{}}
	wrong := func(s sealRow, rule string) {
		report.Discrepancies = append(report.Discrepancies, Discrepancy{ID: strconv.FormatInt(s.N, 10), Rule: rule})
	}
	previous := sealRow{}
	if after > 0 && len(seals) > 0 && seals[0].N == after {
		previous, seals = seals[0], seals[1:]
	}
	for _, s := range seals {
		if report.Seals == limit {
			report.Next = previous.N
			break
		}
		if s.N != previous.N+1 || s.Previous != previous.Root {
			wrong(s, "a seal follows the one before")
		}
		var spans []span
		if err := read(&spans, `SELECT account_id, from_seq, to_seq FROM qs_credit_seal_spans WHERE n = ? ORDER BY account_id`, s.N); err != nil {
			return report, fmt.Errorf("credits: spans of seal %d: %w", s.N, err)
		}
		sum, count := newRoot(s.N, s.Previous), int64(0)
		for _, x := range spans {
			n, err := hashEntries(sum, read, x)
			if err != nil {
				return report, err
			}
			count += n
		}
		if root := hex.EncodeToString(sum.Sum(nil)); root != s.Root || count != s.Entries {
			wrong(s, "a seal's entries are those that were sealed")
		}
		report.Seals++
		previous = s
	}
	l.metrics.verify(ctx, l.logger, "seal", report.Seals, report.Discrepancies)
	return report, nil
}

// Receipt is the root of a seal, signed, to be kept where the database's owner cannot change it.
type Receipt struct {
	Seal     int64     `json:"seal"`
	Root     string    `json:"root"` // SHA-256, hexadecimal
	Entries  int64     `json:"entries"`
	SealedAt time.Time `json:"sealed_at"`
	// Signature is Ed25519 over the other fields, base64.
	Signature string `json:"signature"`
}

// Errors of receipts.
var (
	// ErrNoSigningKey: [Config.SigningKey] is not set.
	ErrNoSigningKey = errors.New("credits: receipts need Config.SigningKey")
	// ErrNotSealed: nothing is sealed yet.
	ErrNotSealed = errors.New("credits: nothing is sealed yet")
	// ErrReceiptSignature: the receipt was not signed with the key, or was changed.
	ErrReceiptSignature = errors.New("credits: the receipt's signature is not right")
	// ErrReceiptRoot: the ledger is no longer the one that the receipt is of.
	ErrReceiptRoot = errors.New("credits: the ledger's seal is not that of the receipt: its history was rewritten")
)

func (r Receipt) signed() []byte {
	return []byte(strings.Join([]string{"quickscale credits receipt 1", strconv.FormatInt(r.Seal, 10), r.Root, strconv.FormatInt(r.Entries, 10),
		r.SealedAt.UTC().Format(time.RFC3339Nano)}, "\n"))
}

// Verify checks the signature; [ErrReceiptSignature] when it is wrong. It needs no database.
func (r Receipt) Verify(key ed25519.PublicKey) error {
	signature, err := base64.StdEncoding.DecodeString(r.Signature)
	if err != nil || len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, r.signed(), signature) {
		return ErrReceiptSignature
	}
	return nil
}

// SealReceipt signs the last seal. The errors are [ErrNoSigningKey] and [ErrNotSealed].
func (l *Ledger) SealReceipt(ctx context.Context) (Receipt, error) {
	if l.signingKey == nil {
		return Receipt{}, ErrNoSigningKey
	}
	var s sealRow
	err := l.db.Get(ctx, &s, `SELECT `+sealColumns+` FROM qs_credit_seals ORDER BY n DESC LIMIT 1`)
	if database.IsNoRows(err) {
		return Receipt{}, ErrNotSealed
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("credits: last seal: %w", err)
	}
	r := Receipt{Seal: s.N, Root: s.Root, Entries: s.Entries, SealedAt: s.CreatedAt.Time}
	r.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(l.signingKey, r.signed()))
	return r, nil
}

// CheckReceipt compares a receipt, signed with the private half of key, with the ledger: [ErrReceiptSignature] or
// [ErrReceiptRoot] when they disagree. That the entries agree with the seals is for [Ledger.VerifySeals] to say; both
// together leave no way to rewrite what came before the receipt.
func (l *Ledger) CheckReceipt(ctx context.Context, r Receipt, key ed25519.PublicKey) error {
	if err := r.Verify(key); err != nil {
		return err
	}
	var root string
	err := l.db.Get(ctx, &root, `SELECT root FROM qs_credit_seals WHERE n = ?`, r.Seal)
	if err != nil && !database.IsNoRows(err) {
		return fmt.Errorf("credits: seal %d: %w", r.Seal, err)
	}
	if root != r.Root {
		return ErrReceiptRoot
	}
	return nil
}
