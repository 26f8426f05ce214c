package auth

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// secondRoutes are the pages between the first step and the session.
func (a *Auth) secondRoutes(mux *http.ServeMux) {
	at := a.cfg.Path
	mux.HandleFunc("POST "+at+"/passkey/begin", a.postBeginPasskeyLogIn)
	mux.HandleFunc("POST "+at+"/passkey", a.postPasskeyLogIn)
	mux.HandleFunc("GET "+at+"/2fa", a.showSecond)
	mux.HandleFunc("POST "+at+"/2fa", a.postSecond)
	mux.HandleFunc("POST "+at+"/2fa/passkey/begin", a.postBeginSecondPasskey)
	mux.HandleFunc("POST "+at+"/2fa/passkey", a.postSecondPasskey)
	mux.HandleFunc("POST "+at+"/2fa/setup/begin", a.postBeginEnrolment)
	mux.HandleFunc("POST "+at+"/2fa/setup", a.postEnrolment)
	for _, path := range []string{"/2fa/passkey", "/2fa/setup"} {
		mux.HandleFunc("GET "+at+path, func(w http.ResponseWriter, r *http.Request) { a.cfg.Site.Redirect(w, r, at+"/2fa") })
	}
}

// goOn leads on after a first step: to the second one where err asks for it. false: err is something else.
func (a *Auth) goOn(w http.ResponseWriter, r *http.Request, s SignedIn, err error, next string) bool {
	if pending, ok := errors.AsType[*SecondStepError](err); ok {
		a.setCookie(w, pendingCookie, pending.Token, pendingLifetime)
		if web.WantsJSON(r) {
			a.cfg.Site.Fail(w, r, err)
			return true
		}
		a.cfg.Site.Redirect(w, r, a.secondURL(next))
		return true
	}
	if err != nil {
		return false
	}
	a.welcome(w, r, s, next)
	return true
}

func (a *Auth) secondURL(next string) string {
	at := a.cfg.Path + "/2fa"
	if next = web.LocalPath(next, ""); next != "" {
		at += "?next=" + url.QueryEscape(next)
	}
	return at
}

// secondPage is the data of second-step.html.
type secondPage struct {
	Path string `json:"-"`
	Next string `json:"next,omitempty"`
	// TOTP and Passkeys tell what the person has beside backup codes.
	TOTP     bool `json:"authenticator_app"`
	Passkeys bool `json:"passkeys"`
}

func (a *Auth) secondPage(r *http.Request, next string) (page secondPage, row pendingRow, err error) {
	page = secondPage{Path: a.cfg.Path, Next: web.LocalPath(next, "")}
	if row, err = a.findPending(r.Context(), a.readCookie(r, pendingCookie)); err != nil {
		return page, row, err
	}
	f, err := a.Factors(r.Context(), row.UserID)
	page.TOTP, page.Passkeys = f.TOTPSince != nil, f.Passkeys > 0 && a.party != nil
	return page, row, err
}

func (a *Auth) enrolPage(next string) totpPage {
	at := a.cfg.Path + "/2fa/setup"
	return totpPage{Begin: at + "/begin", Action: at, Next: web.LocalPath(next, ""), Required: true}
}

func (a *Auth) showSecond(w http.ResponseWriter, r *http.Request) {
	next := r.URL.Query().Get("next")
	page, row, err := a.secondPage(r, next)
	if err != nil {
		a.beginAgain(w, r, err)
		return
	}
	if !row.Enrol {
		a.views.Respond(w, r, http.StatusOK, "second-step", page)
		return
	}
	setup, err := a.FindTOTPSetup(r.Context(), row.UserID)
	enrol := a.enrolPage(next)
	if err == nil {
		enrol.show(setup)
	} else if !errors.Is(err, ErrNoTOTP) {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.views.Respond(w, r, http.StatusOK, "totp", enrol)
}

// beginAgain leads back to the log-in when what waited is gone.
func (a *Auth) beginAgain(w http.ResponseWriter, r *http.Request, err error) {
	if !errors.Is(err, ErrPending) || web.WantsJSON(r) {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.dropCookie(w, pendingCookie)
	a.cfg.Site.Flash(w, web.FlashWarning, problem.From(err).ErrorMessage())
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/login")
}

func (a *Auth) postSecond(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Code string `json:"code"`
		Next string `json:"next"`
	}
	err := web.Decode(w, r, &in)
	a.finishSecond(w, r, FinishLogInParams{Code: in.Code}, in.Next, err)
}

func (a *Auth) postSecondPasskey(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Credential string `json:"credential"`
		Next       string `json:"next"`
	}
	err := web.Decode(w, r, &in)
	if err == nil && in.Credential == "" {
		err = ErrPasskey
	}
	a.finishSecond(w, r, FinishLogInParams{Handle: a.readCookie(r, passkeyCookie), Response: []byte(in.Credential)}, in.Next, err)
}

