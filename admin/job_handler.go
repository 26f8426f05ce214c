package admin

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"strconv"

	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// Jobs is River's queue, in the database of Config.DB; *river.Client[*sql.Tx] is one.
type Jobs interface {
	JobList(ctx context.Context, params *river.JobListParams) (*river.JobListResult, error)
	JobRetryTx(ctx context.Context, tx *sql.Tx, id int64) (*rivertype.JobRow, error)
	JobCancelTx(ctx context.Context, tx *sql.Tx, id int64) (*rivertype.JobRow, error)
}

// jobsPage is the data of jobs.html.
type jobsPage struct {
	frame

	State  rivertype.JobState   `json:"state"`
	States []rivertype.JobState `json:"-"`
	Jobs   []jobLine            `json:"jobs"`
	Next   string               `json:"next,omitempty"`
}

// jobLine is a job without its arguments, which may hold personal data.
type jobLine struct {
	ID          int64              `json:"id"`
	Kind        string             `json:"kind"`
	State       rivertype.JobState `json:"state"`
	Attempt     int                `json:"attempt"`
	MaxAttempts int                `json:"max_attempts"`
	ScheduledAt string             `json:"scheduled_at"`
	// LastError is the last attempt's. Empty: none failed.
	LastError string `json:"last_error,omitempty"`
	// CanRetry and CanCancel tell what can be done about it.
	CanRetry  bool `json:"can_retry"`
	CanCancel bool `json:"can_cancel"`
}

var jobStates = []rivertype.JobState{rivertype.JobStateAvailable, rivertype.JobStateRunning, rivertype.JobStateRetryable, rivertype.JobStateScheduled,
	rivertype.JobStateCompleted, rivertype.JobStateCancelled, rivertype.JobStateDiscarded}

func (a *Admin) listJobs(w http.ResponseWriter, r *http.Request) error {
	params := river.NewJobListParams().First(DefaultPage).OrderBy(river.JobListOrderByID, river.SortOrderDesc)
	page := jobsPage{frame: a.frame(sectionJobs), States: jobStates, Jobs: []jobLine{}}
	for _, s := range jobStates {
		if string(s) == r.URL.Query().Get("state") {
			page.State, params = s, params.States(s)
		}
	}
	if before := r.URL.Query().Get("before"); before != "" {
		var cursor river.JobListCursor
		if err := cursor.UnmarshalText([]byte(before)); err != nil {
			return errNoPage
		}
		params = params.After(&cursor)
	}
	found, err := a.cfg.Jobs.JobList(r.Context(), params)
	if err != nil {
		return err
	}
	for _, job := range found.Jobs {
		line := jobLine{ID: job.ID, Kind: job.Kind, State: job.State, Attempt: job.Attempt, MaxAttempts: job.MaxAttempts,
			ScheduledAt: job.ScheduledAt.UTC().Format("2 Jan 2006, 15:04 UTC"), CanRetry: a.mayDo(r, ActionJobRetry) && job.State != rivertype.JobStateRunning && job.State != rivertype.JobStateAvailable,
			CanCancel: a.mayDo(r, ActionJobCancel) && job.FinalizedAt == nil}
		if n := len(job.Errors); n > 0 {
			line.LastError = bounded(job.Errors[n-1].Error)
		}
		page.Jobs = append(page.Jobs, line)
	}
	if len(found.Jobs) == DefaultPage && found.LastCursor != nil {
		text, err := found.LastCursor.MarshalText()
		if err != nil {
			return err
		}
		page.Next = a.next(r, true, string(text))
	}
	a.views.Respond(w, r, http.StatusOK, "jobs", page)
	return nil
}

// postJob retries or cancels a job and writes the line of the audit log in one transaction.
func (a *Admin) postJob(action Action, do func(ctx context.Context, tx *sql.Tx, id int64) (*rivertype.JobRow, error)) page {
	return func(w http.ResponseWriter, r *http.Request) error {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil {
			return errNoPage
		}
		var job *rivertype.JobRow
		err = a.db.InTx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) (err error) {
			if job, err = do(ctx, tx.Tx, id); err != nil {
				return err
			}
			return a.recordTx(ctx, tx, a.line(r, action, strconv.FormatInt(id, 10), job.Kind))
		})
		if errors.Is(err, rivertype.ErrNotFound) {
			return problem.New(problem.CodeNotFound, "There is no such job any more.")
		}
		if err != nil {
			return err
		}
		if web.WantsJSON(r) {
			web.JSON(w, http.StatusOK, map[string]any{"id": id, "state": job.State})
			return nil
		}
		a.cfg.Site.Flash(w, web.FlashSuccess, "Job "+strconv.FormatInt(id, 10)+" is "+string(job.State)+" now.")
		a.cfg.Site.Redirect(w, r, a.cfg.Path+"/jobs")
		return nil
	}
}
