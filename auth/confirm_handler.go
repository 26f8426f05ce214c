package auth

import (
	"net/http"
	"net/url"

	"github.com/quickscale/quickscale/internal/web"
)

// confirmRoutes are the page on which a signed-in person proves again who they are.
func (a *Auth) confirmRoutes(mux *http.ServeMux) {
	at := a.cfg.Path + "/confirm"
	mux.Handle("GET "+at, a.signedIn(a.showConfirm))
	mux.Handle("POST "+at, a.signedIn(a.postConfirm))
	mux.Handle("POST "+at+"/passkey/begin", a.signedIn(a.postBeginConfirmPasskey))
	mux.Handle("POST "+at+"/passkey", a.signedIn(a.postConfirmPasskey))
	mux.HandleFunc("GET "+at+"/passkey", func(w http.ResponseWriter, r *http.Request) { a.cfg.Site.Redirect(w, r, at) })
}

// RequireRecentAuth is [Auth.RequireUser] for those who proved who they are within Config.RecentAuth. Others are sent to
// prove it and back, or get [ErrRecentAuth] as JSON. After a form they come back to the page that it is on.
func (a *Auth) RequireRecentAuth(next http.Handler) http.Handler {
	return a.RequireUser(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case a.RecentAuth(r):
			next.ServeHTTP(w, r)
		case web.WantsJSON(r):
			a.cfg.Site.Fail(w, r, ErrRecentAuth)
		default:
			a.cfg.Site.Redirect(w, r, a.cfg.Path+"/confirm?next="+url.QueryEscape(a.pageOf(r)))
		}
	}))
}

// recent lets only those through who proved lately who they are.
func (a *Auth) recent(next func(w http.ResponseWriter, r *http.Request, u User)) http.Handler {
	return a.RequireRecentAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, _ := UserFrom(r.Context())
		next(w, r, u)
	}))
}

// pageOf is the address of the page that a request is for: its own, or that of the form which it carries.
func (a *Auth) pageOf(r *http.Request) string {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return r.URL.RequestURI()
	}
	if from, err := url.Parse(r.Referer()); err == nil && from.Host == r.Host {
		return web.LocalPath(from.RequestURI(), a.cfg.Home)
	}
	return a.cfg.Home
}

// confirmPage is the data of confirm.html.
type confirmPage struct {
	Path  string `json:"-"`
	Email string `json:"-"`
	Next  string `json:"next,omitempty"`
	// Recent tells that there is nothing to prove.
	Recent bool `json:"recent"`
	// Password, Code and Passkey are the ways that the person has; OAuth are sites by which they can log in anew.
	Password bool        `json:"password"`
	Code     bool        `json:"code"`
	Passkey  bool        `json:"passkey"`
	OAuth    []OAuthLink `json:"oauth"`
}

func (a *Auth) confirmPage(r *http.Request, u User, next string) (page confirmPage, err error) {
	page = confirmPage{Path: a.cfg.Path, Email: u.Email, Next: web.LocalPath(next, ""), Recent: a.RecentAuth(r)}
	f, err := a.Factors(r.Context(), u.ID)
	if err != nil {
		return page, err
	}
	page.Code, page.Passkey = f.TOTPSince != nil || f.BackupCodes > 0, f.Passkeys > 0 && a.party != nil
	if page.Password, err = a.HasPassword(r.Context(), u.ID); err != nil {
		return page, err
	}
	linked, err := a.Identities(r.Context(), u.ID)
	for _, link := range a.OAuthLinks() {
		for _, i := range linked {
			if i.Provider == link.Name {
				page.OAuth = append(page.OAuth, link)
			}
		}
	}
	return page, err
}

func (a *Auth) showConfirm(w http.ResponseWriter, r *http.Request, u User) {
	page, err := a.confirmPage(r, u, r.URL.Query().Get("next"))
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.views.Respond(w, r, http.StatusOK, "confirm", page)
}

func (a *Auth) postConfirm(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Password string `json:"password" trim:"no"`
		Code     string `json:"code"`
		Next     string `json:"next"`
	}
	err := web.Decode(w, r, &in)
	a.finishConfirm(w, r, u, ConfirmParams{Password: in.Password, Code: in.Code}, in.Next, err)
}

func (a *Auth) postConfirmPasskey(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Credential string `json:"credential"`
		Next       string `json:"next"`
	}
	err := web.Decode(w, r, &in)
	if err == nil && in.Credential == "" {
		err = ErrPasskey
	}
	a.finishConfirm(w, r, u, ConfirmParams{Handle: a.readCookie(r, passkeyCookie), Response: []byte(in.Credential)}, in.Next, err)
}

// finishConfirm takes a proof; err is what was wrong with the form.
func (a *Auth) finishConfirm(w http.ResponseWriter, r *http.Request, u User, p ConfirmParams, next string, err error) {
	current, _ := SessionFrom(r.Context())
	p.UserID, p.SessionID, p.Client = u.ID, current.ID, ClientOf(r)
	var s SignedIn
	if err == nil {
		s, err = a.Confirm(r.Context(), p)
	}
	if err != nil {
		page, pageErr := a.confirmPage(r, u, next)
		if pageErr != nil {
			a.cfg.Site.Fail(w, r, pageErr)
			return
		}
		a.reject(w, r, "confirm", page, err)
		return
	}
	a.SetSession(w, s)
	a.cfg.Site.Redirect(w, r, web.LocalPath(next, a.cfg.Home))
}

func (a *Auth) postBeginConfirmPasskey(w http.ResponseWriter, r *http.Request, u User) {
	c, err := a.BeginConfirmPasskey(r.Context(), u.ID, ClientOf(r))
	a.challenge(w, r, c, err)
}
