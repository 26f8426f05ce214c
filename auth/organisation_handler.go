package auth

import (
	"errors"
	"net/http"
	"time"

	"github.com/quickscale/quickscale/internal/web"
)

// organisationRoutes are the pages of the account that a session acts for, and the link of an invitation. Where the
// host has turned organisations off there are none.
func (a *Auth) organisationRoutes(mux *http.ServeMux) {
	if a.cfg.WithoutOrganisations {
		return
	}
	at := a.cfg.AccountPath + "/organisation"
	mux.Handle("GET "+at, a.signedIn(a.showOrganisation))
	mux.Handle("POST "+at, a.signedIn(a.postOrganisation))
	mux.Handle("POST "+at+"/switch", a.signedIn(a.postSwitch))
	mux.Handle("POST "+at+"/name", a.signedIn(a.postOrgName))
	mux.Handle("POST "+at+"/leave", a.signedIn(a.postLeave))
	mux.Handle("POST "+at+"/invitations", a.signedIn(a.postInvite))
	mux.Handle("POST "+at+"/invitations/{id}/resend", a.signedIn(a.postResendInvitation))
	mux.Handle("POST "+at+"/invitations/{id}/revoke", a.signedIn(a.postRevokeInvitation))
	mux.Handle("POST "+at+"/members/{id}/role", a.recent(a.postMemberRole))
	mux.Handle("POST "+at+"/members/{id}/owner", a.recent(a.postTransfer))
	mux.Handle("POST "+at+"/members/{id}/remove", a.recent(a.postRemoveMember))
	a.organisationEndRoutes(mux)
	a.memberKeyRoutes(mux)
	// Where a form with a fault was shown again, who opens the address anew finds the form.
	for _, form := range []string{"/name", "/invitations"} {
		mux.HandleFunc("GET "+at+form, func(w http.ResponseWriter, r *http.Request) { a.cfg.Site.Redirect(w, r, at) })
	}
	mux.HandleFunc("GET "+a.cfg.Path+"/invitation", a.showInvitation)
	mux.HandleFunc("POST "+a.cfg.Path+"/invitation", a.postInvitation)
}

// organisationPage is the data of organisation.html.
type organisationPage struct {
	AccountPath string    `json:"-"`
	User        User      `json:"-"`
	Account     Account   `json:"account"`
	Accounts    []Account `json:"accounts"`
	// Members and Invitations are an organisation's; invitations are for who may manage them.
	Members     []memberView `json:"members"`
	Invitations []Invitation `json:"invitations"`
	Roles       []OrgRole    `json:"-"`
	// DeleteAt is when the organisation is erased. Nil: never.
	DeleteAt *time.Time `json:"delete_at,omitempty"`
	// Name, Email and Role are what was entered.
	Name  string  `json:"-"`
	Email string  `json:"-"`
	Role  OrgRole `json:"-"`
}

// memberView is a member as the person who looks sees them.
type memberView struct {
	Member

	// Self is the person who looks; Ruled says that they may change the member's role and remove them.
	Self  bool `json:"self"`
	Ruled bool `json:"-"`
}

func (a *Auth) organisationPage(r *http.Request, u User) (page organisationPage, err error) {
	account, _ := AccountFrom(r.Context())
	page = organisationPage{AccountPath: a.cfg.AccountPath, User: u, Account: account, Members: []memberView{}, Invitations: []Invitation{}, Role: OrgMember, Name: account.Name}
	if page.Accounts, err = a.Accounts(r.Context(), u.ID); err != nil || account.Personal() {
		return page, err
	}
	o, err := a.FindOrganisation(r.Context(), u.ID, account.ID)
	if err != nil {
		return page, err
	}
	page.DeleteAt = o.DeleteAt
	for _, role := range orgRoles {
		if account.Role.mayRule(role) {
			page.Roles = append(page.Roles, role)
		}
	}
	members, err := a.Members(r.Context(), u.ID, account.ID)
	if err != nil {
		return page, err
	}
	for _, m := range members {
		page.Members = append(page.Members, memberView{m, m.UserID == u.ID, account.Role.mayRule(m.Role) && m.UserID != u.ID})
	}
	if account.Role.MayManage() {
		page.Invitations, err = a.Invitations(r.Context(), u.ID, account.ID)
	}
	return page, err
}

