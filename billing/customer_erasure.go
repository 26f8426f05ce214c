package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/database"
)

// How long after a try to delete a customer the next one is: at first, and at most.
const (
	erasureLease    = time.Minute
	maxErasurePause = 24 * time.Hour
)

// What became of a customer that was to be deleted.
const (
	erasureDeleted = "deleted"
	erasureMissing = "missing" // Stripe does not know it any more
)

type erasureRow struct {
	ID         uuid.UUID     `db:"id"`
	Account    string        `db:"account_id"`
	CustomerID string        `db:"customer_id"`
	Attempts   int64         `db:"attempts"`
	NextAt     database.Time `db:"next_at"`
}

// requestErasure writes down that a customer is to be deleted.
func (b *Billing) requestErasure(ctx context.Context, tx *sqlx.Tx, account, customer string) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("billing: make an id: %w", err)
	}
	now := database.At(b.now())
	const insert = `INSERT INTO qs_billing_customer_erasures (id, account_id, customer_id, status, next_at, created_at) VALUES (?, ?, ?, 'requested', ?, ?)
		ON CONFLICT (customer_id) DO NOTHING`
	if _, err := b.db.ExecTx(ctx, tx, insert, id, account, customer, now, now); err != nil {
		return fmt.Errorf("billing: note the erasure of account %s: %w", account, err)
	}
	return nil
}

// EraseCustomers deletes in Stripe the customers of accounts that were erased, at most 100, and returns how many are gone
// now. Stripe forgets the address, the name and the cards then, ends what is left of subscriptions, and keeps invoices and
// payments (docs.stripe.com/api/customers/delete). What fails is tried again, later each time and at least once a day; the
// error names all of it. Call it every few minutes, in any number of processes.
func (b *Billing) EraseCustomers(ctx context.Context) (erased int, err error) {
	var rows []erasureRow
	// Runs along qs_billing_customer_erasures_due.
	const due = `SELECT id, account_id, customer_id, attempts, next_at FROM qs_billing_customer_erasures WHERE status = 'requested' AND next_at <= ? ORDER BY next_at LIMIT 100`
	if err := b.db.Select(ctx, &rows, due, database.At(b.now())); err != nil {
		return 0, fmt.Errorf("billing: customers to erase: %w", err)
	}
	for _, row := range rows {
		mine, one := b.claimErasure(ctx, row)
		if one == nil && mine {
			if one = b.eraseCustomer(ctx, row); one == nil {
				erased++
			}
		}
		err = errors.Join(err, one)
	}
	return erased, err
}

// claimErasure keeps others from a customer for the time of a try, and longer after each one that came to nothing.
func (b *Billing) claimErasure(ctx context.Context, row erasureRow) (mine bool, err error) {
	pause := maxErasurePause
	if row.Attempts < 11 { // 2^11 minutes are more than a day
		pause = min(pause, erasureLease<<row.Attempts)
	}
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		n, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_customer_erasures SET attempts = attempts + 1, next_at = ? WHERE id = ? AND status = 'requested' AND attempts = ?`,
			database.At(b.now().Add(pause)), row.ID, row.Attempts)
		mine = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("billing: claim the erasure of customer %s: %w", row.CustomerID, err)
	}
	return mine, nil
}

// eraseCustomer asks Stripe and records the answer. A customer that a try before deleted without our hearing of it is
// missing, which is as good.
func (b *Billing) eraseCustomer(ctx context.Context, row erasureRow) error {
	params := &stripe.CustomerParams{}
	params.Context = ctx
	_, err := b.cfg.Stripe.Customers.Del(row.CustomerID, params)
	outcome := erasureDeleted
	if e, ok := asStripe(err); ok && e.Code == stripe.ErrorCodeResourceMissing {
		outcome, err = erasureMissing, nil
	}
	if err != nil {
		failed := stripeError("delete customer "+row.CustomerID, err)
		return errors.Join(failed, b.noteErasure(ctx, row, failed))
	}
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		const end = `UPDATE qs_billing_customer_erasures SET status = ?, error = '', ended_at = ? WHERE id = ? AND status = 'requested'`
		_, err := b.db.ExecTx(ctx, tx, end, outcome, database.At(b.now()), row.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("billing: record the erasure of customer %s: %w", row.CustomerID, err)
	}
	b.cfg.Logger.InfoContext(ctx, "customer deleted in Stripe", slog.String("account", row.Account), slog.String("customer", row.CustomerID), slog.String("outcome", outcome))
	return nil
}

// noteErasure keeps why a try failed, for who looks.
func (b *Billing) noteErasure(ctx context.Context, row erasureRow, failed error) error {
	err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_customer_erasures SET error = ? WHERE id = ? AND status = 'requested'`, failed.Error(), row.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("billing: note the failed erasure of customer %s: %w", row.CustomerID, err)
	}
	return nil
}
