package quickscale

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/quickscale/quickscale/auth"
)

// Defaults of the environment.
const (
	DefaultAddr        = "127.0.0.1:8080"
	DefaultDatabaseURL = "sqlite:quickscale.db"
)

// Environment is what the variables say, for programs that are configured by them.
type Environment struct {
	// Config lacks only DB and ReadDB.
	Config Config
	// Addr is where to listen (QUICKSCALE_ADDR).
	Addr string
	// DatabaseURL is for [Open] (QUICKSCALE_DATABASE_URL).
	DatabaseURL string
	// MetricsToken is what a scrape of /metrics must send (QUICKSCALE_METRICS_TOKEN). Empty: it comes from this machine.
	MetricsToken string
}

// FromEnvironment reads the variables through getenv, such as os.Getenv:
//
//   - QUICKSCALE_ENV: development (the default) or production
//   - QUICKSCALE_ADDR: where to listen; 127.0.0.1:8080
//   - QUICKSCALE_BASE_URL: how people reach it; http:// and the address in development
//   - QUICKSCALE_DATABASE_URL: sqlite:quickscale.db, or postgres://…
//   - QUICKSCALE_SECRET_KEY, QUICKSCALE_SMTP_URL, QUICKSCALE_ADMIN_EMAIL
//   - QUICKSCALE_OAUTH_<SITE>_CLIENT_ID and _CLIENT_SECRET, where SITE is GOOGLE, GITHUB, MICROSOFT, APPLE or OIDC: another
//     site by which people can log in. QUICKSCALE_OAUTH_MICROSOFT_TENANT is common unless it says another one;
//     QUICKSCALE_OAUTH_OIDC_ISSUER is the address of any site that speaks OpenID Connect, _LABEL what people call it
//   - QUICKSCALE_STAFF_SECOND_FACTOR: true opens the back office only to who logs in with a second step
//   - QUICKSCALE_OUTBOUND_LOOPBACK: true lets the endpoints of webhooks to customers be on this machine, in development
//   - QUICKSCALE_TRUSTED_PROXIES: addresses or networks of reverse proxies, separated by commas, such as 10.0.0.0/8
//   - QUICKSCALE_METRICS_TOKEN: what a scrape of /metrics must send, 16 bytes or more; without it only this machine may
//   - STRIPE_SECRET_KEY, STRIPE_WEBHOOK_SECRET: the latter may hold several, separated by commas
//   - STRIPE_API_BASE: a double that runs by itself, in development
//
// Development, which has accounts and secrets that everybody knows, listens on a loopback address and is reached at
// one only, unless QUICKSCALE_ENV says development in so many words. The error tells all faults at once, by the names of
// the variables, also those that [New] would tell; what is missing for production is no fault of a variable, and told by
// [New]. [Settings] adds a file and the command line.
func FromEnvironment(getenv func(string) string) (Environment, error) {
	get := func(name, fallback string) string {
		if v := strings.TrimSpace(getenv(name)); v != "" {
			return v
		}
		return fallback
	}
	e := Environment{
		Addr:        get("QUICKSCALE_ADDR", DefaultAddr),
		DatabaseURL: get("QUICKSCALE_DATABASE_URL", DefaultDatabaseURL), MetricsToken: get("QUICKSCALE_METRICS_TOKEN", ""),
		Config: Config{
			Mode:       Mode(get("QUICKSCALE_ENV", string(Development))),
			SecretKey:  get("QUICKSCALE_SECRET_KEY", ""),
			StripeKey:  get("STRIPE_SECRET_KEY", ""),
			StripeURL:  get("STRIPE_API_BASE", ""),
			SMTPURL:    get("QUICKSCALE_SMTP_URL", ""),
			AdminEmail: get("QUICKSCALE_ADMIN_EMAIL", ""),
		},
	}
	for secret := range strings.SplitSeq(get("STRIPE_WEBHOOK_SECRET", ""), ",") {
		if secret = strings.TrimSpace(secret); secret != "" {
			e.Config.WebhookSecrets = append(e.Config.WebhookSecrets, secret)
		}
	}
	var faults []error
	fault := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	var err error
	e.Config.OAuth, err = oauthFrom(get)
	fault(err)
	for name, to := range map[string]*bool{"QUICKSCALE_STAFF_SECOND_FACTOR": &e.Config.StaffSecondFactor, "QUICKSCALE_OUTBOUND_LOOPBACK": &e.Config.OutboundLoopback} {
		if *to, err = strconv.ParseBool(get(name, "false")); err != nil {
			fault(fmt.Errorf("quickscale: %s must be true or false", name))
		}
	}
	e.Config.TrustedProxies, err = prefixesFrom(get("QUICKSCALE_TRUSTED_PROXIES", ""))
	fault(err)
	if e.MetricsToken != "" && len(e.MetricsToken) < leastToken {
		fault(fmt.Errorf("quickscale: QUICKSCALE_METRICS_TOKEN needs %d bytes or more; make one with: openssl rand -hex 16", leastToken))
	}
	base, err := e.baseURL(get)
	fault(err)
	e.Config.BaseURL = base
	if len(faults) > 0 {
		// With what else is wrong, so that nothing is told only when this is mended.
		slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return Environment{}, errors.Join(append(faults, e.Config.faults(base)...)...)
	}
	return e, nil
}

