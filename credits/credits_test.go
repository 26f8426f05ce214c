package credits_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(workerURL); url != "" {
		os.Exit(workUntilKilled(url)) // this is a process that a test has started
	}
	dbtest.Main(m)
}

var schema = dbtest.Of(credits.Migrations())

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newClock() *clock { return &clock{now: start} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newLedger(tb testing.TB, db *database.DB, c *clock) *credits.Ledger {
	tb.Helper()
	l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader(), Clock: c.Now})
	require.NoError(tb, err)
	return l
}

const acc = "acct-1"

func run(t *testing.T, fn func(t *testing.T, db *database.DB, l *credits.Ledger, c *clock)) {
	t.Helper()
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		c := newClock()
		fn(t, db, newLedger(t, db, c), c)
		check(t, db)
	})
}

func grant(t *testing.T, l *credits.Ledger, source credits.Source, amount credits.Amount, expires *time.Time) credits.Entry {
	t.Helper()
	e, err := l.Grant(t.Context(), credits.GrantParams{Account: acc, Amount: amount, Source: source, Reason: "test", ExpiresAt: expires})
	require.NoError(t, err)
	return e
}

func debit(t *testing.T, l *credits.Ledger, amount credits.Amount) credits.Entry {
	t.Helper()
	e, err := l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: amount, Reason: "use"})
	require.NoError(t, err)
	return e
}

func available(t *testing.T, l *credits.Ledger) credits.Amount {
	t.Helper()
	b, err := l.Balance(t.Context(), acc)
	require.NoError(t, err)
	return b.Available
}

func in(c *clock, d time.Duration) *time.Time {
	at := c.Now().Add(d)
	return &at
}

const day = 24 * time.Hour

// check recomputes every account and lot from the entries and compares.
func check(tb testing.TB, db *database.DB) {
	tb.Helper()
	for name, query := range map[string]string{
		"an account is not the sum of its entries": `SELECT a.id FROM qs_credit_accounts a WHERE a.available + a.held - a.debt <>
			(SELECT COALESCE(SUM(e.amount), 0) FROM qs_credit_entries e WHERE e.account_id = a.id)`,
		"an account is not the sum of its lots": `SELECT a.id FROM qs_credit_accounts a WHERE a.available <>
			(SELECT COALESCE(SUM(l.free), 0) FROM qs_credit_lots_now l WHERE l.account_id = a.id)
			OR a.held <> (SELECT COALESCE(SUM(l.amount), 0) FROM qs_credit_held l WHERE l.account_id = a.id)`,
		"a lot is not the sum of its shares": `SELECT l.id FROM qs_credit_lots_now l WHERE l.free
			+ (SELECT COALESCE(SUM(h.amount), 0) FROM qs_credit_held h WHERE h.lot_id = l.id) <>
			(SELECT COALESCE(SUM(x.amount), 0) FROM qs_credit_shares x WHERE x.lot_id = l.id)`,
		"an entry is not the sum of its shares": `SELECT e.id FROM qs_credit_entries e WHERE e.amount + e.debt <>
			(SELECT COALESCE(SUM(x.amount), 0) FROM qs_credit_shares x WHERE x.entry_id = e.id)`,
		"a hold is not the sum of its shares": `SELECT h.id FROM qs_credit_holds h WHERE h.status = 'open' AND h.remaining <>
			(SELECT COALESCE(SUM(s.amount), 0) FROM qs_credit_held s WHERE s.hold_id = h.id)`,
		"a balance does not follow from the one before": `SELECT e.id FROM qs_credit_entries e WHERE e.balance <> e.amount +
			COALESCE((SELECT p.balance FROM qs_credit_entries p WHERE p.account_id = e.account_id AND p.seq = e.seq - 1), 0)`,
		"entries are missing": `SELECT a.id FROM qs_credit_accounts a WHERE a.last_seq <>
			(SELECT COUNT(*) FROM qs_credit_entries e WHERE e.account_id = a.id)`,
		"a lot with something left is not open": `SELECT id FROM qs_credit_lots_now WHERE free > 0 AND NOT open`,
		"the head is not the first lot": `SELECT a.id FROM qs_credit_accounts a WHERE a.head_free > 0 AND a.head_lot <>
			(SELECT l.id FROM qs_credit_lots_now l WHERE l.account_id = a.id AND l.free > 0 ORDER BY priority, (expires_at IS NULL), expires_at, seq, id LIMIT 1)`,
		"debt is not what the entries add up to": `SELECT a.id FROM qs_credit_accounts a WHERE a.debt <>
			(SELECT COALESCE(SUM(e.debt), 0) FROM qs_credit_entries e WHERE e.account_id = a.id)`,
	} {
		var wrong []string
		require.NoError(tb, db.Writer().Select(&wrong, query), name)
		require.Empty(tb, wrong, name)
	}
}

