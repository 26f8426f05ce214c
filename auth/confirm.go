package auth

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// clockSkew is how far the clocks of two processes may differ: a proof from further ahead is not taken for recent.
const clockSkew = time.Minute

// RecentAuth tells that who makes the request has proved who they are within Config.RecentAuth, as [Auth.Load] found.
func (a *Auth) RecentAuth(r *http.Request) bool {
	s, ok := SessionFrom(r.Context())
	age := a.now().Sub(s.AuthAt)
	return ok && age < a.cfg.RecentAuth && age > -clockSkew
}

// ConfirmParams are what a signed-in person shows to prove again who they are: the password, or, where there is a second
// step, that one: a code of the authenticator app or a backup code, or a passkey.
type ConfirmParams struct {
	UserID string
	// SessionID is the session in which it happens.
	SessionID string
	Password  string
	Code      string
	// Handle and Response are the browser's answer to [Auth.BeginConfirmPasskey].
	Handle   string
	Response []byte
	Client   Client
}

// Confirm notes that a person has proved anew who they are, and gives the session a new token; the old one stops working.
// [ErrProof] when the password is wrong; [ErrSecondProof] when it is not enough; [ErrCode], [ErrPasskey]; [ErrNoSession] when
// the session has ended or is another's; [ErrNotFound]; a [*RetryError] when there were too many wrong tries or the
// machine is busy.
//
// Tries are counted for the session, Config.MaxFailures in Config.LockFor, and an account that is locked by wrong
// passwords at the log-in can be confirmed: strangers, who have no session, stand in nobody's way.
func (a *Auth) Confirm(ctx context.Context, p ConfirmParams) (s SignedIn, err error) {
	if !isID(p.SessionID) {
		return s, ErrNoSession
	}
	accept, err := a.proof(ctx, p)
	if err != nil {
		return s, err
	}
	var refused error
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, p.UserID)
		if err != nil {
			return err
		}
		if refused, err = accept(ctx, tx, u); refused != nil || err != nil {
			return err
		}
		s, err = a.renewSession(ctx, tx, u, p.SessionID, p.Client)
		return err
	})
	if err == nil {
		err = refused
	}
	return s, err
}

// acceptFunc checks a proof for a locked user; what refused says is told after the commit, which keeps the count.
type acceptFunc func(ctx context.Context, tx *sqlx.Tx, u userRow) (refused, err error)

func (a *Auth) proof(ctx context.Context, p ConfirmParams) (acceptFunc, error) {
	if p.Code != "" || len(p.Response) > 0 {
		accept, err := a.second(ctx, p.UserID, proofKey(p.SessionID)+"code", FinishLogInParams{Code: p.Code, Handle: p.Handle, Response: p.Response, Client: p.Client})
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, tx *sqlx.Tx, u userRow) (refused, err error) {
			if refused, err = accept(ctx, tx, u); refused != nil && err == nil {
				err = a.record(ctx, tx, u.ID, EventCodeFailed, "", p.Client)
			}
			return refused, err
		}, nil
	}
	if p.Password == "" {
		return nil, problem.Invalid(map[string]string{"password": "Enter your password."})
	}
	if !isID(p.UserID) {
		return nil, ErrNotFound
	}
	var known userRow
	err := a.db.Get(ctx, &known, selectUser, p.UserID)
	if database.IsNoRows(err) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("auth: find user %s: %w", p.UserID, err)
	}
	if len(p.Password) > maxPasswordBytes {
		return nil, ErrProof
	}
	factors, err := a.Factors(ctx, p.UserID)
	if err != nil {
		return nil, err
	}
	if factors.Second() {
		return nil, ErrSecondProof
	}
	if err := a.countProof(ctx, p.SessionID); err != nil {
		return nil, err
	}
	checked, err := a.checkHash(ctx, p.Password, known)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, tx *sqlx.Tx, u userRow) (error, error) {
		right, err := a.acceptProof(ctx, tx, u, known, checked, p.SessionID, p.Client)
		if !right && err == nil {
			return ErrProof, nil
		}
		return nil, err
	}, nil
}

// proofKey is what proofs are counted for: the session, so that who has none counts for nobody.
func proofKey(session string) string { return "proof\x00" + session + "\x00" }

// countProof counts a password that a signed-in person enters; a [*RetryError] when there were too many.
func (a *Auth) countProof(ctx context.Context, session string) error {
	return a.countFor(ctx, proofKey(session), Limit{a.cfg.MaxFailures, a.cfg.LockFor}, "There were too many wrong passwords. Wait a few minutes, or reset your password.")
}

// acceptProof tells whether the password that was compared is that of a locked user, and sets the count of their
// session back when it is.
func (a *Auth) acceptProof(ctx context.Context, tx *sqlx.Tx, u, known userRow, checked checkedHash, session string, c Client) (right bool, err error) {
	if !checked.right || u.PasswordHash != known.PasswordHash {
		return false, a.record(ctx, tx, u.ID, EventConfirmFailed, "", c)
	}
	return true, a.clearCount(ctx, tx, proofKey(session))
}

// renewSession notes a proof in a session of a locked user and gives it a new token.
func (a *Auth) renewSession(ctx context.Context, tx *sqlx.Tx, u userRow, sessionID string, c Client) (SignedIn, error) {
	token, hash := newSecret()
	const renew = `UPDATE qs_auth_sessions SET auth_at = ?, token_hash = ?, ip = ?, agent = ?
		WHERE id = ? AND user_id = ? AND revoked_at IS NULL AND idle_until > ? AND expires_at > ? RETURNING ` + sessionColumns
	var row sessionRow
	now := database.At(a.now())
	err := a.db.GetTx(ctx, tx, &row, renew, now, hash, c.IP, cleanText(c.Agent), sessionID, u.ID, now, now)
	if database.IsNoRows(err) {
		return SignedIn{}, ErrNoSession
	}
	if err != nil {
		return SignedIn{}, fmt.Errorf("auth: renew session %s: %w", sessionID, err)
	}
	if err := a.record(ctx, tx, u.ID, EventConfirmed, "", c); err != nil {
		return SignedIn{}, err
	}
	return SignedIn{User: u.user(), Session: row.session(), Token: token}, nil
}

// BeginConfirmPasskey makes the challenge for [Auth.Confirm] by a passkey. [ErrNoPasskeys], [ErrNoPasskey], [ErrNotFound];
// a [*RetryError] when there were too many attempts.
func (a *Auth) BeginConfirmPasskey(ctx context.Context, userID string, c Client) (PasskeyChallenge, error) {
	if err := a.countAttempt(ctx, "passkey", a.cfg.Limits.LogIn, c); err != nil {
		return PasskeyChallenge{}, err
	}
	u, err := a.FindUser(ctx, userID)
	if err != nil {
		return PasskeyChallenge{}, err
	}
	return a.beginPasskeyCheck(ctx, u)
}
