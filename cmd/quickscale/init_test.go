package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/dbtest"
)

// place is the program in a folder.
type place struct {
	t   *testing.T
	dir string
	env []string
}

func (p place) run(input string, args ...string) (code int, stdout, stderr string) {
	p.t.Helper()
	file, err := binary()
	require.NoError(p.t, err)
	cmd := exec.CommandContext(context.WithoutCancel(p.t.Context()), file, args...) // also in a cleanup
	cmd.Dir, cmd.Stdin = p.dir, strings.NewReader(input)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, p.env...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		require.True(p.t, ok, "%v", err)
		code = exit.ExitCode()
	}
	return code, out.String(), problems.String()
}

// ok runs a command that must succeed.
func (p place) ok(args ...string) string {
	p.t.Helper()
	code, out, problems := p.run("", args...)
	require.Zero(p.t, code, "%v: %s%s", args, out, problems)
	return out
}

// fails runs a command that must end with a code, and returns what it says.
func (p place) fails(want int, args ...string) string {
	p.t.Helper()
	code, out, problems := p.run("", args...)
	require.Equal(p.t, want, code, "%v: %s%s", args, out, problems)
	return problems
}

func (p place) goes(args ...string) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "go", args...)
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), p.env...)
	out, err := cmd.CombinedOutput()
	require.NoError(p.t, err, "go %v:\n%s", args, out)
}

func checkout(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	require.NoError(t, err)
	return dir
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// Each combination is generated, vetted, tested by its own tests, run, and driven from sign-up to a service. The two have
// between them both databases, all samples, with and without what can be left out, and with log-in by other sites.
func TestInit_GeneratesWhatServesAtOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, service, field, value, left string
		flags, env                        []string
	}{
		{"plain", "word-count", "text", "one two three", "99.5", nil, nil},
		{
			"full", "json-check", "document", "{}", "99.9",
			[]string{"--module", "git.example.com/acme/full", "--database", "postgres", "--samples", "jsoncheck,wordcount", "--oauth", "google,oidc", "--without", "outbound,organisations"},
			[]string{"QUICKSCALE_DATABASE_URL=" + dbtest.PostgresURL(t, dbtest.Empty), "TEST_DATABASE_URL=" + dbtest.PostgresURL(t, dbtest.Empty)},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr := freeAddress(t)
			p := place{t, t.TempDir(), append(c.env, "QUICKSCALE_ADDR="+addr)}
			out := p.ok(append([]string{"init", c.name, "--replace", checkout(t)}, c.flags...)...)
			assert.Contains(t, out, "cd "+c.name)
			p.dir = filepath.Join(p.dir, c.name)
			p.goes("vet", "./...")
			p.goes("test", "./...")
			t.Cleanup(func() { p.ok("down", "--engine", "none") })
			p.ok("up", "--engine", "none")
			visit(t, "http://"+addr).buyAndUse("grace@example.com", c.service, c.field, c.value, c.left)
		})
	}
}

func TestInit_RehearsesAndRefuses(t *testing.T) {
	t.Parallel()
	p := place{t: t, dir: t.TempDir()}
	var plan struct {
		Folder string
		Files  []string
		DryRun bool `json:"dry_run"`
	}
	require.NoError(t, json.Unmarshal([]byte(p.ok("init", "acme", "--replace", checkout(t), "--dry-run", "--json")), &plan))
	assert.Equal(t, "acme", plan.Folder)
	assert.True(t, plan.DryRun)
	assert.Contains(t, plan.Files, "main.go")
	assert.Contains(t, plan.Files, "Dockerfile")
	assert.NoDirExists(t, filepath.Join(p.dir, "acme"))

	assert.Contains(t, p.fails(2, "init", "acme"), "give --replace", "a development build has no version to require")
	assert.Contains(t, p.fails(2, "init", "acme", "--replace", p.dir), "no checkout")
	assert.Contains(t, p.fails(2, "init"), "accepts 1 arg")
	said := p.fails(2, "init", "Acme", "--replace", checkout(t), "--database", "mysql", "--samples", "poems")
	for _, fault := range []string{"the name", "mysql", "poems"} {
		assert.Contains(t, said, fault)
	}
	require.NoError(t, os.Mkdir(filepath.Join(p.dir, "acme"), 0o700))
	kept := filepath.Join(p.dir, "acme", "mine.txt")
	require.NoError(t, os.WriteFile(kept, nil, 0o600))
	assert.Contains(t, p.fails(2, "init", "acme", "--replace", checkout(t)), "not empty")
	assert.FileExists(t, kept)
}
