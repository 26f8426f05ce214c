package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// A backup is taken while credits are granted, and restored over a database that went on: it has all grants of its
// moment and none after it, and adds up; what was there is kept.
func TestDB_BackupUnderLoadAndRestore(t *testing.T) {
	t.Parallel()
	url := dbtest.SQLiteURL(t, dbtest.Empty)
	p := at(t, url)
	p.ok("migrate", "up")
	pools, err := quickscale.Open(t.Context(), url)
	require.NoError(t, err)
	ledger, err := credits.New(credits.Config{DB: pools.DB, ReadDB: pools.ReadDB})
	require.NoError(t, err)
	grant := func(ctx context.Context, i int) error {
		_, err := ledger.Grant(ctx, credits.GrantParams{Account: fmt.Sprintf("a%d", i%7), Amount: credits.Credit, Source: credits.Purchase, Reason: "Pack"})
		return err
	}
	require.NoError(t, grant(t.Context(), 0))
	load, end := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error {
		for i := 1; load.Err() == nil; i++ {
			if err := grant(t.Context(), i); err != nil {
				return err
			}
		}
		return nil
	})
	out := p.ok("db", "backup", "backup.db")
	end()
	require.NoError(t, group.Wait())
	assert.Contains(t, out, "adds up")
	assert.Contains(t, p.fails(2, "db", "backup", "backup.db"), "overwrites nothing")

	entries := func(url string) (n int) {
		db, err := database.Open(t.Context(), url)
		require.NoError(t, err)
		require.NoError(t, db.Get(t.Context(), &n, "SELECT COUNT(*) FROM qs_credit_entries"))
		require.NoError(t, db.Close())
		return n
	}
	later := entries(url)
	assert.Contains(t, p.fails(1, "db", "restore", "backup.db"), "is in use", "the application has it open")
	require.NoError(t, pools.Close())
	assert.Equal(t, later, entries(url), "a refused restore changes nothing")

	out = p.ok("db", "restore", "backup.db")
	then := entries(url)
	assert.LessOrEqual(t, then, later)
	assert.Positive(t, then)
	assert.Equal(t, then, entries("sqlite:"+filepath.Join(p.dir, "backup.db")))
	kept, err := filepath.Glob(url[len("sqlite:"):] + ".before-*")
	require.NoError(t, err)
	require.Len(t, kept, 1)
	assert.Contains(t, out, kept[0])
	assert.Equal(t, later, entries("sqlite:"+kept[0]))
	assert.Contains(t, p.ok("ledger", "verify"), ", 0 discrepancies")
	require.NoError(t, application(t, url).Ready(t.Context()))
}

func TestDB_RefusesABackupThatIsNotSound(t *testing.T) {
	t.Parallel()
	url := dbtest.SQLiteURL(t, dbtest.Empty)
	p := at(t, url)
	p.ok("migrate", "up")
	p.ok("credits", "grant", "a", "5", "--reason", "Gift")
	p.ok("db", "backup", "good.db")
	good := p.read("good.db")

	p.write("broken.db", good[:len(good)/2])
	assert.Contains(t, p.fails(1, "db", "restore", "broken.db"), "broken.db")
	p.write("text.db", "no database\n")
	p.fails(1, "db", "restore", "text.db")
	p.write("false.db", good)
	db, err := database.Open(t.Context(), "sqlite:"+filepath.Join(p.dir, "false.db"))
	require.NoError(t, err)
	_, err = db.Writer().ExecContext(t.Context(), "UPDATE qs_credit_accounts SET available = available + 1, head_free = head_free + 1")
	require.NoError(t, err)
	require.NoError(t, db.Close())
	assert.Contains(t, p.fails(1, "db", "restore", "false.db"), "discrepancies")
	p.write("busy.db", good)
	p.write("busy.db-wal", "x")
	assert.Contains(t, p.fails(2, "db", "restore", "busy.db"), "no backup")
	p.fails(2, "db", "restore", "nowhere.db")
	assert.Regexp(t, `available +5`, p.ok("credits", "balance", "a"), "nothing was changed")

	// On a machine that has no database yet, also from an older version without all tables.
	empty := at(t, "sqlite:"+filepath.Join(t.TempDir(), "new.db"))
	p.ok("migrate", "down", "admin", "--force")
	p.ok("db", "backup", "older.db")
	empty.ok("db", "restore", filepath.Join(p.dir, "older.db"))
	assert.Contains(t, empty.ok("migrate", "status"), "0 pending")
	assert.Regexp(t, `available +5`, empty.ok("credits", "balance", "a"))

	for _, command := range [][]string{{"db", "backup", "x.db"}, {"db", "restore", filepath.Join(p.dir, "good.db")}} {
		assert.Contains(t, at(t, dbtest.PostgresURL(t, dbtest.Empty)).fails(2, command...), "pg_dump")
	}
	left, err := filepath.Glob(url[len("sqlite:"):] + ".restore*")
	require.NoError(t, err)
	assert.Empty(t, left)
	_, err = os.Stat(filepath.Join(p.dir, "x.db"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// The drill of docs/production.md with PostgreSQL's own programs: a dump under load, restored into an empty database, is
// one moment of the ledger, which adds up, and serves.
func TestDB_PostgresDumpAndRestoreDrill(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"pg_dump", "pg_restore"} {
		_, err := exec.LookPath(program)
		require.NoError(t, err, "PostgreSQL's programs are needed: apt-get install postgresql-client")
	}
	from, to := dbtest.PostgresURL(t, dbtest.Empty), dbtest.PostgresURL(t, dbtest.Empty)
	p := at(t, from)
	p.ok("migrate", "up")
	pools, err := quickscale.Open(t.Context(), from)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pools.Close()) })
	ledger, err := credits.New(credits.Config{DB: pools.DB, ReadDB: pools.ReadDB})
	require.NoError(t, err)
	grant := func(i int) error {
		_, err := ledger.Grant(t.Context(), credits.GrantParams{Account: fmt.Sprintf("a%d", i%7), Amount: credits.Credit, Source: credits.Purchase, Reason: "Pack"})
		return err
	}
	require.NoError(t, grant(0))
	_, err = ledger.Seal(t.Context())
	require.NoError(t, err)
	load, end := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error {
		for i := 1; load.Err() == nil; i++ {
			if err := grant(i); err != nil {
				return err
			}
		}
		return nil
	})
	file := filepath.Join(p.dir, "app.dump")
	out, err := exec.CommandContext(t.Context(), "pg_dump", "--format=custom", "--file="+file, from).CombinedOutput()
	end()
	require.NoError(t, err, "%s", out)
	require.NoError(t, group.Wait())
	out, err = exec.CommandContext(t.Context(), "pg_restore", "--no-owner", "--dbname="+to, file).CombinedOutput()
	require.NoError(t, err, "%s", out)

	restored := at(t, to)
	assert.Contains(t, restored.ok("migrate", "status"), "0 pending")
	assert.Regexp(t, `[1-7] accounts and 1 seals checked, 0 discrepancies`, restored.ok("ledger", "verify"))
	require.NoError(t, application(t, to).Ready(t.Context()))
	restored.ok("credits", "grant", "a0", "1", "--reason", "Gift")
	assert.Contains(t, restored.ok("ledger", "verify"), ", 0 discrepancies", "the ledger goes on where it was")
}
