package auth

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// How long rows are kept that nothing needs any more: dead sessions and links for questions that come later, and
// accounts that nobody confirmed for who is slow.
const (
	keepDead       = 30 * 24 * time.Hour
	keepUnverified = 30 * 24 * time.Hour
)

// Sweep deletes what time has made useless: windows of limits that have passed; sessions and mailed links that ended 30
// days ago; accounts of users, not staff, that were never confirmed nor entered and asked for no link in 30 days. It
// returns how many rows went. Everything works without it; call it about once a day.
func (a *Auth) Sweep(ctx context.Context) (deleted int64, err error) {
	now := a.now()
	dead, unverified := database.At(now.Add(-keepDead)), database.At(now.Add(-keepUnverified))
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		deleted = 0
		for _, step := range []struct {
			what, statement string
			args            []any
		}{
			{"limits", `DELETE FROM qs_auth_limits WHERE expires_at <= ?`, []any{database.At(now)}},
			{"sessions", `DELETE FROM qs_auth_sessions WHERE expires_at <= ?`, []any{dead}},
			{"challenges of passkeys", `DELETE FROM qs_auth_ceremonies WHERE expires_at <= ?`, []any{database.At(now)}},
			{"log-ins by mail", `DELETE FROM qs_auth_magic WHERE expires_at <= ?`, []any{database.At(now)}},
			{"changes of address", `DELETE FROM qs_auth_email_changes WHERE expires_at <= ?`, []any{dead}},
			{"browsers", `DELETE FROM qs_auth_devices WHERE last_used_at <= ?`, []any{database.At(now.Add(-deviceLifetime))}},
			{"log-ins that wait", `DELETE FROM qs_auth_pending WHERE expires_at <= ?`, []any{database.At(now)}},
			{"log-ins at other sites", `DELETE FROM qs_auth_oauth_flows WHERE expires_at <= ?`, []any{database.At(now)}},
			{"offers to link", `DELETE FROM qs_auth_oauth_offers WHERE expires_at <= ?`, []any{database.At(now)}},
			{"tokens", `DELETE FROM qs_auth_tokens WHERE expires_at <= ?`, []any{dead}},
			{"unverified users", `DELETE FROM qs_auth_users WHERE verified_at IS NULL AND created_at <= ? AND last_login_at IS NULL AND role = 'user'
				AND disabled_at IS NULL AND NOT EXISTS (SELECT 1 FROM qs_auth_tokens t WHERE t.user_id = qs_auth_users.id AND t.created_at > ?)`,
				[]any{unverified, unverified}},
		} {
			n, err := a.db.ExecTx(ctx, tx, step.statement, step.args...)
			if err != nil {
				return fmt.Errorf("auth: sweep %s: %w", step.what, err)
			}
			deleted += n
		}
		return nil
	})
	return deleted, err
}
