package auth

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Member is a person in an organisation.
type Member struct {
	UserID   string    `json:"user_id"`
	Email    string    `json:"email"`
	Name     string    `json:"name"`
	Role     OrgRole   `json:"role"`
	JoinedAt time.Time `json:"joined_at"`
}

// Members returns all members of an organisation to one of them, owners first and then by address. There are at most
// 500. [ErrNoOrganisation].
func (a *Auth) Members(ctx context.Context, actorID, orgID string) ([]Member, error) {
	if err := a.isMember(ctx, actorID, orgID); err != nil {
		return nil, err
	}
	var rows []memberRow
	if err := a.db.Select(ctx, &rows, selectMembers, orgID); err != nil {
		return nil, fmt.Errorf("auth: members of organisation %s: %w", orgID, err)
	}
	return membersOf(rows), nil
}

const selectMembers = `SELECT u.id, u.email, u.name, m.role, m.joined_at FROM qs_auth_members m JOIN qs_auth_users u ON u.id = m.user_id
	WHERE m.organisation_id = ? ORDER BY CASE m.role WHEN 'owner' THEN 0 WHEN 'admin' THEN 1 ELSE 2 END, u.email_key LIMIT 500`

type memberRow struct {
	ID       string        `db:"id"`
	Email    string        `db:"email"`
	Name     string        `db:"name"`
	Role     OrgRole       `db:"role"`
	JoinedAt database.Time `db:"joined_at"`
}

func membersOf(rows []memberRow) []Member {
	members := make([]Member, len(rows))
	for i, r := range rows {
		members[i] = Member{r.ID, r.Email, r.Name, r.Role, r.JoinedAt.Time}
	}
	return members
}

// membersTx are all members of a locked organisation.
func (a *Auth) membersTx(ctx context.Context, tx *sqlx.Tx, orgID string) ([]Member, error) {
	var rows []memberRow
	if err := a.db.SelectTx(ctx, tx, &rows, selectMembers, orgID); err != nil {
		return nil, fmt.Errorf("auth: members of organisation %s: %w", orgID, err)
	}
	return membersOf(rows), nil
}

// isMember reads without a lock; [ErrNoOrganisation].
func (a *Auth) isMember(ctx context.Context, userID, orgID string) error {
	if a.cfg.WithoutOrganisations {
		return ErrNoOrganisations
	}
	if !isID(userID) || !isID(orgID) {
		return ErrNoOrganisation
	}
	var n int
	if err := a.db.Get(ctx, &n, `SELECT COUNT(*) FROM qs_auth_members WHERE organisation_id = ? AND user_id = ?`, orgID, userID); err != nil {
		return fmt.Errorf("auth: member %s of organisation %s: %w", userID, orgID, err)
	}
	if n == 0 {
		return ErrNoOrganisation
	}
	return nil
}

// MemberParams name a member, and who acts on them.
type MemberParams struct {
	ActorID        string
	OrganisationID string
	UserID         string
	// Role is the member's from now on; only [Auth.SetMemberRole] reads it.
	Role   OrgRole
	Client Client
}

// SetMemberRole gives a member another role, from their next request on. Owners may give every role, administrators
// every one but an owner's, and to nobody who is an owner. [ErrNoOrganisation], [ErrOrgRole], [ErrNoMember],
// [ErrLastOwner]; a problem of code "invalid" for the field "role".
func (a *Auth) SetMemberRole(ctx context.Context, p MemberParams) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.SetMemberRoleTx(ctx, tx, p) })
}

// SetMemberRoleTx is [Auth.SetMemberRole] inside tx.
func (a *Auth) SetMemberRoleTx(ctx context.Context, tx *sqlx.Tx, p MemberParams) error {
	if !slices.Contains(orgRoles, p.Role) {
		return problem.Invalid(map[string]string{"role": "Choose owner, admin, member or billing."})
	}
	_, actor, err := a.lockOrganisation(ctx, tx, p.OrganisationID, p.ActorID)
	if err != nil {
		return err
	}
	if !actor.MayManage() {
		return ErrOrgRole
	}
	now, err := a.memberRole(ctx, tx, p.OrganisationID, p.UserID)
	if err != nil {
		return err
	}
	if !actor.mayRule(now) || !actor.mayRule(p.Role) {
		return ErrOrgRole
	}
	return a.changeRole(ctx, tx, p, now, p.Role)
}

// changeRole writes a member's role in a locked organisation.
func (a *Auth) changeRole(ctx context.Context, tx *sqlx.Tx, p MemberParams, now, role OrgRole) error {
	if now == role {
		return nil
	}
	if now == OrgOwner {
		if err := a.keepsOwner(ctx, tx, p.OrganisationID, p.UserID); err != nil {
			return err
		}
	}
	const update = `UPDATE qs_auth_members SET role = ? WHERE organisation_id = ? AND user_id = ?`
	if _, err := a.db.ExecTx(ctx, tx, update, role, p.OrganisationID, p.UserID); err != nil {
		return fmt.Errorf("auth: role of member %s of organisation %s: %w", p.UserID, p.OrganisationID, err)
	}
	if !role.MayMakeKeys() {
		if err := a.revokeMemberKeys(ctx, tx, p); err != nil {
			return err
		}
	}
	if now.isContact() || role.isContact() {
		if err := a.contactsChanged(ctx, tx, p.OrganisationID); err != nil {
			return err
		}
	}
	return a.record(ctx, tx, p.UserID, EventOrgRole, string(role)+" in "+p.OrganisationID, p.Client)
}

