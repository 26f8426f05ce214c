package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/internal/scaffold"
)

// library is the module that a project requires.
const library = "github.com/quickscale/quickscale"

// initiated is what init prints.
type initiated struct {
	Folder string   `json:"folder"`
	Files  []string `json:"files"`
	DryRun bool     `json:"dry_run"`
}

func newInit() *cobra.Command {
	var p scaffold.Params
	var dryRun, defaults bool
	cmd := &cobra.Command{
		Use: "init NAME", Args: args(cobra.ExactArgs(1)), Short: "Generate a small application that is yours to change",
		Long: "Generate a small application that is yours to change, in a new folder: a program of about a hundred lines, a service\n" +
			"with its test, pages, settings, Dockerfile, compose.yaml, Makefile, CI and README. It compiles, passes its tests and\n" +
			"serves at once: people sign up, buy credits and spend them.\n\n" +
			"On a terminal it asks for what no flag says.",
		Example: "  quickscale init acme\n  quickscale init acme --module github.com/acme/acme --database postgres --oauth google,github",
	}
	addJSON(cmd)
	f := cmd.Flags()
	f.StringVar(&p.Module, "module", "", "the module's path; example.com/NAME, unless given")
	f.StringVar(&p.Database, "database", scaffold.SQLite, "where data is kept: sqlite or postgres")
	f.StringSliceVar(&p.Samples, "samples", scaffold.Names(scaffold.Samples())[:1], "services to begin with: "+strings.Join(scaffold.Names(scaffold.Samples()), ", "))
	f.StringSliceVar(&p.OAuth, "oauth", nil, "sites by which people can log in: "+strings.Join(scaffold.Names(scaffold.Sites()), ", "))
	f.StringSliceVar(&p.Without, "without", nil, "what to leave out: outbound (webhooks to people's own programs), organisations (accounts that several people share)")
	f.StringVar(&p.Replace, "replace", "", "use the checkout of QuickScale at this path")
	f.BoolVar(&dryRun, "dry-run", false, "print what would be generated and write nothing")
	f.BoolVar(&defaults, "defaults", false, "ask nothing")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		out, err := newOutput(cmd)
		if err != nil {
			return err
		}
		p.Name = names[0]
		if in, ok := cmd.InOrStdin().(*os.File); ok && !defaults && isatty.IsTerminal(in.Fd()) {
			if err := askParams(cmd, asker{bufio.NewReader(in), cmd.ErrOrStderr()}, &p); err != nil {
				return err
			}
		}
		if err := requireLibrary(&p); err != nil {
			return err
		}
		files, err := scaffold.Files(p)
		if err != nil {
			return usageError{err}
		}
		record, err := scaffold.Record{Version: p.Version, Files: files}.File()
		if err != nil {
			return err
		}
		return generate(cmd, p, append(files, record), dryRun, out)
	}
	return cmd
}

// askParams asks for what no flag said.
func askParams(cmd *cobra.Command, a asker, p *scaffold.Params) (err error) {
	if p.Module == "" {
		p.Module = "example.com/" + p.Name
	}
	for _, q := range []struct {
		flag, question string
		one            *string
		several        *[]string
	}{
		{"module", "Path of the Go module", &p.Module, nil},
		{"database", "Database, sqlite or postgres", &p.Database, nil},
		{"samples", "Services to begin with (" + strings.Join(scaffold.Names(scaffold.Samples()), ", ") + ")", nil, &p.Samples},
		{"oauth", "Log in with (" + strings.Join(scaffold.Names(scaffold.Sites()), ", ") + "), or nothing", nil, &p.OAuth},
	} {
		if cmd.Flags().Changed(q.flag) {
			continue
		}
		if q.one != nil {
			*q.one, err = a.ask(q.question, *q.one)
		} else {
			var answer string
			answer, err = a.ask(q.question, strings.Join(*q.several, ", "))
			*q.several = strings.FieldsFunc(answer, func(c rune) bool { return c == ',' || c == ' ' })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// requireLibrary says which QuickScale the project gets: this program's version, or a checkout.
func requireLibrary(p *scaffold.Params) error {
	if p.Replace == "" {
		p.Version = build().Version
		if p.Version == development {
			return usageError{errors.New("this quickscale was built from a checkout and has no version that a project could require; give --replace and the path of the checkout")}
		}
		return nil
	}
	p.Version = "v0.0.0" // the checkout stands for any version
	mod, err := os.ReadFile(filepath.Join(p.Replace, "go.mod"))
	if err != nil || !strings.HasPrefix(string(mod), "module "+library+"\n") {
		return usageError{fmt.Errorf("--replace %s: there is no checkout of %s; its folder has the go.mod", p.Replace, library)}
	}
	if filepath.IsAbs(p.Replace) {
		return nil
	}
	// go.mod's path begins at the project, which is one folder down.
	p.Replace = filepath.ToSlash(filepath.Join("..", p.Replace))
	return nil
}

func generate(cmd *cobra.Command, p scaffold.Params, files []scaffold.File, dryRun bool, out output) error {
	result := initiated{Folder: p.Name, Files: make([]string, len(files)), DryRun: dryRun}
	for i, f := range files {
		result.Files[i] = f.Path
	}
	if !dryRun {
		err := scaffold.Write(p.Name, files)
		if errors.Is(err, scaffold.ErrNotEmpty) {
			return usageError{fmt.Errorf("the folder %s is there and not empty; choose another name, or take it away", p.Name)}
		}
		if err != nil {
			return err
		}
		if err := tidy(cmd.Context(), cmd.ErrOrStderr(), p); err != nil {
			return err
		}
	}
	return out.print(result, func(t table) {
		if dryRun {
			for _, f := range files {
				t.linef("%s\t%d bytes", f.Path, len(f.Content))
			}
			t.linef("%d files for %s/, not written: this is a dry run", len(files), p.Name)
			return
		}
		t.linef("%s/ has %d files; README.md explains them. Next:\n\n  cd %s\n  go run .        or: quickscale up\n  go test ./...", p.Name, len(files), p.Name)
	})
}

// tidy completes go.mod and writes go.sum. With a checkout its sums come first, so that what it has at hand is enough.
func tidy(ctx context.Context, progress io.Writer, p scaffold.Params) error {
	if p.Replace != "" {
		checkout := p.Replace
		if !filepath.IsAbs(checkout) {
			checkout = filepath.Join(p.Name, checkout)
		}
		sums, err := os.ReadFile(filepath.Join(checkout, "go.sum"))
		if err != nil {
			return fmt.Errorf("read the checkout's sums: %w", err)
		}
		if err := os.WriteFile(filepath.Join(p.Name, "go.sum"), sums, 0o600); err != nil { //nolint:gosec // the name was checked: it has no slash
			return err
		}
	}
	fmt.Fprintln(progress, "go mod tidy: finding the modules, which may take a minute")
	tidy := exec.CommandContext(ctx, "go", "mod", "tidy")
	tidy.Dir = p.Name
	if said, err := tidy.CombinedOutput(); err != nil {
		return fmt.Errorf("%s/ is written, but its modules could not be found; run \"go mod tidy\" in it once that can work: %w\n%s", p.Name, err, said)
	}
	return nil
}
