package main_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// generated makes a project and returns the program in its folder.
func generated(t *testing.T, flags ...string) place {
	t.Helper()
	p := place{t: t, dir: t.TempDir()}
	p.ok(append([]string{"init", "acme", "--replace", checkout(t)}, flags...)...)
	p.dir = filepath.Join(p.dir, "acme")
	return p
}

type part struct{ Name, State, ID, Address, Since string }

func (p place) parts() []part {
	p.t.Helper()
	var ps struct{ Running []part }
	require.NoError(p.t, json.Unmarshal([]byte(p.ok("ps", "--engine", "none", "--json")), &ps))
	return ps.Running
}

// A project's life as a plain process, from up to destroy.
func TestUp_PlainProcess(t *testing.T) {
	t.Parallel()
	p := generated(t)
	addr := freeAddress(t)
	none := func(args ...string) []string { return append(args, "--engine", "none") }
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, ".env"), []byte("# ours\nQUICKSCALE_ADDR="+addr+"\nMARK='from .env'\n"), 0o600))
	assert.Contains(t, p.fails(3, none("logs")...), "no log yet")
	assert.Empty(t, p.parts())
	t.Cleanup(func() { p.ok(none("down")...) })
	code, _, said := p.run("", none("up")...)
	require.Zero(t, code, said)
	assert.Contains(t, said, "http://"+addr+"/")
	parts := p.parts()
	require.Len(t, parts, 1)
	assert.Equal(t, addr, parts[0].Address)
	_, _, said = p.run("", none("up")...)
	assert.Contains(t, said, "runs already")
	assert.Equal(t, parts, p.parts())

	// Templates show at once, and one that is broken does not take the page away.
	v := visit(t, "http://"+addr)
	assert.Contains(t, v.get("/"), `<h1 class="title is-1">Acme</h1>`)
	about := filepath.Join(p.dir, "templates", "about.html")
	page, err := os.ReadFile(about)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(about, []byte(strings.Replace(string(page), ">About<", ">Changed<", 1)), 0o600))
	assert.Contains(t, v.get("/about"), ">Changed<")
	require.NoError(t, os.WriteFile(about, []byte("{{"), 0o600))
	assert.Contains(t, v.get("/about"), ">About</h1>")

	// The API's description comes from the program that runs.
	var document struct{ Paths map[string]any }
	require.NoError(t, json.Unmarshal([]byte(p.ok("openapi")), &document))
	assert.Contains(t, document.Paths, "/api/v1/services/word-count")
	p.ok("openapi", "--url", "http://"+addr, "-o", "openapi.json")
	assert.FileExists(t, filepath.Join(p.dir, "openapi.json"))
	assert.Contains(t, p.fails(1, "openapi", "--url", "http://"+addr+"/about"), "no OpenAPI description")

	// The commands find the project's database and settings, also from a folder below.
	below := place{t, filepath.Join(p.dir, "templates"), nil}
	assert.Contains(t, below.ok("ledger", "verify"), "0 discrepancies")
	code, out, said := below.run("echo $MARK in $PWD", none("shell")...)
	require.Zero(t, code, said)
	assert.Contains(t, out, "from .env in "+p.dir)

	assert.Contains(t, p.ok(none("logs")...), "user@example.com")
	assert.Len(t, strings.Split(strings.TrimSuffix(p.ok(none("logs", "-n", "2")...), "\n"), "\n"), 2)
	assert.Contains(t, p.fails(2, none("logs", "db")...), `there is no "db"`)
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, ".quickscale", "app.log"), []byte("time=2020-01-01T00:00:00.000Z msg=old\nold too\n"+
		"time="+time.Now().Format(time.RFC3339)+" msg=new\nnew too\n"), 0o600))
	out = p.ok(none("logs", "--since", "1h")...)
	assert.NotContains(t, out, "old")
	assert.Contains(t, out, "msg=new")
	assert.Contains(t, out, "new too")

	p.ok(none("down")...)
	assert.Empty(t, p.parts())
	assert.Contains(t, p.fails(1, "openapi"), "quickscale up")
	_, err = http.Get("http://" + addr + "/healthz") //nolint:noctx // it is refused
	require.Error(t, err)
	p.ok(none("down")...)

	// destroy says what goes, and goes on with the right name only.
	database := filepath.Join(p.dir, "acme.db")
	assert.Contains(t, p.ok(none("destroy", "--dry-run")...), database)
	code, _, said = p.run("acm\n", none("destroy")...)
	assert.Equal(t, 2, code)
	assert.Contains(t, said, database)
	assert.Contains(t, said, "nothing was taken away")
	assert.FileExists(t, database)
	code, _, said = p.run("acme\n", none("destroy")...)
	require.Zero(t, code, said)
	assert.NoFileExists(t, database)
	assert.NoDirExists(t, filepath.Join(p.dir, ".quickscale"))
	assert.FileExists(t, filepath.Join(p.dir, "main.go"))
	assert.Contains(t, p.fails(3, none("destroy", "--confirm", "acme")...), "no data")
}

