package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/dbtest"
)

// commands are all that the program completes, below a prefix: those with others below them are left out.
func (p place) commands(prefix ...string) []string {
	p.t.Helper()
	var found []string
	for line := range strings.Lines(p.ok(append(append([]string{"__complete"}, prefix...), "")...)) {
		name, _, described := strings.Cut(strings.TrimSpace(line), "\t")
		if !described || strings.HasPrefix(name, ":") || strings.HasPrefix(name, "-") {
			continue
		}
		path := append(append([]string{}, prefix...), name)
		if name == "help" || name == "completion" {
			found = append(found, strings.Join(path, " "))
			continue
		}
		if below := p.commands(path...); len(below) > 0 {
			found = append(found, below...)
			continue
		}
		found = append(found, strings.Join(path, " "))
	}
	return found
}

var documented = regexp.MustCompile("(?m)^\\| `quickscale ([a-z0-9 -]+)`")

// docs/cli.md has every command, and no other; the runbooks and the guide to production name such as there are.
func TestDocs_HaveEveryCommand(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/cli.md")
	require.NoError(t, err)
	var listed []string
	for _, m := range documented.FindAllStringSubmatch(string(page), -1) {
		listed = append(listed, m[1])
	}
	commands := place{t: t, dir: t.TempDir()}.commands()
	assert.ElementsMatch(t, commands, listed)
	tellOf(t, "runbooks.md", commands)
	tellOf(t, "production.md", commands)
}

var named = regexp.MustCompile(`quickscale ((?:[a-z][a-z0-9-]+\s*)+)`)

// tellOf checks that what a page tells to do can be done: every command that it names is one.
func tellOf(t *testing.T, file string, commands []string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/" + file)
	require.NoError(t, err)
	found := 0
	for _, code := range regexp.MustCompile("`quickscale [^`]+`").FindAllString(string(page), -1) {
		m := named.FindStringSubmatch(code)
		require.NotNil(t, m, "%s: %s", file, code)
		said := strings.Join(strings.Fields(m[1]), " ") + " "
		if said == "init " {
			continue
		}
		found++
		assert.True(t, slices.ContainsFunc(commands, func(c string) bool { return strings.HasPrefix(said, c+" ") }), "%s: %s is no command", file, code)
	}
	assert.Greater(t, found, 3, file)
}

func TestExitCodes_AreThoseOfTheDocs(t *testing.T) {
	t.Parallel()
	p := place{t: t, dir: t.TempDir()}
	p.ok("version", "--json")
	p.fails(2, "nonsense")
	p.fails(2, "ledger", "verify")
	p.fails(2, "version", "--nonsense")
	assert.Contains(t, p.ok("completion", "bash"), "__start_quickscale")
}

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// A stranger's path is walked as it stands: only the installation is the one of this checkout, and the port a free one.
func TestGettingStarted_WorksAsItStands(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/getting-started.md")
	require.NoError(t, err)
	blocks := shellBlock.FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(blocks), 5)
	const install = "go install github.com/quickscale/quickscale/cmd/quickscale@latest\n"
	require.Equal(t, install, blocks[0][1])
	var script strings.Builder
	for _, b := range blocks[1:] {
		script.WriteString(b[1])
	}
	addr := freeAddress(t)
	text := strings.ReplaceAll(script.String(), "127.0.0.1:8080", addr)
	text = strings.Replace(text, "quickscale init acme", "quickscale init acme --replace '"+checkout(t)+"'", 1)

	file, err := binary()
	require.NoError(t, err)
	bin := t.TempDir() // with a docker that does not answer, as on a machine that has only Go
	require.NoError(t, os.WriteFile(filepath.Join(bin, "docker"), []byte("#!/bin/sh\nexit 1\n"), 0o700))
	cmd := exec.CommandContext(t.Context(), "sh", "-e", "-x", "-c", text)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"PATH=" + bin + ":" + filepath.Dir(file) + ":" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "QUICKSCALE_ADDR=" + addr}
	t.Cleanup(func() {
		place{t, filepath.Join(cmd.Dir, "acme"), nil}.ok("down", "--engine", "none")
	})
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, said := range []string{"user@example.com", "granted 50", "Welcome", "0 discrepancies", "has no data any more"} {
		assert.Contains(t, string(out), said)
	}
}

// At a terminal long work shows a bar, which leaves no trace in the result.
func TestProgress_IsABarAtATerminalOnly(t *testing.T) {
	t.Parallel()
	p := at(t, dbtest.SQLiteURL(t, dbtest.Empty))
	p.ok("migrate", "up")
	for i := range 3 {
		p.ok("credits", "grant", fmt.Sprint("a", i), "1", "--reason", "Gift")
	}
	file, err := binary()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "script", "-qec", file+" ledger verify --after a0", os.DevNull)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TERM=xterm"}, p.env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "verifying")
	assert.Contains(t, string(out), "2 accounts and 0 seals checked")
	code, _, said := p.run("", "ledger", "verify")
	require.Zero(t, code)
	assert.Empty(t, said)
}

// On a terminal init asks for what no flag says; an empty line takes what is offered.
func TestInit_AsksOnATerminal(t *testing.T) {
	t.Parallel()
	file, err := binary()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "script", "-qec", file+" init acme --dry-run --replace '"+checkout(t)+"' --oauth google", os.DevNull)
	cmd.Dir = t.TempDir()
	cmd.Stdin = strings.NewReader("\npostgres\njsoncheck, wordcount\n")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "Path of the Go module [example.com/acme]: ")
	assert.Contains(t, string(out), "services/jsoncheck/jsoncheck.go")
	assert.NotContains(t, string(out), "Log in with", "a flag said it")
}
