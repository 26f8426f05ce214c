// Command quickscale looks after an installation from the command line. Each command is a thin caller of a package's
// Go API, reads the database that QUICKSCALE_DATABASE_URL names, and can print JSON.
//
// Exit codes: 0 done; 1 it failed; 2 the command line is wrong; 3 there is no such thing, or nothing matched.
package main

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/internal/problem"
)

// The exit codes; they are part of the contract.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	root.PrintErrln("quickscale:", say(err))
	return exitCode(err)
}

// usageError is a command line that cannot be meant.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errNothing says that no event matched.
var errNothing = errors.New("nothing matched")

func exitCode(err error) int {
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if errors.Is(err, errNothing) {
		return exitNotFound
	}
	if p := problem.From(err); p != nil {
		switch p.ErrorCode() {
		case problem.CodeInvalid:
			return exitUsage
		case problem.CodeNotFound:
			return exitNotFound
		}
	}
	return exitFailed
}

// say is an error for a person: a problem's own sentence with the fields at fault, and the text of every other.
func say(err error) string {
	p := problem.From(err)
	if p == nil {
		return err.Error()
	}
	parts := []string{p.ErrorMessage()}
	fields := problem.FieldsOf(err)
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		parts = append(parts, field+": "+fields[field])
	}
	return strings.Join(parts, " ")
}

func newRoot() *cobra.Command {
	root := group("quickscale", "Look after a QuickScale installation")
	root.Long = "Look after a QuickScale installation.\n\nQUICKSCALE_DATABASE_URL names the database: sqlite:quickscale.db or postgres://….\n" +
		"Exit codes: 0 done; 1 failed; 2 the command line is wrong; 3 no such thing, or nothing matched."
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SetIn(os.Stdin)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newInit(), newEject(), newUp(), newDown(), newPs(), newLogs(), newShell(), newDestroy(), newCheck(), newVersion(), newConfig(), newMigrate(), newCredits(), newAPIKey())
	root.AddCommand(newServices()...)
	root.AddCommand(newSyncBack(), newUpgrade(), newOpenAPI(), newMaintenance(), newDB())
	root.AddCommand(newBilling(), newLedger(), newAudit(), newStripe(), newWebhook(), newUser())
	return root
}

// group is a command that only holds others.
func group(use, short string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		if err := cmd.Usage(); err != nil {
			return err
		}
		return usageError{errors.New("choose a command")}
	}}
}

// args makes what a check finds an error of usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}
