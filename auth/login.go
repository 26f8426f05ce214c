package auth

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// LogInParams are what a person shows to get in.
type LogInParams struct {
	Email    string
	Password string
	// Remember makes the session last for Config.RememberLifetime.
	Remember bool
	// VerifyToken is that of a link which this browser has opened; it confirms the address together with the password.
	// Empty: none.
	VerifyToken string
	// Replaces is the token of the session that this browser had until now; it ends. Empty: none.
	Replaces string
	Client   Client
}

// nobody stands for the id of an account that does not exist, so that the same statements run.
var nobody = uuid.Nil.String()

// errHashChanged says that the password's hash was replaced between the comparison and the transaction.
var errHashChanged = errors.New("auth: the stored hash has changed")

// hashTries is how often a log-in compares anew with a hash that somebody has just replaced.
const hashTries = 3

// LogIn checks a password and begins a session. [ErrCredentials] for what is wrong, an unknown address and a locked
// account alike, at the same cost; [ErrUnverified] and [ErrDisabled] only to who knows the password; a [*RetryError]
// when there were too many attempts or the machine is busy; a problem of code "invalid" for what cannot be right; a
// [*SecondStepError] when the password is right and a second step is to follow.
//
// Config.MaxFailures wrong passwords in a row lock the account for Config.LockFor. Tries meanwhile do not prolong it,
// and neither sessions nor a password reset are affected. A success sets the count back.
func (a *Auth) LogIn(ctx context.Context, p LogInParams) (SignedIn, error) {
	if err := a.countAttempt(ctx, "login", a.cfg.Limits.LogIn, p.Client); err != nil {
		return SignedIn{}, err
	}
	if err := a.countAll(ctx, "login", a.cfg.Limits.AllLogIns, p.Client); err != nil {
		return SignedIn{}, err
	}
	address, err := parseEmail(p.Email)
	if err != nil {
		return SignedIn{}, err
	}
	switch {
	case p.Password == "":
		return SignedIn{}, problem.Invalid(map[string]string{"password": "Enter your password."})
	case len(p.Password) > maxPasswordBytes:
		return SignedIn{}, ErrCredentials // nobody's, and not worth a hash
	}
	for range hashTries {
		s, err := a.logIn(ctx, p, address)
		if !errors.Is(err, errHashChanged) {
			return s, err
		}
	}
	return SignedIn{}, ErrCredentials
}

func (a *Auth) logIn(ctx context.Context, p LogInParams, address email) (s SignedIn, err error) {
	known := userRow{ID: nobody}
	if err := a.db.Get(ctx, &known, selectUserByEmail, address.key); err != nil && !database.IsNoRows(err) {
		return s, fmt.Errorf("auth: find a user: %w", err)
	}
	checked, err := a.checkHash(ctx, p.Password, known)
	if err != nil {
		return s, err
	}
	refused := false
	var pending *SecondStepError
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
		var u userRow
		pending = nil
		if u, refused, err = a.lockChecked(ctx, tx, known, checked, p.Client); refused || err != nil {
			return err
		}
		s, pending, err = a.enter(ctx, tx, u, checked, p)
		return err
	})
	switch {
	case err != nil:
	case refused:
		err = ErrCredentials
	case pending != nil:
		err = pending
	}
	return s, err
}

// enter lets in a locked user whose password was right, as far as the second step.
func (a *Auth) enter(ctx context.Context, tx *sqlx.Tx, u userRow, checked checkedHash, p LogInParams) (s SignedIn, pending *SecondStepError, err error) {
	if u.DisabledAt != nil {
		return s, nil, ErrDisabled
	}
	if u.VerifiedAt == nil {
		switch err := a.spendToken(ctx, tx, u, p.VerifyToken, purposeVerify); {
		case errors.Is(err, ErrLink):
			return s, nil, ErrUnverified
		case err != nil:
			return s, nil, err
		}
		if err := a.verify(ctx, tx, &u, p.Client); err != nil {
			return s, nil, err
		}
	}
	if checked.rehashed != "" {
		if err := a.storeHash(ctx, tx, u.ID, checked.rehashed); err != nil {
			return s, nil, err
		}
	}
	return a.passFirst(ctx, tx, u, firstStep{method: MethodPassword, remember: p.Remember, replaces: p.Replaces, client: p.Client})
}

