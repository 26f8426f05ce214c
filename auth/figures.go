package auth

import (
	"context"
	"fmt"
	"time"

	"github.com/quickscale/quickscale/internal/database"
)

// UserCounts are numbers of users at a moment.
type UserCounts struct {
	Total int64 `db:"total" json:"total"`
	// New signed up on the day of the moment (UTC), NewBefore on the day before.
	New       int64 `db:"new"        json:"new"`
	NewBefore int64 `db:"new_before" json:"new_before"`
	// ActiveDay were seen on that day, ActiveMonth in the last 30 days: they logged in, or a session of theirs was used.
	ActiveDay   int64 `db:"-" json:"active_day"`
	ActiveMonth int64 `db:"-" json:"active_month"`
}

// CountUsers counts users as of now. It reads all of them, which takes a moment where there are many: call it by a job.
func (a *Auth) CountUsers(ctx context.Context) (c UserCounts, err error) {
	now := a.now()
	today := now.Truncate(24 * time.Hour)
	const users = `SELECT COUNT(*) AS total, CAST(COALESCE(SUM(CASE WHEN created_at >= ? THEN 1 ELSE 0 END), 0) AS BIGINT) AS new,
			CAST(COALESCE(SUM(CASE WHEN created_at >= ? AND created_at < ? THEN 1 ELSE 0 END), 0) AS BIGINT) AS new_before
		FROM qs_auth_users`
	if err := a.db.Get(ctx, &c, users, database.At(today), database.At(today.AddDate(0, 0, -1)), database.At(today)); err != nil {
		return c, fmt.Errorf("auth: count users: %w", err)
	}
	const active = `SELECT COUNT(*) FROM (SELECT id FROM qs_auth_users WHERE last_login_at >= ? UNION SELECT user_id FROM qs_auth_sessions WHERE last_seen_at >= ?) AS seen`
	for since, to := range map[time.Time]*int64{today: &c.ActiveDay, now.AddDate(0, 0, -30): &c.ActiveMonth} {
		if err := a.db.Get(ctx, to, active, database.At(since), database.At(since)); err != nil {
			return c, fmt.Errorf("auth: count active users: %w", err)
		}
	}
	return c, nil
}
