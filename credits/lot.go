package credits

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/database"
)

// Lot is a grant with what is left of it.
type Lot struct {
	ID      uuid.UUID `json:"id"`
	Account string    `json:"account"`
	Source  Source    `json:"source"`
	Amount  Amount    `json:"amount"`
	// Remaining is what is not used, holds included; Held is the part that holds have set aside.
	Remaining Amount     `json:"remaining"`
	Held      Amount     `json:"held"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	// Entry is the entry that made the lot: the grant, or the transfer.
	Entry uuid.UUID `json:"entry"`
}

// lot is a lot inside a change. Of an account's head only the id, the source and what is free are known at first;
// known tells that the rest is.
type lot struct {
	ID        uuid.UUID      `db:"id"`
	Account   string         `db:"account_id"`
	Entry     uuid.UUID      `db:"entry_id"`
	Seq       int64          `db:"seq"`
	Source    Source         `db:"source"`
	Priority  int            `db:"priority"`
	Amount    Amount         `db:"amount"`
	Free      Amount         `db:"free"`
	ExpiresAt *database.Time `db:"expires_at"`
	CreatedAt database.Time  `db:"created_at"`

	known, fresh, dirty bool
}

const lotColumns = `id, account_id, entry_id, seq, source, priority, amount, free, expires_at, created_at`

// lotOrder is the order of use in SQL, along the index qs_credit_lots_open.
const lotOrder = `priority, (expires_at IS NULL), expires_at, seq, id`

var (
	insertLots = newBulk("qs_credit_lots", 0, `id uuid, account_id text, entry_id uuid, seq bigint, source text, priority integer, amount bigint,
		free bigint, expires_at timestamptz, created_at timestamptz`)
	updateLots = newBulk("qs_credit_lots", 1, `id uuid, free bigint`)
	// openLots finds the first lots of several accounts at once.
	openLots = database.Query{
		Postgres: `SELECT l.* FROM unnest(?::text[]) AS a(id) CROSS JOIN LATERAL (SELECT ` + lotColumns + ` FROM qs_credit_lots
			WHERE account_id = a.id AND open ORDER BY ` + lotOrder + ` LIMIT ?) AS l`,
		SQLite: `SELECT ` + lotColumns + ` FROM qs_credit_lots WHERE account_id = json_extract(?, '$[0]') AND open ORDER BY ` + lotOrder + ` LIMIT ?`,
	}
	lotsByID = database.Query{
		Postgres: `SELECT l.* FROM unnest(?::uuid[]) AS u(id) CROSS JOIN LATERAL (SELECT ` + lotColumns + ` FROM qs_credit_lots WHERE id = u.id LIMIT 1) AS l`,
		SQLite:   `SELECT ` + lotColumns + ` FROM qs_credit_lots WHERE id IN (SELECT value FROM json_each(?))`,
	}
)

func (x *lot) expired(now time.Time) bool { return x.ExpiresAt != nil && !x.ExpiresAt.After(now) }

// compare is the order of use.
func (x *lot) compare(y *lot) int {
	if c := cmp.Compare(x.Priority, y.Priority); c != 0 {
		return c
	}
	switch {
	case x.ExpiresAt != nil && y.ExpiresAt == nil:
		return -1
	case x.ExpiresAt == nil && y.ExpiresAt != nil:
		return 1
	case x.ExpiresAt != nil:
		if c := x.ExpiresAt.Compare(y.ExpiresAt.Time); c != 0 {
			return c
		}
	}
	if c := cmp.Compare(x.Seq, y.Seq); c != 0 {
		return c
	}
	return slices.Compare(x.ID[:], y.ID[:])
}

// share is the part of one lot in an entry or a hold.
type share struct {
	lot    *lot
	amount Amount
}

// Numbers of lots that one statement reads: few, as mostly the first will do, then ever more.
const (
	firstLots = 4
	lotGrowth = 8
)

// see puts a lot among those that the change knows, or returns the one that it knows already, which is newer.
func (w *work) see(a *account, found *lot) *lot {
	if a.head != nil && a.head.ID == found.ID && !a.head.known {
		found.Free = a.head.Free // the account's word counts
		*a.head = *found
		found = a.head
		if a.bound == nil {
			a.bound = found // nothing before the head is free
		}
	} else if known := w.lots[found.ID]; known != nil {
		return known
	}
	found.known = true
	w.lots[found.ID] = found
	i, _ := slices.BinarySearchFunc(a.lots, found, (*lot).compare)
	a.lots = slices.Insert(a.lots, i, found)
	return found
}

// moreLots reads the first n open lots of accounts.
func (w *work) moreLots(ctx context.Context, n int, accounts ...*account) error {
	if w.db().Dialect() == database.SQLite && len(accounts) > 1 {
		for _, a := range accounts {
			if err := w.moreLots(ctx, n, a); err != nil {
				return err
			}
		}
		return nil
	}
	ids := make([]string, len(accounts))
	counts := map[string]int{}
	last := map[string]*lot{}
	for i, a := range accounts {
		ids[i] = a.ID
	}
	var found []*lot
	if err := w.selectAll(ctx, &found, openLots, w.list(ids), n); err != nil {
		return fmt.Errorf("credits: open lots: %w", err)
	}
	for _, x := range found {
		counts[x.Account]++
		last[x.Account] = w.see(w.accounts[x.Account], x)
	}
	for _, a := range accounts {
		if counts[a.ID] < n {
			a.whole = true
		}
		a.bound = last[a.ID]
	}
	return nil
}

// find reads the lots that the change has not seen.
func (w *work) find(ctx context.Context, ids ...uuid.UUID) error {
	var missing []string
	for _, id := range ids {
		if w.lots[id] == nil {
			missing = append(missing, id.String())
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	var found []*lot
	if err := w.selectAll(ctx, &found, lotsByID, w.list(missing)); err != nil {
		return fmt.Errorf("credits: lots by id: %w", err)
	}
	for _, x := range found {
		if a := w.accounts[x.Account]; a != nil {
			w.see(a, x)
		}
	}
	for _, id := range ids {
		if w.lots[id] == nil {
			return w.broke(fmt.Errorf("credits: lot %s is gone", id))
		}
	}
	return nil
}

// first returns the lot that is used next, or nil when nothing is free.
func (w *work) first(ctx context.Context, a *account) (*lot, error) {
	if a.Available == 0 {
		return nil, nil
	}
	for n := firstLots; ; n *= lotGrowth {
		if h := a.head; h != nil && !h.known && h.Free > 0 {
			if a.whole && len(a.lots) == 0 {
				return h, nil
			}
			if err := w.find(ctx, h.ID); err != nil { // its place in the order decides
				return nil, err
			}
		}
		for _, x := range a.lots {
			if x.Free > 0 && (a.whole || (a.bound != nil && x.compare(a.bound) <= 0)) {
				return x, nil
			}
		}
		if a.whole {
			return nil, w.broke(fmt.Errorf("credits: account %s has %s less in its lots than its balance says", a.ID, a.Available))
		}
		if err := w.moreLots(ctx, n, a); err != nil {
			return nil, err
		}
	}
}

// anchor makes the first lot the head again.
func (w *work) anchor(ctx context.Context, a *account) error {
	if !a.adrift {
		return nil
	}
	a.adrift = false
	x, err := w.first(ctx, a)
	if err != nil || x == nil || x == a.head {
		return err
	}
	if old := a.head; old != nil {
		if !old.known {
			if err := w.find(ctx, old.ID); err != nil {
				return err
			}
		}
		*a.rest(old.Source) += old.Free
		old.dirty = true
	}
	*a.rest(x.Source) -= x.Free
	a.head, a.more = x, true
	return nil
}

// take uses amount in the order of use. The caller has checked that the account has as much.
func (w *work) take(ctx context.Context, a *account, amount Amount) ([]share, error) {
	var shares []share
	if err := w.anchor(ctx, a); err != nil {
		return nil, err
	}
	for amount > 0 {
		if a.head == nil || a.head.Free == 0 {
			a.adrift = true
			if err := w.anchor(ctx, a); err != nil {
				return nil, err
			}
		}
		part := min(amount, a.head.Free)
		w.draw(a, a.head, part)
		shares = append(shares, share{a.head, part})
		amount -= part
	}
	return shares, nil
}

// draw takes amount out of one lot.
func (w *work) draw(a *account, x *lot, amount Amount) {
	x.Free -= amount
	a.Available -= amount
	a.dirty = true
	if x != a.head {
		*a.rest(x.Source) -= amount
		x.dirty, a.more = true, true
	}
}

// put gives amount back to a lot or fills a new one.
func (w *work) put(a *account, x *lot, amount Amount) {
	if x.Free == 0 {
		x.dirty = true // the row of a lot that has something is open, also the head's
	}
	x.Free += amount
	a.Available += amount
	a.dirty = true
	if x != a.head {
		*a.rest(x.Source) += amount
		x.dirty, a.more = true, true
		h := a.head
		a.adrift = a.adrift || h == nil || h.Free == 0 || !h.known || x.compare(h) < 0
	}
	if !x.expired(a.now) {
		a.changesAt(x.ExpiresAt.Std())
	}
}

// openLot makes a lot for an entry and fills it.
func (w *work) openLot(ctx context.Context, a *account, x *lot, amount Amount) error {
	if a.head != nil && !a.head.known { // its place in the order decides who is the head
		if err := w.find(ctx, a.head.ID); err != nil {
			return err
		}
	}
	x.Account, x.CreatedAt, x.fresh = a.ID, database.At(a.now), true
	w.put(a, w.see(a, x), amount)
	return nil
}

// expireLots closes the lots whose time has come: what is free of them leaves with an entry each.
func (w *work) expireLots(ctx context.Context, a *account) error {
	const expired = `SELECT ` + lotColumns + ` FROM qs_credit_lots WHERE account_id = ? AND open AND expires_at <= ? ORDER BY expires_at, seq, id`
	var found []*lot
	if err := w.selectText(ctx, &found, expired, a.ID, database.At(a.now)); err != nil {
		return fmt.Errorf("credits: expired lots of account %s: %w", a.ID, err)
	}
	for _, x := range found {
		x = w.see(a, x)
		x.dirty = true // close its row, even where nothing is left
		if err := w.expireLot(a, x); err != nil {
			return err
		}
	}
	// Those that holds just gave back to are not found as open.
	for _, x := range slices.Clone(a.lots) {
		if x.expired(a.now) {
			if err := w.expireLot(a, x); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *work) expireLot(a *account, x *lot) error {
	rest := x.Free
	if rest == 0 {
		return nil
	}
	w.draw(a, x, rest)
	a.adrift = true
	_, err := w.write(a, KindExpire, -rest, 0, x.Source, []share{{x, -rest}},
		note{reason: "Expired " + x.ExpiresAt.Format("2006-01-02 15:04 UTC"), reference: x.ID.String()})
	return err
}

// Lots returns the account's lots that have something left, held parts included, and have not expired, in the order of
// use.
func (l *Ledger) Lots(ctx context.Context, account string) ([]Lot, error) {
	const open = `SELECT l.id, l.account_id, l.entry_id, l.seq, l.source, l.priority, l.amount, l.free, l.expires_at, l.created_at,
			COALESCE((SELECT SUM(h.amount) FROM qs_credit_held h WHERE h.account_id = l.account_id AND h.lot_id = l.id), 0) AS held
		FROM qs_credit_lots_now l WHERE l.account_id = ? AND (l.expires_at IS NULL OR l.expires_at > ?)
			AND (l.open OR l.id IN (SELECT lot_id FROM qs_credit_held WHERE account_id = ?)) ORDER BY ` + lotOrder
	var found []struct {
		lot
		Held Amount `db:"held"`
	}
	if err := l.db.Select(ctx, &found, open, account, database.At(l.now()), account); err != nil {
		return nil, fmt.Errorf("credits: lots of account %s: %w", account, err)
	}
	lots := make([]Lot, 0, len(found))
	for _, r := range found {
		if r.Free+r.Held > 0 {
			lots = append(lots, Lot{ID: r.ID, Account: r.Account, Source: r.Source, Amount: r.Amount, Remaining: r.Free + r.Held, Held: r.Held,
				ExpiresAt: r.ExpiresAt.Std(), CreatedAt: r.CreatedAt.Time, Entry: r.Entry})
		}
	}
	return lots, nil
}
