package auth_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// statements are what a database was asked to do, in order, by the beginning of their texts.
type statements struct {
	mu    sync.Mutex
	texts []string
}

func (s *statements) add(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	words := strings.Fields(text)
	s.texts = append(s.texts, strings.Join(words[:min(len(words), 4)], " "))
}

// take returns what was asked since the last time.
func (s *statements) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	texts := s.texts
	s.texts = nil
	return texts
}

// counted makes connections that tell what they are asked.
type counted struct {
	open func(ctx context.Context) (driver.Conn, error)
	of   driver.Driver
	to   *statements
}

func (c counted) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.open(ctx)
	return countedConn{conn, c.to}, err
}

func (c counted) Driver() driver.Driver { return c.of }

// countedConn forwards what the drivers of both engines can do.
type countedConn struct {
	driver.Conn

	to *statements
}

func (c countedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.to.add(query)
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args) //nolint:forcetypeassert // both drivers have it
}

func (c countedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.to.add(query)
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args) //nolint:forcetypeassert // both drivers have it
}

func (c countedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.to.add("BEGIN")
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts) //nolint:forcetypeassert // both drivers have it
}

// runCounted is run over a database whose statements are told.
func runCounted(t *testing.T, fn func(t *testing.T, k *kit, asked *statements)) {
	t.Helper()
	t.Parallel()
	for _, engine := range []struct {
		name string
		pool func(t *testing.T, asked *statements) *sqlx.DB
	}{
		{"sqlite", func(t *testing.T, asked *statements) *sqlx.DB {
			_, path, _ := strings.Cut(dbtest.SQLiteURL(t, schema), ":")
			unused, err := sql.Open("sqlite", "") // opens nothing: its driver is what is wanted
			require.NoError(t, err)
			of := unused.Driver()
			require.NoError(t, unused.Close())
			open := func(context.Context) (driver.Conn, error) {
				return of.Open("file:" + path + "?_pragma=busy_timeout(10000)&_pragma=foreign_keys(1)&_txlock=immediate")
			}
			pool := sqlx.NewDb(sql.OpenDB(counted{open, of, asked}), "sqlite")
			pool.SetMaxOpenConns(1)
			return pool
		}},
		{"postgres", func(t *testing.T, asked *statements) *sqlx.DB {
			connector, err := pq.NewConnector(dbtest.PostgresURL(t, schema))
			require.NoError(t, err)
			return sqlx.NewDb(sql.OpenDB(counted{connector.Connect, connector.Driver(), asked}), "postgres")
		}},
	} {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			asked := &statements{}
			pool := engine.pool(t, asked)
			t.Cleanup(func() { assert.NoError(t, pool.Close()) })
			db, err := database.New(pool, nil)
			require.NoError(t, err)
			fn(t, newKit(t, db), asked)
		})
	}
}

// kinds of accounts, of one length and form, and how each is made. The unknown one is the measure.
func (k *kit) kinds() []string {
	k.t.Helper()
	const unknown, verified, unverified, locked, closed, without, imported, weak = "unknown0@example.com", "verified@example.com", "unverif0@example.com", "locked00@example.com",
		"closed00@example.com", "without0@example.com", "imported@example.com", "weak0000@example.com"
	k.user(verified)
	_, err := k.CreateUser(k.t.Context(), auth.CreateUserParams{Email: unverified, Password: password})
	require.NoError(k.t, err)
	k.user(locked)
	_, err = k.db.Writer().Exec(k.db.Rebind(`UPDATE qs_auth_users SET failed_logins = 5, locked_until = ? WHERE email_key = ?`), database.At(start.AddDate(1, 0, 0)), locked)
	require.NoError(k.t, err)
	require.NoError(k.t, k.SetDisabled(k.t.Context(), k.user(closed).ID, true))
	k.user(without)
	_, err = k.db.Writer().Exec(k.db.Rebind(`UPDATE qs_auth_users SET password_hash = '' WHERE email_key = ?`), without)
	require.NoError(k.t, err)
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(k.t, err)
	_, err = k.CreateUser(k.t.Context(), auth.CreateUserParams{Email: imported, PasswordHash: string(hash), Verified: true})
	require.NoError(k.t, err)
	k.UseHashMemory(32)
	k.user(weak)
	k.UseHashMemory(64)
	return []string{unknown, verified, unverified, locked, closed, without, imported, weak}
}

