package scaffold

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// RecordFile is the file of a project that keeps what was generated, so that a later scaffold can tell its own changes
// from those of the project.
const RecordFile = ".quickscale.base.json"

// Record is what a project was generated as.
type Record struct {
	// Version is the QuickScale that generated it.
	Version string
	Files   []File
}

// ErrNoRecord says that a project does not keep what it was generated as.
var ErrNoRecord = errors.New("scaffold: the project has no " + RecordFile)

// recordJSON is the file: text by its lines, so that a change of it can be read in a diff.
type recordJSON struct {
	About   string       `json:"about"`
	Version string       `json:"version"`
	Files   []recordFile `json:"files"`
}

type recordFile struct {
	Path  string   `json:"path"`
	Lines []string `json:"lines,omitempty"`
	// Bytes are the content of what is no text.
	Bytes []byte `json:"bytes,omitempty"`
}

// File is the record as a file of the project.
func (r Record) File() (File, error) {
	out := recordJSON{About: "What quickscale generated. quickscale upgrade and sync-back compare with it: commit it, and do not edit it.", Version: r.Version}
	for _, f := range r.Files {
		one := recordFile{Path: f.Path}
		if utf8.Valid(f.Content) {
			one.Lines = strings.Split(string(f.Content), "\n")
		} else {
			one.Bytes = f.Content
		}
		out.Files = append(out.Files, one)
	}
	content, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		return File{}, fmt.Errorf("scaffold: record: %w", err)
	}
	return File{RecordFile, append(content, '\n')}, nil
}

// ReadRecord reads the record of the project in dir; [ErrNoRecord] when there is none.
func ReadRecord(dir string) (Record, error) {
	content, err := os.ReadFile(filepath.Join(dir, RecordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, ErrNoRecord
	}
	if err != nil {
		return Record{}, fmt.Errorf("scaffold: %w", err)
	}
	var in recordJSON
	if err := json.Unmarshal(content, &in); err != nil {
		return Record{}, fmt.Errorf("scaffold: %s: %w", RecordFile, err)
	}
	r := Record{Version: in.Version}
	for _, f := range in.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
			return Record{}, fmt.Errorf("scaffold: %s names %q, which is outside the project", RecordFile, f.Path)
		}
		if f.Lines != nil {
			f.Bytes = []byte(strings.Join(f.Lines, "\n"))
		}
		r.Files = append(r.Files, File{f.Path, f.Bytes})
	}
	return r, nil
}
