package mail_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/mail"
)

var update = flag.Bool("update", false, "write the golden files anew")

func files(pairs ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return m
}

func newTemplates(t *testing.T, cfg mail.TemplatesConfig) *mail.Templates {
	t.Helper()
	cfg.Site = "Acme"
	templates, err := mail.NewTemplates(cfg)
	require.NoError(t, err)
	return templates
}

type person struct{ Name, URL string }

var ada = person{"Ada", "https://acme.example/auth/verify?token=abc&x=1"}

const verifyText = `Subject: Confirm your address at {{site}}

Hello {{.Name}},

open this page to confirm that the address is yours:
{{.URL}}

The link works for 24 hours. If you did not ask for it, there is nothing to do (see https://acme.example/help).
`

func TestCompose_TextAloneMakesAnHTMLPartToo(t *testing.T) {
	t.Parallel()
	templates := newTemplates(t, mail.TemplatesConfig{Files: files("auth.verify.txt", verifyText)})
	m, err := templates.Compose("auth.verify", "ada@example.com", "Ada Lovelace", ada)
	require.NoError(t, err)
	assert.Equal(t, "auth.verify", m.Kind)
	assert.Equal(t, "ada@example.com", m.To)
	assert.Equal(t, "Ada Lovelace", m.ToName)
	assert.Equal(t, "Confirm your address at Acme", m.Subject)
	assert.Contains(t, m.Text, "\nhttps://acme.example/auth/verify?token=abc&x=1\n", "text is not escaped")
	golden(t, "verify.txt", m.Text)
	golden(t, "verify.html", m.HTML)
	assert.Contains(t, m.HTML, `<a href="https://acme.example/auth/verify?token=abc&amp;x=1"`)
	assert.Contains(t, m.HTML, `<a href="https://acme.example/help"`, "the sentence's end is not part of the link")
	assert.NotRegexp(t, `<script|<style|<link|<img`, m.HTML, "what mail programs drop or fetch is not used")
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "refresh with -update after a look")
}

func TestCompose_EscapesInHTMLAndKeepsSubjectsOnOneLine(t *testing.T) {
	t.Parallel()
	templates := newTemplates(t, mail.TemplatesConfig{Files: files(
		"a.plain.txt", "Subject: Hi {{.Name}}\n\nHi {{.Name}}\n{{.URL}}\n",
		"a.rich.txt", "Subject: Hi {{.Name}}\r\n\r\nHi {{.Name}}\r\n",
		"a.rich.html", `<p>Hi {{.Name}}</p><a href="{{.URL}}">go</a>`,
	)})
	evil := person{"<b>\r\nBcc: eve@example.com", `javascript:alert("1")`}
	for _, kind := range []string{"a.plain", "a.rich"} {
		m, err := templates.Compose(kind, "ada@example.com", "", evil)
		require.NoError(t, err)
		assert.Equal(t, "Hi <b> Bcc: eve@example.com", m.Subject)
		assert.NotContains(t, m.HTML, "<b>")
		assert.NotContains(t, m.HTML, `href="javascript:`)
		require.NoError(t, m.Validate())
	}
	_, err := templates.Compose("a.plain", "ada@example.com", "Ada\r\nBcc: eve@example.com", ada)
	require.ErrorIs(t, err, mail.ErrInvalid)
	_, err = templates.Compose("a.plain", "ada", "", ada)
	require.ErrorIs(t, err, mail.ErrInvalid)
	_, err = templates.Compose("a.plain", "ada@example.com", "", person{Name: "Ada\x00"})
	require.ErrorIs(t, err, mail.ErrInvalid)
}

