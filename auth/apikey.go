package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// KeyPattern finds API keys in text, for secret scanners (RE2 syntax). A match whose last six characters are not the
// checksum of what stands before is no key of ours; [IsAPIKey] tells.
const KeyPattern = `\bqs_(?:live|test)_[a-z0-9]{12}\.[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}`

// An API key is prefix.secret. The prefix is qs_live_ or qs_test_ and the key's name; the secret is as newSecret makes
// it, with a checksum of all that stands before.
const (
	keyNameChars  = 12
	maxKeys       = 100
	maxKeyYears   = 100
	keyUsedEvery  = time.Minute
	keyNameDigits = "abcdefghijklmnopqrstuvwxyz0123456789"
)

// APIKey lets a program act for its owner. Its secret is not kept.
type APIKey struct {
	ID string `json:"id"`
	// AccountID is the account that it acts as.
	AccountID string `json:"account_id"`
	// Prefix is the part of the key before the dot, by which its owner knows it again.
	Prefix string `json:"prefix"`
	Name   string `json:"name"`
	// Scopes are what it may do; see [APIKey.Allows].
	Scopes []string `json:"scopes"`
	// Networks are the addresses from where it works. Empty: from everywhere.
	Networks  []netip.Prefix `json:"networks"`
	CreatedAt time.Time      `json:"created_at"`
	// ExpiresAt is when it stops working. Nil: never.
	ExpiresAt *time.Time `json:"expires_at"`
	// LastUsedAt is right to the minute.
	LastUsedAt *time.Time `json:"last_used_at"`
	RevokedAt  *time.Time `json:"revoked_at"`
}

// Allows tells that the key has a scope. A key without scopes allows nothing.
func (k APIKey) Allows(scope string) bool { return slices.Contains(k.Scopes, scope) }

type keyRow struct {
	ID         string         `db:"id"`
	UserID     string         `db:"user_id"`
	AccountID  *string        `db:"account_id"` // nil: the user's id
	Prefix     string         `db:"prefix"`
	Name       string         `db:"name"`
	SecretHash []byte         `db:"secret_hash"`
	Scopes     string         `db:"scopes"`
	Networks   networks       `db:"networks"`
	CreatedAt  database.Time  `db:"created_at"`
	ExpiresAt  *database.Time `db:"expires_at"`
	LastUsedAt *database.Time `db:"last_used_at"`
	RevokedAt  *database.Time `db:"revoked_at"`
}

const keyColumns = `id, user_id, account_id, prefix, name, secret_hash, scopes, networks, created_at, expires_at, last_used_at, revoked_at`

func (r keyRow) key() APIKey {
	return APIKey{ID: r.ID, AccountID: r.account(), Prefix: r.Prefix, Name: r.Name, Scopes: strings.Fields(r.Scopes), Networks: r.Networks, CreatedAt: r.CreatedAt.Time, ExpiresAt: r.ExpiresAt.Std(), LastUsedAt: r.LastUsedAt.Std(),
		RevokedAt: r.RevokedAt.Std()}
}

func (r keyRow) account() string {
	if r.AccountID != nil {
		return *r.AccountID
	}
	return r.UserID
}

// CreateAPIKeyParams describe a key.
type CreateAPIKeyParams struct {
	UserID string
	// AccountID is the account that the key acts as: the user's own or an organisation in which their role makes keys. Empty:
	// their own.
	AccountID string
	// Name says what it is for, 1 to 100 characters.
	Name string
	// ExpiresAt is when it stops working, in the future and within 100 years. Nil: never.
	ExpiresAt *time.Time
	// Scopes are what it may do, of Config.KeyScopes. Nil where the host has but one: that one.
	Scopes []string
	// Networks are the addresses from where it works, at most 20. Nil: from everywhere.
	Networks []netip.Prefix
	Client   Client
}

// CreateAPIKey makes a key. token is the whole key, and cannot be had again. [ErrUnverified] and [ErrDisabled] when the
// account may have none; [ErrTooManyKeys] when it has 100; [ErrNoOrganisation],
// [ErrOrgRole] and [ErrOrganisationEnds] when they may have none of the account; [ErrNotFound]; a problem of code "invalid" that names the
// fields.
func (a *Auth) CreateAPIKey(ctx context.Context, p CreateAPIKeyParams) (key APIKey, token string, err error) {
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		key, token, err = a.CreateAPIKeyTx(ctx, tx, p)
		return err
	})
	return key, token, err
}

