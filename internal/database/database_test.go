package database_test

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

//go:embed testdata/migrations
var testdata embed.FS

func counters(tb testing.TB) database.Migrations {
	tb.Helper()
	files, err := fs.Sub(testdata, "testdata")
	require.NoError(tb, err)
	return database.Migrations{Name: "counters", FS: files}
}

func TestInTx_CommitsOnNilAndRollsBackOnErrorAndPanic(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Of(counters(t)), func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		set := func(name string, after func() error) func(context.Context, *sqlx.Tx) error {
			return func(ctx context.Context, tx *sqlx.Tx) error {
				if _, err := db.ExecTx(ctx, tx, "INSERT INTO counters (name, n) VALUES (?, 1)", name); err != nil {
					return err
				}
				return after()
			}
		}
		boom := errors.New("boom")
		require.NoError(t, db.InTx(ctx, set("kept", func() error { return nil })))
		require.ErrorIs(t, db.InTx(ctx, set("failed", func() error { return boom })), boom)
		require.PanicsWithValue(t, "oh", func() {
			_ = db.InTx(ctx, set("panicked", func() error { panic("oh") }))
		})

		var names []string
		require.NoError(t, db.Select(ctx, &names, "SELECT name FROM counters"))
		assert.Equal(t, []string{"kept"}, names)
	})
}

func TestTryTx_OnlyWhatFailedIsUndone(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Of(counters(t)), func(t *testing.T, db *database.DB) {
		insert(t, db, "a", "b", "c")
		err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			failed, err := db.TryTx(ctx, tx, func(ctx context.Context) error { return increment(ctx, db, tx, "a") })
			require.NoError(t, errors.Join(failed, err))
			failed, err = db.TryTx(ctx, tx, func(ctx context.Context) error {
				require.NoError(t, increment(ctx, db, tx, "b"))
				_, err := db.ExecTx(ctx, tx, `INSERT INTO no_such_table (n) VALUES (1)`)
				return err
			})
			require.NoError(t, err)
			require.Error(t, failed)
			return increment(ctx, db, tx, "c")
		})
		require.NoError(t, err)
		var n []int
		require.NoError(t, db.Select(t.Context(), &n, `SELECT n FROM counters ORDER BY name`))
		assert.Equal(t, []int{1, 0, 1}, n)

		// Whatever the whole transaction must be tried again for is not held up.
		tries := 0
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := db.TryTx(ctx, tx, func(context.Context) error {
				if tries++; tries == 1 {
					return stateError("40001")
				}
				return nil
			})
			return err
		}))
		assert.Equal(t, 2, tries)
	})
}

// Every transaction reads and then writes, the pattern that loses updates or meets a busy database.
func TestInTx_ConcurrentTransactionsLoseNothing(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Of(counters(t)), func(t *testing.T, db *database.DB) {
		const workers, rounds = 8, 20
		insert(t, db, "a")
		var group errgroup.Group
		for range workers {
			group.Go(func() error {
				for range rounds {
					err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return increment(ctx, db, tx, "a") })
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, group.Wait())
		var n int
		require.NoError(t, db.Get(t.Context(), &n, "SELECT n FROM counters"))
		assert.Equal(t, workers*rounds, n)
	})
}

// Two transactions lock two rows in opposite order, each after the other has its first.
func TestInTx_DeadlockIsRetried(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t, dbtest.Of(counters(t)))
	insert(t, db, "a", "b")
	var group errgroup.Group
	var both sync.WaitGroup
	both.Add(2)
	var tries atomic.Int64
	for _, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
		first := true
		group.Go(func() error {
			return db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
				tries.Add(1)
				if err := increment(ctx, db, tx, order[0]); err != nil {
					return err
				}
				if first {
					first = false
					both.Done()
					both.Wait()
				}
				return increment(ctx, db, tx, order[1])
			})
		})
	}
	require.NoError(t, group.Wait())
	assert.Greater(t, tries.Load(), int64(2), "one of the two was the deadlock's victim")
	var sums []int
	require.NoError(t, db.Select(t.Context(), &sums, "SELECT n FROM counters ORDER BY name"))
	assert.Equal(t, []int{2, 2}, sums)
}

