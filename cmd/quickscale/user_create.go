package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// created is what create prints.
type created struct {
	ID    string    `json:"id"`
	Email string    `json:"email"`
	Role  auth.Role `json:"role"`
	// Verified says that the address is taken for the person's.
	Verified bool `json:"verified"`
	// Password is the one that was drawn. Empty: it was given.
	Password string `json:"password,omitempty"`
	DryRun   bool   `json:"dry_run"`
}

func userCreate() *cobra.Command {
	var (
		p             auth.CreateUserParams
		role          string
		given, dryRun bool
	)
	cmd := &cobra.Command{
		Use: "create EMAIL", Args: args(cobra.ExactArgs(1)), Short: "Make an account",
		Long: "Make an account. Its password is drawn and printed, once, unless --password-stdin gives one; the person then chooses\n" +
			"another one under Account, Security. No mail is sent: without --verified the address is confirmed at the first log-in,\n" +
			"by the link that the page for it sends.",
	}
	f := cmd.Flags()
	f.StringVar(&p.Name, "name", "", "what the person is called")
	f.StringVar(&role, "role", string(auth.RoleUser), "user, staff or admin; the last two with --verified only")
	f.BoolVar(&p.Verified, "verified", false, "take the address for the person's without a mail")
	f.BoolVar(&given, "password-stdin", false, "read the password from standard input")
	f.BoolVar(&dryRun, "dry-run", false, "say what would be made, and make nothing")
	cmd.RunE = func(cmd *cobra.Command, line []string) error {
		p.Email, p.Role = line[0], auth.Role(role)
		switch p.Role {
		case auth.RoleUser:
		case auth.RoleStaff, auth.RoleAdmin:
			if !p.Verified {
				return usageError{errors.New("nobody has shown to own the address: add --verified for a role beyond user, or promote the person later")}
			}
		default:
			return usageError{auth.ErrRole}
		}
		done := created{Email: p.Email, Role: p.Role, Verified: p.Verified, DryRun: dryRun}
		if given {
			password, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read the password: %w", err)
			}
			if p.Password = strings.TrimRight(password, "\r\n"); p.Password == "" {
				return usageError{errors.New("there was no password on standard input")}
			}
		} else {
			p.Password = rand.Text()
		}
		return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
			a, err := people(db)
			if err != nil {
				return err
			}
			if _, err := a.FindUserByEmail(ctx, p.Email); err == nil {
				return problem.New("email_taken", "There is an account with this address: `quickscale user list ADDRESS` shows it.")
			} else if !errors.Is(err, auth.ErrNotFound) {
				return err
			}
			if !dryRun {
				u, err := a.CreateUser(ctx, p)
				if err != nil {
					return err
				}
				done.ID, done.Email = u.ID, u.Email
				if !given {
					done.Password = p.Password
				}
			}
			return out.print(done, func(t table) {
				if dryRun {
					t.linef("%s would have an account with the role %s", done.Email, done.Role)
					return
				}
				t.linef("%s has an account with the role %s: %s", done.Email, done.Role, done.ID)
				if done.Password != "" {
					t.linef("password, which is not shown again: %s", done.Password)
				}
			})
		})
	}
	return cmd
}
