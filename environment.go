package quickscale

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
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
//   - STRIPE_SECRET_KEY, STRIPE_WEBHOOK_SECRET: the latter may hold several, separated by commas
//   - STRIPE_API_BASE: a double that runs by itself, in development
//
// Development, which has accounts and secrets that everybody knows, listens on a loopback address and is reached at
// one only, unless QUICKSCALE_ENV says development in so many words. What is missing for production is told by [New].
func FromEnvironment(getenv func(string) string) (Environment, error) {
	get := func(name, fallback string) string {
		if v := strings.TrimSpace(getenv(name)); v != "" {
			return v
		}
		return fallback
	}
	e := Environment{
		Addr:        get("QUICKSCALE_ADDR", DefaultAddr),
		DatabaseURL: get("QUICKSCALE_DATABASE_URL", DefaultDatabaseURL),
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
	var err error
	if e.Config.OAuth, err = oauthFrom(get); err != nil {
		return Environment{}, err
	}
	if e.Config.StaffSecondFactor, err = strconv.ParseBool(get("QUICKSCALE_STAFF_SECOND_FACTOR", "false")); err != nil {
		return Environment{}, errors.New("quickscale: QUICKSCALE_STAFF_SECOND_FACTOR must be true or false")
	}
	if e.Config.OutboundLoopback, err = strconv.ParseBool(get("QUICKSCALE_OUTBOUND_LOOPBACK", "false")); err != nil {
		return Environment{}, errors.New("quickscale: QUICKSCALE_OUTBOUND_LOOPBACK must be true or false")
	}
	if e.Config.TrustedProxies, err = prefixesFrom(get("QUICKSCALE_TRUSTED_PROXIES", "")); err != nil {
		return Environment{}, err
	}
	host, port, err := net.SplitHostPort(e.Addr)
	if err != nil {
		return Environment{}, fmt.Errorf("quickscale: QUICKSCALE_ADDR is %q; use host:port, such as %s", e.Addr, DefaultAddr)
	}
	fallback := ""
	if e.Config.Mode == Development {
		if get("QUICKSCALE_ENV", "") == "" {
			if err := staysHere(host, get("QUICKSCALE_BASE_URL", "")); err != nil {
				return Environment{}, err
			}
		}
		if host == "" || net.ParseIP(host).IsUnspecified() {
			host = "127.0.0.1"
		}
		fallback = "http://" + net.JoinHostPort(host, port)
	}
	e.Config.BaseURL = get("QUICKSCALE_BASE_URL", fallback)
	return e, nil
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
