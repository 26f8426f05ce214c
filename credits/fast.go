package credits

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/database"
)

// plainAccount is the condition for a use of credits that needs to look at the account's row t alone: the head covers
// it, and there is no debt, limit, expiry or mark to look after. $1 is the time, $2 the default low mark.
const plainAccount = `t.debt = 0 AND t.frozen = '' AND t.erased_at IS NULL AND t.day_limit IS NULL AND t.month_limit IS NULL
	AND (t.next_change_at IS NULL OR t.next_change_at > $1::timestamptz)`

// oneDebit does a debit of a plain account in one statement, without a transaction around it. Row locks make it exact:
// a statement that waited for the row looks at it afresh. It finds no row where anything needs a longer look.
const oneDebit = `WITH a AS (
	UPDATE qs_credit_accounts AS t SET available = available - $4::bigint, head_free = head_free - $4::bigint, last_seq = last_seq + 1,
		last_at = GREATEST(last_at, $1::timestamptz)
	WHERE id = $3::text AND head_free >= $4::bigint AND ` + plainAccount + `
		AND (low OR available - $4::bigint >= COALESCE(low_at, $2::bigint))
		AND ($5::text IS NULL OR NOT EXISTS (SELECT 1 FROM qs_credit_entries WHERE account_id = $3::text AND idempotency_key = $5::text))
	RETURNING last_seq, last_at, available, held, head_lot, head_source)
INSERT INTO qs_credit_entries (id, account_id, seq, kind, amount, balance, available, lot_id, service, reason, reference, metadata, idempotency_key,
	fingerprint, created_at)
SELECT $6::uuid, $3::text, a.last_seq, 'debit', -$4::bigint, a.available + a.held, a.available, a.head_lot, $7::text, $8::text, $9::text, $10::text,
	$5::text, $11::text, a.last_at FROM a
RETURNING seq, balance, available, lot_id, (SELECT head_source FROM a), created_at`

// manyDebits is oneDebit for many debits of several accounts. The first arrays have an element per account: its id, the
// sum of its debits, the numbers of its first debit and of its last in the other arrays, and its keys. It returns the
// accounts that it has changed; of the others nothing has happened.
const manyDebits = `WITH a AS (
	UPDATE qs_credit_accounts AS t SET available = available - v.total, head_free = head_free - v.total, last_seq = last_seq + v.upto - v.first + 1,
		last_at = GREATEST(last_at, $1::timestamptz)
	FROM unnest($3::text[], $4::bigint[], $5::integer[], $6::integer[], $7::text[]) AS v(account, total, first, upto, keys)
	WHERE t.id = v.account AND head_free >= v.total AND ` + plainAccount + `
		AND (low OR available - v.total >= COALESCE(low_at, $2::bigint))
		AND (v.keys IS NULL OR NOT EXISTS (SELECT 1 FROM qs_credit_entries AS e WHERE e.account_id = t.id AND e.idempotency_key = ANY(v.keys::text[])))
	RETURNING t.id, last_seq - (v.upto - v.first + 1) AS seq, last_at, available + v.total AS available, held, head_lot, head_source, v.first, v.upto),
e AS (INSERT INTO qs_credit_entries (id, account_id, seq, kind, amount, balance, available, lot_id, service, reason, reference, metadata,
		idempotency_key, fingerprint, created_at)
	SELECT ($8::uuid[])[i], a.id, a.seq + i - a.first + 1, 'debit', -($9::bigint[])[i], a.available + a.held - ($10::bigint[])[i],
		a.available - ($10::bigint[])[i], a.head_lot, ($11::text[])[i], ($12::text[])[i], ($13::text[])[i], ($14::text[])[i], ($15::text[])[i],
		($16::text[])[i], a.last_at
	FROM a CROSS JOIN LATERAL generate_series(a.first, a.upto) AS i)
SELECT id, seq, last_at, available, held, head_lot, head_source FROM a`

var (
	debitedAccounts = newBulk("", 0, `account text, total bigint, first integer, upto integer, keys text`)
	debitedEntries  = newBulk("", 0, `id uuid, amount bigint, sum bigint, service text, reason text, reference text, metadata text, key text, mark text`)
)

