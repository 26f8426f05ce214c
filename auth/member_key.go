package auth

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// MemberKey is an API key of an organisation, and whose it is.
type MemberKey struct {
	APIKey

	UserID string `json:"user_id"`
	Email  string `json:"email"`
	// Person is what they are called.
	Person string `json:"person"`
	// Role is theirs in the organisation. Empty: they have left, and the key with them.
	Role OrgRole `json:"role,omitempty"`
}

// OrganisationKeysParams choose a page of an organisation's keys.
type OrganisationKeysParams struct {
	ActorID        string
	OrganisationID string
	// Before is the id of the last key of the page before. Empty: begin with the newest.
	Before string
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// OrganisationKeys returns a page of the keys that act as an organisation, of all its members, revoked and expired ones
// too, newest first, and whether older ones follow. Its owners and administrators may see them. [ErrNoOrganisation],
// [ErrOrgRole].
func (a *Auth) OrganisationKeys(ctx context.Context, p OrganisationKeysParams) (keys []MemberKey, more bool, err error) {
	query := `SELECT k.id, k.user_id, k.account_id, k.prefix, k.name, k.secret_hash, k.scopes, k.networks, k.created_at, k.expires_at, k.last_used_at, k.revoked_at,
			u.email, u.name AS person, m.role
		FROM qs_auth_api_keys k JOIN qs_auth_users u ON u.id = k.user_id LEFT JOIN qs_auth_members m ON m.organisation_id = ? AND m.user_id = k.user_id
		WHERE (k.account_id = ? OR k.account_id IS NULL AND k.user_id = ?)`
	args := []any{p.OrganisationID, p.OrganisationID, p.OrganisationID}
	if isID(p.Before) {
		query, args = query+` AND k.id < ?`, append(args, p.Before)
	}
	limit := database.PageSize(p.Limit)
	var rows []struct {
		keyRow

		Email  string   `db:"email"`
		Person string   `db:"person"`
		Role   *OrgRole `db:"role"`
	}
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := a.lockManaged(ctx, tx, p.OrganisationID, p.ActorID); err != nil {
			return err
		}
		rows = nil
		// Runs along qs_auth_api_keys_account.
		if err := a.db.SelectTx(ctx, tx, &rows, query+` ORDER BY k.id DESC LIMIT ?`, append(args, limit+1)...); err != nil {
			return fmt.Errorf("auth: keys of organisation %s: %w", p.OrganisationID, err)
		}
		return nil
	})
	if more = len(rows) > limit; more {
		rows = rows[:limit]
	}
	keys = make([]MemberKey, len(rows))
	for i, r := range rows {
		keys[i] = MemberKey{APIKey: r.key(), UserID: r.UserID, Email: r.Email, Person: r.Person}
		if r.Role != nil {
			keys[i].Role = *r.Role
		}
	}
	return keys, more, err
}

// MemberKeyParams name a key of an organisation, and who acts on it.
type MemberKeyParams struct {
	ActorID        string
	OrganisationID string
	KeyID          string
	Client         Client
}

// RevokeMemberKey ends a key of an organisation from the next call on, whoever's it is: owners those of all, administrators
// those of all but owners. It is recorded for both. [ErrNoOrganisation], [ErrOrgRole]; [ErrNoKey] when the organisation
// has none of that id, or it is revoked.
func (a *Auth) RevokeMemberKey(ctx context.Context, p MemberKeyParams) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.RevokeMemberKeyTx(ctx, tx, p) })
}

// RevokeMemberKeyTx is [Auth.RevokeMemberKey] inside tx.
func (a *Auth) RevokeMemberKeyTx(ctx context.Context, tx *sqlx.Tx, p MemberKeyParams) error {
	o, actor, err := a.lockOrganisation(ctx, tx, p.OrganisationID, p.ActorID)
	if err != nil {
		return err
	}
	if !actor.MayManage() {
		return ErrOrgRole
	}
	if !isID(p.KeyID) {
		return ErrNoKey
	}
	var key struct {
		UserID string `db:"user_id"`
		Prefix string `db:"prefix"`
	}
	const find = `SELECT user_id, prefix FROM qs_auth_api_keys WHERE id = ? AND (account_id = ? OR account_id IS NULL AND user_id = ?) AND revoked_at IS NULL`
	err = a.db.GetTx(ctx, tx, &key, find, p.KeyID, o.ID, o.ID)
	if database.IsNoRows(err) {
		return ErrNoKey
	}
	if err != nil {
		return fmt.Errorf("auth: find key %s: %w", p.KeyID, err)
	}
	role, err := a.memberRole(ctx, tx, o.ID, key.UserID)
	switch {
	case errors.Is(err, ErrNoMember):
	case err != nil:
		return err
	case !actor.mayRule(role):
		return ErrOrgRole
	}
	n, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL`, database.At(a.now()), p.KeyID)
	if err != nil {
		return fmt.Errorf("auth: revoke key %s: %w", p.KeyID, err)
	}
	if n == 0 {
		return ErrNoKey
	}
	if key.UserID == p.ActorID {
		return a.record(ctx, tx, p.ActorID, EventKeyRevoked, key.Prefix, p.Client)
	}
	// Where the manager came from is not the member's to know.
	if err := a.record(ctx, tx, key.UserID, EventKeyRevoked, key.Prefix+" by "+p.ActorID, Client{}); err != nil {
		return err
	}
	return a.record(ctx, tx, p.ActorID, EventKeyRevoked, key.Prefix+" of "+key.UserID, p.Client)
}
