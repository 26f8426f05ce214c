package credits

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/database"
)

type lotRow struct {
	ID        uuid.UUID      `db:"id"`
	Account   string         `db:"account_id"`
	Source    Source         `db:"source"`
	Amount    Amount         `db:"amount"`
	Remaining Amount         `db:"remaining"`
	Held      Amount         `db:"held"`
	ExpiresAt *database.Time `db:"expires_at"`
	CreatedAt database.Time  `db:"created_at"`
}

const lotColumns = `id, account_id, source, amount, remaining, held, expires_at, created_at`

func (r lotRow) free() Amount { return r.Remaining - r.Held }

// lotsAtOnce bounds how many lots one statement reads. What they cannot cover the next ones do.
const lotsAtOnce = 64

// take goes through the lots in the order of use until amount is covered and calls use with each lot and its share.
// The caller has checked that the account has that much; use updates the lot, so that it is not found again.
func (c *change) take(ctx context.Context, amount Amount, use func(lot lotRow, share Amount) error) error {
	const open = `SELECT ` + lotColumns + ` FROM qs_credit_lots
		WHERE account_id = ? AND remaining > 0 AND remaining > held AND (expires_at IS NULL OR expires_at > ?)
		ORDER BY priority, expires_at NULLS LAST, seq LIMIT ?`
	for amount > 0 {
		var lots []lotRow
		if err := c.l.db.SelectTx(ctx, c.tx, &lots, open, c.acc.ID, database.At(c.now), lotsAtOnce); err != nil {
			return fmt.Errorf("credits: open lots of account %s: %w", c.acc.ID, err)
		}
		if len(lots) == 0 {
			return fmt.Errorf("credits: account %s has %s less in its lots than its balance says", c.acc.ID, amount)
		}
		for _, lot := range lots {
			share := min(amount, lot.free())
			if err := use(lot, share); err != nil {
				return err
			}
			if amount -= share; amount == 0 {
				break
			}
		}
	}
	return nil
}

// moveLot changes what remains in a lot and what is held of it.
func (c *change) moveLot(ctx context.Context, lot uuid.UUID, remaining, held Amount) error {
	const update = `UPDATE qs_credit_lots SET remaining = remaining + ?, held = held + ? WHERE id = ? AND account_id = ?`
	changed, err := c.l.db.ExecTx(ctx, c.tx, update, remaining, held, lot, c.acc.ID)
	if err != nil {
		return fmt.Errorf("credits: update lot %s: %w", lot, err)
	}
	if changed != 1 {
		return fmt.Errorf("credits: lot %s of account %s is gone", lot, c.acc.ID)
	}
	return nil
}

// expireLots closes the lots whose time has come: what is not held of them leaves with an entry each.
func (c *change) expireLots(ctx context.Context) error {
	const expired = `SELECT ` + lotColumns + ` FROM qs_credit_lots
		WHERE account_id = ? AND remaining > 0 AND remaining > held AND expires_at <= ? ORDER BY expires_at, seq`
	var lots []lotRow
	if err := c.l.db.SelectTx(ctx, c.tx, &lots, expired, c.acc.ID, database.At(c.now)); err != nil {
		return fmt.Errorf("credits: expired lots of account %s: %w", c.acc.ID, err)
	}
	for _, lot := range lots {
		rest := lot.free()
		c.acc.Available -= rest
		e, err := c.write(ctx, KindExpire, -rest, lot.Source, note{reason: "Expired " + lot.ExpiresAt.Format("2006-01-02 15:04 UTC"), reference: lot.ID.String()})
		if err != nil {
			return err
		}
		if err := c.allocate(ctx, &e, Allocation{lot.ID, lot.Source, -rest}); err != nil {
			return err
		}
		if err := c.moveLot(ctx, lot.ID, -rest, 0); err != nil {
			return err
		}
	}
	return nil
}

// Lots returns the account's lots that have something left and have not expired, in the order of use.
func (l *Ledger) Lots(ctx context.Context, account string) ([]Lot, error) {
	const open = `SELECT ` + lotColumns + ` FROM qs_credit_lots
		WHERE account_id = ? AND remaining > 0 AND (expires_at IS NULL OR expires_at > ?) ORDER BY priority, expires_at NULLS LAST, seq`
	var rows []lotRow
	if err := l.db.Select(ctx, &rows, open, account, database.At(l.now())); err != nil {
		return nil, fmt.Errorf("credits: lots of account %s: %w", account, err)
	}
	lots := make([]Lot, len(rows))
	for i, r := range rows {
		lots[i] = Lot{ID: r.ID, Account: r.Account, Source: r.Source, Amount: r.Amount, Remaining: r.Remaining, Held: r.Held,
			ExpiresAt: r.ExpiresAt.Std(), CreatedAt: r.CreatedAt.Time}
	}
	return lots, nil
}