func TestDebit_SubscriptionCreditsGoFirst(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Purchase, 500*credits.Credit, nil)
		grant(t, l, credits.Subscription, 1000*credits.Credit, in(c, 30*day))
		e := debit(t, l, 1200*credits.Credit)
		require.Len(t, e.Allocations, 2)
		assert.Equal(t, credits.Subscription, e.Allocations[0].Source)
		assert.Equal(t, -1000*credits.Credit, e.Allocations[0].Amount)
		assert.Equal(t, -200*credits.Credit, e.Allocations[1].Amount)
		b, err := l.Balance(t.Context(), acc)
		require.NoError(t, err)
		assert.Equal(t, map[credits.Source]credits.Amount{credits.Purchase: 300 * credits.Credit}, b.BySource)
		stored, err := l.Allocations(t.Context(), e.ID)
		require.NoError(t, err)
		assert.Equal(t, e.Allocations, stored)
	})
}

func TestDebit_OrderIsPriorityThenExpiryThenAge(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		// In the order of use; granted in another one.
		want := []credits.Amount{1, 2, 3, 4, 5}
		grant(t, l, credits.Purchase, 4, nil)
		grant(t, l, credits.Bonus, 3, in(c, 90*day))
		grant(t, l, credits.Subscription, 2, in(c, 20*day))
		grant(t, l, credits.Admin, 5, nil)
		grant(t, l, credits.Subscription, 1, in(c, 10*day))
		e := debit(t, l, 15)
		var got []credits.Amount
		for _, a := range e.Allocations {
			got = append(got, -a.Amount)
		}
		assert.Equal(t, want, got)
	})
}

func TestDebit_MoreLotsThanOneStatementReads(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, _ *clock) {
		for range 150 {
			grant(t, l, credits.Purchase, 1, nil)
		}
		assert.Len(t, debit(t, l, 149).Allocations, 149)
		assert.Equal(t, credits.Amount(1), available(t, l))
	})
}

func TestDebit_RefusalNamesTheShortfallAndChangesNothing(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, _ *clock) {
		grant(t, l, credits.Purchase, 3*credits.Credit, nil)
		_, err := l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: 5 * credits.Credit, Reason: "use"})
		require.ErrorIs(t, err, credits.ErrInsufficient)
		var short *credits.InsufficientError
		require.ErrorAs(t, err, &short)
		assert.Equal(t, credits.InsufficientError{Required: 5 * credits.Credit, Available: 3 * credits.Credit}, *short)
		assert.Equal(t, 2*credits.Credit, short.Shortfall())
		assert.Equal(t, 3*credits.Credit, available(t, l))
		history, _, err := l.History(t.Context(), credits.HistoryParams{Account: acc})
		require.NoError(t, err)
		assert.Len(t, history, 1)

		_, err = l.Debit(t.Context(), credits.DebitParams{Account: "never seen", Amount: 1, Reason: "use"})
		require.ErrorIs(t, err, credits.ErrInsufficient)
	})
}

func TestDebit_OfNothingIsAnEntry(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, _ *clock) {
		e := debit(t, l, 0)
		assert.Zero(t, e.Amount)
		assert.Equal(t, int64(1), e.Seq)
	})
}

