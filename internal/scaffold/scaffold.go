// Package scaffold generates a host application: a small program of its own with a service, templates, tests, and what
// it takes to run and deploy it.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"
)

// File is one file of a generated project.
type File struct {
	// Path is below the project's folder, with slashes.
	Path    string
	Content []byte
}

//go:embed all:template
var embedded embed.FS

const ending = ".tmpl"

// Folder is where the templates lie in a checkout of QuickScale.
const Folder = "internal/scaffold/template"

// Templates are what projects are rendered from. Those whose name ends with .tmpl are filled in and lose the ending;
// others, such as pictures, are copied as they are.
type Templates struct{ files fs.FS }

// BuiltIn are the templates of this program.
func BuiltIn() Templates {
	files, err := fs.Sub(embedded, "template")
	if err != nil {
		panic(err) // the name is a constant that the compiler has embedded
	}
	return Templates{files}
}

// In are the templates of a checkout of QuickScale, as they lie on its disk.
func In(checkout string) Templates {
	return Templates{os.DirFS(filepath.Join(checkout, filepath.FromSlash(Folder)))}
}

// Files are the project's files from the built-in templates, in the order of their paths. The error tells all that is
// wrong with p.
func Files(p Params) ([]File, error) { return BuiltIn().Files(p) }

// Files are the project's files; see [Files].
func (t Templates) Files(p Params) ([]File, error) {
	p, err := p.complete()
	if err != nil {
		return nil, err
	}
	view := p.view()
	var files []File
	err = t.walk(view, func(name, to string) error {
		content, err := t.render(name, view)
		if err != nil {
			return err
		}
		files = append(files, File{to, content})
		return nil
	})
	return files, err
}

// walk calls fn for each template of the project, with its name and the path of its file.
func (t Templates) walk(v view, fn func(name, to string) error) error {
	return fs.WalkDir(t.files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if to := strings.TrimSuffix(name, ending); v.wants(to) {
			return fn(name, to)
		}
		return nil
	})
}

// render fills in one template. HTML templates of the project keep their braces: ours are square brackets.
func (t Templates) render(name string, v view) ([]byte, error) {
	text, err := fs.ReadFile(t.files, name)
	if err != nil {
		return nil, fmt.Errorf("scaffold: %w", err)
	}
	if !strings.HasSuffix(name, ending) {
		return text, nil
	}
	return fill(name, string(text), v)
}

// fill fills in the text of a template.
func fill(name, text string, v view) ([]byte, error) {
	t, err := parseTemplate(name, text)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, v); err != nil {
		return nil, fmt.Errorf("scaffold: %w", err)
	}
	if path.Ext(strings.TrimSuffix(name, ending)) != ".go" {
		return out.Bytes(), nil
	}
	formatted, err := format.Source(out.Bytes())
	if err != nil {
		return nil, fmt.Errorf("scaffold: %s: %w", name, err)
	}
	return formatted, nil
}

// The delimiters of the templates.
const (
	left  = "[["
	right = "]]"
)

func parseTemplate(name, text string) (*template.Template, error) {
	t, err := template.New(name).Delims(left, right).Option("missingkey=error").Funcs(template.FuncMap{"join": strings.Join}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("scaffold: %w", err)
	}
	return t, nil
}

// ErrNotEmpty says that the folder for the project has something in it.
var ErrNotEmpty = errors.New("scaffold: the folder is not empty")

// Write writes the files into dir, which is made when it is missing and must be empty otherwise: [ErrNotEmpty]. When a
// file cannot be written, those before it are taken away again.
func Write(dir string, files []File) (err error) {
	existed := true
	switch entries, err := os.ReadDir(dir); {
	case errors.Is(err, fs.ErrNotExist):
		existed = false
	case err != nil:
		return fmt.Errorf("scaffold: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("%w: %s", ErrNotEmpty, dir)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, empty(dir, existed))
		}
	}()
	for _, f := range files {
		to := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
			return fmt.Errorf("scaffold: %w", err)
		}
		if err := os.WriteFile(to, f.Content, 0o600); err != nil {
			return fmt.Errorf("scaffold: %w", err)
		}
	}
	return nil
}

// empty clears a folder that was empty, and takes it away when it was not there.
func empty(dir string, keep bool) error {
	if !keep {
		return os.RemoveAll(dir)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}
