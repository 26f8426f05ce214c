package auth

import (
	"net/http"
)

// memberKeyRoutes are where an organisation's managers look after all of its API keys.
func (a *Auth) memberKeyRoutes(mux *http.ServeMux) {
	at := a.cfg.AccountPath + "/organisation/api-keys"
	mux.Handle("GET "+at, a.signedIn(a.showMemberKeys))
	mux.Handle("POST "+at+"/{id}/revoke", a.recent(a.postRevokeMemberKey))
}

// memberKeysPage is the data of organisation-keys.html.
type memberKeysPage struct {
	AccountPath string          `json:"-"`
	Account     Account         `json:"account"`
	Keys        []memberKeyView `json:"keys"`
	// Next is the URL of the page with older keys, empty on the last one.
	Next string `json:"next,omitempty"`
	// Scopes are what a key can be allowed.
	Scopes []string `json:"-"`
}

// memberKeyView is a key as the manager who looks sees it.
type memberKeyView struct {
	MemberKey

	Expired bool `json:"expired"`
	// Ruled says that the manager may revoke it.
	Ruled bool `json:"-"`
}

// ScopeText is what the key may do, in one line.
func (v memberKeyView) ScopeText() string { return keyView{APIKey: v.APIKey}.ScopeText() }

func (a *Auth) showMemberKeys(w http.ResponseWriter, r *http.Request, u User) {
	account, _ := AccountFrom(r.Context())
	keys, more, err := a.OrganisationKeys(r.Context(), OrganisationKeysParams{ActorID: u.ID, OrganisationID: account.ID, Before: r.URL.Query().Get("before")})
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	page := memberKeysPage{AccountPath: a.cfg.AccountPath, Account: account, Keys: make([]memberKeyView, len(keys)), Scopes: a.cfg.KeyScopes}
	for i, k := range keys {
		page.Keys[i] = memberKeyView{k, k.ExpiresAt != nil && !k.ExpiresAt.After(a.now()), k.Role == "" || account.Role.mayRule(k.Role)}
	}
	if more {
		page.Next = older(a.cfg.AccountPath+"/organisation/api-keys", "before", keys[len(keys)-1].ID)
	}
	a.views.Respond(w, r, http.StatusOK, "organisation-keys", page)
}

func (a *Auth) postRevokeMemberKey(w http.ResponseWriter, r *http.Request, u User) {
	account, _ := AccountFrom(r.Context())
	err := a.RevokeMemberKey(r.Context(), MemberKeyParams{u.ID, account.ID, r.PathValue("id"), ClientOf(r)})
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.done(w, r, "The key is revoked.", "/organisation/api-keys")
}
