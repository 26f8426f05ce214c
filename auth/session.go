package auth

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// seenEvery is how often a session's last use is written.
const seenEvery = time.Minute

// Session is one browser's log-in.
type Session struct {
	// ID names the session; it lets nobody in.
	ID        string    `json:"id"`
	IP        string    `json:"ip"`
	Agent     string    `json:"agent"`
	Remember  bool      `json:"remember"`
	CreatedAt time.Time `json:"created_at"`
	// AuthAt is when the person last proved who they are: at the log-in, or when asked again since.
	AuthAt     time.Time `json:"auth_at"`
	LastSeenAt time.Time `json:"last_seen_at"`
	// ExpiresAt is when it ends however much it is used.
	ExpiresAt time.Time `json:"expires_at"`
	// ImpersonatorID is the member of staff who acts as the person. Empty: it is the person. Only [SessionFrom] tells it.
	ImpersonatorID string `json:"impersonator_id,omitempty"`

	account Account // only where a request was resumed
}

// Device is the browser and the system as people call them.
func (s Session) Device() string { return deviceOf(s.Agent) }

// SignedIn is a session that has just begun.
type SignedIn struct {
	User    User
	Session Session
	// Token is what the browser holds; it is stored nowhere in clear.
	Token string
	// Device is what the browser is to be known again by. Empty: it keeps what it has.
	Device string
}

// LogValue is the user's id: the token must not be logged.
func (s SignedIn) LogValue() slog.Value { return s.User.LogValue() }

type sessionRow struct {
	ID         string        `db:"id"`
	IP         string        `db:"ip"`
	Agent      string        `db:"agent"`
	Remember   bool          `db:"remember"`
	CreatedAt  database.Time `db:"created_at"`
	AuthAt     database.Time `db:"auth_at"`
	LastSeenAt database.Time `db:"last_seen_at"`
	IdleUntil  database.Time `db:"idle_until"`
	ExpiresAt  database.Time `db:"expires_at"`
}

const sessionColumns = `id, ip, agent, remember, created_at, auth_at, last_seen_at, idle_until, expires_at`

func (r sessionRow) session() Session {
	return Session{ID: r.ID, IP: r.IP, Agent: r.Agent, Remember: r.Remember, CreatedAt: r.CreatedAt.Time, AuthAt: r.AuthAt.Time, LastSeenAt: r.LastSeenAt.Time,
		ExpiresAt: r.ExpiresAt.Time}
}

// idle is how long a session lives without a request.
func (a *Auth) idle(remember bool) time.Duration {
	if remember {
		return a.cfg.RememberLifetime
	}
	return a.cfg.SessionIdle
}

func (a *Auth) lifetime(remember bool) time.Duration {
	if remember {
		return a.cfg.RememberLifetime
	}
	return a.cfg.SessionLifetime
}

// startSession writes a session with a token of its own for a locked user.
func (a *Auth) startSession(ctx context.Context, tx *sqlx.Tx, u userRow, remember bool, c Client) (SignedIn, error) {
	id, err := newID()
	if err != nil {
		return SignedIn{}, err
	}
	token, hash := newSecret()
	now := a.now()
	s := sessionRow{ID: id, IP: c.IP, Agent: cleanText(c.Agent), Remember: remember, CreatedAt: database.At(now), AuthAt: database.At(now), LastSeenAt: database.At(now),
		ExpiresAt: database.At(now.Add(a.lifetime(remember)))}
	s.IdleUntil = earlier(database.At(now.Add(a.idle(remember))), s.ExpiresAt)
	const insert = `INSERT INTO qs_auth_sessions (` + sessionColumns + `, token_hash, user_id, organisation_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT organisation_id FROM qs_auth_users WHERE id = ?))`
	if _, err := a.db.ExecTx(ctx, tx, insert, s.ID, s.IP, s.Agent, s.Remember, s.CreatedAt, s.AuthAt, s.LastSeenAt, s.IdleUntil, s.ExpiresAt, hash, u.ID, u.ID); err != nil {
		return SignedIn{}, fmt.Errorf("auth: write a session of user %s: %w", u.ID, err)
	}
	return SignedIn{User: u.user(), Session: s.session(), Token: token}, nil
}

