package admin

import (
	"net/http"
)

// auditPage is the data of audit.html.
type auditPage struct {
	frame

	Action  Action   `json:"action"`
	Actions []Action `json:"-"`
	Records []Record `json:"records"`
	Next    string   `json:"next,omitempty"`
}

var actions = []Action{ActionOverview, ActionUserSearch, ActionUserView, ActionLedgerView, ActionLedgerVerify, ActionPaymentsView, ActionEventsView,
	ActionEventView, ActionEventStats, ActionEventReveal, ActionEventRetry, ActionEventSkip, ActionEventReplay, ActionAuditView}

func (a *Admin) listAudit(w http.ResponseWriter, r *http.Request) error {
	action := Action(r.URL.Query().Get("action"))
	records, more, err := a.Audit(r.Context(), AuditParams{Action: action, StaffID: r.URL.Query().Get("staff"), Before: cursor(r)})
	if err != nil {
		return err
	}
	page := auditPage{frame: a.frame(sectionAudit), Action: action, Actions: actions, Records: records}
	if more {
		page.Next = a.next(r, more, records[len(records)-1].ID.String())
	}
	a.views.Respond(w, r, http.StatusOK, "audit", page)
	return nil
}
