package auth_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// BenchmarkMillionUsers makes a million accounts with a session and an event each in PostgreSQL, checks that nothing on
// the way in reads a whole table, and times what people and staff do. Making them takes about a minute.
func BenchmarkMillionUsers(b *testing.B) {
	const users = 1_000_000
	db := dbtest.Postgres(b, schema)
	k := newKit(b, db)
	k.user(email)
	for _, statement := range []string{
		`INSERT INTO qs_auth_users (id, email, email_key, name, name_key, role, password_hash, verified_at, created_at)
			SELECT gen_random_uuid(), 'u' || i || '@example.com', 'u' || i || '@example.com', 'Person ' || i, 'person ' || i, 'user',
				(SELECT password_hash FROM qs_auth_users LIMIT 1), now(), now() FROM generate_series(1, %d) i`,
		`INSERT INTO qs_auth_sessions (id, token_hash, user_id, remember, ip, agent, created_at, auth_at, last_seen_at, idle_until, expires_at)
			SELECT gen_random_uuid(), sha256(id::text::bytea), id, false, '', '', now(), now(), now(), now(), now() + interval '1 day' FROM qs_auth_users LIMIT %d`,
		`INSERT INTO qs_auth_events (id, user_id, kind, ip, agent, created_at)
			SELECT gen_random_uuid(), id, CASE WHEN random() < 0.001 THEN 'locked' ELSE 'login' END, '', '', now() FROM qs_auth_users LIMIT %d`,
	} {
		_, err := db.Writer().Exec(fmt.Sprintf(statement, users))
		require.NoError(b, err)
	}
	_, err := db.Writer().Exec(`ANALYZE`)
	require.NoError(b, err)
	for _, query := range []string{
		`SELECT id FROM qs_auth_users u WHERE u.email_key = 'u777777@example.com'`,
		`SELECT u.id FROM qs_auth_sessions s JOIN qs_auth_users u ON u.id = s.user_id WHERE s.token_hash = sha256('x') AND s.revoked_at IS NULL`,
		`SELECT id FROM qs_auth_users u WHERE (u.email_key LIKE 'u77777%' ESCAPE '\' OR u.name_key LIKE 'u77777%' ESCAPE '\') ORDER BY u.id DESC LIMIT 51`,
		`SELECT id FROM qs_auth_users u ORDER BY u.id DESC LIMIT 51`,
		`SELECT id FROM qs_auth_events WHERE kind = 'locked' ORDER BY id DESC LIMIT 51`,
		`SELECT id FROM qs_auth_events ORDER BY id DESC LIMIT 51`,
	} {
		var plan []string
		require.NoError(b, db.Writer().Select(&plan, `EXPLAIN `+query))
		text := strings.Join(plan, "\n")
		require.NotContains(b, text, "Seq Scan", query)
		b.Log(query + "\n" + text)
	}
	for _, c := range []struct {
		name string
		do   func(i int) error
	}{
		{"log-in", func(i int) error {
			_, err := k.LogIn(b.Context(), auth.LogInParams{Email: fmt.Sprintf("U%d@example.com", 1+i*7919%users), Password: password})
			return err
		}},
		{"wrong", func(i int) error {
			_, err := k.LogIn(b.Context(), auth.LogInParams{Email: fmt.Sprintf("n%d@example.com", i), Password: password})
			if err == auth.ErrCredentials { //nolint:errorlint // nothing else is expected
				return nil
			}
			return fmt.Errorf("an unknown address: %w", err)
		}},
		{"search-address", func(i int) error {
			found, _, err := k.Users(b.Context(), auth.UsersParams{Query: fmt.Sprintf("u%d", 10000+i%89999)})
			if err == nil && len(found) == 0 {
				return fmt.Errorf("nobody was found")
			}
			return err
		}},
		{"search-name", func(i int) error {
			_, _, err := k.Users(b.Context(), auth.UsersParams{Query: fmt.Sprintf("PERSON %d", 10000+i%89999)})
			return err
		}},
		{"newest", func(int) error {
			_, _, err := k.Users(b.Context(), auth.UsersParams{})
			return err
		}},
		{"events-of-kind", func(int) error {
			_, _, err := k.AllEvents(b.Context(), auth.AllEventsParams{Kind: auth.EventLocked})
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var times []time.Duration
			for i := 0; b.Loop(); i++ {
				began := time.Now()
				if err := c.do(i); err != nil {
					b.Fatal(err)
				}
				times = append(times, time.Since(began))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
		})
	}
}
