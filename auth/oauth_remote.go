package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/uuid"
	"github.com/markbates/goth"
	"github.com/markbates/goth/providers/github"
	"github.com/markbates/goth/providers/openidConnect"
)

// Bounds of a call to another site.
const (
	providerTimeout = 10 * time.Second
	maxProviderBody = 1 << 20
	// providerPause keeps people from queueing for a site that does not answer.
	providerPause = 5 * time.Second
)

// remote is a provider at work. What it needs of the other site is fetched at first use, so that an application starts
// while another site does not answer.
type remote struct {
	OAuthProvider
	callback string
	client   *http.Client
	clock    func() time.Time

	mu       sync.Mutex
	provider goth.Provider
	oidc     *oidc.Provider
	// again is when a site that did not answer is asked next.
	again time.Time
}

func newRemote(p OAuthProvider, callback string, client *http.Client, clock func() time.Time) *remote {
	if p.Label == "" {
		p.Label = p.Name
	}
	bounded := http.Client{Timeout: providerTimeout, Transport: http.DefaultTransport}
	if client != nil {
		bounded = *client
		if bounded.Transport == nil {
			bounded.Transport = http.DefaultTransport
		}
		if bounded.Timeout == 0 {
			bounded.Timeout = providerTimeout
		}
	}
	return &remote{OAuthProvider: p, callback: callback, client: &bounded, clock: clock}
}

// ready makes goth's provider.
func (p *remote) ready(ctx context.Context) (goth.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.provider != nil {
		return p.provider, nil
	}
	if p.clock().Before(p.again) {
		return nil, fmt.Errorf("%w (%s did not answer a moment ago)", ErrProvider, p.Name)
	}
	switch p.kind {
	case kindGitHub:
		made := github.New(p.clientID, p.secret, p.callback, "read:user", "user:email")
		made.HTTPClient = p.client
		p.provider = made
	case kindGoth:
		p.provider = p.goth(p.callback)
	case kindOpenID:
		// The keys are fetched with this context too, long after the request has ended.
		ctx := oidc.ClientContext(context.WithoutCancel(ctx), p.client)
		if p.isMicrosoft() {
			ctx = oidc.InsecureIssuerURLContext(ctx, p.discovered())
		}
		found, err := oidc.NewProvider(ctx, p.issuer)
		if err != nil {
			p.again = p.clock().Add(providerPause)
			return nil, fmt.Errorf("%w (discovery at %s: %w)", ErrProvider, p.issuer, err)
		}
		p.oidc = found
		e := found.Endpoint()
		made, err := openidConnect.NewCustomisedURL(p.clientID, p.secret, p.callback, e.AuthURL, e.TokenURL, p.issuer, "", "", "openid", "email", "profile")
		if err != nil {
			return nil, fmt.Errorf("auth: provider %s: %w", p.Name, err)
		}
		if p.form {
			made.SetAuthCodeOptions(map[string]string{"response_mode": "form_post"})
		}
		made.HTTPClient = p.client
		p.provider = made
	}
	return p.provider, nil
}

// isMicrosoft tells that the issuer is Microsoft's. Where any tenant may come, tokens name their own tenant's issuer.
func (p *remote) isMicrosoft() bool {
	return strings.HasPrefix(p.issuer, strings.TrimSuffix(fmt.Sprintf(microsoftIssuer, ""), "/v2.0"))
}

func (p *remote) tenant() string {
	return strings.TrimSuffix(strings.TrimPrefix(p.issuer, "https://login.microsoftonline.com/"), "/v2.0")
}

// anyTenant tells that the tenant is not known before the token comes.
func (p *remote) anyTenant() bool {
	return p.isMicrosoft() && slices.Contains([]string{"common", "organizations", "consumers"}, p.tenant())
}

// discovered is the issuer that the document of discovery names.
func (p *remote) discovered() string {
	if p.anyTenant() {
		return fmt.Sprintf(microsoftIssuer, "{tenantid}")
	}
	return p.issuer
}

// proof is what ties a log-in to one browser: derived from what only that browser has, and from the state.
type proof struct {
	state    string
	verifier string // of PKCE (RFC 7636)
	nonce    string // of OpenID Connect
}

