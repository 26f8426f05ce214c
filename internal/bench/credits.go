package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

const (
	manyAccounts = 10_000
	hot          = "hot"
	callers      = 256
	clients      = 16 // of the baselines: more make them slower
	poolSize     = 32
	opening      = 1_000_000_000 * credits.Credit
)

func accountName(n int) string { return fmt.Sprintf("account-%06d", n) }

func someAccount() string { return accountName(rand.IntN(manyAccounts)) }

// bed is a database with the ledger and the baselines in it.
type bed struct {
	db     *database.DB
	ledger *credits.Ledger
	bare   *bare
}

func benchCredits(ctx context.Context, o options, r *report) (err error) {
	given, how, stop, err := dbtest.Durable()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	pool, drop, err := ownDatabase(ctx, given)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	var version, fsync, commit string
	if err := errors.Join(pool.Get(&version, "SHOW server_version"), pool.Get(&fsync, "SHOW fsync"), pool.Get(&commit, "SHOW synchronous_commit")); err != nil {
		return err
	}
	r.linef("PostgreSQL", "%s, %s, fsync=%s, synchronous_commit=%s; %d CPUs, lib/pq", version, how, fsync, commit, runtime.NumCPU())
	b, err := newBed(ctx, pool, nil)
	if err != nil {
		return err
	}
	steps := []step{{"many", b.many}, {"hot", b.hot}, {"lone", b.lone}, {"long", b.long}, {"waiting", b.waiting}, {"sqlite", benchSQLite}}
	if err := o.check(steps); err != nil {
		return err
	}
	for _, s := range steps {
		if !o.wants(s.name) {
			continue
		}
		if err := s.measure(ctx, o, r); err != nil {
			return err
		}
	}
	return nil
}

// ownDatabase makes a database on the server and opens it with a pool that keeps its connections.
func ownDatabase(ctx context.Context, given string) (pool *sqlx.DB, drop func() error, err error) {
	admin, err := sqlx.ConnectContext(ctx, "postgres", given)
	if err != nil {
		return nil, nil, fmt.Errorf("connect: %w", err)
	}
	name := fmt.Sprintf("quickscale_bench_%d", time.Now().UnixNano())
	if _, err := admin.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return nil, nil, errors.Join(err, admin.Close())
	}
	url, err := dbtest.URLOf(given, name)
	if err != nil {
		return nil, nil, errors.Join(err, admin.Close())
	}
	pool, err = sqlx.ConnectContext(ctx, "postgres", url)
	if err != nil {
		return nil, nil, errors.Join(err, admin.Close())
	}
	pool.SetMaxOpenConns(poolSize)
	pool.SetMaxIdleConns(poolSize)
	drop = func() error {
		err := pool.Close()
		_, dropped := admin.Exec("DROP DATABASE " + name + " WITH (FORCE)")
		return errors.Join(err, dropped, admin.Close())
	}
	return pool, drop, nil
}

func newBed(ctx context.Context, write, read *sqlx.DB) (*bed, error) {
	db, err := database.New(write, read)
	if err != nil {
		return nil, err
	}
	ledger, err := credits.New(credits.Config{DB: write, ReadDB: read})
	if err != nil {
		return nil, err
	}
	if err := ledger.Migrate(ctx); err != nil {
		return nil, err
	}
	b := &bed{db: db, ledger: ledger}
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	b.bare, err = newBare(ctx, db)
	return b, err
}

// open gives every account its credits.
func (b *bed) open(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(callers)
	grant := func(account string) {
		group.Go(func() error {
			_, err := b.ledger.Grant(ctx, credits.GrantParams{Account: account, Amount: opening, Source: credits.Purchase, Reason: "opening"})
			return err
		})
	}
	grant(hot)
	for n := range manyAccounts {
		grant(accountName(n))
	}
	return group.Wait()
}

func (b *bed) debit(ctx context.Context, account string) error {
	_, err := b.ledger.Debit(ctx, credits.DebitParams{Account: account, Amount: 1, Reason: "use"})
	return err
}

func (b *bed) reserveAndSettle(ctx context.Context, account string) error {
	h, err := b.ledger.Reserve(ctx, credits.ReserveParams{Account: account, Amount: 2, TTL: time.Hour, Reason: "use"})
	if err != nil {
		return err
	}
	_, err = b.ledger.Settle(ctx, h.ID, 1)
	return err
}

func (b *bed) window(o options) (rounds int, d time.Duration) {
	return pick(o, 3, 5), pick(o, 600*time.Millisecond, 4*time.Second)
}

