package credits_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// exercise does a bit of everything, alone and at once, and checks the sums.
func exercise(t *testing.T, pool *sqlx.DB, pooled bool) {
	t.Helper()
	l, err := credits.New(credits.Config{DB: pool, Pooled: pooled})
	require.NoError(t, err)
	grantTo(t, l, acc, 1000)
	at := time.Now().Add(time.Hour)
	_, err = l.Grant(t.Context(), credits.GrantParams{Account: acc, Amount: 50, Source: credits.Subscription, Reason: `a "quoted" \ {text}, ü`, ExpiresAt: &at})
	require.NoError(t, err)
	var group errgroup.Group
	for caller := range 32 {
		group.Go(func() error {
			for i := range 10 {
				p := credits.DebitParams{Account: acc, Amount: 2, Reason: `"quoted" \ {text}, ü`, Metadata: map[string]string{"k": "{\"v\"}"},
					IdempotencyKey: fmt.Sprintf(`key "%d",{%d}\`, caller, i)}
				e, err := l.Debit(context.Background(), p)
				if err != nil {
					return err
				}
				if e.Reason != p.Reason || e.Metadata["k"] != p.Metadata["k"] {
					return fmt.Errorf("another text: %+v", e)
				}
				h, err := l.Reserve(context.Background(), credits.ReserveParams{Account: acc, Amount: 3, TTL: time.Hour, Reason: "work"})
				if errors.Is(err, credits.ErrInsufficient) {
					continue
				}
				if err == nil {
					_, err = l.Settle(context.Background(), h.ID, 1)
				}
				if err != nil {
					return err
				}
				if _, err := l.Balance(context.Background(), acc); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	_, err = l.Transfer(t.Context(), credits.TransferParams{Account: acc, To: "other", Amount: 5, Reason: "share"})
	require.NoError(t, err)
	found, err := l.VerifyAll(t.Context(), nil)
	require.NoError(t, err)
	assert.Empty(t, found)
	b := balance(t, l, acc)
	assert.Equal(t, credits.Amount(1050-32*10*3-5), b.Available)
	entries, _, err := l.History(t.Context(), credits.HistoryParams{Account: acc, Text: `"QUOTED" \ {text}`})
	require.NoError(t, err)
	assert.NotEmpty(t, entries)
}

func TestDrivers_AllOfPostgresDo(t *testing.T) {
	t.Parallel()
	for name, parameters := range map[string]string{"postgres": "", "pgx": "", "postgres with binary parameters": "binary_parameters=yes",
		"pgx without prepared statements": "default_query_exec_mode=exec"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			driver, _, _ := strings.Cut(name, " ")
			pool, err := sqlx.Open(driver, dbtest.PostgresURL(t, schema)+"&"+parameters)
			require.NoError(t, err)
			pool.SetMaxOpenConns(10)
			exercise(t, pool, false)
			require.NoError(t, pool.Close())
		})
	}
}

// A pool of one connection must not wait for a second one.
func TestDrivers_OneConnectionIsEnough(t *testing.T) {
	t.Parallel()
	pool, err := sqlx.Open("postgres", dbtest.PostgresURL(t, schema))
	require.NoError(t, err)
	pool.SetMaxOpenConns(1)
	exercise(t, pool, false)
	require.NoError(t, pool.Close())
}

// PgBouncer gives each transaction another session of the server: two of them for twenty connections here.
func TestDrivers_PgBouncerInTransactionMode(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // where Debian has it, which is not on everybody's PATH
		_, err = os.Stat(program)
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("PgBouncer is missing (Debian: apt-get install pgbouncer)")
		}
		t.Log("not tested here: PgBouncer is missing (Debian: apt-get install pgbouncer)")
		return
	}
	for name, parameters := range map[string]string{"postgres": "binary_parameters=yes", "pgx": "default_query_exec_mode=exec"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, err := sqlx.Open(name, bouncer(t, program, dbtest.PostgresURL(t, schema))+"&"+parameters)
			require.NoError(t, err)
			pool.SetMaxOpenConns(20)
			require.Eventually(t, func() bool { return pool.Ping() == nil }, 20*time.Second, 50*time.Millisecond)
			exercise(t, pool, true)
			require.NoError(t, pool.Close())
		})
	}
}

// bouncer starts a PgBouncer before the database at a URL and returns the URL through it.
func bouncer(t *testing.T, program, server string) string {
	t.Helper()
	u, err := url.Parse(server)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, listener.Close())
	name := strings.TrimPrefix(u.Path, "/")
	password, _ := u.User.Password()
	dir := t.TempDir()
	config := filepath.Join(dir, "pgbouncer.ini")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "users.txt"), []byte(fmt.Sprintf("%q %q\n", u.User.Username(), password)), 0o644))
	require.NoError(t, os.WriteFile(config, []byte(fmt.Sprintf(`[databases]
%s = host=%s port=%s dbname=%s user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
auth_file = %s
pool_mode = transaction
default_pool_size = 2
ignore_startup_parameters = extra_float_digits
`, name, u.Hostname(), u.Port(), name, u.User.Username(), password, port, filepath.Join(dir, "users.txt"))), 0o644))
	cmd := exec.Command(program, config)
	logs := &strings.Builder{}
	cmd.Stderr, cmd.Stdout = logs, logs
	if os.Geteuid() == 0 { // which PgBouncer refuses
		for _, path := range []string{dir, filepath.Dir(dir)} {
			require.NoError(t, os.Chmod(path, 0o755))
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		_ = cmd.Wait() // it says how it was ended
		if t.Failed() {
			t.Log(logs.String())
		}
	})
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	return u.String()
}