func earlier(a, b database.Time) database.Time {
	if a.Before(b.Time) {
		return a
	}
	return b
}

// resume finds who a token belongs to; false when it is nobody's any more.
func (a *Auth) resume(ctx context.Context, token string) (User, Session, bool, error) {
	var row struct {
		userRow
		Session      sessionRow `db:"session"`
		Account      accountRow `db:"account"`
		Impersonator *string    `db:"impersonator_id"`
	}
	const query = `SELECT ` + userColumns + `,
			s.id AS "session.id", s.ip AS "session.ip", s.agent AS "session.agent", s.remember AS "session.remember",
			s.created_at AS "session.created_at", s.auth_at AS "session.auth_at", s.last_seen_at AS "session.last_seen_at",
			s.idle_until AS "session.idle_until", s.expires_at AS "session.expires_at", s.impersonator_id,
			o.id AS "account.id", o.name AS "account.name", m.role AS "account.role"
		FROM qs_auth_sessions s JOIN qs_auth_users u ON u.id = s.user_id
			LEFT JOIN qs_auth_members m ON m.organisation_id = s.organisation_id AND m.user_id = s.user_id
			LEFT JOIN qs_auth_organisations o ON o.id = m.organisation_id
		WHERE s.token_hash = ? AND s.revoked_at IS NULL AND u.disabled_at IS NULL
			AND (s.staff_session_id IS NULL OR EXISTS (SELECT 1 FROM qs_auth_sessions w JOIN qs_auth_users staff ON staff.id = w.user_id
				WHERE w.id = s.staff_session_id AND w.revoked_at IS NULL AND staff.disabled_at IS NULL AND staff.role <> 'user'))`
	err := a.db.Get(ctx, &row, query, hashSecret(token))
	if database.IsNoRows(err) {
		return User{}, Session{}, false, nil
	}
	if err != nil {
		return User{}, Session{}, false, fmt.Errorf("auth: resume a session: %w", err)
	}
	now, s := a.now(), row.Session
	if !now.Before(s.IdleUntil.Time) || !now.Before(s.ExpiresAt.Time) {
		return User{}, Session{}, false, nil
	}
	if now.Sub(s.LastSeenAt.Time) >= seenEvery {
		if err := a.touch(ctx, s, now); err != nil {
			// The request goes on: at worst the session ends earlier.
			a.cfg.Logger.ErrorContext(ctx, "write the last use of a session", slog.Any("error", err))
		}
	}
	u, session := row.user(), s.session()
	if a.cfg.WithoutOrganisations {
		row.Account = accountRow{}
	}
	session.account = row.Account.account(u)
	if row.Impersonator != nil {
		session.ImpersonatorID = *row.Impersonator
	}
	return u, session, true, nil
}

// touch notes that a session is in use. It never brings back one that was revoked meanwhile.
func (a *Auth) touch(ctx context.Context, s sessionRow, now time.Time) error {
	const update = `UPDATE qs_auth_sessions SET last_seen_at = ?, idle_until = ? WHERE id = ? AND revoked_at IS NULL AND last_seen_at <= ?`
	idleUntil := earlier(database.At(now.Add(a.idle(s.Remember))), s.ExpiresAt)
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := a.db.ExecTx(ctx, tx, update, database.At(now), idleUntil, s.ID, database.At(now.Add(-seenEvery)))
		return err
	})
}

