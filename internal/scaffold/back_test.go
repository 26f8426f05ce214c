package scaffold_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/scaffold"
)

// clone is a checkout that has only the templates, and a project made from them.
type clone struct {
	t            *testing.T
	dir, project string
	params       scaffold.Params
}

func newClone(t *testing.T, p scaffold.Params) clone {
	t.Helper()
	c := clone{t, t.TempDir(), filepath.Join(t.TempDir(), "project"), p}
	require.NoError(t, os.CopyFS(filepath.Join(c.dir, filepath.FromSlash(scaffold.Folder)), os.DirFS("template")))
	files, err := scaffold.In(c.dir).Files(p)
	require.NoError(t, err)
	require.NoError(t, scaffold.Write(c.project, files))
	return c
}

func (c clone) read(file string) string {
	c.t.Helper()
	content, err := os.ReadFile(filepath.Join(c.project, file))
	require.NoError(c.t, err)
	return string(content)
}

func (c clone) write(file, content string) {
	c.t.Helper()
	name := filepath.Join(c.project, file)
	require.NoError(c.t, os.MkdirAll(filepath.Dir(name), 0o700))
	require.NoError(c.t, os.WriteFile(name, []byte(content), 0o600))
}

// replace changes what stands in a file once.
func (c clone) replace(file, was, is string) {
	c.t.Helper()
	text := c.read(file)
	require.Equal(c.t, 1, strings.Count(text, was), "%q in %s", was, file)
	c.write(file, strings.Replace(text, was, is, 1))
}

// back carries everything back that can be, and returns the changes by their files.
func (c clone) back() map[string]scaffold.Change {
	c.t.Helper()
	changes, _, err := scaffold.In(c.dir).Back(c.params, c.project)
	require.NoError(c.t, err)
	all := map[string]scaffold.Change{}
	for _, change := range changes {
		all[change.File] = change
		name := filepath.Join(c.dir, filepath.FromSlash(scaffold.Folder), change.Template)
		switch {
		case change.Problem != "":
			assert.Nil(c.t, change.After)
		case change.Action == scaffold.Deletes:
			require.NoError(c.t, os.Remove(name))
		default:
			require.NoError(c.t, os.MkdirAll(filepath.Dir(name), 0o700))
			require.NoError(c.t, os.WriteFile(name, change.After, 0o600))
		}
	}
	return all
}

func (c clone) template(file string) string {
	c.t.Helper()
	content, err := os.ReadFile(filepath.Join(c.dir, filepath.FromSlash(scaffold.Folder), file))
	require.NoError(c.t, err)
	return string(content)
}

// files are what the templates make of other params now.
func (c clone) files(p scaffold.Params) map[string]string {
	c.t.Helper()
	files, err := scaffold.In(c.dir).Files(p)
	require.NoError(c.t, err)
	all := map[string]string{}
	for _, f := range files {
		all[f.Path] = string(f.Content)
	}
	return all
}

var other = scaffold.Params{Name: "zenith-mail", Module: "git.example.com/zenith/mail", Database: scaffold.Postgres, Samples: []string{"jsoncheck"}, OAuth: []string{"oidc"}, Without: []string{"outbound"}, Version: "v1.2.3"}

func TestBack_GeneratedAndNotChangedIsNoChange(t *testing.T) {
	t.Parallel()
	for name, p := range combinations {
		c := newClone(t, p)
		assert.Empty(t, c.back(), name)
	}
}

// Each edit of a project is carried back; the templates then make that project, byte for byte, and give others the edit
// under their own names.
func TestBack_AnEditOfAProjectIsThereForAll(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]struct {
		file, was, is string
		template      string // what stands in the template then
		others        string // what stands in another project then
	}{
		"prose beside a variable":       {"README.md", "people sign up, buy credits", "people enter, buy credits", "[[.Title]]", "people enter, buy credits"},
		"around a variable":             {"templates/about.html", `<p>Say here who makes Acme, and how`, `<p class="x">Say who makes Acme, or how`, `<p class="x">Say who makes [[.Title]], or how`, `<p class="x">Say who makes Zenith Mail, or how`},
		"a line that has a variable":    {"templates/about.html", "<p>Say here who makes Acme, and how to reach you. This page is templates/about.html.</p>\n", "", `<h1 class="title">About</h1>` + "\n</div>", `<h1 class="title">About</h1>` + "\n</div>"},
		"pages keep what they say":      {"templates/about.html", "</div>", "<p>Acme is an example.</p>\n</div>", "Acme is an example", "Acme is an example"},
		"code gets variables":           {"development.go", "// closeSeeded closes", "// Acme, which is acme and lies at example.com/acme, is not acmes.\n\n// closeSeeded closes", "// [[.Title]], which is [[.Name]] and lies at [[.Module]], is not acmes.", "// Zenith Mail, which is zenith-mail and lies at git.example.com/zenith/mail, is not acmes."},
		"beside a condition":            {"main.go", "	app, err := quickscale.New(env.Config)\n", "	env.Config.LowCredits = 5\n	app, err := quickscale.New(env.Config)\n", "LowCredits = 5\n	app", "LowCredits = 5\n"},
		"an import beside a loop":       {"main.go", "	\"example.com/acme/services/wordcount\"\n", "	_ \"example.com/acme/more\"\n	\"example.com/acme/services/wordcount\"\n", `_ "[[.Module]]/more"`, `_ "git.example.com/zenith/mail/more"`},
		"within a condition that holds": {".env.example", "# A file, or postgres://user:password@host:5432/name", "# A file, or a server", "# A file, or a server", "# The database of compose.yaml"},
		"brackets are text":             {"Makefile", "go vet ./...", "if [[ -d x ]]; then go vet ./...; fi", `[["[["]] -d x ]]`, "if [[ -d x ]]; then"},
		"at the end":                    {".gitignore", "*.db-wal\n", "*.db-wal\n/acme.pid\n", "/[[.Name]].pid", "/zenith-mail.pid"},
		"in a service":                  {"services/wordcount/wordcount.go", "package wordcount\n", "package wordcount\n\n// A note.\n", "// A note.", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClone(t, combinations["sqlite"])
			c.replace(e.file, e.was, e.is)
			changes := c.back()
			require.Len(t, changes, 1)
			require.Empty(t, changes[e.file].Problem)
			assert.Contains(t, c.template(e.file+".tmpl"), e.template)
			assert.Equal(t, c.read(e.file), c.files(c.params)[e.file])
			if e.others != "" {
				assert.Contains(t, c.files(other)[e.file], e.others)
			}
			assert.Empty(t, c.back(), "a second time there is nothing to do")
		})
	}
}

