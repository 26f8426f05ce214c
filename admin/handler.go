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
	if a.cfg.Events != nil {
		mux.Handle("GET "+at+"/webhooks", a.gate(ActionEventsView, a.listEvents))
		mux.Handle("GET "+at+"/webhooks/stats", a.gate(ActionEventStats, a.showEventStats))
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
	mux.HandleFunc(at+"/", a.cfg.Site.NotFound)
	return a.cfg.Site.Protect(mux)
}

// gate lets staff through and writes down what they open. To everybody else there is nothing at the address, signed
// in or not.
func (a *Admin) gate(action Action, next page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, ok := a.cfg.Staff(r)
		if !ok || !who.may(action) {
			a.cfg.Site.NotFound(w, r)
			return
		}
		address, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			address = r.RemoteAddr // a listener that has no ports, such as a socket in the file system
		}
		err = a.record(r.Context(), Record{StaffID: who.ID, StaffEmail: who.Email, Action: action, Subject: r.PathValue("id"),
			Detail: r.URL.RawQuery, Address: address, RequestID: web.RequestID(r.Context())})
		if err == nil {
			err = next(w, r)
		}
		if err != nil {
			a.cfg.Site.Fail(w, r, err)
		}
	})
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
}

// frame marks the section called current.
func (a *Admin) frame(current string) frame {
	f := frame{Path: a.cfg.Path}
	add := func(present bool, label, address string) {
		if present {
			f.Sections = append(f.Sections, section{label, a.cfg.Path + address, label == current})
		}
	}
	add(true, sectionOverview, "/")
	add(a.cfg.Users != nil, sectionUsers, "/users")
	add(a.cfg.Verifier != nil, sectionLedger, "/ledger")
	add(a.cfg.Payments != nil, sectionPayments, "/payments")
	add(a.cfg.Events != nil, sectionEvents, "/webhooks")
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
	sectionAudit    = "Audit log"
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
