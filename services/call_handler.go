package services

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/web"
)

// callData is the data of call.html.
type callData struct {
	Path   string
	Title  string
	Call   Record
	Output shown
	// Open says that the call waits or runs.
	Open bool
}

func (s *Services) callPage(w http.ResponseWriter, r *http.Request) { s.showCall(w, r, s.FindCall) }

func (s *Services) cancelPage(w http.ResponseWriter, r *http.Request) {
	s.showCall(w, r, s.Cancel)
}

// showCall shows a call in the background, after doing something with it.
func (s *Services) showCall(w http.ResponseWriter, r *http.Request, do func(ctx context.Context, account string, id uuid.UUID) (Record, error)) {
	who, ok := s.cfg.User(r)
	if !ok {
		s.signIn(w, r, s.cfg.Path+"/calls/"+r.PathValue("id"))
		return
	}
	id, err := callID(r)
	if err != nil {
		s.cfg.Site.Fail(w, r, err)
		return
	}
	record, err := do(r.Context(), who.Account, id)
	switch {
	case err != nil:
		s.cfg.Site.Fail(w, r, err)
		return
	case web.WantsJSON(r):
		web.JSON(w, http.StatusOK, record)
		return
	case r.Method == http.MethodPost:
		s.cfg.Site.Redirect(w, r, s.cfg.Path+"/calls/"+id.String())
		return
	}
	d := callData{Path: s.cfg.Path, Title: record.Service, Call: record, Open: record.FinishedAt == nil}
	if svc, err := s.find(record.Service, record.Version); err == nil {
		d.Title = svc.info.Title
	}
	if record.Output != nil {
		if d.Output, err = show(record.Output); err != nil {
			s.cfg.Site.Fail(w, r, err)
			return
		}
	}
	s.views.Render(w, r, http.StatusOK, "call", d)
}

// signIn leads who is signed out to where they enter, and back to a page of ours.
func (s *Services) signIn(w http.ResponseWriter, r *http.Request, back string) {
	if s.cfg.LoginURL == "" || web.WantsJSON(r) {
		s.cfg.Site.Fail(w, r, ErrUnauthenticated)
		return
	}
	s.cfg.Site.Redirect(w, r, s.loginURL(back))
}
