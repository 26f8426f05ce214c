package main

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// Whoever reads the database or the log after all this gets in nowhere. The development outbox alone holds what it was
// sent, which shows that the dump would find it elsewhere.
func TestMainJob_LeavesNoSecretBehind(t *testing.T) {
	t.Parallel()
	for dialect, database := range map[string]string{"sqlite": sqlite(t), "postgres": dbtest.PostgresURL(t, dbtest.Empty)} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			p := start(t, database)
			v := visit(t, p)
			v.join("grace@example.com")
			v.buy()
			key := v.find(v.post("/account/api-keys", "name", "laptop"), `(qs_[a-z0-9_]+\.[A-Za-z0-9_-]+)`)
			prefix, secret, _ := strings.Cut(key, ".")
			v.call(key, "text-analysis", `{"text":"one","operation":"count_words"}`)
			v.call(prefix+"."+strings.Repeat("A", len(secret)), "text-analysis", `{}`)
			v.post("/auth/password/forgot", "email", "grace@example.com")
			reset, err := url.Parse(v.mailTo("grace@example.com", "(?i)choose a new password")[0])
			require.NoError(t, err)
			visit(t, p).post("/auth/login", "email", "grace@example.com", "password", "not the right words")
			staff := visit(t, p)
			staff.login(adminEmail, seedPassword)
			staff.get("/admin/users?q=grace")
			here, err := url.Parse(p.base)
			require.NoError(t, err)

			token := reset.Query().Get("token")
			secrets := []string{password, "not the right words", seedPassword, secret, token, "4242424242424242"}
			for _, who := range []*visitor{v, staff} {
				for _, c := range who.client.Jar.Cookies(here) {
					secrets = append(secrets, c.Value)
				}
			}
			require.Len(t, secrets, 10, "two sessions and two browsers")
			everything, outbox := dump(t, database)
			require.Contains(t, outbox, token)
			require.Contains(t, everything, prefix)
			printed := strings.ReplaceAll(p.printed(), "password "+seedPassword, "") // the banner means to tell it
			require.Contains(t, printed, "security event")
			for _, s := range secrets {
				require.NotEmpty(t, s)
				assert.NotContains(t, everything, s)
				assert.NotContains(t, printed, s)
			}
			assert.NotContains(t, printed, "grace@example.com", "nor does the log tell who people are")
		})
	}
}

// dump is all that the tables hold as text, that of the outbox apart.
func dump(t *testing.T, database string) (everything, outbox string) {
	t.Helper()
	pools, err := quickscale.Open(t.Context(), database)
	require.NoError(t, err)
	defer func() { require.NoError(t, pools.Close()) }()
	list := `SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'`
	if strings.HasPrefix(database, "sqlite:") {
		list = `SELECT name FROM sqlite_master WHERE type = 'table'`
	}
	var tables []string
	require.NoError(t, pools.ReadDB.Select(&tables, list))
	var all, mails strings.Builder
	for _, table := range tables {
		to := &all
		if table == "qs_mail_outbox" {
			to = &mails
		}
		rows, err := pools.ReadDB.Queryx(`SELECT * FROM ` + table) //nolint:sqlclosecheck // closed below
		require.NoError(t, err)
		for rows.Next() {
			values, err := rows.SliceScan()
			require.NoError(t, err)
			for _, value := range values {
				if raw, ok := value.([]byte); ok {
					value = string(raw)
				}
				fmt.Fprintln(to, value)
			}
		}
		require.NoError(t, rows.Err())
		require.NoError(t, rows.Close())
	}
	return all.String(), mails.String()
}
