package auth_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// Whatever runs for each request or log-in is found by an index, so that it takes as long with a million accounts.
func TestPlans_NothingOnTheWayInReadsAWholeTable(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t, schema)
	_, err := db.Writer().Exec(`INSERT INTO qs_auth_users (id, email, email_key, name, name_key, role, password_hash, verified_at, created_at)
		SELECT gen_random_uuid(), 'u' || i || '@example.com', 'u' || i || '@example.com', '', '', 'user', '', now(), now() FROM generate_series(1, 50000) i`)
	require.NoError(t, err)
	_, err = db.Writer().Exec(`INSERT INTO qs_auth_sessions (id, token_hash, user_id, remember, ip, agent, created_at, auth_at, last_seen_at, idle_until, expires_at)
		SELECT gen_random_uuid(), sha256(id::text::bytea), id, false, '', '', now(), now(), now(), now(), now() + interval '1 day' FROM qs_auth_users`)
	require.NoError(t, err)
	_, err = db.Writer().Exec(`INSERT INTO qs_auth_events (id, user_id, kind, ip, agent, created_at)
		SELECT gen_random_uuid(), id, CASE WHEN random() < 0.001 THEN 'locked' ELSE 'login' END, CASE WHEN random() < 0.001 THEN '192.0.2.1' ELSE '' END, '',
			now() - random() * interval '100 days' FROM qs_auth_users`)
	require.NoError(t, err)
	_, err = db.Writer().Exec(`ANALYZE`)
	require.NoError(t, err)
	const events = `SELECT e.id, u.email FROM qs_auth_events e LEFT JOIN qs_auth_users u ON u.id = e.user_id`
	for _, query := range []string{
		`SELECT id FROM qs_auth_users u WHERE u.email_key = 'u7@example.com'`,
		`SELECT u.id FROM qs_auth_sessions s JOIN qs_auth_users u ON u.id = s.user_id WHERE s.token_hash = sha256('x') AND s.revoked_at IS NULL`,
		`SELECT id FROM qs_auth_users u WHERE (u.email_key LIKE 'u4999%' ESCAPE '\' OR u.name_key LIKE 'u4999%' ESCAPE '\') ORDER BY u.id DESC LIMIT 51`,
		events + ` ORDER BY e.id DESC LIMIT 51`,
		events + ` WHERE e.kind = 'locked' ORDER BY e.id DESC LIMIT 51`,
		events + ` WHERE e.ip = '192.0.2.1' ORDER BY e.id DESC LIMIT 51`,
		events + ` WHERE e.user_id = '0197d9a0-0000-7000-8000-000000000000' ORDER BY e.id DESC LIMIT 51`,
		events + ` WHERE e.created_at >= now() - interval '90 days' AND e.created_at < now() - interval '89 days' ORDER BY e.id DESC LIMIT 51`,
		`SELECT id FROM qs_auth_sessions WHERE user_id = '0197d9a0-0000-7000-8000-000000000000' ORDER BY id DESC LIMIT 51`,
	} {
		var plan []string
		require.NoError(t, db.Writer().Select(&plan, `EXPLAIN `+query))
		text := strings.Join(plan, "\n")
		assert.NotContains(t, text, "Seq Scan", query+"\n"+text)
	}
}

// Operators search their logs for these words.
func TestEvents_AreLoggedInOneFormat(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		k.browser().logIn(email, password)
		b := k.browser()
		b.header["User-Agent"] = "Evil\" user=admin"
		b.logIn("nobody@example.com", password)
		_, _, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.NoError(t, err)
		const id = `id=[0-9a-f-]{36}$`
		assert.Regexp(t, `(?m)level=INFO msg="security event" event=login user=`+u.ID+` detail="" ip=192\.0\.2\.1 agent=Test/1\.0 `+id, k.log.String())
		assert.Regexp(t, `(?m)level=INFO msg="security event" event=login_failed user="" detail="" ip=192\.0\.2\.1 agent="Evil\\" user=admin" `+id, k.log.String())
		assert.Regexp(t, `(?m)level=INFO msg="security event" event=api_key_created user=`+u.ID+` detail=qs_live_[a-z0-9]{12} ip="" agent="" `+id, k.log.String())
		events, _, err := k.SecurityEvents(t.Context(), auth.EventsParams{UserID: u.ID})
		require.NoError(t, err)
		for _, e := range events {
			assert.Equal(t, 1, strings.Count(k.log.String(), "id="+e.ID), "one line for each event")
		}
		assert.NotContains(t, strings.ToLower(k.log.String()), "ada@")
	})
}
