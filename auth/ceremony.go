package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// ceremonyLifetime is how long a browser has to answer a challenge.
const ceremonyLifetime = 5 * time.Minute

// ceremony is what a challenge is for (Web Authentication, 1.1: a ceremony is a protocol with a person in it).
type ceremony string

const (
	ceremonyRegister ceremony = "register"
	ceremonyLogIn    ceremony = "login"
	ceremonyConfirm  ceremony = "confirm" // of a known user: the second step, and the proof before something sensitive
)

// PasskeyChallenge is what a browser is asked to sign.
type PasskeyChallenge struct {
	// Options are for the browser's navigator.credentials, with binary values in base64url.
	Options any `json:"options"`
	// Handle is for the browser to keep; the answer works only together with it.
	Handle string `json:"-"`
}

// beginCeremony keeps a challenge until its answer comes. userID is "" where nobody is known yet.
func (a *Auth) beginCeremony(ctx context.Context, kind ceremony, userID string, session *webauthn.SessionData) (handle string, err error) {
	data, err := json.Marshal(session)
	if err != nil {
		return "", fmt.Errorf("auth: write a challenge: %w", err)
	}
	handle, hash := newSecret()
	var owner *string
	if userID != "" {
		owner = &userID
	}
	const insert = `INSERT INTO qs_auth_ceremonies (browser_hash, kind, user_id, data, expires_at) VALUES (?, ?, ?, ?, ?)`
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := a.db.ExecTx(ctx, tx, insert, hash, kind, owner, string(data), database.At(a.now().Add(ceremonyLifetime)))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("auth: keep a challenge: %w", err)
	}
	return handle, nil
}

// takeCeremony ends a challenge, whatever the answer to it is; [ErrPasskey] when it is none, is for something or
// somebody else, or is too old.
func (a *Auth) takeCeremony(ctx context.Context, tx *sqlx.Tx, kind ceremony, userID, handle string) (session webauthn.SessionData, err error) {
	if !isSecret(handle) {
		return session, ErrPasskey
	}
	var row struct {
		UserID    *string       `db:"user_id"`
		Data      string        `db:"data"`
		ExpiresAt database.Time `db:"expires_at"`
	}
	const take = `DELETE FROM qs_auth_ceremonies WHERE browser_hash = ? AND kind = ? RETURNING user_id, data, expires_at`
	err = a.db.GetTx(ctx, tx, &row, take, hashSecret(handle), kind)
	if database.IsNoRows(err) {
		return session, ErrPasskey
	}
	if err != nil {
		return session, fmt.Errorf("auth: take a challenge: %w", err)
	}
	owner := ""
	if row.UserID != nil {
		owner = *row.UserID
	}
	if owner != userID || !a.now().Before(row.ExpiresAt.Time) {
		return session, ErrPasskey
	}
	if err := json.Unmarshal([]byte(row.Data), &session); err != nil {
		return session, fmt.Errorf("auth: read a challenge: %w", err)
	}
	return session, nil
}

// BeginPasskey makes the challenge for a new passkey of a user. The caller has just seen the person prove who they are.
// [ErrNoPasskeys], [ErrTooManyPasskeys], [ErrUnverified], [ErrNotFound].
func (a *Auth) BeginPasskey(ctx context.Context, userID string) (PasskeyChallenge, error) {
	if a.party == nil {
		return PasskeyChallenge{}, ErrNoPasskeys
	}
	u, err := a.FindUser(ctx, userID)
	if err != nil {
		return PasskeyChallenge{}, err
	}
	if !u.Verified() {
		return PasskeyChallenge{}, ErrUnverified
	}
	rows, err := a.passkeyRows(ctx, u.ID)
	if err != nil {
		return PasskeyChallenge{}, err
	}
	if len(rows) >= maxPasskeys {
		return PasskeyChallenge{}, ErrTooManyPasskeys
	}
	owner, err := newPasskeyUser(u.ID, u.Email, u.Name, rows)
	if err != nil {
		return PasskeyChallenge{}, err
	}
	known := make([]protocol.CredentialDescriptor, len(owner.credentials))
	for i, c := range owner.credentials {
		known[i] = c.Descriptor()
	}
	creation, session, err := a.party.BeginRegistration(owner, webauthn.WithExclusions(known))
	if err != nil {
		return PasskeyChallenge{}, fmt.Errorf("auth: begin a passkey of user %s: %w", u.ID, err)
	}
	handle, err := a.beginCeremony(ctx, ceremonyRegister, u.ID, session)
	return PasskeyChallenge{creation.Response, handle}, err
}