func (a *Auth) showOrganisation(w http.ResponseWriter, r *http.Request, u User) {
	page, err := a.organisationPage(r, u)
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.views.Respond(w, r, http.StatusOK, "organisation", page)
}

// rejectOrganisation shows the page again with what was entered.
func (a *Auth) rejectOrganisation(w http.ResponseWriter, r *http.Request, u User, err error, entered func(page *organisationPage)) {
	page, pageErr := a.organisationPage(r, u)
	if pageErr != nil {
		a.cfg.Site.Fail(w, r, pageErr)
		return
	}
	entered(&page)
	a.reject(w, r, "organisation", page, err)
}

func (a *Auth) postOrganisation(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Name  string `json:"name"`
		Share bool   `json:"share"`
	}
	err := web.Decode(w, r, &in)
	var o Organisation
	if err == nil {
		session, _ := SessionFrom(r.Context())
		o, err = a.CreateOrganisation(r.Context(), CreateOrganisationParams{UserID: u.ID, Name: in.Name, Share: in.Share, SessionID: session.ID, Client: ClientOf(r)})
	}
	switch {
	case err != nil:
		a.rejectOrganisation(w, r, u, err, func(page *organisationPage) { page.Name = in.Name })
	case web.WantsJSON(r):
		web.JSON(w, http.StatusCreated, o)
	default:
		a.done(w, r, "The organisation is made. Invite the others now.", "/organisation")
	}
}

func (a *Auth) postSwitch(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Account string `json:"account"`
	}
	err := web.Decode(w, r, &in)
	if err == nil {
		session, _ := SessionFrom(r.Context())
		err = a.SwitchAccount(r.Context(), u.ID, session.ID, in.Account)
	}
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.cfg.Site.Redirect(w, r, a.cfg.Home)
}

func (a *Auth) postOrgName(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Name string `json:"name"`
	}
	account, _ := AccountFrom(r.Context())
	err := web.Decode(w, r, &in)
	if err == nil {
		err = a.RenameOrganisation(r.Context(), u.ID, account.ID, in.Name, ClientOf(r))
	}
	if err != nil {
		a.rejectOrganisation(w, r, u, err, func(page *organisationPage) { page.Name = in.Name })
		return
	}
	a.done(w, r, "The name is changed.", "/organisation")
}

func (a *Auth) postInvite(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Email string `json:"email"`
		Role  string `json:"role"`
	}
	account, _ := AccountFrom(r.Context())
	err := web.Decode(w, r, &in)
	var i Invitation
	if err == nil {
		i, err = a.Invite(r.Context(), InviteParams{ActorID: u.ID, OrganisationID: account.ID, Email: in.Email, Role: OrgRole(in.Role), Client: ClientOf(r)})
	}
	switch {
	case err != nil:
		a.rejectOrganisation(w, r, u, err, func(page *organisationPage) { page.Email, page.Role = in.Email, OrgRole(in.Role) })
	case web.WantsJSON(r):
		web.JSON(w, http.StatusCreated, i)
	default:
		a.done(w, r, "The invitation is on its way.", "/organisation")
	}
}

// finish answers to a button of the page.
func (a *Auth) finish(w http.ResponseWriter, r *http.Request, err error, message string) {
	if err != nil {
		a.retryAfter(w, err)
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.done(w, r, message, "/organisation")
}

func (a *Auth) postResendInvitation(w http.ResponseWriter, r *http.Request, u User) {
	account, _ := AccountFrom(r.Context())
	err := a.ResendInvitation(r.Context(), InvitationParams{u.ID, account.ID, r.PathValue("id"), ClientOf(r)})
	a.finish(w, r, err, "The invitation is on its way again. The link before does not work any more.")
}

func (a *Auth) postRevokeInvitation(w http.ResponseWriter, r *http.Request, u User) {
	account, _ := AccountFrom(r.Context())
	err := a.RevokeInvitation(r.Context(), InvitationParams{u.ID, account.ID, r.PathValue("id"), ClientOf(r)})
	a.finish(w, r, err, "The invitation is taken back.")
}

func memberParams(r *http.Request, u User, member string) MemberParams {
	account, _ := AccountFrom(r.Context())
	return MemberParams{ActorID: u.ID, OrganisationID: account.ID, UserID: member, Client: ClientOf(r)}
}

func (a *Auth) postMemberRole(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Role string `json:"role"`
	}
	err := web.Decode(w, r, &in)
	if err == nil {
		p := memberParams(r, u, r.PathValue("id"))
		p.Role = OrgRole(in.Role)
		err = a.SetMemberRole(r.Context(), p)
	}
	a.finish(w, r, err, "The role is changed.")
}

