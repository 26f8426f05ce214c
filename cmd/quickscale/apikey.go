package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

func newAPIKey() *cobra.Command {
	cmd := group("apikey", "API keys of a user: list them, revoke one")
	addJSON(cmd)
	cmd.AddCommand(apikeyList(), apikeyRevoke())
	return cmd
}

// withUser finds the user of an address for a command.
func withUser(cmd *cobra.Command, email string, fn func(ctx context.Context, a *auth.Auth, u auth.User, out output) error) error {
	return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
		a, err := people(db)
		if err != nil {
			return err
		}
		u, err := a.FindUserByEmail(ctx, email)
		if errors.Is(err, auth.ErrNotFound) {
			return problem.New(problem.CodeNotFound, "There is no account with this address: `quickscale user list` finds people by the beginning of it.")
		}
		if err != nil {
			return err
		}
		return fn(ctx, a, u, out)
	})
}

func apikeyList() *cobra.Command {
	var p auth.APIKeysParams
	cmd := &cobra.Command{Use: "list EMAIL", Args: args(cobra.ExactArgs(1)), Short: "List a user's API keys, the newest first, without their secrets"}
	f := cmd.Flags()
	f.IntVar(&p.Limit, "limit", 0, "how many, at most 500; 50, unless given")
	f.StringVar(&p.Before, "before", "", "go on after the key of this id, the last of the page before")
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		return withUser(cmd, given[0], func(ctx context.Context, a *auth.Auth, u auth.User, out output) error {
			p.UserID = u.ID
			keys, more, err := a.APIKeys(ctx, p)
			if err != nil {
				return err
			}
			return out.print(map[string]any{"keys": keys, "more": more}, func(t table) {
				t.linef("ID\tPREFIX\tNAME\tCREATED\tLAST USED\tEXPIRES\tREVOKED")
				for _, k := range keys {
					t.linef("%s\t%s\t%s\t%s\t%s\t%s\t%s", k.ID, k.Prefix, k.Name, stamp(k.CreatedAt), stampOr(k.LastUsedAt), stampOr(k.ExpiresAt), stampOr(k.RevokedAt))
				}
				if more {
					t.linef("older ones follow: --before %s", keys[len(keys)-1].ID)
				}
			})
		})
	}
	return cmd
}

func stampOr(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return stamp(*t)
}

func apikeyRevoke() *cobra.Command {
	cmd := &cobra.Command{Use: "revoke EMAIL KEY-ID", Args: args(cobra.ExactArgs(2)), Short: "End a user's API key, from the next call on"} //nolint:mnd // two arguments
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		return withUser(cmd, given[0], func(ctx context.Context, a *auth.Auth, u auth.User, out output) error {
			if err := a.RevokeAPIKey(ctx, u.ID, given[1], auth.Client{Agent: who("")}); err != nil {
				return err
			}
			return out.print(map[string]string{"revoked": given[1]}, func(t table) { t.linef("revoked %s", given[1]) })
		})
	}
	return cmd
}