func insert(t *testing.T, db *database.DB, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := db.Writer().ExecContext(t.Context(), db.Rebind("INSERT INTO counters (name, n) VALUES (?, 0)"), name)
		require.NoError(t, err)
	}
}

func increment(ctx context.Context, db *database.DB, tx *sqlx.Tx, name string) error {
	var n int
	if err := db.GetTx(ctx, tx, &n, "SELECT n FROM counters WHERE name = ?"+db.Dialect().ForUpdate(), name); err != nil {
		return err
	}
	changed, err := db.ExecTx(ctx, tx, "UPDATE counters SET n = ? WHERE name = ?", n+1, name)
	if err == nil && changed != 1 {
		err = errors.New("no row changed")
	}
	return err
}

func TestInTx_RetriesWhatAnotherTransactionSpoiledAndNothingElse(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		for _, retryable := range []bool{true, false} {
			calls := 0
			err := db.InTx(t.Context(), func(context.Context, *sqlx.Tx) error {
				calls++
				if retryable && calls < 3 {
					return stateError("40001")
				}
				if !retryable {
					return stateError("23505")
				}
				return nil
			})
			if retryable {
				require.NoError(t, err)
				assert.Equal(t, 3, calls)
			} else {
				require.Error(t, err)
				assert.Equal(t, 1, calls)
			}
		}
		calls := 0
		ctx, cancel := context.WithCancel(t.Context())
		err := db.InTx(ctx, func(context.Context, *sqlx.Tx) error {
			calls++
			cancel()
			return stateError("40P01")
		})
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, 1, calls)
	})
}

type stateError string

func (e stateError) Error() string    { return "state " + string(e) }
func (e stateError) SQLState() string { return string(e) }

func TestViolations_AreToldApart(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Of(counters(t)), func(t *testing.T, db *database.DB) {
		exec := func(query string, args ...any) error {
			_, err := db.Writer().ExecContext(t.Context(), db.Rebind(query), args...)
			return err
		}
		require.NoError(t, exec("INSERT INTO counters (name, n) VALUES ('a', 1)"))
		assert.True(t, database.IsUniqueViolation(exec("INSERT INTO counters (name, n) VALUES ('a', 1)")))
		assert.True(t, database.IsCheckViolation(exec("INSERT INTO counters (name, n) VALUES ('b', -1)")))
		assert.True(t, database.IsForeignKeyViolation(exec("INSERT INTO marks (counter, at) VALUES ('none', ?)", database.At(time.Now()))))
		assert.False(t, database.IsUniqueViolation(sql.ErrNoRows))
	})
}

func TestMigrate_TenAtOnceOnAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			url := dbtest.SQLiteURL
			if engine == "postgres" {
				url = dbtest.PostgresURL
			}
			shared := url(t, dbtest.Empty)
			var group errgroup.Group
			for range 10 {
				group.Go(func() error {
					db, err := database.Open(t.Context(), shared)
					if err != nil {
						return err
					}
					return errors.Join(database.Migrate(t.Context(), db, counters(t)), db.Close())
				})
			}
			require.NoError(t, group.Wait())
			db, err := database.Open(t.Context(), shared)
			require.NoError(t, err)
			pending, err := database.Pending(t.Context(), db, counters(t))
			require.NoError(t, err)
			assert.Zero(t, pending)
			require.NoError(t, db.Close())
		})
	}
}

func TestMigrate_OneConnectionOnPostgresIsRefusedClearly(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t, dbtest.Empty)
	db.Writer().SetMaxOpenConns(1)
	require.ErrorContains(t, database.Migrate(t.Context(), db, counters(t)), "two connections")
}