func TestParams_WrongOnesAreRefused(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		g := func(change func(*credits.GrantParams)) error {
			p := credits.GrantParams{Account: acc, Amount: 1, Source: credits.Bonus, Reason: "r"}
			change(&p)
			_, err := l.Grant(t.Context(), p)
			return err
		}
		long := make([]byte, 201)
		past := c.Now()
		require.ErrorIs(t, g(func(p *credits.GrantParams) { p.Account = "" }), credits.ErrAccountRequired)
		require.ErrorIs(t, g(func(p *credits.GrantParams) { p.Account = string(long) }), credits.ErrAccountRequired)
		require.ErrorIs(t, g(func(p *credits.GrantParams) { p.Amount = 0 }), credits.ErrAmountNotPositive)
		require.ErrorIs(t, g(func(p *credits.GrantParams) { p.Amount = -1 }), credits.ErrAmountNotPositive)
		require.ErrorIs(t, g(func(p *credits.GrantParams) { p.Source = "gift" }), credits.ErrUnknownSource)
		require.ErrorIs(t, g(func(p *credits.GrantParams) { p.Reason = " \t" }), credits.ErrReasonRequired)
		require.ErrorIs(t, g(func(p *credits.GrantParams) { p.ExpiresAt = &past }), credits.ErrAlreadyExpired)
		_, err := l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: -1, Reason: "r"})
		require.ErrorIs(t, err, credits.ErrAmountNegative)
		_, err = l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: 1, Reason: ""})
		require.ErrorIs(t, err, credits.ErrReasonRequired)
		_, err = l.Reserve(t.Context(), credits.ReserveParams{Account: acc, Amount: 1, Reason: "r"})
		require.ErrorIs(t, err, credits.ErrTTLRequired)
		_, err = l.Reserve(t.Context(), credits.ReserveParams{Account: acc, TTL: time.Minute, Reason: "r"})
		require.ErrorIs(t, err, credits.ErrAmountNotPositive)

		e, err := l.Grant(t.Context(), credits.GrantParams{Account: acc, Amount: 1, Source: credits.Bonus, Reason: "  trimmed \n"})
		require.NoError(t, err)
		assert.Equal(t, "trimmed", e.Reason)
		require.NoError(t, g(func(p *credits.GrantParams) { p.Amount = credits.MaxAmount - 1 }))
		require.ErrorIs(t, g(func(*credits.GrantParams) {}), credits.ErrOverflow)
	})
}

func TestBalance_TellsWhatExpiresSoonByDay(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Bonus, 1, in(c, 2*day))
		grant(t, l, credits.Bonus, 2, in(c, 2*day+time.Hour))
		grant(t, l, credits.Subscription, 4, in(c, 6*day))
		grant(t, l, credits.Bonus, 8, in(c, 8*day))
		grant(t, l, credits.Purchase, 16, nil)
		b, err := l.Balance(t.Context(), acc)
		require.NoError(t, err)
		midnight := start.Truncate(day)
		assert.Equal(t, []credits.Expiring{{midnight.Add(2 * day), 3}, {midnight.Add(6 * day), 4}}, b.Expiring)
		assert.Equal(t, start.Add(2*day), *b.NextExpiry)
		assert.Equal(t, credits.Amount(31), b.Available)
		empty, err := l.Balance(t.Context(), "nobody")
		require.NoError(t, err)
		assert.Zero(t, empty.Available)
	})
}

