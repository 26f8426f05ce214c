package credits

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// HoldStatus is where a hold stands.
type HoldStatus string

// The statuses of holds.
const (
	HoldOpen     HoldStatus = "open"
	HoldSettled  HoldStatus = "settled"
	HoldReleased HoldStatus = "released"
	HoldExpired  HoldStatus = "expired" // given back by its time to live
)

// ReserveParams describe a hold.
type ReserveParams struct {
	// Account pays in the end. Required.
	Account string
	// Amount is the most that the work may cost, above zero.
	Amount Amount
	// TTL is after how long the hold gives itself back. Required; choose it longer than the work may take.
	TTL time.Duration
	// Reason is shown in the history once the hold is settled. Required.
	Reason string
	// Reference names the cause. Optional.
	Reference string
	// IdempotencyKey makes a repetition return the first hold, while that is open or settled; a hold that was given
	// back frees its key. Keys are the account's own and apart from those of grants and debits. Empty: none.
	IdempotencyKey string
}

// Hold is credits set aside. They count as not available, and leave the account only when the hold is settled.
type Hold struct {
	ID        uuid.UUID  `json:"id"`
	Account   string     `json:"account"`
	Amount    Amount     `json:"amount"`
	Status    HoldStatus `json:"status"`
	Reason    string     `json:"reason"`
	Reference string     `json:"reference,omitempty"`
	ExpiresAt time.Time  `json:"expires_at"`
	CreatedAt time.Time  `json:"created_at"`
}

type holdRow struct {
	ID          uuid.UUID     `db:"id"`
	Account     string        `db:"account_id"`
	Amount      Amount        `db:"amount"`
	Status      HoldStatus    `db:"status"`
	EntryID     *uuid.UUID    `db:"entry_id"`
	Reason      string        `db:"reason"`
	Reference   string        `db:"reference"`
	Fingerprint *string       `db:"fingerprint"`
	ExpiresAt   database.Time `db:"expires_at"`
	CreatedAt   database.Time `db:"created_at"`
}

const holdColumns = `id, account_id, amount, status, entry_id, reason, reference, fingerprint, expires_at, created_at`

func (r holdRow) hold() Hold {
	return Hold{ID: r.ID, Account: r.Account, Amount: r.Amount, Status: r.Status, Reason: r.Reason, Reference: r.Reference,
		ExpiresAt: r.ExpiresAt.Time, CreatedAt: r.CreatedAt.Time}
}

// Reserve sets credits aside for work whose outcome is not known yet. The errors are those of [Ledger.Debit],
// [ErrAmountNotPositive] and [ErrTTLRequired].
func (l *Ledger) Reserve(ctx context.Context, p ReserveParams) (h Hold, err error) {
	err = l.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		h, err = l.ReserveTx(ctx, tx, p)
		return err
	})
	return h, err
}

