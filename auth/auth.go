// Package auth keeps accounts that are entered by e-mail address and password: sign-up with a confirmed address, log-in,
// sessions, password reset, roles, API keys, and a record of what happened.
//
// Its answers never tell whether an address has an account; what it recognises again (session tokens, links, keys) is
// stored as a hash; and every count that decides about an attempt is kept in the database, so that any number of
// processes act as one. A user's id is the account id that the ledger and billing know.
//
// Only who shows that the mailbox and the password are theirs gets in: an address is confirmed in the browser that
// signed up, or in another one together with the password. Who is signed up by somebody else can confirm nothing by
// mistake, and becomes the owner of the account by choosing a new password.
package auth

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/seal"
	"github.com/quickscale/quickscale/internal/web"
	"github.com/quickscale/quickscale/mail"
)

var (
	//go:embed migrations
	migrations embed.FS
	//go:embed all:templates
	templates embed.FS
	//go:embed mails
	mails embed.FS
)

// Migrations are the schema changes, for those who migrate several packages at once.
func Migrations() database.Migrations { return database.Migrations{Name: "auth", FS: migrations} }

// Defaults of [Config].
const (
	DefaultPath             = "/auth"
	DefaultAccountPath      = "/account"
	DefaultSessionIdle      = 24 * time.Hour
	DefaultSessionLifetime  = 7 * 24 * time.Hour
	DefaultRememberLifetime = 30 * 24 * time.Hour
	DefaultRecentAuth       = 10 * time.Minute
	DefaultSessionCache     = time.Second
	DefaultMinPassword      = 8
	DefaultMaxFailures      = 5
	DefaultLockFor          = 5 * time.Minute
)

// maxSessionCache is the longest that a process may act on what it knows of a session.
const maxSessionCache = 10 * time.Second

// The bounds of MaxFailures and LockFor.
const (
	minMaxFailures, maxMaxFailures = 3, 20
	minLockFor, maxLockFor         = time.Minute, 24 * time.Hour
)

// Mailer has a message sent once tx is committed; *mail.Queue is one.
type Mailer interface {
	EnqueueTx(ctx context.Context, tx *sqlx.Tx, m mail.Message) error
}

// Panel is a card on the dashboard, such as the credit balance.
type Panel struct {
	Label string `json:"label"`
	Value string `json:"value"`
	// Note is a line under the value. Empty: none.
	Note string `json:"note,omitempty"`
	// URL and Action are the card's link. Empty: none.
	URL    string `json:"url,omitempty"`
	Action string `json:"action,omitempty"`
}

