package credits

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/database"
)

// usedColumns are the parameters of [usesStatement]: of the accounts, of the holds that are made, of those that end, and of
// the entries.
var (
	ofAccounts = []column{{"n", "integer"}, {"account", "text"}, {"free", "bigint"}, {"held", "bigint"}, {"taken", "bigint"}, {"entries", "integer"},
		{"ends", "integer"}, {"ttl", "bigint"}, {"lot", "uuid"}, {"entry_keys", "text"}, {"hold_keys", "text"}}
	ofMade = []column{{"n", "integer"}, {"id", "uuid"}, {"amount", "bigint"}, {"ttl", "bigint"}, {"over", "text"}, {"service", "text"}, {"reason", "text"},
		{"reference", "text"}, {"key", "text"}, {"mark", "text"}}
	ofEnded   = []column{{"n", "integer"}, {"id", "uuid"}, {"remaining", "bigint"}, {"entry", "uuid"}}
	ofEntries = []column{{"n", "integer"}, {"id", "uuid"}, {"k", "integer"}, {"amount", "bigint"}, {"free", "bigint"}, {"held", "bigint"}, {"service", "text"},
		{"reason", "text"}, {"reference", "text"}, {"metadata", "text"}, {"key", "text"}, {"mark", "text"}}
)

// unnested is a subquery of a row per element of arrays of p. Arrays that are shorter are filled up with NULL.
func unnested(prefix string, columns []column) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = "unnest(" + prefix + c.name + ") AS " + c.name
	}
	return "(SELECT " + strings.Join(parts, ", ") + " FROM p)"
}

// usesStatement does debits, reservations, settlements and releases of plain accounts, one statement for all of a group
// and without a transaction around it. $1 is the time and $2 the default low mark. It returns the accounts that it has
// changed, as they were before; of the others nothing has happened.
//
// The account's row is locked first, as everywhere, and a statement that waited for it looks at it afresh. Within the head
// every order of the uses comes to the same, so that they are summed up per account. Holds are ended as they were known
// to be; where one is not so any more, because another process was faster, the statement fails as a whole by dividing by
// zero, and everything goes the long way.
//
// The arrays are hidden in p from PostgreSQL's planner, which otherwise would rather plan each time for their lengths than
// keep a plan.
func usesStatement(made, ended, entries bool) string {
	var arrays []string
	next := func(prefix string, columns []column) string {
		for _, c := range columns {
			arrays = append(arrays, fmt.Sprintf("$%d::%s[] AS %s", firstArray+len(arrays), c.kind, prefix+c.name))
		}
		return unnested(prefix, columns)
	}
	var b strings.Builder
	b.WriteString(`,
a AS (
	UPDATE qs_credit_accounts AS t SET available = available + v.free, head_free = head_free + v.free, held = t.held + v.held,
		last_seq = last_seq + v.entries, last_at = CASE WHEN v.entries > 0 THEN GREATEST(last_at, $1::timestamptz) ELSE last_at END,
		next_change_at = LEAST(next_change_at, GREATEST(last_at, $1::timestamptz) + v.ttl * INTERVAL '1 microsecond')
	FROM ` + next("a_", ofAccounts) + ` AS v
	WHERE t.id = v.account AND head_free >= v.taken AND ` + plainAccount("$1::timestamptz") + `
		AND (v.lot IS NULL OR (head_lot = v.lot AND head_free > v.taken))
		AND low = (available + v.free < COALESCE(low_at, $2::bigint))
		AND (v.entry_keys IS NULL OR NOT EXISTS (SELECT 1 FROM qs_credit_entries AS e WHERE e.account_id = t.id AND e.idempotency_key = ANY(v.entry_keys::text[])))
		AND (v.hold_keys IS NULL OR NOT EXISTS (SELECT 1 FROM qs_credit_holds AS h WHERE h.account_id = t.id AND h.idempotency_key = ANY(v.hold_keys::text[])
			AND h.status IN ('open', 'settled')))
	RETURNING v.n, v.ends, t.id, t.last_seq - v.entries AS seq, GREATEST(last_at, $1::timestamptz) AS at, available - v.free AS available,
		t.held - v.held AS held, head_lot, head_source)`)
	if made {
		b.WriteString(`,
made AS (
	INSERT INTO qs_credit_holds (id, account_id, amount, remaining, status, over, lot_id, service, reason, reference, idempotency_key, fingerprint,
		expires_at, created_at)
	SELECT u.id, a.id, u.amount, u.amount, 'open', u.over, a.head_lot, COALESCE(u.service, ''), u.reason, COALESCE(u.reference, ''), u.key, u.mark,
		a.at + u.ttl * INTERVAL '1 microsecond', a.at
	FROM ` + next("m_", ofMade) + ` AS u JOIN a ON a.n = u.n)`)
	}
	if ended {
		b.WriteString(`,
ended AS (
	UPDATE qs_credit_holds AS t SET remaining = 0, status = CASE WHEN u.entry IS NULL THEN 'released' ELSE 'settled' END, entry_id = u.entry
	FROM ` + next("d_", ofEnded) + ` AS u JOIN a ON a.n = u.n
	WHERE t.id = u.id AND t.status = 'open' AND t.remaining = u.remaining
	RETURNING 1)`)
	}
	if entries {
		b.WriteString(`,
e AS (
	INSERT INTO qs_credit_entries (id, account_id, seq, kind, amount, balance, available, lot_id, service, reason, reference, metadata, idempotency_key,
		fingerprint, created_at)
	SELECT u.id, a.id, a.seq + u.k, 'debit', -u.amount, a.available + a.held + u.free + u.held, a.available + u.free, a.head_lot, COALESCE(u.service, ''),
		u.reason, COALESCE(u.reference, ''), COALESCE(u.metadata, '` + noMetadata + `'), u.key, u.mark, a.at
	FROM ` + next("e_", ofEntries) + ` AS u JOIN a ON a.n = u.n)`)
	}
	b.WriteString(`
SELECT n, seq, at, available, held, head_lot, head_source`)
	if ended {
		b.WriteString(`, 1 / CASE WHEN (SELECT count(*) FROM ended) = (SELECT sum(ends) FROM a) THEN 1 ELSE 0 END`)
	} else {
		b.WriteString(`, 1`)
	}
	b.WriteString(` FROM a`)
	return "WITH p AS MATERIALIZED (SELECT " + strings.Join(arrays, ", ") + ")" + b.String()
}

