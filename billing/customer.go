package billing

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/database"
)

type customerRow struct {
	IntentID   uuid.UUID `db:"intent_id"`
	CustomerID *string   `db:"customer_id"`
	Email      string    `db:"email"`
}

const selectCustomer = `SELECT intent_id, customer_id, email FROM qs_billing_customers WHERE account_id = ?`

// ensureCustomer returns the account's Stripe customer, made once however many ask at the same time: the row is
// written first, and all who call Stripe for it use the row's idempotency key.
func (b *Billing) ensureCustomer(ctx context.Context, who Customer) (string, error) {
	row, err := b.customerIntent(ctx, who)
	if err != nil {
		return "", err
	}
	if row.CustomerID != nil {
		if who.Email == row.Email {
			return *row.CustomerID, nil
		}
		return *row.CustomerID, b.FollowCustomer(ctx, who)
	}
	made, err := b.makeCustomer(ctx, who, row)
	if err != nil {
		return "", err
	}
	return made.ID, b.saveCustomer(ctx, who.Account, row, made)
}

// saveCustomer records what the call of a row has made.
func (b *Billing) saveCustomer(ctx context.Context, account string, row customerRow, made *stripe.Customer) error {
	err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_customers SET customer_id = ? WHERE account_id = ? AND intent_id = ?`, made.ID, account, row.IntentID)
		return err
	})
	if err != nil {
		return fmt.Errorf("billing: save the customer of account %s: %w", account, err)
	}
	return nil
}

// makeCustomer asks Stripe for the customer of a row.
func (b *Billing) makeCustomer(ctx context.Context, who Customer, row customerRow) (*stripe.Customer, error) {
	// The parameters come from the row, so that a second try sends the same under the same key.
	params := &stripe.CustomerParams{Email: &row.Email, Metadata: map[string]string{accountKey: who.Account}}
	params.Context = ctx
	params.SetIdempotencyKey("customer-" + row.IntentID.String())
	made, err := b.cfg.Stripe.Customers.New(params)
	if isOutage(err) {
		return b.recoverCustomer(ctx, who, row, err)
	}
	if err != nil {
		return nil, stripeError("make a customer", err)
	}
	return made, nil
}

// recoverCustomer looks for the customer that a call has made although Stripe answered with an error of its own. Where
// there is none the next try has a new key.
func (b *Billing) recoverCustomer(ctx context.Context, who Customer, row customerRow, failed error) (*stripe.Customer, error) {
	found, err := b.listedCustomer(ctx, who.Account, row.Email)
	if err != nil || found != nil {
		return found, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("billing: make an id: %w", err)
	}
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_customers SET intent_id = ? WHERE account_id = ? AND intent_id = ? AND customer_id IS NULL`, id, who.Account, row.IntentID)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("billing: new intent for the customer of account %s: %w", who.Account, err)
	}
	return nil, stripeError("make a customer", failed)
}

func (b *Billing) customerIntent(ctx context.Context, who Customer) (row customerRow, err error) {
	if err = b.db.Get(ctx, &row, selectCustomer, who.Account); err == nil || !database.IsNoRows(err) {
		return row, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return row, fmt.Errorf("billing: make an id: %w", err)
	}
	const insert = `INSERT INTO qs_billing_customers (account_id, intent_id, email, created_at) VALUES (?, ?, ?, ?) ON CONFLICT (account_id) DO NOTHING`
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := b.db.ExecTx(ctx, tx, insert, who.Account, id, who.Email, database.At(b.now())); err != nil {
			return err
		}
		return b.db.GetTx(ctx, tx, &row, selectCustomer, who.Account)
	})
	if err != nil {
		return row, fmt.Errorf("billing: intent for the customer of account %s: %w", who.Account, err)
	}
	return row, nil
}

// lockAccount makes everything that changes an account's billing happen one after the other. It comes before any other
// lock of a transaction, the ledger's included. The account has a customer's row, or else nothing to change.
func (b *Billing) lockAccount(ctx context.Context, tx *sqlx.Tx, account string) error {
	var id string
	err := b.db.GetTx(ctx, tx, &id, `SELECT account_id FROM qs_billing_customers WHERE account_id = ?`+b.db.Dialect().ForUpdate(), account)
	if err != nil {
		return fmt.Errorf("billing: lock account %s: %w", account, err)
	}
	return nil
}

// accountOf finds whose an object of Stripe's is: by our customer, or by the account that our metadata names. Never by
// an e-mail address, which proves nothing. Empty: nobody's here.
func (b *Billing) accountOf(ctx context.Context, tx *sqlx.Tx, customer *stripe.Customer, metadata map[string]string) (string, error) {
	var accounts []string
	if customer != nil {
		if err := b.db.SelectTx(ctx, tx, &accounts, `SELECT account_id FROM qs_billing_customers WHERE customer_id = ?`, customer.ID); err != nil {
			return "", fmt.Errorf("billing: account of customer %s: %w", customer.ID, err)
		}
	}
	if len(accounts) == 0 && metadata[accountKey] != "" {
		if err := b.db.SelectTx(ctx, tx, &accounts, `SELECT account_id FROM qs_billing_customers WHERE account_id = ?`, metadata[accountKey]); err != nil {
			return "", fmt.Errorf("billing: account %s: %w", metadata[accountKey], err)
		}
	}
	if len(accounts) == 0 {
		return "", nil
	}
	return accounts[0], nil
}

// accountKey is the metadata that carries our account.
const accountKey = "account"

// forgetCustomer begins anew for an account whose customer was deleted in Stripe.
func (b *Billing) forgetCustomer(ctx context.Context, account, customer string) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("billing: make an id: %w", err)
	}
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_customers SET customer_id = NULL, intent_id = ? WHERE account_id = ? AND customer_id = ?`, id, account, customer)
		return err
	})
	if err != nil {
		return fmt.Errorf("billing: forget the customer of account %s: %w", account, err)
	}
	return nil
}

// isMissingCustomer tells that Stripe does not know the customer that was sent.
func isMissingCustomer(err error) bool {
	e, ok := asStripe(err)
	return ok && e.HTTPStatusCode == http.StatusNotFound && e.Param == "customer" || ok && e.Code == stripe.ErrorCodeResourceMissing && e.Param == "customer"
}