func (a *Auth) postTransfer(w http.ResponseWriter, r *http.Request, u User) {
	a.finish(w, r, a.TransferOwnership(r.Context(), memberParams(r, u, r.PathValue("id"))), "The ownership is given away. You are an administrator now.")
}

func (a *Auth) postRemoveMember(w http.ResponseWriter, r *http.Request, u User) {
	a.finish(w, r, a.RemoveMember(r.Context(), memberParams(r, u, r.PathValue("id"))), "The member is removed.")
}

func (a *Auth) postLeave(w http.ResponseWriter, r *http.Request, u User) {
	account, _ := AccountFrom(r.Context())
	if err := a.leaveOrganisation(r, u, account); err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.done(w, r, "You have left "+account.Name+".", "/")
}

// leaveOrganisation keeps the session in which it happens, and has it act for the person's own account.
func (a *Auth) leaveOrganisation(r *http.Request, u User, account Account) error {
	session, _ := SessionFrom(r.Context())
	if err := a.SwitchAccount(r.Context(), u.ID, session.ID, u.AccountID); err != nil {
		return err
	}
	err := a.RemoveMember(r.Context(), memberParams(r, u, u.ID))
	if err == nil {
		return nil
	}
	return errors.Join(err, a.SwitchAccount(r.Context(), u.ID, session.ID, account.ID))
}

// invitationPage is the data of invitation.html.
type invitationPage struct {
	Path string `json:"-"`
	// Token is that of the link, empty when the link does not work.
	Token      string      `json:"-"`
	Invitation *Invitation `json:"invitation,omitempty"`
	SignedIn   bool        `json:"signed_in"`
	// Email is who is signed in.
	Email string `json:"-"`
}

// showInvitation shows a button and changes nothing: mail scanners open links too.
func (a *Auth) showInvitation(w http.ResponseWriter, r *http.Request) {
	a.hideToken(w, r)
	u, signedIn := UserFrom(r.Context())
	page := invitationPage{Path: a.cfg.Path, SignedIn: signedIn, Email: u.Email}
	token := r.URL.Query().Get("token")
	i, err := a.FindInvitation(r.Context(), token)
	if err != nil {
		a.reject(w, r, "invitation", page, err)
		return
	}
	page.Token, page.Invitation = token, &i
	a.views.Respond(w, r, http.StatusOK, "invitation", page)
}

func (a *Auth) postInvitation(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Token string `json:"token"`
	}
	a.hideToken(w, r)
	u, signedIn := UserFrom(r.Context())
	if !signedIn {
		a.askToLogIn(w, r)
		return
	}
	page := invitationPage{Path: a.cfg.Path, SignedIn: true, Email: u.Email}
	err := web.Decode(w, r, &in)
	var o Organisation
	if err == nil {
		session, _ := SessionFrom(r.Context())
		o, err = a.AcceptInvitation(r.Context(), AcceptParams{Token: in.Token, UserID: u.ID, SessionID: session.ID, Client: ClientOf(r)})
	}
	switch {
	case err != nil:
		a.reject(w, r, "invitation", page, err)
	case web.WantsJSON(r):
		web.JSON(w, http.StatusOK, o)
	default:
		a.done(w, r, "Welcome to "+o.Name+".", "/organisation")
	}
}

// RequireAccount is [Auth.RequireUser] for those whose role in the account that they act for passes allowed, such as
// OrgRole.MayPay; others get [ErrOrgRole]. In their own account people have the role of an owner.
func (a *Auth) RequireAccount(allowed func(OrgRole) bool) func(next http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return a.RequireUser(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if account, _ := AccountFrom(r.Context()); !allowed(account.Role) {
				a.cfg.Site.Fail(w, r, ErrOrgRole)
				return
			}
			next.ServeHTTP(w, r)
		}))
	}
}
