package scaffold

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/module"
)

// Action is what becomes of a template.
type Action string

// The actions.
const (
	Changes Action = "change"
	Adds    Action = "add"
	Deletes Action = "delete"
)

// Change is what a file of a project means for its template.
type Change struct {
	File string `json:"file"`
	// Template is its name below [Folder].
	Template string `json:"template"`
	Class    Class  `json:"class"`
	Action   Action `json:"action"`
	// Before and After are the template's text; nil where there is none.
	Before, After []byte `json:"-"`
	// Problem says why the change cannot be carried over by itself. Empty: it can.
	Problem string `json:"problem,omitempty"`
}

// Skipped is a file that never goes back.
type Skipped struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

// Back compares the project in dir, which was generated with p, with what the templates make of p today, and tells how
// the templates would have to change so that they make the project: files that differ, that are new, and that are
// gone. Every change that has no problem was tried: the changed template renders to the project's file, byte for byte.
// It reads only. Folders that never go back are named once, with a slash at the end.
func (t Templates) Back(p Params, dir string) (changes []Change, skipped []Skipped, err error) {
	p, err = p.complete()
	if err != nil {
		return nil, nil, err
	}
	files, skipped, err := projectFiles(dir)
	if err != nil {
		return nil, nil, err
	}
	b := backward{t, p.view(), nil}
	if b.values, err = t.values(b.view); err != nil {
		return nil, nil, err
	}
	known := map[string]bool{}
	err = t.walk(b.view, func(name, file string) error {
		known[file] = true
		if class, _ := classOf(file); class == Never {
			return nil
		}
		content, there := files[file]
		change, err := b.compare(name, file, content, there)
		if err == nil && change != nil {
			changes = append(changes, *change)
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for file, content := range files {
		if !known[file] {
			changes = append(changes, b.add(file, content))
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.File, b.File) })
	return changes, skipped, nil
}

// projectFiles are the files of a project that can go back, by their paths.
func projectFiles(dir string) (files map[string][]byte, skipped []Skipped, err error) {
	files = map[string][]byte{}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("scaffold: read the project: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		file := filepath.ToSlash(rel)
		if d.IsDir() {
			if class, why := classOf(file + "/x"); class == Never {
				skipped = append(skipped, Skipped{file + "/", why})
				return fs.SkipDir
			}
			return nil
		}
		class, why := classOf(file)
		switch {
		case class == Never:
		case !d.Type().IsRegular():
			class, why = Never, "it is no regular file"
		case !strings.Contains(file, "/") && path.Ext(file) == "" && isProgram(name):
			class, why = Never, "it is a program"
		}
		if class == Never {
			skipped = append(skipped, Skipped{file, why})
			return nil
		}
		files[file], err = root.ReadFile(rel)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("scaffold: read the project: %w", err)
	}
	return files, skipped, nil
}

// isProgram tells whether a file is what go build has written: it can be run, and is no script.
func isProgram(file string) bool {
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm()&0o111 == 0 {
		return false
	}
	content, err := os.ReadFile(file)
	return err == nil && !utf8.Valid(content)
}

// backward carries a project's files over to templates.
type backward struct {
	t      Templates
	view   view
	values []value
}

// value is what a variable of the templates is in a project.
type value struct{ is, variable string }

// values are those that new text can be rid of: the project's name, title and module path, unless the templates have
// the same word as their own, as they would of a project that is called app.
func (t Templates) values(v view) ([]value, error) {
	all := []value{{v.Module, "[[.Module]]"}, {v.Title, "[[.Title]]"}, {v.Name, "[[.Name]]"}}
	err := t.walk(v, func(name, _ string) error {
		if !strings.HasSuffix(name, ending) {
			return nil
		}
		text, err := fs.ReadFile(t.files, name)
		if err != nil {
			return err
		}
		_, pieces, err := trace(name, string(text), v)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(one value) bool {
			return slices.ContainsFunc(pieces, func(p piece) bool {
				return p.verbatim && len(words(string(text[p.source:p.ending]), one.is)) > 0
			})
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("scaffold: read the templates: %w", err)
	}
	slices.SortStableFunc(all, func(a, b value) int { return cmp.Compare(len(b.is), len(a.is)) })
	return all, nil
}

// compare tells what a file of the project means for its template; nil when they agree.
func (b backward) compare(name, file string, content []byte, there bool) (*Change, error) {
	text, err := fs.ReadFile(b.t.files, name)
	if err != nil {
		return nil, fmt.Errorf("scaffold: %w", err)
	}
	class, _ := classOf(file)
	change := &Change{File: file, Template: name, Class: class, Before: text}
	if !there {
		change.Action = Deletes
		return change, nil
	}
	rendered, err := b.t.render(name, b.view)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(rendered, content) {
		return nil, nil
	}
	change.Action = Changes
	if !strings.HasSuffix(name, ending) {
		change.After = content
		return change, nil
	}
	if change.Problem = b.unfit(file, content); change.Problem != "" {
		return change, nil
	}
	after, ok, err := b.carry(name, string(text), string(content), class)
	if ok {
		change.After = []byte(after)
	} else {
		change.Problem = byHand
	}
	return change, err
}

// add tells what template a new file of the project becomes. What is no text is copied as it is, and has no ending.
func (b backward) add(file string, content []byte) Change {
	class, _ := classOf(file)
	change := Change{File: file, Template: file, Class: class, Action: Adds}
	switch {
	case !b.view.wants(file):
		change.Problem = "a service in a folder of its own is generated only for a project that asks for it: add it to Samples in params.go, then copy it by hand"
	case module.CheckFilePath(file) != nil:
		change.Problem = "its name cannot be part of a Go program"
	}
	if change.Problem != "" {
		return change
	}
	if !utf8.Valid(content) {
		change.After = content
		return change
	}
	change.Template += ending
	if change.Problem = b.unfit(file, content); change.Problem != "" {
		return change
	}
	after := b.generic(string(content), 0, len(content), class)
	if rendered, err := fill(change.Template, after, b.view); err != nil || !bytes.Equal(rendered, content) {
		change.Problem = "the template would not make this file"
		return change
	}
	change.After = []byte(after)
	return change
}

// unfit says why a text cannot be that of a template.
func (b backward) unfit(file string, content []byte) string {
	if !utf8.Valid(content) || bytes.ContainsAny(content, markStart+markText+markEnd) {
		return "it is no text"
	}
	if path.Ext(file) == ".go" && !isFormatted(content) {
		return "gofmt would change it, or it does not parse: mend that first"
	}
	return ""
}

// byHand is the problem of a change that cannot be carried over by itself.
const byHand = "it changes what variables or conditions of the template have made: change the template by hand"

// carry carries a project's text over to the template that made it. It tries several ways to tell where a change
// belongs, and takes the first one by which the template makes the text; false when there is none.
func (b backward) carry(name, text, edited string, class Class) (after string, ok bool, err error) {
	rendered, pieces, err := trace(name, text, b.view)
	if err != nil {
		return "", false, err
	}
	for _, later := range []bool{false, true} {
		pl := placer{pieces: pieces, text: text, later: later, becomes: func(e edit) string { return b.generic(edited, e.newFrom, e.newTo, class) }}
		edits, ok := pl.edits(rendered, edited)
		if !ok {
			continue
		}
		var out strings.Builder
		at := 0
		for _, e := range edits {
			out.WriteString(text[at:e.from] + pl.becomes(e))
			at = e.to
		}
		out.WriteString(text[at:])
		if made, err := fill(name, out.String(), b.view); err == nil && string(made) == edited {
			return out.String(), true, nil
		}
	}
	return "", false, nil
}

// generic is a part of a project's text as a template has it.
func (b backward) generic(text string, from, to int, class Class) string {
	type found struct {
		at int
		value
	}
	var all []found
	if class == Careful {
		for _, v := range b.values {
			for _, at := range words(text, v.is) {
				taken := slices.ContainsFunc(all, func(f found) bool { return at < f.at+len(f.is) && f.at < at+len(v.is) })
				if at >= from && at+len(v.is) <= to && !taken {
					all = append(all, found{at, v})
				}
			}
		}
		slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.at, b.at) })
	}
	var out strings.Builder
	for _, f := range all {
		out.WriteString(escaped(text[from:f.at]) + f.variable)
		from = f.at + len(f.is)
	}
	return out.String() + escaped(text[from:to])
}

// escaped keeps text from being taken for an action.
func escaped(text string) string { return strings.ReplaceAll(text, left, left+`"`+left+`"`+right) }

// words are the places where a word stands as a whole in a text.
func words(text, word string) []int {
	var at []int
	for from := 0; word != ""; {
		i := strings.Index(text[from:], word)
		if i < 0 {
			break
		}
		start := from + i
		end := start + len(word)
		if (start == 0 || !isWord(text[start-1])) && (end == len(text) || !isWord(text[end])) {
			at = append(at, start)
		}
		from = end
	}
	return at
}

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}
