package auth

import (
	"errors"
	"net/http"
)

// Handler serves the pages below Config.Path and Config.AccountPath, which the host mounts without stripping them.
// Every page answers JSON too.
func (a *Auth) Handler() http.Handler {
	mux := http.NewServeMux()
	at := a.cfg.Path
	mux.HandleFunc("GET "+at+"/signup", a.showSignUp)
	mux.HandleFunc("POST "+at+"/signup", a.postSignUp)
	mux.HandleFunc("GET "+at+"/login", a.showLogIn)
	mux.HandleFunc("POST "+at+"/login", a.postLogIn)
	mux.HandleFunc("POST "+at+"/logout", a.postLogOut)
	mux.HandleFunc("GET "+at+"/verify", a.showVerify)
	mux.HandleFunc("POST "+at+"/verify", a.postVerify)
	mux.HandleFunc("GET "+at+"/verify/resend", a.showResend)
	mux.HandleFunc("POST "+at+"/verify/resend", a.postResend)
	mux.HandleFunc("GET "+at+"/password/forgot", a.showForgot)
	mux.HandleFunc("POST "+at+"/password/forgot", a.postForgot)
	mux.HandleFunc("POST "+at+"/password/strength", a.postStrength)
	mux.HandleFunc("GET "+at+"/password/reset", a.showReset)
	mux.HandleFunc("POST "+at+"/password/reset", a.postReset)
	a.confirmRoutes(mux)
	a.magicRoutes(mux)
	a.emailRoutes(mux)
	a.oauthRoutes(mux)
	a.secondRoutes(mux)
	a.notifyRoutes(mux)
	mux.HandleFunc(at+"/", a.cfg.Site.Missing(mux))

	at = a.cfg.AccountPath
	mux.Handle("GET "+at+"/{$}", a.signedIn(a.showDashboard))
	a.profileRoutes(mux)
	mux.Handle("GET "+at+"/security", a.signedIn(a.showSecurity))
	mux.Handle("POST "+at+"/security/email", a.recent(a.postEmail))
	mux.Handle("POST "+at+"/security/password", a.signedIn(a.postPassword))
	// Where a form with a fault was shown again, who opens the address anew finds the form.
	mux.HandleFunc("GET "+at+"/security/password", func(w http.ResponseWriter, r *http.Request) {
		a.cfg.Site.Redirect(w, r, a.cfg.AccountPath+"/security")
	})
	mux.Handle("POST "+at+"/security/sessions/revoke-others", a.recent(a.postRevokeOthers))
	mux.Handle("POST "+at+"/security/sessions/{id}/revoke", a.recent(a.postRevokeSession))
	a.factorRoutes(mux)
	a.organisationRoutes(mux)
	a.impersonationRoutes(mux)
	mux.Handle("GET "+at+"/api-keys", a.signedIn(a.showKeys))
	mux.Handle("POST "+at+"/api-keys", a.recent(a.postKey))
	mux.Handle("POST "+at+"/api-keys/{id}/regenerate", a.recent(a.postRegenerateKey))
	mux.Handle("POST "+at+"/api-keys/{id}/revoke", a.signedIn(a.postRevokeKey))
	mux.HandleFunc(at+"/", a.cfg.Site.Missing(mux))
	outer := http.NewServeMux()
	outer.HandleFunc("POST "+a.cfg.Path+"/oauth/{name}/callback", a.postedCallback)
	outer.Handle("/", a.cfg.Site.Protect(a.Load(a.guardImpersonation(mux))))
	return outer
}

// signedIn lets only those through who are.
func (a *Auth) signedIn(next func(w http.ResponseWriter, r *http.Request, u User)) http.Handler {
	return a.RequireUser(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, _ := UserFrom(r.Context())
		next(w, r, u)
	}))
}

// reject answers to a form that cannot be taken, with the time to wait where there is one.
func (a *Auth) reject(w http.ResponseWriter, r *http.Request, page string, data any, err error) {
	a.retryAfter(w, err)
	a.views.Reject(w, r, page, data, err)
}

func (a *Auth) retryAfter(w http.ResponseWriter, err error) {
	if retry, ok := errors.AsType[*RetryError](err); ok {
		w.Header().Set("Retry-After", retry.header())
	}
}
