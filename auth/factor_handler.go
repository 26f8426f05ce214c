package auth

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"github.com/quickscale/quickscale/internal/web"
)

// factorRoutes are the pages of the account about what is beside the password. All that changes something asks who is
// there first.
func (a *Auth) factorRoutes(mux *http.ServeMux) {
	at := a.cfg.AccountPath + "/security"
	mux.Handle("GET "+at+"/totp", a.signedIn(a.showTOTP))
	mux.Handle("POST "+at+"/totp/begin", a.recent(a.postBeginTOTP))
	mux.Handle("POST "+at+"/totp", a.recent(a.postTOTP))
	mux.Handle("POST "+at+"/totp/remove", a.recent(a.postRemoveTOTP))
	mux.Handle("POST "+at+"/backup-codes", a.recent(a.postBackupCodes))
	mux.Handle("GET "+at+"/passkeys", a.signedIn(a.showPasskeys))
	mux.Handle("GET "+at+"/passkeys/new", a.recent(a.showNewPasskey))
	mux.Handle("POST "+at+"/passkeys/begin", a.recent(a.postBeginPasskey))
	mux.Handle("POST "+at+"/passkeys", a.recent(a.postPasskey))
	mux.Handle("GET "+at+"/passkeys/{id}", a.signedIn(a.showPasskey))
	mux.Handle("POST "+at+"/passkeys/{id}", a.recent(a.postRenamePasskey))
	mux.Handle("POST "+at+"/passkeys/{id}/remove", a.recent(a.postRemovePasskey))
	mux.Handle("POST "+at+"/identities/{name}", a.recent(a.postBeginLink))
	mux.Handle("POST "+at+"/identities/{name}/unlink", a.recent(a.postUnlink))
	mux.Handle("POST "+at+"/password/add", a.recent(a.postAddPassword))
	// Where a page was the answer to a form, who opens its address anew finds the way back.
	for _, path := range []string{"/backup-codes", "/password/add"} {
		mux.HandleFunc("GET "+at+path, func(w http.ResponseWriter, r *http.Request) { a.cfg.Site.Redirect(w, r, at) })
	}
}

// identityView is a linked account as its owner sees it.
type identityView struct {
	Identity
	Label string `json:"label"`
}

// factorsView is what the page Security says about what is beside the password.
type factorsView struct {
	// Required tells that the back office stays closed until there is a second step.
	Required bool `json:"second_step_required"`
	// HasPassword tells that there is a password to change.
	HasPassword bool `json:"has_password"`
	// Apps and PasskeysOn tell what this site offers.
	Apps       bool           `json:"authenticator_apps"`
	PasskeysOn bool           `json:"passkeys_offered"`
	Factors    Factors        `json:"factors"`
	Passkeys   []Passkey      `json:"passkeys"`
	Identities []identityView `json:"identities"`
	// Links are the other sites at which nothing is linked yet.
	Links []OAuthLink `json:"links"`
}

func (a *Auth) factorsView(r *http.Request, u User) (v factorsView, err error) {
	v = factorsView{Apps: a.box != nil, PasskeysOn: a.party != nil, Identities: []identityView{}, Links: []OAuthLink{}}
	if v.HasPassword, err = a.HasPassword(r.Context(), u.ID); err != nil {
		return v, err
	}
	if v.Factors, err = a.Factors(r.Context(), u.ID); err != nil {
		return v, err
	}
	v.Required = a.mustEnrol(u) && !v.Factors.Second()
	if v.Passkeys, err = a.Passkeys(r.Context(), u.ID); err != nil {
		return v, err
	}
	linked, err := a.Identities(r.Context(), u.ID)
	if err != nil {
		return v, err
	}
	have := map[string]bool{}
	for _, i := range linked {
		have[i.Provider] = true
		v.Identities = append(v.Identities, identityView{i, a.labelOf(i.Provider)})
	}
	for _, l := range a.OAuthLinks() {
		if !have[l.Name] {
			v.Links = append(v.Links, l)
		}
	}
	return v, nil
}

// totpPage is the data of totp.html.
type totpPage struct {
	// Setup is nil before it is begun.
	Setup   *TOTPSetup   `json:"setup"`
	Picture template.URL `json:"-"`
	// Begin and Action are where the forms go, Back is the way out.
	Begin, Action, Back string `json:"-"`
	Next                string `json:"-"`
	// Required tells that the person cannot go on without.
	Required bool `json:"required"`
}

