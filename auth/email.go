package auth

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"github.com/quickscale/quickscale/internal/problem"
)

// Limits of an address in bytes (RFC 5321, 4.5.3.1).
const (
	maxEmail = 254
	maxLocal = 64
)

// email is an address as it was written and as it is compared.
type email struct {
	shown string
	// key is the whole address in lower case with the domain in its ASCII form (IDNA). Two addresses are one account's
	// when their keys are equal. Dots and +suffixes count: who may read whose mail is the mail provider's to say.
	key string
}

// mailbox is the key without a +suffix, with which most providers deliver to the same mailbox. Mails are counted by it.
func (e email) mailbox() string {
	at := strings.LastIndexByte(e.key, '@')
	if plus := strings.IndexByte(e.key[:at], '+'); plus > 0 {
		return e.key[:plus] + e.key[at:]
	}
	return e.key
}

// domains is IDNA for look-up (UTS #46), with the limits of DNS.
var domains = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true), idna.Transitional(false))

// invalidEmail is the one answer to what is not an address.
func invalidEmail() error {
	return problem.Invalid(map[string]string{"email": "Enter an e-mail address such as ada@example.com."})
}

// parseEmail trims and checks an address. It refuses what could be taken for another address: characters with a
// compatibility form (fullwidth letters), and letters beyond ASCII whose upper or lower case is an ASCII letter, such
// as the dotless i.
func parseEmail(s string) (email, error) {
	s = strings.TrimSpace(s)
	at := strings.LastIndexByte(s, '@')
	if at < 1 || len(s) > maxEmail || !utf8.ValidString(s) || norm.NFKC.String(s) != s {
		return email{}, invalidEmail()
	}
	local, domain := s[:at], s[at+1:]
	if !isLocal(local) || !strings.Contains(domain, ".") || strings.HasSuffix(domain, ".") {
		return email{}, invalidEmail()
	}
	ascii, err := domains.ToASCII(domain)
	if err != nil {
		return email{}, invalidEmail()
	}
	e := email{shown: s, key: strings.ToLower(local) + "@" + strings.ToLower(ascii)}
	// Lower case can be longer, and must itself be an address in normal form.
	if len(e.key) > maxEmail || norm.NFKC.String(e.key) != e.key {
		return email{}, invalidEmail()
	}
	return e, nil
}

// isLocal tells that s is a dot-atom (RFC 5322, 3.2.3; RFC 6531 for what is beyond ASCII).
func isLocal(s string) bool {
	if len(s) > maxLocal || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") || strings.Contains(s, "..") {
		return false
	}
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c < utf8.RuneSelf:
			if !strings.ContainsRune("!#$%&'*+/=?^_`{|}~-.", c) {
				return false
			}
		case !unicode.IsLetter(c) && !unicode.IsMark(c) && !unicode.IsDigit(c):
			return false
		case unicode.ToLower(c) < utf8.RuneSelf, unicode.ToUpper(c) < utf8.RuneSelf:
			return false
		}
	}
	return true
}
