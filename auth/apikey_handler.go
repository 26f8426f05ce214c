package auth

import (
	"net/http"
	"strings"
	"time"

	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// keyView is a key as its owner sees it.
type keyView struct {
	APIKey
	Expired bool `json:"expired"`
}

// ScopeText is what the key may do, in one line.
func (v keyView) ScopeText() string { return strings.Join(v.Scopes, " ") }

// ScopeText is what a key can be allowed, in one line.
func (p keysPage) ScopeText() string { return strings.Join(p.Scopes, " ") }

// keysPage is the data of api-keys.html.
type keysPage struct {
	AccountPath string    `json:"-"`
	User        User      `json:"-"`
	Keys        []keyView `json:"keys"`
	// Next is the URL of the page with older keys, empty on the last one.
	Next string `json:"next,omitempty"`
	// Scopes are what a key can be allowed.
	Scopes []string `json:"scopes"`
	// Name, ExpiresAt, Allowed and Networks are what was entered.
	Name      string `json:"-"`
	ExpiresAt string `json:"-"`
	Allowed   string `json:"-"`
	Networks  string `json:"-"`
	// Token is the new key, shown in this answer and never again.
	Token string `json:"-"`
}

func (a *Auth) keysPage(r *http.Request, u User) (keysPage, error) {
	page := keysPage{AccountPath: a.cfg.AccountPath, User: u, Scopes: a.cfg.KeyScopes}
	account, _ := AccountFrom(r.Context())
	keys, more, err := a.APIKeys(r.Context(), APIKeysParams{UserID: u.ID, AccountID: account.ID, Before: r.URL.Query().Get("before")})
	if err != nil {
		return page, err
	}
	page.Keys = make([]keyView, len(keys))
	for i, k := range keys {
		page.Keys[i] = keyView{k, k.ExpiresAt != nil && !k.ExpiresAt.After(a.now())}
	}
	if more {
		page.Next = older(a.cfg.AccountPath+"/api-keys", "before", keys[len(keys)-1].ID)
	}
	return page, nil
}

func (a *Auth) showKeys(w http.ResponseWriter, r *http.Request, u User) {
	page, err := a.keysPage(r, u)
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.views.Respond(w, r, http.StatusOK, "api-keys", page)
}

func (a *Auth) postKey(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Name      string `json:"name"`
		ExpiresAt string `json:"expires_at"`
		Scopes    string `json:"scopes"`
		Networks  string `json:"networks"`
	}
	var (
		key   APIKey
		token string
		until *time.Time
		from  networks
	)
	err := web.Decode(w, r, &in)
	if err == nil {
		until, err = parseExpiry(in.ExpiresAt)
	}
	if err == nil {
		from, err = parseNetworks(in.Networks)
	}
	if err == nil {
		account, _ := AccountFrom(r.Context())
		key, token, err = a.CreateAPIKey(r.Context(), CreateAPIKeyParams{UserID: u.ID, AccountID: account.ID, Name: in.Name, ExpiresAt: until, Scopes: strings.Fields(in.Scopes),
			Networks: from, Client: ClientOf(r)})
	}
	a.showKey(w, r, u, keysPage{Name: in.Name, ExpiresAt: in.ExpiresAt, Allowed: in.Scopes, Networks: in.Networks}, key, token, err)
}

// showKey answers with a new key, or with what was entered and err.
func (a *Auth) showKey(w http.ResponseWriter, r *http.Request, u User, entered keysPage, key APIKey, token string, err error) {
	if err == nil && web.WantsJSON(r) {
		web.JSON(w, http.StatusCreated, struct {
			Key   APIKey `json:"key"`
			Token string `json:"token"`
		}{key, token})
		return
	}
	page, pageErr := a.keysPage(r, u)
	switch {
	case pageErr != nil:
		a.cfg.Site.Fail(w, r, pageErr)
	case err != nil:
		page.Name, page.ExpiresAt, page.Allowed, page.Networks = entered.Name, entered.ExpiresAt, entered.Allowed, entered.Networks
		a.reject(w, r, "api-keys", page, err)
	default:
		page.Token = token
		a.views.Render(w, r, http.StatusCreated, "api-keys", page)
	}
}

// parseExpiry reads a day, at whose end (UTC) the key expires, or a moment (RFC 3339). Empty: never.
func parseExpiry(s string) (*time.Time, error) {
	if s == "" {
		return nil, nil
	}
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		end := day.AddDate(0, 0, 1)
		return &end, nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return nil, problem.Invalid(map[string]string{"expires_at": "Enter a day such as 2030-12-31, or none."})
	}
	return &at, nil
}

func (a *Auth) postRevokeKey(w http.ResponseWriter, r *http.Request, u User) {
	if err := a.RevokeAPIKey(r.Context(), u.ID, r.PathValue("id"), ClientOf(r)); err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.done(w, r, "The key is revoked.", "/api-keys")
}

func (a *Auth) postRegenerateKey(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		// Overlap is in hours.
		Overlap int `json:"overlap"`
	}
	err := web.Decode(w, r, &in)
	var (
		key   APIKey
		token string
	)
	if err == nil && in.Overlap > int(maxOverlap/time.Hour) {
		err = problem.Invalid(map[string]string{"overlap": "The old key can work for 7 days more at most."})
	}
	if err == nil {
		key, token, err = a.RegenerateAPIKey(r.Context(), RegenerateAPIKeyParams{UserID: u.ID, KeyID: r.PathValue("id"), Overlap: time.Duration(in.Overlap) * time.Hour, Client: ClientOf(r)})
	}
	if code := problem.From(err); code != nil && code.ErrorCode() == problem.CodeNotFound {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.showKey(w, r, u, keysPage{}, key, token, err)
}