func TestIdempotency_SameKeyIsTheFirstResult(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, _ *clock) {
		g := credits.GrantParams{Account: acc, Amount: 10, Source: credits.Purchase, Reason: "r", Reference: "pi_1", IdempotencyKey: "k", Metadata: map[string]string{"a": "b"}}
		first, err := l.Grant(t.Context(), g)
		require.NoError(t, err)
		again, err := l.Grant(t.Context(), g)
		require.NoError(t, err)
		assert.Equal(t, first, again)
		g.Amount = 11
		_, err = l.Grant(t.Context(), g)
		require.ErrorIs(t, err, credits.ErrIdempotencyMismatch)
		_, err = l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: 10, Reason: "r", IdempotencyKey: "k"})
		require.ErrorIs(t, err, credits.ErrIdempotencyMismatch)
		g.Account = "other"
		_, err = l.Grant(t.Context(), g)
		require.NoError(t, err, "keys are the account's own")

		d := credits.DebitParams{Account: acc, Amount: 4, Reason: "r", IdempotencyKey: "d"}
		one, err := l.Debit(t.Context(), d)
		require.NoError(t, err)
		two, err := l.Debit(t.Context(), d)
		require.NoError(t, err)
		assert.Equal(t, one, two)
		assert.Equal(t, credits.Amount(6), available(t, l))

		r := credits.ReserveParams{Account: acc, Amount: 5, TTL: time.Hour, Reason: "r", IdempotencyKey: "k"}
		h, err := l.Reserve(t.Context(), r)
		require.NoError(t, err)
		same, err := l.Reserve(t.Context(), r)
		require.NoError(t, err)
		assert.Equal(t, h, same)
		r.Amount = 1
		_, err = l.Reserve(t.Context(), r)
		require.ErrorIs(t, err, credits.ErrIdempotencyMismatch)
		require.NoError(t, l.Release(t.Context(), h.ID))
		next, err := l.Reserve(t.Context(), r)
		require.NoError(t, err, "a hold that was given back frees its key")
		assert.NotEqual(t, h.ID, next.ID)
	})
}

func TestIdempotency_HoldsAtAnyConcurrency(t *testing.T) {
	run(t, func(t *testing.T, db *database.DB, l *credits.Ledger, c *clock) {
		other := newLedger(t, db, c)
		var group errgroup.Group
		ids := make([]uuid.UUID, 32)
		for i := range ids {
			group.Go(func() error {
				use := l
				if i%2 == 1 {
					use = other
				}
				e, err := use.Grant(t.Context(), credits.GrantParams{Account: acc, Amount: 10, Source: credits.Purchase, Reason: "r", IdempotencyKey: "once"})
				ids[i] = e.ID
				return err
			})
		}
		require.NoError(t, group.Wait())
		for _, id := range ids {
			assert.Equal(t, ids[0], id)
		}
		assert.Equal(t, credits.Amount(10), available(t, l))
	})
}

func TestDebit_ConcurrentCallersNeverOverdraw(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, _ *clock) {
		for range 10 {
			grant(t, l, credits.Purchase, 5, nil)
		}
		var group errgroup.Group
		var mu sync.Mutex
		var spent, refused int
		for i := range 64 {
			group.Go(func() error {
				var err error
				if i%2 == 0 {
					_, err = l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: 1, Reason: "use"})
				} else {
					var h credits.Hold
					if h, err = l.Reserve(t.Context(), credits.ReserveParams{Account: acc, Amount: 1, TTL: time.Hour, Reason: "use"}); err == nil {
						_, err = l.Settle(t.Context(), h.ID, 1)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					spent++
				case errors.Is(err, credits.ErrInsufficient):
					refused++
				default:
					return err
				}
				return nil
			})
		}
		require.NoError(t, group.Wait())
		assert.Equal(t, 50, spent)
		assert.Equal(t, 14, refused)
		assert.Zero(t, available(t, l))
	})
}

func TestTx_TheHostsRowsAndOursCommitTogether(t *testing.T) {
	run(t, func(t *testing.T, db *database.DB, l *credits.Ledger, _ *clock) {
		boom := errors.New("the host changed its mind")
		p := credits.GrantParams{Account: acc, Amount: 10, Source: credits.Bonus, Reason: "welcome", IdempotencyKey: "welcome"}
		err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := l.GrantTx(ctx, tx, p)
			return errors.Join(err, boom)
		})
		require.ErrorIs(t, err, boom)
		assert.Zero(t, available(t, l))
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			if _, err := l.GrantTx(ctx, tx, p); err != nil {
				return err
			}
			// A refusal leaves the transaction usable.
			_, err := l.DebitTx(ctx, tx, credits.DebitParams{Account: acc, Amount: 11, Reason: "too much"})
			if !errors.Is(err, credits.ErrInsufficient) {
				return fmt.Errorf("not refused: %w", err)
			}
			h, err := l.ReserveTx(ctx, tx, credits.ReserveParams{Account: acc, Amount: 4, TTL: time.Hour, Reason: "work"})
			if err != nil {
				return err
			}
			_, err = l.SettleTx(ctx, tx, h.ID, 3)
			return err
		}))
		assert.Equal(t, credits.Amount(7), available(t, l))
	})
}

