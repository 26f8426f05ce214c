package admin

import (
	"context"
	"encoding/csv"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/problem"
)

// Security is where the security events of all users are looked up; *auth.Auth is one.
type Security interface {
	AllEvents(ctx context.Context, p auth.AllEventsParams) (events []auth.UserEvent, more bool, err error)
	FindUserByEmail(ctx context.Context, address string) (auth.User, error)
}

// securityPage is the data of security.html.
type securityPage struct {
	frame

	Kind    string           `json:"kind"`
	User    string           `json:"user"`
	Address string           `json:"address"`
	From    string           `json:"from"`
	Until   string           `json:"until"`
	Kinds   []auth.EventKind `json:"-"`
	Events  []auth.UserEvent `json:"events"`
	Next    string           `json:"next,omitempty"`
	// CSV is where the same events are downloaded. Empty: not by who looks.
	CSV string `json:"csv,omitempty"`
}

// securityFilter reads the filters from the address. A user is named by id or e-mail address, and the last day counts
// whole.
func (a *Admin) securityFilter(r *http.Request) (p auth.AllEventsParams, err error) {
	q := r.URL.Query()
	p = auth.AllEventsParams{Kind: auth.EventKind(q.Get("kind")), UserID: strings.TrimSpace(q.Get("user")), IP: strings.TrimSpace(q.Get("address")), Before: q.Get("before")}
	wrong := map[string]string{}
	if strings.Contains(p.UserID, "@") {
		u, err := a.cfg.Security.FindUserByEmail(r.Context(), p.UserID)
		switch {
		case errors.Is(err, auth.ErrNotFound):
			wrong["user"] = "There is no account with this address. Events of one that is gone are found by its id."
		case err != nil:
			return p, err
		}
		p.UserID = u.ID
	}
	if p.IP != "" {
		address, err := netip.ParseAddr(p.IP)
		if err != nil {
			wrong["address"] = "This must be a network address such as 192.0.2.1 or 2001:db8::1."
		}
		p.IP = address.Unmap().WithZone("").String()
	}
	if p.From, err = day(q.Get("from")); err != nil {
		wrong["from"] = wrongDay
	}
	if p.Until, err = day(q.Get("until")); err != nil {
		wrong["until"] = wrongDay
	} else if !p.Until.IsZero() {
		p.Until = p.Until.AddDate(0, 0, 1)
	}
	if len(wrong) > 0 {
		return p, problem.Invalid(wrong)
	}
	return p, nil
}

const wrongDay = "This must be a day such as 2026-01-31."

var errDay = errors.New("admin: not a day")

// day reads a day in UTC; an empty text is the zero time.
func day(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil || t.Year() < 1 {
		return time.Time{}, errDay
	}
	return t, nil
}

func (a *Admin) listSecurity(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	page := securityPage{frame: a.frame(sectionSecurity), Kind: q.Get("kind"), User: q.Get("user"), Address: q.Get("address"), From: q.Get("from"), Until: q.Get("until"),
		Kinds: auth.EventKinds(), Events: []auth.UserEvent{}}
	params, err := a.securityFilter(r)
	if problem.FieldsOf(err) != nil {
		a.views.Reject(w, r, "security", page, err)
		return nil
	}
	if err != nil {
		return err
	}
	events, more, err := a.cfg.Security.AllEvents(r.Context(), params)
	if err != nil {
		return err
	}
	page.Events = events
	if more {
		page.Next = a.next(r, more, events[len(events)-1].ID)
	}
	if a.mayDo(r, ActionSecurityExport) {
		q.Del("before")
		page.CSV = a.cfg.Path + "/security.csv?" + q.Encode()
	}
	a.views.Respond(w, r, http.StatusOK, "security", page)
	return nil
}

// exportSecurity streams the events that the filters choose, newest first. It holds personal data, so each download has a
// line in the audit log.
func (a *Admin) exportSecurity(w http.ResponseWriter, r *http.Request) error {
	params, err := a.securityFilter(r)
	if err != nil {
		return err
	}
	params.Before, params.Limit = "", auth.MaxPage
	events, more, err := a.cfg.Security.AllEvents(r.Context(), params)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="security.csv"`)
	out := csv.NewWriter(w)
	lines := [][]string{{"when", "id", "event", "user_id", "email", "detail", "address", "agent"}}
	for {
		for _, e := range events {
			lines = append(lines, []string{e.CreatedAt.Format(time.RFC3339Nano), e.ID, string(e.Kind), e.UserID, cell(e.Email), cell(e.Detail), e.IP, cell(e.Agent)})
		}
		if err := out.WriteAll(lines); err != nil {
			// The download stops short, which its reader sees.
			panic(http.ErrAbortHandler)
		}
		if !more {
			return nil
		}
		lines = nil
		params.Before = events[len(events)-1].ID
		if events, more, err = a.cfg.Security.AllEvents(r.Context(), params); err != nil {
			a.cfg.Logger.ErrorContext(r.Context(), "security events not exported whole", slog.Any("error", err))
			panic(http.ErrAbortHandler)
		}
	}
}
