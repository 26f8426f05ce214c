package auth

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"image/png"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// The parameters that all authenticator apps know (RFC 6238; the key URI format of Google Authenticator).
const (
	totpPeriod = 30 // seconds in a step
	totpDrift  = 1  // steps that an app's clock may be ahead or behind
	totpDigits = otp.DigitsSix
	qrPixels   = 220
)

// setupLifetime is how long a secret waits for its first code.
const setupLifetime = time.Hour

// Errors of the authenticator app.
var (
	// ErrCode: the code is wrong, too old, or was used before.
	ErrCode error = problem.Invalid(map[string]string{"code": "This code is not right, or it was used already. Wait for the next one in your app and enter that."})
	// ErrTOTPActive: an app is set up already.
	ErrTOTPActive error = problem.New(problem.CodeConflict, "An authenticator app is set up already. Remove it first to set up another one.")
	// ErrNoTOTP: no app is set up, or its setting up was not begun or took too long.
	ErrNoTOTP error = problem.New("no_authenticator", "There is no authenticator app to do this with. Begin to set one up.")
	// ErrNoSecret: Config.Secret is missing, without which no authenticator app can be kept.
	ErrNoSecret error = problem.New(problem.CodeUnavailable, "Authenticator apps are not available here.")
)

// TOTPSetup is what an authenticator app needs to know. It is shown to its owner only, until the first code is entered.
type TOTPSetup struct {
	// Secret is the key as people type it, in groups of four (base32).
	Secret string `json:"secret"`
	// URL is the key URI that apps open.
	URL string `json:"url"`
	// QR is URL as a picture, a data URL of a PNG.
	QR string `json:"qr"`
}

// String hides the secret.
func (TOTPSetup) String() string { return "TOTPSetup(hidden)" }

type totpRow struct {
	Secret      []byte         `db:"secret"`
	LastStep    int64          `db:"last_step"`
	CreatedAt   database.Time  `db:"created_at"`
	ConfirmedAt *database.Time `db:"confirmed_at"`
}

// BeginTOTP makes a secret for an authenticator app, in place of one that waits for its first code. The app is asked of
// nobody before [Auth.ConfirmTOTP]. The caller has just seen the person prove who they are. [ErrTOTPActive],
// [ErrUnverified], [ErrNoSecret], [ErrNotFound].
func (a *Auth) BeginTOTP(ctx context.Context, userID string) (setup TOTPSetup, err error) {
	if a.box == nil {
		return setup, ErrNoSecret
	}
	var secret string
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if err != nil {
			return err
		}
		if u.VerifiedAt == nil {
			return ErrUnverified
		}
		key, err := a.totpKey(u.Email, nil)
		if err != nil {
			return err
		}
		secret = key.Secret()
		const insert = `INSERT INTO qs_auth_totp (user_id, secret, created_at) VALUES (?, ?, ?)
			ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, created_at = excluded.created_at, last_step = 0 WHERE qs_auth_totp.confirmed_at IS NULL`
		n, err := a.db.ExecTx(ctx, tx, insert, u.ID, a.sealFor(u.ID, secret), database.At(a.now()))
		if err != nil {
			return fmt.Errorf("auth: write the authenticator of user %s: %w", u.ID, err)
		}
		if n == 0 {
			return ErrTOTPActive
		}
		setup, err = a.totpSetup(key)
		return err
	})
	return setup, err
}

// FindTOTPSetup returns the secret that waits for its first code; [ErrNoTOTP] when there is none.
func (a *Auth) FindTOTPSetup(ctx context.Context, userID string) (TOTPSetup, error) {
	if a.box == nil {
		return TOTPSetup{}, ErrNoSecret
	}
	u, err := a.FindUser(ctx, userID)
	if err != nil {
		return TOTPSetup{}, err
	}
	var row totpRow
	err = a.db.Get(ctx, &row, `SELECT secret, last_step, created_at, confirmed_at FROM qs_auth_totp WHERE user_id = ?`, u.ID)
	if err != nil && !database.IsNoRows(err) {
		return TOTPSetup{}, fmt.Errorf("auth: find the authenticator of user %s: %w", u.ID, err)
	}
	if err != nil || !a.waits(row) {
		return TOTPSetup{}, ErrNoTOTP
	}
	secret, err := a.openFor(u.ID, row.Secret)
	if err != nil {
		return TOTPSetup{}, err
	}
	key, err := a.totpKey(u.Email, []byte(secret))
	if err != nil {
		return TOTPSetup{}, err
	}
	return a.totpSetup(key)
}

