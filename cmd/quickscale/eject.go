package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale"
)

// What happens to a file.
const (
	ejectWrite     = "write"
	ejectUnchanged = "unchanged"
	ejectOverwrite = "overwrite"
)

// ejected is one file of what eject-templates prints.
type ejected struct {
	Path   string `json:"path"`
	Action string `json:"action"`

	text []byte
}

// ejection is what eject-templates prints.
type ejection struct {
	Folder string    `json:"folder"`
	Files  []ejected `json:"files"`
	DryRun bool      `json:"dry_run"`
}

func newEject() *cobra.Command {
	var only []string
	var dryRun, force bool
	cmd := &cobra.Command{
		Use: "eject-templates DIR", Args: args(cobra.ExactArgs(1)), Short: "Copy built-in templates into a folder, to change them",
		Long: "Copy built-in templates into a folder, to change them. The application uses those that Config.Templates gives it in the\n" +
			"place of its own; what is not in the folder stays built in and keeps up with the library, so take only what you\n" +
			"change. docs/theming.md has the rest.",
		Example: "  quickscale eject-templates templates/quickscale --only auth/login\n  quickscale eject-templates templates/quickscale --only web/components/field --only web/layout",
	}
	addJSON(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&only, "only", nil, "paths as web/layout or auth/login, folders as auth, or patterns as billing/payment*; all, unless given")
	f.BoolVar(&dryRun, "dry-run", false, "print what would be written and write nothing")
	f.BoolVar(&force, "force", false, "overwrite files that were changed")
	cmd.RunE = func(cmd *cobra.Command, dirs []string) error {
		out, err := newOutput(cmd)
		if err != nil {
			return err
		}
		files, err := chooseTemplates(only)
		if err != nil {
			return err
		}
		if err := compareTemplates(dirs[0], files, force); err != nil {
			return err
		}
		if !dryRun {
			if err := writeTemplates(dirs[0], files); err != nil {
				return err
			}
		}
		return out.print(ejection{dirs[0], files, dryRun}, func(t table) { tellEjected(t, dirs[0], files, dryRun) })
	}
	return cmd
}

// chooseTemplates are the built-in templates that one of the names means; all without names.
func chooseTemplates(names []string) ([]ejected, error) {
	builtin, err := quickscale.BuiltinTemplates()
	if err != nil {
		return nil, err
	}
	used := make([]bool, len(names))
	var files []ejected
	for _, b := range builtin {
		wanted := len(names) == 0
		for i, name := range names {
			if meansTemplate(name, b.Path) {
				wanted, used[i] = true, true
			}
		}
		if wanted {
			files = append(files, ejected{b.Path, ejectWrite, b.Text})
		}
	}
	for i, name := range names {
		if !used[i] {
			return nil, fmt.Errorf("%w: there is no template %q; without --only, --dry-run lists them all", errNothing, name)
		}
	}
	return files, nil
}

// meansTemplate tells whether a name is the template's path, with or without its ending, a folder of it, or a pattern.
func meansTemplate(name, file string) bool {
	name = strings.Trim(name, "/")
	for _, pattern := range []string{name, name + ".html"} {
		if ok, err := path.Match(pattern, file); err == nil && ok {
			return true
		}
	}
	return strings.HasPrefix(file, name+"/")
}

// compareTemplates looks at what is in the folder already. Nothing is written when something of it was changed.
func compareTemplates(dir string, files []ejected, force bool) error {
	var changed []string
	for i := range files {
		have, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(files[i].Path)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case bytes.Equal(have, files[i].text):
			files[i].Action = ejectUnchanged
		default:
			files[i].Action = ejectOverwrite
			changed = append(changed, files[i].Path)
		}
	}
	if len(changed) > 0 && !force {
		return usageError{fmt.Errorf("%s holds changed templates, and nothing was written: %s; name others with --only, or overwrite them with --force", dir, strings.Join(changed, ", "))}
	}
	return nil
}

func writeTemplates(dir string, files []ejected) error {
	for _, f := range files {
		if f.Action == ejectUnchanged {
			continue
		}
		to := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // source files, which others may read
			return err
		}
		if err := os.WriteFile(to, f.text, 0o644); err != nil { //nolint:gosec // source files, which others may read
			return err
		}
	}
	return nil
}

func tellEjected(t table, dir string, files []ejected, dryRun bool) {
	for _, f := range files {
		t.linef("%s\t%s", f.Action, f.Path)
	}
	if dryRun {
		t.linef("%d templates for %s, not written: this is a dry run", len(files), dir)
		return
	}
	t.linef("\nHand the folder to the application, which checks it when it starts:\n\n  config.Templates = os.DirFS(%q)\n\n"+
		"or embed it (//go:embed all:%s, and fs.Sub). Delete what you do not change: it stays built in.", dir, filepath.ToSlash(filepath.Base(dir)))
}
