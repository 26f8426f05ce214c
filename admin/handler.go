package admin

import (
	"net"
	"net/http"

	"github.com/quickscale/quickscale/internal/web"
	"github.com/quickscale/quickscale/webhook"
)

// page answers a request of staff. Its error is told by the gate.
type page func(w http.ResponseWriter, r *http.Request) error

// Handler serves the pages below Config.Path, which the host mounts without stripping it. Every page answers JSON too.
func (a *Admin) Handler() http.Handler {
	mux := http.NewServeMux()
	at := a.cfg.Path
	mux.Handle("GET "+at+"/{$}", a.gate(ActionOverview, a.showOverview))
	if a.cfg.Users != nil {
		mux.Handle("GET "+at+"/users", a.gate(ActionUserSearch, a.listUsers))
		mux.Handle("GET "+at+"/users/{id}", a.gate(ActionUserView, a.showUser))
		if a.cfg.Roles != nil {
			mux.Handle("POST "+at+"/users/{id}/role", a.gate(ActionRoleChange, a.setRole))
		}
	}
	if a.cfg.Verifier != nil {
		mux.Handle("GET "+at+"/ledger", a.gate(ActionLedgerView, a.showLedger))
		mux.Handle("POST "+at+"/ledger/verify", a.gate(ActionLedgerVerify, a.verifyLedger))
	}
	if a.cfg.Payments != nil {
		mux.Handle("GET "+at+"/payments", a.gate(ActionPaymentsView, a.listPayments))
	}
	a.routeMoney(mux, at)
	if a.cfg.Events != nil {
		mux.Handle("GET "+at+"/webhooks", a.gate(ActionEventsView, a.listEvents))
		mux.Handle("GET "+at+"/webhooks/stats", a.gate(ActionEventStats, a.showEventStats))
		if a.cfg.ReplaySpan != nil {
			mux.Handle("GET "+at+"/webhooks/span", a.gate(ActionEventsView, a.showSpan))
			mux.Handle("POST "+at+"/webhooks/span", a.gate(ActionEventSpan, a.replaySpan))
		}
		mux.Handle("GET "+at+"/webhooks/{id}", a.gate(ActionEventView, a.showEvent))
		mux.Handle("POST "+at+"/webhooks/{id}/reveal", a.gate(ActionEventReveal, a.revealEvent))
		for verb, action := range map[webhook.Verb]Action{
			webhook.VerbRetry: ActionEventRetry, webhook.VerbSkip: ActionEventSkip, webhook.VerbReplay: ActionEventReplay,
		} {
			mux.Handle("POST "+at+"/webhooks/"+string(verb), a.gate(action, a.actOnEvents(verb)))
			mux.Handle("POST "+at+"/webhooks/{id}/"+string(verb), a.gate(action, a.actOnEvents(verb)))
		}
	}
	mux.Handle("GET "+at+"/audit", a.gate(ActionAuditView, a.listAudit))
	mux.Handle("GET "+at+"/audit.csv", a.gate(ActionAuditExport, a.exportAudit))
	mux.HandleFunc(at+"/", a.cfg.Site.NotFound)
	return a.cfg.Site.Protect(mux)
}

// routeMoney adds what staff can do about money, credits, jobs and the catalogue.
func (a *Admin) routeMoney(mux *http.ServeMux, at string) {
	if a.cfg.Refunds != nil {
		mux.Handle("GET "+at+"/payments/{id}", a.gate(ActionPaymentView, a.showPayment))
		mux.Handle("POST "+at+"/payments/{id}/refund/preview", a.act(ActionRefundPreview, a.previewRefund))
		mux.Handle("POST "+at+"/payments/{id}/refund", a.act(ActionRefund, a.postRefund))
		mux.Handle("GET "+at+"/refunds", a.gate(ActionRefundsView, a.listRefunds))
		mux.Handle("GET "+at+"/refunds/stats", a.gate(ActionRefundStats, a.showRefundStats))
		mux.Handle("GET "+at+"/refunds/{id}", a.gate(ActionRefundView, a.showRefund))
		mux.Handle("GET "+at+"/disputes", a.gate(ActionDisputesView, a.listDisputes))
		mux.Handle("GET "+at+"/disputes/{id}", a.gate(ActionDisputeView, a.showDispute))
	}
	if a.cfg.Reconciler != nil {
		mux.Handle("GET "+at+"/reconcile", a.gate(ActionReconcileView, a.showReconcile))
		if a.cfg.RunTask != nil {
			mux.Handle("POST "+at+"/reconcile", a.act(ActionReconcile, a.postReconcile))
		}
	}
	if a.cfg.Jobs != nil {
		mux.Handle("GET "+at+"/jobs", a.gate(ActionJobsView, a.listJobs))
		mux.Handle("POST "+at+"/jobs/{id}/retry", a.act(ActionJobRetry, a.postJob(ActionJobRetry, a.cfg.Jobs.JobRetryTx)))
		mux.Handle("POST "+at+"/jobs/{id}/cancel", a.act(ActionJobCancel, a.postJob(ActionJobCancel, a.cfg.Jobs.JobCancelTx)))
	}
	if a.cfg.Catalogue != nil {
		mux.Handle("GET "+at+"/products", a.gate(ActionProductsView, a.listProducts))
		mux.Handle("POST "+at+"/products/{id}/arrange", a.act(ActionProductArrange, a.postArrange))
		mux.Handle("POST "+at+"/products/{id}/sync", a.act(ActionProductSync, a.postSyncProduct))
		if a.cfg.RunTask != nil {
			mux.Handle("POST "+at+"/products/sync", a.act(ActionProductsSync, a.postSyncProducts))
		}
	}
	if a.cfg.Users != nil && a.cfg.Ledger != nil && a.cfg.Adjuster != nil {
		mux.Handle("POST "+at+"/users/{id}/credits/preview", a.act(ActionAdjustPreview, a.previewAdjust))
		mux.Handle("POST "+at+"/users/{id}/credits", a.act(ActionAdjust, a.postAdjust))
	}
}