// finishSecond takes the second step of the log-in that waits in this browser; err is what was wrong with the form.
func (a *Auth) finishSecond(w http.ResponseWriter, r *http.Request, p FinishLogInParams, next string, err error) {
	p.Token, p.Client = a.readCookie(r, pendingCookie), ClientOf(r)
	var s SignedIn
	if err == nil {
		s, err = a.FinishLogIn(r.Context(), p)
	}
	if err != nil {
		page, row, pageErr := a.secondPage(r, next)
		switch {
		case pageErr != nil:
			a.beginAgain(w, r, pageErr)
		case row.Enrol && !web.WantsJSON(r):
			a.cfg.Site.Redirect(w, r, a.secondURL(next))
		default:
			a.reject(w, r, "second-step", page, err)
		}
		return
	}
	a.welcome(w, r, s, next)
}

func (a *Auth) postBeginSecondPasskey(w http.ResponseWriter, r *http.Request) {
	c, err := a.BeginSecondPasskey(r.Context(), a.readCookie(r, pendingCookie), ClientOf(r))
	a.challenge(w, r, c, err)
}

func (a *Auth) postBeginEnrolment(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Next string `json:"next"`
	}
	if err := web.Decode(w, r, &in); err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	setup, err := a.BeginEnrolment(r.Context(), a.readCookie(r, pendingCookie))
	switch {
	case err != nil:
		a.beginAgain(w, r, err)
	case web.WantsJSON(r):
		web.JSON(w, http.StatusCreated, setup)
	default:
		a.cfg.Site.Redirect(w, r, a.secondURL(in.Next))
	}
}

func (a *Auth) postEnrolment(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Code string `json:"code"`
		Next string `json:"next"`
	}
	token := a.readCookie(r, pendingCookie)
	err := web.Decode(w, r, &in)
	var (
		s     SignedIn
		codes []string
	)
	if err == nil {
		s, codes, err = a.FinishEnrolment(r.Context(), token, in.Code, ClientOf(r))
	}
	if err != nil {
		row, findErr := a.findPending(r.Context(), token)
		if findErr != nil {
			a.beginAgain(w, r, findErr)
			return
		}
		page := a.enrolPage(in.Next)
		if setup, findErr := a.FindTOTPSetup(r.Context(), row.UserID); findErr == nil {
			page.show(setup)
		}
		a.reject(w, r, "totp", page, err)
		return
	}
	a.admit(w, r, s)
	a.showCodes(w, r, codes, "Your authenticator app is set up.", web.LocalPath(in.Next, a.cfg.Home))
}

func (a *Auth) postPasskeyLogIn(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Credential string `json:"credential"`
		Remember   bool   `json:"remember"`
		Next       string `json:"next"`
	}
	page := a.entryPage(r)
	err := web.Decode(w, r, &in)
	var s SignedIn
	if err == nil {
		page.Next = web.LocalPath(in.Next, "")
		s, err = a.LogInByPasskey(r.Context(), PasskeyLogInParams{Handle: a.readCookie(r, passkeyCookie), Response: []byte(in.Credential), Remember: in.Remember,
			Replaces: a.readCookie(r, sessionCookie), Client: ClientOf(r)})
	}
	if err != nil {
		a.reject(w, r, "login", page, err)
		return
	}
	a.welcome(w, r, s, in.Next)
}
