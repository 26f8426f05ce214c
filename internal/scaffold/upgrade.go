package scaffold

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"unicode/utf8"
)

// Outcome is what an upgrade makes of a file.
type Outcome string

// The outcomes. Files that the scaffold has not changed are none of them.
const (
	Updated  Outcome = "updated"  // the project had not changed it: it is the scaffold's
	Added    Outcome = "added"    // the scaffold has it new
	Removed  Outcome = "removed"  // the scaffold has it no longer, and the project had not changed it
	Merged   Outcome = "merged"   // both changed it, in different places
	Same     Outcome = "same"     // both made the same of it
	Conflict Outcome = "conflict" // both changed the same place: both stand in it, between marks
	Kept     Outcome = "kept"     // the project's stays: it deleted what the scaffold changed, or changed what the scaffold deleted
)

// Upgraded is a file that the scaffold has changed since the project was generated.
type Upgraded struct {
	File    string  `json:"file"`
	Outcome Outcome `json:"outcome"`
	// Conflicts is how many places have marks.
	Conflicts int    `json:"conflicts,omitempty"`
	Note      string `json:"note,omitempty"`
	// Before and After are the project's file; nil where there is none.
	Before, After []byte `json:"-"`
}

// Writes tells whether the file changes.
func (u Upgraded) Writes() bool {
	return (u.Before == nil) != (u.After == nil) || !bytes.Equal(u.Before, u.After)
}

// Upgrade merges what the scaffold has changed since a project was generated into the project in dir: base is what was
// generated then, now what the scaffold makes today. Files that are data, secrets or written by go mod tidy are none of
// it. It reads only; Git's merge-file does the merging.
func Upgrade(ctx context.Context, base, now []File, dir string) ([]Upgraded, error) {
	before, after := map[string][]byte{}, map[string][]byte{}
	for _, f := range base {
		before[f.Path] = f.Content
	}
	paths := []string{}
	for _, f := range now {
		after[f.Path] = f.Content
		paths = append(paths, f.Path)
	}
	for _, f := range base {
		if _, ok := after[f.Path]; !ok {
			paths = append(paths, f.Path)
		}
	}
	var all []Upgraded
	for _, path := range paths {
		if class, _ := classOf(path); class == Never || bytes.Equal(before[path], after[path]) && (before[path] == nil) == (after[path] == nil) {
			continue
		}
		ours, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(path)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("scaffold: %w", err)
		}
		u, err := upgradeFile(ctx, path, before[path], ours, after[path])
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b Upgraded) int { return cmp.Compare(a.File, b.File) })
	return all, nil
}

// upgradeFile merges one file; nil stands for a file that is not there.
func upgradeFile(ctx context.Context, path string, base, ours, theirs []byte) (Upgraded, error) {
	u := Upgraded{File: path, Before: ours, After: ours}
	same := func(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
	switch {
	case same(ours, theirs):
		u.Outcome = Same
	case same(ours, base):
		u.After = theirs
		u.Outcome = Updated
		if theirs == nil {
			u.Outcome = Removed
		} else if base == nil {
			u.Outcome = Added
		}
	case ours == nil:
		u.Outcome, u.Note = Kept, "you have deleted it, and the scaffold has changed it"
	case theirs == nil:
		u.Outcome, u.Note = Kept, "the scaffold has it no longer, and you have changed it"
	case !utf8.Valid(ours) || !utf8.Valid(theirs):
		u.Outcome, u.Note = Kept, "it is no text, and you and the scaffold have changed it"
	default:
		var err error
		if u.After, u.Conflicts, err = mergeFile(ctx, base, ours, theirs); err != nil {
			return u, fmt.Errorf("scaffold: merge %s: %w", path, err)
		}
		u.Outcome = Merged
		if u.Conflicts > 0 {
			u.Outcome = Conflict
		}
	}
	return u, nil
}

// mostConflicts is the exit code by which git merge-file says so many conflicts or more; above it is failure.
const mostConflicts = 127

// mergeFile merges three texts. In places where both differ, all three stand between Git's marks.
func mergeFile(ctx context.Context, base, ours, theirs []byte) (merged []byte, conflicts int, err error) {
	dir, err := os.MkdirTemp("", "quickscale-merge")
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	args := []string{"merge-file", "-p", "--diff3", "-L", "yours", "-L", "generated", "-L", "scaffold"}
	for _, f := range []File{{"ours", ours}, {"base", base}, {"theirs", theirs}} {
		name := filepath.Join(dir, f.Path)
		if err := os.WriteFile(name, f.Content, 0o600); err != nil {
			return nil, 0, err
		}
		args = append(args, name)
	}
	cmd := exec.CommandContext(ctx, "git", args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	merged, err = cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 && exit.ExitCode() <= mostConflicts {
		return merged, exit.ExitCode(), nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("git merge-file: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return merged, 0, nil
}
