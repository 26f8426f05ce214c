package credits

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

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

// Over is what a settlement above its hold does.
type Over string

// The policies. The work is done by then, so what it cost is charged unless the host has promised something else.
const (
	OverDebt   Over = "debt"   // all is charged; what the account cannot cover becomes debt
	OverCap    Over = "cap"    // the hold is charged, and not more
	OverRefuse Over = "refuse" // nothing is charged, [ErrOverHold]; the hold stays
)

// ReserveParams describe a hold.
type ReserveParams struct {
	// Account pays in the end. Required.
	Account string
	// Amount is the most that the work may cost, above zero.
	Amount Amount
	// TTL is after how long the hold gives itself back, from the moment when it was asked for. Required; choose it longer
	// than the work may take.
	TTL time.Duration
	// Over is what a settlement above Amount does. Empty: [OverDebt].
	Over Over `json:",omitempty"`
	// Service names what is used. Optional.
	Service string `json:",omitempty"`
	// Reason is shown in the history once the hold is settled. Required.
	Reason string
	// Reference names the cause. Optional.
	Reference string
	// IdempotencyKey makes a repetition return the first hold, while that is open or settled; a hold that was given
	// back frees its key. Keys are the account's own and apart from those of other operations. Empty: none.
	IdempotencyKey string
}

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

// Reserve sets credits aside for work whose outcome is not known yet. The errors are those of [Ledger.Debit],
// [ErrAmountNotPositive], [ErrTTLRequired] and [ErrUnknownOver].
func (l *Ledger) Reserve(ctx context.Context, p ReserveParams) (Hold, error) {
	o, err := newReserve(p)
	if err != nil {
		return Hold{}, err
	}
	if err := l.group(ctx, accountByte(p.Account), o); err != nil {
		return Hold{}, err
	}
	return o.hold, nil
}

// ReserveTx is [Ledger.Reserve] inside the caller's transaction.
func (l *Ledger) ReserveTx(ctx context.Context, tx *sqlx.Tx, p ReserveParams) (Hold, error) {
	o, err := newReserve(p)
	if err != nil {
		return Hold{}, err
	}
	if err := l.do(ctx, tx, o); err != nil {
		return Hold{}, err
	}
	return o.hold, nil
}

type reserveOp struct {
	p    ReserveParams
	mark string
	hold Hold
}

func newReserve(p ReserveParams) (*reserveOp, error) {
	if err := checkAccount(p.Account); err != nil {
		return nil, err
	}
	switch {
	case p.Amount <= 0:
		return nil, ErrAmountNotPositive
	case p.TTL <= 0:
		return nil, ErrTTLRequired
	}
	switch p.Over {
	case "":
		p.Over = OverDebt
	case OverDebt, OverCap, OverRefuse:
	default:
		return nil, ErrUnknownOver
	}
	if err := checkReason(&p.Reason); err != nil {
		return nil, err
	}
	mark, err := fingerprint(p.IdempotencyKey, "reserve", p)
	return &reserveOp{p: p, mark: mark}, err
}

func (o *reserveOp) needs(n *needs) {
	a := n.account(o.p.Account)
	a.use += min(o.p.Amount, MaxAmount-a.use)
	if o.p.IdempotencyKey != "" {
		n.holdKeys = append(n.holdKeys, key{o.p.Account, o.p.IdempotencyKey})
	}
}

func (o *reserveOp) apply(ctx context.Context, w *work) error {
	a := w.account(o.p.Account)
	if h := w.holdKeys[key{a.ID, o.p.IdempotencyKey}]; h != nil && (h.Status == HoldOpen || h.Status == HoldSettled) {
		if h.Fingerprint == nil || *h.Fingerprint != o.mark {
			return ErrIdempotencyMismatch
		}
		o.hold = h.hold()
		return nil
	}
	if err := a.require(o.p.Amount); err != nil {
		return err
	}
	held, err := a.Held.Add(o.p.Amount)
	if err != nil {
		return err
	}
	id, err := newHoldID(a.ID)
	if err != nil {
		return err
	}
	shares, err := w.take(ctx, a, o.p.Amount)
	if err != nil {
		return err
	}
	a.Held = held
	h := &hold{ID: id, Account: a.ID, Amount: o.p.Amount, Remaining: o.p.Amount, Status: HoldOpen, Over: o.p.Over, Service: o.p.Service, Reason: o.p.Reason,
		Reference: o.p.Reference, Key: orNull(o.p.IdempotencyKey), Fingerprint: orNull(o.mark), ExpiresAt: database.At(a.now.Add(o.p.TTL)),
		CreatedAt: database.At(a.now), shares: shares, fresh: true}
	if len(shares) == 1 {
		h.Lot = &shares[0].lot.ID
	}
	w.holds[id] = h
	if o.p.IdempotencyKey != "" {
		w.holdKeys[key{a.ID, o.p.IdempotencyKey}] = h
	}
	a.changesAt(&h.ExpiresAt.Time)
	o.hold = h.hold()
	return nil
}

