package quickscale_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// mailFiles are the kinds that there are texts of in a folder.
func mailFiles(t *testing.T, folder string) (kinds []string) {
	t.Helper()
	files, err := os.ReadDir(folder)
	require.NoError(t, err)
	for _, f := range files {
		if kind, ok := strings.CutSuffix(f.Name(), ".txt"); ok {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// Each kind of mail is there in each language, in words of its own, and can be looked at while developing.
func TestMails_AreCompleteInEachLanguage(t *testing.T) {
	t.Parallel()
	app := newApp(t, dbtest.SQLite(t, dbtest.Empty))
	type preview struct {
		Data struct {
			Kinds []struct {
				Kind, Name string
				Links      []struct{ Language, URL string }
			}
			Message struct{ Subject, Text, HTML string }
		}
	}
	read := func(path string) (p preview) {
		status, body, _ := get(t, app.Handler(), path, "Accept", "application/json")
		require.Equal(t, http.StatusOK, status, body)
		require.NoError(t, json.Unmarshal([]byte(body), &p))
		return p
	}
	shown, texts := map[string]bool{}, map[string]string{}
	for _, k := range read("/dev/mail/preview").Data.Kinds {
		shown[k.Kind] = true
		require.Len(t, k.Links, 2, k.Kind)
		for _, link := range k.Links {
			m := read(link.URL).Data.Message
			about := strings.TrimSpace(k.Kind + " " + k.Name + " " + link.Language)
			assert.Contains(t, m.HTML, `<html lang="`+link.Language+`">`, about)
			text := m.Subject + "\n" + m.Text
			for _, no := range []string{"{{", "<no value>", "%!", "  "} {
				assert.NotContains(t, text, no, about)
			}
			assert.Empty(t, texts[text], "%s says the same as %s", about, texts[text])
			texts[text] = about
		}
	}
	for _, folder := range []string{"mails", filepath.Join("auth", "mails")} {
		kinds := mailFiles(t, folder)
		assert.NotEmpty(t, kinds)
		assert.Equal(t, kinds, mailFiles(t, filepath.Join(folder, "de")), folder)
		for _, kind := range kinds {
			assert.True(t, shown[kind], "%s is not among the previews", kind)
		}
	}

	status, body, _ := get(t, app.Handler(), "/dev/mail/preview")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "credits.low")
	status, body, header := get(t, app.Handler(), "/dev/mail/preview/html?kind=credits.low&language=de")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "gehen zur Neige")
	assert.Contains(t, header.Get("Content-Security-Policy"), "sandbox")
	for _, path := range []string{"/dev/mail/preview?kind=nothing", "/dev/mail/preview/html?kind=nothing"} {
		status, _, _ = get(t, app.Handler(), path)
		assert.Equal(t, http.StatusNotFound, status, path)
	}
}

// Whoever chose a language in their profile reads all mails in it: those of the accounts and those of the application.
func TestApp_MailsAreInTheLanguageOfTheProfile(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, dbtest.Empty)
	app := newApp(t, db, func(c *quickscale.Config) { c.LowCredits, c.JobPoll = 5*credits.Credit, 20*time.Millisecond })
	require.NoError(t, app.Migrate(t.Context()))
	require.NoError(t, app.Start(t.Context()))
	t.Cleanup(func() { assert.NoError(t, app.Stop(context.Background())) })
	for address, language := range map[string]string{"ada@example.com": "de", "eve@example.com": ""} {
		u, err := app.Auth.CreateUser(t.Context(), auth.CreateUserParams{Email: address, Password: "correct horse battery", Verified: true})
		require.NoError(t, err)
		profile, err := app.Auth.Profile(t.Context(), u.ID)
		require.NoError(t, err)
		profile.Language = language
		require.NoError(t, app.Auth.SetProfile(t.Context(), u.ID, profile))
		require.NoError(t, app.Auth.ForgotPassword(t.Context(), address, auth.Client{}))
		_, err = app.Credits.Grant(t.Context(), credits.GrantParams{Account: u.ID, Amount: 10 * credits.Credit, Source: credits.Bonus, Reason: "gift"})
		require.NoError(t, err)
		_, err = app.Credits.Debit(t.Context(), credits.DebitParams{Account: u.ID, Amount: credits.MustAmount("7.5"), Reason: "use"})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return len(outbox(t, app)) == 4 }, time.Minute, 50*time.Millisecond)
	got := map[string]bool{}
	for _, m := range outbox(t, app) {
		got[m.To+": "+m.Subject] = true
		assert.Equal(t, m.To == "ada@example.com", strings.Contains(m.Text, "Sie"), m.Text)
	}
	assert.Equal(t, map[string]bool{
		"ada@example.com: Wählen Sie ein neues Passwort für QuickScale": true,
		"ada@example.com: Ihre Credits für QuickScale gehen zur Neige":  true,
		"eve@example.com: Choose a new password for QuickScale":         true,
		"eve@example.com: Your credits for QuickScale are running low":  true,
	}, got)
}
