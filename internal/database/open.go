package database

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq"  // the driver "postgres"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Pool sizes and lifetimes that Open sets; a host with other needs opens its own pools and uses New.
const (
	postgresMaxConns    = 20
	postgresMaxIdle     = 10
	connMaxLifetime     = 30 * time.Minute
	sqliteBusyTimeoutMS = 10_000
)

// Open opens the database that rawURL names and checks that it answers.
//
//   - postgres://user:password@host:port/name?sslmode=… (or postgresql://…): PostgreSQL over lib/pq.
//   - sqlite:path/to/file.db: SQLite, the file is made when missing; its directory must exist.
//
// SQLite is opened with WAL, foreign keys, synchronous=FULL, a busy timeout of 10 s, transactions that take the
// write lock at once, one connection that writes and several that read. The error never contains the password.
func Open(ctx context.Context, rawURL string) (*DB, error) {
	var (
		db  *DB
		err error
	)
	switch scheme, rest, _ := strings.Cut(rawURL, ":"); scheme {
	case "postgres", "postgresql":
		db, err = openPostgres(rawURL)
	case "sqlite":
		db, err = openSQLite(rest)
	case "":
		return nil, errors.New("database: the URL is empty; use sqlite:file.db or postgres://user@host/name")
	default:
		return nil, fmt.Errorf("database: unknown kind %q; use sqlite:file.db or postgres://user@host/name", scheme)
	}
	if err != nil {
		return nil, err
	}
	if err := db.Ping(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func openPostgres(rawURL string) (*DB, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The parse error repeats the URL, and with it the password.
		return nil, errors.New("database: the PostgreSQL URL does not parse; special characters in the password need percent-encoding")
	}
	pool, err := sqlx.Open("postgres", rawURL)
	if err != nil {
		return nil, fmt.Errorf("database: open %s: %w", u.Redacted(), err)
	}
	pool.SetMaxOpenConns(postgresMaxConns)
	pool.SetMaxIdleConns(postgresMaxIdle)
	pool.SetConnMaxLifetime(connMaxLifetime)
	return New(pool, pool)
}

func openSQLite(path string) (*DB, error) {
	if path == "" {
		return nil, errors.New("database: the SQLite URL names no file; use sqlite:file.db")
	}
	if strings.ContainsAny(path, "?#") {
		return nil, errors.New("database: the SQLite URL takes a file name only, without ? or #")
	}
	pragmas := url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", sqliteBusyTimeoutMS),
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"cache_size(-65536)",
		"wal_autocheckpoint(2000)",
		"foreign_keys(1)",
	}}
	if path == ":memory:" {
		// Every connection of a pool would see a database of its own.
		return nil, errors.New("database: SQLite in memory is not supported; use a file in a temporary directory")
	}
	if dir := filepath.Dir(path); dir != "." {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("database: the directory %s of the SQLite file does not exist", dir)
		}
	}
	file := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}).String()
	dsn := file + "?" + pragmas.Encode()
	write, err := sqlx.Open("sqlite", dsn+"&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("database: open SQLite: %w", err)
	}
	// One connection: SQLite has one writer at a time anyway, and a queue in Go is fairer than busy waiting.
	write.SetMaxOpenConns(1)
	write.SetMaxIdleConns(1)
	read, err := sqlx.Open("sqlite", dsn)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database: open SQLite for reading: %w", err), write.Close())
	}
	conns := max(4, runtime.NumCPU())
	read.SetMaxOpenConns(conns)
	read.SetMaxIdleConns(conns)
	return New(write, read)
}
