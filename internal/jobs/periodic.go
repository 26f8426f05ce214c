package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// taskArgs names the task that one periodic job runs.
type taskArgs struct {
	Task string `json:"task"`
}

// Kind names the job; it is in the database of every installation and is not changed.
func (taskArgs) Kind() string { return "quickscale_task" }

// taskAttempts is how often a run that fails is tried; the next period comes anyway.
const taskAttempts = 3

// deployTime is how long two versions of a program may run side by side. What nobody has taken up until then belongs to
// a version that is gone.
const deployTime = 24 * time.Hour

// tasks runs what [Engine.Every] was given, by name.
type tasks struct {
	river.WorkerDefaults[taskArgs]
	byName map[string]func(ctx context.Context) error
}

// Work implements river.Worker.
func (t *tasks) Work(ctx context.Context, job *river.Job[taskArgs]) error {
	fn, ok := t.byName[job.Args.Task]
	if !ok {
		if time.Since(job.CreatedAt) > deployTime {
			return river.JobCancel(fmt.Errorf("jobs: there is no task %q any more", job.Args.Task))
		}
		// Left by another version of the program, which has the task.
		return river.JobSnooze(time.Minute)
	}
	if err := fn(ctx); err != nil {
		return fmt.Errorf("jobs: task %s: %w", job.Args.Task, err)
	}
	return nil
}

// Every runs fn when the processes start and then once per interval, a second or longer, in one of them. A run that
// takes longer than the interval is not joined by a second one. fn must be repeatable. It is called before Start; a
// name that is taken is an error.
func (e *Engine) Every(name string, interval time.Duration, fn func(ctx context.Context) error) error {
	if e.tasks == nil {
		e.tasks = &tasks{byName: map[string]func(ctx context.Context) error{}}
		if err := river.AddWorkerSafely(e.workers, e.tasks); err != nil {
			return fmt.Errorf("jobs: %w", err)
		}
	}
	if _, taken := e.tasks.byName[name]; taken {
		return fmt.Errorf("jobs: there is a task %q already", name)
	}
	e.tasks.byName[name] = fn
	job := river.NewPeriodicJob(river.PeriodicInterval(interval), func() (river.JobArgs, *river.InsertOpts) {
		return taskArgs{name}, onceUnfinished()
	}, &river.PeriodicJobOpts{ID: name, RunOnStart: true})
	if _, err := e.client.PeriodicJobs().AddSafely(job); err != nil {
		return fmt.Errorf("jobs: task %s: %w", name, err)
	}
	return nil
}

// unfinished are the states of a job that a further one of its task would double.
var unfinished = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled,
}
