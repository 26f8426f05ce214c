package credits

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/database"
)

// HoldStatus is where a hold stands.
type HoldStatus string

// The statuses of holds.
const (
	HoldOpen     HoldStatus = "open"
	HoldSettled  HoldStatus = "settled"
	HoldReleased HoldStatus = "released"
	HoldExpired  HoldStatus = "expired" // given back by its time to live
)

// Hold is credits set aside. They count as not available, and leave the account only when the hold is settled.
type Hold struct {
	ID      uuid.UUID `json:"id"`
	Account string    `json:"account"`
	Amount  Amount    `json:"amount"`
	// Remaining is what is still set aside, less than Amount after partial settlements.
	Remaining Amount     `json:"remaining"`
	Status    HoldStatus `json:"status"`
	Over      Over       `json:"over"`
	Service   string     `json:"service,omitempty"`
	Reason    string     `json:"reason"`
	Reference string     `json:"reference,omitempty"`
	ExpiresAt time.Time  `json:"expires_at"`
	CreatedAt time.Time  `json:"created_at"`
}

// hold is a hold inside a change.
type hold struct {
	ID          uuid.UUID     `db:"id"`
	Account     string        `db:"account_id"`
	Amount      Amount        `db:"amount"`
	Remaining   Amount        `db:"remaining"`
	Status      HoldStatus    `db:"status"`
	Over        Over          `db:"over"`
	Lot         *uuid.UUID    `db:"lot_id"`
	LotSource   *Source       `db:"lot_source"`
	EntryID     *uuid.UUID    `db:"entry_id"`
	Service     string        `db:"service"`
	Reason      string        `db:"reason"`
	Reference   string        `db:"reference"`
	Key         *string       `db:"idempotency_key"`
	Fingerprint *string       `db:"fingerprint"`
	ExpiresAt   database.Time `db:"expires_at"`
	CreatedAt   database.Time `db:"created_at"`

	shares       []share // in the order of use
	entry        *Entry  // of a settlement in this change
	fresh, dirty bool
}

const holdColumns = `h.id, h.account_id, h.amount, h.remaining, h.status, h.over, h.lot_id, h.entry_id, h.service, h.reason, h.reference,
	h.idempotency_key, h.fingerprint, h.expires_at, h.created_at, l.source AS lot_source`

const fromHolds = ` FROM qs_credit_holds h LEFT JOIN qs_credit_lots l ON l.id = h.lot_id `

var (
	insertHolds = newBulk("qs_credit_holds", 0, `id uuid, account_id text, amount bigint, remaining bigint, status text, over text, lot_id uuid,
		entry_id uuid, service text, reason text, reference text, idempotency_key text, fingerprint text, expires_at timestamptz, created_at timestamptz`)
	updateHolds    = newBulk("qs_credit_holds", 1, `id uuid, remaining bigint, status text, entry_id uuid`)
	insertHoldLots = newBulk("qs_credit_hold_lots", 0, `hold_id uuid, lot_id uuid, amount bigint`)
	updateHoldLots = newBulk("qs_credit_hold_lots", 2, `hold_id uuid, lot_id uuid, amount bigint`)
	holdsByID      = database.Query{
		Postgres: `SELECT h.* FROM unnest(?::uuid[]) AS u(id) CROSS JOIN LATERAL (SELECT ` + holdColumns + fromHolds + `WHERE h.id = u.id LIMIT 1) AS h`,
		SQLite:   `SELECT ` + holdColumns + fromHolds + `WHERE h.id IN (SELECT value FROM json_each(?))`,
	}
	holdsByKey = database.Query{
		Postgres: `SELECT h.* FROM unnest(?::text[], ?::text[]) AS u(account_id, key) CROSS JOIN LATERAL (SELECT ` + holdColumns + fromHolds + `
			WHERE h.account_id = u.account_id AND h.idempotency_key = u.key AND h.status IN ('open', 'settled') LIMIT 1) AS h`,
		SQLite: `SELECT ` + holdColumns + fromHolds + `WHERE (h.account_id, h.idempotency_key) IN
			(SELECT a.value, k.value FROM json_each(?) AS a JOIN json_each(?) AS k ON k.key = a.key) AND h.status IN ('open', 'settled')`,
	}
)

func (h *hold) values() []any {
	return []any{h.ID, h.Account, h.Amount, h.Remaining, string(h.Status), string(h.Over), h.Lot, h.EntryID, h.Service, h.Reason, h.Reference, h.Key,
		h.Fingerprint, h.ExpiresAt, h.CreatedAt}
}

func (h *hold) hold() Hold {
	return Hold{ID: h.ID, Account: h.Account, Amount: h.Amount, Remaining: h.Remaining, Status: h.Status, Over: h.Over, Service: h.Service, Reason: h.Reason,
		Reference: h.Reference, ExpiresAt: h.ExpiresAt.Time, CreatedAt: h.CreatedAt.Time}
}

// newHoldID makes an id whose last byte is the account's, so that settlements, which name the hold alone, queue where
// its account does. A hold whose id says something else only queues elsewhere.
func newHoldID(account string) (uuid.UUID, error) {
	id, err := newID()
	id[15] = accountByte(account)
	return id, err
}

func accountByte(account string) byte {
	h := fnv.New32a()
	_, _ = h.Write([]byte(account)) // never fails
	return h.Sum(nil)[3]
}

func texts(ids []uuid.UUID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}

