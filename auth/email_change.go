package auth

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// How long a change of address can be confirmed, and undone.
const (
	changeLifetime = 24 * time.Hour
	undoLifetime   = 72 * time.Hour
)

// Errors that callers branch on.
var (
	// ErrSameEmail: the address is the account's already.
	ErrSameEmail error = problem.Invalid(map[string]string{"email": "This is your address already."})
)

type emailChange struct {
	ID          string         `db:"id"`
	UserID      string         `db:"user_id"`
	OldEmail    string         `db:"old_email"`
	OldKey      string         `db:"old_email_key"`
	NewEmail    string         `db:"new_email"`
	NewKey      string         `db:"new_email_key"`
	CreatedAt   database.Time  `db:"created_at"`
	ConfirmedAt *database.Time `db:"confirmed_at"`
}

const changeColumns = `id, user_id, old_email, old_email_key, new_email, new_email_key, created_at, confirmed_at`

// RequestEmailChangeParams ask for another address. The caller has just seen the person prove who they are.
type RequestEmailChangeParams struct {
	UserID string
	Email  string
	Client Client
}

// RequestEmailChange mails a link to the new address, which works once within 24 hours and without which nothing
// changes, and a notice with a way to stop it to the old one. Another change that waits is given up. When the new address
// has an account its owner is told by mail; the outcome is the same. [ErrSameEmail], [ErrUnverified], [ErrNotFound]; a
// problem of code "invalid" for the field "email"; a [*RetryError] when there were too many attempts.
func (a *Auth) RequestEmailChange(ctx context.Context, p RequestEmailChangeParams) error {
	address, err := parseEmail(p.Email)
	if err != nil {
		return err
	}
	if err := a.countAttempt(ctx, "email", a.cfg.Limits.Forgot, p.Client); err != nil {
		return err
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, p.UserID)
		switch {
		case err != nil:
			return err
		case u.VerifiedAt == nil:
			return ErrUnverified
		case u.EmailKey == address.key:
			return ErrSameEmail
		}
		return a.requestEmailChange(ctx, tx, u, address, p.Client)
	})
}

