package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// maxPasskeys is how many passkeys an account can have.
const maxPasskeys = 20

// Errors of passkeys.
var (
	// ErrPasskey: the browser's answer is wrong, too late, was used, or is of a passkey that is not known.
	ErrPasskey error = problem.New("passkey_invalid", "This passkey was not accepted. Try again, or go on in another way.")
	// ErrPasskeyKnown: the passkey is registered already.
	ErrPasskeyKnown error = problem.New(problem.CodeConflict, "This passkey is registered already.")
	// ErrNoPasskey: there is no such passkey, or it is another user's.
	ErrNoPasskey error = problem.New(problem.CodeNotFound, "There is no such passkey.")
	// ErrTooManyPasskeys: the account has as many as it may have.
	ErrTooManyPasskeys error = problem.New("too_many_passkeys", "You have as many passkeys as an account can have. Remove one first.")
	// ErrNoPasskeys: the site is reached by an IP address, to which browsers tie no passkey.
	ErrNoPasskeys error = problem.New(problem.CodeUnavailable, "Passkeys are not available here.")
	// ErrLastWayIn: without it nobody could enter the account any more.
	ErrLastWayIn error = problem.New("last_way_in", "This is the only way into your account. Set a password or add another way first.")
)

// Passkey is a key of a person's device or password manager (W3C Web Authentication) that lets them in by itself.
type Passkey struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Synced tells that it is kept by a password manager on several devices.
	Synced     bool       `json:"synced"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	// ClonedAt is when a copy of it was noticed, after which it lets nobody in. Nil: none was.
	ClonedAt *time.Time `json:"cloned_at,omitempty"`
}

type passkeyRow struct {
	ID         string         `db:"id"`
	Name       string         `db:"name"`
	Credential string         `db:"credential"`
	CreatedAt  database.Time  `db:"created_at"`
	LastUsedAt *database.Time `db:"last_used_at"`
	ClonedAt   *database.Time `db:"cloned_at"`
}

const credentialColumns = `id, name, credential, created_at, last_used_at, cloned_at` //nolint:gosec // G101: names of columns

func (r passkeyRow) record() (c webauthn.Credential, err error) {
	if err := json.Unmarshal([]byte(r.Credential), &c); err != nil {
		return c, fmt.Errorf("auth: read the record of passkey %s: %w", r.ID, err)
	}
	return c, nil
}

func (r passkeyRow) passkey() (Passkey, error) {
	c, err := r.record()
	return Passkey{r.ID, r.Name, c.Flags.BackupEligible, r.CreatedAt.Time, r.LastUsedAt.Std(), r.ClonedAt.Std()}, err
}

// relyingParty is the site as browsers tie passkeys to it; nil where they cannot. In development, at a loopback
// address, it is localhost: an IP address is none (Web Authentication, 5.4.2).
func relyingParty(name, baseURL string) (*webauthn.WebAuthn, error) {
	u, err := url.Parse(baseURL)
	if err != nil {
		return nil, fmt.Errorf("auth: BaseURL: %w", err)
	}
	host, origin := u.Hostname(), u.Scheme+"://"+u.Host
	if ip := net.ParseIP(host); ip != nil {
		if !ip.IsLoopback() {
			return nil, nil
		}
		host, origin = "localhost", u.Scheme+"://localhost"
		if u.Port() != "" {
			origin += ":" + u.Port()
		}
	}
	party, err := webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: name, RPOrigins: []string{origin}, AttestationPreference: protocol.PreferNoAttestation,
		// A passkey is both steps at once, so the device must have made sure who uses it; and it must be found without a name.
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(), UserVerification: protocol.VerificationRequired,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("auth: passkeys for %s: %w", host, err)
	}
	return party, nil
}

// passkeyUser is a user as go-webauthn asks for one.
type passkeyUser struct {
	id          uuid.UUID
	name        string
	shown       string
	credentials []webauthn.Credential
}

func (u passkeyUser) WebAuthnID() []byte                         { return u.id[:] }
func (u passkeyUser) WebAuthnName() string                       { return u.name }
func (u passkeyUser) WebAuthnDisplayName() string                { return u.shown }
func (u passkeyUser) WebAuthnCredentials() []webauthn.Credential { return u.credentials }

func newPasskeyUser(id, email, name string, rows []passkeyRow) (u passkeyUser, err error) {
	if u.id, err = uuid.Parse(id); err != nil {
		return u, fmt.Errorf("auth: user id: %w", err)
	}
	u.name, u.shown = email, name
	if u.shown == "" {
		u.shown = email
	}
	for _, r := range rows {
		c, err := r.record()
		if err != nil {
			return u, err
		}
		u.credentials = append(u.credentials, c)
	}
	return u, nil
}

const selectPasskeys = `SELECT ` + credentialColumns + ` FROM qs_auth_passkeys WHERE user_id = ? ORDER BY id` // at most maxPasskeys

// Passkeys are a user's, the oldest first. There are at most 20.
func (a *Auth) Passkeys(ctx context.Context, userID string) ([]Passkey, error) {
	rows, err := a.passkeyRows(ctx, userID)
	if err != nil {
		return nil, err
	}
	keys := make([]Passkey, len(rows))
	for i, r := range rows {
		if keys[i], err = r.passkey(); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func (a *Auth) passkeyRows(ctx context.Context, userID string) (rows []passkeyRow, err error) {
	if !isID(userID) {
		return nil, nil
	}
	if err := a.db.Select(ctx, &rows, selectPasskeys, userID); err != nil {
		return nil, fmt.Errorf("auth: passkeys of user %s: %w", userID, err)
	}
	return rows, nil
}

func (a *Auth) passkeyRowsTx(ctx context.Context, tx *sqlx.Tx, userID string) (rows []passkeyRow, err error) {
	if err := a.db.SelectTx(ctx, tx, &rows, selectPasskeys, userID); err != nil {
		return nil, fmt.Errorf("auth: passkeys of user %s: %w", userID, err)
	}
	return rows, nil
}

// RenamePasskey gives a user's passkey another name, of 1 to 100 characters. [ErrNoPasskey]; a problem of code "invalid"
// for the field "name".
func (a *Auth) RenamePasskey(ctx context.Context, userID, id, name string) error {
	name, err := parsePasskeyName(name)
	if err != nil {
		return err
	}
	if !isID(userID) || !isID(id) {
		return ErrNoPasskey
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		n, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_passkeys SET name = ? WHERE id = ? AND user_id = ?`, name, id, userID)
		if err != nil {
			return fmt.Errorf("auth: rename passkey %s: %w", id, err)
		}
		if n == 0 {
			return ErrNoPasskey
		}
		return nil
	})
}

