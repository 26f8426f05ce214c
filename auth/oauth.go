package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"golang.org/x/oauth2"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// oauthLifetime is how long a log-in at another site may take, and how long an offer to link waits.
const oauthLifetime = 10 * time.Minute

// Errors of a log-in by another site.
var (
	// ErrOAuthState: the browser comes back from a log-in that it did not begin, that took too long, or a second time.
	ErrOAuthState error = problem.New("oauth_state", "This log-in was not begun in this browser, took too long, or was used already. Begin again.")
	// ErrOAuthRefused: the other site or the person there said no.
	ErrOAuthRefused error = problem.New("oauth_refused", "You were not logged in at the other site. Begin again, or log in in another way.")
	// ErrOAuthEmail: the other site does not vouch for the person's address, so nobody can be signed up by it.
	ErrOAuthEmail error = problem.New("oauth_email", "The other site does not confirm your e-mail address. Log in or sign up by e-mail here, and link it on the page Security.")
	// ErrNoOffer: there is nothing to link.
	ErrNoOffer error = problem.New("nothing_to_link", "There is nothing to link here, or it took too long. Begin again from the page Security.")
)

// OAuthLink is another site by which people can log in, as pages show it.
type OAuthLink struct {
	Name  string `json:"name"`
	Label string `json:"label"`
}

// OAuthLinks are the sites of Config.OAuth in their order.
func (a *Auth) OAuthLinks() []OAuthLink {
	links := make([]OAuthLink, len(a.cfg.OAuth))
	for i, p := range a.cfg.OAuth {
		links[i] = OAuthLink{p.Name, a.labelOf(p.Name)}
	}
	return links
}

// labelOf is what people call a provider; its name when it is configured no more.
func (a *Auth) labelOf(name string) string {
	if p, ok := a.remotes[name]; ok {
		return p.Label
	}
	return name
}

// BeginOAuthParams say what a person wants of another site.
type BeginOAuthParams struct {
	// Provider is its name in Config.OAuth.
	Provider string
	// UserID is who links an account there. Empty: who wants to log in or sign up.
	UserID string
	// Next is the local path to go to afterwards. Empty: home.
	Next string
	// Remember makes the session last for Config.RememberLifetime.
	Remember bool
	// Again has the other site ask who is there, even if it knows: for who is to prove it anew.
	Again  bool
	Client Client
}

// OAuthStart is a log-in at another site that begins.
type OAuthStart struct {
	// URL is where to send the browser.
	URL string
	// Handle is for the browser to keep: who comes back without it is refused.
	Handle string
}

// BeginOAuth begins a log-in at another site. [ErrNoProvider]; [ErrNotFound] for an unknown user; [ErrProvider] when the site does not answer; a
// [*RetryError] when there were too many attempts.
func (a *Auth) BeginOAuth(ctx context.Context, p BeginOAuthParams) (s OAuthStart, err error) {
	site, ok := a.remotes[p.Provider]
	if !ok {
		return s, ErrNoProvider
	}
	if err := a.countAttempt(ctx, "oauth", a.cfg.Limits.LogIn, p.Client); err != nil {
		return s, err
	}
	handle, browser := newSecret()
	state, hash := newSecret()
	if s.URL, err = site.authURL(ctx, proofOf(handle, state), p.Again); err != nil {
		return OAuthStart{}, err
	}
	var owner *string
	if p.UserID != "" {
		if !isID(p.UserID) {
			return OAuthStart{}, ErrNotFound
		}
		owner = &p.UserID
	}
	const insert = `INSERT INTO qs_auth_oauth_flows (state_hash, browser_hash, provider, user_id, next, remember, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)`
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := a.db.ExecTx(ctx, tx, insert, hash, browser, p.Provider, owner, p.Next, p.Remember, database.At(a.now().Add(oauthLifetime)))
		return err
	})
	if database.IsForeignKeyViolation(err) {
		return OAuthStart{}, ErrNotFound
	}
	if err != nil {
		return OAuthStart{}, fmt.Errorf("auth: keep a log-in at %s: %w", p.Provider, err)
	}
	s.Handle = handle
	return s, nil
}

