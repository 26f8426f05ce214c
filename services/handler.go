package services

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// Handler serves the pages below Config.Path, which the host mounts without stripping it. Every page answers JSON too.
func (s *Services) Handler() http.Handler {
	mux := http.NewServeMux()
	at := s.cfg.Path
	mux.HandleFunc("GET "+at+"/{$}", s.listPage)
	mux.HandleFunc("GET "+at+"/{name}", s.showForm)
	mux.HandleFunc("POST "+at+"/{name}", s.postForm)
	mux.HandleFunc("GET "+at+"/calls/{id}", s.callPage)
	mux.HandleFunc("POST "+at+"/calls/{id}/cancel", s.cancelPage)
	mux.HandleFunc(at+"/", s.cfg.Site.Missing(mux))
	return s.cfg.Site.Protect(mux)
}

// listData is the data of services.html.
type listData struct {
	Path     string        `json:"-"`
	API      string        `json:"-"`
	Services []Description `json:"services"`
}

func (s *Services) listPage(w http.ResponseWriter, r *http.Request) {
	s.views.Respond(w, r, http.StatusOK, "services", listData{s.cfg.Path, s.cfg.APIPath, s.List(r.Context())})
}

// formData is the data of service.html.
type formData struct {
	Path    string
	Service Description
	Fields  []formField
	// Attempt ties what is sent from one form together: sent twice, the same input runs once.
	Attempt  string
	SignedIn bool
	// Ended says that a session ended between the form and its sending; what was typed is kept.
	Ended    bool
	LoginURL string
	BuyURL   string
	// Result and Output are those of a call that succeeded.
	Result *Result
	Output shown
	// Short says what is missing. Nil: enough.
	Short *credits.InsufficientError
}

func (s *Services) form(r *http.Request, svc *registered, typed url.Values, wrong map[string]string) formData {
	d := formData{Path: s.cfg.Path, Service: svc.description(s.settings.last(r.Context())[svc.info.Name], nil), Fields: formFields(svc.input.schema, "", typed, wrong), Attempt: rand.Text(), BuyURL: s.cfg.BuyURL}
	if _, d.SignedIn = s.cfg.User(r); !d.SignedIn && s.cfg.LoginURL != "" {
		d.LoginURL = s.loginURL(s.cfg.Path + "/" + svc.info.Name)
	}
	return d
}

func (s *Services) loginURL(next string) string {
	return s.cfg.LoginURL + "?next=" + url.QueryEscape(next)
}

func (s *Services) showForm(w http.ResponseWriter, r *http.Request) {
	svc, err := s.find(r.PathValue("name"), "")
	switch {
	case err != nil:
		s.cfg.Site.Fail(w, r, err)
	case web.WantsJSON(r):
		web.JSON(w, http.StatusOK, svc.description(s.settings.last(r.Context())[svc.info.Name], nil))
	default:
		s.views.Render(w, r, http.StatusOK, "service", s.form(r, svc, nil, nil))
	}
}

func (s *Services) postForm(w http.ResponseWriter, r *http.Request) {
	svc, err := s.find(r.PathValue("name"), "")
	if err != nil {
		s.cfg.Site.Fail(w, r, err)
		return
	}
	in, err := s.readForm(w, r, svc)
	if err != nil {
		s.cfg.Site.Fail(w, r, err)
		return
	}
	who, ok := s.cfg.User(r)
	if !ok {
		page := s.form(r, svc, in.typed, nil)
		page.Ended, page.Attempt = true, in.attempt
		s.views.Reject(w, r, "service", page, ErrUnauthenticated)
		return
	}
	p := RunParams{Account: who.Account, Service: svc.info.Name, Input: in.raw, IdempotencyKey: in.key}
	if svc.opts.background {
		record, err := s.Enqueue(r.Context(), EnqueueParams{RunParams: p})
		if err != nil {
			s.rejectForm(w, r, svc, in, err)
			return
		}
		s.cfg.Site.Redirect(w, r, s.cfg.Path+"/calls/"+record.ID.String())
		return
	}
	svc.unhurried(w)
	result, err := s.runPatiently(r.Context(), p)
	if err != nil {
		s.rejectForm(w, r, svc, in, err)
		return
	}
	if web.WantsJSON(r) {
		s.answer(w, result)
		return
	}
	page := s.form(r, svc, in.typed, nil)
	page.Result = &result
	if page.Output, err = show(result.Output); err != nil {
		s.cfg.Site.Fail(w, r, err)
		return
	}
	setCreditHeaders(w, result)
	s.views.Render(w, r, http.StatusOK, "service", page)
}

// rejectForm shows the form again with what was typed.
func (s *Services) rejectForm(w http.ResponseWriter, r *http.Request, svc *registered, in formBody, err error) {
	page := s.form(r, svc, in.typed, problem.FieldsOf(err))
	page.Short, _ = errors.AsType[*credits.InsufficientError](err)
	if errors.Is(err, ErrInProgress) || errors.Is(err, ErrOutcomeUnknown) {
		page.Attempt = in.attempt // sent again, it asks for the same call
	}
	s.views.Reject(w, r, "service", page, err)
}

// formBody is what was sent to the page of a service.
type formBody struct {
	body

	attempt string
	key     string
}

// maxAttempt bounds the hidden field that ties double clicks together.
const maxAttempt = 64

func (s *Services) readForm(w http.ResponseWriter, r *http.Request, svc *registered) (in formBody, err error) {
	if in.body, err = s.readInput(w, r, svc, true); err != nil {
		return in, err
	}
	if in.typed == nil {
		in.key, err = readKey(r)
		return in, err
	}
	if in.attempt = in.typed.Get("attempt"); in.attempt != "" && len(in.attempt) <= maxAttempt {
		// The input is a part of the key: who goes back and types something else wants another call.
		sum := sha256.Sum256(append([]byte(in.attempt+"\x00"), in.raw...))
		in.key = "form:" + hex.EncodeToString(sum[:])
	}
	return in, nil
}

// A double click makes the browser drop the first answer and wait for the second, so the second waits for the first
// call's end, this long and looking this often.
const (
	patience = 10 * time.Second
	lookEach = 100 * time.Millisecond
)

func (s *Services) runPatiently(ctx context.Context, p RunParams) (Result, error) {
	for deadline := time.Now().Add(patience); ; {
		result, err := s.Run(ctx, p)
		if !errors.Is(err, ErrInProgress) || time.Now().After(deadline) {
			return result, err
		}
		select {
		case <-ctx.Done():
			return Result{}, err
		case <-time.After(lookEach):
		}
	}
}
