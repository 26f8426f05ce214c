package quickscale_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/credits"
)

// tutorial are the parts of docs/services.md that a reader types: the program, its test, and the call.
func tutorial(t *testing.T) (program, test, call string) {
	t.Helper()
	for _, s := range snippets(t, "docs/services.md") {
		switch {
		case s.language == "go" && program == "":
			program = s.code
		case s.language == "go" && test == "":
			test = s.code
		case strings.HasPrefix(s.code, "curl "):
			call = s.code
		}
	}
	require.Contains(t, program, "func main()")
	require.Contains(t, test, "func Test")
	require.NotEmpty(t, call)
	return program, test, call
}

// built compiles a file as a reader would who has it in a module of his own.
func built(t *testing.T, dir, name, code string, command ...string) (binary string) {
	t.Helper()
	here, err := os.Getwd()
	require.NoError(t, err)
	kept := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(kept, []byte(code), 0o600))
	at := strings.TrimSuffix(strings.ReplaceAll(name, "_", ""), ".go")
	content, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, "internal", "snippets", at, name): kept}})
	require.NoError(t, err)
	overlay := kept + ".json"
	require.NoError(t, os.WriteFile(overlay, content, 0o600))
	binary = filepath.Join(dir, at)
	out, err := exec.CommandContext(t.Context(), "go", append(command, "-overlay", overlay, "-o", binary, "./internal/snippets/"+at)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return binary
}

// Who follows docs/services.md has a paid service: its program runs, its test passes, and its call is answered and charged
// once.
func TestDocs_TheServicesTutorialWorks(t *testing.T) {
	t.Parallel()
	program, test, call := tutorial(t)
	dir := t.TempDir()
	suite := exec.CommandContext(t.Context(), built(t, dir, "shout_test.go", test, "test", "-c", "-vet=off")) // there is no folder for vet to work in
	suite.Dir = dir
	out, err := suite.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "PASS")

	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := free.Addr().String()
	require.NoError(t, free.Close())
	here := strings.NewReplacer("127.0.0.1:8080", address)
	running := exec.CommandContext(t.Context(), built(t, dir, "main.go", here.Replace(program), "build"))
	running.Dir, running.Stderr = dir, os.Stderr
	require.NoError(t, running.Start())
	t.Cleanup(func() {
		_ = running.Process.Kill() // it may have ended
		_ = running.Wait()
	})
	page := func() string {
		res, err := http.Get("http://" + address + "/services/shout") //nolint:noctx // of a server of our own
		if err != nil {
			return ""
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return string(text)
	}
	require.Eventually(t, func() bool { return strings.Contains(page(), "Makes text loud.") }, time.Minute, 50*time.Millisecond)

	// The account, its credits and its key: what the reader does in the browser.
	pools, err := quickscale.Open(t.Context(), "sqlite:"+filepath.Join(dir, "shout.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pools.Close()) })
	app, err := quickscale.New(quickscale.Config{DB: pools.DB, ReadDB: pools.ReadDB, Mode: quickscale.Development, BaseURL: "http://" + address, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	u, err := app.Auth.CreateUser(t.Context(), auth.CreateUserParams{Email: "ada@example.com", Password: "correct horse battery", Verified: true, Role: auth.RoleUser})
	require.NoError(t, err)
	_, err = app.Credits.Grant(t.Context(), credits.GrantParams{Account: u.AccountID, Amount: credits.Credit, Source: credits.Purchase, Reason: "Pack"})
	require.NoError(t, err)
	_, key, err := app.Auth.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "curl", Scopes: []string{quickscale.ScopeAPI}})
	require.NoError(t, err)

	made := regexp.MustCompile(`-H "([^:]+): ([^"]+)"|-d '([^']+)'|(http://\S+)`).FindAllStringSubmatch(here.Replace(call), -1)
	require.Len(t, made, 4, "two headers, the input and the address")
	send := func() (charged, body string) {
		var url, input string
		header := http.Header{}
		for _, m := range made {
			switch {
			case m[1] != "":
				header.Set(m[1], strings.ReplaceAll(m[2], "$KEY", key))
			case m[3] != "":
				input = m[3]
			default:
				url = m[4]
			}
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(input))
		require.NoError(t, err)
		r.Header = header
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode, "%s", text)
		return res.Header.Get("X-Credits-Charged"), string(text)
	}
	charged, first := send()
	assert.Equal(t, "0.02", charged)
	assert.Contains(t, first, `"result":{"text":"HELLO THERE"}`)
	_, again := send()
	assert.Equal(t, first, again)
	b, err := app.Credits.Balance(t.Context(), u.AccountID)
	require.NoError(t, err)
	assert.Equal(t, "0.98", b.Available.String(), "charged once")
}