// proofOf derives what a log-in is checked by from the secret of the browser, so that nothing of it needs to be stored.
func proofOf(handle, state string) proof {
	derive := func(what string) string {
		mac := hmac.New(sha256.New, []byte(handle))
		_, _ = mac.Write([]byte(what + "\x00" + state)) // never fails (hash.Hash)
		return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	return proof{state: state, verifier: derive("pkce"), nonce: derive("nonce")}
}

// challengeOf is S256 of RFC 7636, 4.2.
func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func equalSecrets(a, b string) bool {
	return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// bearer is a token that does not change.
func bearer(token string) oauth2.TokenSource {
	return oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token, TokenType: "Bearer"})
}

// OAuthReturn is what a browser comes back with.
type OAuthReturn struct {
	// Provider is the one in the address.
	Provider string
	// State, Code, Error and Issuer are the parameters of the answer (RFC 6749, 4.1.2; RFC 9207).
	State, Code, Error, Issuer string
	// Handle is what the browser kept.
	Handle string
	// UserID is who is signed in. Empty: nobody.
	UserID string
	// Replaces is the token of the session that this browser had until now; it ends with a log-in. Empty: none.
	Replaces string
	Client   Client
}

// OAuthOutcome is where a log-in at another site has led to: one of its first three fields is set.
type OAuthOutcome struct {
	// SignedIn is the session that has begun.
	SignedIn *SignedIn
	// Linked is the provider whose account was linked to who is signed in.
	Linked string
	// Offered says that there is an account with the address of the other site's. Whoever logs in to it in this browser
	// within ten minutes can link it: see [Auth.Offer].
	Offered bool
	// Next is the local path to go to.
	Next string

	pending *SecondStepError
}

type flowRow struct {
	UserID    *string       `db:"user_id"`
	Next      string        `db:"next"`
	Remember  bool          `db:"remember"`
	ExpiresAt database.Time `db:"expires_at"`
}

// FinishOAuth ends a log-in at another site. Who comes by an account that is linked gets in; who is new is signed up
// when the other site vouches for their address; and where an account has that address, nothing happens before its
// owner logs in and agrees. [ErrOAuthState], [ErrOAuthRefused], [ErrOAuthEmail], [ErrProvider], [ErrNoProvider],
// [ErrIdentityTaken], [ErrDisabled]; a [*RetryError] when there were too many sign-ups; a [*SecondStepError] when a second
// step is to follow.
func (a *Auth) FinishOAuth(ctx context.Context, p OAuthReturn) (out OAuthOutcome, err error) {
	site, ok := a.remotes[p.Provider]
	if !ok {
		return out, ErrNoProvider
	}
	flow, err := a.takeFlow(ctx, p)
	if err != nil {
		return out, err
	}
	out.Next = flow.Next
	if flow.UserID != nil && *flow.UserID != p.UserID {
		return out, ErrOAuthState // another person has logged in meanwhile
	}
	if p.Error != "" || p.Code == "" {
		return out, ErrOAuthRefused
	}
	// The other site names itself, so that an answer of one is not taken for another's (RFC 9207).
	if site.kind == kindOpenID && p.Issuer != "" && p.Issuer != site.issuer && !site.anyTenant() {
		return out, ErrOAuthState
	}
	who, err := site.exchange(ctx, proofOf(p.Handle, p.State), p.Code)
	if err != nil {
		a.cfg.Logger.WarnContext(ctx, "a log-in by another site failed", "provider", p.Provider, "error", err)
		return out, ErrProvider
	}
	if flow.UserID != nil {
		err = a.linkTo(ctx, *flow.UserID, who, p.Client)
		if err == nil {
			out.Linked = site.Label
		}
		return out, err
	}
	if err := a.enterBy(ctx, &out, who, flow, p); err != nil {
		return OAuthOutcome{Next: flow.Next}, err
	}
	if out.pending != nil {
		return OAuthOutcome{Next: flow.Next}, out.pending
	}
	return out, nil
}

// takeFlow ends a log-in at another site that this browser began, whatever comes of it.
func (a *Auth) takeFlow(ctx context.Context, p OAuthReturn) (row flowRow, err error) {
	if !isSecret(p.State) || !isSecret(p.Handle) {
		return row, ErrOAuthState
	}
	const take = `DELETE FROM qs_auth_oauth_flows WHERE state_hash = ? AND browser_hash = ? AND provider = ? RETURNING user_id, next, remember, expires_at`
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		return a.db.GetTx(ctx, tx, &row, take, hashSecret(p.State), hashSecret(p.Handle), p.Provider)
	})
	if database.IsNoRows(err) || err == nil && !a.now().Before(row.ExpiresAt.Time) {
		return row, ErrOAuthState
	}
	if err != nil {
		return row, fmt.Errorf("auth: take a log-in at %s: %w", p.Provider, err)
	}
	return row, nil
}

