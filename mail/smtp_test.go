package mail_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	netmail "net/mail"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	smtpmock "github.com/mocktools/go-smtp-mock/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/mail"
)

func newMock(t *testing.T, cfg smtpmock.ConfigurationAttr) (*smtpmock.Server, string) {
	t.Helper()
	cfg.HostAddress = "127.0.0.1"
	cfg.MultipleMessageReceiving = true // otherwise the RSET at the end makes it forget the message
	server := smtpmock.New(cfg)
	require.NoError(t, server.Start())
	t.Cleanup(func() { assert.NoError(t, server.Stop()) })
	return server, fmt.Sprintf("smtp://127.0.0.1:%d?tls=none", server.PortNumber())
}

func newSMTP(t *testing.T, cfg mail.SMTPConfig) *mail.SMTP {
	t.Helper()
	if cfg.From == "" {
		cfg.From = "Acme Accounts <accounts@acme.example>"
	}
	s, err := mail.NewSMTP(cfg)
	require.NoError(t, err)
	return s
}

func TestSMTP_DeliversHeadersAndBothParts(t *testing.T) {
	t.Parallel()
	server, address := newMock(t, smtpmock.ConfigurationAttr{})
	m := verify()
	m.ToName = "Ada Lövelace"
	m.Subject = "Bestätige deine Adresse – επιβεβαίωση, damit wir wissen, dass sie dir gehört"
	m.Unsubscribe = "https://acme.example/auth/unsubscribe?token=" + strings.Repeat("a-long_one", 15)
	m.Text = "Grüße\n.\nline after a dot, " + strings.Repeat("long ", 300) + "\n"
	require.NoError(t, newSMTP(t, mail.SMTPConfig{URL: address}).Send(t.Context(), m))

	got, err := server.WaitForMessages(1, 5*time.Second)
	require.NoError(t, err)
	assert.Equal(t, "EHLO acme.example", got[0].HeloRequest(), "the machine's name stays here")
	assert.Equal(t, "MAIL FROM:<accounts@acme.example>", got[0].MailfromRequest())
	assert.Equal(t, "RCPT TO:<ada@example.com>", got[0].RcpttoRequestResponse()[0][0])
	msg, err := netmail.ReadMessage(strings.NewReader(got[0].MsgRequest()))
	require.NoError(t, err)
	words := new(mime.WordDecoder)
	subject, err := words.DecodeHeader(msg.Header.Get("Subject"))
	require.NoError(t, err)
	assert.Equal(t, m.Subject, subject)
	to, err := msg.Header.AddressList("To")
	require.NoError(t, err)
	assert.Equal(t, []*netmail.Address{{Name: m.ToName, Address: "ada@example.com"}}, to)
	from, err := msg.Header.AddressList("From")
	require.NoError(t, err)
	assert.Equal(t, []*netmail.Address{{Name: "Acme Accounts", Address: "accounts@acme.example"}}, from)
	assert.Equal(t, "<help@acme.example>", msg.Header.Get("Reply-To"))
	date, err := msg.Header.Date()
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), date, time.Minute)
	assert.Regexp(t, `^<[a-z0-9]{20,}@acme\.example>$`, msg.Header.Get("Message-ID"))
	assert.Equal(t, "auto-generated", msg.Header.Get("Auto-Submitted"))
	assert.Equal(t, "<"+m.Unsubscribe+">", msg.Header.Get("List-Unsubscribe"))
	assert.Equal(t, "List-Unsubscribe=One-Click", msg.Header.Get("List-Unsubscribe-Post"), "RFC 8058")
	assert.Empty(t, msg.Header.Get("User-Agent"))

	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	require.NoError(t, err)
	require.Equal(t, "multipart/alternative", kind)
	parts := multipart.NewReader(msg.Body, params["boundary"])
	for _, want := range []struct{ kind, body string }{{"text/plain", m.Text}, {"text/html", m.HTML}} {
		part, err := parts.NextRawPart()
		require.NoError(t, err)
		assert.Equal(t, want.kind+"; charset=UTF-8", part.Header.Get("Content-Type"))
		require.Equal(t, "quoted-printable", part.Header.Get("Content-Transfer-Encoding"))
		body, err := io.ReadAll(quotedprintable.NewReader(part))
		require.NoError(t, err)
		assert.Equal(t, strings.TrimSpace(want.body), strings.TrimSpace(strings.ReplaceAll(string(body), "\r\n", "\n")))
	}
	_, err = parts.NextPart()
	require.ErrorIs(t, err, io.EOF)
}

