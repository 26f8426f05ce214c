package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

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
	"github.com/quickscale/quickscale/internal/maintenance"
	"github.com/quickscale/quickscale/mail"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/webhook"
	"github.com/quickscale/quickscale/webhook/outbound"
)

// migrationSets are those of quickscale.App, which a test compares, in their order. River's own go before.
func migrationSets() []database.Migrations {
	return []database.Migrations{
		credits.Migrations(), webhook.Migrations(), outbound.Migrations(), mail.Migrations(), auth.Migrations(), billing.Migrations(), services.Migrations(), admin.Migrations(), maintenance.Migrations(),
	}
}

// riverName is what River's migrations are listed under.
const riverName = "river"

func newMigrate() *cobra.Command {
	cmd := group("migrate", "The database's schema: bring it up to date, see where it is")
	addJSON(cmd)
	cmd.AddCommand(migrateUp(), migrateDown(), migrateStatus(), migrateSQL())
	return cmd
}

func migrateUp() *cobra.Command {
	cmd := &cobra.Command{
		Use: "up", Args: args(cobra.NoArgs), Short: "Make all tables, or bring them up to date",
		Long: "Make all tables, or bring them up to date. Any number of processes may do so at once: one works, the others wait.\n" +
			"A schema is changed so that the release before still runs on it: nothing has to go down for that.",
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

func migrateDown() *cobra.Command {
	var dryRun, force bool
	cmd := &cobra.Command{
		Use: "down PACKAGE", Args: args(cobra.ExactArgs(1)), Short: "Take back the last change of one package's schema",
		Long: "Take back the last applied change of one package's schema, as migrate status lists it: what the change has made is\n" +
			"dropped, in one transaction. Stop the application first. The release before runs on the newer schema, so that this\n" +
			"is for development, and for a change that was never used. It refuses where data would be lost, unless --force says\n" +
			"that this is meant, and always where a change has rewritten what was there: that comes back from a backup.",
		Example: "  quickscale migrate down admin --dry-run",
	}
	f := cmd.Flags()
	f.BoolVar(&dryRun, "dry-run", false, "print what would be done and lost, and do nothing")
	f.BoolVar(&force, "force", false, "also where data is lost")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
			sets := migrationSets()
			i := slices.IndexFunc(sets, func(s database.Migrations) bool { return s.Name == names[0] })
			if i < 0 {
				return usageError{fmt.Errorf("there is no package %q with a schema of its own; quickscale migrate status lists them", names[0])}
			}
			down, err := database.PlanDown(ctx, db, sets[i])
			if errors.Is(err, database.ErrNoneApplied) {
				return fmt.Errorf("no change of %s is applied: %w", names[0], errNothing)
			}
			if err != nil {
				return err
			}
			lost := len(down.Loses) > 0
			done := !dryRun && (!lost || force)
			if done {
				if err := database.GoDown(ctx, db, down); err != nil {
					return err
				}
			}
			err = out.print(map[string]any{"down": down, "done": done}, func(t table) {
				t.linef("%s\t%s", down.Package, down.File)
				for _, s := range down.SQL {
					t.linef("    %s;", s)
				}
				for _, l := range down.Loses {
					t.linef("loses %d rows of %s", l.Rows, l.What)
				}
				if done {
					t.linef("done")
				} else {
					t.linef("nothing was done")
				}
			})
			if err == nil && lost && !dryRun && !force {
				err = errLosesData
			}
			return err
		})
	}
	return cmd
}

// errLosesData says that a step down was refused.
var errLosesData = errors.New("this loses data; make a backup with quickscale db backup, and give --force if it is meant")

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
