package auth

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// The headers in which proxies name the client.
const (
	headerForwardedFor = "X-Forwarded-For"
	headerForwarded    = "Forwarded"
)

// behindProxy puts the client's address into Request.RemoteAddr when the other end is a trusted proxy. Each proxy adds
// the address that it saw at the end, so the last one that is no proxy of ours is the client; what stands before it is
// the client's own word. Doing it twice changes nothing.
func (a *Auth) behindProxy(r *http.Request) *http.Request {
	peer, ok := hostAddr(r.RemoteAddr)
	if len(a.cfg.TrustedProxies) == 0 || !ok || !a.isProxy(peer) {
		return r
	}
	hops := strings.Split(strings.Join(r.Header.Values(a.cfg.ProxyHeader), ","), ",")
	client := peer
	for i := len(hops) - 1; i >= 0 && a.isProxy(client); i-- {
		hop := strings.TrimSpace(hops[i])
		if a.cfg.ProxyHeader == headerForwarded {
			hop = forwardedFor(hop)
		}
		addr, ok := hostAddr(hop)
		if !ok {
			break // obfuscated or malformed: what stands before cannot be trusted either
		}
		client = addr
	}
	if client == peer {
		return r
	}
	r2 := r.WithContext(r.Context())
	r2.RemoteAddr = net.JoinHostPort(client.String(), "0")
	return r2
}

func (a *Auth) isProxy(addr netip.Addr) bool {
	for _, p := range a.cfg.TrustedProxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// hostAddr reads an address with or without a port.
func hostAddr(s string) (netip.Addr, bool) {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return addr.Unmap().WithZone(""), err == nil
}

// forwardedFor is the node of an element's for parameter (RFC 7239, 4 and 6), or "".
func forwardedFor(element string) string {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(name, "for") {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}
