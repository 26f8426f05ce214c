package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
)

func userList() *cobra.Command {
	var p auth.UsersParams
	cmd := &cobra.Command{
		Use: "list [BEGIN]", Args: args(cobra.MaximumNArgs(1)), Short: "List people, the newest first",
		Long: "List people, the newest first: all of them, or those whose address or name begins with what is given, in any case.",
	}
	f := cmd.Flags()
	f.IntVar(&p.Limit, "limit", 0, "how many, at most 500; 50, unless given")
	f.StringVar(&p.Before, "before", "", "go on after the person of this id, the last of the page before")
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
			a, err := people(db)
			if err != nil {
				return err
			}
			if len(given) > 0 {
				p.Query = given[0]
			}
			users, more, err := a.Users(ctx, p)
			if err != nil {
				return err
			}
			return out.print(map[string]any{"users": users, "more": more}, func(t table) {
				t.linef("ID\tE-MAIL\tNAME\tROLE\tCONFIRMED\tCREATED\tLAST LOG-IN\tCLOSED")
				for _, u := range users {
					t.linef("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", u.ID, u.Email, u.Name, u.Role, stampOr(u.VerifiedAt), stamp(u.CreatedAt), stampOr(u.LastLoginAt), stampOr(u.DisabledAt))
				}
				if more {
					t.linef("older ones follow: --before %s", users[len(users)-1].ID)
				}
			})
		})
	}
	return cmd
}
