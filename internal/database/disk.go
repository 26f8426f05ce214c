package database

import (
	"context"
	"fmt"
	"path/filepath"
)

// FreeDisk is how many bytes are left where the database keeps its file; false for a database that is a server, whose
// disk is another machine's.
func (d *DB) FreeDisk(ctx context.Context) (free uint64, known bool, err error) {
	if d.dialect != SQLite {
		return 0, false, nil
	}
	var file string
	if err := d.Get(ctx, &file, "SELECT file FROM pragma_database_list WHERE name = 'main'"); err != nil {
		return 0, false, fmt.Errorf("database: ask SQLite for its file: %w", err)
	}
	if file == "" { // in memory
		return 0, false, nil
	}
	return freeBytes(filepath.Dir(file))
}
