package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/quickscale/quickscale/internal/scaffold"
)

// goMod reads the project's go.mod.
func (p *project) goMod() (*modfile.File, error) {
	file := filepath.Join(p.dir, "go.mod")
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError{err}
	}
	mod, err := modfile.Parse(file, content, nil)
	if err != nil {
		return nil, usageError{err}
	}
	return mod, nil
}

// params are what the project was generated with, as its files have it today.
func (p *project) params() (scaffold.Params, error) {
	mod, err := p.goMod()
	if err != nil {
		return scaffold.Params{}, err
	}
	params := scaffold.Params{Name: p.Name, Module: p.Module, Database: p.Database, Samples: p.Samples, OAuth: p.OAuth, Without: p.Without}
	for _, r := range mod.Require {
		if r.Mod.Path == library {
			params.Version = r.Mod.Version
		}
	}
	for _, r := range mod.Replace {
		if r.Old.Path == library && r.New.Version == "" {
			params.Replace = r.New.Path
		}
	}
	if params.Version == "" {
		return params, usageError{fmt.Errorf("%s does not require %s, so that this is no generated project", mod.Syntax.Name, library)}
	}
	return params, nil
}

// checkout is a clone of QuickScale.
type checkout struct{ dir string }

const setUp = `sync-back writes to the templates of a Git clone of QuickScale. To set that up:
  git clone https://` + library + `
  go run ./quickscale/cmd/quickscale init acme --replace quickscale
  cd acme, change it, and run sync-back in it; or name another clone by --checkout`

// checkoutAt checks that a folder is the whole of a clone whose templates can be written and have no change of their own.
func checkoutAt(ctx context.Context, dir string) (checkout, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return checkout{}, err
	}
	c := checkout{dir}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil || !strings.HasPrefix(string(mod), "module "+library+"\n") {
		return c, usageError{fmt.Errorf("%s is no clone of %s.\n%s", dir, library, setUp)}
	}
	if _, err := exec.LookPath("git"); err != nil {
		return c, usageError{errors.New("git is not installed, and it is what keeps the templates")}
	}
	if _, err := c.git(ctx, "rev-parse", "--is-inside-work-tree"); err != nil {
		return c, usageError{fmt.Errorf("%s is in no Git clone.\n%s", dir, setUp)}
	}
	probe, err := os.CreateTemp(c.templates(), ".probe")
	if err != nil {
		return c, usageError{fmt.Errorf("the templates cannot be written: %w.\n%s", err, setUp)}
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return c, err
	}
	dirty, err := c.git(ctx, "status", "--porcelain", "--untracked-files=all", "--", scaffold.Folder)
	if err != nil {
		return c, err
	}
	if len(bytes.TrimSpace(dirty)) > 0 {
		return c, usageError{fmt.Errorf("the templates have changes that are not committed; commit them, or put them away with git stash, and run this again:\n%s", bytes.TrimRight(dirty, "\n"))}
	}
	return c, nil
}

func (c checkout) templates() string {
	return filepath.Join(c.dir, filepath.FromSlash(scaffold.Folder))
}

func (c checkout) git(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", c.dir}, args...)...) //nolint:gosec // the commands above, no shell
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(said.Bytes()))
	}
	return out, nil
}

// checkoutOf is the folder of the checkout that a project's go.mod points to.
func (p *project) checkoutOf(params scaffold.Params) string {
	if params.Replace == "" || filepath.IsAbs(params.Replace) {
		return params.Replace
	}
	return filepath.Join(p.dir, filepath.FromSlash(params.Replace))
}
