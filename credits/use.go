package credits

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/database"
)

// use is a debit, a reservation, a settlement or a release of a plain account as [lane.uses] takes it.
type use struct {
	op      op
	at      int // among the operations of the group
	account string
	id      uuid.UUID // of its entry or hold
	amount  Amount
	hold    *openHold // that it ends

	key                        string
	service, reason, reference string
	metadata                   map[string]string
	// text is the metadata, and mark the fingerprint, as they are kept.
	text, mark string
}

// free and held are what the use changes in the account's numbers.
func (u *use) free() Amount {
	switch u.op.(type) {
	case *settleOp, releaseOp:
		return u.hold.Remaining - u.amount
	}
	return -u.amount
}

func (u *use) held() Amount {
	switch u.op.(type) {
	case *reserveOp:
		return u.amount
	case *settleOp, releaseOp:
		return -u.hold.Remaining
	}
	return 0
}

// queue is the uses of one account in a group, in the order in which they came, with what they come to.
type queue struct {
	account string
	uses    []use
	slow    bool // all go the long way

	free, held Amount
	taken      Amount // by debits and reservations, before anything is given back
	ttl        time.Duration
	lot        *uuid.UUID // of the holds that end
	entries    int
	ends       int
	entryKeys  []string
	holdKeys   []string
	was        before // all of it was done
}

// add puts a use at the end of the queue.
func (q *queue) add(u use) {
	var err error
	sum := func(to *Amount, amount Amount) {
		if err == nil {
			*to, err = to.Add(amount)
		}
	}
	sum(&q.free, u.free())
	sum(&q.held, u.held())
	switch o := u.op.(type) {
	case *debitOp:
		sum(&q.taken, u.amount)
		q.entries++
		q.slow = q.slow || u.amount == 0 || !addKey(&q.entryKeys, u.key)
	case *reserveOp:
		sum(&q.taken, u.amount)
		if q.ttl == 0 || o.p.TTL < q.ttl {
			q.ttl = o.p.TTL
		}
		q.slow = q.slow || !addKey(&q.holdKeys, u.key)
	case *settleOp:
		q.end(&u)
		q.entries++
		q.slow = q.slow || u.amount == 0 || u.amount > u.hold.Remaining
	case releaseOp:
		q.end(&u)
	}
	q.slow = q.slow || err != nil
	q.uses = append(q.uses, u)
}

// end notes the lot of a hold that ends.
func (q *queue) end(u *use) {
	q.ends++
	if q.lot == nil {
		q.lot = u.hold.Lot
	}
	q.slow = q.slow || *q.lot != *u.hold.Lot
}

func addKey(keys *[]string, key string) (fresh bool) {
	if key == "" {
		return true
	}
	if slices.Contains(*keys, key) {
		return false
	}
	*keys = append(*keys, key)
	return true
}

// useOf turns an operation into a use; ok is false where it is of another kind. hold is the hold that it ends.
func useOf(o op, hold *openHold) (u use, ok bool, err error) {
	u = use{op: o, hold: hold}
	switch o := o.(type) {
	case *debitOp:
		u.account, u.amount, u.key, u.mark = o.p.Account, o.p.Amount, o.p.IdempotencyKey, o.mark
		u.service, u.reason, u.reference, u.metadata = o.p.Service, o.p.Reason, o.p.Reference, o.p.Metadata
		if u.id, err = newID(); err == nil {
			u.text, err = encodeMetadata(u.metadata)
		}
	case *reserveOp:
		u.account, u.amount, u.key, u.mark = o.p.Account, o.p.Amount, o.p.IdempotencyKey, o.mark
		u.service, u.reason, u.reference = o.p.Service, o.p.Reason, o.p.Reference
		u.id, err = newHoldID(o.p.Account)
	case *settleOp:
		if hold == nil || o.p.Partial || o.p.IdempotencyKey != "" {
			return use{}, false, nil
		}
		u.account, u.amount = hold.Account, o.p.Amount
		u.service, u.reason, u.reference, u.metadata = hold.Service, hold.Reason, hold.Reference, o.metadata()
		if u.id, err = newID(); err == nil {
			u.text, err = o.metadataText(u.metadata)
		}
	case releaseOp:
		if hold == nil {
			return use{}, false, nil
		}
		u.account = hold.Account
	default:
		return use{}, false, nil
	}
	return u, err == nil, err
}

