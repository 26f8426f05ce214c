package stripetest

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

//go:embed migrations
var migrations embed.FS

// Migrations are the schema changes of the SQL store.
func Migrations() database.Migrations {
	return database.Migrations{Name: "stripetest", FS: migrations}
}

// SQLStore keeps the objects in a database, PostgreSQL or SQLite, that several processes share and that outlives them.
type SQLStore struct{ db *database.DB }

// NewSQLStore makes a store on a database that [SQLStore.Migrate] has prepared, or will before the first request.
func NewSQLStore(pool *sqlx.DB) (*SQLStore, error) {
	db, err := database.New(pool, nil)
	if err != nil {
		return nil, err
	}
	return &SQLStore{db}, nil
}

// Migrate makes the store's tables or brings them up to date. Any number of processes may call it at once.
func (s *SQLStore) Migrate(ctx context.Context) error {
	return database.Migrate(ctx, s.db, Migrations())
}

func (s *SQLStore) do(ctx context.Context, fn func(tx storeTx) error) error {
	return s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		t := &sqlTx{db: s.db, tx: tx, ctx: ctx}
		// SQLite's transactions exclude each other by themselves.
		if err := s.db.GetTx(ctx, tx, &t.seq, `SELECT last_seq FROM qs_stripetest_lock WHERE id = 1`+s.db.Dialect().ForUpdate()); err != nil {
			return fmt.Errorf("stripetest: lock: %w", err)
		}
		before := t.seq
		if err := fn(t); err != nil {
			return err
		}
		if t.seq == before {
			return nil
		}
		if _, err := s.db.ExecTx(ctx, tx, `UPDATE qs_stripetest_lock SET last_seq = ? WHERE id = 1`, t.seq); err != nil {
			return fmt.Errorf("stripetest: unlock: %w", err)
		}
		return nil
	})
}

type sqlTx struct {
	db  *database.DB
	tx  *sqlx.Tx
	ctx context.Context //nolint:containedctx // lives as long as the transaction
	seq int64
}

func (t *sqlTx) get(id string) (*doc, error) {
	var d doc
	err := t.db.GetTx(t.ctx, t.tx, &d, `SELECT id, kind, seq, body FROM qs_stripetest_objects WHERE id = ?`, id)
	if database.IsNoRows(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("stripetest: read %s: %w", id, err)
	}
	return &d, nil
}

func (t *sqlTx) put(id, kind string, body object) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("stripetest: write %s: %w", id, err)
	}
	t.seq++
	const upsert = `INSERT INTO qs_stripetest_objects (id, kind, seq, body) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, body = excluded.body`
	if _, err := t.db.ExecTx(t.ctx, t.tx, upsert, id, kind, t.seq, string(text)); err != nil {
		return fmt.Errorf("stripetest: write %s: %w", id, err)
	}
	return nil
}

func (t *sqlTx) list(kind string) ([]*doc, error) {
	var docs []*doc
	err := t.db.SelectTx(t.ctx, t.tx, &docs, `SELECT id, kind, seq, body FROM qs_stripetest_objects WHERE kind = ? ORDER BY seq`, kind)
	if err != nil {
		return nil, fmt.Errorf("stripetest: list %s: %w", kind, err)
	}
	return docs, nil
}
