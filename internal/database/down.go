package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"
)

// Down is how the last migration of a package is taken back.
type Down struct {
	Package string   `json:"package"`
	File    string   `json:"file"`
	SQL     []string `json:"sql"`
	// Loses is what goes with it, where there is something.
	Loses []Loss `json:"loses"`

	version int64
}

// Loss is data that a step down takes away.
type Loss struct {
	What string `json:"what"` // a table, or a table's column
	Rows int64  `json:"rows"`
}

// The errors of [PlanDown].
var (
	// ErrNoneApplied says that a package has no migration that could be taken back.
	ErrNoneApplied = errors.New("database: no migration of the package is applied")
	// ErrNoWayDown says that a migration has changed what was there in a way that cannot be told from its text.
	ErrNoWayDown = errors.New("database: there is no way down")
)

// PlanDown tells how the last applied migration of a package is taken back, and what would be lost. The way down is told
// from the way up: what was made is dropped. A migration that has done anything else is an [ErrNoWayDown].
func PlanDown(ctx context.Context, db *DB, set Migrations) (Down, error) {
	p, err := provider(db, set)
	if err != nil {
		return Down{}, err
	}
	version, err := p.GetDBVersion(ctx)
	if err != nil {
		return Down{}, fmt.Errorf("database: version of %s: %w", set.Name, err)
	}
	d := Down{Package: set.Name, Loses: []Loss{}, version: version}
	for _, source := range p.ListSources() {
		if source.Version == version {
			d.File = path.Base(source.Path)
		}
	}
	if version == 0 || d.File == "" {
		return Down{}, fmt.Errorf("%w: %s", ErrNoneApplied, set.Name)
	}
	dir := "migrations/postgres"
	if db.dialect == SQLite {
		dir = "migrations/sqlite"
	}
	text, err := fs.ReadFile(set.FS, path.Join(dir, d.File))
	if err != nil {
		return Down{}, fmt.Errorf("database: migrations of %s: %w", set.Name, err)
	}
	var lossy []lossy
	if d.SQL, lossy, err = reverse(string(text), db.dialect); err != nil {
		return Down{}, fmt.Errorf("%w from %s/%s: %w", ErrNoWayDown, set.Name, d.File, err)
	}
	for _, l := range lossy {
		loss := Loss{What: l.what}
		if err := db.Get(ctx, &loss.Rows, "SELECT COUNT(*) FROM "+l.table+l.where); err != nil {
			return Down{}, fmt.Errorf("database: count what %s has: %w", l.what, err)
		}
		if loss.Rows > 0 {
			d.Loses = append(d.Loses, loss)
		}
	}
	return d, nil
}

// GoDown does what [PlanDown] has told, in one transaction. No process that needs the tables may run.
func GoDown(ctx context.Context, db *DB, d Down) error {
	return db.MigrationLock(ctx, func(ctx context.Context) error {
		return db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			for _, statement := range d.SQL {
				if _, err := tx.ExecContext(ctx, statement); err != nil {
					return fmt.Errorf("database: %s: %w", statement, err)
				}
			}
			n, err := db.ExecTx(ctx, tx, "DELETE FROM qs_"+d.Package+"_migrations WHERE version_id = ?", d.version)
			if err == nil && n == 0 {
				err = fmt.Errorf("%w: %s %d is gone already", ErrNoneApplied, d.Package, d.version)
			}
			return err
		})
	})
}

// lossy is a table, or a part of it, whose rows go.
type lossy struct{ what, table, where string }

var (
	createTable  = regexp.MustCompile(`^CREATE (?:UNLOGGED )?TABLE (\w+)`)
	createIndex  = regexp.MustCompile(`^CREATE (?:UNIQUE )?INDEX (\w+)`)
	createOnItem = regexp.MustCompile(`(?s)^CREATE TRIGGER (\w+) .*?\bON (\w+)`)
	createOther  = regexp.MustCompile(`^CREATE (VIEW|DOMAIN|FUNCTION) (\w+)`)
	addColumn    = regexp.MustCompile(`^ALTER TABLE (\w+) ADD COLUMN (\w+)`)
	changesTable = regexp.MustCompile(`^(?:ALTER TABLE (\w+) ADD|INSERT INTO (\w+)) `)
	columnValue  = regexp.MustCompile(`\bDEFAULT ('[^']*'|[\w.]+)`)
)