// waits tells that a secret was made lately and has had no code yet.
func (a *Auth) waits(row totpRow) bool {
	return row.ConfirmedAt == nil && a.now().Before(row.CreatedAt.Add(setupLifetime))
}

// ConfirmTOTP takes the first code of an authenticator app, from which on a log-in asks for one. codes are the backup
// codes, to be shown once; empty when the person has some. The owner is told by mail. [ErrCode], [ErrNoTOTP],
// [ErrTOTPActive], [ErrNotFound]; a [*RetryError] after too many wrong codes.
func (a *Auth) ConfirmTOTP(ctx context.Context, userID, code string, c Client) (codes []string, err error) {
	if a.box == nil {
		return nil, ErrNoSecret
	}
	if err := a.countCode(ctx, "code\x00"+userID); err != nil {
		return nil, err
	}
	set, err := a.firstCodes(ctx, userID)
	if err != nil {
		return nil, err
	}
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		codes = nil
		u, err := a.lockUser(ctx, tx, userID)
		if err != nil {
			return err
		}
		row, err := a.totpOf(ctx, tx, u.ID)
		switch {
		case err != nil:
			return err
		case row.ConfirmedAt != nil:
			return ErrTOTPActive
		case !a.waits(row):
			return ErrNoTOTP
		}
		step, err := a.matchStep(u.ID, row, code)
		if err != nil {
			return err
		}
		const confirm = `UPDATE qs_auth_totp SET confirmed_at = ?, last_step = ? WHERE user_id = ? AND confirmed_at IS NULL`
		if _, err := a.db.ExecTx(ctx, tx, confirm, database.At(a.now()), step, u.ID); err != nil {
			return fmt.Errorf("auth: confirm the authenticator of user %s: %w", u.ID, err)
		}
		if codes, err = a.storeFirstCodes(ctx, tx, u.ID, set); err != nil {
			return err
		}
		return a.factorChanged(ctx, tx, u, EventTOTPEnabled, "", "", c)
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// RemoveTOTP takes the authenticator app away, and the backup codes when no passkey is left that they stand in for. The
// caller has just seen the person prove who they are; the owner is told by mail. [ErrNoTOTP], [ErrNotFound].
func (a *Auth) RemoveTOTP(ctx context.Context, userID string, c Client) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if err != nil {
			return err
		}
		row, err := a.totpOf(ctx, tx, u.ID)
		if err != nil {
			return err
		}
		if _, err := a.db.ExecTx(ctx, tx, `DELETE FROM qs_auth_totp WHERE user_id = ?`, u.ID); err != nil {
			return fmt.Errorf("auth: remove the authenticator of user %s: %w", u.ID, err)
		}
		if row.ConfirmedAt == nil {
			return nil // nobody was asked for it yet
		}
		if err := a.dropIdleCodes(ctx, tx, u.ID); err != nil {
			return err
		}
		return a.factorChanged(ctx, tx, u, EventTOTPDisabled, "", "", c)
	})
}

// totpOf reads the authenticator of a locked user; [ErrNoTOTP] when there is none.
func (a *Auth) totpOf(ctx context.Context, tx *sqlx.Tx, userID string) (row totpRow, err error) {
	err = a.db.GetTx(ctx, tx, &row, `SELECT secret, last_step, created_at, confirmed_at FROM qs_auth_totp WHERE user_id = ?`, userID)
	if database.IsNoRows(err) {
		return row, ErrNoTOTP
	}
	if err != nil {
		return row, fmt.Errorf("auth: read the authenticator of user %s: %w", userID, err)
	}
	return row, nil
}

