package servicegen

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
)

// library is the module that services are written with.
const library = "github.com/quickscale/quickscale"

// Module is a host's Go module.
type Module struct {
	// Dir is its root, and Path its import path.
	Dir, Path string
}

// FindModule returns the module that a folder, which need not be there yet, lies in. The module must be the library or
// require it.
func FindModule(dir string) (Module, error) {
	at, err := filepath.Abs(dir)
	if err != nil {
		return Module{}, fmt.Errorf("servicegen: %w", err)
	}
	for {
		file := filepath.Join(at, "go.mod")
		text, err := os.ReadFile(file)
		if err == nil {
			return readModule(at, file, text)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return Module{}, fmt.Errorf("servicegen: %w", err)
		}
		up := filepath.Dir(at)
		if up == at {
			return Module{}, fmt.Errorf("%s is in no Go module; begin one with `quickscale init`, or `go mod init` and `go get %s`", dir, library)
		}
		at = up
	}
}

func readModule(dir, file string, text []byte) (Module, error) {
	mod, err := modfile.Parse(file, text, nil)
	if err != nil {
		return Module{}, fmt.Errorf("servicegen: %w", err)
	}
	if mod.Module == nil {
		return Module{}, fmt.Errorf("%s names no module", file)
	}
	m := Module{dir, mod.Module.Mod.Path}
	if m.Path == library {
		return m, nil
	}
	for _, r := range mod.Require {
		if r.Mod.Path == library {
			return m, nil
		}
	}
	return Module{}, fmt.Errorf("%s does not require %s; run `go get %s` in its folder", file, library, library)
}

// importPath is that of a folder in the module.
func (m Module) importPath(dir string) (string, error) {
	at, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("servicegen: %w", err)
	}
	below, err := filepath.Rel(m.Dir, at)
	if err != nil || below == ".." || strings.HasPrefix(below, ".."+string(filepath.Separator)) {
		return "", fmt.Errorf("%s is not in the module %s", dir, m.Path)
	}
	return path.Join(m.Path, filepath.ToSlash(below)), nil
}
