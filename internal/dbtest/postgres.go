package dbtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// URLVariable names a PostgreSQL server to use; its user must be allowed to create databases.
const URLVariable = "QUICKSCALE_TEST_DATABASE_URL"

// server is a running PostgreSQL with an administrator's connection.
type server struct {
	url       *url.URL
	admin     *sqlx.DB
	stop      func() error
	templates once[string]

	mu   sync.Mutex
	made []string // template databases, dropped at the end
}

var (
	mainRan bool
	shared  = sync.OnceValues(start)
	running *server
)

func postgresServer(tb testing.TB) *server {
	tb.Helper()
	if !mainRan {
		tb.Fatal("dbtest: the package needs func TestMain(m *testing.M) { dbtest.Main(m) }, which takes the server down")
	}
	s, err := shared()
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// start finds or starts the server of a test binary.
func start() (*server, error) {
	if given := os.Getenv(URLVariable); given != "" {
		s, err := connect(given, func() error { return nil })
		if err != nil {
			return nil, fmt.Errorf("dbtest: the server of %s: %w", URLVariable, err)
		}
		return s, nil
	}
	given, stop, err := launch(fast)
	if err != nil {
		return nil, err
	}
	s, err := connect(given, stop)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return s, nil
}

// way is a way to get a server.
type way struct {
	name string
	up   func(with settings) (url string, stop func() error, err error)
}

// launch starts a server in the order that the package promises.
func launch(with settings) (given string, stop func() error, err error) {
	return first(with, []way{{"Docker", startDocker}, {"local PostgreSQL programs", startLocal}, {"download of PostgreSQL", startDownload}})
}

// first starts a server by the first way that works, and tells of all when none does.
func first(with settings, ways []way) (given string, stop func() error, err error) {
	var tried []string
	for _, way := range ways {
		given, stop, err := way.up(with)
		if err == nil {
			return given, stop, nil
		}
		tried = append(tried, fmt.Sprintf("  %s: %v", way.name, err))
	}
	return "", nil, fmt.Errorf("dbtest: no PostgreSQL to test with. Tried:\n%s\nDo one of these: set %s to a server whose user may create"+
		" databases (postgres://user:password@127.0.0.1:5432/postgres?sslmode=disable); start Docker; install PostgreSQL 15 or later"+
		" (Debian: apt-get install postgresql)", strings.Join(tried, "\n"), URLVariable)
}

// Durable finds a server for benchmarks, where tests would find theirs, that syncs its commits to disk: the one at
// QUICKSCALE_TEST_DATABASE_URL if it does, and otherwise one that it starts. how tells which. The caller stops it.
func Durable() (given, how string, stop func() error, err error) {
	if given := os.Getenv(URLVariable); given != "" {
		syncs, err := syncsCommits(given)
		if err != nil {
			return "", "", nil, fmt.Errorf("dbtest: the server of %s: %w", URLVariable, err)
		}
		if syncs {
			return given, "the server of " + URLVariable, func() error { return nil }, nil
		}
	}
	given, stop, err = launch(durable)
	return given, "started for this run", stop, err
}

func syncsCommits(given string) (bool, error) {
	db, err := sqlx.Connect("postgres", given)
	if err != nil {
		return false, fmt.Errorf("connect: %w", err)
	}
	var fsync, commit string
	err = errors.Join(db.Get(&fsync, "SHOW fsync"), db.Get(&commit, "SHOW synchronous_commit"), db.Close())
	return fsync == "on" && commit != "off", err
}

func connect(given string, stop func() error) (*server, error) {
	u, err := url.Parse(given)
	if err != nil {
		return nil, errors.New("the URL does not parse")
	}
	admin, err := sqlx.Connect("postgres", given)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	admin.SetMaxOpenConns(4)
	running = &server{url: u, admin: admin, stop: stop}
	return running, nil
}

// cleanup drops the templates and stops the server, if there is one.
func cleanup() error {
	if running == nil {
		return nil
	}
	var err error
	for _, name := range running.made {
		err = errors.Join(err, running.drop(name))
	}
	return errors.Join(err, running.admin.Close(), running.stop())
}

// database copies the schema's template into a database of its own.
func (s *server) database(ctx context.Context, schema Schema) (rawURL string, drop func() error, err error) {
	template, err := s.templates.do(schema.Name, func() (string, error) { return s.template(ctx, schema) })
	if err != nil {
		return "", nil, err
	}
	name := "quickscale_test_" + strings.ToLower(rand.Text())
	if _, err := s.admin.ExecContext(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		return "", nil, err
	}
	return s.urlOf(name), func() error { return s.drop(name) }, nil
}

func (s *server) template(ctx context.Context, schema Schema) (string, error) {
	name := "quickscale_template_" + strings.ToLower(rand.Text())
	if _, err := s.admin.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	s.mu.Lock()
	s.made = append(s.made, name)
	s.mu.Unlock()
	db, err := database.Open(ctx, s.urlOf(name))
	if err != nil {
		return "", err
	}
	return name, errors.Join(schema.Migrate(ctx, db), db.Close())
}

func (s *server) urlOf(name string) string {
	u := *s.url
	u.Path = "/" + name
	return u.String()
}

// URLOf is the URL of another database on the server of a URL.
func URLOf(given, name string) (string, error) {
	u, err := url.Parse(given)
	if err != nil {
		return "", errors.New("dbtest: the URL does not parse")
	}
	u.Path = "/" + name
	return u.String(), nil
}

func (s *server) drop(name string) error {
	// FORCE: a test that was killed in the middle, or a program that it left, may still hold connections.
	if _, err := s.admin.Exec("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop %s: %w", name, err)
	}
	return nil
}
