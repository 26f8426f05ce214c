// Command compress makes app/bulma.css of Bulma as its makers publish it, and writes each asset once more for brotli and
// for gzip beside it, so that a server spends nothing on that. go generate runs it in internal/web after an asset has
// changed; tests of that package tell when it was forgotten.
package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/andybalholm/brotli"
)

func main() {
	if err := errors.Join(trim("assets/bulma-1.0.4/bulma.min.css", "assets/app/bulma.css"), run("assets")); err != nil {
		fmt.Fprintln(os.Stderr, "compress:", err)
		os.Exit(1)
	}
}

// shades are Bulma's helpers for each of the 21 shades of each colour, which no page uses: a sixth of the file.
var shades = regexp.MustCompile(`(\})(?:\.has-(?:text|background)-[a-z]+-\d\d(?:-invert)?\{[^{}]*\})+`)

// trim writes what is served of Bulma: all but the shades. The whole of it stays an asset too.
func trim(whole, served string) error {
	content, err := os.ReadFile(whole)
	if err != nil {
		return err
	}
	return os.WriteFile(served, shades.ReplaceAll(content, []byte("$1")), 0o644) //nolint:gosec // a file of the repository, as git makes them
}

// run compresses what lies below dir.
func run(dir string) error {
	return filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		switch filepath.Ext(name) {
		case ".css", ".js", ".svg":
		default:
			return nil
		}
		content, err := os.ReadFile(name) //nolint:gosec // a folder of the repository, in which nobody else is at work
		if err != nil {
			return err
		}
		for ending, encoder := range map[string]func(w io.Writer) (io.WriteCloser, error){
			".br": func(w io.Writer) (io.WriteCloser, error) {
				return brotli.NewWriterLevel(w, brotli.BestCompression), nil
			},
			".gz": func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.BestCompression) },
		} {
			if err := write(name+ending, content, encoder); err != nil {
				return err
			}
		}
		return nil
	})
}

func write(name string, content []byte, encoder func(w io.Writer) (io.WriteCloser, error)) error {
	var out bytes.Buffer
	w, err := encoder(&out)
	if err != nil {
		return err
	}
	if _, err := w.Write(content); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(name, out.Bytes(), 0o644) //nolint:gosec // a file of the repository, as git makes them
}