func TestUp_SaysWhyNot(t *testing.T) {
	t.Parallel()
	p := generated(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	p.env = []string{"QUICKSCALE_ADDR=" + l.Addr().String()}
	said := p.fails(1, "up", "--engine", "none")
	assert.Contains(t, said, l.Addr().String()+" is taken by process "+fmt.Sprint(os.Getpid()))
	assert.Contains(t, said, "QUICKSCALE_ADDR")

	p.env = []string{"QUICKSCALE_ADDR=" + freeAddress(t), "QUICKSCALE_DATABASE_URL=sqlite:/no/such/folder/a.db"}
	assert.Contains(t, p.fails(1, "up", "--engine", "none"), "does not exist", "what the program said before it ended")
	assert.Empty(t, p.parts())
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "broken.go"), []byte("package main\nvar x int = \"\"\n"), 0o600))
	assert.Contains(t, p.fails(1, "up", "--engine", "none"), "broken.go")
	assert.Contains(t, p.fails(2, "up", "--engine", "podman"), "auto, docker or none")

	p.dir = t.TempDir()
	for _, command := range []string{"up", "down", "ps", "logs", "shell", "destroy"} {
		assert.Contains(t, p.fails(2, command), "quickscale init")
	}
}

// Where there is an engine the same commands are docker compose's. The engine here is a script that writes down what it is
// asked: whether Docker runs containers is Docker's to test.
func TestUp_Docker(t *testing.T) {
	t.Parallel()
	p := generated(t, "--database", "postgres")
	bin, asked := t.TempDir(), filepath.Join(t.TempDir(), "asked")
	script := `#!/bin/sh
echo "$@" >> "` + asked + `"
case "$*" in
"compose ps --format json") echo '{"ID":"abc","Service":"app","State":"running","Health":"","Publishers":[{"URL":"127.0.0.1","PublishedPort":8080}]}'
echo '{"ID":"def","Service":"db","State":"running","Health":"healthy","Publishers":null}' ;;
"compose logs"*) echo "app-1 | a line" ;;
esac
`
	require.NoError(t, os.WriteFile(filepath.Join(bin, "docker"), []byte(script), 0o700))
	p.env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	assert.Contains(t, p.fails(1, "up"), "make vendor", "the image would not see the checkout")
	require.NoError(t, os.Mkdir(filepath.Join(p.dir, "vendor"), 0o700))
	p.ok("up")
	out := p.ok("ps")
	assert.Regexp(t, `app +running +abc +127.0.0.1:8080`, out)
	assert.Regexp(t, `db +running, healthy +def`, out)
	assert.Contains(t, p.ok("logs", "app", "-f", "-n", "5", "--since", "2026-01-31T12:00:00Z"), "a line")
	p.ok("shell", "db")
	p.ok("down")
	assert.Contains(t, p.ok("destroy", "--dry-run", "--delete-images"), "images")
	p.ok("destroy", "--confirm", "acme", "--delete-images")
	calls, err := os.ReadFile(asked)
	require.NoError(t, err)
	for _, call := range []string{
		"compose up --build --detach --wait", "compose logs --follow --since 2026-01-31T12:00:00Z --tail 5 app", "compose exec db psql -U app -d app",
		"compose down --remove-orphans", "compose down --volumes --remove-orphans --rmi local",
	} {
		assert.Contains(t, strings.Split(string(calls), "\n"), call)
	}
}

func TestLogs_FollowsUntilInterrupted(t *testing.T) {
	t.Parallel()
	p := generated(t)
	state := filepath.Join(p.dir, ".quickscale")
	require.NoError(t, os.Mkdir(state, 0o700))
	log := filepath.Join(state, "app.log")
	require.NoError(t, os.WriteFile(log, []byte("one\n"), 0o600))
	file, err := binary()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), file, "logs", "-f", "--engine", "none")
	cmd.Dir = p.dir
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	read := func(want string) {
		got := make([]byte, len(want))
		_, err := out.Read(got)
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
	read("one\n")
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = f.WriteString("two\n")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	read("two\n")
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait(), "an interrupted -f is no failure")
}
