package credits

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// snapshot is a transaction that reads one state of the database.
type snapshot struct {
	db *database.DB
	tx *sqlx.Tx
}

// snapshot begins one. On PostgreSQL its isolation is REPEATABLE READ; on SQLite a transaction sees one state anyhow.
func (l *Ledger) snapshot(ctx context.Context) (*snapshot, error) {
	options := &sql.TxOptions{ReadOnly: true}
	if l.db.Dialect() == database.Postgres {
		options.Isolation = sql.LevelRepeatableRead
	}
	tx, err := l.db.Reader().BeginTxx(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("credits: begin to read: %w", err)
	}
	return &snapshot{l.db, tx}, nil
}

func (s *snapshot) selectAll(ctx context.Context, dest any, query string, args ...any) error {
	return s.db.SelectTx(ctx, s.tx, dest, query, args...)
}

// end has nothing to keep, and an error of it nothing to say.
func (s *snapshot) end() { _ = s.tx.Rollback() }
