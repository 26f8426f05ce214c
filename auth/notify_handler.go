package auth

import (
	"errors"
	"net/http"

	"github.com/quickscale/quickscale/internal/web"
)

// notifyRoutes are where a mail's link leads that ends mails of its kind. Nobody has to log in for it: what such a link can
// do is that alone.
func (a *Auth) notifyRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+a.cfg.Path+"/unsubscribe", a.showUnsubscribe)
	mux.HandleFunc("POST "+a.cfg.Path+"/unsubscribe", a.postUnsubscribe)
}

// unsubscribePage is the data of unsubscribe.html.
type unsubscribePage struct {
	Path string `json:"-"`
	// Token is that of the link, empty when the link does not work.
	Token string `json:"-"`
	// Done says that the choice was noted: Wanted is it.
	Done   bool `json:"done"`
	Wanted bool `json:"email_notifications"`
}

// showUnsubscribe shows a button and changes nothing: mail scanners open links too.
func (a *Auth) showUnsubscribe(w http.ResponseWriter, r *http.Request) {
	a.hideToken(w, r)
	page := unsubscribePage{Path: a.cfg.Path, Wanted: true}
	token := r.URL.Query().Get("token")
	if _, err := a.stopper(token); err != nil {
		a.reject(w, r, "unsubscribe", page, err)
		return
	}
	page.Token = token
	a.views.Respond(w, r, http.StatusOK, "unsubscribe", page)
}

// postUnsubscribe notes the choice of a form, or of a program that posts to the link itself (RFC 8058), whose body says
// nothing more. It leads nowhere, as such programs follow no redirect.
func (a *Auth) postUnsubscribe(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Token  string `json:"token"`
		Wanted bool   `json:"email_notifications"`
	}
	a.hideToken(w, r)
	page := unsubscribePage{Path: a.cfg.Path, Wanted: true}
	var err error
	if in.Token = r.URL.Query().Get("token"); in.Token == "" {
		err = web.Decode(w, r, &in)
	}
	id := ""
	if err == nil {
		id, err = a.stopper(in.Token)
	}
	if err == nil {
		err = a.SetNotify(r.Context(), id, in.Wanted)
	}
	if errors.Is(err, ErrNotFound) {
		err = ErrLink // whether the account is gone is nobody's to know
	}
	if err != nil {
		a.reject(w, r, "unsubscribe", page, err)
		return
	}
	page.Token, page.Done, page.Wanted = in.Token, true, in.Wanted
	a.views.Respond(w, r, http.StatusOK, "unsubscribe", page)
}
