package auth

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/seal"
)

// base32Secret is how authenticator apps write their secrets.
var base32Secret = base32.StdEncoding.WithPadding(base32.NoPadding)

// Factors are what a person has beside a password. Whoever has an authenticator app or a passkey is asked for a second
// step after a password, a code or another site; a passkey alone is both steps.
type Factors struct {
	// TOTPSince is when the authenticator app was set up. Nil: there is none.
	TOTPSince *time.Time `json:"totp_since"`
	// Passkeys is how many there are.
	Passkeys int `json:"passkeys"`
	// BackupCodes is how many are left.
	BackupCodes int `json:"backup_codes"`
}

// Second tells that a log-in asks for a second step.
func (f Factors) Second() bool { return f.TOTPSince != nil || f.Passkeys > 0 }

const selectFactors = `SELECT
		(SELECT confirmed_at FROM qs_auth_totp WHERE user_id = ?) AS totp_since,
		(SELECT COUNT(*) FROM qs_auth_passkeys WHERE user_id = ?) AS passkeys,
		(SELECT COUNT(*) FROM qs_auth_backup_codes WHERE user_id = ? AND used_at IS NULL) AS backup_codes`

type factorsRow struct {
	TOTPSince   *database.Time `db:"totp_since"`
	Passkeys    int            `db:"passkeys"`
	BackupCodes int            `db:"backup_codes"`
}

func (r factorsRow) factors() Factors { return Factors{r.TOTPSince.Std(), r.Passkeys, r.BackupCodes} }

// Factors returns what a user has beside the password; nothing for an unknown user.
func (a *Auth) Factors(ctx context.Context, userID string) (Factors, error) {
	if !isID(userID) {
		return Factors{}, nil
	}
	var row factorsRow
	if err := a.db.Get(ctx, &row, selectFactors, userID, userID, userID); err != nil {
		return Factors{}, fmt.Errorf("auth: factors of user %s: %w", userID, err)
	}
	return row.factors(), nil
}

func (a *Auth) factorsTx(ctx context.Context, tx *sqlx.Tx, userID string) (Factors, error) {
	var row factorsRow
	if err := a.db.GetTx(ctx, tx, &row, selectFactors, userID, userID, userID); err != nil {
		return Factors{}, fmt.Errorf("auth: factors of user %s: %w", userID, err)
	}
	return row.factors(), nil
}

// ResetFactors takes the authenticator app, the backup codes and all passkeys of a user away and ends all sessions: the
// way back for who has lost them all, after staff has made sure by other means who asks. The owner is told by mail, and the
// event is recorded with c, which is where staff did it. Whoever has no password then asks for one by mail. [ErrNotFound];
// [ErrNoFactors] where there is nothing to take away.
func (a *Auth) ResetFactors(ctx context.Context, userID string, c Client) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.ResetFactorsTx(ctx, tx, userID, c) })
}

// ResetFactorsTx is [Auth.ResetFactors] inside tx.
func (a *Auth) ResetFactorsTx(ctx context.Context, tx *sqlx.Tx, userID string, c Client) error {
	u, err := a.lockUser(ctx, tx, userID)
	if err != nil {
		return err
	}
	f, err := a.factorsTx(ctx, tx, u.ID)
	if err != nil {
		return err
	}
	if !f.Second() && f.BackupCodes == 0 {
		return ErrNoFactors
	}
	if err := a.deleteFactors(ctx, tx, u.ID); err != nil {
		return err
	}
	if err := a.endSessions(ctx, tx, u.ID, ""); err != nil {
		return err
	}
	if err := a.record(ctx, tx, u.ID, EventFactorsReset, "", c); err != nil {
		return err
	}
	// Where the staff sat is none of the person's business.
	return a.notify(ctx, tx, u, kindChange, Notice{Name: u.Name, Event: EventFactorsReset})
}