// SessionsParams choose a page of a user's sessions.
type SessionsParams struct {
	UserID string
	// Before is the id of the last session of the page before. Empty: begin with the newest.
	Before string
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// Sessions returns a page of a user's sessions that are alive, the newest log-in first, and whether older ones follow.
func (a *Auth) Sessions(ctx context.Context, p SessionsParams) (sessions []Session, more bool, err error) {
	if !isID(p.UserID) {
		return []Session{}, false, nil
	}
	// Runs along qs_auth_sessions_user.
	now := database.At(a.now())
	l := database.NewList(`SELECT ` + sessionColumns + ` FROM qs_auth_sessions`)
	l.And(`user_id = ? AND revoked_at IS NULL AND idle_until > ? AND expires_at > ?`, p.UserID, now, now)
	l.If(isID(p.Before), `id < ?`, p.Before)
	if sessions, more, err = database.Page(ctx, a.db, l, `id DESC`, p.Limit, sessionRow.session); err != nil {
		return nil, false, fmt.Errorf("auth: sessions of user %s: %w", p.UserID, err)
	}
	return sessions, more, nil
}

// RevokeSession ends one of a user's sessions at once; [ErrNoSession] when there is none of that id, it has ended, or it
// is another user's.
func (a *Auth) RevokeSession(ctx context.Context, userID, sessionID string, c Client) error {
	if !isID(userID) || !isID(sessionID) {
		return ErrNoSession
	}
	const revoke = `UPDATE qs_auth_sessions SET revoked_at = ? WHERE id = ? AND user_id = ? AND revoked_at IS NULL`
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		n, err := a.db.ExecTx(ctx, tx, revoke, database.At(a.now()), sessionID, userID)
		if err != nil {
			return fmt.Errorf("auth: revoke session %s: %w", sessionID, err)
		}
		if n == 0 {
			return ErrNoSession
		}
		return a.record(ctx, tx, userID, EventSessionRevoked, "", c)
	})
}

// RevokeOtherSessions ends all sessions of a user but one; all when keep is empty.
func (a *Auth) RevokeOtherSessions(ctx context.Context, userID, keep string, c Client) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if err != nil {
			return err
		}
		if err := a.endSessions(ctx, tx, u.ID, keep); err != nil {
			return err
		}
		return a.record(ctx, tx, u.ID, EventSessionRevoked, "all others", c)
	})
}

// endSessions revokes all sessions of a locked user but the one to keep, if any.
func (a *Auth) endSessions(ctx context.Context, tx *sqlx.Tx, userID, keep string) error {
	query, args := `UPDATE qs_auth_sessions SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL`, []any{database.At(a.now()), userID}
	if keep != "" {
		query, args = query+` AND id <> ?`, append(args, keep)
	}
	if _, err := a.db.ExecTx(ctx, tx, query, args...); err != nil {
		return fmt.Errorf("auth: end the sessions of user %s: %w", userID, err)
	}
	// Nor may a log-in go on that began before.
	if err := a.endMagic(ctx, tx, userID); err != nil {
		return err
	}
	if _, err := a.db.ExecTx(ctx, tx, `DELETE FROM qs_auth_pending WHERE user_id = ?`, userID); err != nil {
		return fmt.Errorf("auth: end the log-ins of user %s: %w", userID, err)
	}
	return nil
}

// LogOut ends the session of a token. A token that is nobody's is no error.
func (a *Auth) LogOut(ctx context.Context, token string, c Client) error {
	if !isSecret(token) {
		return nil
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.endSession(ctx, tx, token, c) })
}

func (a *Auth) endSession(ctx context.Context, tx *sqlx.Tx, token string, c Client) error {
	const revoke = `UPDATE qs_auth_sessions SET revoked_at = ? WHERE token_hash = ? AND revoked_at IS NULL RETURNING user_id`
	var userID string
	err := a.db.GetTx(ctx, tx, &userID, revoke, database.At(a.now()), hashSecret(token))
	if database.IsNoRows(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("auth: end a session: %w", err)
	}
	return a.record(ctx, tx, userID, EventLogOut, "", c)
}
