package credits

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// Exported is all that the ledger keeps of an account, in the shape in which [Ledger.Export] writes it.
type Exported struct {
	Account string  `json:"account"`
	Balance Balance `json:"balance"`
	Limits  Limits  `json:"limits"`
	Lots    []Lot   `json:"lots"`
	Holds   []Hold  `json:"holds"`
	// Entries are the whole history, oldest first, with their allocations.
	Entries []Entry `json:"entries"`
}

// Export writes all that the ledger keeps of an account as one JSON object, an [Exported], for its owner (GDPR, article
// 20). The entries are read and written page after page.
func (l *Ledger) Export(ctx context.Context, w io.Writer, account string) error {
	head := Exported{Account: account}
	var err error
	if head.Balance, err = l.Balance(ctx, account); err != nil {
		return err
	}
	if head.Limits, _, err = l.Limits(ctx, account); err != nil {
		return err
	}
	if head.Lots, err = l.Lots(ctx, account); err != nil {
		return err
	}
	if head.Holds, err = l.Holds(ctx, account); err != nil {
		return err
	}
	text, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("credits: export account %s: %w", account, err)
	}
	// The entries are the last field, which is null so far.
	text = append(text[:len(text)-len("null}")], '[')
	const page = `SELECT ` + entryColumns + ` FROM qs_credit_entries WHERE account_id = ? AND seq > ? ORDER BY seq LIMIT ?`
	for last := int64(0); ; {
		entries, err := l.entries(ctx, page, account, last, MaxPage)
		if err != nil {
			return fmt.Errorf("credits: export account %s: %w", account, err)
		}
		for _, e := range entries {
			if e.Allocations, err = l.Allocations(ctx, e.ID); err != nil {
				return err
			}
			one, err := json.Marshal(e)
			if err != nil {
				return fmt.Errorf("credits: export entry %s: %w", e.ID, err)
			}
			if last > 0 {
				text = append(text, ',')
			}
			text, last = append(text, one...), e.Seq
		}
		if len(entries) < MaxPage {
			text = append(text, "]}\n"...)
		}
		if _, err := w.Write(text); err != nil {
			return fmt.Errorf("credits: export account %s: %w", account, err)
		}
		if len(entries) < MaxPage {
			return nil
		}
		text = text[:0]
	}
}

// Holds returns the account's open holds, oldest first.
func (l *Ledger) Holds(ctx context.Context, account string) ([]Hold, error) {
	var found []*hold
	err := l.db.Select(ctx, &found, `SELECT `+holdColumns+fromHolds+`WHERE h.account_id = ? AND h.status = 'open' AND h.expires_at > ?
		ORDER BY h.created_at, h.id`, account, database.At(l.now()))
	if err != nil {
		return nil, fmt.Errorf("credits: holds of account %s: %w", account, err)
	}
	holds := make([]Hold, len(found))
	for i, h := range found {
		holds[i] = h.hold()
	}
	return holds, nil
}

// ErasedReason is the reason of entries whose texts were erased.
const ErasedReason = "Erased"

// Erase ends an account and makes its history anonymous: open holds are given back, what is left is written off with
// an entry, no operation touches the account again ([ErrErased]), and the reasons, references and metadata of all its
// entries and holds are blanked. Amounts, times and the account's id stay, so that sums, seals and receipts hold: choose
// ids that say nothing about a person once the account that they stand for is gone. Debt stays recorded. Erasing twice
// does nothing.
func (l *Ledger) Erase(ctx context.Context, account string) error {
	return l.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return l.EraseTx(ctx, tx, account) })
}

// EraseTx is [Ledger.Erase] inside the caller's transaction. Its time grows with the history.
func (l *Ledger) EraseTx(ctx context.Context, tx *sqlx.Tx, account string) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	if err := l.do(ctx, tx, eraseOp(account)); err != nil {
		return err
	}
	const holds = `UPDATE qs_credit_holds SET reason = ?, reference = '', fingerprint = NULL WHERE account_id = ?`
	if _, err := l.db.ExecTx(ctx, tx, holds, ErasedReason, account); err != nil {
		return fmt.Errorf("credits: erase the holds of account %s: %w", account, err)
	}
	const (
		page = `SELECT id, seq, reason, reference, metadata FROM qs_credit_entries WHERE account_id = ? AND seq > ? AND erased IS NULL ORDER BY seq LIMIT ?`
		wipe = `UPDATE qs_credit_entries SET reason = ?, reference = '', metadata = '{}', erased = ? WHERE id = ?`
	)
	for last := int64(0); ; {
		var found []sealedEntry
		if err := l.db.SelectTx(ctx, tx, &found, page, account, last, MaxPage); err != nil {
			return fmt.Errorf("credits: entries of account %s: %w", account, err)
		}
		for _, e := range found {
			if _, err := l.db.ExecTx(ctx, tx, wipe, ErasedReason, e.textsHash(), e.ID); err != nil {
				return fmt.Errorf("credits: erase entry %s: %w", e.ID, err)
			}
			last = e.Seq
		}
		if len(found) < MaxPage {
			return nil
		}
	}
}

type eraseOp string

func (o eraseOp) needs(n *needs) { n.account(string(o)) }

func (o eraseOp) apply(ctx context.Context, w *work) error {
	a := w.account(string(o))
	if a.ErasedAt != nil {
		return nil
	}
	if err := w.readHolds(ctx, database.Query{
		Postgres: `SELECT ` + holdColumns + fromHolds + `WHERE h.account_id = ? AND h.status = 'open'`,
		SQLite:   `SELECT ` + holdColumns + fromHolds + `WHERE h.account_id = ? AND h.status = 'open'`,
	}, a.ID); err != nil {
		return err
	}
	for _, h := range w.holds {
		if h.Account != a.ID || h.Status != HoldOpen {
			continue
		}
		if err := w.knowShares(ctx, h); err != nil {
			return err
		}
		back := h.shares
		w.giveBack(a, h, back, HoldReleased)
		if err := w.afterReturn(ctx, a, back, false, note{}); err != nil {
			return err
		}
	}
	if a.Available > 0 {
		if _, err := w.use(ctx, a, KindRevoke, a.Available, "", note{reason: ErasedReason}); err != nil {
			return err
		}
	}
	a.ErasedAt, a.dirty, a.more = database.AtPtr(&a.now), true, true
	return nil
}
