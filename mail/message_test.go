package mail_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/mail"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

var schema = dbtest.Schema{Name: "mail", Migrate: func(ctx context.Context, db *database.DB) error {
	e, err := jobs.New(jobs.Config{DB: db})
	if err != nil {
		return err
	}
	return errors.Join(e.Migrate(ctx), database.Migrate(ctx, db, mail.Migrations()))
}}

// verify is a message as auth would send it.
func verify() mail.Message {
	return mail.Message{
		Kind: "auth.verify", To: "ada@example.com", ToName: "Ada Lovelace", ReplyTo: "help@acme.example", Subject: "Confirm your address",
		Text: "Hello Ada,\n\nhttps://acme.example/auth/verify?token=s3cr3t-t0ken\n", HTML: `<p><a href="https://acme.example/auth/verify?token=s3cr3t-t0ken">Confirm</a></p>`,
	}
}

func TestValidate_RefusesWhatCouldBecomeAnotherHeader(t *testing.T) {
	t.Parallel()
	require.NoError(t, verify().Validate())
	for _, injected := range []string{"\r\nBcc: eve@example.com", "\nBcc: eve@example.com", "\r", "\x00", "\t", "\x7f", "\u0085", "\u2028", "\u2029", "\xff"} {
		for part, change := range map[string]func(*mail.Message){
			"To":          func(m *mail.Message) { m.To += injected },
			"ToName":      func(m *mail.Message) { m.ToName += injected },
			"Subject":     func(m *mail.Message) { m.Subject += injected },
			"Kind":        func(m *mail.Message) { m.Kind += injected },
			"Unsubscribe": func(m *mail.Message) { m.Unsubscribe = "https://acme.example/stop" + injected },
			"ReplyTo":     func(m *mail.Message) { m.ReplyTo += injected },
		} {
			m := verify()
			change(&m)
			err := m.Validate()
			require.ErrorIs(t, err, mail.ErrInvalid, "%s with %q", part, injected)
			assert.Contains(t, err.Error(), part)
			assert.True(t, mail.IsPermanent(err))
		}
	}
}

func TestValidate_RefusesAnUnsubscribeThatIsNoAddressOfTheWeb(t *testing.T) {
	t.Parallel()
	m := verify()
	for _, good := range []string{"", "https://acme.example/auth/unsubscribe?token=a-b_c", "http://127.0.0.1:8080/x"} {
		m.Unsubscribe = good
		require.NoError(t, m.Validate(), good)
	}
	for _, bad := range []string{"mailto:stop@acme.example", "javascript:alert(1)", "/stop", "https:///x", "https://acme.example/>, <mailto:eve@example.com", "https://acme.example/ü", "https://acme.example/a b"} {
		m.Unsubscribe = bad
		require.ErrorIs(t, m.Validate(), mail.ErrInvalid, bad)
	}
}

func TestValidate_RefusesAllButOneBareAddress(t *testing.T) {
	t.Parallel()
	for _, to := range []string{"", "ada", "@example.com", "ada@", "Ada <ada@example.com>", "<ada@example.com>", "ada@example.com, eve@example.com",
		"ada@example.com (Ada)", " ada@example.com", "ada@example.com ", "ada@exa mple.com", strings.Repeat("a", 250) + "@example.com"} {
		m := verify()
		m.To = to
		err := m.Validate()
		require.ErrorIs(t, err, mail.ErrInvalid, to)
		if to != "" {
			m = verify()
			m.ReplyTo = to
			require.ErrorIs(t, m.Validate(), mail.ErrInvalid, to)
			assert.NotContains(t, err.Error(), to, "errors are logged")
		}
	}
	for _, to := range []string{"ada@example.com", "ada+tag@sub.example.co.uk", "o'hara@example.com", "jörg@bücher.example"} {
		m := verify()
		m.To = to
		require.NoError(t, m.Validate(), to)
	}
}

func TestValidate_RefusesEmptyAndOversizedParts(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*mail.Message){
		"Kind has 0 bytes":    func(m *mail.Message) { m.Kind = "" },
		"Kind has 65 bytes":   func(m *mail.Message) { m.Kind = strings.Repeat("k", 65) },
		"Kind holds":          func(m *mail.Message) { m.Kind = "for ada@example.com" },
		"Subject is empty":    func(m *mail.Message) { m.Subject = "  " },
		"Subject has more":    func(m *mail.Message) { m.Subject = strings.Repeat("ä", 256) },
		"ToName has more":     func(m *mail.Message) { m.ToName = strings.Repeat("ä", 256) },
		"Text is empty":       func(m *mail.Message) { m.Text = "\n" },
		"a body has more":     func(m *mail.Message) { m.HTML = strings.Repeat("x", mail.MaxBody+1) },
		"a body is not UTF-8": func(m *mail.Message) { m.Text = "\xff" },
		"a body holds a NUL":  func(m *mail.Message) { m.Text = "a\x00b" },
	} {
		m := verify()
		change(&m)
		err := m.Validate()
		require.ErrorIs(t, err, mail.ErrInvalid, want)
		assert.Contains(t, err.Error(), want)
	}
	m := verify()
	m.Subject, m.HTML = strings.Repeat("ä", 255), ""
	require.NoError(t, m.Validate())
}

func TestPermanent_IsFoundInTheTreeAndKeepsItsCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("no such person")
	err := errors.Join(errors.New("other"), mail.Permanent(cause))
	assert.True(t, mail.IsPermanent(err))
	require.ErrorIs(t, err, cause)
	assert.False(t, mail.IsPermanent(cause))
	assert.False(t, mail.IsPermanent(nil))
	require.NoError(t, mail.Permanent(nil))
}
