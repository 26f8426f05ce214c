// Package dbtest gives tests real databases: a SQLite file and a PostgreSQL database of their own, each with the
// tables that the test needs, both gone when the test ends.
//
// PostgreSQL is looked for in this order, once per test binary: the server at QUICKSCALE_TEST_DATABASE_URL; Docker
// (image postgres:17-alpine, or QUICKSCALE_TEST_POSTGRES_IMAGE); initdb and postgres on PATH or under
// /usr/lib/postgresql; a download by embedded-postgres. Where none works the test fails and says how to get one.
package dbtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/database"
)

// Schema is what a test's database holds at its start.
type Schema struct {
	// Name tells schemas of one test binary apart.
	Name string
	// Migrate makes the tables. It runs once per engine and test binary; tests get copies.
	Migrate func(ctx context.Context, db *database.DB) error
}

// Empty is a database without tables.
var Empty = Schema{Name: "empty", Migrate: func(context.Context, *database.DB) error { return nil }}

// Of makes a schema of migration sets.
func Of(sets ...database.Migrations) Schema {
	names := make([]string, len(sets))
	for i, s := range sets {
		names[i] = s.Name
	}
	return Schema{Name: "of " + strings.Join(names, " "), Migrate: func(ctx context.Context, db *database.DB) error {
		return database.Migrate(ctx, db, sets...)
	}}
}

// Main runs a package's tests and takes the server down afterwards. Every package that uses dbtest calls it from
// its TestMain:
//
//	func TestMain(m *testing.M) { dbtest.Main(m) }
//
// What the package itself has to clean up comes after it.
func Main(m *testing.M, after ...func() error) {
	mainRan = true
	code := m.Run()
	for _, fn := range append(after, cleanup) {
		if err := fn(); err != nil {
			fmt.Fprintln(os.Stderr, "dbtest: clean up:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Run runs fn as two parallel subtests, "sqlite" and "postgres", each on a database of its own.
func Run(t *testing.T, schema Schema, fn func(t *testing.T, db *database.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		fn(t, SQLite(t, schema))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		fn(t, Postgres(t, schema))
	})
}

// SQLite opens a database in a file of its own.
func SQLite(tb testing.TB, schema Schema) *database.DB {
	tb.Helper()
	return open(tb, SQLiteURL(tb, schema))
}

// SQLiteURL is the URL of a SQLite database of the test's own, for programs that open it themselves.
func SQLiteURL(tb testing.TB, schema Schema) string {
	tb.Helper()
	content, err := sqliteTemplate(schema)
	require.NoError(tb, err, "make the SQLite tables of %s", schema.Name)
	file := filepath.Join(tb.TempDir(), "test.db")
	require.NoError(tb, os.WriteFile(file, content, 0o600))
	return "sqlite:" + file
}

// Postgres opens a PostgreSQL database of the test's own. It fails the test when there is no server.
func Postgres(tb testing.TB, schema Schema) *database.DB {
	tb.Helper()
	return open(tb, PostgresURL(tb, schema))
}

// PostgresURL is the URL of a PostgreSQL database of the test's own, for programs and drivers that open it
// themselves. It fails the test when there is no server.
func PostgresURL(tb testing.TB, schema Schema) string {
	tb.Helper()
	s := postgresServer(tb)
	url, drop, err := s.database(tb.Context(), schema)
	require.NoError(tb, err, "make a PostgreSQL database for %s", schema.Name)
	tb.Cleanup(func() { require.NoError(tb, drop()) })
	return url
}

func open(tb testing.TB, url string) *database.DB {
	tb.Helper()
	db, err := database.Open(tb.Context(), url)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, db.Close()) })
	return db
}

// once remembers one result per schema name.
type once[T any] struct {
	mu   sync.Mutex
	done map[string]func() (T, error)
}

func (o *once[T]) do(name string, fn func() (T, error)) (T, error) {
	o.mu.Lock()
	if o.done == nil {
		o.done = map[string]func() (T, error){}
	}
	f, ok := o.done[name]
	if !ok {
		f = sync.OnceValues(fn)
		o.done[name] = f
	}
	o.mu.Unlock()
	return f()
}

var sqliteTemplates once[[]byte]

// sqliteTemplate returns the bytes of a database file that holds schema.
func sqliteTemplate(schema Schema) ([]byte, error) {
	return sqliteTemplates.do(schema.Name, func() (content []byte, err error) {
		dir, err := os.MkdirTemp("", "dbtest")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		file := filepath.Join(dir, "template.db")
		ctx := context.Background()
		db, err := database.Open(ctx, "sqlite:"+file)
		if err != nil {
			return nil, err
		}
		if err := schema.Migrate(ctx, db); err != nil {
			_ = db.Close()
			return nil, err
		}
		// Closing the last connection moves the write-ahead log into the file.
		if err := db.Close(); err != nil {
			return nil, err
		}
		return os.ReadFile(file)
	})
}
