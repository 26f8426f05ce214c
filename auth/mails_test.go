package auth_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/mail"
)

// Wherever somebody enters what ends up in a mail, no line of theirs becomes one of its headers, and no other address
// gets it.
func TestMails_NoFormAddsAHeader(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		for _, evil := range []string{"eve@example.com\r\nBcc: all@example.com", "eve@example.com\nSubject: Win", "eve@example.com%0d%0aBcc: all@example.com", "eve@example.com,all@example.com",
			"\"a\r\nBcc: all@example.com\"@example.com", "eve@example.com\x00", "Eve <all@example.com>", "eve@example.com\u2028Bcc: all@example.com"} {
			for _, path := range []string{"/auth/signup", "/auth/password/forgot", "/auth/verify/resend", "/auth/magic", "/account/security/email"} {
				res := b.post(path, "email", evil, "password", password)
				assert.Contains(t, []int{http.StatusUnprocessableEntity, http.StatusBadRequest}, res.StatusCode, "%s %q", path, evil)
			}
			assert.Contains(t, []int{http.StatusUnprocessableEntity, http.StatusBadRequest}, b.post("/auth/signup", "email", "new@example.com", "password", password, "name", evil+"\r\nBcc: x").StatusCode)
		}
		assert.Empty(t, k.mails())
		// A name that a person has is one in the text, not in a header.
		require.NoError(t, k.SetName(t.Context(), u.ID, "Bcc: all@example.com, =?utf-8?q?x?="))
		b.header["User-Agent"] = "x\r\nBcc: all@example.com"
		b.post("/auth/password/forgot", "email", email)
		require.Len(t, k.mails(), 1)
		assert.Equal(t, email, k.mails()[0].Recipient)
	})
}

// htmlMailbox keeps whole messages.
type htmlMailbox struct{ sent *[]mail.Message }

func (m htmlMailbox) EnqueueTx(_ context.Context, _ *sqlx.Tx, msg mail.Message) error {
	*m.sent = append(*m.sent, msg)
	return msg.Validate()
}

// Each mail has a text and an HTML that say the same, under the name of the site and with the same links.
func TestMails_AreTextAndHTML(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		var sent []mail.Message
		k = newKit(t, k.db, func(c *auth.Config) { c.Mail = htmlMailbox{&sent} })
		b := k.browser()
		b.post("/auth/signup", "email", "new@example.com", "password", password)
		u := k.user(email)
		b.post("/auth/signup", "email", email, "password", password)
		b.post("/auth/password/forgot", "email", email)
		b.post("/auth/password/forgot", "email", "nobody@example.com")
		b.post("/auth/magic", "email", email)
		b.logIn(email, password)
		k.browser().logIn(email, password)
		b.post("/account/security/email", "email", "ada@new.example")
		k.phone(u)
		require.NoError(t, k.SetPassword(t.Context(), u.ID, password))
		kinds := map[string]bool{}
		for _, m := range sent {
			kinds[m.Kind] = true
			assert.Contains(t, m.Subject+m.Text, "Acme Text", m.Kind)
			assert.Contains(t, m.HTML, "Acme Text", m.Kind)
			assert.Contains(t, m.HTML, `<html lang="en">`, m.Kind)
			assert.Contains(t, m.HTML, "<h1", m.Kind)
			assert.NotContains(t, m.Text, "<", m.Kind)
			for link := range strings.FieldsSeq(m.Text) {
				if strings.HasPrefix(link, "https://") {
					assert.Contains(t, m.HTML, `href="`+strings.TrimRight(link, ".,")+`"`, m.Kind)
				}
			}
		}
		for _, kind := range []string{"verify", "exists", "reset", "noaccount", "magic", "device", "emailchange", "emailasked", "change", "password"} {
			assert.True(t, kinds["auth."+kind], "no mail auth.%s was sent", kind)
		}
	})
}

// A text of the host's that does not fit, in whatever language, is found at the start and not when somebody waits for it.
func TestMails_ATextThatDoesNotFitIsFoundAtTheStart(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, schema)
	for name, text := range map[string]string{"auth.reset.txt": "{{.Nothing}}", "de/auth.magic.txt": "{{.Nothing}}", "fr/auth.change.txt": "{{.About.Nothing}}"} {
		_, err := auth.New(auth.Config{DB: db.Writer(), Mail: mailbox{db}, BaseURL: base, MailTemplates: fstest.MapFS{name: {Data: []byte("Subject: Hello\n\n" + text + "\n")}}})
		require.ErrorContains(t, err, strings.TrimPrefix(strings.TrimPrefix(name, "de/"), "fr/"), name)
	}
}

// A host writes in the language of the reader.
func TestMails_AreInTheLanguageOfTheReader(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		k.user("grace@example.com")
		b := k.browser()
		for _, address := range []string{email, "grace@example.com"} {
			b.post("/auth/password/forgot", "email", address)
			b.post("/auth/magic", "email", address)
		}
		all := k.mails()
		require.Len(t, all, 4)
		assert.Contains(t, all[0].Text, "Neues Passwort\nHier: https://app.example/auth/password/reset?token=")
		assert.Contains(t, all[1].Text, "Anmeldung")
		assert.NotContains(t, all[2].Text, "Passwort")
		assert.NotContains(t, all[3].Text, "Anmeldung")
	}, func(c *auth.Config) {
		c.MailTemplates = fstest.MapFS{
			"de/auth.reset.txt": {Data: []byte("Subject: Neues Passwort\n\nHier: {{.Link}}\n")},
			"de/auth.magic.txt": {Data: []byte("Subject: Anmeldung\n\n{{.Code}}\n")},
		}
		c.MailLanguage = func(_ context.Context, address string) string {
			if strings.EqualFold(address, email) {
				return "de-CH, fr;q=0.5"
			}
			return ""
		}
	})
}
