package auth_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/markbates/goth"
	"github.com/markbates/goth/providers/gitlab"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

func TestOAuth_AnotherSiteThatIsDownIsAskedAgainLater(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		p.down = true
		a := k.browser().post("/auth/oauth/acme")
		assert.Equal(t, http.StatusServiceUnavailable, a.StatusCode)
		assert.Contains(t, a.body, "did not answer")
		p.down = false
		assert.Equal(t, http.StatusServiceUnavailable, k.browser().post("/auth/oauth/acme").StatusCode, "nobody queues for it")
		k.clock.Advance(5 * time.Second)
		k.browser().through(p).leadsTo(t, "/account/")
	})
}

func TestOAuth_AFormThatAnotherSiteSendsLeadsToTheSameAnswer(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		p.issuer = "https://appleid.apple.com"
		b := k.browser()
		address := b.start("/auth/oauth/apple", "next", "/credits/")
		q, err := url.Parse(address)
		require.NoError(t, err)
		assert.Equal(t, "form_post", q.Query().Get("response_mode"))
		assert.NotContains(t, q.RawQuery, "+", "Apple takes no plus for a space")
		assert.Empty(t, q.Query().Get("code_challenge"))
		assert.NotEmpty(t, q.Query().Get("nonce"))
		back := p.visit(address)
		// The browser sends the form from Apple's page: without our cookies, and as a cross-site request.
		apple := k.browser()
		apple.header["Sec-Fetch-Site"], apple.header["Origin"] = "cross-site", "https://appleid.apple.com"
		form := apple.post(back.Path, "code", back.Query().Get("code"), "state", back.Query().Get("state"), "user", `{"name":{}}`)
		require.Equal(t, http.StatusSeeOther, form.StatusCode)
		location := form.Header.Get("Location")
		require.True(t, strings.HasPrefix(location, "/auth/oauth/apple/callback?"), location)
		assert.NotContains(t, location, "user")
		assert.Empty(t, p.exchanges, "the form itself changes nothing")
		b.get(location).leadsTo(t, "/credits/")
		assert.True(t, b.in())
		assert.Equal(t, http.StatusSeeOther, apple.post("/auth/oauth/x%2F..%2Fy/callback", "state", "s").StatusCode)
	}, func(cfg *auth.Config) { cfg.OAuth = []auth.OAuthProvider{auth.Apple(clientID, clientSecret)} })
}

func TestOAuth_MicrosoftsTenantsAndAddresses(t *testing.T) {
	const tenant = "9188040d-6c67-4c5b-b112-36a304b66dad"
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		p.issuer = "https://login.microsoftonline.com/{tenantid}/v2.0"
		p.claims["tid"] = tenant
		truth := func(c map[string]any) { c["iss"] = "https://login.microsoftonline.com/" + tenant + "/v2.0" }
		enter := func() answer {
			b := k.browser()
			back := p.visit(b.start("/auth/oauth/microsoft"))
			return b.get(back.RequestURI())
		}
		p.lie = truth
		a := enter()
		assert.Equal(t, http.StatusConflict, a.StatusCode, "email_verified means nothing there")
		assert.Contains(t, a.body, "does not confirm your e-mail address")
		p.claims["xms_edov"] = true
		enter().leadsTo(t, "/account/")
		for name, lie := range map[string]func(c map[string]any){
			"another tenant": func(c map[string]any) { truth(c); c["tid"] = "11111111-1111-1111-1111-111111111111" },
			"the template": func(c map[string]any) {
				c["iss"], c["tid"] = "https://login.microsoftonline.com/{tenantid}/v2.0", "{tenantid}"
			},
			"no tenant":          func(c map[string]any) { truth(c); delete(c, "tid") },
			"another site's iss": func(c map[string]any) { c["iss"] = "https://evil.example/" + tenant + "/v2.0" },
		} {
			p.lie = lie
			assert.Equal(t, http.StatusServiceUnavailable, enter().StatusCode, name)
		}
	}, func(cfg *auth.Config) {
		cfg.OAuth = []auth.OAuthProvider{auth.Microsoft(clientID, clientSecret, "common")}
	})
}

func TestOAuth_GoogleIsOpenIDConnect(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		p.issuer = "https://accounts.google.com"
		b := k.browser()
		back := p.visit(b.start("/auth/oauth/google"))
		b.get(back.RequestURI()).leadsTo(t, "/account/")
		assert.NotEmpty(t, p.exchanges[0].Get("code_verifier"))
	}, func(cfg *auth.Config) { cfg.OAuth = []auth.OAuthProvider{auth.Google(clientID, clientSecret)} })
}

