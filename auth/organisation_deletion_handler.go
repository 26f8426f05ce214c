package auth

import (
	"net/http"
	"strings"

	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// organisationEndRoutes are where the owners of an organisation delete and keep it.
func (a *Auth) organisationEndRoutes(mux *http.ServeMux) {
	at := a.cfg.AccountPath + "/organisation/delete"
	mux.Handle("GET "+at, a.signedIn(a.showOrganisationEnd))
	mux.Handle("POST "+at, a.recent(a.postOrganisationEnd))
	mux.Handle("POST "+at+"/cancel", a.signedIn(a.postKeepOrganisation))
}

// organisationEndPage is the data of organisation-delete.html.
type organisationEndPage struct {
	AccountPath  string       `json:"-"`
	Organisation Organisation `json:"organisation"`
	Members      int          `json:"members"`
	// Left says what is lost, a sentence each.
	Left []string `json:"left"`
	// Days are the grace before it is erased.
	Days int `json:"grace_days"`
}

// organisationEndPage is for owners; [ErrNoOrganisation] and [ErrOrgRole] for others.
func (a *Auth) organisationEndPage(r *http.Request, u User) (page organisationEndPage, err error) {
	account, _ := AccountFrom(r.Context())
	page = organisationEndPage{AccountPath: a.cfg.AccountPath, Days: a.graceDays()}
	if page.Organisation, err = a.FindOrganisation(r.Context(), u.ID, account.ID); err != nil {
		return page, err
	}
	if account.Role != OrgOwner {
		return page, ErrOrgRole
	}
	members, err := a.Members(r.Context(), u.ID, account.ID)
	if err != nil {
		return page, err
	}
	page.Members = len(members)
	page.Left, err = a.left(r.Context(), account.ID)
	return page, err
}

func (a *Auth) showOrganisationEnd(w http.ResponseWriter, r *http.Request, u User) {
	page, err := a.organisationEndPage(r, u)
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.views.Respond(w, r, http.StatusOK, "organisation-delete", page)
}

func (a *Auth) postOrganisationEnd(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Name string `json:"name"`
	}
	page, err := a.organisationEndPage(r, u)
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	err = web.Decode(w, r, &in)
	if err == nil && strings.TrimSpace(in.Name) != page.Organisation.Name {
		err = problem.Invalid(map[string]string{"name": "Enter the name of the organisation to confirm."})
	}
	if err == nil {
		_, err = a.AskForOrganisationDeletion(r.Context(), u.ID, page.Organisation.ID, ClientOf(r))
	}
	if err != nil {
		a.reject(w, r, "organisation-delete", page, err)
		return
	}
	a.done(w, r, page.Organisation.Name+" will be deleted. We have sent its members a mail about it.", "/organisation/delete")
}

func (a *Auth) postKeepOrganisation(w http.ResponseWriter, r *http.Request, u User) {
	account, _ := AccountFrom(r.Context())
	err := a.KeepOrganisation(r.Context(), u.ID, account.ID, ClientOf(r))
	a.finish(w, r, err, account.Name+" stays. API keys do not come back, and a plan that was ended can be resumed until its last day.")
}
