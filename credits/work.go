package credits

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// op is one operation of one caller. Several of different callers can be done in one transaction.
type op interface {
	// needs tells what apply will look at, so that a few statements load it for all operations of the transaction.
	needs(n *needs)
	// apply does the operation in memory. After an error it has changed nothing; the error is the caller's, except
	// where the work is broken.
	apply(ctx context.Context, w *work) error
}

// needs is what operations look at.
type needs struct {
	accounts map[string]*need
	keys     []key // of entries
	holdKeys []key
	holds    []uuid.UUID
}

// need is what operations look at in one account.
type need struct {
	make  bool   // an account that is new is made
	use   Amount // how much is taken in all
	order bool   // the head's place in the order matters
}

func (n *needs) account(id string) *need {
	a := n.accounts[id]
	if a == nil {
		a = &need{}
		n.accounts[id] = a
	}
	return a
}

func (n *needs) key(account, name string) {
	if name != "" {
		n.keys = append(n.keys, key{account, name})
	}
}

// work is the state of one transaction: the accounts that it has locked, what it has read of them, and what it will
// write. Operations change it in memory, one after another; flush writes it all at once.
type work struct {
	l   *Ledger
	tx  *sqlx.Tx
	now time.Time
	// broken is the error of a statement that failed, after which nothing of the transaction may be kept.
	broken error

	accounts map[string]*account
	lots     map[uuid.UUID]*lot
	holds    map[uuid.UUID]*hold
	keys     map[key]done
	holdKeys map[key]*hold

	entries, allocations rows
	low                  []LowBalance
}

func (l *Ledger) newWork(tx *sqlx.Tx) *work {
	return &work{l: l, tx: tx, now: l.now(), accounts: map[string]*account{}, lots: map[uuid.UUID]*lot{}, holds: map[uuid.UUID]*hold{},
		keys: map[key]done{}, holdKeys: map[key]*hold{}}
}

func (w *work) db() *database.DB { return w.l.db }

// broke remembers that a statement failed.
func (w *work) broke(err error) error {
	if err != nil && w.broken == nil {
		w.broken = err
	}
	return err
}

func (w *work) selectAll(ctx context.Context, dest any, q database.Query, args ...any) error {
	return w.selectText(ctx, dest, q.For(w.db().Dialect()), args...)
}

func (w *work) selectText(ctx context.Context, dest any, query string, args ...any) error {
	text := w.db().Rebind(query)
	if stmt := w.l.statements.of(w.tx, text); stmt != nil { //nolint:sqlclosecheck // the transaction's, which ends with it
		return w.broke(stmt.SelectContext(ctx, dest, args...))
	}
	return w.broke(w.tx.SelectContext(ctx, dest, text, args...))
}

// row reads one row by a statement that is the same for every driver. A context that can end would cost a goroutine for
// each of many short statements of SQLite.
func (w *work) row(ctx context.Context, text string, args ...any) *sqlx.Row {
	ctx = context.WithoutCancel(ctx)
	if stmt := w.l.statements.of(w.tx, text); stmt != nil { //nolint:sqlclosecheck // the transaction's, which ends with it
		return stmt.QueryRowxContext(ctx, args...)
	}
	return w.tx.QueryRowxContext(ctx, text, args...)
}

func (w *work) exec(ctx context.Context, query string, args ...any) error {
	text := w.db().Rebind(query)
	if stmt := w.l.statements.of(w.tx, text); stmt != nil {
		_, err := stmt.ExecContext(ctx, args...)
		return w.broke(err)
	}
	_, err := w.tx.ExecContext(ctx, text, args...)
	return w.broke(err)
}

// list is a parameter that holds many texts: an array on PostgreSQL, JSON on SQLite.
func (w *work) list(texts []string) any { return listOf(w.db().Dialect(), texts) }

func listOf(d database.Dialect, texts []string) any {
	if d == database.SQLite {
		encoded, err := json.Marshal(texts)
		if err != nil {
			panic(err) // strings always encode
		}
		return string(encoded)
	}
	buf := []byte{'{'}
	for i, t := range texts {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendQuoted(buf, t)
	}
	return string(append(buf, '}'))
}

// do runs one operation in the caller's transaction. Its refusal leaves the transaction as it was.
func (l *Ledger) do(ctx context.Context, tx *sqlx.Tx, o op) error {
	w := l.newWork(tx)
	if err := w.load(ctx, o); err != nil {
		return err
	}
	if err := o.apply(ctx, w); err != nil {
		return err
	}
	return w.flush(ctx)
}

