package auth

import (
	"context"
	"database/sql/driver"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// KeyMode is what an API key is for.
type KeyMode string

// The modes.
const (
	KeyLive KeyMode = "live"
	KeyTest KeyMode = "test"
)

func (m KeyMode) mark() string { return "qs_" + string(m) + "_" }

// DefaultKeyScope is the one scope where a host names none.
const DefaultKeyScope = "api"

const (
	maxScope      = 40
	maxNetworks   = 20
	keyCheckChars = 6
	keyDigits     = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// withChecksum adds the CRC-32 (IEEE) of s as six digits of base 62, by which a scanner tells a key from what only looks
// like one, without asking us.
func withChecksum(s string) string {
	sum := crc32.ChecksumIEEE([]byte(s))
	check := make([]byte, keyCheckChars)
	for i := range slices.Backward(check) {
		check[i] = keyDigits[sum%uint32(len(keyDigits))]
		sum /= uint32(len(keyDigits))
	}
	return s + string(check)
}

// IsAPIKey tells that s has the form of an API key and the right checksum.
func IsAPIKey(s string) bool {
	_, _, ok := parseKey(s)
	return ok
}

func isScope(s string) bool {
	return s != "" && len(s) <= maxScope && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789:._-") == ""
}

// checkScopes returns the sentence about scopes that are none of the host's, or "".
func (a *Auth) checkScopes(scopes []string) string {
	for _, scope := range scopes {
		if !slices.Contains(a.cfg.KeyScopes, scope) {
			return "Choose what the key may do from the list."
		}
	}
	if len(scopes) == 0 {
		return "Choose what the key may do."
	}
	return ""
}

func joinScopes(scopes []string) string {
	scopes = slices.Clone(scopes)
	slices.Sort(scopes)
	return strings.Join(slices.Compact(scopes), " ")
}

// networks are stored between spaces.
type networks []netip.Prefix

// allow tells that an address is within. An unknown one is within only where there is no restriction.
func (n networks) allow(addr netip.Addr) bool {
	return len(n) == 0 || slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func (n networks) String() string {
	list := make([]string, len(n))
	for i, p := range n {
		list[i] = p.Masked().String()
	}
	return strings.Join(list, " ")
}

// Value implements driver.Valuer.
func (n networks) Value() (driver.Value, error) { return n.String(), nil }

// Scan implements sql.Scanner.
func (n *networks) Scan(src any) error {
	var text string
	switch v := src.(type) {
	case string:
		text = v
	case []byte:
		text = string(v)
	default:
		return fmt.Errorf("auth: networks of an API key from %T", src)
	}
	parsed, err := parseNetworks(text)
	*n = parsed
	return err
}

// parseNetworks reads addresses and CIDRs between spaces or commas.
func parseNetworks(s string) (networks, error) {
	n := networks{}
	for _, field := range strings.FieldsFunc(s, func(c rune) bool { return strings.ContainsRune(" ,\r\n\t", c) }) {
		p, err := netip.ParsePrefix(field)
		if addr, addrErr := netip.ParseAddr(field); addrErr == nil {
			p, err = addr.Unmap().WithZone("").Prefix(addr.Unmap().BitLen())
		}
		if err != nil || p.Addr().Is4In6() {
			return nil, problem.Invalid(map[string]string{"networks": "Enter addresses such as 192.0.2.7 or 2001:db8::/32."})
		}
		n = append(n, p.Masked())
	}
	return n, nil
}

// maxOverlap is how long an old key can work beside the one in its place.
const maxOverlap = 7 * 24 * time.Hour

// RegenerateAPIKeyParams name a key to be replaced.
type RegenerateAPIKeyParams struct {
	UserID string
	KeyID  string
	// Overlap is how long the old key still works, at most 7 days. 0: no longer.
	Overlap time.Duration
	Client  Client
}

// RegenerateAPIKey makes a key of the same name, scopes, networks and expiry, and ends the old one after the overlap.
// token is the whole new key, and cannot be had again. [ErrNoKey] when there is none of that id, it has ended, or it is
// another user's; else as [Auth.CreateAPIKey].
func (a *Auth) RegenerateAPIKey(ctx context.Context, p RegenerateAPIKeyParams) (key APIKey, token string, err error) {
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		key, token, err = a.RegenerateAPIKeyTx(ctx, tx, p)
		return err
	})
	return key, token, err
}

// RegenerateAPIKeyTx is [Auth.RegenerateAPIKey] inside tx.
func (a *Auth) RegenerateAPIKeyTx(ctx context.Context, tx *sqlx.Tx, p RegenerateAPIKeyParams) (key APIKey, token string, err error) {
	if p.Overlap < 0 || p.Overlap > maxOverlap {
		return key, "", problem.Invalid(map[string]string{"overlap": "The old key can work for 7 days more at most."})
	}
	u, err := a.lockUser(ctx, tx, p.UserID)
	if err != nil {
		return key, "", err
	}
	if !isID(p.KeyID) {
		return key, "", ErrNoKey
	}
	var old keyRow
	now := a.now()
	const query = `SELECT ` + keyColumns + ` FROM qs_auth_api_keys WHERE id = ? AND user_id = ? AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)`
	err = a.db.GetTx(ctx, tx, &old, query+a.db.Dialect().ForUpdate(), p.KeyID, u.ID, database.At(now))
	if database.IsNoRows(err) {
		return key, "", ErrNoKey
	}
	if err != nil {
		return key, "", fmt.Errorf("auth: find key %s: %w", p.KeyID, err)
	}
	if err := a.retireKey(ctx, tx, old, now.Add(p.Overlap), p.Client); err != nil {
		return key, "", err
	}
	return a.CreateAPIKeyTx(ctx, tx, CreateAPIKeyParams{UserID: u.ID, AccountID: old.account(), Name: old.Name, ExpiresAt: old.ExpiresAt.Std(), Scopes: strings.Fields(old.Scopes),
		Networks: old.Networks, Client: p.Client})
}

// retireKey ends a key at a moment: now, or when its successor has taken over.
func (a *Auth) retireKey(ctx context.Context, tx *sqlx.Tx, k keyRow, at time.Time, c Client) error {
	if !at.After(a.now()) {
		return a.RevokeAPIKeyTx(ctx, tx, k.UserID, k.ID, c)
	}
	if k.ExpiresAt != nil && k.ExpiresAt.Before(at) {
		return nil
	}
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_api_keys SET expires_at = ? WHERE id = ?`, database.At(at), k.ID); err != nil {
		return fmt.Errorf("auth: retire key %s: %w", k.ID, err)
	}
	return a.record(ctx, tx, k.UserID, EventKeyReplaced, k.Prefix, c)
}
