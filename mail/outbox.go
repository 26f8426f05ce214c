package mail

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// DefaultPath is where the outbox's pages are unless the host says otherwise.
const DefaultPath = "/dev/mail"

// OutboxKeeps is how many messages an outbox keeps; older ones are removed as new ones come.
const OutboxKeeps = 500

// Limits of a page of messages.
const (
	DefaultPage = database.DefaultPage // 50
	MaxPage     = database.MaxPage     // 500
)

// ErrNotFound tells that the outbox has no such message, or not any more.
var ErrNotFound error = problem.New(problem.CodeNotFound, "There is no such message. The outbox keeps the last 500.")

// OutboxConfig is what [NewOutbox] takes.
type OutboxConfig struct {
	// DB is the database, PostgreSQL or SQLite. Required.
	DB *sqlx.DB
	// ReadDB is a pool for reading. Nil: DB.
	ReadDB *sqlx.DB
	// Path is where the host mounts the handler. Empty: /dev/mail.
	Path string
	// Site draws the pages. Nil: a plain one.
	Site *web.Site
	// Previews are what the pages show of messages that nobody has caused. Nil: nothing. They are asked for at each request.
	Previews func() []Preview
	// Clock tells the time. Nil: time.Now.
	Clock func() time.Time
}

// Outbox is a [Mailer] for development: it delivers nothing and shows what it was given. It keeps messages in the
// database, so that all processes on it share one. Whoever reads it can enter every account, so neither it nor its
// handler belongs into production. Its methods are safe for concurrent use.
type Outbox struct {
	cfg   OutboxConfig
	db    *database.DB
	views *web.Views
}

// NewOutbox checks cfg.
func NewOutbox(cfg OutboxConfig) (*Outbox, error) {
	if cfg.DB == nil {
		return nil, errors.New("mail: OutboxConfig.DB is required")
	}
	db, err := database.New(cfg.DB, cfg.ReadDB)
	if err != nil {
		return nil, err
	}
	if cfg.Path == "" {
		cfg.Path = DefaultPath
	}
	if !strings.HasPrefix(cfg.Path, "/") || strings.HasSuffix(cfg.Path, "/") {
		return nil, fmt.Errorf("mail: OutboxConfig.Path %q must begin with a slash and not end with one", cfg.Path)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Site == nil {
		if cfg.Site, err = web.Alone(cfg.Path, web.Config{}); err != nil {
			return nil, err
		}
	}
	o := &Outbox{cfg: cfg, db: db}
	if o.views, err = cfg.Site.Views("mail", templates, pageData()); err != nil {
		return nil, err
	}
	return o, nil
}

// Migrate makes the table or brings it up to date.
func (o *Outbox) Migrate(ctx context.Context) error {
	return database.Migrate(ctx, o.db, Migrations())
}

// Caught is a message in the outbox.
type Caught struct {
	ID uuid.UUID `json:"id"`
	Message
	// Links are the addresses in the text, in order.
	Links     []string  `json:"links"`
	CreatedAt time.Time `json:"created_at"`
}

type caughtRow struct {
	ID        uuid.UUID     `db:"id"`
	Kind      string        `db:"kind"`
	To        string        `db:"to_address"`
	ToName    string        `db:"to_name"`
	ReplyTo   string        `db:"reply_to"`
	Subject   string        `db:"subject"`
	Text      string        `db:"body_text"`
	HTML      string        `db:"body_html"`
	CreatedAt database.Time `db:"created_at"`
}

func (r caughtRow) caught() Caught {
	m := Message{Kind: r.Kind, To: r.To, ToName: r.ToName, ReplyTo: r.ReplyTo, Subject: r.Subject, Text: r.Text, HTML: r.HTML}
	return Caught{ID: r.ID, Message: m, Links: links(r.Text), CreatedAt: r.CreatedAt.Time}
}

const (
	insertCaught = `INSERT INTO qs_mail_outbox (id, kind, to_address, to_name, reply_to, subject, body_text, body_html, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	// The subquery has no row, and nothing is older than none, until the outbox is full.
	deleteOld = `DELETE FROM qs_mail_outbox WHERE id < (SELECT id FROM qs_mail_outbox ORDER BY id DESC LIMIT 1 OFFSET ?)`
)

// Send implements [Mailer] by keeping m; [ErrInvalid] for an invalid message, as a server would refuse it.
func (o *Outbox) Send(ctx context.Context, m Message) error {
	if err := m.Validate(); err != nil {
		return Permanent(err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("mail: make an id: %w", err)
	}
	return o.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := o.db.ExecTx(ctx, tx, insertCaught, id, m.Kind, m.To, m.ToName, m.ReplyTo, m.Subject, m.Text, m.HTML, database.At(o.cfg.Clock()))
		if err != nil {
			return fmt.Errorf("mail: keep message %s: %w", id, err)
		}
		if _, err := o.db.ExecTx(ctx, tx, deleteOld, OutboxKeeps-1); err != nil {
			return fmt.Errorf("mail: remove old messages: %w", err)
		}
		return nil
	})
}

// Find returns a message; [ErrNotFound] when there is none.
func (o *Outbox) Find(ctx context.Context, id uuid.UUID) (Caught, error) {
	var row caughtRow
	err := o.db.Get(ctx, &row, `SELECT id, kind, to_address, to_name, reply_to, subject, body_text, body_html, created_at FROM qs_mail_outbox WHERE id = ?`, id)
	if database.IsNoRows(err) {
		return Caught{}, ErrNotFound
	}
	if err != nil {
		return Caught{}, fmt.Errorf("mail: find message %s: %w", id, err)
	}
	return row.caught(), nil
}

// ListParams choose a page of the outbox.
type ListParams struct {
	// To leaves out the messages to other addresses, without regard to case. Empty: all.
	To string
	// Before is the last message of the page before. Zero: begin with the newest.
	Before uuid.UUID
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// List returns a page of messages without their HTML, newest first, and whether older ones follow.
func (o *Outbox) List(ctx context.Context, p ListParams) (messages []Caught, more bool, err error) {
	// Runs along the primary key; the filter passes over 500 rows at most.
	l := database.NewList(`SELECT id, kind, to_address, to_name, reply_to, subject, body_text, created_at FROM qs_mail_outbox`)
	l.If(p.To != "", `LOWER(to_address) = LOWER(?)`, p.To)
	l.If(p.Before != uuid.Nil, `id < ?`, p.Before)
	if messages, more, err = database.Page(ctx, o.db, l, `id DESC`, p.Limit, caughtRow.caught); err != nil {
		return nil, false, fmt.Errorf("mail: list messages: %w", err)
	}
	return messages, more, nil
}