func TestBack_SaysWhatItCannotCarryBack(t *testing.T) {
	t.Parallel()
	c := newClone(t, combinations["postgres"])
	before := c.files(c.params)
	c.replace("templates/about.html", "makes Acme Text,", "makes Other,")                 // what a variable made
	c.replace("main.go", "services.Register(app.Services, jsoncheck.Service{}),", "nil,") // one round of a loop
	c.replace("routes.go", "mux := http.NewServeMux()", "mux:=http.NewServeMux()")        // not gofmt's
	c.write("services/poems/poems.go", "package poems\n")                                 // not every project has it
	c.write("templates/a'b.html", "x\n")                                                  // cannot be embedded
	for file, change := range c.back() {
		assert.NotEmpty(t, change.Problem, file)
	}
	assert.Equal(t, before, c.files(c.params))
	assert.Len(t, c.back(), 5)
}

func TestBack_FindsNewAndDeletedFilesAndSkipsWhatNeverGoesBack(t *testing.T) {
	t.Parallel()
	c := newClone(t, combinations["sqlite"])
	c.write("mailer.go", "package main\n\n// acme has a mailer.\n")
	c.write("docs/notes.md", "Acme [[x]]\n")
	picture := "\x89PNG\r\n\x1a\n[[\xff"
	c.write("static/logo.png", picture)
	require.NoError(t, os.Remove(filepath.Join(c.project, "Makefile")))
	never := []string{"acme.db", "acme.db-wal", ".env", ".env.production", "app.log", "migrations/0001.sql", "go.sum", "tls.key", ".quickscale/app.log", "vendor/x.go", ".git/HEAD", "cache/x"}
	for _, file := range never {
		c.write(file, "secret")
	}
	c.write("acme", "\x7fELF\xff")
	require.NoError(t, os.Chmod(filepath.Join(c.project, "acme"), 0o700))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(c.project, "link.txt")))
	c.replace("go.mod", "go 1", "go 2")

	_, skipped, err := scaffold.In(c.dir).Back(c.params, c.project)
	require.NoError(t, err)
	var names []string
	for _, s := range skipped {
		names = append(names, s.File)
		assert.NotEmpty(t, s.Why)
	}
	assert.Subset(t, names, []string{"acme.db", ".env", "app.log", "migrations/", "go.sum", "tls.key", ".quickscale/", "vendor/", ".git/", "acme", "link.txt", "go.mod"})

	changes := c.back()
	require.Len(t, changes, 4)
	assert.Equal(t, scaffold.Deletes, changes["Makefile"].Action)
	assert.Equal(t, scaffold.Adds, changes["mailer.go"].Action)
	assert.Equal(t, "static/logo.png", changes["static/logo.png"].Template)
	files := c.files(other)
	assert.Equal(t, "package main\n\n// zenith-mail has a mailer.\n", files["mailer.go"])
	assert.Equal(t, "Acme [[x]]\n", files["docs/notes.md"])
	assert.Equal(t, picture, files["static/logo.png"])
	assert.NotContains(t, files, "Makefile")
	assert.Empty(t, c.back())
}

// A project whose name is a word of the templates would have every such word become its name.
func TestBack_AWordOfTheTemplatesIsNoName(t *testing.T) {
	t.Parallel()
	c := newClone(t, scaffold.Params{Name: "app", Version: "v1.2.3"})
	c.replace("development.go", "// banner tells", "// The app is example.com/app.\n\n// banner tells")
	require.Empty(t, c.back()["development.go"].Problem)
	assert.Contains(t, c.template("development.go.tmpl"), "// The app is [[.Module]].")
}

func TestRecord_KeepsEveryByte(t *testing.T) {
	t.Parallel()
	want := scaffold.Record{Version: "v1.2.3", Files: []scaffold.File{{Path: "a.txt", Content: []byte("a\nb")}, {Path: "b", Content: []byte("\n")}, {Path: "c.png", Content: []byte{0xff, 0}}, {Path: "empty", Content: []byte("")}}}
	file, err := want.File()
	require.NoError(t, err)
	dir := t.TempDir()
	_, err = scaffold.ReadRecord(dir)
	require.ErrorIs(t, err, scaffold.ErrNoRecord)
	require.NoError(t, scaffold.Write(dir, []scaffold.File{file}))
	got, err := scaffold.ReadRecord(dir)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	require.NoError(t, os.WriteFile(filepath.Join(dir, scaffold.RecordFile), []byte(`{"files":[{"path":"../x","lines":["y"]}]}`), 0o600))
	_, err = scaffold.ReadRecord(dir)
	require.ErrorContains(t, err, "outside the project")
}
