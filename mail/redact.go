package mail

import (
	"regexp"
	"slices"
	"strings"
)

// What a server or another mailer says may repeat the person's address and links that let their reader in.
var (
	anyURL     = regexp.MustCompile(`(?i)[a-z][a-z0-9+.-]*://[^\s]+`)
	anyAddress = regexp.MustCompile(`[^\s<>"'(),;:]+@[^\s<>"'(),;:]+`)
)

// redact returns text, at most 2,000 bytes of it, without addresses, URLs and the given secrets.
func redact(text string, secrets ...string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "?") // PostgreSQL, where River keeps it, takes neither
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

const maxErrorBytes = 2000

// content lists what a careless mailer might quote of m in an error: whole lines and the words of the name, the longest
// first, so that none is left over of a longer one.
func content(m Message) []string {
	var parts []string
	for _, body := range []string{m.Subject, m.Text, m.HTML} {
		for line := range strings.Lines(body) {
			parts = append(parts, strings.TrimSpace(line))
		}
	}
	parts = append(append(parts, m.To, m.ToName, m.ReplyTo), strings.Fields(m.ToName)...)
	parts = slices.DeleteFunc(parts, func(s string) bool { return len(s) < minQuote })
	slices.SortFunc(parts, func(a, b string) int { return len(b) - len(a) })
	return parts
}

// minQuote is the length, in bytes, below which a part says nothing and is found everywhere.
const minQuote = 3
