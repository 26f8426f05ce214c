package credits

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/database"
)

// What [manyUses] is told of an operation.
const (
	useSlow = iota // its account goes the long way
	useDebit
	useReserve
	useSettle
	useRelease
)

// manyUses does debits, reservations, settlements and releases of plain accounts, one statement for all of a group and
// without a transaction around it. $3 and on are arrays with an element per operation, in the order of arrival. It returns
// the operations that it has done; an account of which one cannot be done here keeps all of them for the long way.
//
// Holds change only together with their account's row. A settlement is so right if that row is still the one (ctid) that
// was there when the hold was read: where another process was faster, the account matches no more and nothing happens.
// The account is locked first, as everywhere. Within the head every order of the operations gives the same answers, so
// that they are summed up per account, and each gets the numbers that it would have left behind in its turn.
//
// The equality in HAVING, of which PostgreSQL expects little, makes it look accounts and holds up by their keys although
// tables that are small, or were never analysed, seem cheap to scan.
const manyUses = `WITH o AS MATERIALIZED (
	SELECT u.i, u.kind, COALESCE(h.account_id, u.account) AS account, u.hold, u.id, u.amount, u.ttl, u.over, COALESCE(h.service, u.service) AS service,
		COALESCE(h.reason, u.reason) AS reason, COALESCE(h.reference, u.reference) AS reference, u.metadata, u.key, u.mark, h.lot_id::text AS lot,
		CASE u.kind WHEN 3 THEN h.remaining - u.amount WHEN 4 THEN h.remaining ELSE -u.amount END AS free,
		CASE u.kind WHEN 1 THEN 0 WHEN 2 THEN u.amount ELSE -h.remaining END AS held,
		CASE WHEN u.kind IN (1, 3) THEN 1 ELSE 0 END AS entries,
		COALESCE(CASE u.kind
			WHEN 1 THEN u.key IS NULL OR (SELECT 1 FROM qs_credit_entries WHERE account_id = u.account AND idempotency_key = u.key LIMIT 1) IS NULL
			WHEN 2 THEN u.key IS NULL OR (SELECT 1 FROM qs_credit_holds WHERE account_id = u.account AND idempotency_key = u.key
				AND status IN ('open', 'settled') LIMIT 1) IS NULL
			WHEN 0 THEN FALSE
			ELSE h.status = 'open' AND h.lot_id IS NOT NULL AND h.remaining >= u.amount END, FALSE) AS ok
	FROM unnest($3::integer[], $4::text[], $5::uuid[], $6::uuid[], $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[],
			$13::text[], $14::text[], $15::text[]) WITH ORDINALITY
		AS u(kind, account, hold, id, amount, ttl, over, service, reason, reference, metadata, key, mark, i)
	LEFT JOIN LATERAL (SELECT account_id, remaining, status, lot_id, service, reason, reference FROM qs_credit_holds
		WHERE id = u.hold LIMIT 1) AS h ON TRUE),
v AS MATERIALIZED (
	SELECT g.*, s.place FROM (SELECT account, sum(free)::bigint AS free, sum(held)::bigint AS held, sum(entries) AS entries,
			COALESCE(sum(amount) FILTER (WHERE kind IN (1, 2)), 0)::bigint AS uses, min(ttl) AS ttl, min(lot)::uuid AS lot, max(lot)::uuid AS last
		FROM o GROUP BY account HAVING count(*) FILTER (WHERE ok) = count(*)) AS g
	CROSS JOIN LATERAL (SELECT ctid AS place FROM qs_credit_accounts WHERE id = g.account LIMIT 1) AS s
	ORDER BY g.account COLLATE "C"),
a AS (
	UPDATE qs_credit_accounts AS t SET available = available + v.free, head_free = head_free + v.free, held = t.held + v.held,
		last_seq = last_seq + v.entries, last_at = CASE WHEN v.entries > 0 THEN GREATEST(last_at, $1::timestamptz) ELSE last_at END,
		next_change_at = LEAST(next_change_at, GREATEST(last_at, $1::timestamptz) + v.ttl * INTERVAL '1 microsecond')
	FROM v WHERE t.id = v.account AND head_free >= v.uses AND ` + plainAccount + `
		AND (v.lot IS NULL OR (t.ctid = v.place AND head_lot = v.lot AND head_lot = v.last AND head_free > v.uses))
		AND low = (available + v.free < COALESCE(low_at, $2::bigint))
	RETURNING t.id, t.last_seq - v.entries AS seq, GREATEST(last_at, $1::timestamptz) AS at, available - v.free AS available, t.held - v.held AS held,
		head_lot, head_source),
w AS MATERIALIZED (
	SELECT o.i, o.kind, o.account, o.hold, o.id, o.amount, o.ttl, o.over, o.service, o.reason, o.reference, o.metadata, o.key, o.mark, a.at, a.head_lot,
		a.head_source, a.seq + sum(o.entries) OVER p AS seq, a.available + (sum(o.free) OVER p)::bigint AS available,
		a.held + (sum(o.held) OVER p)::bigint AS held
	FROM a JOIN o ON o.account = a.id WINDOW p AS (PARTITION BY o.account ORDER BY o.i)),
made AS (
	INSERT INTO qs_credit_holds (id, account_id, amount, remaining, status, over, lot_id, service, reason, reference, idempotency_key, fingerprint,
		expires_at, created_at)
	SELECT id, account, amount, amount, 'open', over, head_lot, service, reason, reference, key, mark, at + ttl * INTERVAL '1 microsecond', at
	FROM w WHERE kind = 2),
ended AS (
	UPDATE qs_credit_holds AS t SET remaining = 0, status = CASE w.kind WHEN 3 THEN 'settled' ELSE 'released' END, entry_id = w.id
	FROM w WHERE t.id = w.hold),
e AS (
	INSERT INTO qs_credit_entries (id, account_id, seq, kind, amount, balance, available, lot_id, service, reason, reference, metadata, idempotency_key,
		fingerprint, created_at)
	SELECT id, account, seq, 'debit', -amount, available + held, available, head_lot, service, reason, reference, metadata, key, mark, at
	FROM w WHERE kind IN (1, 3))
SELECT i, account, seq, available, held, at, head_lot, head_source, service, reason, reference FROM w`

