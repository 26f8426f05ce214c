// Package maintenance keeps in the database that an application is shut to people, so that all of its processes know.
package maintenance

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

//go:embed migrations
var migrations embed.FS

// Migrations are the package's tables.
func Migrations() database.Migrations {
	return database.Migrations{Name: "maintenance", FS: migrations}
}

// State is what the database says.
type State struct {
	On      bool       `json:"on"`
	Message string     `json:"message,omitempty"`
	By      string     `json:"by,omitempty"`
	Since   *time.Time `json:"since,omitempty"`
	// Until is when it is expected to be over. It does not end by itself.
	Until *time.Time `json:"until,omitempty"`
}

// maxMessage is in characters.
const maxMessage = 500

// ErrMessage says that the message is too long.
var ErrMessage = problem.Invalid(map[string]string{"message": "Use 500 characters at most."})

// Begin shuts the application, or changes what people are told. A nil until: nobody knows.
func Begin(ctx context.Context, db *database.DB, message, by string, until *time.Time, now time.Time) error {
	message = strings.TrimSpace(message)
	if utf8.RuneCountInString(message) > maxMessage || !utf8.ValidString(message) {
		return ErrMessage
	}
	err := db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := db.ExecTx(ctx, tx, `INSERT INTO qs_maintenance (id, message, actor, began_at, until_at) VALUES (1, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET message = excluded.message, actor = excluded.actor, until_at = excluded.until_at`, message, by, database.At(now), database.AtPtr(until))
		return err
	})
	if err != nil {
		return fmt.Errorf("maintenance: begin: %w", err)
	}
	return nil
}

// End opens the application again; false when it was open.
func End(ctx context.Context, db *database.DB) (was bool, err error) {
	err = db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		n, err := db.ExecTx(ctx, tx, `DELETE FROM qs_maintenance`)
		was = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("maintenance: end: %w", err)
	}
	return was, nil
}

// Find returns what the database says.
func Find(ctx context.Context, db *database.DB) (State, error) {
	var row struct {
		Message string         `db:"message"`
		Actor   string         `db:"actor"`
		Began   *database.Time `db:"began_at"`
		Until   *database.Time `db:"until_at"`
	}
	err := db.Get(ctx, &row, `SELECT message, actor, began_at, until_at FROM qs_maintenance`)
	if database.IsNoRows(err) {
		return State{}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("maintenance: find: %w", err)
	}
	return State{On: true, Message: row.Message, By: row.Actor, Since: row.Began.Std(), Until: row.Until.Std()}, nil
}

// Stale is how long a process goes by what it has read, and so the longest after which a change holds everywhere.
const Stale = 2 * time.Second

// Watch tells a process what the database says, which it asks at most every [Stale].
type Watch struct {
	db     *database.DB
	logger *slog.Logger
	now    func() time.Time

	mu    sync.Mutex
	state State
	asked time.Time
}

// NewWatch makes a watch that has asked nothing yet.
func NewWatch(db *database.DB, now func() time.Time, logger *slog.Logger) *Watch {
	return &Watch{db: db, now: now, logger: logger}
}

// State is what the database has said last. Where it cannot be asked, what it said before holds on: an outage of the
// database neither shuts nor opens anything.
func (w *Watch) State(ctx context.Context) State {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if !w.asked.IsZero() && now.Sub(w.asked) < Stale && !now.Before(w.asked) {
		return w.state
	}
	state, err := Find(ctx, w.db)
	if err != nil {
		w.logger.ErrorContext(ctx, "whether there is maintenance", slog.Any("error", err))
	} else {
		w.state = state
	}
	w.asked = now
	return w.state
}