func (a *Auth) requestEmailChange(ctx context.Context, tx *sqlx.Tx, u userRow, address email, c Client) error {
	if err := a.dropPendingChange(ctx, tx, u.ID); err != nil {
		return err
	}
	id, err := newID()
	if err != nil {
		return err
	}
	confirm, confirmHash := newSecret()
	undo, undoHash := newSecret()
	now := a.now()
	const insert = `INSERT INTO qs_auth_email_changes (id, user_id, old_email, old_email_key, new_email, new_email_key, confirm_hash, undo_hash, created_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	if _, err := a.db.ExecTx(ctx, tx, insert, id, u.ID, u.Email, u.EmailKey, address.shown, address.key, confirmHash, undoHash, database.At(now),
		database.At(now.Add(changeLifetime))); err != nil {
		return fmt.Errorf("auth: keep a change of address of user %s: %w", u.ID, err)
	}
	if err := a.record(ctx, tx, u.ID, EventEmailAsked, "", c); err != nil {
		return err
	}
	if err := a.mail(ctx, tx, u, kindAsked, Mail{Name: u.Name, Address: address.shown, Link: a.url("/email/undo?token=" + url.QueryEscape(undo))}); err != nil {
		return err
	}
	if allowed, err := a.mailAllowed(ctx, tx, address); err != nil || !allowed {
		return err
	}
	taken, language, err := a.isTaken(ctx, tx, address.key)
	if err != nil {
		return err
	}
	if taken {
		return a.send(ctx, tx, userRow{Email: address.shown, Language: language}, kindExists, "")
	}
	return a.mail(ctx, tx, userRow{Email: address.shown, Language: u.Language}, kindChangeTo, Mail{Link: a.url("/email/confirm?token=" + url.QueryEscape(confirm))})
}

// isTaken tells whether there is an account with an address, and the language of its owner.
func (a *Auth) isTaken(ctx context.Context, tx *sqlx.Tx, key string) (taken bool, language string, err error) {
	err = a.db.GetTx(ctx, tx, &language, `SELECT language FROM qs_auth_users WHERE email_key = ?`, key)
	if err != nil && !database.IsNoRows(err) {
		return false, "", fmt.Errorf("auth: look for an address: %w", err)
	}
	return err == nil, language, nil
}

// dropPendingChange gives up the change of a locked user that waits, if any.
func (a *Auth) dropPendingChange(ctx context.Context, tx *sqlx.Tx, userID string) error {
	const drop = `UPDATE qs_auth_email_changes SET ended_at = ? WHERE user_id = ? AND confirmed_at IS NULL AND ended_at IS NULL`
	if _, err := a.db.ExecTx(ctx, tx, drop, database.At(a.now()), userID); err != nil {
		return fmt.Errorf("auth: give up a change of address of user %s: %w", userID, err)
	}
	return nil
}

// lockChange finds the change of a token, locks its user, whose row comes first, and reads it again. column is one of
// the two hashes.
func (a *Auth) lockChange(ctx context.Context, tx *sqlx.Tx, column, token string) (c emailChange, u userRow, err error) {
	if !isSecret(token) {
		return c, u, ErrLink
	}
	query := `SELECT ` + changeColumns + ` FROM qs_auth_email_changes WHERE ` + column + ` = ? AND ended_at IS NULL AND expires_at > ?`
	find := func() error {
		err := a.db.GetTx(ctx, tx, &c, query, hashSecret(token), database.At(a.now()))
		if database.IsNoRows(err) {
			return ErrLink
		}
		if err != nil {
			return fmt.Errorf("auth: find a change of address: %w", err)
		}
		return nil
	}
	if err := find(); err != nil {
		return c, u, err
	}
	if u, err = a.lockUser(ctx, tx, c.UserID); err != nil {
		return c, u, err
	}
	return c, u, find()
}

// changeOf returns the change of a token without spending it; [ErrLink].
func (a *Auth) changeOf(ctx context.Context, column, token string) (c emailChange, err error) {
	if !isSecret(token) {
		return c, ErrLink
	}
	query := `SELECT ` + changeColumns + ` FROM qs_auth_email_changes WHERE ` + column + ` = ? AND ended_at IS NULL AND expires_at > ?`
	err = a.db.Get(ctx, &c, query, hashSecret(token), database.At(a.now()))
	if database.IsNoRows(err) || err == nil && column == confirmColumn && c.ConfirmedAt != nil {
		return c, ErrLink
	}
	if err != nil {
		return c, fmt.Errorf("auth: find a change of address: %w", err)
	}
	return c, nil
}

const (
	confirmColumn = "confirm_hash"
	undoColumn    = "undo_hash"
)

// ConfirmEmailChange gives an account its new address, tells the old one with a way back for 72 hours, and ends all
// sessions and open links. [ErrLink] when the link does not work or the address has an account meanwhile; [ErrDisabled].
func (a *Auth) ConfirmEmailChange(ctx context.Context, token string, c Client) error {
	err := a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		change, u, err := a.lockChange(ctx, tx, confirmColumn, token)
		switch {
		case err != nil:
			return err
		case change.ConfirmedAt != nil || u.EmailKey != change.OldKey:
			return ErrLink
		case u.DisabledAt != nil:
			return ErrDisabled
		}
		taken, _, err := a.isTaken(ctx, tx, change.NewKey)
		if err != nil {
			return err
		}
		if taken {
			return ErrLink
		}
		undo, undoHash := newSecret()
		now := a.now()
		const confirm = `UPDATE qs_auth_email_changes SET confirmed_at = ?, undo_hash = ?, expires_at = ? WHERE id = ?`
		if _, err := a.db.ExecTx(ctx, tx, confirm, database.At(now), undoHash, database.At(now.Add(undoLifetime)), change.ID); err != nil {
			return fmt.Errorf("auth: confirm a change of address of user %s: %w", u.ID, err)
		}
		if err := a.moveTo(ctx, tx, &u, change.NewEmail, change.NewKey, EventEmailChanged, c); err != nil {
			return err
		}
		return a.mail(ctx, tx, userRow{Email: change.OldEmail, Language: u.Language}, kindChanged, Mail{Name: u.Name, Address: u.Email, Link: a.url("/email/undo?token=" + url.QueryEscape(undo))})
	})
	if database.IsUniqueViolation(err) {
		return ErrLink // somebody signed up with it at this moment
	}
	return err
}

// moveTo gives a locked user another address and ends what belongs to the one before.
func (a *Auth) moveTo(ctx context.Context, tx *sqlx.Tx, u *userRow, shown, key string, kind EventKind, c Client) error {
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_users SET email = ?, email_key = ? WHERE id = ?`, shown, key, u.ID); err != nil {
		return fmt.Errorf("auth: change the address of user %s: %w", u.ID, err)
	}
	before := u.Email
	u.Email, u.EmailKey = shown, key
	if err := a.cancelTokens(ctx, tx, u.ID, purposeReset); err != nil {
		return err
	}
	if err := a.endSessions(ctx, tx, u.ID, ""); err != nil {
		return err
	}
	if err := a.record(ctx, tx, u.ID, kind, "", c); err != nil {
		return err
	}
	if a.cfg.Hooks.OnEmailChange == nil {
		return nil
	}
	return a.cfg.Hooks.OnEmailChange(ctx, tx, u.user(), before)
}