// AddPasskeyParams are a browser's answer to [Auth.BeginPasskey].
type AddPasskeyParams struct {
	UserID string
	// Handle is what the browser kept.
	Handle string
	// Name is what the person calls it, 1 to 100 characters.
	Name string
	// Response is the browser's PublicKeyCredential as JSON.
	Response []byte
	Client   Client
}

// AddPasskey registers a passkey. codes are the backup codes, to be shown once; empty when the person has some. The
// owner is told by mail. [ErrPasskey], [ErrPasskeyKnown], [ErrTooManyPasskeys], [ErrNoPasskeys], [ErrNotFound]; a problem
// of code "invalid" for the field "name", after which the challenge still works.
func (a *Auth) AddPasskey(ctx context.Context, p AddPasskeyParams) (key Passkey, codes []string, err error) {
	if a.party == nil {
		return key, nil, ErrNoPasskeys
	}
	name, err := parsePasskeyName(p.Name)
	if err != nil {
		return key, nil, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(p.Response)
	if err != nil {
		return key, nil, a.badPasskey(ctx, err)
	}
	set, err := a.firstCodes(ctx, p.UserID)
	if err != nil {
		return key, nil, err
	}
	var refused error
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		codes, refused = nil, nil
		u, err := a.lockUser(ctx, tx, p.UserID)
		if err != nil {
			return err
		}
		session, err := a.takeCeremony(ctx, tx, ceremonyRegister, u.ID, p.Handle)
		if errors.Is(err, ErrPasskey) {
			refused = err
			return nil
		}
		if err != nil {
			return err
		}
		rows, err := a.passkeyRowsTx(ctx, tx, u.ID)
		if err != nil {
			return err
		}
		if len(rows) >= maxPasskeys {
			return ErrTooManyPasskeys
		}
		owner, err := newPasskeyUser(u.ID, u.Email, u.Name, rows)
		if err != nil {
			return err
		}
		credential, err := a.party.CreateCredential(owner, session, parsed)
		if err != nil {
			refused = a.badPasskey(ctx, err)
			return nil
		}
		if key, err = a.insertPasskey(ctx, tx, u.ID, name, *credential); err != nil {
			return err
		}
		if codes, err = a.storeFirstCodes(ctx, tx, u.ID, set); err != nil {
			return err
		}
		return a.factorChanged(ctx, tx, u, EventPasskeyAdded, name, name, p.Client)
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return Passkey{}, nil, err
	}
	return key, codes, nil
}

func (a *Auth) insertPasskey(ctx context.Context, tx *sqlx.Tx, userID, name string, c webauthn.Credential) (Passkey, error) {
	id, err := newID()
	if err != nil {
		return Passkey{}, err
	}
	record, err := json.Marshal(c)
	if err != nil {
		return Passkey{}, fmt.Errorf("auth: write a passkey: %w", err)
	}
	now := database.At(a.now())
	const insert = `INSERT INTO qs_auth_passkeys (id, user_id, credential_id, name, credential, created_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (credential_id) DO NOTHING`
	n, err := a.db.ExecTx(ctx, tx, insert, id, userID, c.ID, name, string(record), now)
	if err != nil {
		return Passkey{}, fmt.Errorf("auth: write a passkey of user %s: %w", userID, err)
	}
	if n == 0 {
		return Passkey{}, ErrPasskeyKnown
	}
	return Passkey{ID: id, Name: name, Synced: c.Flags.BackupEligible, CreatedAt: now.Time}, nil
}

// badPasskey is [ErrPasskey]; why goes to the log at debug level, as anybody can send nonsense.
func (a *Auth) badPasskey(ctx context.Context, err error) error {
	if detail, ok := errors.AsType[*protocol.Error](err); ok {
		a.cfg.Logger.DebugContext(ctx, "a passkey was not accepted", "error", detail.Details, "info", detail.DevInfo)
	}
	return ErrPasskey
}

// BeginPasskeyLogIn makes a challenge that any passkey of this site may answer. [ErrNoPasskeys]; a [*RetryError] when
// there were too many attempts.
func (a *Auth) BeginPasskeyLogIn(ctx context.Context, c Client) (PasskeyChallenge, error) {
	if a.party == nil {
		return PasskeyChallenge{}, ErrNoPasskeys
	}
	if err := a.countAttempt(ctx, "passkey", a.cfg.Limits.LogIn, c); err != nil {
		return PasskeyChallenge{}, err
	}
	assertion, session, err := a.party.BeginDiscoverableLogin()
	if err != nil {
		return PasskeyChallenge{}, fmt.Errorf("auth: begin a log-in by passkey: %w", err)
	}
	handle, err := a.beginCeremony(ctx, ceremonyLogIn, "", session)
	return PasskeyChallenge{assertion.Response, handle}, err
}

