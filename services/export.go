package services

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/google/uuid"
)

// exportedCall is a call with all that is kept of it.
type exportedCall struct {
	Record

	IdempotencyKey *string `json:"idempotency_key,omitempty"`
	// Input is there while the call waits or runs in the background.
	Input json.RawMessage `json:"input,omitempty"`
}

// Export writes all calls of an account as one JSON array, oldest first, with the inputs and outputs that are kept, for its
// owner (GDPR, article 20). They are read and written page after page.
func (s *Services) Export(ctx context.Context, w io.Writer, account string) error {
	s.Flush()
	// Runs along qs_service_calls_account.
	const page = `SELECT ` + callColumns + ` FROM qs_service_calls WHERE account_id = ? AND id > ? ORDER BY id LIMIT ?`
	text, last, separator := []byte("["), uuid.Nil, []byte(nil)
	for {
		var rows []callRow
		if err := s.db.Select(ctx, &rows, page, account, last, MaxPage); err != nil {
			return fmt.Errorf("services: export account %s: %w", account, err)
		}
		for _, r := range rows {
			record, err := r.record()
			if err != nil {
				return err
			}
			call := exportedCall{Record: record, IdempotencyKey: r.Key}
			if r.Input != nil {
				call.Input = json.RawMessage(*r.Input)
			}
			one, err := json.Marshal(call)
			if err != nil {
				return fmt.Errorf("services: export call %s: %w", r.ID, err)
			}
			text = append(append(text, separator...), one...)
			last, separator = r.ID, []byte(",\n")
		}
		done := len(rows) < MaxPage
		if done {
			text = append(text, "]\n"...)
		}
		if _, err := w.Write(text); err != nil {
			return fmt.Errorf("services: export account %s: %w", account, err)
		}
		if done {
			return nil
		}
		text = text[:0]
	}
}