// What a request does is the same in number whatever the account is: hashes, statements and mails, each exactly. That is
// why its time is the same too.
func TestAnswers_DoTheSameWorkWhetherOrNotAnAccountExists(t *testing.T) {
	runCounted(t, func(t *testing.T, k *kit, asked *statements) {
		accounts := k.kinds()
		c := auth.Client{IP: "192.0.2.1", Agent: "Test"}
		handles := map[string]string{}
		for _, address := range accounts {
			handle, err := k.RequestMagic(t.Context(), auth.RequestMagicParams{Email: address, Client: c})
			require.NoError(t, err)
			handles[address] = handle
		}
		person := k.user("person@example.com")
		for _, route := range []struct {
			name   string
			hashes int64
			mails  int
			do     func(address string) error
		}{
			{"log-in with a wrong password", 1, 0, func(address string) error {
				_, err := k.LogIn(t.Context(), auth.LogInParams{Email: address, Password: "wrong password", Client: c})
				assert.ErrorIs(t, err, auth.ErrCredentials, address)
				return nil
			}},
			{"log-in with a password that is nobody's", 0, 0, func(address string) error {
				_, err := k.LogIn(t.Context(), auth.LogInParams{Email: address, Password: strings.Repeat("x", 600), Client: c})
				assert.ErrorIs(t, err, auth.ErrCredentials, address)
				return nil
			}},
			{"forgotten password", 0, 1, func(address string) error { return k.ForgotPassword(t.Context(), address, c) }},
			{"another link to confirm", 0, 1, func(address string) error { return k.ResendVerification(t.Context(), address, c) }},
			{"a link and a code to log in", 0, 1, func(address string) error {
				_, err := k.RequestMagic(t.Context(), auth.RequestMagicParams{Email: address, Client: c})
				return err
			}},
			{"a wrong code to log in", 0, 0, func(address string) error {
				_, _, err := k.MagicLogIn(t.Context(), auth.MagicLogInParams{Handle: handles[address], Code: "1234", Client: c})
				assert.ErrorIs(t, err, auth.ErrMagicCode, address)
				return nil
			}},
			{"change of address to it", 0, 2, func(address string) error {
				return k.RequestEmailChange(t.Context(), auth.RequestEmailChangeParams{UserID: person.ID, Email: address, Client: c})
			}},
			{"sign-up", 1, 1, func(address string) error {
				_, err := k.SignUp(t.Context(), auth.SignUpParams{Email: address, Password: "another password", Client: c})
				return err
			}},
		} {
			var want []string
			for i, address := range accounts {
				mails, hashes := len(k.mails()), k.Hashes()
				asked.take()
				require.NoError(t, route.do(address), "%s for %s", route.name, address)
				got := asked.take()
				if i == 0 {
					want = got
				}
				assert.Len(t, got, len(want), "%s for %s does\n%s\nand for nobody\n%s", route.name, address, strings.Join(got, "\n"), strings.Join(want, "\n"))
				assert.Equal(t, route.hashes, k.Hashes()-hashes, "%s hashes as often for %s", route.name, address)
				assert.Len(t, k.mails()[mails:], route.mails, "%s queues as many mails for %s", route.name, address)
			}
			assert.NotEmpty(t, want, route.name)
		}
	})
}

// The failure that locks costs no more statements than those before and after it, and those for nobody.
func TestAnswers_TheFailureThatLocksDoesNoMore(t *testing.T) {
	runCounted(t, func(t *testing.T, k *kit, asked *statements) {
		u := k.user(email)
		numbers := map[int]bool{}
		for _, address := range []string{email, "nobody@example.com"} {
			for range 7 {
				asked.take()
				_, err := k.LogIn(t.Context(), auth.LogInParams{Email: address, Password: "wrong password", Client: auth.Client{IP: "192.0.2.1"}})
				require.ErrorIs(t, err, auth.ErrCredentials)
				numbers[len(asked.take())] = true
			}
		}
		assert.Len(t, numbers, 1, fmt.Sprint(numbers))
		assert.Contains(t, k.events(u.ID), auth.EventLocked)
	})
}
