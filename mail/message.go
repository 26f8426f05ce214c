package mail

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/quickscale/quickscale/internal/problem"
)

// Limits of a [Message].
const (
	// MaxKind is the longest kind, in bytes.
	MaxKind = 64
	// MaxAddress is the longest address, in bytes (RFC 5321, 4.5.3.1.3, less the angle brackets).
	MaxAddress = 254
	// MaxLine is the longest subject and the longest name, in characters.
	MaxLine = 255
	// MaxBody is the longest text and the longest HTML, in bytes.
	MaxBody = 256 << 10
)

// ErrInvalid tells that a message breaks a rule of [Message.Validate]. The text around it says which, without the content.
var ErrInvalid error = problem.New(problem.CodeInvalid, "This message cannot be sent. Check its address and its subject.")

// Message is one mail to one person.
type Message struct {
	// Kind is the purpose, such as "auth.verify": letters, digits, dots, underscores and hyphens, at most 64 of them.
	// It is stored and logged in clear, so it holds nothing about the person.
	Kind string `json:"kind"`
	// To is one bare address: ada@example.com.
	To string `json:"to"`
	// ToName is shown beside the address. Empty: the address alone.
	ToName string `json:"to_name,omitempty"`
	// ReplyTo is the bare address that an answer goes to. Empty: the sender's.
	ReplyTo string `json:"reply_to,omitempty"`
	// Subject is one line.
	Subject string `json:"subject"`
	// Text is the body that every reader can show.
	Text string `json:"text"`
	// HTML is the body that most readers show instead. Empty: there is only the text.
	HTML string `json:"html,omitempty"`
	// Unsubscribe is an http or https address that ends mails of the kind, for the header List-Unsubscribe (RFC 2369). One
	// with https must take a POST without cookies that does so at once, "one-click" (RFC 8058). Empty: they cannot be ended.
	Unsubscribe string `json:"unsubscribe,omitempty"`
}

// Mailer sends a message, or hands it on to what does. Send is given valid messages only by [Queue]; other callers may
// give it any, and it returns [ErrInvalid] for the others. An error marked with [Permanent] is final; after any other
// the message may be sent again. Errors are logged and stored, so they hold neither the address nor the content; the
// queue removes what it recognises of both. It is safe for concurrent use.
type Mailer interface {
	Send(ctx context.Context, m Message) error
}

// Validate returns [ErrInvalid], wrapped with the rule, when a part that becomes a header holds a control character
// (which is how headers are injected), when To, or ReplyTo where there is one, is anything but one bare address, when the subject or the text is
// empty, or when a part is too long.
func (m Message) Validate() error {
	if err := m.check(); err != nil {
		return fmt.Errorf("%w (%w)", ErrInvalid, err)
	}
	return nil
}

func (m Message) check() error {
	if err := checkKind(m.Kind); err != nil {
		return err
	}
	for _, part := range []struct{ name, value string }{{"To", m.To}, {"ToName", m.ToName}, {"ReplyTo", m.ReplyTo}, {"Subject", m.Subject},
		{"Unsubscribe", m.Unsubscribe}} {
		if err := checkLine(part.value); err != nil {
			return fmt.Errorf("mail: %s %w", part.name, err)
		}
	}
	if err := checkAddress(m.To); err != nil {
		return fmt.Errorf("mail: To %w", err)
	}
	if m.ReplyTo != "" {
		if err := checkAddress(m.ReplyTo); err != nil {
			return fmt.Errorf("mail: ReplyTo %w", err)
		}
	}
	if m.Unsubscribe != "" && !isWeb(m.Unsubscribe) {
		return errors.New("mail: Unsubscribe is no http or https address")
	}
	switch {
	case strings.TrimSpace(m.Subject) == "":
		return errors.New("mail: Subject is empty")
	case strings.TrimSpace(m.Text) == "":
		return errors.New("mail: Text is empty")
	case len(m.Text) > MaxBody || len(m.HTML) > MaxBody:
		return fmt.Errorf("mail: a body has more than %d bytes", MaxBody)
	case !utf8.ValidString(m.Text) || !utf8.ValidString(m.HTML):
		return errors.New("mail: a body is not UTF-8")
	case strings.ContainsRune(m.Text, 0) || strings.ContainsRune(m.HTML, 0):
		return errors.New("mail: a body holds a NUL") // RFC 5322 has none, and PostgreSQL keeps none
	}
	return nil
}

func checkKind(kind string) error {
	if kind == "" || len(kind) > MaxKind {
		return fmt.Errorf("mail: Kind has %d bytes; it needs 1 to %d", len(kind), MaxKind)
	}
	for _, c := range kind {
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alphanumeric && !strings.ContainsRune("._-", c) {
			return errors.New("mail: Kind holds something else than letters, digits, dots, underscores and hyphens")
		}
	}
	return nil
}

// checkLine tells what keeps s from standing in one header line.
func checkLine(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("is not UTF-8")
	}
	if utf8.RuneCountInString(s) > MaxLine {
		return fmt.Errorf("has more than %d characters", MaxLine)
	}
	for _, c := range s {
		// Beside the ASCII controls, CR and LF among them, those that some readers break lines at.
		if unicode.IsControl(c) || c == '\u2028' || c == '\u2029' {
			return errors.New("holds a control character")
		}
	}
	return nil
}

// isWeb tells that s is an address that can stand between angle brackets in a header.
func isWeb(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && !strings.ContainsAny(s, "<> ,") && isASCII(s)
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c >= utf8.RuneSelf })
}

func checkAddress(s string) error {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Name != "" || a.Address != s || len(s) > MaxAddress {
		// The parser's own words quote the address.
		return errors.New("is not one bare address")
	}
	return nil
}

// permanentError is a failure that trying again does not help.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent marks err as final: the message will never be taken, however often it is sent. Nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

// IsPermanent tells that err was marked with [Permanent] or is [ErrInvalid].
func IsPermanent(err error) bool {
	_, ok := errors.AsType[permanentError](err)
	return ok || errors.Is(err, ErrInvalid)
}