// leastToken is how many bytes a token has at least.
const leastToken = 16

// baseURL is how people reach the application; in development the address where it listens, unless it is given.
func (e Environment) baseURL(get func(name, fallback string) string) (string, error) {
	given := get("QUICKSCALE_BASE_URL", "")
	host, port, err := net.SplitHostPort(e.Addr)
	if err != nil {
		return given, fmt.Errorf("quickscale: QUICKSCALE_ADDR is %q; use host:port, such as %s", e.Addr, DefaultAddr)
	}
	if e.Config.Mode != Development {
		return given, nil
	}
	if get("QUICKSCALE_ENV", "") == "" {
		if err := staysHere(host, given); err != nil {
			return given, err
		}
	}
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1"
	}
	return get("QUICKSCALE_BASE_URL", "http://"+net.JoinHostPort(host, port)), nil
}

// prefixesFrom reads addresses and networks.
func prefixesFrom(list string) (prefixes []netip.Prefix, err error) {
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(part)
		if err != nil {
			address, addressErr := netip.ParseAddr(part)
			if addressErr != nil {
				return nil, fmt.Errorf("quickscale: QUICKSCALE_TRUSTED_PROXIES has %q; use addresses or networks such as 10.0.0.0/8", part)
			}
			prefix = netip.PrefixFrom(address, address.BitLen())
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, nil
}

// oauthFrom reads the other sites by which people can log in.
func oauthFrom(get func(name, fallback string) string) (sites []auth.OAuthProvider, err error) {
	for _, site := range []struct {
		name string
		make func(id, secret string) auth.OAuthProvider
	}{
		{"GOOGLE", auth.Google},
		{"GITHUB", auth.GitHub},
		{"MICROSOFT", func(id, secret string) auth.OAuthProvider {
			return auth.Microsoft(id, secret, get("QUICKSCALE_OAUTH_MICROSOFT_TENANT", "common"))
		}},
		{"APPLE", auth.Apple},
		{"OIDC", func(id, secret string) auth.OAuthProvider {
			return auth.OpenID("oidc", get("QUICKSCALE_OAUTH_OIDC_LABEL", "single sign-on"), get("QUICKSCALE_OAUTH_OIDC_ISSUER", ""), id, secret)
		}},
	} {
		variable := "QUICKSCALE_OAUTH_" + site.name + "_CLIENT_"
		id, secret := get(variable+"ID", ""), get(variable+"SECRET", "")
		switch {
		case id == "" && secret == "":
		case id == "":
			return nil, fmt.Errorf("quickscale: %sID is required with %sSECRET", variable, variable)
		case secret == "":
			return nil, fmt.Errorf("quickscale: %sSECRET is required with %sID", variable, variable)
		case site.name == "OIDC" && get("QUICKSCALE_OAUTH_OIDC_ISSUER", "") == "":
			return nil, errors.New("quickscale: QUICKSCALE_OAUTH_OIDC_ISSUER is required with QUICKSCALE_OAUTH_OIDC_CLIENT_ID")
		default:
			sites = append(sites, site.make(id, secret))
		}
	}
	return sites, nil
}

// staysHere refuses a development that nobody asked for and that others can reach: by its own address, or by a proxy
// on the same machine.
func staysHere(host, baseURL string) error {
	const known = ", and development has accounts with a known password; set QUICKSCALE_ENV=production, or QUICKSCALE_ENV=development if that is what you want"
	if !isLoopback(host) {
		return errors.New("quickscale: QUICKSCALE_ADDR is open to other machines" + known)
	}
	if u, err := url.Parse(baseURL); baseURL != "" && err == nil && !isLoopback(u.Hostname()) {
		return errors.New("quickscale: QUICKSCALE_BASE_URL is an address for other machines" + known)
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