// tell gives the operations of a queue that was done their results.
func (q *queue) tell() {
	a := q.was
	seq, available, held := a.seq, a.available, a.held
	for i := range q.uses {
		u := &q.uses[i]
		available, held = available+u.free(), held+u.held()
		if o, ok := u.op.(*reserveOp); ok {
			o.hold = Hold{ID: u.id, Account: q.account, Amount: u.amount, Remaining: u.amount, Status: HoldOpen, Over: o.p.Over, Service: u.service,
				Reason: u.reason, Reference: u.reference, ExpiresAt: a.at.Add(o.p.TTL.Truncate(time.Microsecond)), CreatedAt: a.at.Time}
			continue
		}
		if _, ok := u.op.(releaseOp); ok {
			continue
		}
		seq++
		e := Entry{ID: u.id, Account: q.account, Seq: seq, Kind: KindDebit, Amount: -u.amount, Balance: available + held, Available: available,
			Service: u.service, Reason: u.reason, Reference: u.reference, CreatedAt: a.at.Time, Allocations: []Allocation{{a.head, a.source, -u.amount}}}
		if len(u.metadata) > 0 {
			e.Metadata = u.metadata
		}
		switch o := u.op.(type) {
		case *debitOp:
			o.entry = e
		case *settleOp:
			o.entry = e
		}
	}
}

// queuesOf sorts operations by account, in the order of the accounts' ids, and leaves out those that have to go the long
// way. Accounts with an operation of another kind do so with all of theirs, so that the order per account is kept.
func queuesOf(ops []op, holds namedHolds) ([]*queue, error) {
	byAccount := map[string]*queue{}
	of := func(account string) *queue {
		q := byAccount[account]
		if q == nil {
			q = &queue{account: account}
			byAccount[account] = q
		}
		return q
	}
	for i, o := range ops {
		u, ok, err := useOf(o, holds.take(o))
		if err != nil {
			return nil, err
		}
		if ok {
			u.at = i
			of(u.account).add(u)
			continue
		}
		n := &needs{accounts: map[string]*need{}}
		o.needs(n)
		for account := range n.accounts {
			of(account).slow = true
		}
		for _, hold := range n.holds {
			if account, found := holds.accounts[hold]; found {
				of(account).slow = true
			}
		}
	}
	queues := make([]*queue, 0, len(byAccount))
	for _, q := range byAccount {
		if !q.slow {
			queues = append(queues, q)
		}
	}
	slices.SortFunc(queues, func(a, b *queue) int { return strings.Compare(a.account, b.account) })
	return queues, nil
}

// uses does those of the operations that can be done by a look at their accounts' rows alone, and tells which. After an
// error it is of those that it is not known whether they have happened.
func (a *lane) uses(ctx context.Context, ops []op) (done []bool, err error) {
	done = make([]bool, len(ops))
	send := a.l.sendUses
	if a.l.db.Dialect() == database.SQLite {
		send = a.l.sendDebits
	}
	holds, err := a.named(ctx, ops)
	if err != nil {
		return done, nil //nolint:nilerr // the long way meets the same error, or does not
	}
	queues, err := queuesOf(ops, holds)
	if err != nil || len(queues) == 0 {
		return done, nil //nolint:nilerr // the long way tells whose error it is
	}
	sent, err := send(ctx, queues)
	for _, q := range queues {
		for i := range q.uses {
			if hold := q.uses[i].hold; hold != nil {
				a.holds.forget(hold.ID) // it has ended, or is not what it was thought to be
			}
		}
	}
	for _, q := range sent {
		for i := range q.uses {
			u := &q.uses[i]
			done[u.at] = true
			if _, ok := u.op.(*reserveOp); ok && err == nil {
				a.holds.know(&openHold{ID: u.id, Account: q.account, Remaining: u.amount, Lot: &q.was.head, Service: u.service, Reason: u.reason, Reference: u.reference})
			}
		}
	}
	if err != nil {
		return done, fmt.Errorf("credits: use credits: %w", err)
	}
	return done, nil
}
