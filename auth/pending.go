package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// pendingLifetime is how long a log-in waits for its second step, and pendingTries how many codes it takes.
const (
	pendingLifetime = 10 * time.Minute
	pendingTries    = 5
)

// Method is how somebody shows who they are.
type Method string

// The methods.
const (
	MethodPassword Method = "password"
	MethodLink     Method = "link" // the link of a mail
	MethodOAuth    Method = "oauth"
	MethodPasskey  Method = "passkey"
)

// Errors of a log-in that waits.
var (
	// ErrPending: the log-in that waited for a second step has taken too long or too many tries, or was finished.
	ErrPending error = problem.New("login_expired", "Your log-in took too long or had too many wrong codes. Begin again.")
)

// SecondStepError says that the first step is passed and that [Auth.FinishLogIn] is to follow.
type SecondStepError struct {
	// Token is for the browser to keep. It lets nobody in by itself.
	Token string
	// Enrol says that the person has no second step yet and must set one up.
	Enrol bool
	// Remember is that of the log-in.
	Remember bool
}

// Error implements error.
func (e *SecondStepError) Error() string { return "auth: a second step is needed" }

// ErrorCode implements problem.Coder.
func (e *SecondStepError) ErrorCode() string { return "second_step" }

// ErrorMessage implements problem.Coder.
func (e *SecondStepError) ErrorMessage() string {
	if e.Enrol {
		return "Set up an authenticator app to go on."
	}
	return "Enter the code of your authenticator app or a backup code, or use a passkey."
}

// ErrorDetails tell whether one must be set up.
func (e *SecondStepError) ErrorDetails() map[string]any { return map[string]any{"enrol": e.Enrol} }

// LogValue hides the token.
func (e *SecondStepError) LogValue() slog.Value { return slog.StringValue(e.Error()) }

// firstStep is a first step that was passed.
type firstStep struct {
	method   Method
	remember bool
	// replaces is the token of the session that the browser had until now; it ends. Empty: none.
	replaces string
	client   Client
}

// passFirst is where every way in comes to once the first step is passed, for a locked user: the log-in ends there, or
// waits for the second step, which pending then names. The caller commits in both cases.
func (a *Auth) passFirst(ctx context.Context, tx *sqlx.Tx, u userRow, f firstStep) (s SignedIn, pending *SecondStepError, err error) {
	if u.DisabledAt != nil {
		return s, nil, ErrDisabled
	}
	if f.replaces != "" {
		if err := a.endSession(ctx, tx, f.replaces, f.client); err != nil {
			return s, nil, err
		}
	}
	if f.method != MethodPasskey { // which is both steps: something that one has, unlocked by what one is or knows
		factors, err := a.factorsTx(ctx, tx, u.ID)
		if err != nil {
			return s, nil, err
		}
		enrol := !factors.Second() && a.mustEnrol(u.user())
		if factors.Second() || enrol {
			pending, err = a.suspend(ctx, tx, u, f, enrol)
			return s, pending, err
		}
	}
	s, err = a.completeLogIn(ctx, tx, u, f.remember, f.client)
	return s, nil, err
}

// mustEnrol tells that a user gets in with a second step only.
func (a *Auth) mustEnrol(u User) bool {
	return a.cfg.StaffSecondFactor && a.box != nil && u.IsStaff()
}

// LacksSecondFactor tells that a user, as they are now, would have to set a second step up at a log-in. A session from
// before Config.StaffSecondFactor was set, or before the person became staff, goes on: whoever opens something to staff
// only asks this first.
func (a *Auth) LacksSecondFactor(ctx context.Context, u User) (bool, error) {
	if !a.mustEnrol(u) {
		return false, nil
	}
	f, err := a.Factors(ctx, u.ID)
	return err == nil && !f.Second(), err
}

func (a *Auth) suspend(ctx context.Context, tx *sqlx.Tx, u userRow, f firstStep, enrol bool) (*SecondStepError, error) {
	token, hash := newSecret()
	const insert = `INSERT INTO qs_auth_pending (token_hash, user_id, method, remember, enrol, expires_at) VALUES (?, ?, ?, ?, ?, ?)`
	if _, err := a.db.ExecTx(ctx, tx, insert, hash, u.ID, f.method, f.remember, enrol, database.At(a.now().Add(pendingLifetime))); err != nil {
		return nil, fmt.Errorf("auth: keep the log-in of user %s: %w", u.ID, err)
	}
	return &SecondStepError{Token: token, Enrol: enrol, Remember: f.remember}, nil
}