// CreateAPIKeyTx is [Auth.CreateAPIKey] inside tx.
func (a *Auth) CreateAPIKeyTx(ctx context.Context, tx *sqlx.Tx, p CreateAPIKeyParams) (key APIKey, token string, err error) {
	now := a.now()
	p.Name = strings.TrimSpace(p.Name)
	wrong := map[string]string{}
	if p.Name == "" {
		wrong["name"] = "Say what the key is for."
	} else if message := checkLine(p.Name); message != "" {
		wrong["name"] = message
	}
	switch {
	case p.ExpiresAt == nil:
	case !p.ExpiresAt.After(now):
		wrong["expires_at"] = "Choose a day in the future, or none."
	case p.ExpiresAt.After(now.AddDate(maxKeyYears, 0, 0)):
		wrong["expires_at"] = "Choose a day within the next 100 years, or none."
	}
	if len(p.Scopes) == 0 && len(a.cfg.KeyScopes) == 1 {
		p.Scopes = a.cfg.KeyScopes
	}
	if message := a.checkScopes(p.Scopes); message != "" {
		wrong["scopes"] = message
	}
	if len(p.Networks) > maxNetworks {
		wrong["networks"] = fmt.Sprintf("Use at most %d networks.", maxNetworks)
	}
	if len(wrong) > 0 {
		return key, "", problem.Invalid(wrong)
	}
	u, err := a.lockUser(ctx, tx, p.UserID)
	switch {
	case err != nil:
		return key, "", err
	case u.DisabledAt != nil:
		return key, "", ErrDisabled
	case u.VerifiedAt == nil:
		return key, "", ErrUnverified
	}
	if err := a.mayMakeKeys(ctx, tx, u, &p.AccountID); err != nil {
		return key, "", err
	}
	var n int
	const count = `SELECT COUNT(*) FROM qs_auth_api_keys WHERE user_id = ? AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)`
	if err := a.db.GetTx(ctx, tx, &n, count, u.ID, database.At(now)); err != nil {
		return key, "", fmt.Errorf("auth: count the keys of user %s: %w", u.ID, err)
	}
	if n >= maxKeys {
		return key, "", ErrTooManyKeys
	}
	row, secret, err := a.insertKey(ctx, tx, keyRow{UserID: u.ID, AccountID: &p.AccountID, Name: p.Name, Scopes: joinScopes(p.Scopes), Networks: p.Networks, CreatedAt: database.At(now), ExpiresAt: database.AtPtr(p.ExpiresAt)})
	if err != nil {
		return key, "", err
	}
	if err := a.record(ctx, tx, u.ID, EventKeyCreated, row.Prefix, p.Client); err != nil {
		return key, "", err
	}
	return row.key(), withChecksum(row.Prefix + "." + secret), nil
}

// prefixTries is how many prefixes are drawn before something must be wrong; there are 36^12.
const prefixTries = 3

func (a *Auth) insertKey(ctx context.Context, tx *sqlx.Tx, row keyRow) (keyRow, string, error) {
	id, err := newID()
	if err != nil {
		return row, "", err
	}
	secret, hash := newSecret()
	row.ID, row.SecretHash = id, hash
	const insert = `INSERT INTO qs_auth_api_keys (id, user_id, account_id, prefix, name, secret_hash, scopes, networks, created_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (prefix) DO NOTHING`
	for range prefixTries {
		row.Prefix = a.cfg.KeyMode.mark() + newKeyName()
		n, err := a.db.ExecTx(ctx, tx, insert, row.ID, row.UserID, row.AccountID, row.Prefix, row.Name, row.SecretHash, row.Scopes, row.Networks, row.CreatedAt, row.ExpiresAt)
		if err != nil {
			return row, "", fmt.Errorf("auth: write a key of user %s: %w", row.UserID, err)
		}
		if n == 1 {
			return row, secret, nil
		}
	}
	return row, "", fmt.Errorf("auth: no free prefix in %d tries", prefixTries)
}

func newKeyName() string {
	name := make([]byte, 0, keyNameChars)
	for len(name) < keyNameChars {
		var b [1]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand documentation)
		// Bytes beyond the last whole multiple would make the first characters likelier.
		if at := int(b[0]); at < 256/len(keyNameDigits)*len(keyNameDigits) {
			name = append(name, keyNameDigits[at%len(keyNameDigits)])
		}
	}
	return string(name)
}

