package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"github.com/quickscale/quickscale/internal/scaffold"
)

func (p place) git(args ...string) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "git", append([]string{"-c", "user.name=Ada", "-c", "user.email=ada@example.com"}, args...)...)
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	require.NoError(p.t, err, "git %v: %s", args, out)
}

// templateClone is a Git clone of QuickScale that has only the templates.
func templateClone(t *testing.T) place {
	t.Helper()
	c := place{t: t, dir: t.TempDir()}
	require.NoError(t, os.CopyFS(filepath.Join(c.dir, filepath.FromSlash(scaffold.Folder)), os.DirFS(filepath.Join(checkout(t), filepath.FromSlash(scaffold.Folder)))))
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, "go.mod"), []byte("module github.com/quickscale/quickscale\n"), 0o600))
	c.git("init", "-q")
	c.git("add", ".")
	c.git("commit", "-q", "-m", "templates")
	return c
}

func (p place) write(file, content string) {
	p.t.Helper()
	name := filepath.Join(p.dir, file)
	require.NoError(p.t, os.MkdirAll(filepath.Dir(name), 0o700))
	require.NoError(p.t, os.WriteFile(name, []byte(content), 0o600))
}

func (p place) read(file string) string {
	p.t.Helper()
	content, err := os.ReadFile(filepath.Join(p.dir, file))
	require.NoError(p.t, err)
	return string(content)
}

// replace changes what stands in a file once.
func (p place) replace(file, was, is string) {
	p.t.Helper()
	text := p.read(file)
	require.Equal(p.t, 1, strings.Count(text, was), "%q in %s", was, file)
	p.write(file, strings.Replace(text, was, is, 1))
}

// project writes a project of the templates of a clone, without its modules.
func project(t *testing.T, p scaffold.Params, files []scaffold.File) place {
	t.Helper()
	record, err := scaffold.Record{Version: p.Version, Files: files}.File()
	require.NoError(t, err)
	project := place{t: t, dir: filepath.Join(t.TempDir(), p.Name)}
	require.NoError(t, scaffold.Write(project.dir, append(files, record)))
	return project
}

func TestSyncBack_FromPreviewToRestore(t *testing.T) {
	t.Parallel()
	clone := templateClone(t)
	params := scaffold.Params{Name: "acme", Version: "v0.0.0", Replace: clone.dir}
	templates := scaffold.In(clone.dir)
	files, err := templates.Files(params)
	require.NoError(t, err)
	p := project(t, params, files)
	assert.Contains(t, p.ok("sync-back", "--preview"), "the templates make this project already")

	p.replace("templates/about.html", "how to reach you", "where you are")
	p.replace("main.go", "// run serves", "// run starts acme: it serves")
	p.write("NOTES.md", "new\n")
	p.write(".env", "QUICKSCALE_SECRET_KEY=secret\n")
	require.NoError(t, os.Remove(filepath.Join(p.dir, "Makefile")))
	was := place{t: t, dir: filepath.Join(clone.dir, filepath.FromSlash(scaffold.Folder))}
	out := p.ok("sync-back", "--preview")
	for _, said := range []string{
		"change templates/about.html (safe)", "+<p>Say here who makes [[.Title]], and where you are.", "change main.go (careful)",
		"// run starts [[.Name]]: it serves", "add NOTES.md (safe)", "delete Makefile (careful)", "+++ /dev/null", "this is a preview",
	} {
		assert.Contains(t, out, said)
	}
	assert.NotContains(t, out, "secret")
	assert.Contains(t, was.read("templates/about.html.tmpl"), "how to reach you")

	var done struct {
		Changes []struct{ File, Diff string }
		Applied bool
		Backup  string
	}
	// From elsewhere, with the path.
	require.NoError(t, json.Unmarshal([]byte(place{t: t, dir: t.TempDir()}.ok("sync-back", p.dir, "--apply", "--json")), &done))
	assert.Len(t, done.Changes, 4)
	assert.True(t, done.Applied)
	made, err := templates.Files(params)
	require.NoError(t, err)
	names := map[string]bool{}
	for _, f := range made {
		names[f.Path] = true
		if f.Path != "go.mod" {
			assert.Equal(t, p.read(f.Path), string(f.Content), "the edit is there in what is generated next")
		}
	}
	assert.True(t, names["NOTES.md"] && !names["Makefile"] && !names[".env"])
	assert.Contains(t, p.fails(2, "sync-back", "--preview"), "not committed", "the templates have changes of their own now")
	clone.git("add", ".")
	clone.git("commit", "-q", "-m", "synced")
	assert.Contains(t, p.ok("sync-back", "--preview"), "already", "the project begins from what was synced")

	out = p.ok("sync-back", "--restore")
	assert.Contains(t, out, "about.html.tmpl")
	assert.NoFileExists(t, filepath.Join(was.dir, "NOTES.md.tmpl"))
	assert.Contains(t, p.fails(3, "sync-back", "--restore=nonsense"), done.Backup)
	clone.git("add", ".")
	clone.git("diff", "--cached", "--exit-code", "HEAD~1", "--", scaffold.Folder)
	clone.git("commit", "-q", "-m", "restored")
	assert.Contains(t, p.ok("sync-back", "--preview"), "4 of 4 changes can go back")

	// What cannot go back by itself stays, and is told.
	p.replace("templates/about.html", "who makes Acme", "who makes Other")
	code, out, problems := p.run("", "sync-back", "--apply")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "change templates/about.html (safe): not carried over")
	assert.Contains(t, out, "3 of 4 changes are in")
	assert.Contains(t, problems, "listed with why")
	assert.Contains(t, was.read("templates/about.html.tmpl"), "how to reach you")
}