// plain is another site that speaks OAuth without OpenID Connect, as GitHub and GitLab do.
type plain struct{ user, emails string }

func (p plain) RoundTrip(r *http.Request) (*http.Response, error) {
	body := `{"access_token":"access-2","token_type":"bearer"}`
	switch r.URL.Path {
	case "/user", "/api/v3/user":
		body = p.user
	case "/user/emails":
		body = p.emails
	default:
		if err := r.ParseForm(); err != nil {
			return nil, err
		}
		if len(r.PostForm.Get("code_verifier")) != 43 {
			return nil, errors.New("PKCE: there is no verifier")
		}
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func TestOAuth_GitHubVouchesForItsVerifiedPrimaryAddressOnly(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, _ *idp) {
		b := k.browser()
		address, err := url.Parse(b.start("/auth/oauth/github"))
		require.NoError(t, err)
		assert.Equal(t, "github.com", address.Host)
		assert.Equal(t, "S256", address.Query().Get("code_challenge_method"))
		a := b.json().get("/auth/oauth/github/callback?code=c&state=" + address.Query().Get("state"))
		assert.Equal(t, "oauth_email", code(t, a))
		assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_users`))
	}, func(cfg *auth.Config) {
		site := plain{`{"id":7,"login":"ada","name":"Ada","email":"typed@example.com"}`,
			`[{"email":"ada@example.com","primary":true,"verified":false},{"email":"typed@example.com","primary":false,"verified":true}]`}
		cfg.OAuth, cfg.OAuthClient = []auth.OAuthProvider{auth.GitHub(clientID, clientSecret)}, &http.Client{Transport: site}
	})
}

func TestOAuth_GitHubSignsUp(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, _ *idp) {
		b := k.browser()
		address, err := url.Parse(b.start("/auth/oauth/github"))
		require.NoError(t, err)
		b.get("/auth/oauth/github/callback?code=c&state="+address.Query().Get("state")).leadsTo(t, "/account/")
		u, err := k.FindUserByEmail(t.Context(), "ada@example.com")
		require.NoError(t, err)
		assert.Equal(t, "Ada", u.Name)
	}, func(cfg *auth.Config) {
		site := plain{user: `{"id":7,"name":"Ada","email":"typed@example.com"}`, emails: `[{"email":"ada@example.com","primary":true,"verified":true}]`}
		cfg.OAuth, cfg.OAuthClient = []auth.OAuthProvider{auth.GitHub(clientID, clientSecret)}, &http.Client{Transport: site}
	})
}

func TestOAuth_AnyProviderOfGoths(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, _ *idp) {
		b := k.browser()
		address, err := url.Parse(b.start("/auth/oauth/gitlab"))
		require.NoError(t, err)
		assert.NotEmpty(t, address.Query().Get("code_challenge"))
		b.get("/auth/oauth/gitlab/callback?code=c&state="+address.Query().Get("state")).leadsTo(t, "/account/")
		_, err = k.FindUserByEmail(t.Context(), "ada@example.com")
		require.NoError(t, err)
	}, func(cfg *auth.Config) {
		site := plain{user: `{"id":7,"email":"ada@example.com","name":"Ada","confirmed_at":"2020-01-01T00:00:00Z"}`}
		cfg.OAuthClient = &http.Client{Transport: site}
		cfg.OAuth = []auth.OAuthProvider{auth.Goth(auth.GothParams{Name: "gitlab", Label: "GitLab", PKCE: true,
			New: func(callback string) goth.Provider { return gitlab.New(clientID, clientSecret, callback) },
			VerifiedEmail: func(u goth.User) string {
				if u.RawData["confirmed_at"] == nil {
					return ""
				}
				return u.Email
			}})}
	})
}

func TestNew_TellsWhatIsWrongWithTheOtherSites(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]auth.OAuthProvider{
		"lower-case letters":   auth.OpenID("Acme", "", issuer, clientID, clientSecret),
		"not link":             auth.OpenID("link", "", issuer, clientID, clientSecret),
		"https issuer":         auth.OpenID("acme", "", "http://id.example", clientID, clientSecret),
		"client secret":        auth.Google(clientID, ""),
		"one of the functions": {Name: "acme"},
		"no function":          auth.Goth(auth.GothParams{Name: "acme"}),
	} {
		_, err := auth.New(auth.Config{OAuth: []auth.OAuthProvider{p}})
		require.ErrorContains(t, err, want)
	}
	_, err := auth.New(auth.Config{Secret: []byte("short"), OAuth: []auth.OAuthProvider{auth.Google("a", "b"), auth.Google("a", "b")}})
	require.ErrorContains(t, err, "google twice")
	require.ErrorContains(t, err, "Config.Secret must have 32 bytes")
}