// parseKey cuts a key into its parts; false when it has not the form of one.
func parseKey(token string) (prefix, secret string, ok bool) {
	if len(token) < keyCheckChars || withChecksum(token[:len(token)-keyCheckChars]) != token {
		return "", "", false
	}
	prefix, secret, ok = strings.Cut(token[:len(token)-keyCheckChars], ".")
	name, marked := strings.CutPrefix(prefix, KeyLive.mark())
	if !marked {
		name, marked = strings.CutPrefix(prefix, KeyTest.mark())
	}
	if !ok || !marked || len(name) != keyNameChars || !isSecret(secret) {
		return "", "", false
	}
	for _, c := range []byte(name) {
		if strings.IndexByte(keyNameDigits, c) < 0 {
			return "", "", false
		}
	}
	return prefix, secret, true
}

// AuthenticateRequest returns whose the API key of a request is, as [BearerToken] finds it. [ErrKey] as
// [Auth.AuthenticateKey], and when the key does not work from the client's address.
func (a *Auth) AuthenticateRequest(r *http.Request) (User, APIKey, error) {
	token, ok := BearerToken(r)
	if !ok {
		return User{}, APIKey{}, ErrKey
	}
	addr, _ := netip.ParseAddr(ClientOf(a.behindProxy(r)).IP)
	return a.authenticateKey(r.Context(), token, addr)
}

// AuthenticateKey returns whose an API key is. [ErrKey], and nothing more, when it is wrong, expired or revoked, made for
// the other mode or for some networks only, or its owner is unverified or disabled. It reads one row.
func (a *Auth) AuthenticateKey(ctx context.Context, token string) (User, APIKey, error) {
	return a.authenticateKey(ctx, token, netip.Addr{})
}

func (a *Auth) authenticateKey(ctx context.Context, token string, from netip.Addr) (User, APIKey, error) {
	prefix, secret, ok := parseKey(token)
	if !ok || !strings.HasPrefix(prefix, a.cfg.KeyMode.mark()) {
		return User{}, APIKey{}, ErrKey
	}
	var row struct {
		userRow
		Key  keyRow   `db:"key"`
		Role *OrgRole `db:"key_role"`
	}
	const query = `SELECT ` + userColumns + `,
			k.id AS "key.id", k.user_id AS "key.user_id", k.prefix AS "key.prefix", k.name AS "key.name", k.secret_hash AS "key.secret_hash",
			k.account_id AS "key.account_id", m.role AS key_role, k.scopes AS "key.scopes", k.networks AS "key.networks",
			k.created_at AS "key.created_at", k.expires_at AS "key.expires_at", k.last_used_at AS "key.last_used_at", k.revoked_at AS "key.revoked_at"
		FROM qs_auth_api_keys k JOIN qs_auth_users u ON u.id = k.user_id
			LEFT JOIN qs_auth_members m ON m.organisation_id = COALESCE(k.account_id, k.user_id) AND m.user_id = k.user_id
		WHERE k.prefix = ?`
	err := a.db.Get(ctx, &row, query, prefix)
	if err != nil && !database.IsNoRows(err) {
		return User{}, APIKey{}, fmt.Errorf("auth: find an API key: %w", err)
	}
	now, k := a.now(), row.Key
	// An unknown prefix compares with no hash at all, which no secret has.
	right := subtle.ConstantTimeCompare(hashSecret(secret), k.SecretHash) == 1
	if !right || k.RevokedAt != nil || k.ExpiresAt != nil && !k.ExpiresAt.After(now) || row.VerifiedAt == nil || row.DisabledAt != nil ||
		!k.Networks.allow(from) || !a.actsFor(k, row.user(), row.Role) {
		return User{}, APIKey{}, ErrKey
	}
	if k.LastUsedAt == nil || now.Sub(k.LastUsedAt.Time) >= keyUsedEvery {
		if err := a.touchKey(ctx, k.ID, now); err != nil {
			// The call goes on: only the list of keys is a little behind.
			a.cfg.Logger.ErrorContext(ctx, "write the last use of an API key", slog.Any("error", err))
		}
		at := database.At(now)
		k.LastUsedAt = &at
	}
	return row.user(), k.key(), nil
}

// actsFor tells that the key's owner may act for the key's account by a key; role is theirs in it where that is an
// organisation.
func (a *Auth) actsFor(k keyRow, u User, role *OrgRole) bool {
	if k.account() == u.AccountID {
		return true
	}
	return role != nil && role.MayMakeKeys() && !a.cfg.WithoutOrganisations
}