var usedRows = newBulk("", 0, `kind integer, account text, hold uuid, id uuid, amount bigint, ttl bigint, over text, service text, reason text,
	reference text, metadata text, key text, mark text`)

// used is an operation that [manyUses] has done, with the account's numbers after it.
type used struct {
	I         int           `db:"i"`
	Account   string        `db:"account"`
	Seq       int64         `db:"seq"`
	Available Amount        `db:"available"`
	Held      Amount        `db:"held"`
	At        database.Time `db:"at"`
	Head      uuid.UUID     `db:"head_lot"`
	Source    Source        `db:"head_source"`
	Service   string        `db:"service"`
	Reason    string        `db:"reason"`
	Reference string        `db:"reference"`
}

// use is an operation as [manyUses] takes it.
type use struct {
	kind              int
	account           *string
	hold, id          *uuid.UUID
	amount            Amount
	ttl               *Amount // microseconds
	over              Over
	service           string
	reason, reference string
	metadata          map[string]string
	key, mark         string
}

// uses tries [manyUses] on operations and tells which of them it has done. After an error it is not known whether they
// have happened.
func (l *Ledger) uses(ctx context.Context, ops []op) (done []bool, err error) {
	done = make([]bool, len(ops))
	if !l.fast {
		return done, nil
	}
	list, err := usesOf(ops)
	if err != nil || list == nil {
		return done, err
	}
	var values rows
	for _, u := range list {
		metadata, err := encodeMetadata(u.metadata)
		if err != nil {
			return done, nil //nolint:nilerr // the long way tells whose metadata it is
		}
		values.add(u.kind, u.account, u.hold, u.id, u.amount, u.ttl, string(u.over), u.service, u.reason, u.reference, metadata, orNull(u.key), orNull(u.mark))
	}
	arrays, err := values.arrays(usedRows)
	if err != nil {
		return done, err
	}
	var found []used
	err = l.statements.rows(ctx, &found, manyUses, append([]any{database.At(l.now()), int64(l.lowAt)}, arrays...)...)
	switch {
	case refused(err):
		return done, nil
	case err != nil:
		return done, fmt.Errorf("credits: use credits: %w", err)
	}
	for _, f := range found {
		i := f.I - 1
		f.answer(ops[i], list[i])
		done[i] = true
	}
	return done, nil
}

