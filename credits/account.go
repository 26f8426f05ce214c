package credits

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// account is the row that every change locks first.
type account struct {
	ID           string         `db:"id"`
	Available    Amount         `db:"available"`
	Held         Amount         `db:"held"`
	NextChangeAt *database.Time `db:"next_change_at"`
	LastSeq      int64          `db:"last_seq"`
}

const (
	selectAccount = `SELECT id, available, held, next_change_at, last_seq FROM qs_credit_accounts WHERE id = ?`
	insertAccount = `INSERT INTO qs_credit_accounts (id, created_at) VALUES (?, ?) ON CONFLICT (id) DO NOTHING`
	updateAccount = `UPDATE qs_credit_accounts SET available = ?, held = ?, next_change_at = ?, last_seq = ? WHERE id = ?`
)

// change is one operation on one account whose row it has locked. What it does to the account is written by save.
type change struct {
	l   *Ledger
	tx  *sqlx.Tx
	now time.Time
	acc account
}

// begin locks the account, makes it when it is new, and lets everything happen that its clock has brought: holds past
// their time are given back and expired lots closed.
func (l *Ledger) begin(ctx context.Context, tx *sqlx.Tx, id string) (*change, error) {
	if err := checkAccount(id); err != nil {
		return nil, err
	}
	c := &change{l: l, tx: tx, now: l.now()}
	lock := selectAccount + l.db.Dialect().ForUpdate()
	err := l.db.GetTx(ctx, tx, &c.acc, lock, id)
	if database.IsNoRows(err) {
		if _, err := l.db.ExecTx(ctx, tx, insertAccount, id, database.At(c.now)); err != nil {
			return nil, fmt.Errorf("credits: make account %s: %w", id, err)
		}
		err = l.db.GetTx(ctx, tx, &c.acc, lock, id)
	}
	if err != nil {
		return nil, fmt.Errorf("credits: lock account %s: %w", id, err)
	}
	if c.due() {
		if err := c.catchUp(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *change) due() bool {
	return c.acc.NextChangeAt != nil && !c.acc.NextChangeAt.After(c.now)
}

// catchUp gives back the holds and closes the lots whose time has come, and finds the next such moment.
func (c *change) catchUp(ctx context.Context) error {
	if err := c.expireHolds(ctx); err != nil {
		return err
	}
	if err := c.expireLots(ctx); err != nil {
		return err
	}
	const next = `SELECT MIN(at) FROM (
		SELECT MIN(expires_at) AS at FROM qs_credit_lots WHERE account_id = ? AND remaining > 0 AND remaining > held AND expires_at IS NOT NULL
		UNION ALL
		SELECT MIN(expires_at) AS at FROM qs_credit_holds WHERE account_id = ? AND status = 'open'
	) AS moments`
	c.acc.NextChangeAt = nil
	if err := c.l.db.GetTx(ctx, c.tx, &c.acc.NextChangeAt, next, c.acc.ID, c.acc.ID); err != nil {
		return fmt.Errorf("credits: next change of account %s: %w", c.acc.ID, err)
	}
	return c.save(ctx)
}

// changesAt makes sure that the account is looked at again at t.
func (c *change) changesAt(t time.Time) {
	if c.acc.NextChangeAt == nil || t.Before(c.acc.NextChangeAt.Time) {
		at := database.At(t)
		c.acc.NextChangeAt = &at
	}
}

func (c *change) save(ctx context.Context) error {
	_, err := c.l.db.ExecTx(ctx, c.tx, updateAccount, c.acc.Available, c.acc.Held, c.acc.NextChangeAt, c.acc.LastSeq, c.acc.ID)
	if err != nil {
		return fmt.Errorf("credits: save account %s: %w", c.acc.ID, err)
	}
	return nil
}

func newID() (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("credits: make an id: %w", err)
	}
	return id, nil
}
