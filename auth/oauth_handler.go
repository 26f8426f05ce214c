package auth

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/quickscale/quickscale/internal/web"
)

// oauthRoutes are the pages on the way to another site and back.
func (a *Auth) oauthRoutes(mux *http.ServeMux) {
	at := a.cfg.Path + "/oauth"
	mux.HandleFunc("POST "+at+"/{name}", a.postBeginOAuth)
	mux.HandleFunc("GET "+at+"/{name}/callback", a.showCallback)
	mux.HandleFunc("GET "+at+"/link", a.showLinkOffer)
	mux.Handle("POST "+at+"/link", a.recent(a.postLinkOffer))
}

// leavePage is the data of leave.html. The browser goes on by itself: a redirect as the answer to a form would need each
// site's address in the policy's form-action.
type leavePage struct {
	Label string `json:"-"`
	URL   string `json:"redirect"`
}

func (a *Auth) leave(w http.ResponseWriter, r *http.Request, s OAuthStart, provider string) {
	a.setCookie(w, oauthCookie, s.Handle, oauthLifetime)
	a.views.Respond(w, r, http.StatusOK, "leave", leavePage{a.labelOf(provider), s.URL})
}

func (a *Auth) postBeginOAuth(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Next     string `json:"next"`
		Remember bool   `json:"remember"`
	}
	page := a.entryPage(r)
	err := web.Decode(w, r, &in)
	var s OAuthStart
	if err == nil {
		_, again := UserFrom(r.Context())
		s, err = a.BeginOAuth(r.Context(), BeginOAuthParams{Provider: r.PathValue("name"), Next: web.LocalPath(in.Next, ""), Remember: in.Remember, Again: again, Client: ClientOf(r)})
	}
	if errors.Is(err, ErrNoProvider) {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	if err != nil {
		page.Next = web.LocalPath(in.Next, "")
		a.reject(w, r, "login", page, err)
		return
	}
	a.leave(w, r, s, r.PathValue("name"))
}

// showCallback is where the other site sends the browser back to. It is a GET that changes something, as the protocol
// wants it, and works only with what this browser was given for it.
func (a *Auth) showCallback(w http.ResponseWriter, r *http.Request) {
	a.hideToken(w, r)
	q := r.URL.Query()
	p := OAuthReturn{Provider: r.PathValue("name"), State: q.Get("state"), Code: q.Get("code"), Error: q.Get("error"), Issuer: q.Get("iss"),
		Handle: a.readCookie(r, oauthCookie), Replaces: a.readCookie(r, sessionCookie), Client: ClientOf(r)}
	if u, ok := UserFrom(r.Context()); ok {
		p.UserID = u.ID
	}
	out, err := a.FinishOAuth(r.Context(), p)
	if err == nil && !out.Offered {
		a.dropCookie(w, oauthCookie)
	}
	if _, pending := errors.AsType[*SecondStepError](err); pending {
		a.dropCookie(w, oauthCookie)
		a.goOn(w, r, SignedIn{}, err, out.Next)
		return
	}
	switch {
	case errors.Is(err, ErrNoProvider):
		a.cfg.Site.Fail(w, r, err)
	case err != nil && p.UserID != "":
		page, pageErr := a.backPage(r)
		if pageErr != nil {
			a.cfg.Site.Fail(w, r, pageErr)
			return
		}
		a.reject(w, r, "security", page, err)
	case err != nil:
		page := a.entryPage(r)
		page.Next = web.LocalPath(out.Next, "")
		a.reject(w, r, "login", page, err)
	case out.Linked != "":
		a.done(w, r, "Your account at "+out.Linked+" is linked.", "/security")
	case out.Offered:
		a.cfg.Site.Redirect(w, r, a.cfg.Path+"/oauth/link")
	default:
		a.welcome(w, r, *out.SignedIn, out.Next)
	}
}

// backPage is the page Security for who comes back to it.
func (a *Auth) backPage(r *http.Request) (securityPage, error) {
	u, _ := UserFrom(r.Context())
	return a.securityPage(r, u)
}

// postedCallback takes the answer of a site that has its page send a form, as Apple does: from another site, and so
// without our cookies. It changes nothing and leads the browser to the same answer as a GET, which comes with them.
func (a *Auth) postedCallback(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, web.MaxForm)
	if err := r.ParseForm(); err != nil {
		a.cfg.Site.Fail(w, r, web.ErrMalformed)
		return
	}
	q := url.Values{}
	for _, name := range []string{"state", "code", "error", "iss"} {
		if v := r.PostForm.Get(name); v != "" {
			q.Set(name, v)
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", a.cfg.Path+"/oauth/"+url.PathEscape(r.PathValue("name"))+"/callback?"+q.Encode())
	w.WriteHeader(http.StatusSeeOther)
}

// linkPage is the data of link.html.
type linkPage struct {
	Path  string `json:"-"`
	Label string `json:"label"`
	Email string `json:"email"`
	// Owner tells that who is signed in can link it.
	Owner bool   `json:"owner"`
	LogIn string `json:"login"`
	Home  string `json:"-"`
}

func (a *Auth) showLinkOffer(w http.ResponseWriter, r *http.Request) {
	offer, err := a.Offer(r.Context(), a.readCookie(r, oauthCookie))
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	u, ok := UserFrom(r.Context())
	a.views.Respond(w, r, http.StatusOK, "link", linkPage{Path: a.cfg.Path, Label: a.labelOf(offer.Provider), Email: offer.Email, Owner: ok && u.ID == offer.UserID,
		LogIn: a.cfg.Path + "/login?next=" + url.QueryEscape(a.cfg.Path+"/oauth/link"), Home: web.LocalPath(offer.Next, a.cfg.Home)})
}

func (a *Auth) postLinkOffer(w http.ResponseWriter, r *http.Request, u User) {
	offer, err := a.AcceptOffer(r.Context(), u.ID, a.readCookie(r, oauthCookie), ClientOf(r))
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.dropCookie(w, oauthCookie)
	a.cfg.Site.Flash(w, web.FlashSuccess, "Your account at "+a.labelOf(offer.Provider)+" is linked.")
	a.cfg.Site.Redirect(w, r, web.LocalPath(offer.Next, a.cfg.Home))
}
