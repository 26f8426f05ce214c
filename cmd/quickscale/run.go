package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func newUp() *cobra.Command {
	cmd := &cobra.Command{
		Use: "up", Args: args(cobra.NoArgs), Short: "Build the project and run it in the background",
		Long: "Build the project and run it in the background: by docker compose where Docker's engine answers, and otherwise as a\n" +
			"plain process, on the SQLite file NAME.db unless the settings name another database. A plain process reads the pages'\n" +
			"templates from the folder at each request. It returns once the application serves. A port that is taken is told with\n" +
			"its owner.",
	}
	return projectCommand(cmd, func(ctx context.Context, _ *project, e engine, out output) error {
		if err := e.up(ctx, streams{cmd}); err != nil {
			return err
		}
		if !out.json {
			return nil
		}
		list, err := e.list(ctx)
		if err != nil {
			return err
		}
		return out.print(map[string]any{"running": list}, nil)
	})
}

func newDown() *cobra.Command {
	cmd := &cobra.Command{Use: "down", Args: args(cobra.NoArgs), Short: "Stop the project; its data stays"}
	return projectCommand(cmd, func(ctx context.Context, _ *project, e engine, out output) error {
		if err := e.down(ctx, streams{cmd}); err != nil || !out.json {
			return err
		}
		return out.print(map[string]any{"running": []running{}}, nil)
	})
}

func newPs() *cobra.Command {
	cmd := &cobra.Command{Use: "ps", Args: args(cobra.NoArgs), Short: "List what runs of the project"}
	return projectCommand(cmd, func(ctx context.Context, _ *project, e engine, out output) error {
		list, err := e.list(ctx)
		if err != nil {
			return err
		}
		return out.print(map[string]any{"running": list}, func(t table) {
			if len(list) == 0 {
				t.linef("nothing runs; quickscale up starts it")
				return
			}
			t.linef("NAME\tSTATE\tID\tADDRESS\tSINCE")
			for _, r := range list {
				t.linef("%s\t%s\t%s\t%s\t%s", r.Name, r.State, r.ID, r.Address, r.Since)
			}
		})
	})
}

func newLogs() *cobra.Command {
	p := logParams{}
	var since string
	cmd := &cobra.Command{
		Use: "logs [app|db]", Args: args(cobra.MaximumNArgs(1)), Short: "Show the project's log",
		ValidArgs: []string{partApp, partDB},
	}
	f := cmd.Flags()
	f.BoolVarP(&p.follow, "follow", "f", false, "go on with what is added, until interrupted")
	f.StringVar(&since, "since", "", "lines since: 2026-01-31T12:00:00Z, or 1h for an hour ago")
	f.IntVarP(&p.last, "tail", "n", -1, "only the last so many lines")
	return projectCommand(cmd, func(ctx context.Context, _ *project, e engine, _ output) (err error) {
		if p.since, err = parseTime("since", since); err != nil {
			return err
		}
		p.part = cmd.Flags().Arg(0)
		return e.logs(ctx, streams{cmd}, p)
	})
}

func newShell() *cobra.Command {
	cmd := &cobra.Command{
		Use: "shell [app|db]", Args: args(cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs)), ValidArgs: []string{partApp, partDB},
		Short: "Open a shell with the project's settings, or one on its database",
		Long: "Open a shell in the project's folder with the settings of .env, or with \"db\" one on its database: psql or sqlite3.\n" +
			"The image of the application has no shell, so that there is none to open in its container.",
	}
	return projectCommand(cmd, func(ctx context.Context, _ *project, e engine, _ output) error {
		part := cmd.Flags().Arg(0)
		if part == "" {
			part = partApp
		}
		shell, err := e.shell(ctx, part)
		if err != nil {
			return err
		}
		shell.Stdin, shell.Stdout, shell.Stderr = os.Stdin, cmd.OutOrStdout(), cmd.ErrOrStderr()
		return shell.Run()
	})
}

// destroyed is what destroy prints.
type destroyed struct {
	Goes   []string `json:"goes"`
	DryRun bool     `json:"dry_run"`
}

func newDestroy() *cobra.Command {
	var images, dryRun bool
	var confirm string
	cmd := &cobra.Command{
		Use: "destroy", Args: args(cobra.NoArgs), Short: "Take away what runs of the project and all its data, after the name was typed",
		Long: "Take away what runs of the project and all its data: containers, volumes, the SQLite file. It says what goes, and\n" +
			"asks for the project's name. Your code stays, and so does a database that .env names and that is not the project's own.",
	}
	f := cmd.Flags()
	f.BoolVar(&images, "delete-images", false, "also the images that were built")
	f.StringVar(&confirm, "confirm", "", "the project's name, so that it is not asked for")
	f.BoolVar(&dryRun, "dry-run", false, "say what would go and take nothing away")
	return projectCommand(cmd, func(ctx context.Context, p *project, e engine, out output) error {
		goes := e.goes(images)
		if len(goes) == 0 {
			return fmt.Errorf("the project has no data and nothing runs: %w", errNothing)
		}
		s := streams{cmd}
		if !dryRun {
			s.sayf("This goes, and nothing brings it back:")
			for _, what := range goes {
				s.sayf("  %s", what)
			}
			if confirm == "" {
				answer, err := asker{bufio.NewReader(cmd.InOrStdin()), cmd.ErrOrStderr()}.ask("Type the project's name, "+p.Name+", to go on", "")
				if err != nil && !errors.Is(err, errNoAnswer) {
					return err
				}
				confirm = answer
			}
			if strings.TrimSpace(confirm) != p.Name {
				return usageError{fmt.Errorf("%q is not the project's name, %s; nothing was taken away", confirm, p.Name)}
			}
			if err := e.destroy(ctx, s, images); err != nil {
				return err
			}
		}
		return out.print(destroyed{goes, dryRun}, func(t table) {
			if !dryRun {
				t.linef("%s has no data any more; its code is as it was", p.Name)
				return
			}
			for _, what := range goes {
				t.linef("%s", what)
			}
			t.linef("nothing was taken away, this is a dry run")
		})
	})
}
