package web

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/quickscale/quickscale/internal/problem"
)

// statuses maps machine codes to HTTP. A code that is not here is a conflict with a state: 409.
var statuses = map[string]int{
	problem.CodeInvalid:         http.StatusUnprocessableEntity,
	problem.CodeMalformed:       http.StatusBadRequest,
	problem.CodeUnauthenticated: http.StatusUnauthorized,
	problem.CodeForbidden:       http.StatusForbidden,
	problem.CodeNotFound:        http.StatusNotFound,
	problem.CodeConflict:        http.StatusConflict,
	problem.CodeTooLarge:        http.StatusRequestEntityTooLarge,
	problem.CodeTooMany:         http.StatusTooManyRequests,
	problem.CodeUnavailable:     http.StatusServiceUnavailable,
	problem.CodeInternal:        http.StatusInternalServerError,
	"insufficient_credits":      http.StatusPaymentRequired,
	"out_of_credits":            http.StatusPaymentRequired,
	"plan_required":             http.StatusForbidden,
	"service_busy":              http.StatusTooManyRequests,
	"service_gone":              http.StatusGone,
	"method_not_allowed":        http.StatusMethodNotAllowed,
	"unsupported_media_type":    http.StatusUnsupportedMediaType,
	"timeout":                   http.StatusGatewayTimeout,
	"request_timeout":           http.StatusRequestTimeout,
	"execution_failed":          http.StatusBadGateway,
	"invalid_credentials":       http.StatusUnauthorized,
	"confirmation_required":     http.StatusForbidden,
	"account_disabled":          http.StatusForbidden,
	"second_step":               http.StatusUnauthorized,
	"login_expired":             http.StatusUnauthorized,
	"passkey_invalid":           http.StatusUnprocessableEntity,
}

// Status is the HTTP status of a machine code.
func Status(code string) int {
	if status, ok := statuses[code]; ok {
		return status
	}
	return http.StatusConflict
}

// told is what an error tells the world.
type told struct {
	status  int
	code    string
	message string
	details map[string]any
	fields  map[string]string
}

var errInternal = problem.New(problem.CodeInternal,
	"Something went wrong on our side. Go back and try again in a moment.")

// explain finds out what err may tell, and logs what it may not.
func (s *Site) explain(r *http.Request, err error) told {
	c := problem.From(err)
	switch {
	case c != nil:
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		c = errInternal // the client is gone; there is nobody to tell and nothing to mend
	default:
		s.cfg.Logger.ErrorContext(r.Context(), "request failed",
			slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("request_id", RequestID(r.Context())), slog.Any("error", err))
		c = errInternal
	}
	t := told{status: Status(c.ErrorCode()), code: c.ErrorCode(), message: c.ErrorMessage(), details: c.ErrorDetails(), fields: problem.FieldsOf(err)}
	if t.code == problem.CodeInternal {
		t.details = map[string]any{"request_id": RequestID(r.Context())}
	}
	return t
}

func writeError(w http.ResponseWriter, t told) {
	type failure struct {
		Code    string         `json:"code"`
		Message string         `json:"message"`
		Details map[string]any `json:"details,omitempty"`
	}
	writeJSON(w, t.status, struct {
		Success bool    `json:"success"`
		Error   failure `json:"error"`
	}{false, failure{t.code, t.message, t.details}})
}

// FailJSON answers err in the JSON shape, whatever the request accepts: for routes that only programs call.
func (s *Site) FailJSON(w http.ResponseWriter, r *http.Request, err error) {
	writeError(w, s.explain(r, err))
}

// Fail answers err: in JSON when the request asks for it, else as a page that says what to do next. An error that is
// not made to be shown is logged with the request's id, and the person is told only that id.
func (s *Site) Fail(w http.ResponseWriter, r *http.Request, err error) {
	t := s.explain(r, err)
	if WantsJSON(r) {
		writeError(w, t)
		return
	}
	s.errors.render(w, r, t.status, "error", Page{Data: errorPage(w, r, t)})
}

// ErrorPage is the data of error.html.
type ErrorPage struct {
	Status int
	// Title is the status in HTTP's words, and Heading in ours.
	Title, Heading string
	// Message says what is wrong, and Next what to do.
	Message, Next string
	// Fields are the sentences about fields at fault, by name.
	Fields map[string]string
	// Again is the address to try again, empty where that would not help or would repeat what a form does.
	Again string
	// LogIn says that whoever is signed out may be let in.
	LogIn     bool
	RequestID string
}

