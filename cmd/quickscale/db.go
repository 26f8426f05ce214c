package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/jobs"
)

func newDB() *cobra.Command {
	cmd := group("db", "The database itself: back it up, restore it")
	addJSON(cmd)
	cmd.AddCommand(dbBackup(), dbRestore())
	return cmd
}

// backedUp is what backup prints.
type backedUp struct {
	File     string `json:"file"`
	Bytes    int64  `json:"bytes"`
	Accounts int    `json:"accounts"` // whose ledger was verified
}

// errPostgres says where the way for PostgreSQL is told.
var errPostgres = usageError{errors.New("this is for SQLite; PostgreSQL has pg_dump and pg_restore, and docs/production.md says how to use them")}

func dbBackup() *cobra.Command {
	cmd := &cobra.Command{
		Use: "backup FILE", Args: args(cobra.ExactArgs(1)), Short: "Copy an SQLite database into a file while the application runs, and check the copy",
		Long: "Copy an SQLite database into a file while the application runs, as it is at one moment, then check the pages of the\n" +
			"copy and verify its ledger. A copy that does not add up is kept, and fails the command with 1. A file that is there\n" +
			"is not overwritten.",
		Example: "  quickscale db backup backup-$(date +%F).db",
	}
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
			if db.Dialect() != database.SQLite {
				return errPostgres
			}
			if _, err := os.Stat(files[0]); !errors.Is(err, fs.ErrNotExist) {
				return usageError{fmt.Errorf("%s is there already; a backup overwrites nothing", files[0])}
			}
			if err := copySQLite(ctx, db, files[0]); err != nil {
				return err
			}
			result, err := checkCopy(ctx, files[0])
			if err != nil {
				return fmt.Errorf("the copy %s: %w", files[0], err)
			}
			return out.print(result, func(t table) {
				t.linef("%s has %d bytes; its pages are sound, and the ledger of its %d accounts adds up", result.File, result.Bytes, result.Accounts)
			})
		})
	}
	return cmd
}

// copySQLite writes the database as it is at one moment into a new file. The file has its name only when it is whole and
// on the disk.
func copySQLite(ctx context.Context, db *database.DB, file string) (err error) {
	part := file + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer func() {
		if err != nil {
			if gone := os.Remove(part); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
				err = errors.Join(err, gone)
			}
		}
	}()
	// Through the pool that reads: it sees one moment, and nobody waits for it.
	if _, err := db.Reader().ExecContext(ctx, "VACUUM INTO ?", part); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(part, file)
}

// checkCopy checks the pages of a database that nobody uses, and its ledger.
func checkCopy(ctx context.Context, file string) (result backedUp, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return result, err
	}
	db, err := database.Open(ctx, "sqlite:"+file)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var problems []string
	if err := db.Select(ctx, &problems, "PRAGMA integrity_check"); err != nil {
		return result, fmt.Errorf("it is no sound SQLite database: %w", err)
	}
	if len(problems) != 1 || problems[0] != "ok" {
		return result, fmt.Errorf("its pages are broken: %s", strings.Join(problems, "; "))
	}
	l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
	if err != nil {
		return result, err
	}
	found := verified{}
	quiet := func(int, string, ...any) {}
	if err := errors.Join(verifyAccounts(ctx, l, "", &found, quiet), verifySeals(ctx, l, &found, quiet)); err != nil {
		return result, err
	}
	if n := len(found.Discrepancies); n > 0 {
		return result, fmt.Errorf("%w: %d, such as %s of account %s", errDiscrepancies, n, found.Discrepancies[0].Rule, found.Discrepancies[0].Account)
	}
	return backedUp{File: file, Bytes: info.Size(), Accounts: found.Accounts}, nil
}

// restored is what restore prints.
type restored struct {
	backedUp

	// Kept is where the database went that was there. Empty: there was none.
	Kept string `json:"kept,omitempty"`
}