// Config is what [New] takes.
type Config struct {
	// DB is the database, PostgreSQL or SQLite. Required.
	DB *sqlx.DB
	// ReadDB is a pool for reading. Nil: DB. It must show what DB has committed: with a replica that lags, a session that
	// was ended would live on.
	ReadDB *sqlx.DB
	// Mail sends the links. Required.
	Mail Mailer
	// BaseURL is the site's address, https://example.com, which all links in mails begin with. Required.
	BaseURL string
	// Path is where the pages for entering are. Empty: /auth.
	Path string
	// AccountPath is where the pages of who is signed in are. Empty: /account.
	AccountPath string
	// Home is the path on this site where a log-in without ?next= leads. Empty: the dashboard.
	Home string
	// Site draws the pages. Nil: a plain one, whose cookies are Secure when BaseURL is https.
	Site *web.Site
	// MailTemplates replaces texts of mails by file name, such as auth.verify.txt, or de/auth.verify.txt for those in another
	// language (BCP 47); a folder for one that there are no texts in yet adds it. Nil: the library's, in English and German.
	MailTemplates fs.FS
	// MailLanguage tells what the reader of a mail reads: a language (BCP 47), or a list as in Accept-Language. It is called
	// in a transaction, for addresses without an account too, and must call nothing outside. Nil: what they chose in their
	// profile, or else English.
	MailLanguage func(ctx context.Context, address string) string
	// Panels gives the cards of the dashboard. Nil: none.
	Panels func(r *http.Request, u User) ([]Panel, error)
	// Overview gives the dashboard what others know of the account. Nil: nothing.
	Overview func(r *http.Request, u User) (Overview, error)
	// AdminEmail is the address whose account becomes [RoleAdmin] at the moment when it is verified. Empty: none.
	AdminEmail string
	// SessionIdle is how long a session lives without a request. 0: a day.
	SessionIdle time.Duration
	// SessionLifetime is how long a session lives at most. 0: 7 days.
	SessionLifetime time.Duration
	// RememberLifetime stands for both in sessions of who asked to be remembered. 0: 30 days.
	RememberLifetime time.Duration
	// RecentAuth is how long a proof of who somebody is counts for what [Auth.RequireRecentAuth] guards. 0: 10 minutes.
	RecentAuth time.Duration
	// SessionCache is how long a process may answer for a session from memory, 10 seconds at most. What ends or changes a
	// session or its user through the same process holds at once, through another one after this time at the latest.
	// 0: 1 second. Negative: each request reads its session.
	SessionCache time.Duration
	// TrustedProxies are the addresses of the host's own proxies. From them, and from them only, ProxyHeader is believed:
	// the client is the last address in it that is no proxy's. Nil: the client is the other end of the connection.
	TrustedProxies []netip.Prefix
	// ProxyHeader is the one header that the proxies write, X-Forwarded-For or Forwarded (RFC 7239); another one could be
	// the client's own. Empty: X-Forwarded-For.
	ProxyHeader string
	// MinPassword is the shortest password in characters, 8 or more. 0: 8.
	MinPassword int
	// MixedPasswords asks for upper-case and lower-case letters, digits and other signs, which NIST SP 800-63B advises
	// against.
	MixedPasswords bool
	// Breaches looks new passwords up among leaked ones. Nil: they are not.
	Breaches BreachChecker
	// MaxFailures is how many wrong passwords in a row lock an account, 3 to 20. 0: 5.
	MaxFailures int
	// LockFor is how long, a minute to a day. 0: 5 minutes.
	LockFor time.Duration
	// Secret seals what must be kept and read again, such as the secrets of authenticator apps: 32 bytes or more, the same
	// in every process. Nil: authenticator apps are not offered, and mails are ended only by who is logged in.
	Secret []byte
	// OAuth are other sites by which people can log in, in the order of their buttons. Each calls back at
	// BaseURL + Path + "/oauth/" + its name + "/callback". Nil: none.
	OAuth []OAuthProvider
	// OAuthClient calls them. Nil: one with a time limit of 10 seconds.
	OAuthClient *http.Client
	// WithoutOrganisations gives every person their own account and nothing else. Whoever is in an organisation already
	// does not act for it while it is set.
	WithoutOrganisations bool
	// Permissions are what roles may do beside the library's own, the host's permissions included. Nil: nothing more.
	Permissions map[Role][]Permission
	// ImpersonateFor is how long staff act as somebody else at most. 0: 30 minutes.
	ImpersonateFor time.Duration
	// AccountData is what others keep about accounts. Nil: nothing.
	AccountData []AccountData
	// DeletionGrace is how long an account whose deletion was asked for can still be kept. 0: 14 days.
	DeletionGrace time.Duration
	// StaffSecondFactor has staff log in with a second step only: who has none sets one up at the next log-in.
	StaffSecondFactor bool
	// Limits bound attempts. The zero value has the defaults of each.
	Limits Limits
	// KeyMode is what API keys begin with, and the only ones that let in: KeyLive, or KeyTest where nothing is at stake.
	// Empty: KeyLive.
	KeyMode KeyMode
	// KeyScopes are what an API key can be allowed, each of lower-case letters, digits and the signs : . _ -. Nil: "api"
	// alone.
	KeyScopes []string
	// HashConcurrency is how many passwords are hashed at once, of 19 MiB each. 0: one for each CPU, at least 2.
	HashConcurrency int
	// Hooks are told what happens to accounts. The zero value: nobody is.
	Hooks Hooks
	// Clock tells the time. Nil: time.Now.
	Clock func() time.Time
	// Logger gets one line "security event" for each security event with the fields event, user, detail, ip, agent and id
	// (event and agent are those of [Event], user and id are ids), and nothing else about the person. Nil: slog.Default.
	Logger *slog.Logger
}