func (a *Auth) deleteFactors(ctx context.Context, tx *sqlx.Tx, userID string) error {
	for _, statement := range []string{
		`DELETE FROM qs_auth_totp WHERE user_id = ?`,
		`DELETE FROM qs_auth_backup_codes WHERE user_id = ?`,
		`DELETE FROM qs_auth_passkeys WHERE user_id = ?`,
	} {
		if _, err := a.db.ExecTx(ctx, tx, statement, userID); err != nil {
			return fmt.Errorf("auth: remove the factors of user %s: %w", userID, err)
		}
	}
	return nil
}

// factorChanged records a change of how an account is entered and tells its owner. about is what the mail names.
func (a *Auth) factorChanged(ctx context.Context, tx *sqlx.Tx, u userRow, kind EventKind, detail, about string, c Client) error {
	if err := a.record(ctx, tx, u.ID, kind, detail, c); err != nil {
		return err
	}
	return a.notify(ctx, tx, u, kindChange, Notice{Name: u.Name, Event: kind, About: about, Device: deviceOf(c.Agent), IP: c.IP})
}

// checkFactors returns what is wrong with the configuration.
func (a *Auth) checkFactors() (faults []error) {
	if n := len(a.cfg.Secret); n > 0 && n < seal.MinKeyBytes {
		faults = append(faults, fmt.Errorf("auth: Config.Secret must have %d bytes or more", seal.MinKeyBytes))
	}
	names := map[string]bool{}
	for _, p := range a.cfg.OAuth {
		if err := p.check(); err != nil {
			faults = append(faults, fmt.Errorf("auth: Config.OAuth: %w", err))
		}
		if names[p.Name] {
			faults = append(faults, fmt.Errorf("auth: Config.OAuth has %s twice", p.Name))
		}
		names[p.Name] = true
	}
	return faults
}

// prepareFactors makes what the checked configuration describes.
func (a *Auth) prepareFactors() (err error) {
	if len(a.cfg.Secret) > 0 {
		if a.stops, err = seal.New(a.cfg.Secret, "auth unsubscribe"); err != nil {
			return err
		}
		if a.box, err = seal.New(a.cfg.Secret, "auth"); err != nil {
			return err
		}
	}
	if a.party, err = relyingParty(a.cfg.Site.Name(), a.cfg.BaseURL); err != nil {
		return err
	}
	a.remotes = map[string]*remote{}
	for _, p := range a.cfg.OAuth {
		a.remotes[p.Name] = newRemote(p, a.url("/oauth/"+p.Name+"/callback"), a.cfg.OAuthClient, a.cfg.Clock)
	}
	return nil
}

// sealFor encrypts a secret for one user's row, so that it opens in no other.
func (a *Auth) sealFor(userID, secret string) []byte {
	return a.box.Seal([]byte(userID + "\x00" + secret))
}

func (a *Auth) openFor(userID string, sealed []byte) (string, error) {
	plain, err := a.box.Open(sealed)
	if err != nil {
		return "", fmt.Errorf("auth: a sealed secret of user %s: %w", userID, err)
	}
	secret, ok := strings.CutPrefix(string(plain), userID+"\x00")
	if !ok {
		return "", fmt.Errorf("auth: a sealed secret of user %s is another's: %w", userID, seal.ErrOpen)
	}
	return secret, nil
}

// countCode counts an attempt to enter a code for a key; a [*RetryError] when there were too many.
func (a *Auth) countCode(ctx context.Context, key string) error {
	return a.countFor(ctx, key, a.cfg.Limits.Code, "There were too many wrong codes. Wait a few minutes, or use a passkey. Where you are logged in you stay so.")
}

// acceptCode spends what a person typed as the second step: a code of the app, or a backup code. [ErrCode].
func (a *Auth) acceptCode(ctx context.Context, tx *sqlx.Tx, u userRow, code string, backup checkedBackup, c Client) error {
	if backup.entered {
		return a.spendBackup(ctx, tx, u, backup, c)
	}
	err := a.acceptTOTP(ctx, tx, u.ID, code)
	if errors.Is(err, ErrNoSecret) {
		return ErrCode
	}
	return err
}