// UndoEmailChange is for the owner of the old address who did not ask for a change: it stops one that waits, or takes
// one of the last 72 hours back. Whoever did it knew the password and may have left more behind, so all sessions end and
// the password, all API keys, and what was added beside the password since then are taken off. The owner gets a link for
// a new password. [ErrLink] when the link does not work; [ErrEmailTaken] when the old address has another account now.
func (a *Auth) UndoEmailChange(ctx context.Context, token string, c Client) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		change, u, err := a.lockChange(ctx, tx, undoColumn, token)
		if err != nil {
			return err
		}
		if change.ConfirmedAt != nil && u.EmailKey != change.NewKey {
			return ErrLink // it was changed again, and that has a way back of its own
		}
		if change.ConfirmedAt != nil {
			taken, _, err := a.isTaken(ctx, tx, change.OldKey)
			if err != nil {
				return err
			}
			if taken {
				return ErrEmailTaken
			}
			if err := a.moveTo(ctx, tx, &u, change.OldEmail, change.OldKey, EventEmailUndone, c); err != nil {
				return err
			}
		} else if err := a.record(ctx, tx, u.ID, EventEmailUndone, "", c); err != nil {
			return err
		}
		return a.reclaim(ctx, tx, u, change.CreatedAt, c)
	})
}

// reclaim takes an account from whoever else got into it since a moment.
func (a *Auth) reclaim(ctx context.Context, tx *sqlx.Tx, u userRow, since database.Time, c Client) error {
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_email_changes SET ended_at = ? WHERE user_id = ? AND ended_at IS NULL`, database.At(a.now()), u.ID); err != nil {
		return fmt.Errorf("auth: end the changes of address of user %s: %w", u.ID, err)
	}
	if err := a.endSessions(ctx, tx, u.ID, ""); err != nil {
		return err
	}
	if err := a.revokeKeys(ctx, tx, u.ID, c); err != nil {
		return err
	}
	if err := a.storeHash(ctx, tx, u.ID, ""); err != nil {
		return err
	}
	for _, statement := range []string{
		`DELETE FROM qs_auth_totp WHERE user_id = ? AND created_at >= ?`,
		`DELETE FROM qs_auth_backup_codes WHERE user_id = ? AND created_at >= ?`,
		`DELETE FROM qs_auth_passkeys WHERE user_id = ? AND created_at >= ?`,
		`DELETE FROM qs_auth_identities WHERE user_id = ? AND created_at >= ?`,
	} {
		if _, err := a.db.ExecTx(ctx, tx, statement, u.ID, since); err != nil {
			return fmt.Errorf("auth: reclaim user %s: %w", u.ID, err)
		}
	}
	token, err := a.issueToken(ctx, tx, u, purposeReset, resetLifetime)
	if err != nil {
		return err
	}
	return a.send(ctx, tx, u, kindReset, token)
}