// authURL is where to send the browser; again says that the other site is to ask who is there, whoever it knows.
func (p *remote) authURL(ctx context.Context, pr proof, again bool) (string, error) {
	provider, err := p.ready(ctx)
	if err != nil {
		return "", err
	}
	session, err := provider.BeginAuth(pr.state)
	if err != nil {
		return "", fmt.Errorf("%w (%s: begin: %w)", ErrProvider, p.Name, err)
	}
	address, err := session.GetAuthURL()
	if err != nil {
		return "", fmt.Errorf("%w (%s: begin: %w)", ErrProvider, p.Name, err)
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("%w (%s: begin: %w)", ErrProvider, p.Name, err)
	}
	// goth has no hook for these (markbates/goth#516).
	q := u.Query()
	if p.pkce {
		q.Set("code_challenge", challengeOf(pr.verifier))
		q.Set("code_challenge_method", "S256")
	}
	if p.kind == kindOpenID {
		q.Set("nonce", pr.nonce)
	}
	if again && p.prompt != "" {
		q.Set("prompt", p.prompt)
	}
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // Apple takes no plus for a space
	return u.String(), nil
}

// exchange asks the other site who came back with a code.
func (p *remote) exchange(ctx context.Context, pr proof, code string) (who claim, err error) {
	provider, err := p.ready(ctx)
	if err != nil {
		return who, err
	}
	client := *p.client
	client.Transport = &exchangeTransport{ctx: ctx, next: client.Transport, verifier: pr.verifier, pkce: p.pkce}
	provider, err = withClient(provider, &client, p.pkce)
	if err != nil {
		return who, err
	}
	session, err := provider.BeginAuth(pr.state)
	if err != nil {
		return who, fmt.Errorf("%w (%s: exchange: %w)", ErrProvider, p.Name, err)
	}
	if _, err := session.Authorize(provider, url.Values{"code": {code}, "state": {pr.state}}); err != nil {
		return who, fmt.Errorf("%w (%s: exchange: %w)", ErrProvider, p.Name, err)
	}
	switch p.kind {
	case kindOpenID:
		who, err = p.verifyToken(ctx, session, pr.nonce)
	case kindGitHub:
		who, err = p.gitHubUser(ctx, provider, session, &client)
	case kindGoth:
		who, err = p.gothUser(provider, session)
	}
	if err == nil && (who.Subject == "" || len(who.Subject) > 255) {
		err = errors.New("it names nobody")
	}
	if err != nil {
		return claim{}, fmt.Errorf("%w (%s: %w)", ErrProvider, p.Name, err)
	}
	who.Provider, who.Name = p.Name, cleanText(who.Name)
	return who, nil
}

// withClient is a copy of goth's provider that calls through client.
func withClient(provider goth.Provider, client *http.Client, needed bool) (goth.Provider, error) {
	v := reflect.ValueOf(provider)
	if v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
		if f := v.Elem().FieldByName("HTTPClient"); f.IsValid() && f.Type() == reflect.TypeFor[*http.Client]() {
			made := reflect.New(v.Type().Elem())
			made.Elem().Set(v.Elem())
			made.Elem().FieldByName("HTTPClient").Set(reflect.ValueOf(client))
			if p, ok := reflect.TypeAssert[goth.Provider](made); ok {
				return p, nil
			}
		}
	}
	if needed {
		return nil, fmt.Errorf("auth: PKCE cannot be used with %T, which has no field HTTPClient", provider)
	}
	return provider, nil
}

// exchangeTransport gives goth's calls what it does not: the request's context, a bound of the answer, and the verifier
// of PKCE in the exchange of the code.
type exchangeTransport struct {
	ctx      context.Context //nolint:containedctx // goth's providers take none
	next     http.RoundTripper
	verifier string
	pkce     bool
}

// RoundTrip implements http.RoundTripper.
func (t *exchangeTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(t.ctx, cancel)
	r = r.Clone(ctx)
	if t.pkce && r.Method == http.MethodPost && r.Body != nil && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		raw, err := io.ReadAll(io.LimitReader(r.Body, maxProviderBody))
		if err == nil {
			err = r.Body.Close()
		}
		if err != nil {
			stop()
			cancel()
			return nil, err
		}
		form, err := url.ParseQuery(string(raw))
		if err == nil && form.Get("grant_type") == "authorization_code" {
			form.Set("code_verifier", t.verifier)
			raw = []byte(form.Encode())
		}
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(string(raw))), int64(len(raw))
	}
	res, err := t.next.RoundTrip(r)
	if err != nil {
		stop()
		cancel()
		return nil, err
	}
	res.Body = &boundedBody{io.LimitReader(res.Body, maxProviderBody), res.Body, func() { stop(); cancel() }}
	return res, nil
}

type boundedBody struct {
	io.Reader
	body io.Closer
	done func()
}

func (b *boundedBody) Close() error {
	defer b.done()
	return b.body.Close()
}