// SettleParams describe a settlement.
type SettleParams struct {
	// Hold is the hold. Required.
	Hold uuid.UUID
	// Amount is what the work has cost, zero or more; of a partial settlement, what it has cost since the last one.
	Amount Amount
	// Partial leaves the hold open with the rest, for a stream that is charged as it goes. End it with a settlement
	// that is not partial, which may be zero, or with a release.
	Partial bool
	// Metadata is kept with the entry. Optional.
	Metadata map[string]string
	// IdempotencyKey makes the repetition of a partial settlement return the first result; it shares the account's
	// keys with debits. A settlement that ends its hold needs none: it happens once.
	IdempotencyKey string
}

// Settle ends a hold: actual leaves the account in an entry, and what the hold has beyond it becomes available again,
// except what has expired meanwhile. Above the hold, its [Over] decides. Settling again with the same amount returns
// the first entry. The errors are [ErrHoldNotFound], [ErrHoldSettled] (before, with another amount), [ErrHoldReleased],
// [ErrOverHold] and [ErrAmountNegative].
func (l *Ledger) Settle(ctx context.Context, hold uuid.UUID, actual Amount) (Entry, error) {
	return l.SettleWith(ctx, SettleParams{Hold: hold, Amount: actual})
}

// SettleTx is [Ledger.Settle] inside the caller's transaction.
func (l *Ledger) SettleTx(ctx context.Context, tx *sqlx.Tx, hold uuid.UUID, actual Amount) (Entry, error) {
	return l.SettleWithTx(ctx, tx, SettleParams{Hold: hold, Amount: actual})
}

// SettleWith is [Ledger.Settle] with more to say, and the partial settlement of streams. It adds the error
// [ErrIdempotencyMismatch].
func (l *Ledger) SettleWith(ctx context.Context, p SettleParams) (Entry, error) {
	o, err := newSettle(p)
	if err != nil {
		return Entry{}, err
	}
	if err := l.group(ctx, p.Hold[15], o); err != nil {
		return Entry{}, err
	}
	return o.entry, nil
}

// SettleWithTx is [Ledger.SettleWith] inside the caller's transaction.
func (l *Ledger) SettleWithTx(ctx context.Context, tx *sqlx.Tx, p SettleParams) (Entry, error) {
	o, err := newSettle(p)
	if err != nil {
		return Entry{}, err
	}
	if err := l.do(ctx, tx, o); err != nil {
		return Entry{}, err
	}
	return o.entry, nil
}

type settleOp struct {
	p     SettleParams
	mark  string
	entry Entry
}

func newSettle(p SettleParams) (*settleOp, error) {
	if p.Amount < 0 {
		return nil, ErrAmountNegative
	}
	mark, err := fingerprint(p.IdempotencyKey, "settle", p)
	return &settleOp{p: p, mark: mark}, err
}

func (o *settleOp) needs(n *needs) { n.holds = append(n.holds, o.p.Hold) }

// metadata is what the entry shall keep.
func (o *settleOp) metadata() map[string]string {
	m := map[string]string{"hold": o.p.Hold.String()}
	maps.Copy(m, o.p.Metadata)
	return m
}

// metadataText is metadata as it is kept.
func (o *settleOp) metadataText(m map[string]string) (string, error) {
	if len(m) == 1 {
		return `{"hold":"` + m["hold"] + `"}`, nil // the common case, without reflection
	}
	return encodeMetadata(m)
}

func (o *settleOp) apply(ctx context.Context, w *work) error {
	h := w.holds[o.p.Hold]
	if h == nil {
		return ErrHoldNotFound
	}
	a := w.account(h.Account)
	if o.p.IdempotencyKey != "" {
		// Keys of settlements are looked up here: the account is known from the hold only.
		if err := w.loadKeys(ctx, []key{{a.ID, o.p.IdempotencyKey}}); err != nil {
			return err
		}
		if e, found, err := w.replay(a.ID, o.p.IdempotencyKey, o.mark); found || err != nil {
			o.entry = e
			return err
		}
	}
	switch h.Status {
	case HoldSettled:
		return o.settledBefore(ctx, w, h)
	case HoldReleased, HoldExpired:
		return ErrHoldReleased
	case HoldOpen:
	}
	amount, metadata := o.p.Amount, o.metadata()
	if amount > h.Remaining {
		switch h.Over {
		case OverRefuse:
			return ErrOverHold
		case OverCap:
			metadata["actual"] = amount.String()
			amount = h.Remaining
		case OverDebt:
		}
	}
	e, err := w.settle(ctx, a, h, amount, o.p.Partial, note{service: h.Service, reason: h.Reason, reference: h.Reference, metadata: metadata,
		key: o.p.IdempotencyKey, fingerprint: o.mark})
	o.entry = e
	return err
}