func TestEntries_AreAppendOnly(t *testing.T) {
	run(t, func(t *testing.T, db *database.DB, l *credits.Ledger, _ *clock) {
		grant(t, l, credits.Purchase, 10, nil)
		grant(t, l, credits.Purchase, 10, nil)
		debit(t, l, 11)
		for _, query := range []string{
			"UPDATE qs_credit_entries SET amount = 1000 WHERE kind = 'grant'", "DELETE FROM qs_credit_entries",
			"UPDATE qs_credit_allocations SET amount = 1000", "DELETE FROM qs_credit_allocations",
		} {
			_, err := db.Writer().ExecContext(t.Context(), query)
			require.ErrorContains(t, err, "append-only", query)
		}
		_, err := db.Writer().ExecContext(t.Context(), "UPDATE qs_credit_lots SET free = -1")
		require.True(t, database.IsCheckViolation(err))
	})
}

func TestHistory_PagesFromTheNewest(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, _ *clock) {
		for range 7 {
			grant(t, l, credits.Purchase, 1, nil)
		}
		var seqs []int64
		before := int64(0)
		for {
			page, more, err := l.History(t.Context(), credits.HistoryParams{Account: acc, Limit: 3, Before: before})
			require.NoError(t, err)
			for _, e := range page {
				seqs = append(seqs, e.Seq)
			}
			if !more {
				break
			}
			before = page[len(page)-1].Seq
		}
		assert.Equal(t, []int64{7, 6, 5, 4, 3, 2, 1}, seqs)
		lots, err := l.Lots(t.Context(), acc)
		require.NoError(t, err)
		assert.Len(t, lots, 7)
	})
}

// What foreign keys and CHECKs say row by row elsewhere, the schema says once per statement on PostgreSQL.
func TestSchema_RefusesOrphansAndAmountsOfTheWrongKind(t *testing.T) {
	run(t, func(t *testing.T, db *database.DB, l *credits.Ledger, _ *clock) {
		grant(t, l, credits.Purchase, 10, nil)
		_, err := l.Grant(t.Context(), credits.GrantParams{Account: "other", Amount: 5, Source: credits.Bonus, Reason: "r"})
		require.NoError(t, err)
		var lot, othersLot string
		require.NoError(t, db.Get(t.Context(), &lot, `SELECT head_lot FROM qs_credit_accounts WHERE id = ?`, acc))
		require.NoError(t, db.Get(t.Context(), &othersLot, `SELECT head_lot FROM qs_credit_accounts WHERE id = 'other'`))
		entry := func(account, kind string, amount int, lot any) error {
			_, err := db.Writer().ExecContext(t.Context(), db.Rebind(`INSERT INTO qs_credit_entries (id, account_id, seq, kind, amount, balance, available,
				lot_id, reason, created_at) VALUES (?, ?, 9, ?, ?, 0, 0, ?, 'r', ?)`), uuid.New(), account, kind, amount, lot, database.At(start))
			return err
		}
		for name, err := range map[string]error{
			"no account":           entry("nobody", "debit", -1, nil),
			"no lot":               entry(acc, "debit", -1, uuid.New()),
			"a negative grant":     entry(acc, "grant", -1, lot),
			"a positive debit":     entry(acc, "debit", 1, lot),
			"an unknown kind":      entry(acc, "gift", 1, lot),
			"a repayment of debts": entry(acc, "repay", 0, lot),
		} {
			require.Error(t, err, name)
		}
		if db.Dialect() == database.Postgres {
			require.Error(t, entry(acc, "debit", -1, othersLot), "another account's lot")
		}
		for _, query := range []string{
			"UPDATE qs_credit_accounts SET available = -1, head_free = -1", "UPDATE qs_credit_accounts SET available = available + 1",
			"UPDATE qs_credit_accounts SET debt = 1", "UPDATE qs_credit_lots SET free = amount + 1",
			"DELETE FROM qs_credit_accounts", "DELETE FROM qs_credit_lots",
		} {
			_, err := db.Writer().ExecContext(t.Context(), query)
			require.Error(t, err, query)
		}
	})
}