type pendingRow struct {
	UserID    string        `db:"user_id"`
	Remember  bool          `db:"remember"`
	Enrol     bool          `db:"enrol"`
	Tries     int           `db:"tries"`
	ExpiresAt database.Time `db:"expires_at"`
}

const pendingColumns = `user_id, remember, enrol, tries, expires_at`

// findPending returns a log-in that waits; [ErrPending] when there is none.
func (a *Auth) findPending(ctx context.Context, token string) (row pendingRow, err error) {
	if !isSecret(token) {
		return row, ErrPending
	}
	err = a.db.Get(ctx, &row, `SELECT `+pendingColumns+` FROM qs_auth_pending WHERE token_hash = ?`, hashSecret(token))
	if database.IsNoRows(err) || err == nil && !a.alive(row) {
		return row, ErrPending
	}
	if err != nil {
		return row, fmt.Errorf("auth: find a log-in: %w", err)
	}
	return row, nil
}

func (a *Auth) alive(row pendingRow) bool {
	return row.Tries < pendingTries && a.now().Before(row.ExpiresAt.Time)
}

// FinishLogInParams are the second step of a log-in: a code, or a passkey.
type FinishLogInParams struct {
	// Token is that of the [SecondStepError].
	Token string
	// Code is what the person typed: of the authenticator app, or a backup code. Empty with a passkey.
	Code string
	// Handle and Response are the browser's answer to [Auth.BeginSecondPasskey].
	Handle   string
	Response []byte
	Client   Client
}

// FinishLogIn takes the second step and begins the session. [ErrCode], [ErrPasskey] when it is not right, after which
// there are four more tries for a code; [ErrPending] when the log-in has to be begun again; [ErrDisabled]; a
// [*RetryError] when there were too many codes.
func (a *Auth) FinishLogIn(ctx context.Context, p FinishLogInParams) (s SignedIn, err error) {
	row, err := a.findPending(ctx, p.Token)
	if err != nil {
		return s, err
	}
	if row.Enrol {
		return s, ErrPending
	}
	accept, err := a.second(ctx, row.UserID, p)
	if err != nil {
		return s, err
	}
	var refused error
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		refused = nil
		u, err := a.lockUser(ctx, tx, row.UserID)
		if err != nil {
			return err
		}
		if u.DisabledAt != nil {
			return ErrDisabled
		}
		live, err := a.tryPending(ctx, tx, p.Token)
		if err != nil {
			return err
		}
		if refused, err = accept(ctx, tx, u); err != nil {
			return err
		}
		if refused != nil {
			return a.record(ctx, tx, u.ID, EventCodeFailed, "", p.Client)
		}
		if s, err = a.completeLogIn(ctx, tx, u, live.Remember, p.Client); err != nil {
			return err
		}
		return a.endPending(ctx, tx, p.Token)
	})
	if err == nil {
		err = refused
	}
	return s, err
}

// second prepares the check of a second step, which then runs for the locked user.
func (a *Auth) second(ctx context.Context, userID string, p FinishLogInParams) (func(context.Context, *sqlx.Tx, userRow) (refused, err error), error) {
	if len(p.Response) > 0 {
		parsed, err := a.parseAssertion(ctx, p.Response)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, tx *sqlx.Tx, u userRow) (error, error) {
			return a.acceptPasskey(ctx, tx, u, ceremonyConfirm, p.Handle, parsed, p.Client)
		}, nil
	}
	if err := a.countCode(ctx, userID); err != nil {
		return nil, err
	}
	backup, err := a.checkBackup(ctx, userID, p.Code)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, tx *sqlx.Tx, u userRow) (error, error) {
		err := a.acceptCode(ctx, tx, u, p.Code, backup, p.Client)
		if errors.Is(err, ErrCode) {
			return err, nil
		}
		return nil, err
	}, nil
}

// tryPending counts a try of a log-in whose user is locked.
func (a *Auth) tryPending(ctx context.Context, tx *sqlx.Tx, token string) (row pendingRow, err error) {
	const count = `UPDATE qs_auth_pending SET tries = tries + 1 WHERE token_hash = ? AND tries < ? RETURNING ` + pendingColumns
	err = a.db.GetTx(ctx, tx, &row, count, hashSecret(token), pendingTries)
	if database.IsNoRows(err) || err == nil && !a.now().Before(row.ExpiresAt.Time) {
		return row, ErrPending
	}
	if err != nil {
		return row, fmt.Errorf("auth: count a try: %w", err)
	}
	return row, nil
}