// Auth keeps the accounts. Its methods are safe for concurrent use by any number of processes.
type Auth struct {
	cfg      Config
	db       *database.DB
	views    *web.Views
	mails    *mail.Templates
	hasher   *hasher
	sessions *sessionCache
	admin    string // AdminEmail in canonical form

	box     *seal.Box          // nil without a Secret
	stops   *seal.Box          // for links that end mails; nil without a Secret
	party   *webauthn.WebAuthn // nil where browsers tie no passkey to the address
	remotes map[string]*remote
}

// New checks cfg and reports all that is wrong with it at once. It calculates one hash, which takes some 30 ms.
func New(cfg Config) (*Auth, error) {
	setDefaults(&cfg)
	a := &Auth{cfg: cfg}
	faults := a.check()
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	var err error
	if a.db, err = database.New(cfg.DB, cfg.ReadDB); err != nil {
		return nil, err
	}
	if a.cfg.Site == nil {
		if a.cfg.Site, err = web.Alone(cfg.Path, web.Config{Logger: cfg.Logger, Secure: strings.HasPrefix(cfg.BaseURL, "https:"), Chrome: a.ownChrome}); err != nil {
			return nil, err
		}
	}
	if a.views, err = a.cfg.Site.Views("auth", templates, pageData()); err != nil {
		return nil, err
	}
	texts, err := fs.Sub(mails, "mails")
	if err != nil {
		return nil, fmt.Errorf("auth: texts of mails: %w", err)
	}
	if a.mails, err = mail.NewTemplates(mail.TemplatesConfig{Files: texts, Overrides: cfg.MailTemplates, Site: a.cfg.Site.Name()}); err != nil {
		return nil, err
	}
	if err := a.MailPreview().Check(); err != nil {
		return nil, err
	}
	a.hasher = newHasher(hashParams(), cfg.HashConcurrency)
	a.sessions = newSessionCache(cfg.SessionCache, cfg.Clock)
	if err := a.prepareFactors(); err != nil {
		return nil, err
	}
	return a, nil
}