// mayMakeKeys checks that a locked user may have keys of an account, which is their own where it is empty.
// [ErrNoOrganisation], [ErrOrgRole], [ErrOrganisationEnds].
func (a *Auth) mayMakeKeys(ctx context.Context, tx *sqlx.Tx, u userRow, account *string) error {
	own := u.user().AccountID
	setDefault(account, own)
	if *account == own {
		return nil
	}
	o, role, err := a.lockOrganisation(ctx, tx, *account, u.ID)
	switch {
	case err != nil:
		return err
	case !role.MayMakeKeys():
		return ErrOrgRole
	case o.DeleteAt != nil:
		return ErrOrganisationEnds
	}
	return nil
}

func (a *Auth) touchKey(ctx context.Context, id string, now time.Time) error {
	const update = `UPDATE qs_auth_api_keys SET last_used_at = ? WHERE id = ? AND revoked_at IS NULL AND (last_used_at IS NULL OR last_used_at <= ?)`
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := a.db.ExecTx(ctx, tx, update, database.At(now), id, database.At(now.Add(-keyUsedEvery)))
		return err
	})
}

// BearerToken returns what follows "Bearer" in the Authorization header (RFC 6750, 2.1); false when there is none.
func BearerToken(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", false
	}
	return token, true
}

// APIKeysParams choose a page of a user's keys.
type APIKeysParams struct {
	UserID string
	// AccountID leaves out the keys of other accounts. Empty: all.
	AccountID string
	// Before is the id of the last key of the page before. Empty: begin with the newest.
	Before string
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// APIKeys returns a page of a user's keys, revoked and expired ones too, newest first, and whether older ones follow.
func (a *Auth) APIKeys(ctx context.Context, p APIKeysParams) (keys []APIKey, more bool, err error) {
	if !isID(p.UserID) {
		return []APIKey{}, false, nil
	}
	// Runs along qs_auth_api_keys_user.
	l := database.NewList(`SELECT ` + keyColumns + ` FROM qs_auth_api_keys`)
	l.And(`user_id = ?`, p.UserID)
	l.If(isID(p.AccountID), `COALESCE(account_id, user_id) = ?`, p.AccountID)
	l.If(isID(p.Before), `id < ?`, p.Before)
	if keys, more, err = database.Page(ctx, a.db, l, `id DESC`, p.Limit, keyRow.key); err != nil {
		return nil, false, fmt.Errorf("auth: keys of user %s: %w", p.UserID, err)
	}
	return keys, more, nil
}

// RevokeAPIKey ends a key of a user from the next call on. [ErrNoKey] when there is none of that id, it is revoked, or
// it is another user's.
func (a *Auth) RevokeAPIKey(ctx context.Context, userID, keyID string, c Client) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.RevokeAPIKeyTx(ctx, tx, userID, keyID, c) })
}

// RevokeAPIKeyTx is [Auth.RevokeAPIKey] inside tx.
func (a *Auth) RevokeAPIKeyTx(ctx context.Context, tx *sqlx.Tx, userID, keyID string, c Client) error {
	if !isID(userID) || !isID(keyID) {
		return ErrNoKey
	}
	var prefix string
	const revoke = `UPDATE qs_auth_api_keys SET revoked_at = ? WHERE id = ? AND user_id = ? AND revoked_at IS NULL RETURNING prefix`
	err := a.db.GetTx(ctx, tx, &prefix, revoke, database.At(a.now()), keyID, userID)
	if database.IsNoRows(err) {
		return ErrNoKey
	}
	if err != nil {
		return fmt.Errorf("auth: revoke key %s: %w", keyID, err)
	}
	return a.record(ctx, tx, userID, EventKeyRevoked, prefix, c)
}

// revokeKeys ends all keys of a locked user.
func (a *Auth) revokeKeys(ctx context.Context, tx *sqlx.Tx, userID string, c Client) error {
	const revoke = `UPDATE qs_auth_api_keys SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL RETURNING prefix`
	var prefixes []string
	if err := a.db.SelectTx(ctx, tx, &prefixes, revoke, database.At(a.now()), userID); err != nil {
		return fmt.Errorf("auth: revoke the keys of user %s: %w", userID, err)
	}
	for _, prefix := range prefixes {
		if err := a.record(ctx, tx, userID, EventKeyRevoked, prefix, c); err != nil {
			return err
		}
	}
	return nil
}
