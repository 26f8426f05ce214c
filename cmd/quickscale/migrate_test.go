package main_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// eachEngine runs a test on an empty database of each kind.
func eachEngine(t *testing.T, fn func(t *testing.T, url string)) {
	t.Helper()
	t.Parallel()
	for engine, address := range map[string]func(testing.TB, dbtest.Schema) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			fn(t, address(t, dbtest.Empty))
		})
	}
}

// application is the whole application on a database.
func application(t *testing.T, url string) *quickscale.App {
	t.Helper()
	pools, err := quickscale.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pools.Close()) })
	app, err := quickscale.New(quickscale.Config{DB: pools.DB, ReadDB: pools.ReadDB, Mode: quickscale.Development, BaseURL: "http://127.0.0.1:1", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return app
}

func at(t *testing.T, url string) place {
	t.Helper()
	return place{t, t.TempDir(), []string{"QUICKSCALE_DATABASE_URL=" + url}}
}

// What the command does is what the application needs, and the other way round: neither knows a set that the other lacks.
func TestMigrate_MakesWhatTheApplicationNeeds(t *testing.T) {
	eachEngine(t, func(t *testing.T, url string) {
		p := at(t, url)
		app := application(t, url)
		var status struct {
			Migrations []struct {
				Package, File string
				Applied       bool
			}
			Pending int
		}
		look := func() {
			require.NoError(t, json.Unmarshal([]byte(p.ok("migrate", "status", "--json")), &status))
		}
		look()
		assert.Len(t, status.Migrations, status.Pending)
		text := p.ok("migrate", "sql")
		assert.Contains(t, text, "CREATE TABLE qs_credit_accounts")
		assert.NotContains(t, text, "+goose")
		require.Error(t, app.Ready(t.Context()))

		out := p.ok("migrate", "up")
		assert.Regexp(t, `credits +00001_`, out)
		require.NoError(t, app.Ready(t.Context()), "the application can serve on what the command made")
		assert.Equal(t, "0 applied\n", p.ok("migrate", "up"))
		look()
		assert.Zero(t, status.Pending)
		assert.Equal(t, "-- 0 changes\n", p.ok("migrate", "sql"))
		assert.Contains(t, p.ok("migrate", "sql", "--all"), "CREATE TABLE qs_credit_accounts")
	})
	t.Run("after the application", func(t *testing.T) {
		t.Parallel()
		url := dbtest.SQLiteURL(t, dbtest.Empty)
		require.NoError(t, application(t, url).Migrate(t.Context()))
		assert.Equal(t, "0 applied\n", at(t, url).ok("migrate", "up"), "the application makes all that the command knows")
	})
}

// Each change can be taken back but for one, and what was taken back comes again. The package services has rewritten its
// calls once, and goes down to there.
func TestMigrate_Down(t *testing.T) {
	eachEngine(t, func(t *testing.T, url string) {
		p := at(t, url)
		p.ok("migrate", "up")
		assert.Contains(t, p.fails(2, "migrate", "down", "river"), "migrate status")
		p.ok("credits", "grant", "a", "1", "--reason", "Gift")
		p.ok("migrate", "down", "credits") // the figures, of which there are none
		out := p.ok("migrate", "down", "credits", "--dry-run")
		assert.Regexp(t, `loses 1 rows of qs_credit_entries`, out)
		assert.Contains(t, out, "nothing was done")
		assert.Contains(t, p.fails(1, "migrate", "down", "credits"), "--force")
		assert.Regexp(t, `available +1\n`, p.ok("credits", "balance", "a"))
		for _, name := range []string{"credits", "webhook", "outbound", "mail", "auth", "billing", "admin", "maintenance"} {
			for {
				code, out, problems := p.run("", "migrate", "down", name, "--force")
				if code == 3 {
					break
				}
				require.Zero(t, code, "%s: %s%s", name, out, problems)
			}
		}
		code, problems := 0, ""
		for code == 0 {
			code, _, problems = p.run("", "migrate", "down", "services", "--force")
		}
		assert.Equal(t, 1, code)
		assert.Contains(t, problems, "no way down")
		db, err := database.Open(t.Context(), url)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, db.Close()) })
		tables := "SELECT name FROM sqlite_master WHERE name LIKE 'qs_%' AND name NOT LIKE '%migrations%' AND name NOT LIKE 'qs_service%'"
		if db.Dialect() == database.Postgres {
			tables = "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public' AND relname LIKE 'qs_%' AND relname NOT LIKE '%migrations%' AND relname NOT LIKE 'qs_service%'"
		}
		var left []string
		require.NoError(t, db.Select(t.Context(), &left, tables))
		assert.Empty(t, left)
		p.ok("migrate", "up")
		require.NoError(t, application(t, url).Ready(t.Context()))
		assert.Regexp(t, `available +0\n`, p.ok("credits", "balance", "a"))
	})
}

