package admin

import (
	"context"
	"net"
	"net/http"
	"net/url"

	"github.com/quickscale/quickscale/internal/web"
	"github.com/quickscale/quickscale/webhook"
)

// page answers a request of staff. Its error is told by the gate.
type page func(w http.ResponseWriter, r *http.Request) error

// written tells how a route leaves its line in the audit log.
type written int

const (
	// asView: before the page is shown, once in a while for the same page.
	asView written = iota
	// asAct: before anything is done, each time.
	asAct
	// byItself: the page writes it, with what is changed and why, before or with the change.
	byItself
)

// route is one address of the back office.
type route struct {
	// pattern is the method and the path below Config.Path.
	method, path string
	action       Action
	written      written
	page         page
}

func view(path string, action Action, page page) route {
	return route{http.MethodGet, path, action, asView, page}
}

// download is a view whose every opening is written down: it takes the data away.
func download(path string, action Action, page page) route {
	return route{http.MethodGet, path, action, asAct, page}
}

func post(path string, action Action, page page) route {
	return route{http.MethodPost, path, action, asAct, page}
}

// act is a post that writes its own line.
func act(path string, action Action, page page) route {
	return route{http.MethodPost, path, action, byItself, page}
}

// Handler serves the pages below Config.Path, which the host mounts without stripping it. Every page answers JSON too.
func (a *Admin) Handler() http.Handler { return a.serve(a.routes()) }

func (a *Admin) serve(routes []route) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle(r.method+" "+a.cfg.Path+r.path, a.gate(r))
	}
	mux.HandleFunc(a.cfg.Path+"/", a.cfg.Site.NotFound)
	return a.cfg.Site.Protect(mux)
}

// routes are all addresses that this back office has sources for.
func (a *Admin) routes() []route {
	routes := []route{
		view("/{$}", ActionOverview, a.showOverview),
		view("/audit", ActionAuditView, a.listAudit),
		download("/audit.csv", ActionAuditExport, a.exportAudit),
		post("/audit/verify", ActionAuditVerify, a.verifyAudit),
	}
	if a.cfg.Users != nil {
		routes = append(routes, view("/users", ActionUserSearch, a.listUsers), view("/users/{id}", ActionUserView, a.showUser))
		if a.cfg.Roles != nil {
			routes = append(routes, act("/users/{id}/role", ActionRoleChange, a.setRole), act("/users/{id}/duties", ActionDutiesChange, a.postDuties))
		}
	}
	if a.cfg.Verifier != nil {
		routes = append(routes, view("/ledger", ActionLedgerView, a.showLedger), post("/ledger/verify", ActionLedgerVerify, a.verifyLedger))
	}
	if a.cfg.Payments != nil {
		routes = append(routes, view("/payments", ActionPaymentsView, a.listPayments), download("/payments.csv", ActionPaymentsExport, a.exportPayments))
	}
	if a.cfg.Accounts != nil {
		routes = append(routes, view("/accounts/{id}", ActionAccountView, a.showAccount))
	}
	routes = append(routes, a.moneyRoutes()...)
	return append(routes, a.eventRoutes()...)
}

func (a *Admin) eventRoutes() (routes []route) {
	if a.cfg.Events == nil {
		return nil
	}
	routes = []route{
		view("/webhooks", ActionEventsView, a.listEvents),
		view("/webhooks/stats", ActionEventStats, a.showEventStats),
		view("/webhooks/{id}", ActionEventView, a.showEvent),
		act("/webhooks/{id}/reveal", ActionEventReveal, a.revealEvent),
	}
	if a.cfg.ReplaySpan != nil {
		routes = append(routes, view("/webhooks/span", ActionEventsView, a.showSpan), act("/webhooks/span", ActionEventSpan, a.replaySpan))
	}
	for verb, action := range map[webhook.Verb]Action{
		webhook.VerbRetry: ActionEventRetry, webhook.VerbSkip: ActionEventSkip, webhook.VerbReplay: ActionEventReplay,
	} {
		routes = append(routes, act("/webhooks/"+string(verb), action, a.actOnEvents(verb, action)), act("/webhooks/{id}/"+string(verb), action, a.actOnEvents(verb, action)))
	}
	return routes
}