func TestSMTP_TextAloneIsNotMultipart(t *testing.T) {
	t.Parallel()
	server, address := newMock(t, smtpmock.ConfigurationAttr{})
	m := verify()
	m.HTML = ""
	require.NoError(t, newSMTP(t, mail.SMTPConfig{URL: address, From: "accounts@acme.example"}).Send(t.Context(), m))
	got, err := server.WaitForMessages(1, 5*time.Second)
	require.NoError(t, err)
	msg, err := netmail.ReadMessage(strings.NewReader(got[0].MsgRequest()))
	require.NoError(t, err)
	assert.Equal(t, "text/plain; charset=UTF-8", msg.Header.Get("Content-Type"))
	assert.NotContains(t, msg.Header, "List-Unsubscribe", "what always comes cannot be ended")
	assert.NotContains(t, msg.Header, "List-Unsubscribe-Post")
}

func TestSMTP_5xxIsPermanentAnd4xxIsNot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		cfg       smtpmock.ConfigurationAttr
		permanent bool
		told      string
	}{
		{"no such recipient", smtpmock.ConfigurationAttr{NotRegisteredEmails: []string{"ada@example.com"}, MsgRcpttoNotRegisteredEmail: "550 5.1.1 <ada@example.com> unknown"}, true, `550 "5.1.1 <[address]> unknown"`},
		{"recipient is greylisted", smtpmock.ConfigurationAttr{NotRegisteredEmails: []string{"ada@example.com"}, MsgRcpttoNotRegisteredEmail: "450 4.2.0 come back"}, false, `450 "4.2.0 come back"`},
		{"sender is refused", smtpmock.ConfigurationAttr{BlacklistedMailfromEmails: []string{"accounts@acme.example"}, MsgMailfromBlacklistedEmail: "553 5.7.1 not you"}, true, `553 "5.7.1 not you"`},
		{"log-in is wanted", smtpmock.ConfigurationAttr{BlacklistedMailfromEmails: []string{"accounts@acme.example"}, MsgMailfromBlacklistedEmail: "530 5.7.0 log in first"}, false, `530 "5.7.0 log in first"`},
		{"message is too big", smtpmock.ConfigurationAttr{MsgSizeLimit: 10, MsgMsgSizeIsTooBig: "552 5.3.4 too big"}, true, `552 "5.3.4 too big"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, address := newMock(t, c.cfg)
			err := newSMTP(t, mail.SMTPConfig{URL: address}).Send(t.Context(), verify())
			require.ErrorContains(t, err, c.told)
			assert.Equal(t, c.permanent, mail.IsPermanent(err), err)
			assertSilent(t, err.Error())
		})
	}
}

func TestSMTP_AServerThatIsDownOrSilentIsTriedAgain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	silent := "smtp://user:geheim@" + l.Addr().String() + "?tls=none" // accepts in the kernel and never says a word
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	down := "smtp://user:geheim@" + gone.Addr().String()
	require.NoError(t, gone.Close())
	for _, address := range []string{silent, down} {
		began := time.Now()
		err := newSMTP(t, mail.SMTPConfig{URL: address, Timeout: 100 * time.Millisecond}).Send(t.Context(), verify())
		require.Error(t, err)
		assert.False(t, mail.IsPermanent(err))
		assert.NotContains(t, err.Error(), "geheim")
		assert.Less(t, time.Since(began), 10*time.Second)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = newSMTP(t, mail.SMTPConfig{URL: down}).Send(ctx, verify())
	require.ErrorIs(t, err, context.Canceled)
	assert.False(t, mail.IsPermanent(err))
}

func TestSMTP_RefusesInvalidMessagesBeforeItConnects(t *testing.T) {
	t.Parallel()
	m := verify()
	m.Subject = "x\r\nBcc: eve@example.com"
	err := newSMTP(t, mail.SMTPConfig{URL: "smtp://127.0.0.1:1"}).Send(t.Context(), m)
	require.ErrorIs(t, err, mail.ErrInvalid)
	assert.True(t, mail.IsPermanent(err))
}

func TestNewSMTP_WrongConfigIsToldWithoutThePassword(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]mail.SMTPConfig{
		"URL does not parse":          {URL: "smtp://user:geheim pw%@host"},
		"URL does not parse; ":        {URL: "smtp://"},
		"URL must be smtp://":         {URL: "https://user:geheim@host"},
		"URL must be smtp:// (":       {URL: "smtp://user:geheim@host?tls=maybe"},
		"URL must be smtp:// (with ?": {URL: "smtps://user:geheim@host?tls=none"},
		"other than tls":              {URL: "smtp://user:geheim@host?timeout=1"},
		"has a path":                  {URL: "smtp://user:geheim@host/geheim"},
		"port outside":                {URL: "smtp://user:geheim@host:70000"},
		"Timeout":                     {URL: "smtp://host", Timeout: -1},
		"is no sender":                {URL: "smtp://user:geheim@host", From: "Acme"},
		`"" is no sender`:             {URL: "smtp://user:geheim@host", From: "-"},
	} {
		switch cfg.From {
		case "":
			cfg.From = "a@example.com"
		case "-":
			cfg.From = ""
		}
		_, err := mail.NewSMTP(cfg)
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "geheim")
	}
}

// tlsServer speaks enough SMTP to be handed a message over TLS after a log-in as user with the password geheim. Its
// certificate is of an authority of its own.
type tlsServer struct {
	listener net.Listener
	secret   *tls.Config
	trust    *tls.Config // for clients
	implicit bool        // TLS from the first byte
	silent   bool        // STARTTLS is not offered

	mu       sync.Mutex
	received []string // what was sent after DATA
	seen     []string // the commands, each marked when TLS covered it
}

func newTLSServer(t *testing.T, change ...func(*tlsServer)) *tlsServer {
	t.Helper()
	certified := httptest.NewTLSServer(nil)
	certified.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &tlsServer{listener: l, secret: &tls.Config{Certificates: certified.TLS.Certificates}, trust: &tls.Config{RootCAs: roots}}
	for _, f := range change {
		f(s)
	}
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			sessions.Go(func() {
				defer conn.Close()
				_ = s.serve(conn) // ends when the client goes, which it may do at any time
			})
		}
	})
	t.Cleanup(func() {
		assert.NoError(t, l.Close())
		sessions.Wait()
	})
	return s
}

func (s *tlsServer) serve(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	secure := s.implicit
	if secure {
		conn = tls.Server(conn, s.secret)
	}
	text := textproto.NewConn(conn)
	login := base64.StdEncoding.EncodeToString([]byte("\x00user\x00geheim"))
	reply := "220 ready"
	for {
		if err := text.PrintfLine("%s", reply); err != nil {
			return err
		}
		if strings.HasPrefix(reply, "354") {
			body, err := text.ReadDotBytes()
			if err != nil {
				return err
			}
			s.mu.Lock()
			s.received = append(s.received, string(body))
			s.mu.Unlock()
			reply = "250 taken"
			continue
		}
		if reply == "220 go ahead" {
			conn, secure = tls.Server(conn, s.secret), true
			text = textproto.NewConn(conn)
		}
		line, err := text.ReadLine()
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.seen = append(s.seen, fmt.Sprintf("%s tls=%t", line, secure))
		s.mu.Unlock()
		switch {
		case strings.HasPrefix(line, "EHLO") && !secure && !s.silent:
			reply = "250-here\r\n250-AUTH PLAIN\r\n250 STARTTLS"
		case strings.HasPrefix(line, "EHLO"):
			reply = "250-here\r\n250 AUTH PLAIN"
		case line == "STARTTLS":
			reply = "220 go ahead"
		case line == "AUTH PLAIN "+login:
			reply = "235 welcome"
		case strings.HasPrefix(line, "AUTH"):
			reply = "535 5.7.8 no: " + strings.TrimPrefix(line, "AUTH PLAIN ") // a careless server repeats it
		case line == "DATA":
			reply = "354 go on"
		case line == "QUIT":
			return nil // no goodbye, which must not be taken for a failure
		default:
			reply = "250 fine"
		}
	}
}

func (s *tlsServer) commands() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.seen, "\n")
}

func (s *tlsServer) messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.received...)
}

func (s *tlsServer) url(scheme, password, query string) string {
	return scheme + "://user:" + password + "@" + s.listener.Addr().String() + query
}

func TestSMTP_LogsInAndSendsUnderTLSOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, scheme, query string
		implicit            bool
	}{{"STARTTLS is mandatory", "smtp", "", false}, {"STARTTLS is taken where offered", "smtp", "?tls=opportunistic", false}, {"TLS from the start", "smtps", "", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := newTLSServer(t, func(s *tlsServer) { s.implicit = c.implicit })
			sender := newSMTP(t, mail.SMTPConfig{URL: server.url(c.scheme, "geheim", c.query), TLS: server.trust})
			m := verify()
			m.To = "ada@bücher.example"
			require.NoError(t, sender.Send(t.Context(), m))
			assert.Len(t, server.messages(), 1)
			assert.Contains(t, server.commands(), "RCPT TO:<ada@xn--bcher-kva.example>", "the domain is written as DNS has it")
			for _, command := range []string{"AUTH", "MAIL", "RCPT", "DATA"} {
				assert.Regexp(t, "(?m)^"+command+".* tls=true$", server.commands())
				assert.NotRegexp(t, "(?m)^"+command+".* tls=false$", server.commands())
			}
		})
	}
}

func TestSMTP_SendsNothingToWhoIsNotTrusted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, scheme, query, told string
		silent, implicit, trusted bool
	}{
		{"no STARTTLS where it is mandatory", "smtp", "", "STARTTLS", true, false, true},
		{"an unknown authority", "smtp", "", "certificate", false, false, false},
		{"an unknown authority where TLS is opportunistic", "smtp", "?tls=opportunistic", "certificate", false, false, false},
		{"an unknown authority from the start", "smtps", "", "certificate", false, true, false},
		{"a password is not sent in clear", "smtp", "?tls=none", "", true, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := newTLSServer(t, func(s *tlsServer) { s.silent, s.implicit = c.silent, c.implicit })
			cfg := mail.SMTPConfig{URL: server.url(c.scheme, "geheim", c.query)}
			if c.trusted {
				cfg.TLS = server.trust
			}
			err := newSMTP(t, cfg).Send(t.Context(), verify())
			require.ErrorContains(t, err, c.told)
			assert.False(t, mail.IsPermanent(err), "the operator mends this; the message is sent then")
			assert.Empty(t, server.messages())
			for _, command := range []string{"AUTH", "MAIL", "RCPT", "DATA"} {
				assert.NotContains(t, server.commands(), command)
			}
		})
	}
}

func TestSMTP_AWrongPasswordIsTriedAgainAndNotTold(t *testing.T) {
	t.Parallel()
	server := newTLSServer(t)
	const password = "falsch & geheim"
	err := newSMTP(t, mail.SMTPConfig{URL: server.url("smtp", url.PathEscape(password), ""), TLS: server.trust}).Send(t.Context(), verify())
	require.ErrorContains(t, err, `535 "5.7.8`)
	assert.False(t, mail.IsPermanent(err))
	assert.NotContains(t, err.Error(), password)
	assert.NotContains(t, err.Error(), base64.StdEncoding.EncodeToString([]byte("\x00user\x00"+password)))
	assert.Empty(t, server.messages())
}
