package mail

import (
	"regexp"
	"strings"
)

// What a server or another mailer says may repeat the person's address and links that let their reader in.
var (
	anyURL     = regexp.MustCompile(`(?i)[a-z][a-z0-9+.-]*://[^\s]+`)
	anyAddress = regexp.MustCompile(`[^\s<>"'(),;:]+@[^\s<>"'(),;:]+`)
)

// redact returns text, at most 500 bytes of it, without addresses, URLs and the given secrets.
func redact(text string, secrets ...string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[removed]")
		}
	}
	text = anyURL.ReplaceAllString(text, "[url]")
	text = anyAddress.ReplaceAllString(text, "[address]")
	if len(text) > maxErrorBytes {
		text = strings.ToValidUTF8(text[:maxErrorBytes], "")
	}
	return text
}

const maxErrorBytes = 500
