package billing

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// EraseTx forgets the e-mail address of an account that ends, inside the caller's transaction. Payments, refunds and
// their receipts stay, as books must be kept; they name the account and no person. What Stripe keeps about the customer
// is deleted there. An account that never bought is no error.
func (b *Billing) EraseTx(ctx context.Context, tx *sqlx.Tx, account string) error {
	if _, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_customers SET email = '' WHERE account_id = ?`, account); err != nil {
		return fmt.Errorf("billing: erase account %s: %w", account, err)
	}
	return nil
}
