package billing

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/database"
)

// Jobs inserts jobs; a River client over database/sql (*river.Client[*sql.Tx]) is one.
type Jobs interface {
	InsertTx(ctx context.Context, tx *sql.Tx, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error)
}

// followJob tells Stripe an account's address. It names no address: jobs may run in another order than the changes, and
// each tells the address that is right when it runs.
type followJob struct {
	Account string `json:"account"`
}

// Kind names the job; it is in the database of every installation and is not changed.
func (followJob) Kind() string { return "billing_follow_customer" }

// AddWorkers adds the worker of billing's jobs. Call it before the River client starts.
func (b *Billing) AddWorkers(workers *river.Workers) error {
	err := river.AddWorkerSafely(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[followJob]) error {
		return b.followNow(ctx, job.Args.Account)
	}))
	if err != nil {
		return fmt.Errorf("billing: %w", err)
	}
	return nil
}

// FollowCustomerTx has Stripe told the address of an account once tx, which changes it, is committed: by a job that is
// tried again while Stripe does not answer, for three weeks. Config.Jobs and Config.Address are needed.
func (b *Billing) FollowCustomerTx(ctx context.Context, tx *sqlx.Tx, account string) error {
	if b.cfg.Jobs == nil || b.cfg.Address == nil {
		return errors.New("billing: Config.Jobs and Config.Address are required to follow an address")
	}
	if _, err := b.cfg.Jobs.InsertTx(ctx, tx.Tx, followJob{account}, nil); err != nil {
		return fmt.Errorf("billing: follow the address of account %s: %w", account, err)
	}
	return nil
}

// maxFollows is how often an address may change while it is told.
const maxFollows = 5

// followNow tells Stripe the address until that is still the account's when it is told.
func (b *Billing) followNow(ctx context.Context, account string) error {
	if b.cfg.Address == nil {
		return errors.New("billing: Config.Address is required to follow an address")
	}
	told := ""
	for range maxFollows {
		address, err := b.cfg.Address(ctx, account)
		if err != nil {
			return fmt.Errorf("billing: address of account %s: %w", account, err)
		}
		if address == "" || address == told {
			return nil
		}
		if err := b.FollowCustomer(ctx, Customer{Account: account, Email: address}); err != nil {
			return err
		}
		told = address
	}
	return errAddressMoves
}

// errAddressMoves says that an address changes faster than it can be told; the job is tried again.
var errAddressMoves = errors.New("billing: the address changes while it is told")

// FollowCustomer tells Stripe the e-mail address of an account that has changed it, and does nothing for who never bought
// and when it is known. A customer that was deleted in Stripe is left to the next checkout, which makes a new one. The
// errors are [ErrStripe] and the database's; [Billing.Checkout] makes up for a call that failed.
func (b *Billing) FollowCustomer(ctx context.Context, who Customer) error {
	for range maxFollows {
		var row customerRow
		// Where it is written: a replica may be behind.
		err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			return b.db.GetTx(ctx, tx, &row, selectCustomer, who.Account)
		})
		if database.IsNoRows(err) || err == nil && (row.CustomerID == nil || who.Email == "" || who.Email == row.Email) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("billing: customer of account %s: %w", who.Account, err)
		}
		if err := b.tellAddress(ctx, who, *row.CustomerID); err != nil {
			return err
		}
		if saved, err := b.saveAddress(ctx, who, row); saved || err != nil {
			return err
		}
	}
	return errAddressMoves
}

func (b *Billing) tellAddress(ctx context.Context, who Customer, customer string) error {
	params := &stripe.CustomerParams{Email: &who.Email}
	params.Context = ctx
	_, err := b.cfg.Stripe.Customers.Update(customer, params)
	if e, ok := asStripe(err); ok && e.Code == stripe.ErrorCodeResourceMissing {
		b.cfg.Logger.WarnContext(ctx, "a customer was deleted in Stripe", slog.String("account", who.Account), slog.String("customer", customer))
		return nil
	}
	if err != nil {
		return stripeError("change a customer's address", err)
	}
	return nil
}

// saveAddress notes what Stripe was told, unless somebody has told it another address meanwhile: then which of the two it
// has is not known, and it is told again.
func (b *Billing) saveAddress(ctx context.Context, who Customer, told customerRow) (saved bool, err error) {
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		n, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_customers SET email = ? WHERE account_id = ? AND email = ?`, who.Email, who.Account, told.Email)
		saved = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("billing: save the address of account %s: %w", who.Account, err)
	}
	return saved, nil
}
