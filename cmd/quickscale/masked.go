package main

import (
	"net/url"
	"strings"
)

// masked shows of a secret that there is one, and its kind: what comes before the last underscore, as in sk_test_.
func masked(secret string) string {
	if secret == "" {
		return ""
	}
	kind := ""
	if i := strings.LastIndex(secret, "_"); i >= 0 && i < len("sk_live_") {
		kind = secret[:i+1]
	}
	return kind + "********"
}

// maskURL shows an address without its password, and nothing of one that does not parse.
func maskURL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return masked(address)
	}
	if u.Scheme == "sqlite" {
		return address
	}
	return u.Redacted()
}