func TestCompose_HTMLStandsInTheLayoutOfItsFiles(t *testing.T) {
	t.Parallel()
	templates := newTemplates(t, mail.TemplatesConfig{Files: files(
		"x.txt", "Subject: One\n\nText of {{.Name}}\n",
		"x.html", `<p>HTML of {{.Name}}</p>`,
		"y.txt", "Subject: Two\n\nOnly text\n",
		"_layout.html", `<html><title>{{.Subject}} {{site}}</title>{{template "content" .Data}}</html>`,
	)})
	m, err := templates.Compose("x", "ada@example.com", "", ada)
	require.NoError(t, err)
	assert.Equal(t, "<html><title>One Acme</title><p>HTML of Ada</p></html>", m.HTML)
	assert.Equal(t, "Text of Ada\n", m.Text)
	m, err = templates.Compose("y", "ada@example.com", "", nil)
	require.NoError(t, err)
	assert.Contains(t, m.HTML, "<html><title>Two Acme</title>")
	assert.Contains(t, m.HTML, ">Only text</p>")
}

func TestCompose_AHostReplacesFiles(t *testing.T) {
	t.Parallel()
	own := files("x.txt", "Subject: Old\n\nOld text\n", "x.html", "<p>Old HTML</p>")
	for name, c := range map[string]struct {
		overrides           fs.FS
		subject, html, none string
	}{
		"nothing":       {files(), "Old", "<p>Old HTML</p>", "\x01"},
		"the text":      {files("x.txt", "Subject: New\n\nNew text\n"), "New", "New text</p>", "Old"},
		"the HTML":      {files("x.html", "<p>New HTML</p>"), "Old", "<p>New HTML</p>", "Old HTML"},
		"both":          {files("x.txt", "Subject: New\n\nNew text\n", "x.html", "<p>New HTML</p>"), "New", "<p>New HTML</p>", "Old"},
		"the layout":    {files("_layout.html", `<main>{{template "content" .Data}}</main>`), "Old", "<main><p>Old HTML</p></main>", "<body"},
		"another's too": {files("z.txt", "Subject: Z\n\nZ\n"), "Old", "<p>Old HTML</p>", "\x01"},
	} {
		m, err := newTemplates(t, mail.TemplatesConfig{Files: own, Overrides: c.overrides}).Compose("x", "ada@example.com", "", nil)
		require.NoError(t, err, name)
		assert.Equal(t, c.subject, m.Subject, name)
		assert.Contains(t, m.HTML, c.html, name)
		assert.NotContains(t, m.HTML, c.none, name)
	}
}

func TestNewTemplates_NamesTheFileThatIsWrong(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]mail.TemplatesConfig{
		"Files is required":             {Site: "Acme"},
		"Site is required":              {Files: files("a.txt", "Subject: A\n\nA")},
		"no *.txt":                      {Site: "Acme", Files: files("a.html", "A")},
		"two words.txt is not named":    {Site: "Acme", Files: files("two words.txt", "Subject: A\n\nA")},
		"a.txt does not begin":          {Site: "Acme", Files: files("a.txt", "Hello\n\nA")},
		"b.txt does not begin":          {Site: "Acme", Files: files("b.txt", "Subject: A\nB\n\nA")},
		"parse the subject of a.txt":    {Site: "Acme", Files: files("a.txt", "Subject: {{\n\nA")},
		"parse the text of a.txt":       {Site: "Acme", Files: files("a.txt", "Subject: A\n\n{{")},
		"parse a.html":                  {Site: "Acme", Files: files("a.txt", "Subject: A\n\nA", "a.html", "{{")},
		"parse _layout.html":            {Site: "Acme", Files: files("a.txt", "Subject: A\n\nA", "_layout.html", "{{")},
		"of the host: c.txt does not b": {Site: "Acme", Files: files("c.txt", "Subject: A\n\nA"), Overrides: files("c.txt", "A")},
	} {
		_, err := mail.NewTemplates(cfg)
		require.ErrorContains(t, err, strings.TrimPrefix(want, "of the host: "))
	}
}

