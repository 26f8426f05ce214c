package auth

import (
	"net/http"
	"slices"

	"github.com/quickscale/quickscale/internal/web"
)

// dashboardPage is the data of dashboard.html.
type dashboardPage struct {
	AccountPath string  `json:"-"`
	User        User    `json:"user"`
	Panels      []Panel `json:"panels"`
	// Steps are empty when all are done.
	Steps []Step `json:"first_steps"`
	// Use, Expiring and Activity are those of [Overview].
	Use         []DayFigure `json:"use,omitempty"`
	Chart       *web.Chart  `json:"-"`
	Expiring    []DayFigure `json:"expiring,omitempty"`
	Activity    []Activity  `json:"activity,omitempty"`
	ActivityURL string      `json:"-"`
}

func (a *Auth) showDashboard(w http.ResponseWriter, r *http.Request, u User) {
	page := dashboardPage{AccountPath: a.cfg.AccountPath, User: u, Panels: []Panel{}}
	if a.cfg.Panels != nil {
		panels, err := a.cfg.Panels(r, u)
		if err != nil {
			a.cfg.Site.Fail(w, r, err)
			return
		}
		page.Panels = append(page.Panels, panels...)
	}
	keys, _, err := a.APIKeys(r.Context(), APIKeysParams{UserID: u.ID, Limit: 1})
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	page.Steps = []Step{
		{"Confirm your e-mail address", a.cfg.AccountPath + "/security", u.Verified()},
		{"Say what we may call you", a.cfg.AccountPath + "/profile", u.Name != ""},
		{"Create an API key for your programs", a.cfg.AccountPath + "/api-keys", len(keys) > 0},
	}
	if a.cfg.Overview != nil {
		o, err := a.cfg.Overview(r, u)
		if err != nil {
			a.cfg.Site.Fail(w, r, err)
			return
		}
		page.Steps = append(page.Steps, o.Steps...)
		page.Use, page.Chart, page.Expiring, page.Activity, page.ActivityURL = o.Use, useChart(o.Use), o.Expiring, o.Activity, o.ActivityURL
	}
	if !slices.ContainsFunc(page.Steps, func(s Step) bool { return !s.Done }) {
		page.Steps = []Step{}
	}
	a.views.Respond(w, r, http.StatusOK, "dashboard", page)
}

// done leads on to a page of the account with a message.
func (a *Auth) done(w http.ResponseWriter, r *http.Request, message, page string) {
	a.cfg.Site.Flash(w, web.FlashSuccess, message)
	a.cfg.Site.Redirect(w, r, a.cfg.AccountPath+page)
}

// sessionView is a session as its owner sees it.
type sessionView struct {
	Session
	// Current is the one that asks.
	Current bool `json:"current"`
}

// securityPage is the data of security.html.
type securityPage struct {
	AccountPath string `json:"-"`
	// EntryPath is where the pages for entering are.
	EntryPath   string        `json:"-"`
	User        User          `json:"-"`
	MinPassword int           `json:"-"`
	Sessions    []sessionView `json:"sessions"`
	// NextSessions and NextEvents are the URLs of the pages with older ones, empty on the last ones.
	NextSessions string  `json:"next_sessions,omitempty"`
	Events       []Event `json:"events"`
	NextEvents   string  `json:"next_events,omitempty"`
	// Factors are what is beside the password.
	Factors factorsView `json:"sign_in"`
}

// Sizes of the two lists on the page.
const (
	pageSessions = 20
	pageEvents   = 20
)

func (a *Auth) securityPage(r *http.Request, u User) (securityPage, error) {
	path := a.cfg.AccountPath + "/security"
	page := securityPage{AccountPath: a.cfg.AccountPath, EntryPath: a.cfg.Path, User: u, MinPassword: a.cfg.MinPassword}
	var err error
	if page.Factors, err = a.factorsView(r, u); err != nil {
		return page, err
	}
	sessions, more, err := a.Sessions(r.Context(), SessionsParams{UserID: u.ID, Before: r.URL.Query().Get("sessions_before"), Limit: pageSessions})
	if err != nil {
		return page, err
	}
	current, _ := SessionFrom(r.Context())
	page.Sessions = make([]sessionView, len(sessions))
	for i, s := range sessions {
		page.Sessions[i] = sessionView{s, s.ID == current.ID}
	}
	if more {
		page.NextSessions = older(path, "sessions_before", sessions[len(sessions)-1].ID)
	}
	page.Events, more, err = a.SecurityEvents(r.Context(), EventsParams{UserID: u.ID, Before: r.URL.Query().Get("events_before"), Limit: pageEvents})
	if more {
		page.NextEvents = older(path, "events_before", page.Events[len(page.Events)-1].ID)
	}
	return page, err
}

func (a *Auth) showSecurity(w http.ResponseWriter, r *http.Request, u User) {
	page, err := a.securityPage(r, u)
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.views.Respond(w, r, http.StatusOK, "security", page)
}

func (a *Auth) postPassword(w http.ResponseWriter, r *http.Request, u User) {
	factors, err := a.Factors(r.Context(), u.ID)
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	// The form asks for the password, which is all that most people have; the others show the rest too.
	if factors.Second() && !a.RecentAuth(r) {
		a.askToConfirm(w, r)
		return
	}
	var in struct {
		Current  string `json:"current"  trim:"no"`
		Password string `json:"password" trim:"no"`
	}
	err = web.Decode(w, r, &in)
	var s SignedIn
	if err == nil {
		current, _ := SessionFrom(r.Context())
		s, err = a.ChangePassword(r.Context(), ChangePasswordParams{UserID: u.ID, SessionID: current.ID, Current: in.Current, New: in.Password, Remember: current.Remember, Client: ClientOf(r)})
	}
	if err != nil {
		page, pageErr := a.securityPage(r, u)
		if pageErr != nil {
			a.cfg.Site.Fail(w, r, pageErr)
			return
		}
		a.reject(w, r, "security", page, err)
		return
	}
	a.SetSession(w, s)
	a.done(w, r, "Your password is changed and all other devices are logged out.", "/security")
}

func (a *Auth) postRevokeSession(w http.ResponseWriter, r *http.Request, u User) {
	id := r.PathValue("id")
	if err := a.RevokeSession(r.Context(), u.ID, id, ClientOf(r)); err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.done(w, r, "The device is logged out.", "/security")
}

func (a *Auth) postRevokeOthers(w http.ResponseWriter, r *http.Request, u User) {
	current, _ := SessionFrom(r.Context())
	if err := a.RevokeOtherSessions(r.Context(), u.ID, current.ID, ClientOf(r)); err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.done(w, r, "All other devices are logged out.", "/security")
}
