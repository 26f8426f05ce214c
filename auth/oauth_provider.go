package auth

import (
	"fmt"
	"net/url"
	"regexp"

	"github.com/markbates/goth"

	"github.com/quickscale/quickscale/internal/problem"
)

// OAuthProvider is another site by which people can log in. [Google], [GitHub], [Microsoft], [Apple], [OpenID] and
// [Goth] make one.
type OAuthProvider struct {
	// Name is its part of the addresses: lower-case letters, digits and hyphens. It is stored with what is linked, so it
	// must not change.
	Name string
	// Label is what people read. Empty: Name.
	Label string

	kind     providerKind
	clientID string
	secret   string
	issuer   string
	goth     func(callbackURL string) goth.Provider
	verified func(goth.User) string
	pkce     bool
	// claim tells whether an id_token vouches for its address.
	vouches func(idClaims) bool
	form    bool // the answer comes as a form that the other site's page sends
	// prompt has the other site ask anew who is there. Empty: it knows none.
	prompt  string
	baseURL string
}

type providerKind int

const (
	kindOpenID providerKind = iota + 1
	kindGitHub
	kindGoth
)

// The issuers of OpenID Connect.
const (
	googleIssuer    = "https://accounts.google.com"
	appleIssuer     = "https://appleid.apple.com"
	microsoftIssuer = "https://login.microsoftonline.com/%s/v2.0"
)

// Google is the site of Google accounts. PKCE and nonce are used.
func Google(clientID, clientSecret string) OAuthProvider {
	return OAuthProvider{Name: "google", Label: "Google", kind: kindOpenID, clientID: clientID, secret: clientSecret, issuer: googleIssuer, pkce: true, vouches: emailVerified, prompt: "select_account"}
}

// Microsoft is the site of Microsoft accounts; tenant is common, organizations, consumers or the id of one. PKCE and
// nonce are used. An address is believed only with the claim xms_edov, which the owner of the app adds to the token:
// others can be chosen freely by a tenant's administrator.
func Microsoft(clientID, clientSecret, tenant string) OAuthProvider {
	return OAuthProvider{Name: "microsoft", Label: "Microsoft", kind: kindOpenID, clientID: clientID, secret: clientSecret,
		issuer: fmt.Sprintf(microsoftIssuer, tenant), pkce: true, vouches: func(c idClaims) bool { return bool(c.DomainOwnerVerified) }, prompt: "login"}
}

// Apple is Sign in with Apple; clientSecret is the signed token that Apple's documentation tells to make, which dies
// after six months. The nonce is used; Apple does not document PKCE and it is not sent.
func Apple(clientID, clientSecret string) OAuthProvider {
	return OAuthProvider{Name: "apple", Label: "Apple", kind: kindOpenID, clientID: clientID, secret: clientSecret, issuer: appleIssuer, vouches: emailVerified, form: true}
}

// OpenID is any site that speaks OpenID Connect with discovery at issuer, such as a company's own. PKCE and nonce are
// used. An address is believed when the token says email_verified.
func OpenID(name, label, issuer, clientID, clientSecret string) OAuthProvider {
	return OAuthProvider{Name: name, Label: label, kind: kindOpenID, clientID: clientID, secret: clientSecret, issuer: issuer, pkce: true, vouches: emailVerified, prompt: "login"}
}

// GitHub is github.com. PKCE is used; there is no nonce, as it is no OpenID Connect. The primary address is believed when
// GitHub has verified it.
func GitHub(clientID, clientSecret string) OAuthProvider {
	return OAuthProvider{Name: "github", Label: "GitHub", kind: kindGitHub, clientID: clientID, secret: clientSecret, pkce: true, baseURL: "https://api.github.com"}
}

// GothParams describe a provider of goth's that has no function here.
type GothParams struct {
	Name, Label string
	// New makes the provider with the address to come back to.
	New func(callbackURL string) goth.Provider
	// VerifiedEmail returns the address that the provider vouches for, or "". Nil: it vouches for none, so that people can
	// link an account there and not sign up by it.
	VerifiedEmail func(goth.User) string
	// PKCE sends a challenge. The provider's type must have a field HTTPClient that its exchange of the code goes through.
	PKCE bool
}

// Goth is any provider of goth's (https://github.com/markbates/goth).
func Goth(p GothParams) OAuthProvider {
	return OAuthProvider{Name: p.Name, Label: p.Label, kind: kindGoth, goth: p.New, verified: p.VerifiedEmail, pkce: p.PKCE}
}

var providerName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,49}$`)

// check returns what is wrong with the provider.
func (p OAuthProvider) check() error {
	switch {
	case !providerName.MatchString(p.Name) || p.Name == "link":
		return fmt.Errorf("the name %q must be lower-case letters, digits and hyphens, and not link", p.Name)
	case p.kind == 0:
		return fmt.Errorf("%s must be made by one of the functions", p.Name)
	case p.kind == kindGoth && p.goth == nil:
		return fmt.Errorf("%s has no function that makes the provider", p.Name)
	case p.kind != kindGoth && (p.clientID == "" || p.secret == ""):
		return fmt.Errorf("%s needs a client id and a client secret", p.Name)
	}
	if p.kind == kindOpenID {
		if u, err := url.Parse(p.issuer); err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Host)) {
			return fmt.Errorf("%s needs an https issuer", p.Name)
		}
	}
	return nil
}

// Errors of other sites.
var (
	// ErrProvider: the other site does not answer, or answers what cannot be.
	ErrProvider error = problem.New(problem.CodeUnavailable, "The other site did not answer as it should. Try again in a moment, or log in in another way.")
	// ErrNoProvider: there is no such other site.
	ErrNoProvider error = problem.New(problem.CodeNotFound, "You cannot log in by this site.")
)
