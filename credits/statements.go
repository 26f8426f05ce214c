package credits

import (
	"context"
	"log/slog"
	"sync"

	"github.com/jmoiron/sqlx"
)

// statements keeps prepared statements by their text. Each is prepared by the first connection that uses
// it, outside of transactions, since to prepare one takes a connection, and a transaction that waited for another
// connection could wait for ever.
type statements struct {
	db     *sqlx.DB
	on     bool
	logger *slog.Logger

	mu     sync.RWMutex
	made   map[string]*sqlx.Stmt
	wanted map[string]struct{}
}

// maxStatements bounds what is kept: flushes have as many texts as there are combinations of tables, few of them common.
const maxStatements = 64

func newStatements(db *sqlx.DB, on bool, logger *slog.Logger) *statements {
	return &statements{db: db, on: on, logger: logger, made: map[string]*sqlx.Stmt{}, wanted: map[string]struct{}{}}
}

// of returns the statement for use in tx, or nil when there is none yet; then one is made by the next prepare.
func (s *statements) of(tx *sqlx.Tx, text string) *sqlx.Stmt {
	if !s.on {
		return nil
	}
	s.mu.RLock()
	stmt, full := s.made[text], len(s.made) >= maxStatements
	s.mu.RUnlock()
	if stmt != nil {
		return tx.Stmtx(stmt)
	}
	if !full {
		s.mu.Lock()
		s.wanted[text] = struct{}{}
		s.mu.Unlock()
	}
	return nil
}

// prepare makes what transactions have wanted. A statement that cannot be prepared is wanted again by its next use.
func (s *statements) prepare(ctx context.Context) {
	s.mu.RLock()
	none := len(s.wanted) == 0
	s.mu.RUnlock()
	if none {
		return
	}
	s.mu.Lock()
	wanted := s.wanted
	s.wanted = map[string]struct{}{}
	s.mu.Unlock()
	for text := range wanted {
		stmt, err := s.db.PreparexContext(ctx, text) //nolint:sqlclosecheck // it is kept for as long as the pool
		if err != nil {
			s.logger.WarnContext(ctx, "credits: a statement could not be prepared; is Config.Pooled needed?", "error", err)
			return
		}
		s.mu.Lock()
		if _, double := s.made[text]; !double {
			s.made[text], stmt = stmt, nil
		}
		s.mu.Unlock()
		if stmt != nil {
			_ = stmt.Close() // another goroutine was first; what closing says changes nothing
		}
	}
}

// outside returns the statement for use outside of transactions, or nil where none is to be prepared.
func (s *statements) outside(ctx context.Context, text string) *sqlx.Stmt {
	if !s.on {
		return nil
	}
	for range 2 {
		s.mu.RLock()
		stmt := s.made[text]
		s.mu.RUnlock()
		if stmt != nil {
			return stmt
		}
		s.mu.Lock()
		s.wanted[text] = struct{}{}
		s.mu.Unlock()
		s.prepare(ctx)
	}
	return nil
}

// row runs a statement of one row outside of a transaction.
func (s *statements) row(ctx context.Context, text string, args ...any) *sqlx.Row {
	if stmt := s.outside(ctx, text); stmt != nil { //nolint:sqlclosecheck // it is kept
		return stmt.QueryRowxContext(ctx, args...)
	}
	return s.db.QueryRowxContext(ctx, text, args...)
}

// query begins to read rows outside of a transaction.
func (s *statements) query(ctx context.Context, text string, args ...any) (*sqlx.Rows, error) {
	if stmt := s.outside(ctx, text); stmt != nil { //nolint:sqlclosecheck // it is kept
		return stmt.QueryxContext(ctx, args...)
	}
	return s.db.QueryxContext(ctx, text, args...)
}

// rows reads the rows of a statement outside of a transaction.
func (s *statements) rows(ctx context.Context, dest any, text string, args ...any) error {
	if stmt := s.outside(ctx, text); stmt != nil { //nolint:sqlclosecheck // it is kept
		return stmt.SelectContext(ctx, dest, args...)
	}
	return s.db.SelectContext(ctx, dest, text, args...)
}