func (a *Auth) linkTo(ctx context.Context, userID string, who claim, c Client) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if err != nil {
			return err
		}
		if u.VerifiedAt == nil {
			return ErrUnverified
		}
		return a.link(ctx, tx, u, who, c)
	})
}

// enterBy lets in who an account elsewhere belongs to, signs up who is new, or makes an offer.
func (a *Auth) enterBy(ctx context.Context, out *OAuthOutcome, who claim, flow flowRow, p OAuthReturn) error {
	entered := false
	err := a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		entered, *out = false, OAuthOutcome{Next: flow.Next}
		row, err := a.findIdentity(ctx, tx, who)
		if errors.Is(err, ErrNoIdentity) {
			return nil
		}
		if err != nil {
			return err
		}
		u, err := a.lockUser(ctx, tx, row.UserID)
		if err != nil {
			return err
		}
		// It may have been unlinked before the lock.
		const use = `UPDATE qs_auth_identities SET last_used_at = ? WHERE id = ? AND user_id = ?`
		n, err := a.db.ExecTx(ctx, tx, use, database.At(a.now()), row.ID, u.ID)
		if err != nil {
			return fmt.Errorf("auth: note the use of a linked account: %w", err)
		}
		if n == 0 {
			return nil
		}
		entered = true
		return a.oauthLogIn(ctx, tx, out, u, flow, p)
	})
	if err != nil || entered {
		return err
	}
	if !who.Verified {
		return ErrOAuthEmail
	}
	address, err := parseEmail(who.Email)
	if err != nil {
		return ErrOAuthEmail
	}
	if err := a.countAttempt(ctx, "signup", a.cfg.Limits.SignUp, p.Client); err != nil {
		return err
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		*out = OAuthOutcome{Next: flow.Next}
		return a.signUpBy(ctx, tx, out, who, address, flow, p)
	})
}

func (a *Auth) oauthLogIn(ctx context.Context, tx *sqlx.Tx, out *OAuthOutcome, u userRow, flow flowRow, p OAuthReturn) error {
	s, pending, err := a.passFirst(ctx, tx, u, firstStep{method: MethodOAuth, remember: flow.Remember, replaces: p.Replaces, client: p.Client})
	if err != nil {
		return err
	}
	out.SignedIn, out.pending = &s, pending
	return nil
}

// signUpBy makes an account for an address that another site vouches for. One that nobody confirmed is taken over:
// whoever made it has not shown that the address is theirs, so nothing of theirs stays.
func (a *Auth) signUpBy(ctx context.Context, tx *sqlx.Tx, out *OAuthOutcome, who claim, address email, flow flowRow, p OAuthReturn) error {
	name, err := parseName(who.Name)
	if err != nil {
		name = ""
	}
	made, err := a.insertUser(ctx, tx, newUser{email: address, name: name, role: RoleUser})
	if err != nil {
		return err
	}
	u, err := a.lockUserByEmail(ctx, tx, address)
	if err != nil {
		return err
	}
	if u.VerifiedAt != nil || u.DisabledAt != nil {
		out.Offered = true
		return a.offer(ctx, tx, u, who, flow, p)
	}
	if !made {
		if err := a.takeOver(ctx, tx, &u, address, name, p.Client); err != nil {
			return err
		}
	}
	if err := a.record(ctx, tx, u.ID, EventSignUp, p.Provider, p.Client); err != nil {
		return err
	}
	if made {
		if err := a.signedUp(ctx, tx, u); err != nil {
			return err
		}
	}
	if err := a.verify(ctx, tx, &u, p.Client); err != nil {
		return err
	}
	if err := a.link(ctx, tx, u, who, p.Client); err != nil {
		return err
	}
	return a.oauthLogIn(ctx, tx, out, u, flow, p)
}