func parsePasskeyName(name string) (string, error) {
	name = cleanText(strings.TrimSpace(name))
	if n := utf8.RuneCountInString(name); n < 1 || n > maxName {
		return "", problem.Invalid(map[string]string{"name": fmt.Sprintf("Enter a name of 1 to %d characters, such as the device's.", maxName)})
	}
	return name, nil
}

// RemovePasskey takes a passkey away, and the backup codes with the last second step. The caller has just seen the
// person prove who they are; the owner is told by mail. [ErrNoPasskey]; [ErrLastWayIn] when the account would have no
// password, passkey or linked account left.
func (a *Auth) RemovePasskey(ctx context.Context, userID, id string, c Client) error {
	if !isID(userID) || !isID(id) {
		return ErrNoPasskey
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if errors.Is(err, ErrNotFound) {
			return ErrNoPasskey
		}
		if err != nil {
			return err
		}
		var name string
		err = a.db.GetTx(ctx, tx, &name, `DELETE FROM qs_auth_passkeys WHERE id = ? AND user_id = ? RETURNING name`, id, u.ID)
		if database.IsNoRows(err) {
			return ErrNoPasskey
		}
		if err != nil {
			return fmt.Errorf("auth: remove passkey %s: %w", id, err)
		}
		if err := a.needWayIn(ctx, tx, u); err != nil {
			return err // rolls back
		}
		if err := a.dropIdleCodes(ctx, tx, u.ID); err != nil {
			return err
		}
		return a.factorChanged(ctx, tx, u, EventPasskeyRemoved, name, name, c)
	})
}

// needWayIn returns [ErrLastWayIn] when a locked user has no password, passkey or linked account.
func (a *Auth) needWayIn(ctx context.Context, tx *sqlx.Tx, u userRow) error {
	if u.PasswordHash != "" {
		return nil
	}
	const count = `SELECT (SELECT COUNT(*) FROM qs_auth_passkeys WHERE user_id = ? AND cloned_at IS NULL) + (SELECT COUNT(*) FROM qs_auth_identities WHERE user_id = ?)`
	var ways int
	if err := a.db.GetTx(ctx, tx, &ways, count, u.ID, u.ID); err != nil {
		return fmt.Errorf("auth: count the ways in of user %s: %w", u.ID, err)
	}
	if ways == 0 {
		return ErrLastWayIn
	}
	return nil
}
