package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/auth"
)

// factorsReset is what reset-2fa prints.
type factorsReset struct {
	ID    string `json:"id"`
	Email string `json:"email"`
	// Before is what the person had.
	Before auth.Factors `json:"before"`
	DryRun bool         `json:"dry_run"`
}

func userResetFactors() *cobra.Command {
	var (
		confirm string
		dryRun  bool
	)
	cmd := &cobra.Command{
		Use: "reset-2fa EMAIL", Args: args(cobra.ExactArgs(1)), Short: "Take a lost second step off an account, after the address was typed",
		Long: "Take the authenticator app, the backup codes and all passkeys off an account and end all its sessions, for who has lost\n" +
			"them all. Make sure by other means that it is the owner who asks: whoever has the password gets in afterwards. It says\n" +
			"what goes and asks for the address. The act is kept among the person's security events, with who did it, and the\n" +
			"application tells the person by mail within a minute.",
	}
	f := cmd.Flags()
	f.StringVar(&confirm, "confirm", "", "the address again, so that it is not asked for")
	f.BoolVar(&dryRun, "dry-run", false, "say what would go, and take nothing off")
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		return withUser(cmd, given[0], func(ctx context.Context, a *auth.Auth, u auth.User, out output) error {
			before, err := a.Factors(ctx, u.ID)
			if err != nil {
				return err
			}
			if !before.Second() && before.BackupCodes == 0 {
				return auth.ErrNoFactors
			}
			if !dryRun {
				s := streams{cmd}
				s.sayf("%s loses %s, and is logged out everywhere.", u.Email, describe(before))
				if confirm == "" {
					confirm, err = asker{bufio.NewReader(cmd.InOrStdin()), cmd.ErrOrStderr()}.ask("Type the address to go on", "")
					if err != nil && !errors.Is(err, errNoAnswer) {
						return err
					}
				}
				if !strings.EqualFold(strings.TrimSpace(confirm), u.Email) {
					return usageError{fmt.Errorf("%q is not the address, %s; nothing was taken off. Type it, or give it with --confirm", confirm, u.Email)}
				}
				if err := a.ResetFactors(ctx, u.ID, auth.Client{Agent: who("")}); err != nil {
					return err
				}
			}
			return out.print(factorsReset{ID: u.ID, Email: u.Email, Before: before, DryRun: dryRun}, func(t table) {
				if dryRun {
					t.linef("%s would lose %s, and be logged out everywhere", u.Email, describe(before))
					return
				}
				t.linef("%s has no second step any more, and is logged out everywhere", u.Email)
			})
		})
	}
	return cmd
}

// describe is what a person has, as people say it.
func describe(f auth.Factors) string {
	app := "no authenticator app"
	if f.TOTPSince != nil {
		app = "the authenticator app"
	}
	return fmt.Sprintf("%s, %d passkeys and %d backup codes", app, f.Passkeys, f.BackupCodes)
}
