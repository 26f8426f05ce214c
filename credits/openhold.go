package credits

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/database"
)

// openHold is an open hold as it was last seen. What ends it checks that it still is so.
type openHold struct {
	ID        uuid.UUID  `db:"id"`
	Account   string     `db:"account_id"`
	Remaining Amount     `db:"remaining"`
	Status    HoldStatus `db:"status"`
	Lot       *uuid.UUID `db:"lot_id"`
	Service   string     `db:"service"`
	Reason    string     `db:"reason"`
	Reference string     `db:"reference"`
}

var findHolds = database.Query{
	Postgres: `SELECT h.* FROM unnest(?::uuid[]) AS u(id) CROSS JOIN LATERAL (SELECT id, account_id, remaining, status, lot_id, service, reason, reference
		FROM qs_credit_holds WHERE id = u.id LIMIT 1) AS h`,
	SQLite: `SELECT id, account_id, remaining, status, lot_id, service, reason, reference FROM qs_credit_holds
		WHERE id IN (SELECT value FROM json_each(?))`,
}

// openHolds are holds that this process has made and not ended yet, so that to settle one needs no look at it first.
// Those that others end, or that end by themselves, are forgotten in time: of the two maps one is filled, and then takes
// the place of the other.
type openHolds struct{ young, old map[uuid.UUID]*openHold }

// maxOpenHolds bounds each of the two maps of a lane: some 200 bytes a hold.
const maxOpenHolds = 4096

func (h *openHolds) know(o *openHold) {
	if h.young == nil || len(h.young) >= maxOpenHolds {
		h.young, h.old = map[uuid.UUID]*openHold{}, h.young
	}
	h.young[o.ID] = o
}

func (h *openHolds) find(id uuid.UUID) *openHold {
	if o := h.young[id]; o != nil {
		return o
	}
	return h.old[id]
}

func (h *openHolds) forget(id uuid.UUID) {
	delete(h.young, id)
	delete(h.old, id)
}

// namedHolds are the holds that operations name: those that are open and of one lot, and the accounts of all.
type namedHolds struct {
	ready    map[uuid.UUID]*openHold
	accounts map[uuid.UUID]string
}

// take returns the hold that an operation ends, for the first that does.
func (n namedHolds) take(o op) *openHold {
	id, ok := endedBy(o)
	if !ok {
		return nil
	}
	h := n.ready[id]
	delete(n.ready, id)
	return h
}

// endedBy returns the hold that an operation is about.
func endedBy(o op) (hold uuid.UUID, ok bool) {
	switch o := o.(type) {
	case *settleOp:
		return o.p.Hold, true
	case releaseOp:
		return uuid.UUID(o), true
	}
	return uuid.Nil, false
}

// named finds the holds that operations name, and looks at those that it does not know.
func (a *lane) named(ctx context.Context, ops []op) (namedHolds, error) {
	n := namedHolds{ready: map[uuid.UUID]*openHold{}, accounts: map[uuid.UUID]string{}}
	var unknown []string
	for _, o := range ops {
		id, ok := endedBy(o)
		if !ok {
			continue
		}
		if h := a.holds.find(id); h != nil {
			n.ready[id], n.accounts[id] = h, h.Account
		} else {
			unknown = append(unknown, id.String())
		}
	}
	if len(unknown) == 0 {
		return n, nil
	}
	var found []openHold
	dialect := a.l.db.Dialect()
	if err := a.l.statements.rows(ctx, &found, a.l.db.Rebind(findHolds.For(dialect)), listOf(dialect, unknown)); err != nil {
		return n, fmt.Errorf("credits: look at holds: %w", err)
	}
	for _, h := range found {
		n.accounts[h.ID] = h.Account
		if h.Status == HoldOpen && h.Lot != nil {
			n.ready[h.ID] = &h
		}
	}
	return n, nil
}
