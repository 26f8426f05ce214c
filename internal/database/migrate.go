package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Migrations are the schema changes of one package.
type Migrations struct {
	// Name is the package's name; the versions that were applied are kept in the table qs_<Name>_migrations.
	Name string
	// FS holds goose files in migrations/postgres and migrations/sqlite.
	FS fs.FS
}

// Migrate applies what is missing of each set, in the order given. Any number of processes may call it at once on
// one database: on PostgreSQL a session-level advisory lock lets one work while the others wait up to five minutes;
// on SQLite, where the file belongs to one machine, a process that loses the race looks again.
func Migrate(ctx context.Context, db *DB, sets ...Migrations) error {
	return db.MigrationLock(ctx, func(ctx context.Context) error {
		for _, set := range sets {
			if err := apply(ctx, db, set); err != nil {
				return err
			}
		}
		return nil
	})
}

// Pending returns how many migrations of the sets are not applied yet, for readiness probes.
func Pending(ctx context.Context, db *DB, sets ...Migrations) (int, error) {
	pending := 0
	for _, set := range sets {
		p, err := provider(db, set)
		if err != nil {
			return 0, err
		}
		status, err := p.Status(ctx)
		if err != nil {
			return 0, fmt.Errorf("database: status of the migrations of %s: %w", set.Name, err)
		}
		for _, m := range status {
			if m.State == goose.StatePending {
				pending++
			}
		}
	}
	return pending, nil
}

func apply(ctx context.Context, db *DB, set Migrations) error {
	p, err := provider(db, set)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("database: migrate %s: %w", set.Name, err)
	}
	return nil
}

func provider(db *DB, set Migrations) (*goose.Provider, error) {
	dialect, dir := goose.DialectPostgres, "migrations/postgres"
	if db.dialect == SQLite {
		dialect, dir = goose.DialectSQLite3, "migrations/sqlite"
	}
	files, err := fs.Sub(set.FS, dir)
	if err != nil {
		return nil, fmt.Errorf("database: migrations of %s: %w", set.Name, err)
	}
	p, err := goose.NewProvider(dialect, db.write.DB, files,
		goose.WithTableName("qs_"+set.Name+"_migrations"),
		goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, fmt.Errorf("database: migrations of %s: %w", set.Name, err)
	}
	return p, nil
}

// How long a migrator waits for another one, and how often it looks.
const (
	lockProbeSeconds = 1
	lockProbes       = 300
	sqliteTries      = 10
	sqliteWait       = 200 * time.Millisecond
)

// MigrationLock runs fn while no other process migrates the database. fn must be repeatable: on SQLite, where no
// lock outlives a transaction, it runs again when it fails, since the failure may be that another process got ahead.
func (d *DB) MigrationLock(ctx context.Context, fn func(ctx context.Context) error) error {
	if d.dialect == SQLite {
		return migrateSQLite(ctx, fn)
	}
	if d.write.Stats().MaxOpenConnections == 1 {
		return errors.New("database: migrating PostgreSQL needs a pool of two connections or more: one holds the lock")
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(lockProbeSeconds, lockProbes))
	if err != nil {
		return fmt.Errorf("database: migration lock: %w", err)
	}
	conn, err := d.write.Conn(ctx)
	if err != nil {
		return fmt.Errorf("database: connection for the migration lock: %w", err)
	}
	defer conn.Close()
	if err := locker.SessionLock(ctx, conn); err != nil {
		return fmt.Errorf("database: take the migration lock: %w", err)
	}
	defer unlock(ctx, locker, conn)
	return fn(ctx)
}

// unlock gives the lock back even when ctx has ended; where that fails, the session
// is closed, which frees it.
func unlock(ctx context.Context, locker lock.SessionLocker, conn *sql.Conn) {
	if err := locker.SessionUnlock(context.WithoutCancel(ctx), conn); err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}

func migrateSQLite(ctx context.Context, fn func(ctx context.Context) error) error {
	var err error
	for range sqliteTries {
		if err = fn(ctx); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(sqliteWait):
		}
	}
	return err
}
