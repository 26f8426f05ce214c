package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/internal/scaffold"
)

// syncedBack is what sync-back prints.
type syncedBack struct {
	Project   string             `json:"project"`
	Templates string             `json:"templates"`
	Changes   []syncedChange     `json:"changes"`
	Skipped   []scaffold.Skipped `json:"skipped"`
	Applied   bool               `json:"applied"`
	// Backup is the name for --restore.
	Backup string `json:"backup,omitempty"`
}

type syncedChange struct {
	scaffold.Change
	Diff string `json:"diff,omitempty"`
}

// errLeft says that some of it is left to the person.
var errLeft = errors.New("some changes cannot be carried over by themselves; they are listed with why")

func newSyncBack() *cobra.Command {
	var from, restore string
	var preview, apply bool
	cmd := &cobra.Command{
		Use: "sync-back [PATH] --preview|--apply", Args: args(cobra.MaximumNArgs(1)), Short: "Carry changes of a generated project back to the templates of a clone of QuickScale",
		Long: "Carry changes of a generated project, here or at PATH, back to the templates of the clone of QuickScale that its go.mod\n" +
			"points to. It is for those who develop the scaffold: change a project until it is right, then let the templates follow.\n\n" +
			"Pages, pictures and prose (safe) go back as they are. In code and configuration (careful) the project's own name, title\n" +
			"and module path become the templates' variables again, and what variables and conditions have made stays theirs.\n" +
			"Databases, migrations, logs, caches, secrets and go.mod never go back. New and deleted files are found.\n\n" +
			"Each changed template is tried: it must make the project's file, byte for byte. What cannot be carried over is listed,\n" +
			"left alone, and fails the command with 1. What --apply overwrites is kept, and --restore brings it back.",
		Example: "  quickscale sync-back --preview\n  quickscale sync-back ../acme --apply\n  quickscale sync-back --restore",
	}
	addJSON(cmd)
	f := cmd.Flags()
	f.BoolVar(&preview, "preview", false, "show how the templates would change, and change nothing")
	f.BoolVar(&apply, "apply", false, "change the templates")
	f.StringVar(&restore, "restore", "", "make the templates what they were before the latest --apply, or that of a name")
	f.Lookup("restore").NoOptDefVal = latest
	f.StringVar(&from, "checkout", "", "the clone of QuickScale, where go.mod does not point to it")
	cmd.RunE = func(cmd *cobra.Command, paths []string) error {
		out, err := newOutput(cmd)
		if err != nil {
			return err
		}
		if chosen := b2i(preview) + b2i(apply) + b2i(restore != ""); chosen != 1 {
			return usageError{errors.New("choose one of --preview, --apply and --restore")}
		}
		p, err := projectAt(paths)
		if err != nil {
			return err
		}
		if restore != "" {
			return restoreBackup(p, kindSyncBack, restore, out)
		}
		return syncBack(cmd.Context(), p, from, apply, out)
	}
	return cmd
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// projectAt is the project at the path that was given, or the one that the command stands in.
func projectAt(paths []string) (*project, error) {
	if len(paths) == 0 {
		return findProject()
	}
	dir, err := filepath.Abs(paths[0])
	if err != nil {
		return nil, err
	}
	return findProjectAt(dir)
}

// The kinds of backups.
const (
	kindSyncBack = "sync-back"
	kindUpgrade  = "upgrade"
)

func restoreBackup(p *project, kind, name string, out output) error {
	b, err := latestBackup(p.backups(kind), name)
	if err != nil {
		return err
	}
	if err := b.restore(); err != nil {
		return err
	}
	files := make([]string, len(b.Files))
	for i, f := range b.Files {
		files[i] = filepath.Join(f.Of, filepath.FromSlash(f.Path))
	}
	return out.print(map[string]any{"restored": b.Name, "files": files}, func(t table) {
		for _, f := range files {
			t.linef("%s", f)
		}
		t.linef("%d files are what they were before %s", len(files), b.At.Format("2006-01-02 15:04:05 MST"))
	})
}

func syncBack(ctx context.Context, p *project, from string, apply bool, out output) error {
	params, err := p.params()
	if err != nil {
		return err
	}
	if from == "" {
		from = p.checkoutOf(params)
	}
	if from == "" {
		return usageError{errors.New("go.mod points to no clone of QuickScale.\n" + setUp)}
	}
	clone, err := checkoutAt(ctx, from)
	if err != nil {
		return err
	}
	templates := scaffold.In(clone.dir)
	record, err := currentRecord(p, params, templates)
	if err != nil {
		return err
	}
	changes, skipped, err := templates.Back(params, p.dir)
	if err != nil {
		return err
	}
	result := syncedBack{Project: p.dir, Templates: clone.templates(), Changes: make([]syncedChange, len(changes)), Skipped: skipped, Applied: apply}
	var files []written
	left := false
	for i, c := range changes {
		result.Changes[i] = syncedChange{c, templateDiff(c)}
		if c.Problem != "" {
			left = true
			continue
		}
		files = append(files, written{clone.templates(), c.Template, c.After})
	}
	if apply && len(files) > 0 {
		// The project begins from now on from what the templates make.
		file, err := recordAfter(record, changes, p.dir)
		if err != nil {
			return err
		}
		b, err := replaceFiles(p.backups(kindSyncBack), append(files, written{p.dir, file.Path, file.Content}))
		if err != nil {
			return err
		}
		result.Backup = b.Name
	}
	if err := out.print(result, func(t table) { printSyncBack(t, result, len(files)) }); err != nil {
		return err
	}
	if left {
		return errLeft
	}
	return nil
}

// currentRecord is the project's record, which must be what the templates make today: what they have got since would
// look like something that the project took out.
func currentRecord(p *project, params scaffold.Params, t scaffold.Templates) (scaffold.Record, error) {
	record, err := scaffold.ReadRecord(p.dir)
	if errors.Is(err, scaffold.ErrNoRecord) {
		return record, usageError{errors.New("the project has no " + scaffold.RecordFile + ", which quickscale init writes; bring it back from Git, or generate a project anew and carry your changes into it")}
	}
	if err != nil {
		return record, usageError{err}
	}
	now, err := t.Files(params)
	if err != nil {
		return record, usageError{err}
	}
	before := map[string][]byte{}
	for _, f := range record.Files {
		before[f.Path] = f.Content
	}
	var differ []string
	for _, f := range now {
		if f.Path != "go.mod" && !bytes.Equal(before[f.Path], f.Content) {
			differ = append(differ, f.Path)
		}
		delete(before, f.Path)
	}
	for file := range before {
		differ = append(differ, file)
	}
	if len(differ) > 0 {
		return record, usageError{fmt.Errorf("the templates, or quickscale.yaml, have changed since the project was generated: %s. Bring the project up to them first, with quickscale upgrade --apply", strings.Join(differ, ", "))}
	}
	return record, nil
}

// recordAfter is the record once the changes are carried over: of what they made it has the project's own files.
func recordAfter(record scaffold.Record, changes []scaffold.Change, dir string) (scaffold.File, error) {
	for _, c := range changes {
		if c.Problem != "" {
			continue
		}
		record.Files = slices.DeleteFunc(record.Files, func(f scaffold.File) bool { return f.Path == c.File })
		if c.Action == scaffold.Deletes {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(c.File)))
		if err != nil {
			return scaffold.File{}, err
		}
		record.Files = append(record.Files, scaffold.File{Path: c.File, Content: content})
	}
	slices.SortFunc(record.Files, func(a, b scaffold.File) int { return cmp.Compare(a.Path, b.Path) })
	return record.File()
}

// templateDiff is how a template changes, for a person.
func templateDiff(c scaffold.Change) string {
	if c.Problem != "" {
		return ""
	}
	return fileDiff(path.Join(scaffold.Folder, c.Template), c.Before, c.After)
}

func printSyncBack(t table, r syncedBack, ready int) {
	for _, c := range r.Changes {
		if c.Problem != "" {
			t.linef("%s %s (%s): not carried over: %s", c.Action, c.File, c.Class, c.Problem)
			continue
		}
		t.linef("%s %s (%s)", c.Action, c.File, c.Class)
		printDiff(t, c.Diff)
	}
	switch {
	case len(r.Changes) == 0:
		t.linef("the templates make this project already; %d files and folders never go back", len(r.Skipped))
	case r.Applied:
		t.linef("%d of %d changes are in %s; look at them with git diff. quickscale sync-back --restore undoes them", ready, len(r.Changes), r.Templates)
	default:
		t.linef("%d of %d changes can go back; nothing was changed, this is a preview. %d files and folders never go back", ready, len(r.Changes), len(r.Skipped))
	}
}