// acceptTOTP spends a code of a locked user's app, once; [ErrCode] when it is not right or the person has no app.
func (a *Auth) acceptTOTP(ctx context.Context, tx *sqlx.Tx, userID, code string) error {
	row, err := a.totpOf(ctx, tx, userID)
	if errors.Is(err, ErrNoTOTP) || err == nil && row.ConfirmedAt == nil {
		return ErrCode
	}
	if err != nil {
		return err
	}
	step, err := a.matchStep(userID, row, code)
	if err != nil {
		return err
	}
	const spend = `UPDATE qs_auth_totp SET last_step = ? WHERE user_id = ? AND last_step < ?`
	n, err := a.db.ExecTx(ctx, tx, spend, step, userID, step)
	if err != nil {
		return fmt.Errorf("auth: spend a code of user %s: %w", userID, err)
	}
	if n != 1 {
		return ErrCode
	}
	return nil
}

// matchStep returns the step whose code was entered: the present one or a neighbour, after the last one that was
// accepted (RFC 6238, 5.2: a code is accepted once). [ErrCode] when there is none.
func (a *Auth) matchStep(userID string, row totpRow, code string) (int64, error) {
	if a.box == nil {
		return 0, ErrNoSecret
	}
	secret, err := a.openFor(userID, row.Secret)
	if err != nil {
		return 0, err
	}
	code = plainCode(code)
	now := a.now().Unix() / totpPeriod
	found := int64(-1)
	for step := now - totpDrift; step <= now+totpDrift; step++ {
		want, err := hotp.GenerateCodeCustom(secret, uint64(step), hotp.ValidateOpts{Digits: totpDigits, Algorithm: otp.AlgorithmSHA1}) //nolint:gosec // G115: now is after 1970
		if err != nil {
			return 0, fmt.Errorf("auth: calculate a code of user %s: %w", userID, err)
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 && step > row.LastStep {
			found = step
		}
	}
	if found < 0 {
		return 0, ErrCode
	}
	return found, nil
}

// plainCode is a code without what people write between its groups.
func plainCode(code string) string {
	return strings.NewReplacer(" ", "", "-", "", "\u00a0", "").Replace(code)
}

// totpKey makes a key with a new secret, or of one that exists (in base32).
func (a *Auth) totpKey(address string, secret []byte) (*otp.Key, error) {
	opts := totp.GenerateOpts{Issuer: a.cfg.Site.Name(), AccountName: address, Period: totpPeriod, Digits: totpDigits, Algorithm: otp.AlgorithmSHA1}
	if secret != nil {
		raw, err := base32Secret.DecodeString(string(secret))
		if err != nil {
			return nil, fmt.Errorf("auth: a stored authenticator secret is no base32: %w", err)
		}
		opts.Secret = raw
	}
	key, err := totp.Generate(opts)
	if err != nil {
		return nil, fmt.Errorf("auth: make an authenticator secret: %w", err)
	}
	return key, nil
}

func (a *Auth) totpSetup(key *otp.Key) (TOTPSetup, error) {
	picture, err := key.Image(qrPixels, qrPixels)
	if err != nil {
		return TOTPSetup{}, fmt.Errorf("auth: draw the QR code: %w", err)
	}
	var file bytes.Buffer
	if err := png.Encode(&file, picture); err != nil {
		return TOTPSetup{}, fmt.Errorf("auth: encode the QR code: %w", err)
	}
	return TOTPSetup{Secret: inGroups(key.Secret(), 4), URL: key.URL(), QR: "data:image/png;base64," + base64.StdEncoding.EncodeToString(file.Bytes())}, nil
}

// inGroups puts a space after each n characters, for people who copy by hand.
func inGroups(s string, n int) string {
	var b strings.Builder
	for i, c := range s {
		if i > 0 && i%n == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}
