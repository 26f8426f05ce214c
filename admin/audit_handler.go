package admin

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// auditPage is the data of audit.html.
type auditPage struct {
	frame

	Action  Action   `json:"action"`
	Staff   string   `json:"-"`
	Subject string   `json:"-"`
	From    string   `json:"-"`
	Until   string   `json:"-"`
	Actions []Action `json:"-"`
	Records []Record `json:"records"`
	Next    string   `json:"next,omitempty"`
	// CSV is where the same lines are downloaded.
	CSV string `json:"csv,omitempty"`
	// Verified is what was recomputed so far. Nil: nothing was asked for.
	Verified *auditVerified `json:"verified,omitempty"`
}

// auditVerified is what was recomputed so far, and where the next batch begins.
type auditVerified struct {
	AuditReport

	// Sum is how many lines the batches so far had.
	Sum int64 `json:"sum"`
}

var actions = []Action{ActionOverview, ActionUserSearch, ActionUserView, ActionAdjustPreview, ActionAdjust, ActionLedgerView, ActionLedgerVerify, ActionPaymentsView,
	ActionPaymentView, ActionInvestigate, ActionPaymentsExport, ActionAccountView, ActionRefundPreview, ActionRefund, ActionRefundsView, ActionRefundView, ActionRefundStats, ActionDisputesView, ActionDisputeView,
	ActionProductsView, ActionProductArrange, ActionProductSync, ActionProductsSync, ActionReconcileView, ActionReconcile, ActionJobsView, ActionJobRetry,
	ActionJobCancel, ActionEventsView,
	ActionEventView, ActionEventStats, ActionEventReveal, ActionEventRetry, ActionEventSkip, ActionEventReplay, ActionEventSpan, ActionRoleChange,
	ActionDutiesChange, ActionApprovalsView, ActionApprovalAsk, ActionApprove, ActionRefuse, ActionServicesView,
	ActionServiceSwitch, ActionServicePrice, ActionServicePriceDue, ActionServicePriceCancel, ActionAuditView, ActionAuditExport, ActionAuditVerify}

// auditFilter reads the filters from the address. The last day counts whole.
func auditFilter(r *http.Request) (AuditParams, error) {
	q := r.URL.Query()
	p := AuditParams{Action: Action(q.Get("action")), StaffID: strings.TrimSpace(q.Get("staff")), Subject: strings.TrimSpace(q.Get("subject")), Before: cursor(r)}
	wrong := map[string]string{}
	day := func(name string) (t time.Time) {
		text := q.Get(name)
		if text == "" {
			return t
		}
		t, err := time.Parse(time.DateOnly, text)
		if err != nil || t.Year() < 1 {
			wrong[name] = "This must be a day such as 2026-01-31."
			return time.Time{}
		}
		return t
	}
	p.From = day("from")
	if until := day("until"); !until.IsZero() {
		p.Until = until.AddDate(0, 0, 1)
	}
	if len(wrong) > 0 {
		return AuditParams{Before: p.Before}, problem.Invalid(wrong)
	}
	return p, nil
}

func (a *Admin) listAudit(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	page := auditPage{frame: a.frame(sectionAudit), Action: Action(q.Get("action")), Staff: q.Get("staff"), Subject: q.Get("subject"), From: q.Get("from"),
		Until: q.Get("until"), Actions: actions}
	params, err := auditFilter(r)
	if err != nil {
		a.views.Reject(w, r, "audit", page, err)
		return nil
	}
	records, more, err := a.Audit(r.Context(), params)
	if err != nil {
		return err
	}
	page.Records = records
	q.Del("before")
	if a.mayDo(r, ActionAuditExport) {
		page.CSV = a.cfg.Path + "/audit.csv?" + q.Encode()
	}
	if more {
		page.Next = a.next(r, more, records[len(records)-1].ID.String())
	}
	a.views.Respond(w, r, http.StatusOK, "audit", page)
	return nil
}

// verifyAudit recomputes one batch; the form carries on where it ended.
func (a *Admin) verifyAudit(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		After int64 `json:"after"`
		Sum   int64 `json:"sum"`
	}
	if err := web.Decode(w, r, &in); err != nil {
		return err
	}
	report, err := a.VerifyAudit(r.Context(), in.After, 0)
	if err != nil {
		return err
	}
	a.views.Respond(w, r, http.StatusOK, "audit", auditPage{frame: a.frame(sectionAudit), Actions: actions, Records: []Record{},
		Verified: &auditVerified{report, in.Sum + report.Lines}})
	return nil
}

// exportAudit streams the lines that the filters choose, newest first.
func (a *Admin) exportAudit(w http.ResponseWriter, r *http.Request) error {
	params, err := auditFilter(r)
	if err != nil {
		return err
	}
	params.Before, params.Limit = uuid.Nil, MaxPage
	records, more, err := a.Audit(r.Context(), params)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="audit.csv"`)
	out := csv.NewWriter(w)
	lines := [][]string{{"when", "staff_id", "staff_email", "action", "subject", "detail", "reason", "before", "after", "address", "request_id", "n"}}
	for {
		for _, l := range records {
			lines = append(lines, []string{l.CreatedAt.Format(time.RFC3339Nano), cell(l.StaffID), cell(l.StaffEmail), string(l.Action), cell(l.Subject), cell(l.Detail), cell(l.Reason),
				cell(l.Before), cell(l.After), l.Address, l.RequestID, strconv.FormatInt(l.N, 10)})
		}
		if err := out.WriteAll(lines); err != nil {
			// The download stops short, which its reader sees.
			panic(http.ErrAbortHandler)
		}
		if !more {
			return nil
		}
		lines = nil
		params.Before = records[len(records)-1].ID
		if records, more, err = a.Audit(r.Context(), params); err != nil {
			a.cfg.Logger.ErrorContext(r.Context(), "audit log not exported whole", "error", fmt.Sprint(err))
			panic(http.ErrAbortHandler)
		}
	}
}

// cell keeps a spreadsheet from taking a text for a formula (OWASP, CSV injection).
func cell(text string) string {
	if text != "" && strings.ContainsAny(text[:1], "=+-@\t\r") {
		return "'" + text
	}
	return text
}
