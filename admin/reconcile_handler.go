package admin

import (
	"context"
	"net/http"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/internal/web"
)

// reconcileRuns is how many runs the page lists.
const reconcileRuns = 20

// reconcilePage is the data of reconcile.html.
type reconcilePage struct {
	frame

	// Chosen is the run whose report is shown, the last one unless ?run= says otherwise; nil before the first.
	Chosen *billing.Run      `json:"run,omitempty"`
	Items  []billing.RunItem `json:"items"`
	Runs   []billing.Run     `json:"runs"`
	CanRun bool              `json:"-"`
}

func (a *Admin) showReconcile(w http.ResponseWriter, r *http.Request) (err error) {
	page := reconcilePage{frame: a.frame(sectionReconcile), CanRun: a.cfg.RunTask != nil && a.mayDo(r, ActionReconcile), Items: []billing.RunItem{}}
	if page.Runs, err = a.cfg.Reconciler.Runs(r.Context(), reconcileRuns); err != nil {
		return err
	}
	asked, err := uuid.Parse(r.URL.Query().Get("run"))
	if err != nil {
		asked = uuid.Nil // none: the last one
	}
	for i := range page.Runs {
		if page.Runs[i].ID == asked || asked == uuid.Nil && i == 0 {
			page.Chosen = &page.Runs[i]
		}
	}
	if page.Chosen != nil {
		if page.Items, err = a.cfg.Reconciler.RunItems(r.Context(), page.Chosen.ID); err != nil {
			return err
		}
	}
	a.views.Respond(w, r, http.StatusOK, "reconcile", page)
	return nil
}

// postReconcile queues a run; the request does not wait for it.
func (a *Admin) postReconcile(w http.ResponseWriter, r *http.Request) error {
	return a.runTask(w, r, ActionReconcile, TaskReconcile, "/reconcile")
}

// runTask queues a task and writes the line of the audit log in one transaction.
func (a *Admin) runTask(w http.ResponseWriter, r *http.Request, action Action, task Task, back string) error {
	added := false
	err := a.db.InTx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) (err error) {
		if err := a.recordTx(ctx, tx, a.line(r, action, string(task), "")); err != nil {
			return err
		}
		added, err = a.cfg.RunTask(ctx, tx, task)
		return err
	})
	if err != nil {
		return err
	}
	if web.WantsJSON(r) {
		web.JSON(w, http.StatusAccepted, map[string]bool{"added": added})
		return nil
	}
	kind, text := web.FlashSuccess, "It is queued and begins in a moment. Load this page again to see how it went."
	if !added {
		kind, text = web.FlashInfo, "One is under way already."
	}
	a.cfg.Site.Flash(w, kind, text)
	a.cfg.Site.Redirect(w, r, a.cfg.Path+back)
	return nil
}