// settle uses amount, of the hold first. What is left of the hold is given back, unless the settlement is partial.
func (w *work) settle(ctx context.Context, a *account, h *hold, amount Amount, partial bool, n note) (Entry, error) {
	ofHold := min(amount, h.Remaining)
	beyond := amount - ofHold
	covered := min(beyond, a.Available)
	debt := beyond - covered
	if _, err := a.Debt.Add(debt); err != nil {
		return Entry{}, err
	}
	owns, err := a.owns()
	if err != nil {
		return Entry{}, err
	}
	if _, err := owns.Sub(amount); err != nil {
		return Entry{}, err
	}
	rest := h.Remaining - ofHold
	if rest > 0 && !partial {
		if err := w.knowShares(ctx, h); err != nil {
			return Entry{}, err
		}
	}
	var used, back []share
	left := ofHold
	for i := range h.shares {
		s := &h.shares[i]
		part := min(left, s.amount)
		left -= part
		s.amount -= part
		if part > 0 {
			used = append(used, share{s.lot, -part})
		}
		if s.amount > 0 {
			back = append(back, *s)
		}
	}
	if covered > 0 {
		more, err := w.take(ctx, a, covered)
		if err != nil {
			return Entry{}, err
		}
		for _, m := range more {
			used = addShare(used, share{m.lot, -m.amount})
		}
	}
	if debt > 0 {
		a.Debt, a.more = a.Debt+debt, true
	}
	a.Held -= ofHold
	h.Remaining -= ofHold
	a.dirty, h.dirty = true, true
	a.spend(amount)
	if !partial {
		w.giveBack(a, h, back, HoldSettled)
	}
	e, err := w.write(a, KindDebit, -amount, debt, "", used, n)
	if err != nil {
		return Entry{}, w.broke(err)
	}
	if !partial {
		h.EntryID, h.entry = &e.ID, &e
	}
	return e, w.afterReturn(ctx, a, back, partial, n)
}

// addShare adds to the share of the same lot if there is one.
func addShare(shares []share, s share) []share {
	for i := range shares {
		if shares[i].lot.ID == s.lot.ID {
			shares[i].amount += s.amount
			return shares
		}
	}
	return append(shares, s)
}

// giveBack ends a hold and returns what is left of it to its lots.
func (w *work) giveBack(a *account, h *hold, back []share, status HoldStatus) {
	for _, s := range back {
		a.Held -= s.amount
		w.put(a, s.lot, s.amount)
	}
	h.Remaining, h.Status, h.shares = 0, status, nil
	a.dirty, h.dirty = true, true
}

// afterReturn closes the lots that expired under a hold, and pays debt with what others got.
func (w *work) afterReturn(ctx context.Context, a *account, back []share, partial bool, n note) error {
	if partial {
		return nil
	}
	for _, s := range back {
		if s.lot.expired(a.now) {
			if err := w.expireLot(a, s.lot); err != nil {
				return w.broke(err)
			}
		}
	}
	return w.repay(ctx, a, n)
}

// settledBefore answers the repetition of a settlement.
func (o *settleOp) settledBefore(ctx context.Context, w *work, h *hold) error {
	if h.entry == nil {
		var found []entryRow
		if err := w.selectText(ctx, &found, `SELECT `+entryColumns+` FROM qs_credit_entries WHERE id = ?`, *h.EntryID); err != nil {
			return fmt.Errorf("credits: entry of hold %s: %w", h.ID, err)
		}
		e, err := found[0].entry()
		if err != nil {
			return w.broke(err)
		}
		if err := w.selectText(ctx, &e.Allocations, selectAllocations, e.ID); err != nil {
			return fmt.Errorf("credits: allocations of entry %s: %w", e.ID, err)
		}
		h.entry = &e
	}
	charged := -h.entry.Amount
	if actual := h.entry.Metadata["actual"]; h.Over == OverCap && actual != "" {
		var err error
		if charged, err = ParseAmount(actual); err != nil {
			return w.broke(err)
		}
	}
	if charged != o.p.Amount {
		return ErrHoldSettled
	}
	o.entry = *h.entry
	return nil
}

// Release ends a hold that nothing (more) came of: what is left of it becomes available again, except what has expired
// meanwhile. Releasing a hold that was given back before does nothing. The errors are [ErrHoldNotFound] and
// [ErrHoldSettled].
func (l *Ledger) Release(ctx context.Context, hold uuid.UUID) error {
	return l.group(ctx, hold[15], releaseOp(hold))
}

// ReleaseTx is [Ledger.Release] inside the caller's transaction.
func (l *Ledger) ReleaseTx(ctx context.Context, tx *sqlx.Tx, hold uuid.UUID) error {
	return l.do(ctx, tx, releaseOp(hold))
}

type releaseOp uuid.UUID

func (o releaseOp) needs(n *needs) { n.holds = append(n.holds, uuid.UUID(o)) }

func (o releaseOp) apply(ctx context.Context, w *work) error {
	h := w.holds[uuid.UUID(o)]
	if h == nil {
		return ErrHoldNotFound
	}
	switch h.Status {
	case HoldSettled:
		return ErrHoldSettled
	case HoldReleased, HoldExpired:
		return nil
	case HoldOpen:
	}
	a := w.account(h.Account)
	if err := w.knowShares(ctx, h); err != nil {
		return err
	}
	back := h.shares
	w.giveBack(a, h, back, HoldReleased)
	return w.afterReturn(ctx, a, back, false, note{reference: h.Reference, service: h.Service})
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
