package auth

import (
	"bufio"
	"context"
	"crypto/sha1" //nolint:gosec // the format of the range service, not a protection
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/trustelem/zxcvbn"
	"github.com/trustelem/zxcvbn/frequency"
	"golang.org/x/text/unicode/norm"
)

// BreachChecker looks for passwords in a collection of leaked ones without telling which: it is asked with the first five
// characters of the upper-case hexadecimal SHA-1, and returns the remaining 35 of all hashes that begin so.
type BreachChecker interface {
	Range(ctx context.Context, prefix string) (suffixes []string, err error)
}

// breachWait is how long a new password waits for the BreachChecker.
const breachWait = 2 * time.Second

// normal is the form in which passwords are compared, so that one typed on another system is the same (NIST SP 800-63B,
// 3.1.1.2).
func normal(password string) string { return norm.NFKC.String(password) }

// commonPasswords are the 30,000 commonest ones, of the lists of zxcvbn (MIT licence).
var commonPasswords = sync.OnceValue(func() map[string]bool {
	list := frequency.FrequencyLists["passwords"]
	set := make(map[string]bool, len(list))
	for _, p := range list {
		set[p] = true
	}
	return set
})

// checkNewPassword is checkPassword and asks Config.Breaches too. A service that does not answer refuses nobody.
func (a *Auth) checkNewPassword(ctx context.Context, password string, words ...string) string {
	if message := a.checkPassword(password, words...); message != "" || a.cfg.Breaches == nil {
		return message
	}
	sum := sha1.Sum([]byte(password)) //nolint:gosec // as above
	hash := strings.ToUpper(hex.EncodeToString(sum[:]))
	const prefix = 5
	waiting, cancel := context.WithTimeout(ctx, breachWait)
	defer cancel()
	suffixes, err := a.cfg.Breaches.Range(waiting, hash[:prefix])
	if err != nil {
		a.cfg.Logger.WarnContext(ctx, "the check for leaked passwords does not answer", slog.Any("error", err))
		return ""
	}
	for _, s := range suffixes {
		if strings.EqualFold(s, hash[prefix:]) {
			return "This password was leaked by another site. Choose another one, and replace it wherever else you use it."
		}
	}
	return ""
}

// isMixed tells that a password has an upper-case and a lower-case letter, a digit and another sign.
func isMixed(password string) bool {
	var upper, lower, digit, other bool
	for _, c := range password {
		switch {
		case unicode.IsUpper(c):
			upper = true
		case unicode.IsLower(c):
			lower = true
		case unicode.IsDigit(c):
			digit = true
		default:
			other = true
		}
	}
	return upper && lower && digit && other
}

// Strength is how long a password withstands guessing, as zxcvbn estimates it.
type Strength struct {
	// Score is 0 (at once) to 4 (very long). What the policy refuses has 0.
	Score int `json:"score"`
	// Label is the score in a word, Advice what to do. Advice is empty from 3 on.
	Label  string `json:"label"`
	Advice string `json:"advice,omitempty"`
}

// maxEstimated is how many characters are looked at: the estimate grows with their square.
const maxEstimated = 40

// PasswordStrength estimates a password that somebody is about to choose. words are those that belong to the person.
func (a *Auth) PasswordStrength(password string, words ...string) Strength {
	labels := []string{"Very weak", "Weak", "Fair", "Good", "Strong"}
	if message := a.checkPassword(password, words...); message != "" {
		return Strength{0, labels[0], message}
	}
	shown := password
	if utf8.RuneCountInString(shown) > maxEstimated {
		shown = string([]rune(shown)[:maxEstimated])
	}
	s := Strength{Score: zxcvbn.PasswordStrength(shown, append(words, a.cfg.Site.Name())).Score}
	if s.Score < 3 {
		s.Advice = "Add a word or two that do not belong together."
	}
	s.Label = labels[s.Score]
	return s
}

// PwnedPasswords is a [BreachChecker] that asks a service with the interface of Have I Been Pwned's range search.
type PwnedPasswords struct {
	// URL is what the five characters are added to, such as https://api.pwnedpasswords.com/range/.
	URL string
	// Client calls it. Nil: http.DefaultClient.
	Client *http.Client
}

// maxRange bounds an answer in bytes; real ones have some 40 KB.
const maxRange = 1 << 20

// Range implements [BreachChecker]. Lines that only fill the answer up, with a count of 0, are left out.
func (p PwnedPasswords) Range(ctx context.Context, prefix string) (suffixes []string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+prefix, nil)
	if err != nil {
		return nil, fmt.Errorf("auth: range of leaked passwords: %w", err)
	}
	req.Header.Set("Add-Padding", "true")
	client := p.Client
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("auth: range of leaked passwords: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("auth: range of leaked passwords: status %d", res.StatusCode)
	}
	lines := bufio.NewScanner(io.LimitReader(res.Body, maxRange))
	for lines.Scan() {
		if suffix, count, ok := strings.Cut(strings.TrimSpace(lines.Text()), ":"); ok && count != "0" {
			suffixes = append(suffixes, suffix)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("auth: range of leaked passwords: %w", err)
	}
	return suffixes, nil
}
