package auth

import (
	"net/http"

	"github.com/quickscale/quickscale/internal/web"
)

// passkeyPage is the data of passkey.html.
type passkeyPage struct {
	AccountPath string `json:"-"`
	// ID and Name are of the passkey to rename; ID is empty for a new one.
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

func (a *Auth) showPasskeys(w http.ResponseWriter, r *http.Request, u User) {
	if !web.WantsJSON(r) { // they stand on the page Security
		a.cfg.Site.Redirect(w, r, a.cfg.AccountPath+"/security")
		return
	}
	keys, err := a.Passkeys(r.Context(), u.ID)
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, map[string]any{"passkeys": keys})
}

func (a *Auth) showNewPasskey(w http.ResponseWriter, r *http.Request, _ User) {
	a.views.Respond(w, r, http.StatusOK, "passkey", passkeyPage{AccountPath: a.cfg.AccountPath})
}

// challenge gives the browser what it is asked to sign.
func (a *Auth) challenge(w http.ResponseWriter, r *http.Request, c PasskeyChallenge, err error) {
	if err != nil {
		a.fail422(w, r, err)
		return
	}
	a.setCookie(w, passkeyCookie, c.Handle, ceremonyLifetime)
	web.JSON(w, http.StatusOK, c)
}

// fail422 answers a script in JSON, whatever it accepts, with the time to wait where there is one.
func (a *Auth) fail422(w http.ResponseWriter, r *http.Request, err error) {
	a.retryAfter(w, err)
	a.cfg.Site.FailJSON(w, r, err)
}

func (a *Auth) postBeginPasskey(w http.ResponseWriter, r *http.Request, u User) {
	c, err := a.BeginPasskey(r.Context(), u.ID)
	a.challenge(w, r, c, err)
}

func (a *Auth) postPasskey(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Name       string `json:"name"`
		Credential string `json:"credential"`
	}
	page := passkeyPage{AccountPath: a.cfg.AccountPath}
	err := web.Decode(w, r, &in)
	var (
		key   Passkey
		codes []string
	)
	if err == nil {
		key, codes, err = a.AddPasskey(r.Context(), AddPasskeyParams{UserID: u.ID, Handle: a.readCookie(r, passkeyCookie), Name: in.Name, Response: []byte(in.Credential), Client: ClientOf(r)})
	}
	if err != nil {
		a.reject(w, r, "passkey", page, err)
		return
	}
	a.dropCookie(w, passkeyCookie)
	if web.WantsJSON(r) {
		web.JSON(w, http.StatusCreated, struct {
			Passkey Passkey  `json:"passkey"`
			Codes   []string `json:"backup_codes,omitempty"`
		}{key, codes})
		return
	}
	a.showCodes(w, r, codes, "Your passkey is added.", a.cfg.AccountPath+"/security")
}

func (a *Auth) findPasskey(r *http.Request, u User) (Passkey, error) {
	keys, err := a.Passkeys(r.Context(), u.ID)
	if err != nil {
		return Passkey{}, err
	}
	for _, k := range keys {
		if k.ID == r.PathValue("id") {
			return k, nil
		}
	}
	return Passkey{}, ErrNoPasskey
}

func (a *Auth) showPasskey(w http.ResponseWriter, r *http.Request, u User) {
	key, err := a.findPasskey(r, u)
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.views.Respond(w, r, http.StatusOK, "passkey", passkeyPage{a.cfg.AccountPath, key.ID, key.Name})
}

func (a *Auth) postRenamePasskey(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Name string `json:"name"`
	}
	id := r.PathValue("id")
	err := web.Decode(w, r, &in)
	if err == nil {
		err = a.RenamePasskey(r.Context(), u.ID, id, in.Name)
	}
	if err != nil {
		a.reject(w, r, "passkey", passkeyPage{a.cfg.AccountPath, id, in.Name}, err)
		return
	}
	a.done(w, r, "The passkey has another name.", "/security")
}

func (a *Auth) postRemovePasskey(w http.ResponseWriter, r *http.Request, u User) {
	if err := a.RemovePasskey(r.Context(), u.ID, r.PathValue("id"), ClientOf(r)); err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.done(w, r, "The passkey is removed.", "/security")
}

func (a *Auth) postBeginPasskeyLogIn(w http.ResponseWriter, r *http.Request) {
	c, err := a.BeginPasskeyLogIn(r.Context(), ClientOf(r))
	a.challenge(w, r, c, err)
}
