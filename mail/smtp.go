package mail

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
	"golang.org/x/net/idna"
)

// DefaultTimeout bounds each of connecting and sending. Both and a slow handshake fit into River's minute.
const DefaultTimeout = 15 * time.Second

// Ports where the URL names none (RFC 8314).
const (
	submissionPort  = 587
	submissionsPort = 465
)

// SMTPConfig is what [NewSMTP] takes.
type SMTPConfig struct {
	// URL is smtp://user:password@host:587, which insists on STARTTLS, or smtps://user:password@host:465, which begins with
	// TLS. Special characters of user and password are percent-encoded; both may be missing. For local servers smtp://
	// takes ?tls=opportunistic (STARTTLS where it is offered) and ?tls=none. A password is never sent in clear: without
	// TLS only mechanisms that prove it without sending it are used. Required.
	URL string
	// From is the sender, "Name <address>" or an address. Required.
	From string
	// Timeout bounds each of connecting and sending. 0: 15 s.
	Timeout time.Duration
	// TLS is the client's configuration, for a server with a certificate of a private authority. Nil: the system's
	// authorities, TLS 1.2 or later. An empty ServerName is the URL's host.
	TLS *tls.Config
}

// SMTP is a [Mailer] that hands messages to a mail server, one connection for each. It is safe for concurrent use.
type SMTP struct {
	host           string
	from           mail.Address
	user, password string
	options        []gomail.Option
}

