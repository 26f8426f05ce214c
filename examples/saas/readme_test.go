package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each command of README.md is run, or has a test of its own that runs it. A new command fails here until it has one.
func TestREADME_CommandsRun(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	var commands []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		commands = append(commands, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	seen := map[string]bool{}
	for _, command := range commands {
		program := strings.Fields(command)
		switch {
		case program[0] == "curl":
			seen["curl"] = true
			runCurl(t, command)
		case command == "go test ./...":
			// What this test is a part of; the pattern must find this package too.
			seen[command] = true
			out, err := exec.CommandContext(t.Context(), "go", "-C", root, "list", "./...").CombinedOutput()
			require.NoError(t, err, "%s", out)
			assert.Contains(t, string(out), "/examples/saas\n")
		case command == "go run ./examples/saas", command == "go run ./examples/compose":
			// Their smoke tests start the same program; here the command as it is written must find and build it.
			seen[command] = true
			out, err := exec.CommandContext(t.Context(), "go", "-C", root, "build", "-o", os.DevNull, program[2]).CombinedOutput()
			require.NoError(t, err, "%s", out)
		default:
			t.Errorf("nothing runs README's command %q", command)
		}
	}
	for _, command := range []string{"curl", "go test ./...", "go run ./examples/saas", "go run ./examples/compose"} {
		assert.True(t, seen[command], "README should show %s", command)
	}
}

// runCurl runs README's call in a shell, against an example of its own and with a key of its own.
func runCurl(t *testing.T, command string) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatalf("README uses curl: %v", err)
	}
	p := start(t, sqlite(t))
	v := visit(t, p)
	v.join("grace@example.com")
	v.buy()
	key := v.find(v.post("/account/api-keys", "name", "readme"), `(qs_[a-z0-9_]+\.[A-Za-z0-9_-]+)`)
	shell := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(command, "http://127.0.0.1:8080", p.base))
	shell.Env = append(os.Environ(), "KEY="+key)
	out, err := shell.Output()
	require.NoError(t, err)
	assert.Contains(t, string(out), `"word_count":3`)
	assert.Contains(t, string(out), `"credits_charged":"0.5"`)
}
