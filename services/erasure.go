package services

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// ErasedText stands in the place of what was said about a call that failed, once its account was erased.
const ErasedText = "Erased"

// EraseTx removes what people wrote and got, inside the caller's transaction, for an account that ends: inputs, outputs,
// tags, idempotency keys, and the hashes and texts that tell of them. Calls that still wait or run are ended, and what was
// set aside for them is given back. The rows stay, with services, times, units and charges, as the ledger's entries do.
// Its time grows with the account's history. Call it before the ledger erases the account, and [Services.Flush] before
// the transaction. Erasing twice does nothing.
func (s *Services) EraseTx(ctx context.Context, tx *sqlx.Tx, account string) error {
	// Runs along qs_service_calls_account.
	const open = `SELECT ` + callColumns + ` FROM qs_service_calls WHERE account_id = ? AND status IN ('queued', 'running') ORDER BY id`
	var rows []callRow
	if err := s.db.SelectTx(ctx, tx, &rows, open, account); err != nil {
		return fmt.Errorf("services: open calls of account %s: %w", account, err)
	}
	for _, row := range rows {
		row.Notify = false // nobody is left to tell
		if _, err := s.giveUp(ctx, tx, row); err != nil {
			return err
		}
	}
	for _, statement := range []string{
		`UPDATE qs_service_calls SET output = NULL, idempotency_key = NULL, cached_until = NULL, fingerprint = '', tags = '{}',
			error_text = CASE WHEN error_code = '' THEN '' ELSE '` + ErasedText + `' END WHERE account_id = ?`,
		`DELETE FROM qs_service_call_tags WHERE account_id = ?`,
		`DELETE FROM qs_service_quotas WHERE account_id = ?`,
	} {
		if _, err := s.db.ExecTx(ctx, tx, statement, account); err != nil {
			return fmt.Errorf("services: erase account %s: %w", account, err)
		}
	}
	return nil
}
