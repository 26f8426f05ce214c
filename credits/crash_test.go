package credits_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// workerURL names the variable that makes the test binary a process that works on a ledger until it is killed.
const workerURL = "CREDITS_TEST_WORKER_URL"

const (
	crashProcesses = 3
	crashCallers   = 16
	crashAccounts  = 5
	crashOpening   = 1_000_000
)

func crashAccount(n int) string { return "crash-" + strconv.Itoa(n) }

// workUntilKilled debits, holds and moves credits, and tells on standard output of each operation that was
// acknowledged, by its key, before it goes on.
func workUntilKilled(url string) int {
	ctx := context.Background()
	db, err := database.Open(ctx, url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var mu sync.Mutex
	failed := make(chan error, crashCallers)
	for caller := range crashCallers {
		go func() {
			for i := 0; ; i++ {
				account, key := crashAccount((caller+i)%crashAccounts), uuid.NewString()
				var err error
				switch i % 3 {
				case 0:
					_, err = l.Debit(ctx, credits.DebitParams{Account: account, Amount: 2, Reason: "use", IdempotencyKey: key})
				case 1:
					var h credits.Hold
					if h, err = l.Reserve(ctx, credits.ReserveParams{Account: account, Amount: 5, TTL: time.Hour, Reason: "use"}); err == nil {
						_, err = l.SettleWith(ctx, credits.SettleParams{Hold: h.ID, Amount: 2, IdempotencyKey: key})
					}
				case 2:
					_, err = l.Transfer(ctx, credits.TransferParams{Account: account, To: crashAccount((caller + i + 1) % crashAccounts), Amount: 2, Reason: "move",
						IdempotencyKey: key})
				}
				if err != nil {
					failed <- err
					return
				}
				mu.Lock()
				fmt.Println(account, key)
				mu.Unlock()
			}
		}()
	}
	fmt.Fprintln(os.Stderr, <-failed)
	return 1
}

// Three processes work on the same accounts and are killed in the middle of it, three times over. What was acknowledged
// is there, once; what was not is there whole or not at all; and no credit was lost or made.
func TestCrash_NothingAcknowledgedIsLostAndNothingIsHalfThere(t *testing.T) {
	t.Parallel()
	for _, engine := range []struct {
		name string
		url  func(testing.TB, dbtest.Schema) string
	}{{"sqlite", dbtest.SQLiteURL}, {"postgres", dbtest.PostgresURL}} {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			url := engine.url(t, schema)
			db, err := database.Open(t.Context(), url)
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
			require.NoError(t, err)
			for n := range crashAccounts {
				_, err := l.Grant(t.Context(), credits.GrantParams{Account: crashAccount(n), Amount: crashOpening, Source: credits.Purchase, Reason: "opening"})
				require.NoError(t, err)
			}
			acknowledged := map[string]string{}
			for range 3 {
				for account, keys := range crash(t, url) {
					for _, key := range keys {
						acknowledged[key] = account
					}
				}
			}
			check(t, db)
			for key, account := range acknowledged {
				e, err := l.EntryByKey(t.Context(), account, key)
				require.NoError(t, err, "acknowledged and lost")
				require.Equal(t, credits.Amount(-2), e.Amount)
			}
			var owned, used credits.Amount
			require.NoError(t, db.Get(t.Context(), &owned, `SELECT SUM(available + held) FROM qs_credit_accounts`))
			require.NoError(t, db.Get(t.Context(), &used, `SELECT COALESCE(SUM(-amount), 0) FROM qs_credit_entries WHERE kind = 'debit'`))
			assert.Equal(t, credits.Amount(crashAccounts*crashOpening), owned+used)
			var moved credits.Amount
			require.NoError(t, db.Get(t.Context(), &moved, `SELECT COALESCE(SUM(amount), 0) FROM qs_credit_entries WHERE kind = 'transfer'`))
			assert.Zero(t, moved, "a transfer has both its entries")
			found, err := l.VerifyAll(t.Context(), nil)
			require.NoError(t, err)
			assert.Empty(t, found)
			t.Logf("%d operations were acknowledged", len(acknowledged))
		})
	}
}

// crash runs the processes until each has acknowledged some operations, kills them, and returns the keys by account.
func crash(t *testing.T, url string) map[string][]string {
	t.Helper()
	const enough = 60
	var mu sync.Mutex
	keys := map[string][]string{}
	var all sync.WaitGroup
	for range crashProcesses {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), workerURL+"="+url)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		errs := &strings.Builder{}
		cmd.Stderr = errs
		require.NoError(t, cmd.Start())
		all.Go(func() {
			lines := bufio.NewScanner(out)
			n := 0
			for lines.Scan() {
				account, key, whole := strings.Cut(lines.Text(), " ")
				if !whole || len(key) != 36 {
					continue // it was killed while it wrote
				}
				mu.Lock()
				keys[account] = append(keys[account], key)
				mu.Unlock()
				if n++; n == enough {
					if err := cmd.Process.Kill(); err != nil {
						t.Error(err)
					}
				}
			}
			_ = cmd.Wait() // it was killed
			assert.GreaterOrEqual(t, n, enough, "the process died by itself: %s", errs)
		})
	}
	all.Wait()
	return keys
}