func setDefaults(cfg *Config) {
	setDefault(&cfg.Path, DefaultPath)
	setDefault(&cfg.AccountPath, DefaultAccountPath)
	setDefault(&cfg.Home, cfg.AccountPath+"/")
	setDefault(&cfg.SessionIdle, DefaultSessionIdle)
	setDefault(&cfg.SessionLifetime, DefaultSessionLifetime)
	setDefault(&cfg.RememberLifetime, DefaultRememberLifetime)
	setDefault(&cfg.RecentAuth, DefaultRecentAuth)
	setDefault(&cfg.SessionCache, DefaultSessionCache)
	setDefault(&cfg.ImpersonateFor, DefaultImpersonateFor)
	setDefault(&cfg.DeletionGrace, DefaultDeletionGrace)
	setDefault(&cfg.ProxyHeader, headerForwardedFor)
	setDefault(&cfg.MinPassword, DefaultMinPassword)
	setDefault(&cfg.MaxFailures, DefaultMaxFailures)
	setDefault(&cfg.LockFor, DefaultLockFor)
	setDefault(&cfg.HashConcurrency, defaultHashConcurrency())
	setDefault(&cfg.KeyMode, KeyLive)
	if len(cfg.KeyScopes) == 0 {
		cfg.KeyScopes = []string{DefaultKeyScope}
	}
	cfg.Limits.setDefaults()
	cfg.BaseURL = strings.TrimSuffix(cfg.BaseURL, "/")
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// check returns what is wrong with the configuration.
func (a *Auth) check() (faults []error) {
	cfg := a.cfg
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("auth: Config."+format, args...)) }
	if cfg.DB == nil {
		fault("DB is required")
	}
	if cfg.Mail == nil {
		fault("Mail is required")
	}
	if u, err := url.Parse(cfg.BaseURL); err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		fault("BaseURL must be the site's address, such as https://example.com")
	}
	for name, p := range map[string]string{"Path": cfg.Path, "AccountPath": cfg.AccountPath} {
		if web.LocalPath(p, "") == "" || strings.HasSuffix(p, "/") || strings.ContainsAny(p, "?#{} ") {
			fault("%s must be a path that begins with a slash and ends without one, such as /auth", name)
		}
	}
	if cfg.Path == cfg.AccountPath {
		fault("Path and AccountPath must differ")
	}
	if web.LocalPath(cfg.Home, "") == "" {
		fault("Home must be a path on this site")
	}
	for name, d := range map[string]time.Duration{"SessionIdle": cfg.SessionIdle, "SessionLifetime": cfg.SessionLifetime, "RememberLifetime": cfg.RememberLifetime, "RecentAuth": cfg.RecentAuth, "ImpersonateFor": cfg.ImpersonateFor, "DeletionGrace": cfg.DeletionGrace} {
		if d < time.Minute {
			fault("%s must be a minute or more", name)
		}
	}
	if cfg.MinPassword < DefaultMinPassword || cfg.MinPassword > maxPassword {
		fault("MinPassword must be %d to %d", DefaultMinPassword, maxPassword)
	}
	if cfg.MaxFailures < minMaxFailures || cfg.MaxFailures > maxMaxFailures {
		fault("MaxFailures must be %d to %d", minMaxFailures, maxMaxFailures)
	}
	if cfg.LockFor < minLockFor || cfg.LockFor > maxLockFor {
		fault("LockFor must be %s to %s", minLockFor, maxLockFor)
	}
	if cfg.HashConcurrency < 1 {
		fault("HashConcurrency must be 1 or more")
	}
	for name, l := range cfg.Limits.all() {
		if l.Max < 1 || l.Per < time.Second {
			fault("Limits.%s must allow one attempt or more in a second or more", name)
		}
	}
	a.checkAccess(fault)
	faults = append(faults, a.checkFactors()...)
	faults = append(faults, a.checkPermissions()...)
	if cfg.AdminEmail != "" {
		address, err := parseEmail(cfg.AdminEmail)
		if err != nil {
			fault("AdminEmail is not an e-mail address")
		}
		a.admin = address.key
	}
	return faults
}

// checkAccess reports what is wrong about what is remembered of sessions, proxies and API keys.
func (a *Auth) checkAccess(fault func(format string, args ...any)) {
	cfg := a.cfg
	if cfg.SessionCache > maxSessionCache {
		fault("SessionCache must be %s at most", maxSessionCache)
	}
	if cfg.ProxyHeader != headerForwardedFor && cfg.ProxyHeader != headerForwarded {
		fault("ProxyHeader must be %s or %s", headerForwardedFor, headerForwarded)
	}
	for _, p := range cfg.TrustedProxies {
		if !p.IsValid() || p.Bits() == 0 {
			fault("TrustedProxies must hold addresses of proxies, and not all there are")
		}
	}
	if cfg.KeyMode != KeyLive && cfg.KeyMode != KeyTest {
		fault("KeyMode must be %s or %s", KeyLive, KeyTest)
	}
	for _, scope := range cfg.KeyScopes {
		if !isScope(scope) {
			fault("KeyScopes must be of lower-case letters, digits and the signs : . _ -, at most %d of them", maxScope)
		}
	}
}

// Migrate makes the tables or brings them up to date. Any number of processes may call it at once.
func (a *Auth) Migrate(ctx context.Context) error { return database.Migrate(ctx, a.db, Migrations()) }

func (a *Auth) now() time.Time { return database.Canonical(a.cfg.Clock()) }

// newID makes an id that grows with time.
func newID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("auth: make an id: %w", err)
	}
	return id.String(), nil
}

// isID tells that s is an id as newID writes them; PostgreSQL would take others for a mistake in the query.
func isID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}
