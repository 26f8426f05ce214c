package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// A log-in by mail waits for magicLifetime and takes magicTries codes of magicDigits digits. With the limit of mails to
// an address, a year of guessing at one account succeeds with a chance below 1 in 200.
const (
	magicLifetime = 10 * time.Minute
	magicTries    = 5
	magicDigits   = 8
)

// Errors of a log-in by mail.
var (
	// ErrMagicCode: the code is not the one that was mailed.
	ErrMagicCode error = problem.Invalid(map[string]string{"code": "This is not the code of the latest mail. Type its eight digits."})
	// ErrMagic: the log-in by mail took too long or too many codes, was finished, or began in another browser.
	ErrMagic error = problem.New("login_expired", "This log-in by mail does not work here: it is too old, was used, or began in another browser. Ask for a new mail.")
)

// RequestMagicParams ask for a log-in by mail.
type RequestMagicParams struct {
	Email    string
	Remember bool
	// Next is where the log-in leads, a path on this site. Empty: Config.Home.
	Next   string
	Client Client
}

// RequestMagic mails a code and a link, either of which logs in once within 10 minutes in the browser that asked, by the
// handle that it keeps. The outcome is the same whether or not there is an account: one that is unverified gets the mail
// that confirms its address instead, and an address without an account one that says so. A problem of code "invalid"
// names the field; a [*RetryError] asks to come back later.
func (a *Auth) RequestMagic(ctx context.Context, p RequestMagicParams) (handle string, err error) {
	if err := a.countAttempt(ctx, "magic", a.cfg.Limits.Forgot, p.Client); err != nil {
		return "", err
	}
	address, err := parseEmail(p.Email)
	if err != nil {
		return "", err
	}
	handle, browser := newSecret()
	link, linkHash := newSecret()
	code, err := newMagicCode()
	if err != nil {
		return "", err
	}
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		var owner *string
		mailed := func(ctx context.Context, tx *sqlx.Tx, u userRow) error {
			if u.VerifiedAt == nil {
				// Whoever signed up chose the password; a mail of ours must not bless it.
				return a.sendVerification(ctx, tx, u)
			}
			owner = &u.ID
			if _, err := a.issueToken(ctx, tx, userRow{ID: nobody}, purposeVerify, verifyLifetime); err != nil { // as the others do
				return err
			}
			return a.sendMagic(ctx, tx, u, code, link)
		}
		if err := a.mailToTx(ctx, tx, address, mailed); err != nil {
			return err
		}
		const insert = `INSERT INTO qs_auth_magic (browser_hash, user_id, email_key, code_hash, link_hash, remember, next, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`
		_, err := a.db.ExecTx(ctx, tx, insert, browser, owner, address.key, codeHash(handle, code), linkHash, p.Remember, p.Next, database.At(a.now().Add(magicLifetime)))
		if err != nil {
			return fmt.Errorf("auth: keep a log-in by mail: %w", err)
		}
		return nil
	})
	return handle, err
}

// newMagicCode draws a code; all are as likely.
func newMagicCode() (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(100_000_000))
	if err != nil {
		return "", fmt.Errorf("auth: draw a code: %w", err)
	}
	return fmt.Sprintf("%0*d", magicDigits, n), nil
}

// codeHash is keyed by a secret that only the browser has.
func codeHash(handle, code string) []byte {
	mac := hmac.New(sha256.New, []byte(handle))
	mac.Write([]byte(code))
	return mac.Sum(nil)
}

// MagicLogInParams finish a log-in by mail: by its code or by its link.
type MagicLogInParams struct {
	// Handle is what [Auth.RequestMagic] gave to the browser.
	Handle string
	// Code is as the person typed it, spaces and all.
	Code string
	// Link is the token of the link, instead of the code.
	Link string
	// Replaces is the token of the session that this browser had until now; it ends. Empty: none.
	Replaces string
	Client   Client
}

