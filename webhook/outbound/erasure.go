package outbound

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// EraseTx deletes an account's endpoints, messages and deliveries with their log, inside the caller's transaction. Nothing
// more is sent once it is committed, but for a request that is under way. Erasing twice does nothing.
func (o *Outbound) EraseTx(ctx context.Context, tx *sqlx.Tx, account string) error {
	// Deliveries and attempts go with what they are of.
	for _, statement := range []string{`DELETE FROM qs_outbound_endpoints WHERE account = ?`, `DELETE FROM qs_outbound_messages WHERE account = ?`} {
		if _, err := o.db.ExecTx(ctx, tx, statement, account); err != nil {
			return fmt.Errorf("outbound: erase account %s: %w", account, err)
		}
	}
	return nil
}
