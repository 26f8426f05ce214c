package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// Secrets that a person or a program carries are 32 random bytes in base64url. They have all the entropy that there
// is, so a plain SHA-256 is enough to store.
const (
	secretBytes = 32
	secretChars = 43
)

func newSecret() (plain string, hash []byte) {
	raw := make([]byte, secretBytes)
	_, _ = rand.Read(raw) // never fails (crypto/rand documentation)
	plain = base64.RawURLEncoding.EncodeToString(raw)
	return plain, hashSecret(plain)
}

func hashSecret(plain string) []byte {
	sum := sha256.Sum256([]byte(plain))
	return sum[:]
}

// isSecret tells that s has the form of newSecret's, so that nothing else is looked up.
func isSecret(s string) bool {
	if len(s) != secretChars {
		return false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(raw) == secretBytes // the decoder skips line ends, and they would count as characters
}

// purpose is what a mailed token is for.
type purpose string

const (
	purposeVerify purpose = "verify"
	purposeReset  purpose = "reset"
)

// How long mailed tokens live.
const (
	verifyLifetime = 3 * 24 * time.Hour
	resetLifetime  = 30 * time.Minute
)

// issueToken makes a token for a user whose row is locked, and cancels the one before. For nobody the same statements
// run, and the token is no one's.
func (a *Auth) issueToken(ctx context.Context, tx *sqlx.Tx, u userRow, p purpose, lifetime time.Duration) (string, error) {
	if err := a.cancelTokens(ctx, tx, u.ID, p); err != nil {
		return "", err
	}
	plain, hash := newSecret()
	now := a.now()
	const insert = `INSERT INTO qs_auth_tokens (token_hash, user_id, purpose, email_key, created_at, expires_at)
		SELECT ?, u.id, ?, u.email_key, ?, ? FROM qs_auth_users u WHERE u.id = ?`
	if _, err := a.db.ExecTx(ctx, tx, insert, hash, p, database.At(now), database.At(now.Add(lifetime)), u.ID); err != nil {
		return "", fmt.Errorf("auth: write a token of user %s: %w", u.ID, err)
	}
	return plain, nil
}

func (a *Auth) cancelTokens(ctx context.Context, tx *sqlx.Tx, userID string, p purpose) error {
	const cancel = `UPDATE qs_auth_tokens SET ended_at = ? WHERE user_id = ? AND purpose = ? AND ended_at IS NULL`
	if _, err := a.db.ExecTx(ctx, tx, cancel, database.At(a.now()), userID, p); err != nil {
		return fmt.Errorf("auth: cancel the tokens of user %s: %w", userID, err)
	}
	return nil
}

// tokenOwner returns whose a token is when it can be spent, without spending it; [ErrLink] when it cannot.
func (a *Auth) tokenOwner(ctx context.Context, token string, p purpose) (u userRow, err error) {
	if !isSecret(token) {
		return u, ErrLink
	}
	const query = `SELECT ` + userColumns + ` FROM qs_auth_tokens t JOIN qs_auth_users u ON u.id = t.user_id AND u.email_key = t.email_key
		WHERE t.token_hash = ? AND t.purpose = ? AND t.ended_at IS NULL AND t.expires_at > ? AND u.disabled_at IS NULL`
	err = a.db.Get(ctx, &u, query, hashSecret(token), p, database.At(a.now()))
	if database.IsNoRows(err) {
		return u, ErrLink
	}
	if err != nil {
		return u, fmt.Errorf("auth: look for a token: %w", err)
	}
	return u, nil
}

// lockTokenOwner finds whose a token is and locks that row, which always comes before the token's; [ErrLink] when the
// token is nobody's.
func (a *Auth) lockTokenOwner(ctx context.Context, tx *sqlx.Tx, token string, p purpose) (userRow, error) {
	if !isSecret(token) {
		return userRow{}, ErrLink
	}
	var id string
	err := a.db.GetTx(ctx, tx, &id, `SELECT user_id FROM qs_auth_tokens WHERE token_hash = ? AND purpose = ?`, hashSecret(token), p)
	if database.IsNoRows(err) {
		return userRow{}, ErrLink
	}
	if err != nil {
		return userRow{}, fmt.Errorf("auth: find a token: %w", err)
	}
	u, err := a.lockUser(ctx, tx, id)
	if err != nil {
		return userRow{}, err
	}
	if u.DisabledAt != nil {
		return userRow{}, ErrLink
	}
	return u, nil
}

// spendToken ends a token of u; [ErrLink] when it is not alive, is for another address than u has now, or another's.
func (a *Auth) spendToken(ctx context.Context, tx *sqlx.Tx, u userRow, token string, p purpose) error {
	if !isSecret(token) {
		return ErrLink
	}
	const spend = `UPDATE qs_auth_tokens SET ended_at = ?
		WHERE token_hash = ? AND user_id = ? AND purpose = ? AND email_key = ? AND ended_at IS NULL AND expires_at > ?`
	now := database.At(a.now())
	n, err := a.db.ExecTx(ctx, tx, spend, now, hashSecret(token), u.ID, p, u.EmailKey, now)
	if err != nil {
		return fmt.Errorf("auth: spend a token of user %s: %w", u.ID, err)
	}
	if n != 1 {
		return ErrLink
	}
	return nil
}
