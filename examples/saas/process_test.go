package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m, removeProgram) }

// programDir holds the built example.
var programDir string

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "saas")
	if err != nil {
		return "", err
	}
	programDir = dir
	file := filepath.Join(dir, "saas")
	args := []string{"build", "-o", file}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the example: %w: %s", err, out)
	}
	return file, nil
})

func removeProgram() error { return os.RemoveAll(programDir) }

// process is the example as its reader runs it.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	base string
	mu   sync.Mutex
	out  bytes.Buffer
	done chan error
}

// Write gathers what the process prints.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// start runs the example on a database and waits until it is ready. It is stopped at the test's end.
func start(t *testing.T, databaseURL string) *process {
	t.Helper()
	return startAt(t, freeAddress(t), databaseURL)
}

func startAt(t *testing.T, addr, databaseURL string) *process {
	t.Helper()
	file, err := build()
	require.NoError(t, err)
	p := &process{t: t, base: "http://" + addr, cmd: exec.Command(file), done: make(chan error, 1)}
	p.cmd.Dir = t.TempDir()
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "QUICKSCALE_ADDR=" + addr, "QUICKSCALE_DATABASE_URL=" + databaseURL}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	require.NoError(t, p.cmd.Start())
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.stop()
		}
		if t.Failed() {
			t.Logf("the example printed:\n%s", p.printed())
		}
	})
	p.waitReady()
	return p
}

func (p *process) waitReady() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/readyz", nil)
		require.NoError(p.t, err)
		res, err := http.DefaultClient.Do(r)
		if err == nil {
			require.NoError(p.t, res.Body.Close())
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case err := <-p.done:
			p.t.Fatalf("the example ended: %v\n%s", err, p.printed())
		case <-ctx.Done():
			p.t.Fatalf("the example is not ready: %v\n%s", err, p.printed())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the process as an operator would, and expects it to end well.
func (p *process) stop() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-p.done:
		require.NoError(p.t, err, "the example ends well on SIGTERM")
	case <-time.After(time.Minute):
		require.NoError(p.t, p.cmd.Process.Kill())
		p.t.Error("the example did not stop in a minute")
	}
}

// kill ends the process as a power failure would.
func (p *process) kill() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Kill())
	<-p.done
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}
