package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// The kinds of notices: mails that tell the owner of an account what has happened to it, and let nobody in.
const (
	kindPassword = "auth.password" // the password was replaced
	kindDevice   = "auth.device"   // somebody logged in with a browser that is new
	kindChange   = "auth.change"   // how the account is entered has changed
)

// Notice is what the texts of auth.password, auth.device and auth.change are executed with. All links begin with
// Config.BaseURL.
type Notice struct {
	// Name is what the person is called.
	Name string `json:"name"`
	// Event is what has happened.
	Event EventKind `json:"event"`
	// About is what it happened to: the name of a passkey or of another site, or how many backup codes are left.
	About string `json:"about"`
	// Device and IP are where it was done, empty where it is not known.
	Device string `json:"device"`
	IP     string `json:"ip"`
	// LogIn, SignUp and Forgot are the pages, and Security the one where much can be undone.
	LogIn    string `json:"log_in"`
	SignUp   string `json:"sign_up"`
	Forgot   string `json:"forgot"`
	Security string `json:"security"`
}

// ErrLater is what a [Mailer] answers that takes no mail in this process, such as that of a command: notices are kept for
// [Auth.SendNotices] of another process, which is no error.
var ErrLater = errors.New("auth: mails are sent by another process")

// notify has a notice sent to a locked user. What has happened does not wait for a queue that fails, nor is its owner
// left without the notice: it is then kept with what it tells of, and [Auth.SendNotices] tries again.
func (a *Auth) notify(ctx context.Context, tx *sqlx.Tx, u userRow, kind string, n Notice) error {
	n = a.linked(n)
	failed, err := a.db.TryTx(ctx, tx, func(ctx context.Context) error {
		return a.sendIn(ctx, tx, u.Language, kind, u.Email, n.Name, n)
	})
	if failed == nil || err != nil {
		return err
	}
	if !errors.Is(failed, ErrLater) {
		a.cfg.Logger.ErrorContext(ctx, "security notice not queued; it is kept and tried again", slog.String("kind", kind), slog.String("user", u.ID), slog.Any("error", failed))
	}
	data, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("auth: write a notice of user %s: %w", u.ID, err)
	}
	id, err := newID()
	if err != nil {
		return err
	}
	const insert = `INSERT INTO qs_auth_notices (id, user_id, kind, address, language, data, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)`
	if _, err := a.db.ExecTx(ctx, tx, insert, id, u.ID, kind, u.Email, u.Language, string(data), database.At(a.now())); err != nil {
		return fmt.Errorf("auth: keep a notice of user %s: %w", u.ID, err)
	}
	return nil
}

// linked adds the addresses of the pages.
func (a *Auth) linked(n Notice) Notice {
	n.LogIn, n.SignUp, n.Forgot, n.Security = a.url("/login"), a.url("/signup"), a.url("/password/forgot"), a.cfg.BaseURL+a.cfg.AccountPath+"/security"
	return n
}

// noticesAtOnce bounds what one call of SendNotices takes on.
const noticesAtOnce = 500

type noticeRow struct {
	ID       string `db:"id"`
	UserID   string `db:"user_id"`
	Kind     string `db:"kind"`
	Address  string `db:"address"`
	Language string `db:"language"`
	Data     string `db:"data"`
}

// SendNotices queues the notices that could not be queued when they were due, oldest first and each once, however many
// processes call it, and returns how many of them the queue has taken. Those that fail again stay; the error tells why.
// Call it about once a minute.
func (a *Auth) SendNotices(ctx context.Context) (sent int, err error) {
	var ids []string
	// Runs along the primary key.
	if err := a.db.Select(ctx, &ids, `SELECT id FROM qs_auth_notices ORDER BY id LIMIT ?`, noticesAtOnce); err != nil {
		return 0, fmt.Errorf("auth: list notices: %w", err)
	}
	var faults []error
	for _, id := range ids {
		taken := false
		err := a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			taken, err = a.sendNotice(ctx, tx, id)
			return err
		})
		switch {
		case err != nil:
			faults = append(faults, err)
		case taken:
			sent++
		}
	}
	return sent, errors.Join(faults...)
}

// sendNotice queues a notice and forgets it; false when another process was faster.
func (a *Auth) sendNotice(ctx context.Context, tx *sqlx.Tx, id string) (bool, error) {
	var row noticeRow
	err := a.db.GetTx(ctx, tx, &row, `DELETE FROM qs_auth_notices WHERE id = ? RETURNING id, user_id, kind, address, language, data`, id)
	if database.IsNoRows(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("auth: take notice %s: %w", id, err)
	}
	var n Notice
	if err := json.Unmarshal([]byte(row.Data), &n); err != nil {
		return false, fmt.Errorf("auth: read notice %s: %w", id, err)
	}
	if err := a.sendIn(ctx, tx, row.Language, row.Kind, row.Address, n.Name, n); err != nil {
		return false, fmt.Errorf("auth: notice %s of user %s: %w", id, row.UserID, err)
	}
	return true, nil
}