// many is A, and F beside it.
func (b *bed) many(ctx context.Context, o options, r *report) error {
	rounds, d := b.window(o)
	var allocations uint64
	var debits float64
	rates, err := contest(ctx, rounds,
		func(ctx context.Context) (float64, error) {
			return rate(ctx, clients, d, func(ctx context.Context, _, _ int) error { return b.bare.single(ctx, someAccount()) })
		},
		func(ctx context.Context) (float64, error) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			n, err := rate(ctx, callers, d, func(ctx context.Context, _, _ int) error { return b.debit(ctx, someAccount()) })
			runtime.ReadMemStats(&after)
			allocations += after.Mallocs - before.Mallocs
			debits += n * d.Seconds()
			return n, err
		},
		func(ctx context.Context) (float64, error) {
			return rate(ctx, callers, d, func(ctx context.Context, _, _ int) error { return b.reserveAndSettle(ctx, someAccount()) })
		})
	if err != nil {
		return err
	}
	r.linef("many accounts: single statement, 16 clients", "%.0f/s", rates[0])
	r.linef("many accounts: Debit, 256 callers", "%.0f/s, %.0f allocations each", rates[1], float64(allocations)/debits)
	r.linef("many accounts: Reserve and Settle, 256 callers", "%.0f/s", rates[2])
	r.ratio("credits.A", rates[1]/rates[0], "3, goal 5")
	r.ratio("credits.F.many", rates[2]/rates[1], "0.6")
	r.ratio("credits.F.many.operations", 2*rates[2]/rates[1], "0.6, a pair being two operations")
	return nil
}

// hot is B, and F beside it.
func (b *bed) hot(ctx context.Context, o options, r *report) error {
	rounds, d := b.window(o)
	rates, err := contest(ctx, rounds,
		func(ctx context.Context) (float64, error) {
			return rate(ctx, clients, d, func(ctx context.Context, _, _ int) error { return b.bare.naive(ctx, hot) })
		},
		func(ctx context.Context) (float64, error) {
			return rate(ctx, callers, d, func(ctx context.Context, _, _ int) error { return b.debit(ctx, hot) })
		},
		func(ctx context.Context) (float64, error) {
			return rate(ctx, callers, d, func(ctx context.Context, _, _ int) error { return b.reserveAndSettle(ctx, hot) })
		})
	if err != nil {
		return err
	}
	r.linef("one hot account: naive transaction, 16 clients", "%.0f/s", rates[0])
	r.linef("one hot account: Debit, 256 callers", "%.0f/s", rates[1])
	r.linef("one hot account: Reserve and Settle, 256 callers", "%.0f/s", rates[2])
	r.ratio("credits.B", rates[1]/rates[0], "20, goal 40")
	r.ratio("credits.F.hot", rates[2]/rates[1], "0.6")
	r.ratio("credits.F.hot.operations", 2*rates[2]/rates[1], "0.6, a pair being two operations")
	return nil
}

// lone is C.
func (b *bed) lone(ctx context.Context, o options, r *report) error {
	took, err := p50s(pick(o, 800, 8000),
		func() error { return b.bare.single(ctx, someAccount()) },
		func() error { return b.debit(ctx, someAccount()) })
	if err != nil {
		return err
	}
	r.linef("one caller: single statement, p50", "%s", took[0])
	r.linef("one caller: Debit, p50", "%s", took[1])
	r.ratio("credits.C", float64(took[0])/float64(took[1]), "0.8")
	return nil
}

const (
	longHistory = 1_000_000
	manyLots    = 10_000
)

// long is D: what age and splitting do to an account.
func (b *bed) long(ctx context.Context, o options, r *report) error {
	const short, long, lots = "short", "long", "lots"
	if err := b.history(ctx, short, 100); err != nil {
		return err
	}
	if err := b.history(ctx, long, longHistory); err != nil {
		return err
	}
	if err := b.lots(ctx, lots); err != nil {
		return err
	}
	if _, err := b.db.Writer().ExecContext(ctx, "ANALYZE"); err != nil {
		return err
	}
	var works []func() error
	for _, account := range []string{short, long, lots} {
		works = append(works,
			func() error { return b.debit(ctx, account) },
			func() error {
				_, err := b.ledger.Balance(ctx, account)
				return err
			})
	}
	if _, err := p50s(20, works...); err != nil { // warm the caches
		return err
	}
	took, err := p50s(pick(o, 300, 3000), works...)
	if err != nil {
		return err
	}
	for i, what := range []string{"100 entries", "1,000,000 entries", "10,000 open lots"} {
		r.linef("age: "+what+", p50", "Debit %s, Balance %s", took[2*i], took[2*i+1])
	}
	r.ratio("credits.D.history", max(float64(took[2])/float64(took[0]), float64(took[3])/float64(took[1])), "at most 1.1")
	r.ratio("credits.D.lots", max(float64(took[4])/float64(took[0]), float64(took[5])/float64(took[1])), "at most 1.5")
	return nil
}

