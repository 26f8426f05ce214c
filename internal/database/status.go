package database

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/pressly/goose/v3"
)

// Migration is one schema change of a package.
type Migration struct {
	Package string `json:"package"`
	File    string `json:"file"`
	Applied bool   `json:"applied"`
}

// Status tells of each migration of the sets, in the order in which they are applied, whether it is. It makes the sets'
// tables of versions when they are missing, and changes nothing else.
func Status(ctx context.Context, db *DB, sets ...Migrations) ([]Migration, error) {
	var all []Migration
	for _, set := range sets {
		p, err := provider(db, set)
		if err != nil {
			return nil, err
		}
		status, err := p.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("database: status of the migrations of %s: %w", set.Name, err)
		}
		for _, m := range status {
			all = append(all, Migration{set.Name, path.Base(m.Source.Path), m.State == goose.StateApplied})
		}
	}
	return all, nil
}

// SQL is the text of a migration for the dialect, as goose runs it upwards.
func (m Migrations) SQL(dialect Dialect, file string) (string, error) {
	dir := "migrations/postgres"
	if dialect == SQLite {
		dir = "migrations/sqlite"
	}
	text, err := fs.ReadFile(m.FS, path.Join(dir, path.Base(file)))
	if err != nil {
		return "", fmt.Errorf("database: migrations of %s: %w", m.Name, err)
	}
	up, _, _ := strings.Cut(string(text), "-- +goose Down")
	lines := slices.DeleteFunc(strings.Split(up, "\n"), func(line string) bool { return strings.HasPrefix(line, "-- +goose ") })
	return strings.TrimSpace(strings.Join(lines, "\n")), nil
}
