package auth

import (
	"net/http"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// profileRoutes are what a person tells about themselves, takes along, and leaves by.
func (a *Auth) profileRoutes(mux *http.ServeMux) {
	at := a.cfg.AccountPath
	mux.Handle("GET "+at+"/profile", a.signedIn(a.showProfile))
	mux.Handle("POST "+at+"/profile", a.signedIn(a.postProfile))
	mux.Handle("POST "+at+"/profile/picture", a.signedIn(a.postPicture))
	mux.Handle("POST "+at+"/profile/picture/remove", a.signedIn(a.postRemovePicture))
	mux.HandleFunc("GET "+at+"/profile/picture", func(w http.ResponseWriter, r *http.Request) { a.cfg.Site.Redirect(w, r, at+"/profile") })
	mux.Handle("GET "+at+"/picture/{id}", a.signedIn(a.showPicture))
	mux.Handle("GET "+at+"/export", a.signedIn(a.notImpersonated(a.showExport)))
	mux.Handle("POST "+at+"/export", a.recent(a.postExport))
	mux.Handle("GET "+at+"/delete", a.signedIn(a.showDelete))
	mux.Handle("POST "+at+"/delete", a.recent(a.postDelete))
	mux.Handle("POST "+at+"/delete/cancel", a.signedIn(a.postKeep))
}

// profilePage is the data of profile.html.
type profilePage struct {
	AccountPath string  `json:"-"`
	User        User    `json:"user"`
	Profile     Profile `json:"profile"`
	// Picture is the URL of the person's. Empty: none.
	Picture string `json:"picture,omitempty"`
	// Languages are those that mails can be in.
	Languages []languageChoice `json:"languages"`
}

// languageChoice is a language and what those who read it call it.
type languageChoice struct {
	Tag  string `json:"tag"`
	Name string `json:"name"`
}

func languageChoices(tags []string) []languageChoice {
	choices := make([]languageChoice, len(tags))
	for i, tag := range tags {
		choices[i] = languageChoice{tag, display.Self.Name(language.Make(tag))}
	}
	return choices
}

func (a *Auth) profilePage(r *http.Request, u User) (page profilePage, err error) {
	page = profilePage{AccountPath: a.cfg.AccountPath, User: u, Languages: languageChoices(a.mails.Languages())}
	if page.Profile, err = a.Profile(r.Context(), u.ID); err != nil {
		return page, err
	}
	id, err := a.PictureID(r.Context(), u.ID)
	if id != "" {
		page.Picture = a.cfg.AccountPath + "/picture/" + id
	}
	return page, err
}

func (a *Auth) showProfile(w http.ResponseWriter, r *http.Request, u User) {
	page, err := a.profilePage(r, u)
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.views.Respond(w, r, http.StatusOK, "profile", page)
}

// rejectProfile shows the page again with what was entered.
func (a *Auth) rejectProfile(w http.ResponseWriter, r *http.Request, u User, entered *Profile, err error) {
	page, pageErr := a.profilePage(r, u)
	if pageErr != nil {
		a.cfg.Site.Fail(w, r, pageErr)
		return
	}
	if entered != nil {
		page.Profile = *entered
	}
	a.reject(w, r, "profile", page, err)
}

func (a *Auth) postProfile(w http.ResponseWriter, r *http.Request, u User) {
	in, err := a.Profile(r.Context(), u.ID)
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	if !web.WantsJSON(r) {
		in.Notify = false // a box that is not ticked is not sent
	}
	if err = web.Decode(w, r, &in); err == nil {
		err = a.SetProfile(r.Context(), u.ID, in)
	}
	if err != nil {
		a.rejectProfile(w, r, u, &in, err)
		return
	}
	a.done(w, r, "Your profile is saved.", "/profile")
}

// exportPage is the data of export.html and delete.html.
type exportPage struct {
	AccountPath string `json:"-"`
	User        User   `json:"user"`
	// Days are the grace before an account is erased.
	Days int `json:"grace_days"`
	// Left says what is lost with the account, a sentence each; only delete.html has it.
	Left []string `json:"left,omitempty"`
}

// graceDays is Config.DeletionGrace in whole days.
func (a *Auth) graceDays() int { return int(a.cfg.DeletionGrace.Hours() / 24) }

func (a *Auth) exportPage(u User) exportPage {
	return exportPage{AccountPath: a.cfg.AccountPath, User: u, Days: a.graceDays()}
}

func (a *Auth) deletePage(r *http.Request, u User) (page exportPage, err error) {
	page = a.exportPage(u)
	page.Left, err = a.left(r.Context(), u.AccountID)
	return page, err
}

func (a *Auth) showExport(w http.ResponseWriter, r *http.Request, u User) {
	a.views.Respond(w, r, http.StatusOK, "export", a.exportPage(u))
}

func (a *Auth) postExport(w http.ResponseWriter, r *http.Request, u User) {
	out := &exportWriter{ResponseWriter: w}
	err := a.Export(r.Context(), out, u.ID, ClientOf(r))
	switch {
	case err == nil:
	case !out.begun:
		a.cfg.Site.Fail(w, r, err)
	default:
		a.cfg.Logger.ErrorContext(r.Context(), "export broke off", "user", u.ID, "error", err)
		panic(http.ErrAbortHandler) // half a file must not look like a whole one
	}
}

// exportWriter sends the headers of a download with its first bytes, so that a failure before them has a page.
type exportWriter struct {
	http.ResponseWriter

	begun bool
}

func (e *exportWriter) Write(p []byte) (int, error) {
	if !e.begun {
		e.begun = true
		e.Header().Set("Content-Type", "application/zip")
		e.Header().Set("Content-Disposition", `attachment; filename="account.zip"`)
		e.Header().Set("Cache-Control", "no-store")
	}
	return e.ResponseWriter.Write(p)
}

func (a *Auth) showDelete(w http.ResponseWriter, r *http.Request, u User) {
	page, err := a.deletePage(r, u)
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.views.Respond(w, r, http.StatusOK, "delete", page)
}

func (a *Auth) postDelete(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Email string `json:"email"`
	}
	err := web.Decode(w, r, &in)
	if address, bad := parseEmail(in.Email); err == nil && (bad != nil || address.shown != u.Email) {
		err = problem.Invalid(map[string]string{"email": "Enter the address of this account to confirm."})
	}
	if err == nil {
		session, _ := SessionFrom(r.Context())
		_, err = a.AskForDeletion(r.Context(), u.ID, session.ID, ClientOf(r))
	}
	if err != nil {
		page, pageErr := a.deletePage(r, u)
		if pageErr != nil {
			a.cfg.Site.Fail(w, r, pageErr)
			return
		}
		a.reject(w, r, "delete", page, err)
		return
	}
	a.done(w, r, "Your account will be deleted. We have sent you a mail about it.", "/delete")
}

func (a *Auth) postKeep(w http.ResponseWriter, r *http.Request, u User) {
	if err := a.CancelDeletion(r.Context(), u.ID, ClientOf(r)); err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.done(w, r, "Your account stays. API keys do not come back, and a plan that was ended can be resumed until its last day.", "/")
}