// nextSteps are what the page of a status says besides the error's own message: a heading, and what to do.
var nextSteps = map[int][2]string{
	http.StatusBadRequest:            {"This does not read as a request", "Go back and try again from the page that led here."},
	http.StatusUnauthorized:          {"Log in first", "Log in, and go on from there."},
	http.StatusPaymentRequired:       {"This needs more credits", "Buy some, and try again."},
	http.StatusForbidden:             {"This is not open to you", "If it should be, log in with another account, or ask who looks after yours."},
	http.StatusNotFound:              {"Page not found", "If a link of ours led you here, tell us which one."},
	http.StatusMethodNotAllowed:      {"This address is for something else", "Nothing was changed."},
	http.StatusRequestEntityTooLarge: {"That is too large", "Go back and send something smaller: a shorter text, or a smaller file."},
	http.StatusUnprocessableEntity:   {"Something needs another look", "Go back, correct it and send it again. Nothing was changed."},
	http.StatusTooManyRequests:       {"Too many requests", "Wait a little before you try again."},
	http.StatusInternalServerError:   {"Something went wrong", "If it happens again, tell us this number:"},
	http.StatusBadGateway:            {"Something went wrong", "If it happens again, tell us this number:"},
	http.StatusServiceUnavailable:    {"Not available right now", "Try again in a few minutes. If it happens again, tell us this number:"},
	http.StatusGatewayTimeout:        {"This took too long", "Try again in a few minutes. If it happens again, tell us this number:"},
}

func errorPage(w http.ResponseWriter, r *http.Request, t told) ErrorPage {
	step := nextSteps[t.status]
	page := ErrorPage{Status: t.status, Title: http.StatusText(t.status), Heading: step[0], Message: t.message, Next: step[1],
		Fields: t.fields, LogIn: t.status == http.StatusUnauthorized || t.status == http.StatusForbidden, RequestID: RequestID(r.Context())}
	if page.Heading == "" {
		page.Heading = page.Title
	}
	if seconds, err := strconv.Atoi(w.Header().Get("Retry-After")); err == nil && seconds > 0 {
		page.Next = "Try again in " + inWords(seconds) + "."
	}
	if r.Method == http.MethodGet && (t.status >= http.StatusInternalServerError || t.status == http.StatusTooManyRequests) {
		page.Again = r.URL.RequestURI()
	}
	return page
}

// inWords is a time to wait as people say it.
func inWords(seconds int) string {
	const minute, few = 60, 90
	switch {
	case seconds == 1:
		return "a second"
	case seconds <= few:
		return strconv.Itoa(seconds) + " seconds"
	}
	return strconv.Itoa((seconds+minute-1)/minute) + " minutes"
}

// internal is the last resort: a page that cannot be drawn.
func (s *Site) internal(w http.ResponseWriter, r *http.Request, err error) {
	writeError(w, s.explain(r, err))
}

var errNothingHere = problem.New(problem.CodeNotFound, "There is nothing at this address. Check it, or start again from the home page.")

// NotFound answers 404 as a page or JSON.
func (s *Site) NotFound(w http.ResponseWriter, r *http.Request) { s.Fail(w, r, errNothingHere) }

var errMethod = problem.New("method_not_allowed",
	"This address takes requests of another kind, which the Allow header names. Go back to the page that led here and try again from there.")

// Missing answers for what mux, whose patterns begin with a method, has no route for: 405 with the methods that the
// address does take (RFC 9110, 15.5.6), else as [Site.NotFound]. It is registered in mux itself, for a whole prefix.
func (s *Site) Missing(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		other := r.Clone(r.Context())
		for _, other.Method = range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			if _, pattern := mux.Handler(other); strings.Contains(pattern, " ") {
				allowed = append(allowed, other.Method)
			}
		}
		if len(allowed) == 0 {
			s.NotFound(w, r)
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		s.Fail(w, r, errMethod)
	}
}

// Closed answers every request for a while: with status 503, and in how long to try again. It is no failure, and nothing
// is logged.
func (s *Site) Closed(w http.ResponseWriter, r *http.Request, message string, after time.Duration) {
	w.Header().Set("Retry-After", strconv.FormatInt(int64(math.Ceil(after.Seconds())), 10))
	if WantsJSON(r) {
		writeError(w, told{status: http.StatusServiceUnavailable, code: problem.CodeUnavailable, message: message})
		return
	}
	s.errors.render(w, r, http.StatusServiceUnavailable, "error", Page{Data: ErrorPage{Status: http.StatusServiceUnavailable, Title: "We will be back soon", Message: message}})
}