// keepsOwner checks that a locked organisation has an owner besides a user.
func (a *Auth) keepsOwner(ctx context.Context, tx *sqlx.Tx, orgID, userID string) error {
	var n int
	const others = `SELECT COUNT(*) FROM qs_auth_members WHERE organisation_id = ? AND role = 'owner' AND user_id <> ?`
	if err := a.db.GetTx(ctx, tx, &n, others, orgID, userID); err != nil {
		return fmt.Errorf("auth: owners of organisation %s: %w", orgID, err)
	}
	if n == 0 {
		return ErrLastOwner
	}
	return nil
}

// TransferOwnership makes a member an owner in the place of the actor, who becomes an administrator. [ErrNoOrganisation],
// [ErrOrgRole], [ErrNoMember].
func (a *Auth) TransferOwnership(ctx context.Context, p MemberParams) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.TransferOwnershipTx(ctx, tx, p) })
}

// TransferOwnershipTx is [Auth.TransferOwnership] inside tx.
func (a *Auth) TransferOwnershipTx(ctx context.Context, tx *sqlx.Tx, p MemberParams) error {
	_, actor, err := a.lockOrganisation(ctx, tx, p.OrganisationID, p.ActorID)
	if err != nil {
		return err
	}
	if actor != OrgOwner {
		return ErrOrgRole
	}
	if p.UserID == p.ActorID {
		return ErrNoMember
	}
	now, err := a.memberRole(ctx, tx, p.OrganisationID, p.UserID)
	if err != nil {
		return err
	}
	if err := a.changeRole(ctx, tx, p, now, OrgOwner); err != nil {
		return err
	}
	p.UserID = p.ActorID
	return a.changeRole(ctx, tx, p, OrgOwner, OrgAdmin)
}

// RemoveMember takes a person out of an organisation at once: their sessions that act for it end, and their API keys of
// it stop. Who removes themselves leaves, which everybody may; else owners may remove all and administrators all but
// owners. [ErrNoOrganisation], [ErrOrgRole], [ErrNoMember], [ErrLastOwner].
func (a *Auth) RemoveMember(ctx context.Context, p MemberParams) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.RemoveMemberTx(ctx, tx, p) })
}

// RemoveMemberTx is [Auth.RemoveMember] inside tx.
func (a *Auth) RemoveMemberTx(ctx context.Context, tx *sqlx.Tx, p MemberParams) error {
	_, actor, err := a.lockOrganisation(ctx, tx, p.OrganisationID, p.ActorID)
	if err != nil {
		return err
	}
	leaves := p.UserID == p.ActorID
	if !leaves && !actor.MayManage() {
		return ErrOrgRole
	}
	role, err := a.memberRole(ctx, tx, p.OrganisationID, p.UserID)
	if err != nil {
		return err
	}
	if !leaves && !actor.mayRule(role) {
		return ErrOrgRole
	}
	if role == OrgOwner {
		if err := a.keepsOwner(ctx, tx, p.OrganisationID, p.UserID); err != nil {
			return err
		}
	}
	if err := a.dropMember(ctx, tx, p, EventOrgLeft); err != nil || !role.isContact() {
		return err
	}
	return a.contactsChanged(ctx, tx, p.OrganisationID)
}

// dropMember removes a member of a locked organisation with all that acts for it in their name, and records why.
func (a *Auth) dropMember(ctx context.Context, tx *sqlx.Tx, p MemberParams, why EventKind) error {
	// A form that was open in such a session would otherwise be carried out for another account than it shows.
	const sessions = `UPDATE qs_auth_sessions SET revoked_at = ? WHERE user_id = ? AND organisation_id = ? AND revoked_at IS NULL`
	for _, step := range []struct {
		text string
		args []any
	}{
		{`DELETE FROM qs_auth_members WHERE organisation_id = ? AND user_id = ?`, []any{p.OrganisationID, p.UserID}},
		{sessions, []any{database.At(a.now()), p.UserID, p.OrganisationID}},
		{`UPDATE qs_auth_users SET organisation_id = NULL WHERE id = ? AND organisation_id = ?`, []any{p.UserID, p.OrganisationID}},
	} {
		if _, err := a.db.ExecTx(ctx, tx, step.text, step.args...); err != nil {
			return fmt.Errorf("auth: remove member %s of organisation %s: %w", p.UserID, p.OrganisationID, err)
		}
	}
	if err := a.revokeMemberKeys(ctx, tx, p); err != nil {
		return err
	}
	return a.record(ctx, tx, p.UserID, why, p.OrganisationID, p.Client)
}

// revokeMemberKeys ends the keys of an organisation that a member made.
func (a *Auth) revokeMemberKeys(ctx context.Context, tx *sqlx.Tx, p MemberParams) error {
	return a.revokeAccountKeys(ctx, tx, p.OrganisationID, p.UserID, p.Client)
}

// revokeAccountKeys ends the keys that act as an account: all, or those of one user.
func (a *Auth) revokeAccountKeys(ctx context.Context, tx *sqlx.Tx, accountID, userID string, c Client) error {
	// Runs along qs_auth_api_keys_account and _user: a key without an account acts as its user's id.
	revoke, args := `UPDATE qs_auth_api_keys SET revoked_at = ? WHERE (account_id = ? OR account_id IS NULL AND user_id = ?) AND revoked_at IS NULL`,
		[]any{database.At(a.now()), accountID, accountID}
	if userID != "" {
		revoke, args = revoke+` AND user_id = ?`, append(args, userID)
	}
	var ended []struct {
		UserID string `db:"user_id"`
		Prefix string `db:"prefix"`
	}
	if err := a.db.SelectTx(ctx, tx, &ended, revoke+` RETURNING user_id, prefix`, args...); err != nil {
		return fmt.Errorf("auth: revoke the keys of account %s: %w", accountID, err)
	}
	for _, k := range ended {
		if err := a.record(ctx, tx, k.UserID, EventKeyRevoked, k.Prefix, c); err != nil {
			return err
		}
	}
	return nil
}