// idClaims are what we read of an id_token or of userinfo.
type idClaims struct {
	Subject       string    `json:"sub"`
	Email         string    `json:"email"`
	EmailVerified looseBool `json:"email_verified"`
	Name          string    `json:"name"`
	Tenant        string    `json:"tid"`
	// DomainOwnerVerified is Microsoft's word that the domain's owner vouches for the address.
	DomainOwnerVerified looseBool `json:"xms_edov"`
}

func emailVerified(c idClaims) bool { return bool(c.EmailVerified) }

// looseBool reads true, "true" and 1, as some sites write it.
type looseBool bool

// UnmarshalJSON implements json.Unmarshaler.
func (b *looseBool) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	*b = looseBool(strings.EqualFold(text, "true") || text == "1")
	return nil
}

// verifyToken checks an id_token (OpenID Connect Core, 3.1.3.7): signature, issuer, audience, expiry, nonce. goth reads it
// without checking who signed it.
func (p *remote) verifyToken(ctx context.Context, session goth.Session, nonce string) (who claim, err error) {
	s, ok := session.(*openidConnect.Session)
	if !ok || s.IDToken == "" {
		return who, errors.New("there is no id_token")
	}
	verifier := p.oidc.Verifier(&oidc.Config{ClientID: p.clientID, Now: p.clock, SkipIssuerCheck: p.anyTenant()})
	token, err := verifier.Verify(oidc.ClientContext(ctx, p.client), s.IDToken)
	if err != nil {
		return who, fmt.Errorf("id_token: %w", err)
	}
	if !equalSecrets(token.Nonce, nonce) {
		return who, errors.New("id_token: the nonce is another one")
	}
	var claims idClaims
	if err := token.Claims(&claims); err != nil {
		return who, fmt.Errorf("id_token: %w", err)
	}
	if p.anyTenant() {
		if _, err := uuid.Parse(claims.Tenant); err != nil || token.Issuer != fmt.Sprintf(microsoftIssuer, claims.Tenant) {
			return who, errors.New("id_token: the issuer is not the tenant's")
		}
	}
	if claims.Email == "" {
		if err := p.userInfo(ctx, s.AccessToken, token.Subject, &claims); err != nil {
			return who, err
		}
	}
	return claim{Issuer: token.Issuer, Subject: token.Subject, Email: claims.Email, Verified: claims.Email != "" && p.vouches(claims), Name: claims.Name}, nil
}

// userInfo fills in what some sites tell at their userinfo endpoint only.
func (p *remote) userInfo(ctx context.Context, accessToken, subject string, claims *idClaims) error {
	if p.oidc.UserInfoEndpoint() == "" {
		return nil
	}
	info, err := p.oidc.UserInfo(oidc.ClientContext(ctx, p.client), bearer(accessToken))
	if err != nil {
		return fmt.Errorf("userinfo: %w", err)
	}
	if info.Subject != subject {
		return errors.New("userinfo: it is about somebody else")
	}
	return info.Claims(claims)
}

// gitHubUser asks for the verified addresses: the one of the profile is what the person typed.
func (p *remote) gitHubUser(ctx context.Context, provider goth.Provider, session goth.Session, client *http.Client) (who claim, err error) {
	u, err := provider.FetchUser(session)
	if err != nil {
		return who, err
	}
	if id, err := strconv.ParseInt(u.UserID, 10, 64); err != nil || id <= 0 {
		return who, errors.New("the user has no id")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.baseURL+"/user/emails", nil)
	if err != nil {
		return who, err
	}
	r.Header.Set("Authorization", "Bearer "+u.AccessToken)
	res, err := client.Do(r)
	if err != nil {
		return who, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return who, fmt.Errorf("the addresses: status %d", res.StatusCode)
	}
	var addresses []struct {
		Email    string `json:"email"`
		Primary  bool   `json:"primary"`
		Verified bool   `json:"verified"`
	}
	if err := json.NewDecoder(res.Body).Decode(&addresses); err != nil {
		return who, fmt.Errorf("the addresses: %w", err)
	}
	who = claim{Subject: u.UserID, Name: u.Name}
	for _, address := range addresses {
		if address.Primary {
			who.Email, who.Verified = address.Email, address.Verified
		}
	}
	return who, nil
}

func (p *remote) gothUser(provider goth.Provider, session goth.Session) (claim, error) {
	u, err := provider.FetchUser(session)
	if err != nil {
		return claim{}, err
	}
	who := claim{Subject: u.UserID, Email: u.Email, Name: u.Name}
	if p.verified != nil {
		if address := p.verified(u); address != "" {
			who.Email, who.Verified = address, true
		}
	}
	return who, nil
}