// loadHolds reads the holds that operations name by id or by key; their accounts are locked.
func (w *work) loadHolds(ctx context.Context, n *needs) error {
	if len(n.holds) > 0 {
		if err := w.readHolds(ctx, holdsByID, w.list(texts(n.holds))); err != nil {
			return err
		}
	}
	if len(n.holdKeys) == 0 {
		return nil
	}
	accounts, names := split(n.holdKeys)
	return w.readHolds(ctx, holdsByKey, w.list(accounts), w.list(names))
}

func (w *work) readHolds(ctx context.Context, q database.Query, args ...any) error {
	var found []*hold
	if err := w.selectAll(ctx, &found, q, args...); err != nil {
		return fmt.Errorf("credits: read holds: %w", err)
	}
	for _, h := range found {
		if err := w.seeHold(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// seeHold puts a hold among those of the change, unless it is there.
func (w *work) seeHold(ctx context.Context, h *hold) error {
	a := w.accounts[h.Account]
	if a == nil {
		return nil // made after its account was locked by nobody: the next try finds it
	}
	if w.holds[h.ID] == nil {
		w.holds[h.ID] = h
		if h.Status == HoldOpen {
			if err := w.loadShares(ctx, a, h); err != nil {
				return err
			}
		}
	} else {
		h = w.holds[h.ID]
	}
	if h.Key != nil && (h.Status == HoldOpen || h.Status == HoldSettled) {
		w.holdKeys[key{h.Account, *h.Key}] = h
	}
	return nil
}

func (w *work) loadShares(ctx context.Context, a *account, h *hold) error {
	if h.Lot != nil {
		x := w.lots[*h.Lot]
		if a.head != nil && a.head.ID == *h.Lot {
			x = a.head
		}
		if x == nil {
			// Its id and source will do, as long as nothing is given back.
			x = &lot{ID: *h.Lot, Account: a.ID, Source: *h.LotSource}
		}
		h.shares = []share{{x, h.Remaining}}
		return nil
	}
	const find = `SELECT s.lot_id, s.amount FROM qs_credit_hold_lots s JOIN qs_credit_lots l ON l.id = s.lot_id
		WHERE s.hold_id = ? ORDER BY ` + lotOrder
	var found []struct {
		Lot    uuid.UUID `db:"lot_id"`
		Amount Amount    `db:"amount"`
	}
	if err := w.selectText(ctx, &found, find, h.ID); err != nil {
		return fmt.Errorf("credits: shares of hold %s: %w", h.ID, err)
	}
	ids := make([]uuid.UUID, len(found))
	for i, f := range found {
		ids[i] = f.Lot
	}
	if err := w.find(ctx, ids...); err != nil {
		return err
	}
	for _, f := range found {
		h.shares = append(h.shares, share{w.lots[f.Lot], f.Amount})
	}
	return nil
}

// knowShares makes sure that the lots of a hold can be given back to.
func (w *work) knowShares(ctx context.Context, h *hold) error {
	ids := make([]uuid.UUID, len(h.shares))
	a := w.account(h.Account)
	for i, s := range h.shares {
		ids[i] = s.lot.ID
	}
	if len(ids) == 1 && a.isHead(ids[0]) {
		h.shares[0].lot = a.head
		return nil
	}
	if err := w.find(ctx, ids...); err != nil {
		return err
	}
	for i, s := range h.shares {
		h.shares[i].lot = w.lots[s.lot.ID]
	}
	return nil
}

// isHead tells that a lot is the head and need not be looked at to be given back to: what is free in it has not
// expired, or the account would have caught up.
func (a *account) isHead(lot uuid.UUID) bool {
	return a.head != nil && a.head.ID == lot && a.head.Free > 0
}

// knowReturns reads the lots that the operations will give back to, all at once.
func (w *work) knowReturns(ctx context.Context, ops []op) error {
	var ids []uuid.UUID
	for _, o := range ops {
		var h *hold
		switch o := o.(type) {
		case releaseOp:
			h = w.holds[uuid.UUID(o)]
		case *settleOp:
			if h = w.holds[o.p.Hold]; h != nil && (o.p.Partial || o.p.Amount >= h.Remaining) {
				continue
			}
		}
		if h == nil {
			continue
		}
		for _, s := range h.shares {
			if len(h.shares) > 1 || !w.account(h.Account).isHead(s.lot.ID) {
				ids = append(ids, s.lot.ID)
			}
		}
	}
	return w.find(ctx, ids...)
}

// expireHolds gives back the open holds whose time to live is over.
func (w *work) expireHolds(ctx context.Context, a *account) error {
	const due = `SELECT ` + holdColumns + fromHolds + `WHERE h.account_id = ? AND h.status = 'open' AND h.expires_at <= ? ORDER BY h.expires_at, h.id`
	var found []*hold
	if err := w.selectText(ctx, &found, due, a.ID, database.At(a.now)); err != nil {
		return fmt.Errorf("credits: holds of account %s: %w", a.ID, err)
	}
	for _, h := range found {
		if err := w.seeHold(ctx, h); err != nil {
			return err
		}
		h = w.holds[h.ID]
		if err := w.knowShares(ctx, h); err != nil {
			return err
		}
		back := h.shares
		w.giveBack(a, h, back, HoldExpired)
		// As it was at that moment: a lot that had expired by then is closed, and one that expired later paid debt first.
		for _, s := range back {
			if s.lot.expired(h.ExpiresAt.Time) {
				if err := w.expireLot(a, s.lot); err != nil {
					return w.broke(err)
				}
			}
		}
		if err := w.repay(ctx, a, note{reference: h.Reference, service: h.Service}); err != nil {
			return err
		}
	}
	return nil
}