func TestSyncBack_RefusesWhatItCannotBeSureOf(t *testing.T) {
	t.Parallel()
	clone := templateClone(t)
	params := scaffold.Params{Name: "acme", Version: "v0.0.0", Replace: clone.dir}
	files, err := scaffold.In(clone.dir).Files(params)
	require.NoError(t, err)
	p := project(t, params, files)
	assert.Contains(t, p.fails(2, "sync-back"), "choose one of --preview, --apply")
	assert.Contains(t, p.fails(2, "sync-back", "--preview", "--apply"), "choose one")
	assert.Contains(t, place{t: t, dir: t.TempDir()}.fails(2, "sync-back", "--preview"), "quickscale init")

	// No clone, and one that is not Git's.
	said := p.fails(2, "sync-back", "--preview", "--checkout", t.TempDir())
	assert.Contains(t, said, "git clone https://github.com/quickscale/quickscale", "how to set it up")
	plain := place{t: t, dir: t.TempDir()}
	require.NoError(t, os.CopyFS(plain.dir, os.DirFS(clone.dir)))
	require.NoError(t, os.RemoveAll(filepath.Join(plain.dir, ".git")))
	assert.Contains(t, p.fails(2, "sync-back", "--preview", "--checkout", plain.dir), "no Git clone")
	params.Replace = ""
	files, err = scaffold.In(clone.dir).Files(params)
	require.NoError(t, err)
	assert.Contains(t, project(t, params, files).fails(2, "sync-back", "--preview"), "points to no clone")

	// Templates that are newer than the project.
	clone.write(scaffold.Folder+"/NEW.md.tmpl", "new\n")
	assert.Contains(t, p.fails(2, "sync-back", "--preview"), "NEW.md.tmpl")
	clone.git("add", ".")
	clone.git("commit", "-q", "-m", "newer")
	assert.Contains(t, p.fails(2, "sync-back", "--preview"), "have changed since the project was generated: NEW.md")
	p.ok("upgrade", "--apply")
	assert.Equal(t, "new\n", p.read("NEW.md"))
	assert.Contains(t, p.ok("sync-back", "--preview"), "already")
	require.NoError(t, os.Remove(filepath.Join(p.dir, scaffold.RecordFile)))
	assert.Contains(t, p.fails(2, "sync-back", "--preview"), scaffold.RecordFile)
	assert.Contains(t, p.fails(2, "upgrade"), scaffold.RecordFile)
}

