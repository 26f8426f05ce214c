package billing

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/database"
)

// errMoneyMoves says that a payment of an account is on its way, which would bring credits to nobody.
var errMoneyMoves = errors.New("billing: a payment of the account is still on its way")

// EndAccount ends at Stripe what could still charge an account that is to be erased, at once: auto top-up, open checkout
// pages and the subscription. It fails while a payment is on its way, which takes days where a bank is slow. Call it
// before [Billing.EraseTx], outside of any transaction, and again until it succeeds. Errors are [ErrStripe] and others; an
// account that never bought is none.
func (b *Billing) EndAccount(ctx context.Context, account string) error {
	if err := b.StopAutoTopUp(ctx, account); err != nil {
		return err
	}
	if err := b.closePages(ctx, account); err != nil {
		return err
	}
	_, err := b.CancelSubscription(ctx, account, true)
	if err != nil && !errors.Is(err, ErrNoSubscription) && !errors.Is(err, ErrEnded) {
		return err
	}
	if err := b.findLostCustomer(ctx, account); err != nil {
		return err
	}
	var moving int
	const count = `SELECT (SELECT COUNT(*) FROM qs_billing_checkouts WHERE account_id = ? AND status = 'waiting')
		+ (SELECT COUNT(*) FROM qs_billing_topups WHERE account_id = ? AND status IN ('requested', 'processing'))`
	if err := b.db.Get(ctx, &moving, count, account, account); err != nil {
		return fmt.Errorf("billing: payments of account %s: %w", account, err)
	}
	if moving > 0 {
		return fmt.Errorf("account %s: %w", account, errMoneyMoves)
	}
	return nil
}

// closePages makes the checkout pages unusable that an account has left open.
func (b *Billing) closePages(ctx context.Context, account string) error {
	var sessions []string
	const open = `SELECT session_id FROM qs_billing_checkouts WHERE account_id = ? AND status = 'open' AND session_id IS NOT NULL ORDER BY id`
	if err := b.db.Select(ctx, &sessions, open, account); err != nil {
		return fmt.Errorf("billing: open checkouts of account %s: %w", account, err)
	}
	for _, session := range sessions {
		if err := b.expireSession(ctx, account, session); err != nil {
			return err
		}
	}
	return nil
}

// findLostCustomer looks for the customer of an account whose making was not recorded, as long as the address is known by
// which Stripe lists it.
func (b *Billing) findLostCustomer(ctx context.Context, account string) error {
	var row customerRow
	err := b.db.Get(ctx, &row, selectCustomer, account)
	if database.IsNoRows(err) || err == nil && (row.CustomerID != nil || row.Email == "") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("billing: customer of account %s: %w", account, err)
	}
	found, err := b.listedCustomer(ctx, account, row.Email)
	if err != nil || found == nil {
		return err
	}
	return b.saveCustomer(ctx, account, row, found)
}

// EraseTx forgets who the customer is whose account ends, inside the caller's transaction: the e-mail address, the notes of
// staff, and the addresses of Stripe's pages that show a name. It writes down that the customer is to be deleted in Stripe,
// which [Billing.EraseCustomers] does. Payments, refunds and their receipts stay, as books must be kept; they name the
// account and no person. An account that never bought is no error. Erasing twice does nothing.
func (b *Billing) EraseTx(ctx context.Context, tx *sqlx.Tx, account string) error {
	// The first one locks the account.
	for _, statement := range []string{
		`UPDATE qs_billing_customers SET email = '' WHERE account_id = ?`,
		`UPDATE qs_billing_checkouts SET url = '' WHERE account_id = ?`,
		`UPDATE qs_billing_payments SET receipt_url = '', invoice_url = '' WHERE account_id = ?`,
		`UPDATE qs_billing_subscriptions SET pay_url = '' WHERE account_id = ?`,
		`UPDATE qs_billing_refund_steps SET note = '' WHERE refund_id IN (SELECT id FROM qs_billing_refunds WHERE account_id = ?)`,
		`UPDATE qs_billing_refunds SET note = '' WHERE account_id = ?`,
	} {
		if _, err := b.db.ExecTx(ctx, tx, statement, account); err != nil {
			return fmt.Errorf("billing: erase account %s: %w", account, err)
		}
	}
	var row customerRow
	err := b.db.GetTx(ctx, tx, &row, selectCustomer, account)
	if database.IsNoRows(err) || err == nil && row.CustomerID == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("billing: customer of account %s: %w", account, err)
	}
	return b.requestErasure(ctx, tx, account, *row.CustomerID)
}

// listedCustomer finds the customer of an account among those of an address: ours is known by the account in its
// metadata, and the address only narrows the list. Nil: there is none.
func (b *Billing) listedCustomer(ctx context.Context, account, email string) (*stripe.Customer, error) {
	list := b.cfg.Stripe.Customers.List(&stripe.CustomerListParams{ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}, Email: &email})
	for list.Next() {
		if c := list.Customer(); c.Metadata[accountKey] == account {
			return c, nil
		}
	}
	if err := list.Err(); err != nil {
		return nil, stripeError("look for a customer", err)
	}
	return nil, nil
}
