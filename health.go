package quickscale

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// Check is one thing that the application needs to serve, and what is wrong with it; nil when nothing is.
type Check struct {
	Name string
	Err  error
}

// The names of checks.
const (
	checkDatabase   = "database"
	checkMigrations = "migrations"
	checkJobs       = "jobs"
	checkDisk       = "disk"
)

// leastDisk is how many bytes SQLite's disk must have left: enough for its log to be moved into the file.
const leastDisk = 64 << 20

// Checks looks at everything that the application needs to serve: the database answers and has all tables, jobs are
// worked unless [App.Stop] was called, and SQLite's disk has room left. A database that is a server has a disk of its own,
// which is not looked at.
func (a *App) Checks(ctx context.Context) []Check {
	answers := Check{checkDatabase, a.db.Ping(ctx)}
	if answers.Err != nil {
		return []Check{answers} // nothing else can be asked
	}
	var jobs error
	if a.ending.Load() {
		jobs = errors.New("quickscale: the process is being stopped")
	}
	return []Check{answers, {checkMigrations, a.migrated(ctx)}, {checkJobs, jobs}, {checkDisk, a.room(ctx)}}
}

func (a *App) migrated(ctx context.Context) error {
	missing, err := database.Pending(ctx, a.db, migrationSets()...)
	if err != nil {
		return err
	}
	behind, err := a.jobs.Pending(ctx)
	if err != nil {
		return err
	}
	if missing > 0 || behind {
		return errors.New("quickscale: migrations are pending; call App.Migrate")
	}
	return nil
}

func (a *App) room(ctx context.Context) error {
	free, known, err := a.db.FreeDisk(ctx)
	if err == nil && known && free < leastDisk {
		err = fmt.Errorf("quickscale: the database's disk has %d bytes left, and needs %d", free, leastDisk)
	}
	return err
}

// Ready tells whether the application can serve: all [App.Checks] are well. The error says which are not.
func (a *App) Ready(ctx context.Context) error {
	var err error
	for _, c := range a.Checks(ctx) {
		err = errors.Join(err, c.Err)
	}
	return err
}

// Health answers GET /healthz with 200 while the process runs, and GET /readyz with 200 when it can serve (see
// [App.Checks]) and 503 otherwise, naming the checks that fail. What is wrong with them is logged and not told.
func (a *App) Health() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		web.JSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		states := map[string]string{}
		failed := map[string]string{}
		for _, c := range a.Checks(r.Context()) {
			states[c.Name] = "ok"
			if c.Err != nil {
				a.cfg.Logger.ErrorContext(r.Context(), "not ready", "check", c.Name, "error", c.Err)
				failed[c.Name] = "failed"
			}
		}
		if len(failed) > 0 {
			a.site.FailJSON(w, r, &problem.Error{Code: problem.CodeUnavailable, Message: "The application cannot serve yet.", Fields: failed})
			return
		}
		web.JSON(w, http.StatusOK, map[string]any{"status": "ready", "checks": states})
	})
	return a.site.Protect(mux)
}