// alone runs one operation in a transaction of its own.
func (l *Ledger) alone(ctx context.Context, o op) error {
	return l.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return l.do(ctx, tx, o) })
}

// inTx is a transaction after which statements that it could have used prepared are prepared for the next one.
func (l *Ledger) inTx(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) error {
	err := l.db.InTx(ctx, fn)
	l.statements.prepare(ctx)
	return err
}

// load locks the accounts that the operations touch, in the order of their ids, makes those that are new, lets
// everything happen that the clock has brought, and reads what most operations look at.
func (w *work) load(ctx context.Context, ops ...op) error {
	n := &needs{accounts: map[string]*need{}}
	for _, o := range ops {
		o.needs(n)
	}
	if err := w.lock(ctx, n); err != nil {
		return err
	}
	if err := w.loadHolds(ctx, n); err != nil {
		return err
	}
	if err := w.loadKeys(ctx, n.keys); err != nil {
		return err
	}
	if err := w.knowReturns(ctx, ops); err != nil {
		return err
	}
	var open []*account
	for id, a := range w.accounts {
		if a.due() {
			if err := w.catchUp(ctx, a); err != nil {
				return err
			}
		}
		need := n.accounts[id]
		if need == nil {
			continue // it is there for a hold of its own
		}
		short := need.use > 0 && need.use > a.headFree() && a.Available >= a.headFree() && !a.whole
		if short || (need.order && a.head != nil && !a.head.known) {
			open = append(open, a)
		}
	}
	if len(open) == 0 {
		return nil
	}
	return w.moreLots(ctx, firstLots, open...)
}

func (a *account) headFree() Amount {
	if a.head == nil {
		return 0
	}
	return a.head.Free
}

func (w *work) lock(ctx context.Context, n *needs) error {
	ids := make([]string, 0, len(n.accounts))
	for id := range n.accounts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	holds := n.holds
	for first := true; len(ids) > 0 || len(holds) > 0; first = false {
		var found []*account
		if err := w.selectAll(ctx, &found, lockAccounts, w.list(ids), w.list(texts(holds))); err != nil {
			return fmt.Errorf("credits: lock accounts: %w", err)
		}
		for _, a := range found {
			a.begin(w.now)
			w.accounts[a.ID] = a
		}
		if !first {
			return nil
		}
		holds = nil
		ids = slices.DeleteFunc(ids, func(id string) bool { return w.accounts[id] != nil || !n.accounts[id].make })
		if len(ids) > 0 {
			at := database.At(w.now)
			if err := w.exec(ctx, insertAccounts.For(w.db().Dialect()), at, at, w.list(ids)); err != nil {
				return fmt.Errorf("credits: make accounts: %w", err)
			}
		}
	}
	return nil
}

// account returns a locked account; one that does not exist has nothing.
func (w *work) account(id string) *account {
	if a := w.accounts[id]; a != nil {
		return a
	}
	return &account{ID: id, now: w.now}
}

// catchUp gives back the holds and closes the lots whose time has come, and finds the next such moment.
func (w *work) catchUp(ctx context.Context, a *account) error {
	const next = `SELECT MIN(at) AS at FROM (
		SELECT MIN(expires_at) AS at FROM qs_credit_lots WHERE account_id = ? AND open AND expires_at > ?
		UNION ALL
		SELECT MIN(expires_at) AS at FROM qs_credit_holds WHERE account_id = ? AND status = 'open' AND expires_at > ?
	) AS moments`
	now := database.At(a.now)
	var moments []struct {
		At *database.Time `db:"at"`
	}
	if err := w.selectText(ctx, &moments, next, a.ID, now, a.ID, now); err != nil {
		return fmt.Errorf("credits: next change of account %s: %w", a.ID, err)
	}
	a.NextChangeAt, a.dirty = moments[0].At, true
	if err := w.expireHolds(ctx, a); err != nil {
		return err
	}
	return w.expireLots(ctx, a)
}

// repay pays debt from what has become available.
func (w *work) repay(ctx context.Context, a *account, n note) error {
	amount := min(a.Debt, a.Available)
	if amount == 0 {
		return nil
	}
	shares, err := w.take(ctx, a, amount)
	if err != nil {
		return err
	}
	a.Debt, a.more = a.Debt-amount, true
	for i := range shares {
		shares[i].amount = -shares[i].amount
	}
	_, err = w.write(a, KindRepay, 0, -amount, "", shares, note{reason: "Debt paid", reference: n.reference, service: n.service})
	return w.broke(err)
}

