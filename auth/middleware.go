package auth

import (
	"context"
	"net/http"
	"net/url"

	"github.com/quickscale/quickscale/internal/web"
)

type contextKey struct{}

// visitor is what Load found out about a request.
type visitor struct {
	user     User
	session  Session
	signedIn bool
	device   string
}

// UserFrom returns who is signed in, as [Auth.Load] found; false for nobody.
func UserFrom(ctx context.Context) (User, bool) {
	v, _ := ctx.Value(contextKey{}).(visitor)
	return v.user, v.signedIn
}

// SessionFrom returns the session of who is signed in, as [Auth.Load] found; false for nobody.
func SessionFrom(ctx context.Context) (Session, bool) {
	v, _ := ctx.Value(contextKey{}).(visitor)
	return v.session, v.signedIn
}

// AccountFrom returns what who is signed in acts for, as [Auth.Load] found; false for nobody.
func AccountFrom(ctx context.Context) (Account, bool) {
	v, _ := ctx.Value(contextKey{}).(visitor)
	return v.session.account, v.signedIn
}

// Load finds out who is signed in, for [UserFrom]. It reads one row when the browser shows a session and none otherwise,
// and does nothing where an outer Load has been at work. The Require middlewares contain it.
func (a *Auth) Load(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, loaded := r.Context().Value(contextKey{}).(visitor); loaded {
			next.ServeHTTP(w, r)
			return
		}
		r = a.behindProxy(r)
		v := visitor{device: a.readCookie(r, deviceCookie)}
		if token := a.readCookie(r, sessionCookie); token != "" {
			var err error
			if v.user, v.session, v.signedIn, err = a.resume(r.Context(), token); err != nil {
				a.cfg.Site.Fail(w, r, err)
				return
			}
			if !v.signedIn && a.returnFromImpersonation(w, r) {
				return
			}
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, v)))
	})
}

// RequireUser lets only those through who are signed in. Others are sent to the log-in and back, or get [ErrSignedOut]
// as JSON.
func (a *Auth) RequireUser(next http.Handler) http.Handler {
	return a.require(next, func(User) error { return nil })
}

// RequireVerified is [Auth.RequireUser] for those whose address is confirmed; others get [ErrUnverified]. A log-in
// implies it, so it guards against what a host may do beside.
func (a *Auth) RequireVerified(next http.Handler) http.Handler {
	return a.require(next, func(u User) error {
		if !u.Verified() {
			return ErrUnverified
		}
		return nil
	})
}

// RequireRole is [Auth.RequireUser] for those who have the role; others get [ErrForbidden].
func (a *Auth) RequireRole(role Role) func(next http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return a.require(next, func(u User) error {
			if u.Role != role {
				return ErrForbidden
			}
			return nil
		})
	}
}

func (a *Auth) require(next http.Handler, check func(User) error) http.Handler {
	return a.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, ok := UserFrom(r.Context())
		if !ok {
			a.askToLogIn(w, r)
			return
		}
		if err := check(u); err != nil {
			a.cfg.Site.Fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	}))
}

func (a *Auth) askToLogIn(w http.ResponseWriter, r *http.Request) {
	if web.WantsJSON(r) {
		a.cfg.Site.Fail(w, r, ErrSignedOut)
		return
	}
	target := a.cfg.Home
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		target = r.URL.RequestURI()
	}
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/login?next="+url.QueryEscape(target))
}