// ReserveTx is [Ledger.Reserve] inside the caller's transaction.
func (l *Ledger) ReserveTx(ctx context.Context, tx *sqlx.Tx, p ReserveParams) (Hold, error) {
	switch {
	case p.Amount <= 0:
		return Hold{}, ErrAmountNotPositive
	case p.TTL <= 0:
		return Hold{}, ErrTTLRequired
	}
	if err := checkReason(&p.Reason); err != nil {
		return Hold{}, err
	}
	print, err := fingerprint(p)
	if err != nil {
		return Hold{}, err
	}
	c, err := l.begin(ctx, tx, p.Account)
	if err != nil {
		return Hold{}, err
	}
	if h, found, err := c.replayHold(ctx, p.IdempotencyKey, print); found || err != nil {
		return h, err
	}
	if err := c.require(p.Amount); err != nil {
		return Hold{}, err
	}
	if c.acc.Held, err = c.acc.Held.Add(p.Amount); err != nil {
		return Hold{}, err
	}
	c.acc.Available -= p.Amount
	id, err := newID()
	if err != nil {
		return Hold{}, err
	}
	row := holdRow{ID: id, Account: p.Account, Amount: p.Amount, Status: HoldOpen, Reason: p.Reason, Reference: p.Reference,
		ExpiresAt: database.At(c.now.Add(p.TTL)), CreatedAt: database.At(c.now)}
	const insert = `INSERT INTO qs_credit_holds (id, account_id, amount, status, reason, reference, idempotency_key, fingerprint, expires_at, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	_, err = l.db.ExecTx(ctx, tx, insert, row.ID, row.Account, row.Amount, row.Status, row.Reason, row.Reference, orNull(p.IdempotencyKey),
		orNull(print), row.ExpiresAt, row.CreatedAt)
	if err != nil {
		return Hold{}, fmt.Errorf("credits: write a hold of account %s: %w", p.Account, err)
	}
	err = c.take(ctx, p.Amount, func(lot lotRow, share Amount) error {
		if err := c.moveLot(ctx, lot.ID, 0, share); err != nil {
			return err
		}
		_, err := l.db.ExecTx(ctx, tx, `INSERT INTO qs_credit_hold_lots (hold_id, lot_id, amount) VALUES (?, ?, ?)`, row.ID, lot.ID, share)
		return err
	})
	if err != nil {
		return Hold{}, err
	}
	c.changesAt(row.ExpiresAt.Time)
	return row.hold(), c.save(ctx)
}

func (c *change) replayHold(ctx context.Context, key, print string) (h Hold, found bool, err error) {
	if key == "" {
		return Hold{}, false, nil
	}
	var row holdRow
	err = c.l.db.GetTx(ctx, c.tx, &row, `SELECT `+holdColumns+` FROM qs_credit_holds
		WHERE account_id = ? AND idempotency_key = ? AND status IN ('open', 'settled')`, c.acc.ID, key)
	switch {
	case database.IsNoRows(err):
		return Hold{}, false, nil
	case err != nil:
		return Hold{}, false, fmt.Errorf("credits: look for the hold of account %s: %w", c.acc.ID, err)
	case row.Fingerprint == nil || *row.Fingerprint != print:
		return Hold{}, false, ErrIdempotencyMismatch
	}
	return row.hold(), true, nil
}

// Settle ends a hold: actual, between zero and the hold's amount, leaves the account in an entry, and the rest becomes
// available again, except what has expired meanwhile. Settling again with the same amount returns the first entry. The
// errors are [ErrHoldNotFound], [ErrHoldSettled] (before, with another amount), [ErrHoldReleased], [ErrOverHold] and
// [ErrAmountNegative].
func (l *Ledger) Settle(ctx context.Context, hold uuid.UUID, actual Amount) (e Entry, err error) {
	err = l.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		e, err = l.SettleTx(ctx, tx, hold, actual)
		return err
	})
	return e, err
}

// SettleTx is [Ledger.Settle] inside the caller's transaction.
func (l *Ledger) SettleTx(ctx context.Context, tx *sqlx.Tx, hold uuid.UUID, actual Amount) (Entry, error) {
	if actual < 0 {
		return Entry{}, ErrAmountNegative
	}
	c, h, err := l.beginHold(ctx, tx, hold)
	if err != nil {
		return Entry{}, err
	}
	switch h.Status {
	case HoldSettled:
		return c.settledBefore(ctx, h, actual)
	case HoldReleased, HoldExpired:
		return Entry{}, ErrHoldReleased
	case HoldOpen:
	}
	if actual > h.Amount {
		return Entry{}, ErrOverHold
	}
	c.acc.Held -= h.Amount
	c.acc.Available += h.Amount - actual
	e, err := c.write(ctx, KindDebit, -actual, "", note{reason: h.Reason, reference: h.Reference, metadata: map[string]string{"hold": h.ID.String()}})
	if err != nil {
		return Entry{}, err
	}
	shares, err := c.shares(ctx, h.ID)
	if err != nil {
		return Entry{}, err
	}
	rest := actual
	for _, s := range shares {
		used := min(rest, s.Amount)
		rest -= used
		if err := c.moveLot(ctx, s.Lot, -used, -s.Amount); err != nil {
			return Entry{}, err
		}
		if used > 0 {
			if err := c.allocate(ctx, &e, Allocation{s.Lot, s.Source, -used}); err != nil {
				return Entry{}, err
			}
		}
	}
	if err := c.closeHold(ctx, h.ID, HoldSettled, &e.ID); err != nil {
		return Entry{}, err
	}
	return e, c.afterReturn(ctx, shares)
}

func (c *change) settledBefore(ctx context.Context, h holdRow, actual Amount) (Entry, error) {
	var row entryRow
	if err := c.l.db.GetTx(ctx, c.tx, &row, `SELECT `+entryColumns+` FROM qs_credit_entries WHERE id = ?`, *h.EntryID); err != nil {
		return Entry{}, fmt.Errorf("credits: entry of hold %s: %w", h.ID, err)
	}
	if row.Amount != -actual {
		return Entry{}, ErrHoldSettled
	}
	return row.entry()
}

// Release ends a hold that nothing came of: all of it becomes available again, except what has expired meanwhile.
// Releasing a hold that was given back before does nothing. The errors are [ErrHoldNotFound] and [ErrHoldSettled].
func (l *Ledger) Release(ctx context.Context, hold uuid.UUID) error {
	return l.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return l.ReleaseTx(ctx, tx, hold) })
}

// ReleaseTx is [Ledger.Release] inside the caller's transaction.
func (l *Ledger) ReleaseTx(ctx context.Context, tx *sqlx.Tx, hold uuid.UUID) error {
	c, h, err := l.beginHold(ctx, tx, hold)
	if err != nil {
		return err
	}
	switch h.Status {
	case HoldSettled:
		return ErrHoldSettled
	case HoldReleased, HoldExpired:
		return nil
	case HoldOpen:
	}
	shares, err := c.giveBack(ctx, h, HoldReleased)
	if err != nil {
		return err
	}
	return c.afterReturn(ctx, shares)
}

// beginHold locks the account of a hold and reads the hold as it is then.
func (l *Ledger) beginHold(ctx context.Context, tx *sqlx.Tx, id uuid.UUID) (*change, holdRow, error) {
	const find = `SELECT ` + holdColumns + ` FROM qs_credit_holds WHERE id = ?`
	var h holdRow
	if err := l.db.GetTx(ctx, tx, &h, find, id); err != nil {
		if database.IsNoRows(err) {
			return nil, h, ErrHoldNotFound
		}
		return nil, h, fmt.Errorf("credits: find hold %s: %w", id, err)
	}
	c, err := l.begin(ctx, tx, h.Account)
	if err != nil {
		return nil, h, err
	}
	if err := l.db.GetTx(ctx, tx, &h, find, id); err != nil {
		return nil, h, fmt.Errorf("credits: read hold %s: %w", id, err)
	}
	return c, h, nil
}

// share is what a hold has set aside of one lot.
type share struct {
	Lot       uuid.UUID      `db:"lot_id"`
	Source    Source         `db:"source"`
	Amount    Amount         `db:"amount"`
	ExpiresAt *database.Time `db:"expires_at"`
}

// shares returns a hold's shares in the order of use.
func (c *change) shares(ctx context.Context, hold uuid.UUID) ([]share, error) {
	const find = `SELECT s.lot_id, l.source, s.amount, l.expires_at FROM qs_credit_hold_lots s JOIN qs_credit_lots l ON l.id = s.lot_id
		WHERE s.hold_id = ? ORDER BY l.priority, l.expires_at NULLS LAST, l.seq`
	var shares []share
	if err := c.l.db.SelectTx(ctx, c.tx, &shares, find, hold); err != nil {
		return nil, fmt.Errorf("credits: shares of hold %s: %w", hold, err)
	}
	return shares, nil
}

// giveBack ends an open hold without an entry.
func (c *change) giveBack(ctx context.Context, h holdRow, status HoldStatus) ([]share, error) {
	shares, err := c.shares(ctx, h.ID)
	if err != nil {
		return nil, err
	}
	for _, s := range shares {
		if err := c.moveLot(ctx, s.Lot, 0, -s.Amount); err != nil {
			return nil, err
		}
	}
	c.acc.Held -= h.Amount
	c.acc.Available += h.Amount
	return shares, c.closeHold(ctx, h.ID, status, nil)
}

func (c *change) closeHold(ctx context.Context, id uuid.UUID, status HoldStatus, entry *uuid.UUID) error {
	_, err := c.l.db.ExecTx(ctx, c.tx, `UPDATE qs_credit_holds SET status = ?, entry_id = ? WHERE id = ?`, status, entry, id)
	if err != nil {
		return fmt.Errorf("credits: close hold %s: %w", id, err)
	}
	return nil
}

// afterReturn saves the account once shares went back to their lots. Lots that expired under the hold are closed now;
// those that still will are looked at again at their time.
func (c *change) afterReturn(ctx context.Context, shares []share) error {
	expired := false
	for _, s := range shares {
		if s.ExpiresAt != nil {
			c.changesAt(s.ExpiresAt.Time)
			expired = expired || !s.ExpiresAt.After(c.now)
		}
	}
	if expired {
		return c.catchUp(ctx)
	}
	return c.save(ctx)
}

// expireHolds gives back the open holds whose time to live is over.
func (c *change) expireHolds(ctx context.Context) error {
	const due = `SELECT ` + holdColumns + ` FROM qs_credit_holds WHERE account_id = ? AND status = 'open' AND expires_at <= ? ORDER BY expires_at, id`
	var holds []holdRow
	if err := c.l.db.SelectTx(ctx, c.tx, &holds, due, c.acc.ID, database.At(c.now)); err != nil {
		return fmt.Errorf("credits: holds of account %s: %w", c.acc.ID, err)
	}
	for _, h := range holds {
		if _, err := c.giveBack(ctx, h, HoldExpired); err != nil {
			return err
		}
	}
	return nil
}