// completeLogIn is where every way in ends: the count of failures is set back and the session begins.
func (a *Auth) completeLogIn(ctx context.Context, tx *sqlx.Tx, u userRow, remember bool, c Client) (SignedIn, error) {
	if err := a.unlock(ctx, tx, &u, c); err != nil {
		return SignedIn{}, err
	}
	now := database.At(a.now())
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_users SET last_login_at = ? WHERE id = ?`, now, u.ID); err != nil {
		return SignedIn{}, fmt.Errorf("auth: note the log-in of user %s: %w", u.ID, err)
	}
	u.LastLoginAt = &now
	if err := a.record(ctx, tx, u.ID, EventLogIn, "", c); err != nil {
		return SignedIn{}, err
	}
	device, err := a.knowDevice(ctx, tx, u, c)
	if err != nil {
		return SignedIn{}, err
	}
	s, err := a.startSession(ctx, tx, u, remember, c)
	s.Device = device
	if err == nil && a.cfg.Hooks.OnLogIn != nil {
		err = a.cfg.Hooks.OnLogIn(ctx, tx, s.User, s.Session)
	}
	return s, err
}

// unlock sets the count of failures of a locked row back.
func (a *Auth) unlock(ctx context.Context, tx *sqlx.Tx, u *userRow, c Client) error {
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_users SET failed_logins = 0, locked_until = NULL WHERE id = ?`, u.ID); err != nil {
		return fmt.Errorf("auth: unlock user %s: %w", u.ID, err)
	}
	if u.LockedUntil == nil {
		return nil
	}
	u.LockedUntil = nil
	return a.record(ctx, tx, u.ID, EventUnlocked, "", c)
}

// checkedHash is the outcome of comparing a password with a stored hash.
type checkedHash struct {
	right bool
	// rehashed is the password's hash with the parameters of today, where the stored one has others. Empty: keep it.
	rehashed string
}

// checkHash compares outside of any transaction, since it takes long. The hash of an account that is locked is left as it
// is: the time of another one would tell that the password was right.
func (a *Auth) checkHash(ctx context.Context, password string, known userRow) (c checkedHash, err error) {
	right, stale, err := a.hasher.matches(ctx, password, known.PasswordHash)
	if err != nil {
		return c, err
	}
	c.right = right
	if right && stale && !known.locked(a.now()) {
		c.rehashed, err = a.hasher.hash(ctx, password)
	}
	return c, err
}

// lockChecked locks the user whose password was compared. refused says that the password was wrong or the account is
// locked, which is counted, at the same cost whatever it was; the caller then commits. errHashChanged when the
// comparison is out of date.
func (a *Auth) lockChecked(ctx context.Context, tx *sqlx.Tx, known userRow, checked checkedHash, c Client) (u userRow, refused bool, err error) {
	u, err = a.lockUser(ctx, tx, known.ID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return u, false, err
	}
	if checked.right && err == nil && u.PasswordHash != known.PasswordHash {
		return u, false, errHashChanged
	}
	if checked.right && err == nil && !u.locked(a.now()) {
		return u, false, nil
	}
	return u, true, a.fail(ctx, tx, known.ID, c)
}

// fail counts a wrong password in one statement, however many come at once. The count that reaches the limit locks;
// one that comes after the lock's end begins anew.
func (a *Auth) fail(ctx context.Context, tx *sqlx.Tx, userID string, c Client) error {
	const count = `UPDATE qs_auth_users SET
			failed_logins = CASE WHEN locked_until <= ? THEN 1 ELSE failed_logins + 1 END,
			locked_until = CASE
				WHEN locked_until > ? THEN locked_until
				WHEN locked_until IS NULL AND failed_logins + 1 >= ? THEN ?
				ELSE NULL END
		WHERE id = ? RETURNING failed_logins, locked_until`
	var row struct {
		Failed      int            `db:"failed_logins"`
		LockedUntil *database.Time `db:"locked_until"`
	}
	now := a.now()
	err := a.db.GetTx(ctx, tx, &row, count, database.At(now), database.At(now), a.cfg.MaxFailures, database.At(now.Add(a.cfg.LockFor)), userID)
	if err != nil && !database.IsNoRows(err) {
		return fmt.Errorf("auth: count a failure of user %s: %w", userID, err)
	}
	subject := userID
	if userID == nobody {
		subject = ""
	}
	kinds := []EventKind{EventLogInFailed}
	if row.LockedUntil != nil && row.Failed == a.cfg.MaxFailures {
		kinds = append(kinds, EventLocked)
	}
	return a.recordAll(ctx, tx, subject, "", c, kinds...)
}

func (a *Auth) storeHash(ctx context.Context, tx *sqlx.Tx, userID, hash string) error {
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_users SET password_hash = ? WHERE id = ?`, hash, userID); err != nil {
		return fmt.Errorf("auth: store the hash of user %s: %w", userID, err)
	}
	return nil
}
