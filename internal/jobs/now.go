package jobs

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
)

// RunTx asks, in the caller's transaction, for a run of a task that [Engine.Every] has, as soon as a process is free.
// It returns false when one waits or runs already, which then is the one. A name that there is not is an error.
func (e *Engine) RunTx(ctx context.Context, tx *sqlx.Tx, name string) (added bool, err error) {
	if e.tasks == nil || e.tasks.byName[name] == nil {
		return false, fmt.Errorf("jobs: there is no task %q", name)
	}
	result, err := e.client.InsertTx(ctx, tx.Tx, taskArgs{name}, onceUnfinished())
	if err != nil {
		return false, fmt.Errorf("jobs: ask for task %s: %w", name, err)
	}
	return !result.UniqueSkippedAsDuplicate, nil
}

// onceUnfinished keeps a second run of a task from being queued beside one that has not ended.
func onceUnfinished() *river.InsertOpts {
	return &river.InsertOpts{MaxAttempts: taskAttempts, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: unfinished}}
}