// MagicLogIn begins a session by the code or the link of a mail. next is what the request for it said. [ErrMagicCode]
// when the code is wrong, after which there are four more tries; [ErrMagic] when a new mail is needed; [ErrDisabled]; a
// [*SecondStepError] when a second step is to follow; a [*RetryError] when there were too many attempts.
func (a *Auth) MagicLogIn(ctx context.Context, p MagicLogInParams) (s SignedIn, next string, err error) {
	if err := a.countAttempt(ctx, "magic-code", a.cfg.Limits.LogIn, p.Client); err != nil {
		return s, "", err
	}
	if !isSecret(p.Handle) || p.Link != "" && !isSecret(p.Link) {
		return s, "", ErrMagic
	}
	var refused error
	var pending *SecondStepError
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
		refused, pending = nil, nil
		s, next, pending, refused, err = a.magicLogIn(ctx, tx, p)
		return err
	})
	switch {
	case err != nil:
	case refused != nil:
		err = refused
	case pending != nil:
		err = pending
	}
	return s, next, err
}

type magicRow struct {
	UserID   *string `db:"user_id"`
	EmailKey string  `db:"email_key"`
	CodeHash []byte  `db:"code_hash"`
	LinkHash []byte  `db:"link_hash"`
	Remember bool    `db:"remember"`
	Next     string  `db:"next"`
}

// magicLogIn counts the try, which the caller commits also when refused says that it was wrong.
func (a *Auth) magicLogIn(ctx context.Context, tx *sqlx.Tx, p MagicLogInParams) (s SignedIn, next string, pending *SecondStepError, refused, err error) {
	browser, now := hashSecret(p.Handle), database.At(a.now())
	var owner *string
	err = a.db.GetTx(ctx, tx, &owner, `SELECT user_id FROM qs_auth_magic WHERE browser_hash = ?`, browser)
	if err != nil && !database.IsNoRows(err) {
		return s, "", nil, nil, fmt.Errorf("auth: find a log-in by mail: %w", err)
	}
	subject := nobody
	if owner != nil {
		subject = *owner
	}
	u, err := a.lockUser(ctx, tx, subject)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return s, "", nil, nil, err
	}
	var row magicRow
	const try = `UPDATE qs_auth_magic SET tries = tries + 1 WHERE browser_hash = ? AND ended_at IS NULL AND tries < ? AND expires_at > ?
		RETURNING user_id, email_key, code_hash, link_hash, remember, next`
	err = a.db.GetTx(ctx, tx, &row, try, browser, magicTries, now)
	if database.IsNoRows(err) {
		return s, "", nil, ErrMagic, nil
	}
	if err != nil {
		return s, "", nil, nil, fmt.Errorf("auth: count a try of a log-in by mail: %w", err)
	}
	right := row.UserID != nil && row.EmailKey == u.EmailKey && u.VerifiedAt != nil
	if p.Link != "" {
		right = hmac.Equal(hashSecret(p.Link), row.LinkHash) && right
	} else {
		right = hmac.Equal(codeHash(p.Handle, plainCode(p.Code)), row.CodeHash) && right
	}
	if !right {
		refused = ErrMagicCode
		if p.Link != "" {
			refused = ErrMagic
		}
		recorded := ""
		if row.UserID != nil {
			recorded = u.ID
		}
		return s, "", nil, refused, a.record(ctx, tx, recorded, EventCodeFailed, "", p.Client)
	}
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_magic SET ended_at = ? WHERE browser_hash = ?`, now, browser); err != nil {
		return s, "", nil, nil, fmt.Errorf("auth: spend a log-in by mail: %w", err)
	}
	s, pending, err = a.passFirst(ctx, tx, u, firstStep{method: MethodLink, remember: row.Remember, replaces: p.Replaces, client: p.Client})
	return s, row.Next, pending, nil, err
}

// endMagic ends the log-ins by mail of a locked user that wait.
func (a *Auth) endMagic(ctx context.Context, tx *sqlx.Tx, userID string) error {
	const end = `UPDATE qs_auth_magic SET ended_at = ? WHERE user_id = ? AND ended_at IS NULL`
	if _, err := a.db.ExecTx(ctx, tx, end, database.At(a.now()), userID); err != nil {
		return fmt.Errorf("auth: end the log-ins by mail of user %s: %w", userID, err)
	}
	return nil
}
