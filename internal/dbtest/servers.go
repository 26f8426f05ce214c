package dbtest

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq" // the driver that the server is asked through
	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"
)

const (
	imageVariable = "QUICKSCALE_TEST_POSTGRES_IMAGE"
	defaultImage  = "postgres:17-alpine"

	startTimeout = 60 * time.Second
	// containerLife ends a container whose test binary was killed before it could.
	containerLife = 30 * time.Minute
)

// settings are server parameters by name.
type settings map[string]string

var (
	// fast trades durability, which no test of ours asks of the server itself, for speed.
	fast = settings{"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "300"}
	// durable is how a server in production runs, for benchmarks, which measure commits.
	durable = settings{"fsync": "on", "synchronous_commit": "on", "max_connections": "300"}
)

// arguments are the settings as postgres takes them.
func (s settings) arguments() []string {
	args := make([]string, 0, 2*len(s))
	for name, value := range s {
		args = append(args, "-c", name+"="+value)
	}
	return args
}

func startDocker(with settings) (string, func() error, error) {
	pool, err := dockertest.NewPool("")
	if err != nil {
		return "", nil, err
	}
	pool.MaxWait = startTimeout
	if err := pool.Client.Ping(); err != nil {
		return "", nil, fmt.Errorf("no engine answers: %w", err)
	}
	repository, tag, _ := strings.Cut(cmp.Or(os.Getenv(imageVariable), defaultImage), ":")
	password := rand.Text()
	container, err := pool.RunWithOptions(&dockertest.RunOptions{
		Repository: repository,
		Tag:        cmp.Or(tag, "latest"),
		Env:        []string{"POSTGRES_PASSWORD=" + password},
		Cmd:        append([]string{"postgres"}, with.arguments()...),
	}, func(host *docker.HostConfig) {
		host.AutoRemove = true
		host.RestartPolicy = docker.RestartPolicy{Name: "no"}
	})
	if err != nil {
		return "", nil, fmt.Errorf("run %s:%s: %w", repository, tag, err)
	}
	stop := func() error { return pool.Purge(container) }
	if err := container.Expire(uint(containerLife.Seconds())); err != nil {
		return "", nil, errors.Join(err, stop())
	}
	given := serverURL(container.GetHostPort("5432/tcp"), password)
	if err := pool.Retry(func() error { return ping(given) }); err != nil {
		return "", nil, errors.Join(fmt.Errorf("wait for the container: %w", err), stop())
	}
	return given, stop, nil
}

// startLocal makes a data directory with initdb and runs postgres on it, on a free port of the loopback interface.
func startLocal(with settings) (string, func() error, error) {
	bin, err := findPrograms()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "dbtest-postgres")
	if err != nil {
		return "", nil, err
	}
	remove := func() error { return os.RemoveAll(dir) }
	attr, err := unprivileged(dir)
	if err != nil {
		return "", nil, errors.Join(err, remove())
	}
	password := rand.Text()
	passwordFile := filepath.Join(dir, "password")
	if err := os.WriteFile(passwordFile, []byte(password), 0o644); err != nil { //nolint:gosec // of a throw-away server
		return "", nil, errors.Join(err, remove())
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "scram-sha-256", //nolint:gosec // found above
		"--pwfile="+passwordFile, "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = attr, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), remove())
	}
	port, err := freePort()
	if err != nil {
		return "", nil, errors.Join(err, remove())
	}
	logs := &strings.Builder{}
	args := append([]string{"-D", data, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="}, with.arguments()...)
	postgres := exec.Command(filepath.Join(bin, "postgres"), args...) //nolint:gosec // found above
	postgres.SysProcAttr, postgres.Dir, postgres.Stderr = attr, dir, logs
	if err := postgres.Start(); err != nil {
		return "", nil, errors.Join(fmt.Errorf("postgres: %w", err), remove())
	}
	exited := make(chan error, 1)
	go func() { exited <- postgres.Wait() }()
	stop := func() error {
		// SIGINT is PostgreSQL's fast shutdown: it ends sessions and waits for nobody.
		return errors.Join(postgres.Process.Signal(syscall.SIGINT), <-exited, remove())
	}
	given := serverURL(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), password)
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(50 * time.Millisecond) {
		err := ping(given)
		if err == nil {
			return given, stop, nil
		}
		select {
		case exit := <-exited:
			return "", nil, errors.Join(fmt.Errorf("postgres stopped: %w: %s", exit, logs), remove())
		default:
		}
		if time.Now().After(deadline) {
			return "", nil, errors.Join(fmt.Errorf("wait for postgres: %w", err), stop())
		}
	}
}

// findPrograms returns the directory of initdb and postgres, the newest of Debian's versions first.
func findPrograms() (string, error) {
	var dirs []string
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	debian, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.SortFunc(debian, func(a, b string) int {
		version := func(dir string) int {
			n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))) // not a number: last
			return n
		}
		return version(b) - version(a)
	})
	for _, dir := range append(dirs, debian...) {
		_, errInit := os.Stat(filepath.Join(dir, "initdb"))
		_, errServer := os.Stat(filepath.Join(dir, "postgres"))
		if errInit == nil && errServer == nil {
			return dir, nil
		}
	}
	return "", errors.New("initdb and postgres are neither on PATH nor under /usr/lib/postgresql")
}

// unprivileged lets a test that runs as root start PostgreSQL, which refuses root, as the user postgres or nobody.
// It gives that user dir, and returns nil for any other caller.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	var (
		u   *user.User
		err error
	)
	for _, name := range []string{"postgres", "nobody"} {
		if u, err = user.Lookup(name); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no user for it: %w", err)
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(errUID, errGID); err != nil {
		return nil, err
	}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// startDownload lets embedded-postgres fetch and run PostgreSQL. It does not run as root.
func startDownload(with settings) (string, func() error, error) {
	if os.Geteuid() == 0 {
		return "", nil, errors.New("PostgreSQL does not run as root; run the tests as another user")
	}
	dir, err := os.MkdirTemp("", "dbtest-embedded")
	if err != nil {
		return "", nil, err
	}
	port, err := freePort()
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	password := rand.Text()
	embedded := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Port(uint32(port)). //nolint:gosec // a port has 16 bits
		Password(password).RuntimePath(dir).StartTimeout(startTimeout).
		StartParameters(with).
		Logger(io.Discard))
	if err := embedded.Start(); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop := func() error { return errors.Join(embedded.Stop(), os.RemoveAll(dir)) }
	return serverURL(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), password), stop, nil
}

func serverURL(hostPort, password string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", password), Host: hostPort, Path: "/postgres", RawQuery: "sslmode=disable"}
	return u.String()
}

func ping(given string) error {
	db, err := sqlx.Connect("postgres", given)
	if err != nil {
		return err
	}
	return db.Close()
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
