package client_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/services/client"
)

// What a process of an application is told by its environment.
const (
	envDatabase = "CLIENT_TEST_DATABASE"
	envAddress  = "CLIENT_TEST_ADDRESS"
	envHangs    = "CLIENT_TEST_HANGS"
)

// serve is an application whose service never ends where envHangs is set. The other ones live ten minutes later, when
// the call of a dead process counts as dead.
func serve(url string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	db, err := database.Open(context.Background(), url)
	fail(err)
	hangs := os.Getenv(envHangs) != ""
	clock := time.Now
	if !hangs {
		clock = func() time.Time { return time.Now().Add(10 * time.Minute) }
	}
	s, _, err := wire(db, nil, clock)
	fail(err)
	fail(services.Register(s, services.Func(services.Info{Name: "shout", Title: "Shout"}, services.Fixed(credits.MustAmount("0.5")),
		func(_ context.Context, _ *services.Call, in line) (line, error) {
			if hangs {
				fmt.Println("at work")
				select {}
			}
			return line{strings.ToUpper(in.Text)}, nil
		})))
	listener, err := net.Listen("tcp", os.Getenv(envAddress))
	fail(err)
	fmt.Println("ready")
	fail(http.Serve(listener, s.APIHandler()))
}

// process is an application of its own. next waits for the next line that it writes.
func process(t *testing.T, url, address string, more ...string) (p *exec.Cmd, next func() string) {
	t.Helper()
	p = exec.CommandContext(t.Context(), os.Args[0])
	p.Env = append(append(os.Environ(), envDatabase+"="+url, envAddress+"="+address), more...)
	p.Stderr = os.Stderr
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	lines := bufio.NewScanner(out)
	return p, func() string {
		lines.Scan()
		return lines.Text()
	}
}

// The server is killed in the middle of the work and another takes its place: the same call is made there, and charged
// once.
func TestCall_SurvivesTheDeathOfTheServer(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(testing.TB, dbtest.Schema) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := url(t, schema)
			db, err := database.Open(t.Context(), at)
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			ledger, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
			require.NoError(t, err)
			_, err = ledger.Grant(t.Context(), credits.GrantParams{Account: ada, Amount: credits.Credit, Source: credits.Purchase, Reason: "test"})
			require.NoError(t, err)
			free, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			address := free.Addr().String()
			require.NoError(t, free.Close())

			first, next := process(t, at, address, envHangs+"=1")
			require.Equal(t, "ready", next())
			c, err := client.New(client.Config{BaseURL: "http://" + address, Key: "adas-key", Retries: 200, Pause: 50 * time.Millisecond})
			require.NoError(t, err)
			type outcome struct {
				answer client.Answer[line]
				err    error
			}
			done := make(chan outcome, 1)
			go func() {
				answer, err := client.Call[line, line](t.Context(), c, "shout", line{"hi"})
				done <- outcome{answer, err}
			}()
			require.Equal(t, "at work", next())
			require.NoError(t, first.Process.Kill())
			require.Error(t, first.Wait(), "it was killed")

			second, next := process(t, at, address)
			require.Equal(t, "ready", next())
			got := <-done
			require.NoError(t, got.err)
			assert.Equal(t, "HI", got.answer.Output.Text)
			assert.Equal(t, "0.5", got.answer.Balance)
			require.NoError(t, second.Process.Kill())
			require.Error(t, second.Wait())
			entries, _, err := ledger.History(t.Context(), credits.HistoryParams{Account: ada, Kind: credits.KindDebit})
			require.NoError(t, err)
			assert.Len(t, entries, 1)
		})
	}
}
