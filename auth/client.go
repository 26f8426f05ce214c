package auth

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"unicode"
)

// Client is where a request comes from. The zero value is a program of the host, to which no limit applies.
type Client struct {
	// IP is the network address of the other end.
	IP string
	// Agent is what the browser calls itself.
	Agent string
	// Device is what the browser is known again by, since an earlier log-in. Empty: it is new.
	Device string
}

const maxText = 300

// ClientOf reads the client from the connection's remote address, never from a header that anyone can write. Behind
// Config.TrustedProxies [Auth.Load] has put the client's address there before.
func ClientOf(r *http.Request) Client {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	c := Client{Agent: cleanText(r.UserAgent())}
	if v, ok := r.Context().Value(contextKey{}).(visitor); ok {
		c.Device = v.device
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		c.IP = addr.Unmap().WithZone("").String()
	}
	return c
}

// cleanText makes what others wrote fit for a column.
func cleanText(s string) string {
	s = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == unicode.ReplacementChar {
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, ""))
	if runes := []rune(s); len(runes) > maxText {
		return string(runes[:maxText])
	}
	return s
}

// network is what attempts are counted for: the address, or the /64 that one household or server has of IPv6.
func (c Client) network() string {
	addr, err := netip.ParseAddr(c.IP)
	if err != nil {
		return c.IP
	}
	addr = addr.Unmap()
	if addr.Is4() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, 64).Masked().String()
}