// gate lets staff through and writes down what they open. To everybody else there is nothing at the address, signed
// in or not.
func (a *Admin) gate(action Action, next page) http.Handler {
	return a.act(action, func(w http.ResponseWriter, r *http.Request) error {
		if err := a.record(r.Context(), a.line(r, action, r.PathValue("id"), r.URL.RawQuery)); err != nil {
			return err
		}
		return next(w, r)
	})
}

// act is gate for what writes its own line, with what is changed and why, before or with the change.
func (a *Admin) act(action Action, next page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, ok := a.cfg.Staff(r)
		if !ok || !who.may(action) {
			a.cfg.Site.NotFound(w, r)
			return
		}
		if err := next(w, r); err != nil {
			a.cfg.Site.Fail(w, r, err)
		}
	})
}

// line is a line of the audit log about a request of staff.
func (a *Admin) line(r *http.Request, action Action, subject, detail string) Record {
	who, _ := a.cfg.Staff(r) // the gate has let them through
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr // a listener that has no ports, such as a socket in the file system
	}
	return Record{StaffID: who.ID, StaffEmail: who.Email, Action: action, Subject: subject, Detail: detail, Address: address, RequestID: web.RequestID(r.Context())}
}

// section is one entry of the back office's own navigation.
type section struct {
	Label, URL string
	Current    bool
}

// frame is what every page has besides its own data.
type frame struct {
	Path     string    `json:"-"`
	Sections []section `json:"-"`
	// Opens says that payments have pages of their own.
	Opens bool `json:"-"`
}

// frame marks the section called current.
func (a *Admin) frame(current string) frame {
	f := frame{Path: a.cfg.Path, Opens: a.cfg.Refunds != nil}
	add := func(present bool, label, address string) {
		if present {
			f.Sections = append(f.Sections, section{label, a.cfg.Path + address, label == current})
		}
	}
	add(true, sectionOverview, "/")
	add(a.cfg.Users != nil, sectionUsers, "/users")
	add(a.cfg.Verifier != nil, sectionLedger, "/ledger")
	add(a.cfg.Payments != nil, sectionPayments, "/payments")
	add(a.cfg.Refunds != nil, sectionRefunds, "/refunds")
	add(a.cfg.Refunds != nil, sectionDisputes, "/disputes")
	add(a.cfg.Catalogue != nil, sectionProducts, "/products")
	add(a.cfg.Reconciler != nil, sectionReconcile, "/reconcile")
	add(a.cfg.Events != nil, sectionEvents, "/webhooks")
	add(a.cfg.Jobs != nil, sectionJobs, "/jobs")
	add(true, sectionAudit, "/audit")
	return f
}

// The sections by label.
const (
	sectionOverview = "Overview"
	sectionUsers    = "Users"
	sectionLedger   = "Ledger"
	sectionPayments = "Payments"
	sectionEvents   = "Webhooks"

	sectionRefunds   = "Refunds"
	sectionDisputes  = "Disputes"
	sectionProducts  = "Products"
	sectionReconcile = "Reconcile"
	sectionJobs      = "Jobs"
	sectionAudit     = "Audit log"
)

// next is the address of a list's next page: the same filters, and where it begins. Empty when there is none.
func (a *Admin) next(r *http.Request, more bool, begin string) string {
	if !more {
		return ""
	}
	q := r.URL.Query()
	q.Set("before", begin)
	return r.URL.Path + "?" + q.Encode()
}
