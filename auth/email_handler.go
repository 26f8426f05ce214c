package auth

import (
	"context"
	"net/http"

	"github.com/quickscale/quickscale/internal/web"
)

// emailRoutes are the pages of the links that change an account's address.
func (a *Auth) emailRoutes(mux *http.ServeMux) {
	at := a.cfg.Path + "/email"
	mux.HandleFunc("GET "+at+"/confirm", func(w http.ResponseWriter, r *http.Request) { a.showChange(w, r, "email-confirm", confirmColumn) })
	mux.HandleFunc("POST "+at+"/confirm", func(w http.ResponseWriter, r *http.Request) {
		a.postChange(w, r, "email-confirm", a.ConfirmEmailChange, "Your address is changed and all devices are logged out. Log in again.")
	})
	mux.HandleFunc("GET "+at+"/undo", func(w http.ResponseWriter, r *http.Request) { a.showChange(w, r, "email-undo", undoColumn) })
	mux.HandleFunc("POST "+at+"/undo", func(w http.ResponseWriter, r *http.Request) {
		a.postChange(w, r, "email-undo", a.UndoEmailChange, "The account is yours alone again. Choose a new password by the link that we have just sent to you.")
	})
	mux.HandleFunc("GET "+a.cfg.AccountPath+"/security/email", func(w http.ResponseWriter, r *http.Request) {
		a.cfg.Site.Redirect(w, r, a.cfg.AccountPath+"/security")
	})
}

func (a *Auth) postEmail(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Email string `json:"email"`
	}
	err := web.Decode(w, r, &in)
	if err == nil {
		err = a.RequestEmailChange(r.Context(), RequestEmailChangeParams{UserID: u.ID, Email: in.Email, Client: ClientOf(r)})
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
	a.done(w, r, "We have sent a link to the new address. Open it within 24 hours.", "/security")
}

// changePage is the data of email-confirm.html and email-undo.html.
type changePage struct {
	Path string `json:"-"`
	// Token is that of the link, empty when the link does not work.
	Token string `json:"-"`
	// Address is the new one.
	Address string `json:"address"`
}

func (a *Auth) showChange(w http.ResponseWriter, r *http.Request, page, column string) {
	a.hideToken(w, r)
	data := changePage{Path: a.cfg.Path}
	token := r.URL.Query().Get("token")
	change, err := a.changeOf(r.Context(), column, token)
	if err != nil {
		a.reject(w, r, page, data, err)
		return
	}
	data.Token, data.Address = token, change.NewEmail
	a.views.Respond(w, r, http.StatusOK, page, data)
}

func (a *Auth) postChange(w http.ResponseWriter, r *http.Request, page string, do func(ctx context.Context, token string, c Client) error, message string) {
	var in struct {
		Token string `json:"token"`
	}
	a.hideToken(w, r)
	err := web.Decode(w, r, &in)
	if err == nil {
		err = do(r.Context(), in.Token, ClientOf(r))
	}
	if err != nil {
		a.reject(w, r, page, changePage{Path: a.cfg.Path}, err)
		return
	}
	a.cfg.Site.Flash(w, web.FlashSuccess, message)
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/login")
}
