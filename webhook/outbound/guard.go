package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// ErrForbiddenAddress is the cause when an endpoint's name leads to an address that must not be called.
var ErrForbiddenAddress = errors.New("outbound: the address is not on the public internet")

// forbidden are the networks that are not the public internet, from the IANA registries of special-purpose addresses
// for IPv4 and IPv6, and the addresses of cloud metadata that lie outside of those. What netip tells by itself is not
// repeated.
var forbidden = prefixes(
	"0.0.0.0/8",        // this network (RFC 791)
	"100.64.0.0/10",    // carrier-grade NAT (RFC 6598); a cloud's metadata too
	"168.63.129.16/32", // Azure's platform services
	"192.0.0.0/24",     // IETF protocol assignments (RFC 6890); a cloud's metadata too
	"192.0.2.0/24",     // documentation (RFC 5737)
	"192.88.99.0/24",   // 6to4 relays (RFC 7526)
	"198.18.0.0/15",    // benchmarks (RFC 2544)
	"198.51.100.0/24",  // documentation
	"203.0.113.0/24",   // documentation
	"240.0.0.0/4",      // reserved, broadcast
	"::/96",            // IPv4-compatible (RFC 4291, deprecated)
	"::ffff:0:0:0/96",  // IPv4-translated (RFC 2765)
	"64:ff9b::/96",     // NAT64: leads to an IPv4 address of its own (RFC 6052)
	"64:ff9b:1::/48",   // local NAT64 (RFC 8215)
	"100::/64",         // discard (RFC 6666)
	"2001::/23",        // IETF protocol assignments, Teredo among them
	"2001:db8::/32",    // documentation
	"2002::/16",        // 6to4: leads to an IPv4 address of its own
	"3fff::/20",        // documentation (RFC 9637)
	"5f00::/16",        // segment routing (RFC 9602)
	"fec0::/10",        // site-local (RFC 3879, deprecated)
)

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// Allowed tells whether an endpoint may be at an address: on the public internet, and so not private, loopback,
// link-local, multicast, carrier-grade NAT, cloud metadata or reserved, nor an IPv6 form of such an IPv4 address.
func Allowed(address netip.Addr) bool {
	a := address.Unmap().WithZone("")
	if !a.IsValid() || !a.IsGlobalUnicast() || a.IsPrivate() {
		return false // IsGlobalUnicast leaves out loopback, link-local, multicast, broadcast and unspecified
	}
	for _, p := range forbidden {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// guard is what a dial is checked with.
type guard struct{ loopback bool }

func (g guard) allows(address netip.Addr) bool {
	return Allowed(address) || g.loopback && address.Unmap().IsLoopback()
}

// control refuses a connection before it is made. It sees the address that the name was resolved to, so a name that
// leads elsewhere the second time (DNS rebinding) does not get past it.
func (g guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return ErrForbiddenAddress
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrForbiddenAddress, address)
	}
	if !g.allows(to.Addr()) {
		// The address itself is not told: it may be of use to who tries names.
		return ErrForbiddenAddress
	}
	return nil
}

// checkURL tells what is wrong with an endpoint's address, empty when nothing is.
func (g guard) checkURL(raw string) string {
	const maxURL = 2048
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Host == "", u.Hostname() == "", len(raw) > maxURL:
		return "Give a full address, such as https://example.com/webhooks."
	case u.User != nil:
		return "The address must not hold a user name or password."
	case u.Fragment != "":
		return "The address must not hold a fragment (#…)."
	case u.Scheme != "https" && (!g.loopback || u.Scheme != "http"):
		return "The address must begin with https://."
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !g.allows(ip) {
		return "The address must be on the public internet."
	}
	return ""
}

const (
	maxRedirects   = 3
	dialTimeout    = 5 * time.Second
	maxHeaderBytes = 64 << 10
	idleTimeout    = 30 * time.Second
	idlePerHost    = 2
)

// newClient makes the client that delivers. It goes through no proxy, which would dial in its place.
func newClient(timeout time.Duration, loopback bool) *http.Client {
	g := guard{loopback: loopback}
	dialer := &net.Dialer{Timeout: dialTimeout, ControlContext: g.control}
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy: nil, DialContext: dialer.DialContext, TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: timeout,
			MaxResponseHeaderBytes: maxHeaderBytes, IdleConnTimeout: idleTimeout, MaxIdleConnsPerHost: idlePerHost, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			// Others than 307 and 308 turn the request into a GET without its body, which is no delivery.
			if s := r.Response.StatusCode; s != http.StatusTemporaryRedirect && s != http.StatusPermanentRedirect {
				return http.ErrUseLastResponse
			}
			if len(via) > maxRedirects {
				return errors.New("outbound: too many redirects")
			}
			if problem := g.checkURL(r.URL.String()); problem != "" {
				return fmt.Errorf("%w: redirected: %s", ErrForbiddenAddress, problem)
			}
			return nil
		},
	}
}