// history makes an account with n entries by SQL, as the ledger would have written them one by one.
func (b *bed) history(ctx context.Context, account string, n int) error {
	if _, err := b.ledger.Grant(ctx, credits.GrantParams{Account: account, Amount: opening, Source: credits.Purchase, Reason: "opening"}); err != nil {
		return err
	}
	return b.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		// Without the checks of foreign keys, which are right by construction.
		for _, query := range []string{`SET LOCAL session_replication_role = replica`, `SET LOCAL synchronous_commit = off`} {
			if _, err := b.db.ExecTx(ctx, tx, query); err != nil {
				return err
			}
		}
		_, err := b.db.ExecTx(ctx, tx, `INSERT INTO qs_credit_entries (id, account_id, seq, kind, amount, balance, available, lot_id, reason, created_at)
			SELECT gen_random_uuid(), a.id, a.last_seq + i, 'debit', -1, a.available - i, a.available - i, a.head_lot, 'use', a.last_at
			FROM qs_credit_accounts a, generate_series(1, ?) AS i WHERE a.id = ?`, n-1, account)
		if err != nil {
			return err
		}
		_, err = b.db.ExecTx(ctx, tx, `UPDATE qs_credit_accounts SET available = available - ?, head_free = head_free - ?, last_seq = last_seq + ? WHERE id = ?`,
			n-1, n-1, n-1, account)
		return err
	})
}

// lots makes an account with many open lots: half of them never expire, the others do between one month and one year
// from now.
func (b *bed) lots(ctx context.Context, account string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(callers)
	now := time.Now()
	for i := range manyLots {
		group.Go(func() error {
			p := credits.GrantParams{Account: account, Amount: credits.Credit, Source: credits.Purchase, Reason: "pack"}
			if i%2 == 0 {
				at := now.AddDate(0, 1, i%330)
				p.ExpiresAt = &at
			}
			_, err := b.ledger.Grant(ctx, p)
			return err
		})
	}
	return group.Wait()
}

// waiting measures what a caller costs who waits: all of them queue behind a row that somebody else holds.
func (b *bed) waiting(ctx context.Context, _ options, r *report) error {
	const n = 10_000
	var before, during runtime.MemStats
	var group errgroup.Group
	err := b.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := b.db.ExecTx(ctx, tx, `SELECT 1 FROM qs_credit_accounts WHERE id = ? FOR UPDATE`, hot); err != nil {
			return err
		}
		runtime.GC()
		runtime.ReadMemStats(&before)
		goroutines := runtime.NumGoroutine()
		for range n {
			group.Go(func() error { return b.debit(context.WithoutCancel(ctx), hot) })
		}
		for runtime.NumGoroutine() < goroutines+n {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond) // until they have queued
		runtime.GC()
		runtime.ReadMemStats(&during)
		return nil
	})
	if err := errors.Join(err, group.Wait()); err != nil {
		return err
	}
	used := float64(during.HeapAlloc-before.HeapAlloc) + float64(during.StackInuse-before.StackInuse)
	r.linef("memory of a caller who waits", "%.1f KiB, its goroutine included", used/n/1024)
	return nil
}

// benchSQLite is E.
func benchSQLite(ctx context.Context, o options, r *report) (err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db, err := database.Open(ctx, "sqlite:"+filepath.Join(dir, "bench.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	b, err := newBed(ctx, db.Writer(), db.Reader())
	if err != nil {
		return err
	}
	const callers = 64
	rounds, d := b.window(o)
	rates, err := contest(ctx, rounds,
		func(ctx context.Context) (float64, error) {
			return rate(ctx, callers, d, func(ctx context.Context, _, _ int) error {
				return db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
					_, err := b.ledger.DebitTx(ctx, tx, credits.DebitParams{Account: someAccount(), Amount: 1, Reason: "use"})
					return err
				})
			})
		},
		func(ctx context.Context) (float64, error) {
			return rate(ctx, callers, d, func(ctx context.Context, _, _ int) error { return b.debit(ctx, someAccount()) })
		},
		func(ctx context.Context) (float64, error) {
			return rate(ctx, callers, d, func(ctx context.Context, _, _ int) error { return b.debit(ctx, hot) })
		})
	if err != nil {
		return err
	}
	r.linef("SQLite: a transaction per debit, 64 callers", "%.0f/s", rates[0])
	r.linef("SQLite: Debit, many accounts, 64 callers", "%.0f/s", rates[1])
	r.linef("SQLite: Debit, one hot account, 64 callers", "%.0f/s", rates[2])
	r.ratio("credits.E.many", rates[1]/rates[0], "10")
	r.ratio("credits.E.hot", rates[2]/rates[0], "10")
	return nil
}