// reverse makes the statements that take back what those of a migration have made, the last first.
func reverse(text string, dialect Dialect) (down []string, lose []lossy, err error) {
	var made []string // tables of this migration
	for _, s := range statements(text) {
		if m := createTable.FindStringSubmatch(s); m != nil {
			made = append(made, m[1])
			lose = append(lose, lossy{m[1], m[1], ""})
			continue
		}
		if m := createIndex.FindStringSubmatch(s); m != nil {
			down = append(down, "DROP INDEX "+m[1])
			continue
		}
		if m := createOnItem.FindStringSubmatch(s); m != nil {
			drop := "DROP TRIGGER " + m[1]
			if dialect == Postgres {
				drop += " ON " + m[2]
			}
			down = append(down, drop)
			continue
		}
		if m := createOther.FindStringSubmatch(s); m != nil {
			down = append(down, "DROP "+m[1]+" "+m[2])
			continue
		}
		if m := changesTable.FindStringSubmatch(s); m != nil && slices.Contains(made, m[1]+m[2]) {
			continue // it goes with its table
		}
		if m := addColumn.FindStringSubmatch(s); m != nil && strings.Count(s, "ADD COLUMN") == 1 {
			l := lossy{m[1] + "." + m[2], m[1], " WHERE " + m[2] + " IS NOT NULL"}
			if value := columnValue.FindStringSubmatch(s); value != nil {
				l.where += " AND " + m[2] + " <> " + value[1]
			}
			lose = append(lose, l)
			down = append(down, "ALTER TABLE "+m[1]+" DROP COLUMN "+m[2])
			continue
		}
		head, _, _ := strings.Cut(s, "\n")
		return nil, nil, fmt.Errorf("it ran %q", head)
	}
	slices.Reverse(down)
	return withTables(down, made, dialect), lose, nil
}

// withTables drops tables after what stands on them, and before what they stand on: the types and functions.
func withTables(down, made []string, dialect Dialect) []string {
	if len(made) == 0 {
		return down
	}
	slices.Reverse(made)
	drops := []string{"DROP TABLE " + strings.Join(made, ", ")} // at once, since they may refer to each other
	if dialect == SQLite {
		drops = []string{"PRAGMA defer_foreign_keys = ON"}
		for _, table := range made {
			drops = append(drops, "DROP TABLE "+table)
		}
	}
	var over, below []string
	for _, s := range down {
		if strings.HasPrefix(s, "DROP DOMAIN ") || strings.HasPrefix(s, "DROP FUNCTION ") {
			below = append(below, s)
		} else {
			over = append(over, s)
		}
	}
	return slices.Concat(over, drops, below)
}

// statements splits a goose file's way up into its statements, without comments.
func statements(text string) []string {
	up, _, _ := strings.Cut(text, "-- +goose Down")
	var all []string
	var one []string
	whole := false // within StatementBegin and StatementEnd
	end := func() {
		if s := strings.TrimSpace(strings.Join(one, "\n")); s != "" {
			all = append(all, s)
		}
		one = nil
	}
	for line := range strings.Lines(up) {
		line = strings.TrimRight(line, " \t\r\n")
		switch trimmed := strings.TrimSpace(line); {
		case trimmed == "-- +goose StatementBegin":
			whole = true
		case trimmed == "-- +goose StatementEnd":
			whole = false
			end()
		case strings.HasPrefix(trimmed, "--"):
		default:
			code, comment := line, strings.Index(line, " -- ")
			if comment >= 0 {
				code = strings.TrimRight(line[:comment], " \t")
			}
			one = append(one, code)
			if !whole && strings.HasSuffix(code, ";") {
				end()
			}
		}
	}
	end()
	return all
}