func TestCompose_SaysWhichTemplateDoesNotFit(t *testing.T) {
	t.Parallel()
	templates := newTemplates(t, mail.TemplatesConfig{Files: files(
		"subject.txt", "Subject: {{.Nope}}\n\nA", "text.txt", "Subject: A\n\n{{.Nope}}", "html.txt", "Subject: A\n\nA", "html.html", "{{.Nope}}", "empty.txt", "Subject: A\n\n{{.Gone}}",
	)})
	for kind, want := range map[string]string{"subject": "the subject of subject", "text": "the text of text", "html": "the HTML of html", "none": "no template none.txt"} {
		for _, data := range []any{ada, map[string]string{}} {
			_, err := templates.Compose(kind, "ada@example.com", "", data)
			require.ErrorContains(t, err, want)
		}
	}
	_, err := templates.Compose("empty", "ada@example.com", "", map[string]string{"Gone": ""})
	require.ErrorIs(t, err, mail.ErrInvalid)
}

func TestComposeIn_ChoosesTheLanguageThatFitsBest(t *testing.T) {
	t.Parallel()
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	templates, err := mail.NewTemplates(mail.TemplatesConfig{Site: "Acme", Files: fstest.MapFS{
		"a.hi.txt":       file("Subject: Hello\n\nHello at {{site}}\n"),
		"a.hi.html":      file("<p>Hello, HTML</p>"),
		"a.bye.txt":      file("Subject: Bye\n\nBye\n"),
		"de/a.hi.txt":    file("Subject: Hallo\n\nHallo bei {{site}}\n"),
		"pt-BR/a.hi.txt": file("Subject: Oi\n\nOi\n"),
	}, Overrides: fstest.MapFS{
		"de/a.bye.txt":  file("Subject: Tschüss\n\nTschüss\n"),
		"fr/a.hi.txt":   file("Subject: Bonjour\n\nBonjour\n"),
		"fr/a.hi.html":  file("<p>Bonjour, HTML</p>"),
		"fr/a.bye.html": file("<p>Au revoir</p>"),
	}})
	require.NoError(t, err)
	for _, c := range []struct{ languages, kind, subject, html, tag string }{
		{"", "a.hi", "Hello", "Hello, HTML", "en"}, {"en", "a.hi", "Hello", "Hello, HTML", "en"}, {"xx", "a.hi", "Hello", "Hello, HTML", "en"}, {"!!!", "a.hi", "Hello", "Hello, HTML", "en"},
		{"de", "a.hi", "Hallo", "Hallo bei Acme", "de"}, {"de-AT", "a.hi", "Hallo", "Hallo bei Acme", "de"}, {"DE_de", "a.hi", "Hallo", "Hallo bei Acme", "de"},
		{"it, de;q=0.8, en;q=0.5", "a.hi", "Hallo", "Hallo bei Acme", "de"}, {"de", "a.bye", "Tschüss", "Tschüss", "de"},
		{"pt", "a.hi", "Oi", "Oi", "pt-BR"}, {"pt-BR", "a.bye", "Bye", "Bye", "pt-BR"},
		{"fr-CA", "a.hi", "Bonjour", "Bonjour, HTML", "fr"}, {"fr", "a.bye", "Bye", "Au revoir", "fr"},
	} {
		m, err := templates.ComposeIn(c.languages, c.kind, "ada@example.com", "Ada", nil)
		require.NoError(t, err)
		assert.Equal(t, c.subject, m.Subject, "%+v", c)
		assert.Contains(t, m.HTML, c.html, "%+v", c)
		assert.Contains(t, m.HTML, `<html lang="`+c.tag+`">`, "%+v", c)
	}
	m, err := templates.Compose("a.hi", "ada@example.com", "Ada", nil)
	require.NoError(t, err)
	assert.Equal(t, "Hello", m.Subject)

	good := fstest.MapFS{"a.hi.txt": file("Subject: Hello\n\nHello\n")}
	_, err = mail.NewTemplates(mail.TemplatesConfig{Site: "Acme", Files: good, Overrides: fstest.MapFS{"no language/a.hi.txt": file("x")}})
	require.ErrorContains(t, err, "no language")
	_, err = mail.NewTemplates(mail.TemplatesConfig{Site: "Acme", Files: good, Overrides: fstest.MapFS{"de/a.hi.txt": file("x")}})
	require.ErrorContains(t, err, "in de")
	_, err = mail.NewTemplates(mail.TemplatesConfig{Site: "Acme", Files: good, Language: "!"})
	require.ErrorContains(t, err, "Language")
}