// firstArray is the number of the first parameter that is an array.
const firstArray = 3

// usesStatements are the texts of [usesStatement] by what there is to be done.
var usesStatements = func() (texts [8]string) {
	for i := range texts {
		texts[i] = usesStatement(i&1 > 0, i&2 > 0, i&4 > 0)
	}
	return texts
}()

// before is what an account was before [usesStatement] changed it.
type before struct {
	seq             int64
	at              database.Time
	available, held Amount
	head            uuid.UUID
	source          Source
}

// sendUses does the uses of queues by [usesStatement] and returns those queues that are done; after an error those of
// which it is not known.
func (l *Ledger) sendUses(ctx context.Context, queues []*queue) (done []*queue, err error) {
	accounts, made, ended, entries := newArrays(ofAccounts), newArrays(ofMade), newArrays(ofEnded), newArrays(ofEntries)
	for n, q := range queues {
		accounts.int(int64(n)).words(q.account).int(int64(q.free)).int(int64(q.held)).int(int64(q.taken)).int(int64(q.entries)).int(int64(q.ends))
		if q.ttl == 0 {
			accounts.null()
		} else {
			accounts.int(q.ttl.Microseconds())
		}
		if q.lot == nil {
			accounts.null()
		} else {
			accounts.uuid(*q.lot)
		}
		accounts.wordsOrNull(listOrEmpty(q.entryKeys)).wordsOrNull(listOrEmpty(q.holdKeys))
		var free, held Amount
		k := 0
		for i := range q.uses {
			u := &q.uses[i]
			free, held = free+u.free(), held+u.held()
			switch o := u.op.(type) {
			case *reserveOp:
				made.int(int64(n)).uuid(u.id).int(int64(u.amount)).int(o.p.TTL.Microseconds()).words(string(o.p.Over))
				made.words(u.service).words(u.reason).words(u.reference).wordsOrNull(u.key).wordsOrNull(u.mark)
				continue
			case *settleOp:
				ended.int(int64(n)).uuid(u.hold.ID).int(int64(u.hold.Remaining)).uuid(u.id)
			case releaseOp:
				ended.int(int64(n)).uuid(u.hold.ID).int(int64(u.hold.Remaining)).null()
				continue
			}
			k++
			entries.int(int64(n)).uuid(u.id).int(int64(k)).int(int64(u.amount)).int(int64(free)).int(int64(held))
			entries.words(u.service).words(u.reason).words(u.reference).words(u.text).wordsOrNull(u.key).wordsOrNull(u.mark)
		}
	}
	args := accounts.literals([]any{database.At(l.now()), int64(l.lowAt)})
	which := 0
	for i, part := range []*arrays{made, ended, entries} {
		if part.rows() > 0 {
			which |= 1 << i
			args = part.literals(args)
		}
	}
	done, err = l.readBefore(ctx, queues, usesStatements[which], args)
	switch {
	case refused(err):
		return nil, nil
	case err != nil:
		return queues, err
	}
	for _, q := range done {
		q.tell()
	}
	return done, nil
}

// readBefore runs a statement that returns what accounts were before it, by the number of their queue.
func (l *Ledger) readBefore(ctx context.Context, queues []*queue, text string, args []any) (done []*queue, err error) {
	rows, err := l.statements.query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var n, whole int
		var b before
		if err := rows.Scan(&n, &b.seq, &b.at, &b.available, &b.held, &b.head, &b.source, &whole); err != nil {
			return nil, err
		}
		queues[n].was = b
		done = append(done, queues[n])
	}
	return done, rows.Err()
}

// listOrEmpty is the array literal of keys, or nothing where there is none.
func listOrEmpty(keys []string) string {
	if len(keys) == 0 {
		return ""
	}
	return listOf(database.Postgres, keys).(string)
}