// beginPasskeyCheck makes a challenge for the passkeys of one user; [ErrNoPasskey] when there is none.
func (a *Auth) beginPasskeyCheck(ctx context.Context, u User) (PasskeyChallenge, error) {
	if a.party == nil {
		return PasskeyChallenge{}, ErrNoPasskeys
	}
	rows, err := a.passkeyRows(ctx, u.ID)
	if err != nil {
		return PasskeyChallenge{}, err
	}
	if len(rows) == 0 {
		return PasskeyChallenge{}, ErrNoPasskey
	}
	owner, err := newPasskeyUser(u.ID, u.Email, u.Name, rows)
	if err != nil {
		return PasskeyChallenge{}, err
	}
	assertion, session, err := a.party.BeginLogin(owner)
	if err != nil {
		return PasskeyChallenge{}, fmt.Errorf("auth: begin a check of user %s: %w", u.ID, err)
	}
	handle, err := a.beginCeremony(ctx, ceremonyConfirm, u.ID, session)
	return PasskeyChallenge{assertion.Response, handle}, err
}

// parseAssertion reads a browser's answer to a challenge.
func (a *Auth) parseAssertion(ctx context.Context, response []byte) (*protocol.ParsedCredentialAssertionData, error) {
	if a.party == nil {
		return nil, ErrNoPasskeys
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return nil, a.badPasskey(ctx, err)
	}
	return parsed, nil
}

// handleUser is the user whom a discoverable passkey names; "" when it names none.
func handleUser(parsed *protocol.ParsedCredentialAssertionData) string {
	id, err := uuid.FromBytes(parsed.Response.UserHandle)
	if err != nil {
		return ""
	}
	return id.String()
}

// acceptPasskey ends the challenge and checks the answer of a locked user's passkey. refused is [ErrPasskey] when it is
// not right; the caller then commits, as the challenge is spent and a clone is noted.
func (a *Auth) acceptPasskey(ctx context.Context, tx *sqlx.Tx, u userRow, kind ceremony, handle string, parsed *protocol.ParsedCredentialAssertionData, c Client) (refused, err error) {
	owner := u.ID
	if kind == ceremonyLogIn {
		owner = ""
	}
	session, err := a.takeCeremony(ctx, tx, kind, owner, handle)
	if errors.Is(err, ErrPasskey) {
		return err, nil
	}
	if err != nil {
		return nil, err
	}
	rows, err := a.passkeyRowsTx(ctx, tx, u.ID)
	if err != nil {
		return nil, err
	}
	person, err := newPasskeyUser(u.ID, u.Email, u.Name, rows)
	if err != nil {
		return nil, err
	}
	var credential *webauthn.Credential
	if kind == ceremonyLogIn {
		_, credential, err = a.party.ValidatePasskeyLogin(func(_, _ []byte) (webauthn.User, error) { return person, nil }, session, parsed)
	} else {
		credential, err = a.party.ValidateLogin(person, session, parsed)
	}
	if err != nil {
		return a.badPasskey(ctx, err), nil
	}
	for i, known := range person.credentials {
		if bytes.Equal(known.ID, credential.ID) {
			return a.usePasskey(ctx, tx, u, rows[i], *credential, c)
		}
	}
	return ErrPasskey, nil
}

// usePasskey notes the use of a passkey. One whose counter does not grow was copied, and lets nobody in from then on
// (Web Authentication, 6.1.1).
func (a *Auth) usePasskey(ctx context.Context, tx *sqlx.Tx, u userRow, row passkeyRow, credential webauthn.Credential, c Client) (refused, err error) {
	if row.ClonedAt != nil {
		return ErrPasskey, nil
	}
	now := database.At(a.now())
	if credential.Authenticator.CloneWarning {
		if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_passkeys SET cloned_at = ? WHERE id = ?`, now, row.ID); err != nil {
			return nil, fmt.Errorf("auth: note that passkey %s was copied: %w", row.ID, err)
		}
		return ErrPasskey, a.factorChanged(ctx, tx, u, EventPasskeyCloned, row.Name, row.Name, c)
	}
	record, err := json.Marshal(credential)
	if err != nil {
		return nil, fmt.Errorf("auth: write passkey %s: %w", row.ID, err)
	}
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_passkeys SET credential = ?, last_used_at = ? WHERE id = ?`, string(record), now, row.ID); err != nil {
		return nil, fmt.Errorf("auth: note the use of passkey %s: %w", row.ID, err)
	}
	return nil, nil
}
