package credits

import (
	"context"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// debitAccount changes a plain account by the debits of a group, on SQLite, where statements cost no way to a server. It
// returns what the account was before, and no row where anything needs a longer look.
var debitAccount = `UPDATE qs_credit_accounts AS t SET available = available - ?2, head_free = head_free - ?2, last_seq = last_seq + ?3,
	last_at = MAX(last_at, ?1)
	WHERE id = ?4 AND head_free >= ?2 AND ` + plainAccount("?1") + ` AND low = (available - ?2 < COALESCE(low_at, ?5))
		AND (?6 IS NULL OR NOT EXISTS (SELECT 1 FROM qs_credit_entries WHERE account_id = ?4 AND idempotency_key IN (SELECT value FROM json_each(?6))))
	RETURNING last_seq - ?3, last_at, available + ?2, held, head_lot, head_source`

// sendDebits is [Ledger.sendUses] on SQLite, for queues of debits alone.
func (l *Ledger) sendDebits(ctx context.Context, queues []*queue) (done []*queue, err error) {
	committing := false
	err = l.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		done, committing = nil, false
		w := l.newWork(tx)
		for _, q := range queues {
			if ok, err := w.debit(ctx, q); err != nil {
				return err
			} else if ok {
				done = append(done, q)
			}
		}
		err := w.flushSQLite(ctx, []section{{insertEntries, &w.entries}})
		committing = err == nil
		return err
	})
	if err != nil && !committing {
		return nil, nil
	}
	return done, err
}

// debit tries [debitAccount].
func (w *work) debit(ctx context.Context, q *queue) (done bool, err error) {
	if q.ends > 0 || q.held > 0 {
		return false, nil
	}
	var keys any
	if len(q.entryKeys) > 0 {
		keys = w.list(q.entryKeys)
	}
	b := &q.was
	err = w.row(ctx, debitAccount, database.At(w.now), q.taken, q.entries, q.account, w.l.lowAt, keys).
		Scan(&b.seq, &b.at, &b.available, &b.held, &b.head, &b.source)
	if database.IsNoRows(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	q.tell()
	for i := range q.uses {
		u := &q.uses[i]
		e := &u.op.(*debitOp).entry
		w.entries.add(e.ID, e.Account, e.Seq, string(e.Kind), e.Amount, Amount(0), e.Balance, e.Available, b.head, "", e.Service, e.Reason, e.Reference,
			u.text, orNull(u.key), orNull(u.mark), b.at)
	}
	return true, nil
}
