package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// written is a file that a command is about to write below a folder; nil content takes the file away.
type written struct {
	of      string // the folder, absolute
	path    string // below it, with slashes
	content []byte
}

// backup is what files were before a command changed them, kept in the project's state folder.
type backup struct {
	Name  string    `json:"name"`
	At    time.Time `json:"at"`
	Files []backed  `json:"files"`
}

type backed struct {
	Of   string `json:"of"`
	Path string `json:"path"`
	// Content is nil where there was no file.
	Content []byte `json:"content"`
	Existed bool   `json:"existed"`
}

// backups is the folder of a project's backups of one kind.
func (p *project) backups(kind string) string { return p.state(filepath.Join("backups", kind)) }

// replaceFiles writes files after it has kept in a folder what they were, all of them or none.
func replaceFiles(folder string, files []written) (b backup, err error) {
	now := time.Now().UTC()
	b = backup{Name: now.Format("20060102T150405.000000"), At: now}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(f.of, filepath.FromSlash(f.path)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
		b.Files = append(b.Files, backed{f.of, f.path, content, err == nil})
	}
	if err := b.save(folder); err != nil {
		return b, err
	}
	for _, f := range files {
		if err := replaceFile(f.of, f.path, f.content, f.content != nil); err != nil {
			return b, errors.Join(fmt.Errorf("nothing was changed: %w", err), b.restore())
		}
	}
	return b, nil
}

func (b backup) save(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	content, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, b.Name+".json"), content, 0o600)
}

// restore makes the files what they were.
func (b backup) restore() error {
	var err error
	for _, f := range b.Files {
		err = errors.Join(err, replaceFile(f.Of, f.Path, f.Content, f.Existed))
	}
	return err
}

// replaceFile gives a file its content, or takes it away with the folders that are empty then.
func replaceFile(of, path string, content []byte, exists bool) error {
	name := filepath.Join(of, filepath.FromSlash(path))
	if !exists {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return removeEmpty(of, filepath.Dir(name))
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil { //nolint:gosec // source code that a team shares
		return err
	}
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(name); err == nil {
		mode = info.Mode().Perm()
	}
	return os.WriteFile(name, content, mode)
}

// removeEmpty takes away a folder below another, and those above it, as far as nothing is in them.
func removeEmpty(of, dir string) error {
	for ; dir != of; dir = filepath.Dir(dir) {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || len(entries) > 0 {
			return err
		}
		if err := os.Remove(dir); err != nil {
			return err
		}
	}
	return nil
}

// latestBackup reads a backup by its name, or the latest one; an error of usage when there is none.
func latestBackup(folder, name string) (backup, error) {
	var b backup
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	names := []string{}
	for _, e := range entries {
		if base, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			names = append(names, base)
		}
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		return b, fmt.Errorf("there is no backup in %s: %w", folder, errNothing)
	case name == latest:
		name = names[len(names)-1]
	case !slices.Contains(names, name):
		return b, fmt.Errorf("there is no backup %q; there is %s: %w", name, strings.Join(names, ", "), errNothing)
	}
	content, err := os.ReadFile(filepath.Join(folder, name+".json"))
	if err != nil {
		return b, err
	}
	return b, json.Unmarshal(content, &b)
}

// latest names the latest backup.
const latest = "latest"
