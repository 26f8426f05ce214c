package auth_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

const (
	issuer       = "https://id.example"
	clientID     = "client-1"
	clientSecret = "secret-1"
)

// idp is another site: a provider of OpenID Connect that signs its tokens and checks what the standard asks it to. Its
// person and its lies are set by tests.
type idp struct {
	t      *testing.T
	server *httptest.Server
	clock  *clock

	mu     sync.Mutex
	issuer string
	key    *rsa.PrivateKey
	claims map[string]any
	// lie changes the claims of an id_token just before it is signed.
	lie func(claims map[string]any)
	// signer signs instead of key.
	signer *rsa.PrivateKey
	// unsigned leaves the signature out (alg none).
	unsigned bool
	userinfo map[string]any
	down     bool
	grants   map[string]url.Values
	// exchanges are the forms that came to the token endpoint.
	exchanges []url.Values
}

var idpKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newIDP(t *testing.T) *idp {
	t.Helper()
	p := &idp{t: t, issuer: issuer, key: idpKey(), grants: map[string]url.Values{},
		claims: map[string]any{"sub": "ada-1", "email": "ada@example.com", "email_verified": true, "name": "Ada L"}}
	mux := http.NewServeMux()
	mux.HandleFunc("/", p.discover) // below the issuer's path, if it has one
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /keys", p.keys)
	mux.HandleFunc("GET /userinfo", p.info)
	p.server = httptest.NewServer(mux)
	t.Cleanup(p.server.Close)
	return p
}

// client calls the site whatever the address.
func (p *idp) client() *http.Client {
	to, err := url.Parse(p.server.URL)
	require.NoError(p.t, err)
	return &http.Client{Transport: reroute{to}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

type reroute struct{ to *url.URL }

func (r reroute) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL.Scheme, req.URL.Host = r.to.Scheme, r.to.Host
	return http.DefaultTransport.RoundTrip(req)
}

func (p *idp) discover(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down || !strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
		http.Error(w, "no", http.StatusServiceUnavailable)
		return
	}
	answerJSON(w, map[string]any{"issuer": p.issuer, "authorization_endpoint": "https://id.example/authorize", "token_endpoint": "https://id.example/token",
		"jwks_uri": "https://id.example/keys", "userinfo_endpoint": "https://id.example/userinfo", "id_token_signing_alg_values_supported": []string{"RS256"}})
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(body)
}

func (p *idp) authorize(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("client_id") != clientID || q.Get("response_type") != "code" || !strings.Contains(q.Get("scope"), "openid") {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	p.grants[code] = q
	back.RawQuery = url.Values{"code": {code}, "state": {q.Get("state")}}.Encode()
	w.Header().Set("Location", back.String())
	w.WriteHeader(http.StatusFound)
}

func (p *idp) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = r.ParseForm()
	p.exchanges = append(p.exchanges, r.PostForm)
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	grant, ok := p.grants[r.PostForm.Get("code")]
	delete(p.grants, r.PostForm.Get("code"))
	if !ok || id != clientID || secret != clientSecret || grant.Get("redirect_uri") != r.PostForm.Get("redirect_uri") {
		w.WriteHeader(http.StatusBadRequest)
		answerJSON(w, map[string]string{"error": "invalid_grant"})
		return
	}
	if want := grant.Get("code_challenge"); want != "" {
		sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
		if grant.Get("code_challenge_method") != "S256" || base64.RawURLEncoding.EncodeToString(sum[:]) != want {
			w.WriteHeader(http.StatusBadRequest)
			answerJSON(w, map[string]string{"error": "invalid_grant"})
			return
		}
	}
	now := p.clock.Now().Unix()
	claims := map[string]any{"iss": p.issuer, "aud": clientID, "iat": now, "exp": now + 600}
	if nonce := grant.Get("nonce"); nonce != "" {
		claims["nonce"] = nonce
	}
	maps.Copy(claims, p.claims)
	if p.lie != nil {
		p.lie(claims)
	}
	answerJSON(w, map[string]any{"access_token": "access-1", "token_type": "Bearer", "expires_in": 600, "id_token": p.sign(claims)})
}

func (p *idp) sign(claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	if p.unsigned {
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
	}
	key := p.key
	if p.signer != nil {
		key = p.signer
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil)
	if err != nil {
		panic(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		panic(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return text
}

func (p *idp) keys(w http.ResponseWriter, _ *http.Request) {
	answerJSON(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &p.key.PublicKey, KeyID: "k1", Algorithm: "RS256", Use: "sig"}}})
}

func (p *idp) info(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer access-1" || p.userinfo == nil {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	answerJSON(w, p.userinfo)
}

// visit goes to the other site as the browser does, says yes there, and returns the way back.
func (p *idp) visit(address string) *url.URL {
	p.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
	require.NoError(p.t, err)
	res, err := p.client().Do(r)
	require.NoError(p.t, err)
	defer res.Body.Close()
	require.Equal(p.t, http.StatusFound, res.StatusCode, address)
	back, err := url.Parse(res.Header.Get("Location"))
	require.NoError(p.t, err)
	return back
}

// runOAuth runs fn with an application that knows the other site under the name acme.
func runOAuth(t *testing.T, fn func(t *testing.T, k *kit, p *idp), change ...func(*auth.Config)) {
	t.Helper()
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		p := newIDP(t)
		k := newKit(t, db, append([]func(*auth.Config){func(cfg *auth.Config) {
			cfg.OAuth = []auth.OAuthProvider{auth.OpenID("acme", "Acme ID", issuer, clientID, clientSecret)}
			cfg.OAuthClient = p.client()
		}}, change...)...)
		p.clock = k.clock
		fn(t, k, p)
	})
}

var leavePattern = regexp.MustCompile(`http-equiv="refresh" content="0;url=([^"]+)"`)

// start presses the button of the other site and returns where it leads.
func (b *browser) start(path string, fields ...string) string {
	b.k.t.Helper()
	a := b.post(path, fields...)
	require.Equal(b.k.t, http.StatusOK, a.StatusCode, a.body)
	m := leavePattern.FindStringSubmatch(a.body)
	require.NotNil(b.k.t, m, a.body)
	return html.UnescapeString(m[1])
}

// through logs in by the other site.
func (b *browser) through(p *idp, fields ...string) answer {
	b.k.t.Helper()
	back := p.visit(b.start("/auth/oauth/acme", fields...))
	assert.Equal(b.k.t, "https://app.example/auth/oauth/acme/callback", back.Scheme+"://"+back.Host+back.Path)
	return b.get(back.RequestURI())
}
