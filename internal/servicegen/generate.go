package servicegen

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// ErrExists says that there is a file where one would be written.
var ErrExists = errors.New("there is such a file already, and nothing is overwritten")

// Plan is what generating would change.
type Plan struct {
	// Files are new; their names are paths.
	Files []File `json:"files"`
	// Registration is the file that registers the service and how it will read. Nil: it has to be registered by hand.
	Registration *File `json:"registration,omitempty"`
	// Statement registers the service, and Import is what its file must import.
	Statement string `json:"statement"`
	Import    string `json:"import"`

	before []byte // of the registration's file
}

// Generate plans a service in a folder of services, such as services. With register it is registered where the project
// registers its others. The errors are an [InputError], one that is [ErrExists], and those of the project.
func Generate(dir string, p Params, register bool) (*Plan, error) {
	p, err := p.complete()
	if err != nil {
		return nil, err
	}
	files, err := Files(p)
	if err != nil {
		return nil, err
	}
	m, err := FindModule(dir)
	if err != nil {
		return nil, err
	}
	plan := &Plan{}
	for _, f := range files {
		f.Name = filepath.Join(dir, filepath.FromSlash(f.Name))
		if _, err := os.Lstat(f.Name); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", f.Name, errors.Join(err, ErrExists))
		}
		plan.Files = append(plan.Files, f)
	}
	if plan.Import, err = m.importPath(filepath.Join(dir, p.pkg())); err != nil {
		return nil, err
	}
	kind, _ := FindKind(p.Kind)
	plan.Statement = "services.Register(app.Services, " + p.pkg() + "." + kind.expression + ")"
	if register {
		err = plan.register(m, p.pkg(), kind.expression)
	}
	return plan, err
}

// Write carries a plan out. What was written is taken away again when a later file cannot be.
func (p *Plan) Write() (err error) {
	var undo []func() error
	defer func() {
		if err == nil {
			return
		}
		for _, take := range slices.Backward(undo) {
			err = errors.Join(err, take())
		}
	}()
	for _, f := range p.Files {
		dir := filepath.Dir(f.Name)
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // source code, which others of the project may read
			return fmt.Errorf("servicegen: %w", err)
		}
		// Exclusive: a file that has come since is not overwritten either.
		file, err := os.OpenFile(f.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // the same
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s: %w", f.Name, ErrExists)
		}
		if err != nil {
			return fmt.Errorf("servicegen: %w", err)
		}
		undo = append(undo, func() error { return os.Remove(f.Name) })
		_, err = file.WriteString(f.Content)
		if err = errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("servicegen: %w", err)
		}
	}
	if p.Registration == nil {
		return nil
	}
	now, err := os.ReadFile(p.Registration.Name)
	if err != nil {
		return fmt.Errorf("servicegen: %w", err)
	}
	if string(now) != string(p.before) {
		return fmt.Errorf("%s has changed meanwhile; try again", p.Registration.Name)
	}
	return replace(p.Registration.Name, p.Registration.Content)
}

// replace writes a file anew, whole or not at all.
func replace(name, content string) (err error) {
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("servicegen: %w", err)
	}
	next, err := os.CreateTemp(filepath.Dir(name), ".quickscale-*")
	if err != nil {
		return fmt.Errorf("servicegen: %w", err)
	}
	_, err = next.WriteString(content)
	if err = errors.Join(err, next.Chmod(info.Mode().Perm()), next.Close()); err == nil {
		err = os.Rename(next.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("servicegen: %w", errors.Join(err, os.Remove(next.Name())))
	}
	return nil
}