func (a *Auth) endPending(ctx context.Context, tx *sqlx.Tx, token string) error {
	if _, err := a.db.ExecTx(ctx, tx, `DELETE FROM qs_auth_pending WHERE token_hash = ?`, hashSecret(token)); err != nil {
		return fmt.Errorf("auth: end a log-in: %w", err)
	}
	return nil
}

// BeginSecondPasskey makes the challenge for the second step of a log-in. [ErrPending], [ErrNoPasskeys], [ErrNoPasskey];
// a [*RetryError] when there were too many attempts.
func (a *Auth) BeginSecondPasskey(ctx context.Context, token string, c Client) (PasskeyChallenge, error) {
	if err := a.countAttempt(ctx, "passkey", a.cfg.Limits.LogIn, c); err != nil {
		return PasskeyChallenge{}, err
	}
	row, err := a.findPending(ctx, token)
	if err != nil {
		return PasskeyChallenge{}, err
	}
	u, err := a.FindUser(ctx, row.UserID)
	if err != nil {
		return PasskeyChallenge{}, err
	}
	return a.beginPasskeyCheck(ctx, u)
}

// BeginEnrolment makes the secret of the authenticator app that a log-in waits for. [ErrPending]; else as
// [Auth.BeginTOTP].
func (a *Auth) BeginEnrolment(ctx context.Context, token string) (TOTPSetup, error) {
	row, err := a.findPending(ctx, token)
	if err != nil {
		return TOTPSetup{}, err
	}
	if !row.Enrol {
		return TOTPSetup{}, ErrPending
	}
	return a.BeginTOTP(ctx, row.UserID)
}

// FinishEnrolment takes the first code of the authenticator app that a log-in waits for and begins the session. codes
// are the backup codes, to be shown once. [ErrPending]; else as [Auth.ConfirmTOTP].
func (a *Auth) FinishEnrolment(ctx context.Context, token, code string, c Client) (s SignedIn, codes []string, err error) {
	row, err := a.findPending(ctx, token)
	if err != nil {
		return s, nil, err
	}
	if !row.Enrol {
		return s, nil, ErrPending
	}
	if codes, err = a.ConfirmTOTP(ctx, row.UserID, code, c); err != nil {
		return s, nil, err
	}
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, row.UserID)
		if err != nil {
			return err
		}
		if u.DisabledAt != nil {
			return ErrDisabled
		}
		live, err := a.tryPending(ctx, tx, token)
		if err != nil {
			return err
		}
		if s, err = a.completeLogIn(ctx, tx, u, live.Remember, c); err != nil {
			return err
		}
		return a.endPending(ctx, tx, token)
	})
	return s, codes, err
}

// PasskeyLogInParams are a browser's answer to [Auth.BeginPasskeyLogIn].
type PasskeyLogInParams struct {
	// Handle is what the browser kept.
	Handle string
	// Response is the browser's PublicKeyCredential as JSON.
	Response []byte
	Remember bool
	// Replaces is the token of the session that this browser had until now; it ends. Empty: none.
	Replaces string
	Client   Client
}

// LogInByPasskey begins a session by a passkey alone, which is both steps: a device that the person has, unlocked by
// what they know or are. [ErrPasskey], [ErrNoPasskeys], [ErrDisabled].
func (a *Auth) LogInByPasskey(ctx context.Context, p PasskeyLogInParams) (s SignedIn, err error) {
	parsed, err := a.parseAssertion(ctx, p.Response)
	if err != nil {
		return s, err
	}
	var refused error
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		s, refused, err = a.logInByPasskey(ctx, tx, parsed, p)
		return err
	})
	if err == nil {
		err = refused
	}
	return s, err
}

func (a *Auth) logInByPasskey(ctx context.Context, tx *sqlx.Tx, parsed *protocol.ParsedCredentialAssertionData, p PasskeyLogInParams) (s SignedIn, refused, err error) {
	u, err := a.lockUser(ctx, tx, handleUser(parsed))
	if errors.Is(err, ErrNotFound) {
		return s, ErrPasskey, nil
	}
	if err != nil {
		return s, nil, err
	}
	if refused, err = a.acceptPasskey(ctx, tx, u, ceremonyLogIn, p.Handle, parsed, p.Client); refused != nil || err != nil {
		return s, refused, err
	}
	if u.VerifiedAt == nil {
		return s, ErrUnverified, nil
	}
	s, _, err = a.passFirst(ctx, tx, u, firstStep{method: MethodPasskey, remember: p.Remember, replaces: p.Replaces, client: p.Client})
	return s, nil, err
}
