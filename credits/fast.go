package credits

import (
	"context"
	"fmt"
	"strings"

	"github.com/quickscale/quickscale/internal/database"
)

// plainAccount is the condition for a use of credits that needs to look at the account's row t alone: the head covers
// it, and there is no debt, limit, expiry or mark to look after at the time now.
func plainAccount(now string) string {
	return `t.debt = 0 AND t.frozen = '' AND t.erased_at IS NULL AND t.day_limit IS NULL AND t.month_limit IS NULL
		AND (t.next_change_at IS NULL OR t.next_change_at > ` + now + `)`
}

// oneDebit does a debit of a plain account in one statement, without a transaction around it. Row locks make it exact:
// a statement that waited for the row looks at it afresh. It finds no row where anything needs a longer look. $1 is the
// time, $2 the default low mark.
var oneDebit = `WITH a AS (
	UPDATE qs_credit_accounts AS t SET available = available - $4::bigint, head_free = head_free - $4::bigint, last_seq = last_seq + 1,
		last_at = GREATEST(last_at, $1::timestamptz)
	WHERE id = $3::text AND head_free >= $4::bigint AND ` + plainAccount("$1::timestamptz") + `
		AND (low OR available - $4::bigint >= COALESCE(low_at, $2::bigint))
		AND ($5::text IS NULL OR NOT EXISTS (SELECT 1 FROM qs_credit_entries WHERE account_id = $3::text AND idempotency_key = $5::text))
	RETURNING last_seq, last_at, available, held, head_lot, head_source)
INSERT INTO qs_credit_entries (id, account_id, seq, kind, amount, balance, available, lot_id, service, reason, reference, metadata, idempotency_key,
	fingerprint, created_at)
SELECT $6::uuid, $3::text, a.last_seq, 'debit', -$4::bigint, a.available + a.held, a.available, a.head_lot, $7::text, $8::text, $9::text, $10::text,
	$5::text, $11::text, a.last_at FROM a
RETURNING seq, balance, available, lot_id, (SELECT head_source FROM a), created_at`

// one tries [oneDebit]. done is false where the debit has to go the long way; nothing has happened then.
func (l *Ledger) one(ctx context.Context, o *debitOp) (done bool, err error) {
	if o.p.Amount == 0 {
		return false, nil
	}
	id, err := newID()
	if err != nil {
		return false, err
	}
	metadata, err := encodeMetadata(o.p.Metadata)
	if err != nil {
		return false, err
	}
	e := Entry{ID: id, Account: o.p.Account, Kind: KindDebit, Amount: -o.p.Amount, Service: o.p.Service, Reason: o.p.Reason, Reference: o.p.Reference}
	var at database.Time
	share := Allocation{Amount: -o.p.Amount}
	err = l.statements.row(ctx, oneDebit, database.At(l.now()), int64(l.lowAt), o.p.Account, int64(o.p.Amount), orNull(o.p.IdempotencyKey), id,
		o.p.Service, o.p.Reason, o.p.Reference, metadata, orNull(o.mark)).Scan(&e.Seq, &e.Balance, &e.Available, &share.Lot, &share.Source, &at)
	switch {
	case database.IsNoRows(err), refused(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("credits: debit account %s: %w", o.p.Account, err)
	}
	e.CreatedAt, e.Allocations = at.Time, []Allocation{share}
	if len(o.p.Metadata) > 0 {
		e.Metadata = o.p.Metadata
	}
	o.entry = e
	return true, nil
}

// refused tells that the server has answered with an error of the statement, which so has done nothing. After other
// errors it may have: a connection that was lost (class 08) or taken down (57P) may have been so after the commit.
func refused(err error) bool {
	state := database.SQLState(err)
	return state != "" && !strings.HasPrefix(state, "08") && !strings.HasPrefix(state, "57P")
}