func TestNew_OtherDriversOfTheDialectsWork(t *testing.T) {
	t.Parallel()
	url := dbtest.PostgresURL(t, dbtest.Of(counters(t)))
	for _, name := range []string{"pgx", "made-up-name"} {
		pool, err := sqlx.Open("pgx", url)
		require.NoError(t, err)
		pool = sqlx.NewDb(pool.DB, name)
		db, err := database.New(pool, nil)
		require.NoError(t, err)
		assert.Equal(t, database.Postgres, db.Dialect())

		at := time.Date(2026, 2, 3, 4, 5, 6, 789_123_456, time.FixedZone("", 3600))
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			if _, err := db.ExecTx(ctx, tx, "INSERT INTO counters (name, n) VALUES (?, 1)", name); err != nil {
				return err
			}
			_, err := db.ExecTx(ctx, tx, "INSERT INTO marks (counter, at) VALUES (?, ?)", name, database.At(at))
			return err
		}))
		var got database.Time
		require.NoError(t, db.Get(t.Context(), &got, "SELECT at FROM marks WHERE counter = ?", name))
		assert.Equal(t, database.Canonical(at), got.Time)
		_, err = db.Writer().ExecContext(t.Context(), db.Rebind("INSERT INTO counters (name, n) VALUES (?, 1)"), name)
		assert.True(t, database.IsUniqueViolation(err), "pgx's errors are read as lib/pq's are")
		require.NoError(t, db.Close())
	}

	file, err := database.Open(t.Context(), dbtest.SQLiteURL(t, dbtest.Empty))
	require.NoError(t, err)
	db, err := database.New(sqlx.NewDb(file.Writer().DB, "made-up-name"), nil)
	require.NoError(t, err)
	assert.Equal(t, database.SQLite, db.Dialect())
	require.NoError(t, file.Close())
}

func TestTime_RoundTripsAndSortsOnBothDatabases(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Of(counters(t)), func(t *testing.T, db *database.DB) {
		exec := func(query string, args ...any) {
			_, err := db.Writer().ExecContext(t.Context(), db.Rebind(query), args...)
			require.NoError(t, err)
		}
		exec("INSERT INTO counters (name, n) VALUES ('a', 1)")
		var mu sync.Mutex
		rapid.Check(t, func(rt *rapid.T) {
			mu.Lock()
			defer mu.Unlock()
			// 1970 to 2200, in nanoseconds
			draw := func(label string) time.Time {
				return time.Unix(0, rapid.Int64Range(0, 7_258_118_400_000_000_000).Draw(rt, label))
			}
			first, second := draw("first"), draw("second")
			exec("DELETE FROM marks")
			for _, at := range []time.Time{first, second} {
				exec("INSERT INTO marks (counter, at) VALUES ('a', ?)", database.At(at))
			}
			var got []database.Time
			require.NoError(rt, db.Select(t.Context(), &got, "SELECT at FROM marks WHERE at <= ? ORDER BY at", database.At(max64(first, second))))
			require.Len(rt, got, 2)
			want := []time.Time{database.Canonical(first), database.Canonical(second)}
			if want[1].Before(want[0]) {
				want[0], want[1] = want[1], want[0]
			}
			require.Equal(rt, want, []time.Time{got[0].Time, got[1].Time})
		})
	})
}

func TestTime_YearsThatWouldNotBeReadBackAreRefused(t *testing.T) {
	t.Parallel()
	for at, ok := range map[time.Time]bool{
		time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC):                               true,
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC):             true,
		time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC):                           false,
		time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("west", -2*60*60)): false,
		time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC):                             false,
	} {
		_, err := database.At(at).Value()
		assert.Equal(t, ok, err == nil, "%s: %v", at, err)
	}
}

func max64(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func TestOpen_WrongURLsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"":                         "is empty",
		"mysql://root@127.0.0.1/x": `unknown kind "mysql"`,
		"sqlite:":                  "names no file",
		"sqlite::memory:":          "not supported",
		"sqlite:a.db?mode=ro":      "without ?",
		"sqlite:/no/such/dir/a.db": "does not exist",
		"postgres://u:p w%@host/x": "does not parse",
		"postgres://u:geheim@127.0.0.1:1/x?sslmode=disable&connect_timeout=2": "ping",
	} {
		_, err := database.Open(t.Context(), url)
		require.ErrorContains(t, err, want, url)
		assert.NotContains(t, err.Error(), "geheim", "the password is not repeated")
	}
}
