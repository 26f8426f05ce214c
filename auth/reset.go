package auth

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// ForgotPassword mails a link for a new password, which works once within 30 minutes; the one before stops working. An
// address without an account gets a mail that says so. The outcome is the same for all, also for locked accounts. A
// problem of code "invalid" names the field; a [*RetryError] asks to come back later.
func (a *Auth) ForgotPassword(ctx context.Context, address string, c Client) error {
	if err := a.countAttempt(ctx, "forgot", a.cfg.Limits.Forgot, c); err != nil {
		return err
	}
	return a.mailTo(ctx, address, func(ctx context.Context, tx *sqlx.Tx, u userRow) error {
		token, err := a.issueToken(ctx, tx, u, purposeReset, resetLifetime)
		if err != nil {
			return err
		}
		return a.send(ctx, tx, u, kindReset, token)
	})
}

// ResetParams choose a new password by the link of a mail.
type ResetParams struct {
	Token    string
	Password string
	// KeepKeys leaves the account's API keys as they are. Else they are revoked, as whoever knew the old password may
	// have made one.
	KeepKeys bool
	Client   Client
}

// ResetPassword sets a new password, ends all sessions and any lock, and confirms the address, since the link came by
// mail. It does not log in. [ErrLink] when the link does not work; a problem of code "invalid" for the field "password",
// after which the link still works.
func (a *Auth) ResetPassword(ctx context.Context, p ResetParams) error {
	owner, err := a.tokenOwner(ctx, p.Token, purposeReset)
	if err != nil {
		return err
	}
	if message := a.checkNewPassword(ctx, p.Password, localPart(owner.EmailKey)); message != "" {
		return problem.Invalid(map[string]string{"password": message})
	}
	hash, err := a.hasher.hash(ctx, p.Password)
	if err != nil {
		return err
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockTokenOwner(ctx, tx, p.Token, purposeReset)
		if err != nil {
			return err
		}
		if err := a.spendToken(ctx, tx, u, p.Token, purposeReset); err != nil {
			return err
		}
		if u.VerifiedAt == nil {
			if err := a.verify(ctx, tx, &u, p.Client); err != nil {
				return err
			}
		}
		if err := a.unlock(ctx, tx, &u, p.Client); err != nil {
			return err
		}
		if !p.KeepKeys {
			if err := a.revokeKeys(ctx, tx, u.ID, p.Client); err != nil {
				return err
			}
		}
		return a.replacePassword(ctx, tx, u, hash, EventPasswordReset, p.Client)
	})
}

// replacePassword stores a locked user's new password, ends all sessions and open links for another one, and tells the
// owner.
func (a *Auth) replacePassword(ctx context.Context, tx *sqlx.Tx, u userRow, hash string, kind EventKind, c Client) error {
	if err := a.storeHash(ctx, tx, u.ID, hash); err != nil {
		return err
	}
	if err := a.endSessions(ctx, tx, u.ID, ""); err != nil {
		return err
	}
	if err := a.cancelTokens(ctx, tx, u.ID, purposeReset); err != nil {
		return err
	}
	if err := a.dropPendingChange(ctx, tx, u.ID); err != nil {
		return err
	}
	if err := a.record(ctx, tx, u.ID, kind, "", c); err != nil {
		return err
	}
	if a.cfg.Hooks.OnPasswordChange != nil {
		if err := a.cfg.Hooks.OnPasswordChange(ctx, tx, u.user()); err != nil {
			return err
		}
	}
	return a.notify(ctx, tx, u, kindPassword, Notice{Name: u.Name, Event: kind, Device: deviceOf(c.Agent), IP: c.IP})
}

// ChangePasswordParams are what a signed-in person enters for another password.
type ChangePasswordParams struct {
	UserID string
	// Current is the password until now.
	Current string
	New     string
	// SessionID is the session in which it happens, for which wrong passwords are counted. Empty: for the account.
	SessionID string
	// Remember is that of the session in which it happens, for the one that follows it.
	Remember bool
	Client   Client
}

// ChangePassword replaces a password and ends all sessions; the one it returns is for the browser in which it happened.
// [ErrPassword] when the current password is wrong; a problem of code "invalid" for the field "password"; [ErrNotFound]; a
// [*RetryError] after Config.MaxFailures wrong ones within Config.LockFor. Wrong passwords at the log-in do not count.
func (a *Auth) ChangePassword(ctx context.Context, p ChangePasswordParams) (s SignedIn, err error) {
	if !isID(p.UserID) {
		return s, ErrNotFound
	}
	var known userRow
	err = a.db.Get(ctx, &known, selectUser, p.UserID)
	if database.IsNoRows(err) {
		return s, ErrNotFound
	}
	if err != nil {
		return s, fmt.Errorf("auth: find user %s: %w", p.UserID, err)
	}
	if message := a.checkNewPassword(ctx, p.New, localPart(known.EmailKey)); message != "" {
		return s, problem.Invalid(map[string]string{"password": message})
	}
	if len(p.Current) > maxPasswordBytes {
		return s, ErrPassword
	}
	setDefault(&p.SessionID, p.UserID)
	if err := a.countProof(ctx, p.SessionID); err != nil {
		return s, err
	}
	checked, err := a.checkHash(ctx, p.Current, known)
	if err != nil {
		return s, err
	}
	hash, err := a.hasher.hash(ctx, p.New)
	if err != nil {
		return s, err
	}
	right := false
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, known.ID)
		if err != nil {
			return err
		}
		if right, err = a.acceptProof(ctx, tx, u, known, checked, p.SessionID, p.Client); !right || err != nil {
			return err
		}
		if err := a.replacePassword(ctx, tx, u, hash, EventPasswordChanged, p.Client); err != nil {
			return err
		}
		s, err = a.startSession(ctx, tx, u, p.Remember, p.Client)
		return err
	})
	if !right && err == nil {
		err = ErrPassword
	}
	return s, err
}

// SetPassword replaces a user's password and ends all sessions, for a CLI or staff. Of the password only the length is
// checked, 8 characters at least. The owner is told by mail. [ErrNotFound]; a problem of code "invalid".
func (a *Auth) SetPassword(ctx context.Context, userID, password string) error {
	if message := checkLength(password, DefaultMinPassword); message != "" {
		return problem.Invalid(map[string]string{"password": message})
	}
	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if err != nil {
			return err
		}
		if err := a.unlock(ctx, tx, &u, Client{}); err != nil {
			return err
		}
		return a.replacePassword(ctx, tx, u, hash, EventPasswordChanged, Client{})
	})
}