// moneyRoutes are what staff can do about money, credits, jobs and the catalogue.
func (a *Admin) moneyRoutes() (routes []route) {
	if a.cfg.Refunds != nil {
		routes = append(routes,
			view("/payments/{id}", ActionPaymentView, a.showPayment),
			act("/payments/{id}/refund/preview", ActionRefundPreview, a.previewRefund),
			act("/payments/{id}/refund", ActionRefund, a.postRefund),
			// Who proves anew who they are comes back to the preview by its address.
			view("/payments/{id}/refund/preview", ActionPaymentView, a.backTo("/payments/")),
			view("/refunds", ActionRefundsView, a.listRefunds),
			view("/refunds/stats", ActionRefundStats, a.showRefundStats),
			view("/refunds/{id}", ActionRefundView, a.showRefund),
			view("/disputes", ActionDisputesView, a.listDisputes),
			view("/disputes/{id}", ActionDisputeView, a.showDispute),
		)
	}
	if a.cfg.Refunds != nil && a.cfg.Investigator != nil {
		routes = append(routes, view("/payments/{id}/stripe", ActionInvestigate, a.showInvestigation))
	}
	if a.cfg.Reconciler != nil {
		routes = append(routes, view("/reconcile", ActionReconcileView, a.showReconcile))
		if a.cfg.RunTask != nil {
			routes = append(routes, act("/reconcile", ActionReconcile, a.postReconcile))
		}
	}
	if a.cfg.Jobs != nil {
		routes = append(routes,
			view("/jobs", ActionJobsView, a.listJobs),
			act("/jobs/{id}/retry", ActionJobRetry, a.postJob(ActionJobRetry, a.cfg.Jobs.JobRetryTx)),
			act("/jobs/{id}/cancel", ActionJobCancel, a.postJob(ActionJobCancel, a.cfg.Jobs.JobCancelTx)),
		)
	}
	if a.cfg.Services != nil {
		routes = append(routes,
			view("/services", ActionServicesView, a.listServices),
			act("/services/switch", ActionServiceSwitch, a.postSwitch),
			view("/services/{id}", ActionServicesView, a.showService),
			act("/services/{id}/price", ActionServicePrice, a.postPrice),
			view("/services/{id}/price", ActionServicesView, a.backTo("/services/")),
			act("/services/{id}/price/{change}/cancel", ActionServicePriceCancel, a.postCancelPrice),
		)
	}
	if a.cfg.Catalogue != nil {
		routes = append(routes,
			view("/products", ActionProductsView, a.listProducts),
			act("/products/{id}/arrange", ActionProductArrange, a.postArrange),
			act("/products/{id}/sync", ActionProductSync, a.postSyncProduct),
		)
		if a.cfg.RunTask != nil {
			routes = append(routes, act("/products/sync", ActionProductsSync, a.postSyncProducts))
		}
	}
	if a.cfg.Users != nil && a.cfg.Ledger != nil && a.cfg.Adjuster != nil {
		routes = append(routes,
			act("/users/{id}/credits/preview", ActionAdjustPreview, a.previewAdjust),
			view("/users/{id}/credits/preview", ActionUserView, a.backTo("/users/")),
			act("/users/{id}/credits", ActionAdjust, a.postAdjust),
		)
		if a.cfg.ApproveAbove > 0 {
			routes = append(routes,
				view("/approvals", ActionApprovalsView, a.listApprovals),
				view("/approvals/{id}", ActionApprovalsView, a.showApproval),
				act("/approvals/{id}/approve", ActionApprove, a.postApprove),
				act("/approvals/{id}/refuse", ActionRefuse, a.postRefuse),
			)
		}
	}
	return routes
}

// backTo leads from the address of a preview to the page that it is about.
func (a *Admin) backTo(path string) page {
	return func(w http.ResponseWriter, r *http.Request) error {
		a.cfg.Site.Redirect(w, r, a.cfg.Path+path+url.PathEscape(r.PathValue("id")))
		return nil
	}
}

// gate is the one place where it is decided who may do what: it lets those through who may, has them prove anew who they
// are where the action asks for it, and writes down what they open. To everybody else there is nothing at the address,
// signed in or not.
func (a *Admin) gate(to route) http.Handler {
	through := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.answer(w, r, to); err != nil {
			a.cfg.Site.Fail(w, r, err)
		}
	})
	var proved http.Handler = through
	if a.cfg.Recent != nil && guarded[to.action] {
		proved = a.cfg.Recent(through)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, ok, err := a.staff(r)
		switch {
		case err != nil:
			a.cfg.Site.Fail(w, r, err)
		case !ok || !who.may(to.action):
			a.cfg.Site.NotFound(w, r)
		case guarded[to.action] && a.cfg.SecondFactor != nil && !a.cfg.SecondFactor(r):
			a.cfg.Site.Fail(w, r, errSecondFactor)
		default:
			proved.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), staffKey{}, who)))
		}
	})
}

func (a *Admin) answer(w http.ResponseWriter, r *http.Request, to route) (err error) {
	line := a.line(r, to.action, r.PathValue("id"), r.URL.RawQuery)
	switch to.written {
	case asView:
		err = a.recordView(r.Context(), line)
	case asAct:
		err = a.record(r.Context(), line)
	case byItself:
	}
	if err != nil {
		return err
	}
	return to.page(w, r)
}

// line is a line of the audit log about a request of staff.
func (a *Admin) line(r *http.Request, action Action, subject, detail string) Record {
	who := whoAsks(r)
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
	// AccountPath is below which accounts have pages. Empty: they have none.
	AccountPath string `json:"-"`
}

// frame marks the section called current.
func (a *Admin) frame(current string) frame {
	f := frame{Path: a.cfg.Path, Opens: a.cfg.Refunds != nil}
	switch {
	case a.cfg.Accounts != nil:
		f.AccountPath = a.cfg.Path + "/accounts"
	case a.cfg.Users != nil:
		f.AccountPath = a.cfg.Path + "/users"
	}
	add := func(present bool, label, address string) {
		if present {
			f.Sections = append(f.Sections, section{label, a.cfg.Path + address, label == current})
		}
	}
	add(true, sectionOverview, "/")
	add(a.cfg.Users != nil, sectionUsers, "/users")
	add(a.cfg.ApproveAbove > 0 && a.cfg.Users != nil && a.cfg.Ledger != nil && a.cfg.Adjuster != nil, sectionApprovals, "/approvals")
	add(a.cfg.Verifier != nil, sectionLedger, "/ledger")
	add(a.cfg.Payments != nil, sectionPayments, "/payments")
	add(a.cfg.Refunds != nil, sectionRefunds, "/refunds")
	add(a.cfg.Refunds != nil, sectionDisputes, "/disputes")
	add(a.cfg.Catalogue != nil, sectionProducts, "/products")
	add(a.cfg.Services != nil, sectionServices, "/services")
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
	sectionApprovals = "Approvals"
	sectionServices  = "Services"
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
