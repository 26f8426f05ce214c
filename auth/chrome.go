package auth

import (
	"log/slog"
	"net/http"

	"github.com/quickscale/quickscale/internal/web"
)

// AddChrome adds to what surrounds a page what concerns the person who looks: the accounts that they can act for, and the
// banner while staff act as somebody else. A host that draws its pages by a [web.Config.Chrome] of its own calls it there.
func (a *Auth) AddChrome(r *http.Request, c *web.Chrome) {
	u, ok := UserFrom(r.Context())
	if !ok {
		return
	}
	session, _ := SessionFrom(r.Context())
	if session.ImpersonatorID != "" {
		c.Banner = &web.Banner{Email: u.Email, Until: session.ExpiresAt, StopURL: a.cfg.AccountPath + "/impersonation/stop"}
	}
	if a.cfg.WithoutOrganisations {
		return
	}
	c.OrganisationURL, c.SwitchURL = a.cfg.AccountPath+"/organisation", a.cfg.AccountPath+"/organisation/switch"
	accounts, err := a.accountsOf(r.Context(), u)
	if err != nil {
		// A page is worth showing without the menu in its header.
		a.cfg.Logger.ErrorContext(r.Context(), "organisations for the header", slog.Any("error", err))
		return
	}
	for _, account := range accounts {
		link := web.AccountLink{ID: account.ID, Name: account.Name, Current: account.ID == session.account.ID}
		if account.Personal() {
			link.Name = "My own account"
		}
		c.Accounts = append(c.Accounts, link)
	}
}

// ownChrome surrounds the pages where the host has no site.
func (a *Auth) ownChrome(r *http.Request) (c web.Chrome) {
	c.LoginURL, c.SignupURL, c.LogoutURL = a.cfg.Path+"/login", a.cfg.Path+"/signup", a.cfg.Path+"/logout"
	if u, ok := UserFrom(r.Context()); ok {
		c.Person = &web.Person{Name: u.Name, Email: u.Email, AccountURL: a.cfg.AccountPath + "/"}
	}
	a.AddChrome(r, &c)
	return c
}