// answer tells an operation what it has come to.
func (f used) answer(o op, u use) {
	switch o := o.(type) {
	case *debitOp:
		o.entry = f.entry(u)
	case *settleOp:
		u.service, u.reason, u.reference = f.Service, f.Reason, f.Reference
		o.entry = f.entry(u)
	case *reserveOp:
		o.hold = Hold{ID: *u.id, Account: f.Account, Amount: u.amount, Remaining: u.amount, Status: HoldOpen, Over: u.over, Service: u.service, Reason: u.reason,
			Reference: u.reference, ExpiresAt: f.At.Add(time.Duration(*u.ttl) * time.Microsecond), CreatedAt: f.At.Time}
	}
}

func (f used) entry(u use) Entry {
	e := Entry{ID: *u.id, Account: f.Account, Seq: f.Seq, Kind: KindDebit, Amount: -u.amount, Balance: f.Available + f.Held, Available: f.Available,
		Service: u.service, Reason: u.reason, Reference: u.reference, CreatedAt: f.At.Time, Allocations: []Allocation{{f.Head, f.Source, -u.amount}}}
	if len(u.metadata) > 0 {
		e.Metadata = u.metadata
	}
	return e
}

// usesOf turns operations into uses; nil when all have to go the long way. What looks at the same key or hold twice does,
// and an operation of another kind takes its accounts with it; those follow the uses of the operations.
func usesOf(ops []op) ([]use, error) {
	list := make([]use, len(ops), len(ops)+1)
	slow := 0
	holds := map[uuid.UUID]bool{}
	type named struct {
		kind int
		key
	}
	keys := map[named]bool{}
	for i, o := range ops {
		u, others, err := useOf(o)
		if err != nil {
			return nil, err
		}
		if u.key != "" {
			name := named{u.kind, key{*u.account, u.key}}
			if keys[name] {
				u.kind = useSlow
			}
			keys[name] = true
		}
		if u.hold != nil {
			if holds[*u.hold] {
				u.kind = useSlow
			}
			holds[*u.hold] = true
		}
		if u.kind == useSlow {
			slow++
		}
		list[i] = u
		list = append(list, others...)
	}
	if slow == len(ops) {
		return nil, nil
	}
	return list, nil
}

// useOf turns an operation into a use. others are of the accounts that it looks at, where it is of another kind.
func useOf(o op) (u use, others []use, err error) {
	var id uuid.UUID
	switch o := o.(type) {
	case *debitOp:
		id, err = newID()
		u = use{kind: useDebit, account: &o.p.Account, id: &id, amount: o.p.Amount, service: o.p.Service, reason: o.p.Reason, reference: o.p.Reference,
			metadata: o.p.Metadata, key: o.p.IdempotencyKey, mark: o.mark}
	case *reserveOp:
		id, err = newHoldID(o.p.Account)
		ttl := Amount(o.p.TTL.Microseconds())
		u = use{kind: useReserve, account: &o.p.Account, id: &id, amount: o.p.Amount, ttl: &ttl, over: o.p.Over, service: o.p.Service, reason: o.p.Reason,
			reference: o.p.Reference, key: o.p.IdempotencyKey, mark: o.mark}
	case *settleOp:
		id, err = newID()
		u = use{kind: useSettle, hold: &o.p.Hold, id: &id, amount: o.p.Amount, metadata: o.metadata()}
		if o.p.Partial || o.p.IdempotencyKey != "" {
			u.kind = useSlow
		}
	case releaseOp:
		hold := uuid.UUID(o)
		return use{kind: useRelease, hold: &hold}, nil, nil
	default:
		n := &needs{accounts: map[string]*need{}}
		o.needs(n)
		for account := range n.accounts {
			others = append(others, use{account: &account})
		}
		for _, hold := range n.holds {
			others = append(others, use{hold: &hold})
		}
		return use{}, others, nil
	}
	if u.amount == 0 {
		u.kind = useSlow
	}
	return u, nil, err
}

// ofHold tells that an operation is about a hold, which [manyUses] does and [manyDebits] does not.
func ofHold(o op) bool {
	switch o.(type) {
	case *reserveOp, *settleOp, releaseOp:
		return true
	}
	return false
}

// usesOfGroup tries [manyUses] on the calls of a group and returns those that have to go the long way.
func (l *Ledger) usesOfGroup(ctx context.Context, calls []*call) (rest []*call) {
	ops := make([]op, len(calls))
	for i, c := range calls {
		ops[i] = c.op
	}
	done, err := l.uses(ctx, ops)
	for i, c := range calls {
		switch {
		case err != nil:
			c.finish(err)
		case done[i]:
			c.finish(nil)
		default:
			rest = append(rest, c)
		}
	}
	return rest
}