// one tries [oneDebit]. done is false where the debit has to go the long way; nothing has happened then.
func (l *Ledger) one(ctx context.Context, o *debitOp) (done bool, err error) {
	if !l.fast || o.p.Amount == 0 {
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
	a := debited{ID: o.p.Account}
	var e Entry
	err = l.statements.row(ctx, oneDebit, database.At(l.now()), int64(l.lowAt), o.p.Account, int64(o.p.Amount), orNull(o.p.IdempotencyKey), id,
		o.p.Service, o.p.Reason, o.p.Reference, metadata, orNull(o.mark)).Scan(&e.Seq, &e.Balance, &e.Available, &a.Head, &a.Source, &a.At)
	switch {
	case database.IsNoRows(err), refused(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("credits: debit account %s: %w", o.p.Account, err)
	}
	o.entry = a.entry(o, id, e.Seq, e.Balance, e.Available)
	return true, nil
}

// refused tells that the server has answered with an error of the statement, which so has done nothing. After other
// errors it may have: a connection that was lost (class 08) or taken down (57P) may have been so after the commit.
func refused(err error) bool {
	state := database.SQLState(err)
	return state != "" && !strings.HasPrefix(state, "08") && !strings.HasPrefix(state, "57P")
}

// debited is an account that [manyDebits] has changed, as it was before.
type debited struct {
	ID        string        `db:"id"`
	Seq       int64         `db:"seq"`
	At        database.Time `db:"last_at"`
	Available Amount        `db:"available"`
	Held      Amount        `db:"held"`
	Head      uuid.UUID     `db:"head_lot"`
	Source    Source        `db:"head_source"`
}

func (a debited) entry(o *debitOp, id uuid.UUID, seq int64, balance, available Amount) Entry {
	e := Entry{ID: id, Account: a.ID, Seq: seq, Kind: KindDebit, Amount: -o.p.Amount, Balance: balance, Available: available, Service: o.p.Service,
		Reason: o.p.Reason, Reference: o.p.Reference, CreatedAt: a.At.Time, Allocations: []Allocation{{a.Head, a.Source, -o.p.Amount}}}
	if len(o.p.Metadata) > 0 {
		e.Metadata = o.p.Metadata
	}
	return e
}

// queue is the debits of one account in a group, in the order in which they came.
type queue struct {
	account string
	calls   []*call
	total   Amount
	keys    []string
	slow    bool
	first   int // the place of its first debit among those that are sent
}

// many tries [manyDebits] on the debits of a group, or [manyUses] where there are holds in it too, and returns the calls
// that have to go the long way. Accounts with other operations in the group do that with all of theirs, so that the order
// per account is kept.
func (l *Ledger) many(ctx context.Context, calls []*call) (rest []*call) {
	if !l.fast {
		return calls
	}
	if slices.ContainsFunc(calls, func(c *call) bool { return ofHold(c.op) }) {
		return l.usesOfGroup(ctx, calls)
	}
	queues, order := queuesOf(calls)
	if len(order) == 0 {
		return calls
	}
	slices.SortFunc(order, func(a, b *queue) int { return strings.Compare(a.account, b.account) })
	var accounts, entries rows
	var ids []uuid.UUID
	for _, q := range order {
		q.first = len(ids)
		var sum Amount
		for _, c := range q.calls {
			o := c.op.(*debitOp)
			id, err := newID()
			if err != nil {
				return calls
			}
			metadata, err := encodeMetadata(o.p.Metadata)
			if err != nil {
				return calls
			}
			ids = append(ids, id)
			sum += o.p.Amount
			entries.add(id, o.p.Amount, sum, o.p.Service, o.p.Reason, o.p.Reference, metadata, orNull(o.p.IdempotencyKey), orNull(o.mark))
		}
		var keys *string
		if len(q.keys) > 0 {
			text := listOf(database.Postgres, q.keys).(string)
			keys = &text
		}
		accounts.add(q.account, q.total, q.first+1, len(ids), keys)
	}
	done, err := l.sendDebits(ctx, &accounts, &entries)
	if err != nil && !refused(err) {
		// Whether it happened is not known.
		for _, q := range order {
			for _, c := range q.calls {
				c.finish(fmt.Errorf("credits: debit account %s: %w", q.account, err))
			}
		}
		return slices.DeleteFunc(calls, func(c *call) bool { return c.finished })
	}
	for _, a := range done {
		q := queues[a.ID]
		seq, balance, available := a.Seq, a.Available+a.Held, a.Available
		for i, c := range q.calls {
			o := c.op.(*debitOp)
			seq, balance, available = seq+1, balance-o.p.Amount, available-o.p.Amount
			o.entry = a.entry(o, ids[q.first+i], seq, balance, available)
			c.finish(nil)
		}
	}
	return slices.DeleteFunc(calls, func(c *call) bool { return c.finished })
}

// queuesOf sorts the debits of a group without holds by account, without those that must go the long way.
func queuesOf(calls []*call) (queues map[string]*queue, order []*queue) {
	queues = map[string]*queue{}
	of := func(account string) *queue {
		q := queues[account]
		if q == nil {
			q = &queue{account: account}
			queues[account] = q
		}
		return q
	}
	for _, c := range calls {
		n := &needs{accounts: map[string]*need{}}
		o, ok := c.op.(*debitOp)
		if !ok {
			c.op.needs(n)
			for account := range n.accounts {
				of(account).slow = true
			}
			continue
		}
		q := of(o.p.Account)
		total, err := q.total.Add(o.p.Amount)
		q.slow = q.slow || err != nil || o.p.Amount == 0 || (o.p.IdempotencyKey != "" && slices.Contains(q.keys, o.p.IdempotencyKey))
		q.total = total
		q.calls = append(q.calls, c)
		if o.p.IdempotencyKey != "" {
			q.keys = append(q.keys, o.p.IdempotencyKey)
		}
	}
	for _, q := range queues {
		if !q.slow {
			order = append(order, q)
		}
	}
	return queues, order
}

func (l *Ledger) sendDebits(ctx context.Context, accounts, entries *rows) (done []debited, err error) {
	args := []any{database.At(l.now()), int64(l.lowAt)}
	for _, part := range []section{{debitedAccounts, accounts}, {debitedEntries, entries}} {
		arrays, err := part.rows.arrays(part.bulk)
		if err != nil {
			return nil, err
		}
		args = append(args, arrays...)
	}
	err = l.statements.rows(ctx, &done, manyDebits, args...)
	return done, err
}