// takeOver empties a locked account that nobody confirmed for who has just shown that the address is theirs.
func (a *Auth) takeOver(ctx context.Context, tx *sqlx.Tx, u *userRow, address email, name string, c Client) error {
	const update = `UPDATE qs_auth_users SET email = ?, name = ?, name_key = ?, password_hash = '', signup_ticket = NULL, failed_logins = 0, locked_until = NULL WHERE id = ?`
	if _, err := a.db.ExecTx(ctx, tx, update, address.shown, name, strings.ToLower(name), u.ID); err != nil {
		return fmt.Errorf("auth: take over the unverified user %s: %w", u.ID, err)
	}
	u.Email, u.Name, u.PasswordHash, u.SignupTicket, u.LockedUntil = address.shown, name, "", nil, nil
	if err := a.deleteFactors(ctx, tx, u.ID); err != nil {
		return err
	}
	if _, err := a.db.ExecTx(ctx, tx, `DELETE FROM qs_auth_identities WHERE user_id = ?`, u.ID); err != nil {
		return fmt.Errorf("auth: unlink all of user %s: %w", u.ID, err)
	}
	if err := a.endSessions(ctx, tx, u.ID, ""); err != nil {
		return err
	}
	if err := a.cancelTokens(ctx, tx, u.ID, purposeReset); err != nil {
		return err
	}
	return a.revokeKeys(ctx, tx, u.ID, c)
}

// Offer is an account elsewhere that can be linked once its owner has logged in here.
type Offer struct {
	// UserID is whose account it can be linked to.
	UserID   string `json:"-"`
	Provider string `json:"provider"`
	Email    string `json:"email"`
	// Next is the local path to go to afterwards.
	Next string `json:"-"`
}

type offerRow struct {
	UserID    string        `db:"user_id"`
	Provider  string        `db:"provider"`
	Issuer    string        `db:"issuer"`
	Subject   string        `db:"subject"`
	Email     string        `db:"email"`
	Next      string        `db:"next"`
	ExpiresAt database.Time `db:"expires_at"`
}

const offerColumns = `user_id, provider, issuer, subject, email, next, expires_at`

func (a *Auth) offer(ctx context.Context, tx *sqlx.Tx, u userRow, who claim, flow flowRow, p OAuthReturn) error {
	const insert = `INSERT INTO qs_auth_oauth_offers (browser_hash, ` + offerColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`
	_, err := a.db.ExecTx(ctx, tx, insert, hashSecret(p.Handle), u.ID, who.Provider, who.Issuer, who.Subject, cleanText(who.Email), flow.Next,
		database.At(a.now().Add(oauthLifetime)))
	if err != nil {
		return fmt.Errorf("auth: offer a link to user %s: %w", u.ID, err)
	}
	return nil
}

// Offer returns what waits in a browser to be linked; [ErrNoOffer] when nothing does.
func (a *Auth) Offer(ctx context.Context, handle string) (Offer, error) {
	if !isSecret(handle) {
		return Offer{}, ErrNoOffer
	}
	var row offerRow
	err := a.db.Get(ctx, &row, `SELECT `+offerColumns+` FROM qs_auth_oauth_offers WHERE browser_hash = ?`, hashSecret(handle))
	if database.IsNoRows(err) || err == nil && !a.now().Before(row.ExpiresAt.Time) {
		return Offer{}, ErrNoOffer
	}
	if err != nil {
		return Offer{}, fmt.Errorf("auth: find an offer: %w", err)
	}
	return Offer{row.UserID, row.Provider, row.Email, row.Next}, nil
}

// AcceptOffer links what waits in a browser to its owner, who has just logged in there. [ErrNoOffer], also to another
// user than its owner; [ErrIdentityTaken].
func (a *Auth) AcceptOffer(ctx context.Context, userID, handle string, c Client) (o Offer, err error) {
	if !isSecret(handle) {
		return o, ErrNoOffer
	}
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if errors.Is(err, ErrNotFound) {
			return ErrNoOffer
		}
		if err != nil {
			return err
		}
		var row offerRow
		err = a.db.GetTx(ctx, tx, &row, `DELETE FROM qs_auth_oauth_offers WHERE browser_hash = ? AND user_id = ? RETURNING `+offerColumns, hashSecret(handle), u.ID)
		if database.IsNoRows(err) || err == nil && !a.now().Before(row.ExpiresAt.Time) {
			return ErrNoOffer
		}
		if err != nil {
			return fmt.Errorf("auth: take an offer of user %s: %w", u.ID, err)
		}
		o = Offer{row.UserID, row.Provider, row.Email, row.Next}
		return a.link(ctx, tx, u, claim{Provider: row.Provider, Issuer: row.Issuer, Subject: row.Subject, Email: row.Email}, c)
	})
	return o, err
}