// NewSMTP checks cfg; it does not connect.
func NewSMTP(cfg SMTPConfig) (*SMTP, error) {
	from, err := mail.ParseAddress(cfg.From)
	if err != nil || checkLine(from.Name) != nil || checkLine(from.Address) != nil {
		return nil, fmt.Errorf("mail: SMTPConfig.From %q is no sender; write Name <address>", cfg.From)
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Hostname() == "" {
		// Neither the URL nor the parser's words are repeated: both hold the password.
		return nil, errors.New("mail: SMTPConfig.URL does not parse; write smtp://user:password@host:587 with special characters percent-encoded")
	}
	if cfg.Timeout < 0 {
		return nil, fmt.Errorf("mail: SMTPConfig.Timeout is %s; it cannot be negative", cfg.Timeout)
	}
	s := &SMTP{host: u.Hostname(), from: *from}
	security, port, err := transport(u)
	if err != nil {
		return nil, err
	}
	domain := from.Address[strings.LastIndexByte(from.Address, '@')+1:]
	s.options = []gomail.Option{
		security, gomail.WithPort(port), gomail.WithTimeout(cmp.Or(cfg.Timeout, DefaultTimeout)),
		// The machine's own name is often no domain, which servers refuse, and nobody's business.
		gomail.WithHELO(asciiDomain(domain)),
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.TLS != nil {
		tlsConfig = cfg.TLS.Clone()
	}
	tlsConfig.ServerName = cmp.Or(tlsConfig.ServerName, s.host)
	s.options = append(s.options, gomail.WithTLSConfig(tlsConfig))
	if s.user = u.User.Username(); s.user != "" {
		s.password, _ = u.User.Password()
		s.options = append(s.options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(s.user), gomail.WithPassword(s.password))
	}
	return s, nil
}

// transport reads how the connection is secured, and the port.
func transport(u *url.URL) (security gomail.Option, port int, err error) {
	query := u.Query()
	mode := query.Get("tls")
	query.Del("tls")
	if len(query) > 0 || strings.Trim(u.Path, "/") != "" {
		return nil, 0, errors.New("mail: SMTPConfig.URL has a path or a parameter other than tls")
	}
	switch {
	case u.Scheme == "smtps" && mode == "":
		security, port = gomail.WithSSL(), submissionsPort
	case u.Scheme == "smtp" && mode == "":
		security, port = gomail.WithTLSPolicy(gomail.TLSMandatory), submissionPort
	case u.Scheme == "smtp" && mode == "opportunistic":
		security, port = gomail.WithTLSPolicy(gomail.TLSOpportunistic), submissionPort
	case u.Scheme == "smtp" && mode == "none":
		security, port = gomail.WithTLSPolicy(gomail.NoTLS), submissionPort
	default:
		return nil, 0, errors.New("mail: SMTPConfig.URL must be smtp:// (with ?tls=opportunistic or ?tls=none for a local server) or smtps://")
	}
	if u.Port() != "" {
		if port, err = strconv.Atoi(u.Port()); err != nil || port < 1 || port > 65535 {
			return nil, 0, errors.New("mail: SMTPConfig.URL has a port outside 1 to 65535")
		}
	}
	return security, port, nil
}

// Send hands m to the server. It returns [ErrInvalid] for an invalid message and an error marked with [Permanent] when the
// server refuses this message for good (5xx). A server that does not answer, or refuses us rather than the message
// (log-in, TLS), is worth another try. Errors hold neither the password nor addresses.
func (s *SMTP) Send(ctx context.Context, m Message) error {
	if err := m.Validate(); err != nil {
		return Permanent(err)
	}
	msg := s.message(m)
	client, err := gomail.NewClient(s.host, s.options...)
	if err != nil {
		return fmt.Errorf("mail: SMTP: %s", redact(err.Error(), s.secrets()...))
	}
	err = client.DialAndSendWithContext(ctx, msg)
	if err == nil || msg.IsDelivered() {
		return nil // what fails after the server took the message, such as saying goodbye, must not send it twice
	}
	answer, _, _ := strings.Cut(err.Error(), ", affected ") // go-mail adds who and what it was about
	told := fmt.Errorf("mail: SMTP: %s", redact(answer, s.secrets()...))
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", told, ctx.Err())
	}
	if refused, ok := errors.AsType[*gomail.SendError](err); ok && isFinal(refused.ErrorCode()) {
		return Permanent(told)
	}
	return told
}

// secrets are the password as it is written, and as it travels with PLAIN and LOGIN.
func (s *SMTP) secrets() []string {
	if s.password == "" {
		return nil
	}
	encode := base64.StdEncoding.EncodeToString
	return []string{encode([]byte("\x00" + s.user + "\x00" + s.password)), encode([]byte(s.password)), s.password}
}

// isFinal tells that a reply refuses the message for good. 530, 535 and 538 ask for a log-in or for TLS (RFC 4954, RFC
// 3207): the operator mends that, and then the message can go.
func isFinal(code int) bool {
	return code >= 500 && code <= 599 && code != 530 && code != 535 && code != 538
}

// message makes the MIME message of a valid m.
func (s *SMTP) message(m Message) *gomail.Msg {
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(&mail.Address{Name: oneLine(s.from.Name), Address: asciiAddress(s.from.Address)})
	msg.ToMailAddress(&mail.Address{Name: oneLine(m.ToName), Address: asciiAddress(m.To)})
	if m.ReplyTo != "" {
		msg.ReplyToMailAddress(&mail.Address{Address: asciiAddress(m.ReplyTo)})
	}
	subject := oneLine(m.Subject)
	if strings.Contains(subject, "=?") {
		// It would be read as an encoded word, and say something else than it does here.
		msg.SetGenHeaderPreformatted(gomail.HeaderSubject, encodeWords(subject))
	} else {
		msg.Subject(subject)
	}
	msg.SetDate()
	msg.SetMessageIDWithValue(strings.ToLower(rand.Text()) + "@" + asciiDomain(s.from.Address[strings.LastIndexByte(s.from.Address, '@')+1:]))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // no out-of-office replies (RFC 3834)
	if m.Unsubscribe != "" {
		msg.SetGenHeaderPreformatted(gomail.HeaderListUnsubscribe, "<"+m.Unsubscribe+">") // as it is: an encoded word would be no address
		if strings.HasPrefix(m.Unsubscribe, "https://") {
			msg.SetGenHeader(gomail.HeaderListUnsubscribePost, "List-Unsubscribe=One-Click")
		}
	}
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	}
	return msg
}

// oneLine joins the words of s by single spaces: a run of spaces could be folded into a line that looks empty and so
// ends the headers.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// encodeWords writes s as encoded words (RFC 2047), folded.
func encodeWords(s string) string {
	const most = 42 // bytes, so that a word has less than the 75 characters that it may
	var words []string
	for s != "" {
		n := 0
		for i, c := range s {
			if i+len(string(c)) > most {
				break
			}
			n = i + len(string(c))
		}
		words = append(words, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(s[:n]))+"?=")
		s = s[n:]
	}
	return strings.Join(words, "\r\n ")
}

// asciiAddress writes the domain of an address as DNS has it; the part before is the receiving server's to read.
func asciiAddress(address string) string {
	at := strings.LastIndexByte(address, '@')
	return address[:at+1] + asciiDomain(address[at+1:])
}

func asciiDomain(domain string) string {
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return domain // such as an address literal: the server says what it thinks of it
	}
	return ascii
}
