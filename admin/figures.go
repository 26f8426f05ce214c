package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/webhook"
)

// Revenue has the sums of payments and plans; *billing.Billing is one.
type Revenue interface {
	Figures(ctx context.Context, p billing.FiguresParams) (billing.Figures, error)
}

// Use has the sums of the ledger, and what in it does not add up; *credits.Ledger is one.
type Use interface {
	Figures(ctx context.Context, p credits.FiguresParams) (credits.Figures, error)
	Faults(ctx context.Context, since time.Time) ([]credits.Discrepancy, error)
}

// Crowd counts people; *auth.Auth is one.
type Crowd interface {
	CountUsers(ctx context.Context) (auth.UserCounts, error)
}

// Lag has what waits of Stripe's events and how long they took; *webhook.Processor is one.
type Lag interface {
	Stats(ctx context.Context, p webhook.StatsParams) (webhook.Stats, error)
}

// PeopleDay is how many users there were on a day.
type PeopleDay struct {
	// Day is in UTC, as 2026-03-01.
	Day   string `db:"day"   json:"day"`
	Total int64  `db:"total" json:"total"`
	New   int64  `db:"new"   json:"new"`
	// ActiveDay were seen on the day until it was counted last, ActiveMonth in the 30 days before.
	ActiveDay   int64 `db:"active_day"   json:"active_day"`
	ActiveMonth int64 `db:"active_month" json:"active_month"`
}

// CountPeople counts the users and keeps the numbers of the day, for a job that runs every hour or so. It does nothing
// without Config.Crowd.
func (a *Admin) CountPeople(ctx context.Context) error {
	if a.cfg.Crowd == nil {
		return nil
	}
	c, err := a.cfg.Crowd.CountUsers(ctx)
	if err != nil {
		return err
	}
	now := a.now()
	today, before := now.Format(time.DateOnly), now.AddDate(0, 0, -1).Format(time.DateOnly)
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		const upsert = `INSERT INTO qs_admin_people (day, total, new, active_day, active_month, counted_at) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (day) DO UPDATE SET total = excluded.total, new = excluded.new, active_day = excluded.active_day,
				active_month = excluded.active_month, counted_at = excluded.counted_at`
		if _, err := a.db.ExecTx(ctx, tx, upsert, today, c.Total, c.New, c.ActiveDay, c.ActiveMonth, database.At(now)); err != nil {
			return fmt.Errorf("admin: keep the numbers of users: %w", err)
		}
		// Those who signed up after the last count of the day before.
		if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_admin_people SET new = ? WHERE day = ?`, c.NewBefore, before); err != nil {
			return fmt.Errorf("admin: keep the numbers of users of the day before: %w", err)
		}
		return nil
	})
}

// People are the numbers of users by day, from a day on.
func (a *Admin) People(ctx context.Context, from time.Time) ([]PeopleDay, error) {
	found := []PeopleDay{}
	const days = `SELECT day, total, new, active_day, active_month FROM qs_admin_people WHERE day >= ? ORDER BY day`
	if err := a.db.Select(ctx, &found, days, from.UTC().Format(time.DateOnly)); err != nil {
		return nil, fmt.Errorf("admin: numbers of users: %w", err)
	}
	return found, nil
}
