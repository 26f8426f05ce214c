package quickscale

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/quickscale/quickscale/internal/seal"
	"github.com/quickscale/quickscale/internal/web"
)

// developmentSecret is what development seals with: known to everybody, so that mails survive a restart without any
// set-up. Production does not start with it.
const developmentSecret = "development-only-and-known-to-all"

// complete fills in the defaults; the error tells all faults by the field's name and the variable that sets it.
func (c Config) complete() (Config, error) {
	var faults []error
	if c.DB == nil {
		faults = append(faults, errors.New("quickscale: Config.DB is required"))
	}
	c.BaseURL = strings.TrimSuffix(c.BaseURL, "/")
	if c.Mode == "" {
		c.Mode = Production
	}
	var err error
	if c.Public, err = c.Public.complete(cmp.Or(c.Name, web.DefaultName), c.AdminEmail); err != nil {
		faults = append(faults, err)
	}
	if faults = append(faults, c.faults(c.BaseURL)...); len(faults) > 0 {
		return Config{}, errors.Join(faults...)
	}
	base, err := url.Parse(c.BaseURL)
	if err != nil { // it was looked at
		return Config{}, err
	}
	if c.SecretKey == "" {
		c.SecretKey = developmentSecret
	}
	c.StripeURL = strings.TrimSuffix(c.StripeURL, "/")
	if c.MailFrom == "" {
		c.MailFrom = "no-reply@" + mailHost(base.Hostname())
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// faults are all that is wrong, but for the database.
func (c Config) faults(baseURL string) []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("quickscale: "+format, args...)) }
	if c.Mode != Production && c.Mode != Development {
		fault("Config.Mode (QUICKSCALE_ENV) is %q; use production or development", c.Mode)
	}
	base, err := url.Parse(baseURL)
	switch {
	case baseURL == "":
		fault("Config.BaseURL (QUICKSCALE_BASE_URL) is required, such as https://app.example.com")
	case err != nil || base.Host == "" || (base.Scheme != "https" && base.Scheme != "http") || base.Path != "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil:
		fault("Config.BaseURL (QUICKSCALE_BASE_URL) must be a scheme and a host only, such as https://app.example.com")
	case c.Mode == Production && base.Scheme != "https":
		fault("Config.BaseURL (QUICKSCALE_BASE_URL) must be https in production")
	}
	if c.Mode == Production {
		faults = append(faults, c.productionFaults()...)
	}
	if c.SecretKey != "" && len(c.SecretKey) < seal.MinKeyBytes {
		fault("Config.SecretKey (QUICKSCALE_SECRET_KEY) needs %d bytes or more; make one with: openssl rand -hex 32", seal.MinKeyBytes)
	}
	if c.StripeKey != "" {
		if !strings.HasPrefix(c.StripeKey, "sk_") && !strings.HasPrefix(c.StripeKey, "rk_") {
			fault("Config.StripeKey (STRIPE_SECRET_KEY) must begin with sk_ or rk_; publishable keys (pk_) are not used")
		}
		if len(c.WebhookSecrets) == 0 {
			fault("Config.WebhookSecrets (STRIPE_WEBHOOK_SECRET) is required with a Stripe key; `stripe listen` or the endpoint's page shows it")
		}
	}
	if c.StripeURL != "" {
		faults = append(faults, c.stripeURLFaults()...)
	}
	return faults
}

// productionFaults are what development forgives.
func (c Config) productionFaults() []error {
	var faults []error
	if c.SecretKey == "" || c.SecretKey == developmentSecret {
		faults = append(faults, errors.New("quickscale: Config.SecretKey (QUICKSCALE_SECRET_KEY) is required in production; make one with: openssl rand -hex 32"))
	}
	if c.OutboundLoopback {
		faults = append(faults, errors.New("quickscale: Config.OutboundLoopback (QUICKSCALE_OUTBOUND_LOOPBACK) is for development: in production it opens this machine to whoever adds an endpoint"))
	}
	if c.StripeKey == "" {
		faults = append(faults, errors.New("quickscale: Config.StripeKey (STRIPE_SECRET_KEY) is required in production: the double is for development"))
	}
	if c.SMTPURL == "" && c.Mailer == nil {
		faults = append(faults, errors.New("quickscale: Config.SMTPURL (QUICKSCALE_SMTP_URL) is required in production: the outbox is for development"))
	}
	return faults
}

// stripeURLFaults keep what is meant for Stripe from going elsewhere.
func (c Config) stripeURLFaults() []error {
	var faults []error
	if u, err := url.Parse(c.StripeURL); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		faults = append(faults, errors.New("quickscale: Config.StripeURL (STRIPE_API_BASE) must be an address such as http://127.0.0.1:12111"))
	}
	if c.Mode == Production {
		faults = append(faults, errors.New("quickscale: Config.StripeURL (STRIPE_API_BASE) is for development; production uses Stripe"))
	}
	if c.StripeKey == "" || c.live() {
		faults = append(faults, errors.New("quickscale: Config.StripeURL (STRIPE_API_BASE) goes with a test key in Config.StripeKey (STRIPE_SECRET_KEY)"))
	}
	return faults
}

// live tells whether the Stripe key moves money.
func (c Config) live() bool {
	return strings.HasPrefix(c.StripeKey, "sk_live_") || strings.HasPrefix(c.StripeKey, "rk_live_")
}

// mailHost is the domain for a sender; an IP address is none.
func mailHost(host string) string {
	if net.ParseIP(host) != nil {
		return "localhost.invalid"
	}
	return host
}
