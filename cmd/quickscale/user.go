package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/mail"
)

func newUser() *cobra.Command {
	cmd := group("user", "People: list and make them, give them a role, take a lost second step off")
	addJSON(cmd)
	cmd.AddCommand(userList(), userCreate(), userPromote(), userResetFactors())
	return cmd
}

// noMail is for commands, which send none: what a person must hear of is kept, and the application sends it within a
// minute.
type noMail struct{}

func (noMail) EnqueueTx(context.Context, *sqlx.Tx, mail.Message) error { return auth.ErrLater }

// promoted is what promote prints.
type promoted struct {
	ID     string    `json:"id"`
	Email  string    `json:"email"`
	Before auth.Role `json:"before"`
	Role   auth.Role `json:"role"`
	DryRun bool      `json:"dry_run"`
}

func userPromote() *cobra.Command {
	var (
		role   string
		dryRun bool
	)
	cmd := &cobra.Command{
		Use: "promote EMAIL", Args: args(cobra.ExactArgs(1)), Short: "Give a person a role: admin, staff or user",
		Long: "Give a person a role, from their next request on: admin, staff or user. The account must exist and its address\n" +
			"must be confirmed, as nobody else has shown to own it. The change is kept among the person's security events.",
	}
	cmd.Flags().StringVar(&role, "role", string(auth.RoleAdmin), "admin, staff or user")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would change, and change nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
			// Nothing is hashed and no page is served, so the address of the site does not matter.
			a, err := auth.New(auth.Config{DB: db.Writer(), ReadDB: db.Reader(), Mail: noMail{}, BaseURL: "http://127.0.0.1"})
			if err != nil {
				return err
			}
			u, err := a.FindUserByEmail(ctx, args[0])
			if errors.Is(err, auth.ErrNotFound) {
				return problem.New(problem.CodeNotFound, "There is no account with this address: have the person sign up first.")
			}
			if err != nil {
				return err
			}
			done := promoted{ID: u.ID, Email: u.Email, Before: u.Role, Role: auth.Role(role), DryRun: dryRun}
			switch {
			case done.Role != auth.RoleUser && done.Role != auth.RoleStaff && done.Role != auth.RoleAdmin:
				return usageError{auth.ErrRole}
			case u.DisabledAt != nil:
				return fmt.Errorf("the account %s is closed", u.ID)
			case !u.Verified() && done.Role != auth.RoleUser:
				return fmt.Errorf("the address of account %s is not confirmed: have the person open the link of the mail first", u.ID)
			}
			if !dryRun {
				if err := a.SetRole(ctx, u.ID, done.Role); err != nil {
					return err
				}
			}
			return out.print(done, func(t table) {
				switch {
				case done.Before == done.Role:
					t.linef("%s has the role %s already", done.Email, done.Role)
				case dryRun:
					t.linef("%s would get the role %s in the place of %s", done.Email, done.Role, done.Before)
				default:
					t.linef("%s has the role %s now, in the place of %s", done.Email, done.Role, done.Before)
				}
			})
		})
	}
	return cmd
}