// section is one statement of a flush.
type section struct {
	bulk *bulk
	rows *rows
}

// flush writes everything.
func (w *work) flush(ctx context.Context) error {
	var lots, fresh, holds, changed, shares, changedShares, accounts, touched rows
	ids := make([]string, 0, len(w.accounts))
	for id, a := range w.accounts {
		if !a.dirty {
			continue
		}
		if err := w.anchor(ctx, a); err != nil {
			return err
		}
		w.watch(a)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if a := w.accounts[id]; a.more {
			accounts.add(a.values()...)
		} else {
			touched.add(a.fewValues()...)
		}
	}
	for _, x := range w.lots {
		switch {
		case x.fresh:
			fresh.add(x.ID, x.Account, x.Entry, x.Seq, string(x.Source), x.Priority, x.Amount, x.Free, x.ExpiresAt, x.CreatedAt)
		case x.dirty:
			lots.add(x.ID, x.Free)
		}
	}
	for _, h := range w.holds {
		to := &changedShares
		switch {
		case h.fresh:
			holds.add(h.values()...)
			to = &shares
		case h.dirty:
			changed.add(h.ID, h.Remaining, string(h.Status), h.EntryID)
		}
		if h.Lot != nil || (!h.fresh && (!h.dirty || h.Status != HoldOpen)) {
			continue
		}
		for _, s := range h.shares {
			to.add(h.ID, s.lot.ID, s.amount)
		}
	}
	// In SQLite's order: what others refer to comes first.
	sections := []section{{insertEntries, &w.entries}, {insertLots, &fresh}, {insertAllocations, &w.allocations}, {updateLots, &lots},
		{insertHolds, &holds}, {updateHolds, &changed}, {insertHoldLots, &shares}, {updateHoldLots, &changedShares}, {updateAccounts, &accounts}, {touchAccounts, &touched}}
	sections = slices.DeleteFunc(sections, func(s section) bool { return s.rows.n == 0 })
	if len(sections) == 0 {
		return nil
	}
	var err error
	if w.db().Dialect() == database.SQLite {
		err = w.flushSQLite(ctx, sections)
	} else {
		err = w.flushPostgres(ctx, sections)
	}
	if err != nil {
		return w.broke(fmt.Errorf("credits: write: %w", err))
	}
	return w.notify(ctx)
}

func (w *work) flushSQLite(ctx context.Context, sections []section) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// A context that can end costs a goroutine for each of many short statements.
	ctx = context.WithoutCancel(ctx)
	for _, s := range sections {
		width := len(s.bulk.cols)
		rest, err := w.execRows(ctx, s.bulk.several, width, severalRows, s.rows.values)
		if err != nil {
			return err
		}
		if _, err := w.execRows(ctx, s.bulk.sqlite, width, 1, rest); err != nil {
			return err
		}
	}
	return nil
}

// execRows runs a statement that takes n rows for as many whole runs of n as there are, and returns the values of the
// rows that are left.
func (w *work) execRows(ctx context.Context, query string, width, n int, values []any) ([]any, error) {
	size := width * n
	if query == "" || len(values) < size {
		return values, nil
	}
	exec := func(args []any) error {
		_, err := w.tx.ExecContext(ctx, query, args...)
		return err
	}
	if stmt := w.l.statements.of(w.tx, query); stmt != nil {
		exec = func(args []any) error {
			_, err := stmt.ExecContext(ctx, args...)
			return err
		}
	}
	for ; len(values) >= size; values = values[size:] {
		if err := exec(values[:size]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// flushPostgres sends all sections as one statement. Foreign keys are checked at its end, so that the order of the
// sections does not matter; and no two of them write the same row.
func (w *work) flushPostgres(ctx context.Context, sections []section) error {
	var text strings.Builder
	var args []any
	last := len(sections) - 1
	for i, s := range sections {
		statement := s.bulk.forPostgres(len(args) + 1)
		arrays, err := s.rows.arrays(s.bulk)
		if err != nil {
			return err
		}
		args = append(args, arrays...)
		if i == last {
			text.WriteString(" " + statement)
			continue
		}
		before := ", s"
		if i == 0 {
			before = "WITH s"
		}
		text.WriteString(before + strconv.Itoa(i) + " AS (" + statement + ")")
	}
	return w.exec(ctx, text.String(), args...)
}
