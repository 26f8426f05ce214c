package stripetest

import (
	"context"
	"embed"
	"fmt"
	"slices"

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
		t := &sqlTx{db: s.db, tx: tx, ctx: ctx, seen: map[string]*doc{}}
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
	db   *database.DB
	tx   *sqlx.Tx
	ctx  context.Context //nolint:containedctx // lives as long as the transaction
	seq  int64
	seen map[string]*doc // nobody else writes meanwhile; nil: there is none
}

const docColumns = `id, kind, seq, queue, due, body`

func (t *sqlTx) get(id string) (*doc, error) {
	if d, ok := t.seen[id]; ok {
		return d, nil
	}
	var d doc
	err := t.db.GetTx(t.ctx, t.tx, &d, `SELECT `+docColumns+` FROM qs_stripetest_objects WHERE id = ?`, id)
	if database.IsNoRows(err) {
		t.seen[id] = nil
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("stripetest: read %s: %w", id, err)
	}
	t.seen[id] = &d
	return &d, nil
}

func (t *sqlTx) put(id, kind string, body object) error {
	d, err := newDoc(id, kind, body)
	if err != nil {
		return err
	}
	old, err := t.get(id)
	if err != nil {
		return err
	}
	var had []string
	if old == nil {
		t.seq++
		d.Seq = t.seq
		const insert = `INSERT INTO qs_stripetest_objects (` + docColumns + `) VALUES (?, ?, ?, ?, ?, ?)`
		_, err = t.db.ExecTx(t.ctx, t.tx, insert, id, kind, d.Seq, d.Queue, d.Due, d.Body)
	} else {
		d.Seq = old.Seq
		before, err := old.object()
		if err != nil {
			return err
		}
		had = terms(old.Kind, before)
		const update = `UPDATE qs_stripetest_objects SET kind = ?, queue = ?, due = ?, body = ? WHERE id = ?`
		if _, err = t.db.ExecTx(t.ctx, t.tx, update, kind, d.Queue, d.Due, d.Body, id); err != nil {
			return fmt.Errorf("stripetest: write %s: %w", id, err)
		}
	}
	if err != nil {
		return fmt.Errorf("stripetest: write %s: %w", id, err)
	}
	t.seen[id] = d
	return t.index(d, had)
}

// index adds and removes the terms that a put changed.
func (t *sqlTx) index(d *doc, had []string) error {
	for _, term := range had {
		if slices.Contains(d.terms, term) {
			continue
		}
		if _, err := t.db.ExecTx(t.ctx, t.tx, `DELETE FROM qs_stripetest_terms WHERE term = ? AND seq = ?`, term, d.Seq); err != nil {
			return fmt.Errorf("stripetest: index %s: %w", d.ID, err)
		}
	}
	for _, term := range d.terms {
		if slices.Contains(had, term) {
			continue
		}
		if _, err := t.db.ExecTx(t.ctx, t.tx, `INSERT INTO qs_stripetest_terms (term, seq) VALUES (?, ?)`, term, d.Seq); err != nil {
			return fmt.Errorf("stripetest: index %s: %w", d.ID, err)
		}
	}
	return nil
}

func (t *sqlTx) find(q query) ([]*doc, error) {
	// Runs along qs_stripetest_objects_kind, or the primary key of the terms.
	text, args := `SELECT `+docColumns+` FROM qs_stripetest_objects WHERE kind = ?`, []any{q.kind}
	if q.field != "" {
		text = `SELECT o.id, o.kind, o.seq, o.queue, o.due, o.body FROM qs_stripetest_terms t JOIN qs_stripetest_objects o ON o.seq = t.seq WHERE t.term = ?`
		args = []any{term(q.kind, q.field, q.value)}
	}
	seq := "seq"
	if q.field != "" {
		seq = "t.seq"
	}
	if q.after > 0 {
		text, args = text+` AND `+seq+` > ?`, append(args, q.after)
	}
	if q.before > 0 {
		text, args = text+` AND `+seq+` < ?`, append(args, q.before)
	}
	text += ` ORDER BY ` + seq
	if !q.oldestFirst {
		text += ` DESC`
	}
	if q.limit > 0 {
		text, args = text+` LIMIT ?`, append(args, q.limit)
	}
	return t.read(q.kind, text, args...)
}

func (t *sqlTx) due(queue string, until int64, limit int) ([]*doc, error) {
	// Runs along qs_stripetest_objects_due.
	const text = `SELECT ` + docColumns + ` FROM qs_stripetest_objects WHERE queue = ? AND due > 0 AND due <= ? ORDER BY due, seq LIMIT ?`
	return t.read("what is due", text, queue, until, limit)
}

func (t *sqlTx) read(what, text string, args ...any) ([]*doc, error) {
	var docs []*doc
	if err := t.db.SelectTx(t.ctx, t.tx, &docs, text, args...); err != nil {
		return nil, fmt.Errorf("stripetest: list %s: %w", what, err)
	}
	for _, d := range docs {
		t.seen[d.ID] = d
	}
	return docs, nil
}