func (p *totpPage) show(setup TOTPSetup) {
	p.Setup, p.Picture = &setup, template.URL(setup.QR) //nolint:gosec // G203: a data URL of a picture that we drew
}

func (a *Auth) totpPage() totpPage {
	at := a.cfg.AccountPath + "/security"
	return totpPage{Begin: at + "/totp/begin", Action: at + "/totp", Back: at}
}

// showTOTP shows the secret that waits for its first code.
func (a *Auth) showTOTP(w http.ResponseWriter, r *http.Request, u User) {
	page := a.totpPage()
	setup, err := a.FindTOTPSetup(r.Context(), u.ID)
	if err != nil && !errors.Is(err, ErrNoTOTP) {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	if err == nil {
		page.show(setup)
	}
	a.views.Respond(w, r, http.StatusOK, "totp", page)
}

func (a *Auth) postBeginTOTP(w http.ResponseWriter, r *http.Request, u User) {
	setup, err := a.BeginTOTP(r.Context(), u.ID)
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	if web.WantsJSON(r) {
		web.JSON(w, http.StatusCreated, setup)
		return
	}
	a.cfg.Site.Redirect(w, r, a.cfg.AccountPath+"/security/totp")
}

func (a *Auth) postTOTP(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Code string `json:"code"`
	}
	err := web.Decode(w, r, &in)
	var codes []string
	if err == nil {
		codes, err = a.ConfirmTOTP(r.Context(), u.ID, in.Code, ClientOf(r))
	}
	if err != nil {
		page := a.totpPage()
		if setup, findErr := a.FindTOTPSetup(r.Context(), u.ID); findErr == nil {
			page.show(setup)
		}
		a.reject(w, r, "totp", page, err)
		return
	}
	a.showCodes(w, r, codes, "Your authenticator app is set up: a log-in asks for its code from now on. Other devices stay logged in unless you log them out.", a.cfg.AccountPath+"/security")
}

func (a *Auth) postRemoveTOTP(w http.ResponseWriter, r *http.Request, u User) {
	if err := a.RemoveTOTP(r.Context(), u.ID, ClientOf(r)); err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.done(w, r, "The authenticator app is removed.", "/security")
}

// codesPage is the data of backup-codes.html.
type codesPage struct {
	Codes []string `json:"backup_codes"`
	// File is the codes as a file to download: they are kept nowhere, so it is a part of the page.
	File template.URL `json:"-"`
	Next string       `json:"next"`
}

// showCodes shows new backup codes, once, or leads on where there are none.
func (a *Auth) showCodes(w http.ResponseWriter, r *http.Request, codes []string, message, next string) {
	if len(codes) == 0 {
		a.cfg.Site.Flash(w, web.FlashSuccess, message)
		a.cfg.Site.Redirect(w, r, next)
		return
	}
	if !web.WantsJSON(r) {
		a.cfg.Site.Flash(w, web.FlashSuccess, message)
	}
	text := "Backup codes of " + a.cfg.Site.Name() + "\n\n" + strings.Join(codes, "\n") + "\n"
	file := template.URL("data:text/plain;charset=utf-8," + url.PathEscape(text)) //nolint:gosec // G203: escaped just now
	a.views.Respond(w, r, http.StatusCreated, "backup-codes", codesPage{codes, file, next})
}

func (a *Auth) postBackupCodes(w http.ResponseWriter, r *http.Request, u User) {
	codes, err := a.RegenerateBackupCodes(r.Context(), u.ID, ClientOf(r))
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.showCodes(w, r, codes, "The old backup codes do not work any more.", a.cfg.AccountPath+"/security")
}

func (a *Auth) postBeginLink(w http.ResponseWriter, r *http.Request, u User) {
	s, err := a.BeginOAuth(r.Context(), BeginOAuthParams{Provider: r.PathValue("name"), UserID: u.ID, Next: a.cfg.AccountPath + "/security", Client: ClientOf(r)})
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.leave(w, r, s, r.PathValue("name"))
}

func (a *Auth) postUnlink(w http.ResponseWriter, r *http.Request, u User) {
	if err := a.Unlink(r.Context(), u.ID, r.PathValue("name"), ClientOf(r)); err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.done(w, r, "The account is unlinked.", "/security")
}

func (a *Auth) postAddPassword(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Password string `json:"password" trim:"no"`
	}
	err := web.Decode(w, r, &in)
	if err == nil {
		err = a.AddPassword(r.Context(), u.ID, in.Password, ClientOf(r))
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
	a.done(w, r, "Your password is set.", "/security")
}