func TestCredits_FromGrantToHistory(t *testing.T) {
	eachEngine(t, func(t *testing.T, url string) {
		p := at(t, url)
		p.ok("migrate", "up")
		u, err := application(t, url).Auth.CreateUser(t.Context(), auth.CreateUserParams{Email: "ada@example.com", Name: "Ada", Password: "correct horse battery", Verified: true, Role: auth.RoleUser})
		require.NoError(t, err)
		grant := []string{"credits", "grant", "ada@example.com", "12.5", "--reason", "Sorry", "--key", "ticket-7"}
		for range 2 {
			assert.Equal(t, "granted 12.5; 12.5 are available\n", p.ok(grant...))
		}
		day := time.Now().UTC().AddDate(0, 0, 3).Format(time.DateOnly)
		p.ok("credits", "grant", u.ID, "1", "--source", "bonus", "--reason", "Gift", "--expires", day)
		out := p.ok("credits", "balance", "ADA@example.com")
		assert.Regexp(t, `available +13.5`, out)
		assert.Regexp(t, `admin +12.5`, out)
		assert.Regexp(t, `expires on `+day+` +1`, out)
		assert.Regexp(t, `(?s)2 .*grant +1 +13.5 +Gift.*12.5 +12.5 +Sorry`, p.ok("credits", "history", u.ID))
		assert.Contains(t, p.ok("credits", "history", u.ID, "--limit", "1"), "--before 2")
		var history struct{ Entries []credits.Entry }
		require.NoError(t, json.Unmarshal([]byte(p.ok("credits", "history", u.ID, "--json")), &history))
		require.Len(t, history.Entries, 2)
		assert.NotEmpty(t, history.Entries[0].Metadata["by"])

		assert.Contains(t, p.fails(3, "credits", "balance", "nobody@example.com"), "no such user")
		assert.Contains(t, p.fails(2, "credits", "grant", "a", "much", "--reason", "x"), "decimal number")
		assert.Contains(t, p.fails(2, "credits", "grant", "a", "1"), "reason")
		assert.Contains(t, p.fails(2, "credits", "grant", "a", "1", "--reason", "x", "--expires", "soon"), "2026-01-31")
		assert.Contains(t, p.fails(1, "credits", "grant", "ada@example.com", "13", "--reason", "Sorry", "--key", "ticket-7"), "used before")
	})
}

func TestCredits_Import(t *testing.T) {
	eachEngine(t, func(t *testing.T, url string) {
		p := at(t, url)
		p.ok("migrate", "up")
		file := filepath.Join(p.dir, "balances.csv")
		write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
		write("account,amount\na,1\nb,many\n")
		code, out, _ := p.run("", "credits", "import", file, "--name", "old")
		assert.Equal(t, 1, code)
		assert.Contains(t, out, "line 3")
		assert.Regexp(t, `available +0`, p.ok("credits", "balance", "a"))
		write("account,amount\na,1\nb,2\n")
		assert.Contains(t, p.ok("credits", "import", file, "--name", "old", "--dry-run"), "2 lines, 2 accounts, 3 credits: 0 granted")
		for range 2 {
			assert.Contains(t, p.ok("credits", "import", file, "--name", "old"), "2 granted")
		}
		assert.Regexp(t, `available +2`, p.ok("credits", "balance", "b"))
		assert.Contains(t, p.fails(2, "credits", "import", file), "--name")
		assert.Contains(t, p.fails(2, "credits", "import", "nowhere.csv", "--name", "x"), "nowhere.csv")
	})
}

func TestAPIKey_ListAndRevoke(t *testing.T) {
	eachEngine(t, func(t *testing.T, url string) {
		p := at(t, url)
		p.ok("migrate", "up")
		a := application(t, url).Auth
		u, err := a.CreateUser(t.Context(), auth.CreateUserParams{Email: "ada@example.com", Name: "Ada", Password: "correct horse battery", Verified: true, Role: auth.RoleUser})
		require.NoError(t, err)
		key, token, err := a.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "laptop"})
		require.NoError(t, err)
		out := p.ok("apikey", "list", "ada@example.com")
		assert.Contains(t, out, key.Prefix)
		assert.Contains(t, out, "laptop")
		assert.NotContains(t, out, token[len(key.Prefix)+1:])
		p.ok("apikey", "revoke", "ada@example.com", key.ID)
		_, _, err = a.AuthenticateKey(t.Context(), token)
		require.ErrorIs(t, err, auth.ErrKey)
		p.fails(3, "apikey", "revoke", "ada@example.com", key.ID)
		p.fails(3, "apikey", "list", "bob@example.com")
		var list struct{ Keys []auth.APIKey }
		require.NoError(t, json.Unmarshal([]byte(p.ok("apikey", "list", "ada@example.com", "--json")), &list))
		require.Len(t, list.Keys, 1)
		assert.NotNil(t, list.Keys[0].RevokedAt)
	})
}