func dbRestore() *cobra.Command {
	cmd := &cobra.Command{
		Use: "restore FILE", Args: args(cobra.ExactArgs(1)), Short: "Put a backup in the place of the SQLite database, which is kept",
		Long: "Put a backup in the place of the SQLite database that " + envDatabase + " names, which is kept beside it. Stop the\n" +
			"application first. The backup is checked as db backup does before anything changes, and gets the tables of this\n" +
			"version. What was paid after the backup is not in it: stripe reconcile --all grants it, once.",
	}
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		out, err := newOutput(cmd)
		if err != nil {
			return err
		}
		address, err := databaseURL()
		if err != nil {
			return err
		}
		file, isFile := strings.CutPrefix(address, "sqlite:")
		if !isFile {
			return errPostgres
		}
		if _, err := os.Stat(files[0]); err != nil {
			return usageError{err}
		}
		result, err := restoreSQLite(cmd.Context(), files[0], file)
		if err != nil {
			return err
		}
		return out.print(result, func(t table) {
			t.linef("%s is %s now: %d bytes, and the ledger of its %d accounts adds up", file, files[0], result.Bytes, result.Accounts)
			if result.Kept != "" {
				t.linef("the database that was there is %s", result.Kept)
			}
		})
	}
	return cmd
}

// restoreSQLite prepares a copy of the backup beside the database, and puts it in its place at the end.
func restoreSQLite(ctx context.Context, from, file string) (result restored, err error) {
	fresh := file + ".restore"
	for _, part := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(fresh + part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return result, err
		}
	}
	if info, err := os.Stat(from + "-wal"); err == nil && info.Size() > 0 {
		return result, usageError{fmt.Errorf("%s is a database in use, and no backup: a part of it is in %s-wal; make one with quickscale db backup", from, from)}
	}
	if err := copyFile(from, fresh); err != nil {
		return result, fmt.Errorf("the backup %s: %w", from, err)
	}
	if result.backedUp, err = checkCopy(ctx, fresh); err != nil {
		return result, fmt.Errorf("the backup %s: %w", from, errors.Join(err, os.Remove(fresh)))
	}
	result.File = from
	if err := migrateFile(ctx, fresh); err != nil {
		return result, errors.Join(err, os.Remove(fresh))
	}
	if _, err := os.Stat(file); err == nil {
		if result.Kept, err = setAside(ctx, file); err != nil {
			return result, err
		}
	}
	return result, os.Rename(fresh, file)
}

// copyFile copies a file, down to the disk.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

func migrateFile(ctx context.Context, file string) (err error) {
	db, err := database.Open(ctx, "sqlite:"+file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	engine, err := jobs.New(jobs.Config{DB: db, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return errors.Join(engine.Migrate(ctx), database.Migrate(ctx, db, migrationSets()...))
}

// setAside gives a database that nobody uses another name. What SQLite keeps beside it is moved into the file before; a
// process that has the database open keeps that from being done, and the command ends.
func setAside(ctx context.Context, file string) (kept string, err error) {
	db, err := database.Open(ctx, "sqlite:"+file)
	if err != nil {
		return "", err
	}
	var mode string
	err = db.Reader().Close() // one of ours would be in the way
	if err == nil {
		err = db.Writer().GetContext(ctx, &mode, "PRAGMA journal_mode = DELETE")
	}
	if err := errors.Join(err, db.Close()); err != nil || mode != "delete" {
		return "", fmt.Errorf("%s is in use; stop the application, and whatever else has it open (%w)", file, errors.Join(errInUse, err))
	}
	kept = file + ".before-" + time.Now().UTC().Format("20060102T150405")
	if _, err := os.Stat(kept); err == nil {
		return "", fmt.Errorf("%s is there already", filepath.Base(kept))
	}
	return kept, os.Rename(file, kept)
}

var errInUse = errors.New("another process has the database open")
