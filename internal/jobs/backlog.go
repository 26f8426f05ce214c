package jobs

import (
	"context"
	"fmt"
)

// Backlog is what waits to be worked.
type Backlog struct {
	// Waiting are jobs that are due.
	Waiting int64 `db:"waiting"`
	// Discarded are jobs that were given up, as far back as River keeps them (7 days).
	Discarded int64 `db:"discarded"`
}

// Backlog counts the jobs that wait and those that were given up.
func (e *Engine) Backlog(ctx context.Context) (b Backlog, err error) {
	if err := e.db.Get(ctx, &b, `SELECT (SELECT COUNT(*) FROM river_job WHERE state = 'available') AS waiting,
(SELECT COUNT(*) FROM river_job WHERE state = 'discarded') AS discarded`); err != nil {
		return b, fmt.Errorf("jobs: backlog: %w", err)
	}
	return b, nil
}
