package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/mail"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/webhook"
	"github.com/quickscale/quickscale/webhook/outbound"
)

// migrationSets are those of quickscale.App, which a test compares, in their order. River's own go before.
func migrationSets() []database.Migrations {
	return []database.Migrations{
		credits.Migrations(), webhook.Migrations(), outbound.Migrations(), mail.Migrations(), auth.Migrations(), billing.Migrations(), services.Migrations(), admin.Migrations(),
	}
}

// riverName is what River's migrations are listed under.
const riverName = "river"

func newMigrate() *cobra.Command {
	cmd := group("migrate", "The database's schema: bring it up to date, see where it is")
	addJSON(cmd)
	cmd.AddCommand(migrateUp(), migrateStatus(), migrateSQL())
	return cmd
}

func migrateUp() *cobra.Command {
	cmd := &cobra.Command{
		Use: "up", Args: args(cobra.NoArgs), Short: "Make all tables, or bring them up to date",
		Long: "Make all tables, or bring them up to date. Any number of processes may do so at once: one works, the others wait.\n" +
			"There is no way down: a schema is changed so that the release before still runs on it, and what was lost comes back\n" +
			"from a backup.",
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
			before, err := migrationStatus(ctx, db)
			if err != nil {
				return err
			}
			engine, err := jobs.New(jobs.Config{DB: db, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				return err
			}
			if err := engine.Migrate(ctx); err != nil {
				return err
			}
			if err := database.Migrate(ctx, db, migrationSets()...); err != nil {
				return err
			}
			applied := pendingOf(before)
			return out.print(map[string]any{"applied": applied}, func(t table) {
				for _, m := range applied {
					t.linef("%s\t%s", m.Package, m.File)
				}
				t.linef("%d applied", len(applied))
			})
		})
	}
	return cmd
}

func migrateStatus() *cobra.Command {
	cmd := &cobra.Command{Use: "status", Args: args(cobra.NoArgs), Short: "List the schema's changes, and which are applied"}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
			list, err := migrationStatus(ctx, db)
			if err != nil {
				return err
			}
			pending := len(pendingOf(list))
			return out.print(map[string]any{"migrations": list, "pending": pending}, func(t table) {
				for _, m := range list {
					state := "pending"
					if m.Applied {
						state = "applied"
					}
					t.linef("%s\t%s\t%s", m.Package, m.File, state)
				}
				t.linef("%d pending", pending)
			})
		})
	}
	return cmd
}

func migrateSQL() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "sql", Args: args(cobra.NoArgs), Short: "Print the SQL that migrate up would run, to be read",
		Long: "Print the SQL that migrate up would run on this database, for those who read it before. It is applied by migrate up\n" +
			"only, which also keeps what was applied.",
	}
	cmd.Flags().BoolVar(&all, "all", false, "also what is applied")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
			list, err := migrationStatus(ctx, db)
			if err != nil {
				return err
			}
			if !all {
				list = pendingOf(list)
			}
			texts := make([]migrationText, len(list))
			for i, m := range list {
				if texts[i], err = textOf(db, m); err != nil {
					return err
				}
			}
			if out.json {
				return out.print(map[string]any{"migrations": texts}, nil)
			}
			for _, m := range texts {
				if _, err := fmt.Fprintf(out.w, "-- %s: %s\n%s\n\n", m.Package, m.File, m.SQL); err != nil {
					return err
				}
			}
			_, err = io.WriteString(out.w, fmt.Sprintf("-- %d changes\n", len(texts)))
			return err
		})
	}
	return cmd
}

type migrationText struct {
	database.Migration
	SQL string `json:"sql"`
}

func textOf(db *database.DB, m database.Migration) (migrationText, error) {
	if m.Package == riverName {
		migrator, err := riverMigrator(db)
		if err != nil {
			return migrationText{}, err
		}
		for _, v := range migrator.AllVersions() {
			if riverFile(v) == m.File {
				return migrationText{m, v.SQLUp}, nil
			}
		}
	}
	for _, set := range migrationSets() {
		if set.Name == m.Package {
			text, err := set.SQL(db.Dialect(), m.File)
			return migrationText{m, text}, err
		}
	}
	return migrationText{}, errors.New("there is no migration " + m.Package + " " + m.File)
}

// migrationStatus lists all migrations, in the order in which they are applied.
func migrationStatus(ctx context.Context, db *database.DB) ([]database.Migration, error) {
	migrator, err := riverMigrator(db)
	if err != nil {
		return nil, err
	}
	existing, err := migrator.ExistingVersions(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrations of River: %w", err)
	}
	applied := map[int]bool{}
	for _, v := range existing {
		applied[v.Version] = true
	}
	var list []database.Migration
	for _, v := range migrator.AllVersions() {
		list = append(list, database.Migration{Package: riverName, File: riverFile(v), Applied: applied[v.Version]})
	}
	ours, err := database.Status(ctx, db, migrationSets()...)
	return append(list, ours...), err
}

func riverFile(v rivermigrate.Migration) string { return fmt.Sprintf("%03d %s", v.Version, v.Name) }

func riverMigrator(db *database.DB) (*rivermigrate.Migrator[*sql.Tx], error) {
	var driver riverdriver.Driver[*sql.Tx] = riverdatabasesql.New(db.Writer().DB)
	if db.Dialect() == database.SQLite {
		driver = riversqlite.New(db.Writer().DB)
	}
	return rivermigrate.New(driver, &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
}

func pendingOf(list []database.Migration) []database.Migration {
	pending := []database.Migration{}
	for _, m := range list {
		if !m.Applied {
			pending = append(pending, m)
		}
	}
	return pending
}
