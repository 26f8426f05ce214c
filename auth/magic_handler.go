package auth

import (
	"net/http"

	"github.com/quickscale/quickscale/internal/web"
)

// magicRoutes are the pages of the log-in by mail.
func (a *Auth) magicRoutes(mux *http.ServeMux) {
	at := a.cfg.Path + "/magic"
	mux.HandleFunc("GET "+at, func(w http.ResponseWriter, r *http.Request) { a.showForm(w, r, "magic") })
	mux.HandleFunc("POST "+at, a.postMagic)
	mux.HandleFunc("GET "+at+"/code", a.showMagicCode)
	mux.HandleFunc("POST "+at+"/code", a.postMagicCode)
	mux.HandleFunc("GET "+at+"/link", a.showMagicLink)
	mux.HandleFunc("POST "+at+"/link", a.postMagicLink)
}

func (a *Auth) postMagic(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Email    string `json:"email"`
		Remember bool   `json:"remember"`
		Next     string `json:"next"`
	}
	page := a.entryPage(r)
	if err := web.Decode(w, r, &in); err != nil {
		a.reject(w, r, "magic", page, err)
		return
	}
	page.Email, page.Next = in.Email, web.LocalPath(in.Next, "")
	handle, err := a.RequestMagic(r.Context(), RequestMagicParams{Email: in.Email, Remember: in.Remember, Next: page.Next, Client: ClientOf(r)})
	if err != nil {
		a.reject(w, r, "magic", page, err)
		return
	}
	a.setCookie(w, magicCookie, handle, magicLifetime)
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/magic/code")
}

func (a *Auth) showMagicCode(w http.ResponseWriter, r *http.Request) {
	if a.readCookie(r, magicCookie) == "" {
		a.cfg.Site.Redirect(w, r, a.cfg.Path+"/magic")
		return
	}
	a.views.Respond(w, r, http.StatusOK, "magic-code", a.entryPage(r))
}

func (a *Auth) postMagicCode(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Code string `json:"code"`
	}
	err := web.Decode(w, r, &in)
	a.finishMagic(w, r, "magic-code", MagicLogInParams{Code: in.Code}, err)
}

// showMagicLink shows a button and changes nothing: mail scanners open links too.
func (a *Auth) showMagicLink(w http.ResponseWriter, r *http.Request) {
	a.hideToken(w, r)
	page := a.entryPage(r)
	if token := r.URL.Query().Get("token"); isSecret(token) && a.readCookie(r, magicCookie) != "" {
		page.Token = token
	}
	a.views.Respond(w, r, http.StatusOK, "magic-link", page)
}

func (a *Auth) postMagicLink(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Token string `json:"token"`
	}
	a.hideToken(w, r)
	err := web.Decode(w, r, &in)
	if err == nil && in.Token == "" {
		err = ErrMagic
	}
	a.finishMagic(w, r, "magic-link", MagicLogInParams{Link: in.Token}, err)
}

// finishMagic takes the code or the link of the log-in that waits in this browser; err is what was wrong with the form.
func (a *Auth) finishMagic(w http.ResponseWriter, r *http.Request, page string, p MagicLogInParams, err error) {
	p.Handle, p.Replaces, p.Client = a.readCookie(r, magicCookie), a.readCookie(r, sessionCookie), ClientOf(r)
	var (
		s    SignedIn
		next string
	)
	if err == nil {
		s, next, err = a.MagicLogIn(r.Context(), p)
	}
	if !a.goOn(w, r, s, err, next) {
		a.reject(w, r, page, a.entryPage(r), err)
	}
}