// A project that an older scaffold made (testdata/older.txtar is what the first one did) and that has grown since gets
// what the scaffold has learnt, and keeps what it has of its own; and it builds.
func TestUpgrade_OfAnOlderProjectThatHasGrown(t *testing.T) {
	t.Parallel()
	archive, err := txtar.ParseFile("testdata/older.txtar")
	require.NoError(t, err)
	var older []scaffold.File
	for _, f := range archive.Files {
		older = append(older, scaffold.File{Path: f.Name, Content: f.Data})
	}
	p := project(t, scaffold.Params{Name: "acme", Version: "v0.0.0"}, older)
	p.replace("go.mod", "=> ../quickscale", "=> "+checkout(t))
	p.replace("go.mod", "go 1.26.8", "go 1.26.0")
	p.write("go.sum", place{t: t, dir: checkout(t)}.read("go.sum"))
	p.replace("README.md", "# Acme\n", "# Acme, the text company\n")
	p.replace("main.go", "	env.Config.DB, env.Config.ReadDB =", "	env.Config.AdminEmail = \"boss@example.com\"\n	env.Config.DB, env.Config.ReadDB =")
	p.replace("services/wordcount/wordcount.go", `Title: "Word count"`, `Title: "Count words"`)
	p.write("templates/pricing.html", "mine\n")
	require.NoError(t, os.Remove(filepath.Join(p.dir, "Dockerfile")))

	var plan struct {
		Files []struct {
			File, Outcome, Diff string
			Conflicts           int
		}
		GoMod string `json:"go_mod"`
	}
	before := p.read("services/wordcount/wordcount.go")
	require.Contains(t, before, ") Price(")
	require.NoError(t, json.Unmarshal([]byte(p.ok("upgrade", "--json")), &plan))
	outcomes := map[string]string{}
	for _, f := range plan.Files {
		outcomes[f.File] = f.Outcome
	}
	assert.Equal(t, map[string]string{
		"services/wordcount/wordcount.go": "merged", "services/wordcount/wordcount_test.go": "updated", "README.md": "merged", ".env.example": "updated", ".dockerignore": "updated",
		"main.go": "merged", "routes.go": "updated", "templates/home.html": "removed",
	}, outcomes, "the Dockerfile is the project's: the scaffold has not changed it")
	assert.Contains(t, plan.GoMod, "+go 1.26.8")
	assert.Equal(t, before, p.read("services/wordcount/wordcount.go"), "nothing is changed without --apply")

	p.ok("upgrade", "--apply")
	now, err := scaffold.Files(scaffold.Params{Name: "acme", Version: "v0.0.0", Replace: checkout(t)})
	require.NoError(t, err)
	for _, f := range now {
		switch f.Path {
		case "README.md":
			assert.Contains(t, p.read(f.Path), "# Acme, the text company\n")
			assert.Contains(t, p.read(f.Path), scaffold.RecordFile)
		case "main.go":
			assert.Equal(t, strings.Replace(string(f.Content), "	env.Config.DB, env.Config.ReadDB =", "	env.Config.AdminEmail = \"boss@example.com\"\n	env.Config.DB, env.Config.ReadDB =", 1), p.read(f.Path))
		case "services/wordcount/wordcount.go":
			assert.Equal(t, strings.Replace(string(f.Content), `"Word count"`, `"Count words"`, 1), p.read(f.Path))
		case "go.mod", "Dockerfile":
		default:
			assert.Equal(t, string(f.Content), p.read(f.Path), f.Path)
		}
	}
	assert.NoFileExists(t, filepath.Join(p.dir, "Dockerfile"), "what was deleted stays so")
	assert.Equal(t, "mine\n", p.read("templates/pricing.html"))
	p.goes("vet", "./...")
	assert.Contains(t, p.ok("upgrade"), "has all that the scaffold")

	p.ok("upgrade", "--restore")
	assert.Equal(t, before, p.read("services/wordcount/wordcount.go"))
	// Both have changed the same line.
	p.replace("README.md", "and spend them on services.\n", "and spend them.\n")
	p.replace("README.md", "| `.env.example` | all settings; copy it to `.env` |\n", "| `.env.example` | settings |\n")
	code, out, problems := p.run("", "upgrade", "--apply")
	assert.Equal(t, 1, code, problems)
	assert.Contains(t, out, "conflict README.md")
	assert.Contains(t, problems, "<<<<<<<")
	text := p.read("README.md")
	assert.Contains(t, text, "<<<<<<< yours\n| `.env.example` | settings |\n||||||| generated\n")
	assert.Contains(t, text, ">>>>>>> scaffold\n")
	assert.Contains(t, text, "and spend them.\n")
}
