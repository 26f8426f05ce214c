package auth

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Limit allows Max attempts in each window of Per, which begins with the first.
type Limit struct {
	Max int
	Per time.Duration
}

// Limits are counted in the database, so that all processes share them. The first four count the requests of one
// network address (of one /64 for IPv6) and answer "too_many"; no success clears them.
type Limits struct {
	// LogIn: 100 in 5 minutes.
	LogIn Limit
	// AllLogIns counts the log-ins of all network addresses together: 6,000 in a minute. Who is logged in stays so beyond it.
	AllLogIns Limit
	// SignUp: 60 in an hour.
	SignUp Limit
	// Forgot: 60 in an hour.
	Forgot Limit
	// Resend: 60 in an hour.
	Resend Limit
	// Mail counts what sign-up, forgot and resend send to one e-mail address, with whatever +suffix: 10 in an hour. Beyond it
	// the answer is the same and nothing is sent.
	Mail Limit
	// Code counts the codes that are entered as one account's second step, right or wrong: 10 in 15 minutes. Only who has
	// passed the first step can enter any, and sessions are not affected.
	Code Limit
}

func (l *Limits) setDefaults() {
	setDefault(&l.LogIn, Limit{100, 5 * time.Minute})
	setDefault(&l.AllLogIns, Limit{6000, time.Minute})
	setDefault(&l.SignUp, Limit{60, time.Hour})
	setDefault(&l.Forgot, Limit{60, time.Hour})
	setDefault(&l.Resend, Limit{60, time.Hour})
	setDefault(&l.Mail, Limit{10, time.Hour})
	setDefault(&l.Code, Limit{10, 15 * time.Minute})
}

func (l *Limits) all() iter.Seq2[string, Limit] {
	return maps.All(map[string]Limit{"LogIn": l.LogIn, "AllLogIns": l.AllLogIns, "SignUp": l.SignUp, "Forgot": l.Forgot, "Resend": l.Resend, "Mail": l.Mail, "Code": l.Code})
}

// countAttempt counts an attempt of the client; a [*RetryError] when there were too many.
func (a *Auth) countAttempt(ctx context.Context, what string, l Limit, c Client) error {
	if c.IP == "" {
		return nil
	}
	return a.countFor(ctx, what+"\x00"+c.network(), l, "There were too many attempts from your network. Try again later.")
}

// countAll counts an attempt of whomever; a [*RetryError] when there were too many.
func (a *Auth) countAll(ctx context.Context, what string, l Limit, c Client) error {
	if c.IP == "" {
		return nil
	}
	return a.countFor(ctx, "all\x00"+what, l, "Very many people are logging in right now. Try again in a moment.")
}

// countFor counts an attempt for a key of any kind; a [*RetryError] with the message when there were too many.
func (a *Auth) countFor(ctx context.Context, key string, l Limit, message string) error {
	var left time.Duration
	err := a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
		left, err = a.count(ctx, tx, key, l)
		return err
	})
	if err == nil && left > 0 {
		err = &RetryError{Code: problem.CodeTooMany, Message: message, After: left}
	}
	return err
}

// clearCount begins the count for a key anew.
func (a *Auth) clearCount(ctx context.Context, tx *sqlx.Tx, key string) error {
	if _, err := a.db.ExecTx(ctx, tx, `DELETE FROM qs_auth_limits WHERE key = ?`, hex.EncodeToString(hashSecret(key))); err != nil {
		return fmt.Errorf("auth: clear a count: %w", err)
	}
	return nil
}

// mailAllowed counts a mail to an address and tells whether it may be sent.
func (a *Auth) mailAllowed(ctx context.Context, tx *sqlx.Tx, address email) (bool, error) {
	left, err := a.count(ctx, tx, "mail\x00"+address.mailbox(), a.cfg.Limits.Mail)
	return left == 0, err
}

// count adds one to what was counted for key in the window, and returns how long the window still lasts when that is
// more than the limit allows, else 0.
func (a *Auth) count(ctx context.Context, tx *sqlx.Tx, key string, l Limit) (time.Duration, error) {
	const add = `INSERT INTO qs_auth_limits (key, count, expires_at) VALUES (?, 1, ?)
		ON CONFLICT (key) DO UPDATE SET
			count = CASE WHEN qs_auth_limits.expires_at <= ? THEN 1 ELSE qs_auth_limits.count + 1 END,
			expires_at = CASE WHEN qs_auth_limits.expires_at <= ? THEN excluded.expires_at ELSE qs_auth_limits.expires_at END
		RETURNING count, expires_at`
	var row struct {
		Count     int           `db:"count"`
		ExpiresAt database.Time `db:"expires_at"`
	}
	now := a.now()
	// The table need not know who it was.
	hashed := hex.EncodeToString(hashSecret(key))
	if err := a.db.GetTx(ctx, tx, &row, add, hashed, database.At(now.Add(l.Per)), database.At(now), database.At(now)); err != nil {
		return 0, fmt.Errorf("auth: count an attempt: %w", err)
	}
	if row.Count <= l.Max {
		return 0, nil
	}
	return max(row.ExpiresAt.Sub(now), time.Second), nil
}
