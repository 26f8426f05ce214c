package auth

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Invitation asks the owner of an e-mail address to join an organisation.
type Invitation struct {
	ID             string    `json:"id"`
	OrganisationID string    `json:"organisation_id"`
	Organisation   string    `json:"organisation"`
	Email          string    `json:"email"`
	Role           OrgRole   `json:"role"`
	CreatedAt      time.Time `json:"created_at"`
	ExpiresAt      time.Time `json:"expires_at"`
	// Expired says that it must be sent again to be accepted.
	Expired bool `json:"expired"`
}

// Errors about invitations.
var (
	// ErrNoInvitation: there is no such open invitation.
	ErrNoInvitation error = problem.New(problem.CodeNotFound, "There is no such invitation. It may have been accepted or taken back.")
	// ErrOtherAddress: the invitation is for another address than the account's.
	ErrOtherAddress error = problem.New("other_address", "This invitation is for another e-mail address. Log in with the account of the address that it was sent to.")
	// ErrIsMember: the address is that of a member already.
	ErrIsMember error = problem.New("already_member", "This person is a member already.")
)

// invitationLifetime is how long an invitation can be accepted after it was sent.
const invitationLifetime = 7 * 24 * time.Hour

// inviteLimit bounds the mails that an organisation has sent.
var inviteLimit = Limit{Max: 100, Per: time.Hour}

type invitationRow struct {
	ID             string        `db:"id"`
	OrganisationID string        `db:"organisation_id"`
	Organisation   string        `db:"organisation"`
	Email          string        `db:"email"`
	EmailKey       string        `db:"email_key"`
	Role           OrgRole       `db:"role"`
	CreatedAt      database.Time `db:"created_at"`
	ExpiresAt      database.Time `db:"expires_at"`
}

const selectInvitation = `SELECT i.id, i.organisation_id, o.name AS organisation, i.email, i.email_key, i.role, i.created_at, i.expires_at
	FROM qs_auth_invitations i JOIN qs_auth_organisations o ON o.id = i.organisation_id WHERE i.ended_at IS NULL`

func (r invitationRow) invitation(now time.Time) Invitation {
	return Invitation{r.ID, r.OrganisationID, r.Organisation, r.Email, r.Role, r.CreatedAt.Time, r.ExpiresAt.Time, !r.ExpiresAt.After(now)}
}

// InviteParams describe an invitation.
type InviteParams struct {
	ActorID        string
	OrganisationID string
	Email          string
	// Role is the person's once they accept: every one but an owner's.
	Role   OrgRole
	Client Client
}

// Invite mails an invitation, which can be accepted once within 7 days by who has a confirmed account of the address.
// An open one for the address is replaced. Owners and administrators may. The outcome does not depend on whether the
// address has an account. [ErrNoOrganisation], [ErrOrgRole], [ErrIsMember], [ErrOrganisationFull], [ErrOrganisationEnds]; a [*RetryError] when
// the organisation has sent 100 in an hour; a problem of code "invalid" that names the fields.
func (a *Auth) Invite(ctx context.Context, p InviteParams) (i Invitation, err error) {
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		i, err = a.InviteTx(ctx, tx, p)
		return err
	})
	return i, err
}

// InviteTx is [Auth.Invite] inside tx.
func (a *Auth) InviteTx(ctx context.Context, tx *sqlx.Tx, p InviteParams) (i Invitation, err error) {
	wrong := map[string]string{}
	address, err := parseEmail(p.Email)
	if err != nil {
		wrong["email"] = problem.FieldsOf(err)["email"]
	}
	if p.Role != OrgAdmin && p.Role != OrgMember && p.Role != OrgBilling {
		wrong["role"] = "Choose admin, member or billing."
	}
	if len(wrong) > 0 {
		return i, problem.Invalid(wrong)
	}
	o, err := a.lockManaged(ctx, tx, p.OrganisationID, p.ActorID)
	if err != nil {
		return i, err
	}
	if o.DeleteAt != nil {
		return i, ErrOrganisationEnds
	}
	var n int
	const member = `SELECT COUNT(*) FROM qs_auth_members m JOIN qs_auth_users u ON u.id = m.user_id WHERE m.organisation_id = ? AND u.email_key = ?`
	if err := a.db.GetTx(ctx, tx, &n, member, o.ID, address.key); err != nil {
		return i, fmt.Errorf("auth: members of organisation %s: %w", o.ID, err)
	}
	if n > 0 {
		return i, ErrIsMember
	}
	const end = `UPDATE qs_auth_invitations SET ended_at = ? WHERE organisation_id = ? AND email_key = ? AND ended_at IS NULL`
	if _, err := a.db.ExecTx(ctx, tx, end, database.At(a.now()), o.ID, address.key); err != nil {
		return i, fmt.Errorf("auth: replace an invitation to organisation %s: %w", o.ID, err)
	}
	const count = `SELECT (SELECT COUNT(*) FROM qs_auth_members WHERE organisation_id = ?)
		+ (SELECT COUNT(*) FROM qs_auth_invitations WHERE organisation_id = ? AND ended_at IS NULL)`
	if err := a.db.GetTx(ctx, tx, &n, count, o.ID, o.ID); err != nil {
		return i, fmt.Errorf("auth: count the members of organisation %s: %w", o.ID, err)
	}
	if n >= maxMembers {
		return i, ErrOrganisationFull
	}
	id, err := newID()
	if err != nil {
		return i, err
	}
	token, hash := newSecret()
	now := a.now()
	row := invitationRow{id, o.ID, o.Name, address.shown, address.key, p.Role, database.At(now), database.At(now.Add(invitationLifetime))}
	const insert = `INSERT INTO qs_auth_invitations (id, organisation_id, token_hash, email, email_key, role, invited_by, created_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	if _, err := a.db.ExecTx(ctx, tx, insert, row.ID, row.OrganisationID, hash, row.Email, row.EmailKey, row.Role, p.ActorID, row.CreatedAt, row.ExpiresAt); err != nil {
		return i, fmt.Errorf("auth: write an invitation to organisation %s: %w", o.ID, err)
	}
	if err := a.sendInvitation(ctx, tx, row, token); err != nil {
		return i, err
	}
	return row.invitation(now), a.record(ctx, tx, p.ActorID, EventOrgInvited, o.ID, p.Client)
}

// lockManaged locks an organisation for who may look after its members.
func (a *Auth) lockManaged(ctx context.Context, tx *sqlx.Tx, orgID, actorID string) (Organisation, error) {
	o, role, err := a.lockOrganisation(ctx, tx, orgID, actorID)
	if err == nil && !role.MayManage() {
		err = ErrOrgRole
	}
	return o, err
}

// sendInvitation counts and mails. Beyond the limit of the address nothing is sent, which the organisation cannot tell.
func (a *Auth) sendInvitation(ctx context.Context, tx *sqlx.Tx, i invitationRow, token string) error {
	left, err := a.count(ctx, tx, "invite\x00"+i.OrganisationID, inviteLimit)
	if err != nil {
		return err
	}
	if left > 0 {
		return &RetryError{Code: problem.CodeTooMany, Message: "Your organisation has sent many invitations. Try again later.", After: left}
	}
	if allowed, err := a.mailAllowed(ctx, tx, email{i.Email, i.EmailKey}); err != nil || !allowed {
		return err
	}
	data := InvitationMail{Organisation: i.Organisation, Role: i.Role.Label(), Link: a.url("/invitation?token=" + url.QueryEscape(token))}
	return a.sendTo(ctx, tx, kindInvitation, i.Email, "", data)
}

// InvitationParams name an open invitation.
type InvitationParams struct {
	ActorID        string
	OrganisationID string
	ID             string
	Client         Client
}

// ResendInvitation mails an open invitation again, with a new link in the place of the old one, for 7 more days.
// [ErrNoOrganisation], [ErrOrgRole], [ErrNoInvitation]; a [*RetryError] as [Auth.Invite].
func (a *Auth) ResendInvitation(ctx context.Context, p InvitationParams) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.ResendInvitationTx(ctx, tx, p) })
}

// ResendInvitationTx is [Auth.ResendInvitation] inside tx.
func (a *Auth) ResendInvitationTx(ctx context.Context, tx *sqlx.Tx, p InvitationParams) error {
	row, err := a.openInvitation(ctx, tx, p)
	if err != nil {
		return err
	}
	token, hash := newSecret()
	const renew = `UPDATE qs_auth_invitations SET token_hash = ?, expires_at = ? WHERE id = ?`
	if _, err := a.db.ExecTx(ctx, tx, renew, hash, database.At(a.now().Add(invitationLifetime)), row.ID); err != nil {
		return fmt.Errorf("auth: renew invitation %s: %w", row.ID, err)
	}
	return a.sendInvitation(ctx, tx, row, token)
}

// RevokeInvitation takes an open invitation back. [ErrNoOrganisation], [ErrOrgRole], [ErrNoInvitation].
func (a *Auth) RevokeInvitation(ctx context.Context, p InvitationParams) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.RevokeInvitationTx(ctx, tx, p) })
}

// RevokeInvitationTx is [Auth.RevokeInvitation] inside tx.
func (a *Auth) RevokeInvitationTx(ctx context.Context, tx *sqlx.Tx, p InvitationParams) error {
	row, err := a.openInvitation(ctx, tx, p)
	if err != nil {
		return err
	}
	if err := a.endInvitation(ctx, tx, row.ID); err != nil {
		return err
	}
	return a.record(ctx, tx, p.ActorID, EventOrgInviteRevoked, p.OrganisationID, p.Client)
}

func (a *Auth) endInvitation(ctx context.Context, tx *sqlx.Tx, id string) error {
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_invitations SET ended_at = ? WHERE id = ?`, database.At(a.now()), id); err != nil {
		return fmt.Errorf("auth: end invitation %s: %w", id, err)
	}
	return nil
}

// openInvitation locks the organisation and finds one of its open invitations.
func (a *Auth) openInvitation(ctx context.Context, tx *sqlx.Tx, p InvitationParams) (row invitationRow, err error) {
	o, err := a.lockManaged(ctx, tx, p.OrganisationID, p.ActorID)
	if err != nil {
		return row, err
	}
	if !isID(p.ID) {
		return row, ErrNoInvitation
	}
	err = a.db.GetTx(ctx, tx, &row, selectInvitation+` AND i.id = ? AND i.organisation_id = ?`, p.ID, o.ID)
	if database.IsNoRows(err) {
		return row, ErrNoInvitation
	}
	if err != nil {
		return row, fmt.Errorf("auth: find invitation %s: %w", p.ID, err)
	}
	return row, nil
}

// Invitations are the open ones of an organisation, expired ones too, newest first, for its owners and administrators.
// There are at most 500. [ErrNoOrganisation], [ErrOrgRole].
func (a *Auth) Invitations(ctx context.Context, actorID, orgID string) ([]Invitation, error) {
	var rows []invitationRow
	err := a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		o, err := a.lockManaged(ctx, tx, orgID, actorID)
		if err != nil {
			return err
		}
		rows = nil
		if err := a.db.SelectTx(ctx, tx, &rows, selectInvitation+` AND i.organisation_id = ? ORDER BY i.id DESC LIMIT 500`, o.ID); err != nil {
			return fmt.Errorf("auth: invitations of organisation %s: %w", orgID, err)
		}
		return nil
	})
	invitations := make([]Invitation, len(rows))
	for i, r := range rows {
		invitations[i] = r.invitation(a.now())
	}
	return invitations, err
}

// FindInvitation returns what a mailed link is for, without spending it; [ErrLink] when it does not work.
func (a *Auth) FindInvitation(ctx context.Context, token string) (Invitation, error) {
	if !isSecret(token) || a.cfg.WithoutOrganisations {
		return Invitation{}, ErrLink
	}
	var row invitationRow
	err := a.db.Get(ctx, &row, selectInvitation+` AND i.token_hash = ? AND i.expires_at > ?`, hashSecret(token), database.At(a.now()))
	if database.IsNoRows(err) {
		return Invitation{}, ErrLink
	}
	if err != nil {
		return Invitation{}, fmt.Errorf("auth: look for an invitation: %w", err)
	}
	return row.invitation(a.now()), nil
}

// invitedTo is the organisation of a link, before it is locked; [ErrLink].
func (a *Auth) invitedTo(ctx context.Context, tx *sqlx.Tx, token string) (id string, err error) {
	if !isSecret(token) || a.cfg.WithoutOrganisations {
		return "", ErrLink
	}
	err = a.db.GetTx(ctx, tx, &id, `SELECT organisation_id FROM qs_auth_invitations WHERE token_hash = ?`, hashSecret(token))
	if database.IsNoRows(err) {
		return "", ErrLink
	}
	if err != nil {
		return "", fmt.Errorf("auth: look for an invitation: %w", err)
	}
	return id, nil
}

// AcceptParams are what a signed-in person shows to join an organisation.
type AcceptParams struct {
	// Token is that of the link.
	Token  string
	UserID string
	// SessionID acts for the organisation from then on. Empty: none does.
	SessionID string
	Client    Client
}

// AcceptInvitation makes the person a member. [ErrLink] when the link does not work; [ErrOtherAddress] when it was sent
// to another address; [ErrUnverified], [ErrDisabled], [ErrTooManyOrganisations], [ErrNotFound].
func (a *Auth) AcceptInvitation(ctx context.Context, p AcceptParams) (o Organisation, err error) {
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		o, err = a.AcceptInvitationTx(ctx, tx, p)
		return err
	})
	return o, err
}

// AcceptInvitationTx is [Auth.AcceptInvitation] inside tx.
func (a *Auth) AcceptInvitationTx(ctx context.Context, tx *sqlx.Tx, p AcceptParams) (o Organisation, err error) {
	orgID, err := a.invitedTo(ctx, tx, p.Token)
	if err != nil {
		return o, err
	}
	u, err := a.lockJoiner(ctx, tx, p.UserID)
	if err != nil {
		return o, err
	}
	if o, err = a.lockOrganisationRow(ctx, tx, orgID); err == ErrNoOrganisation { //nolint:errorlint // our own sentinel, which is never wrapped here
		err = ErrLink
	}
	if err != nil {
		return o, err
	}
	// Under the lock nobody else accepts, renews or revokes it.
	var row invitationRow
	err = a.db.GetTx(ctx, tx, &row, selectInvitation+` AND i.token_hash = ? AND i.expires_at > ?`, hashSecret(p.Token), database.At(a.now()))
	if database.IsNoRows(err) {
		return o, ErrLink
	}
	if err != nil {
		return o, fmt.Errorf("auth: find an invitation: %w", err)
	}
	if row.EmailKey != u.EmailKey {
		return o, ErrOtherAddress
	}
	if err := a.endInvitation(ctx, tx, row.ID); err != nil {
		return o, err
	}
	// Whoever changed their address to that of an invitation may be a member already.
	_, err = a.memberRole(ctx, tx, row.OrganisationID, u.ID)
	switch {
	case err == nil:
		return o, ErrIsMember
	case err != ErrNoMember: //nolint:errorlint // our own sentinel, which is never wrapped here
		return o, err
	}
	if err := a.addMember(ctx, tx, row.OrganisationID, u.ID, row.Role); err != nil {
		return o, err
	}
	if err := a.beginIn(ctx, tx, u.ID, p.SessionID, row.OrganisationID); err != nil {
		return o, err
	}
	if row.Role.isContact() {
		if err := a.contactsChanged(ctx, tx, row.OrganisationID); err != nil {
			return o, err
		}
	}
	return o, a.record(ctx, tx, u.ID, EventOrgJoined, string(row.Role)+" of "+o.ID, p.Client)
}

// beginIn has a locked user's new sessions begin in an organisation, and one that is under way go on there.
func (a *Auth) beginIn(ctx context.Context, tx *sqlx.Tx, userID, sessionID, orgID string) error {
	_, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_users SET organisation_id = ? WHERE id = ?`, orgID, userID)
	if err == nil && isID(sessionID) {
		_, err = a.db.ExecTx(ctx, tx, `UPDATE qs_auth_sessions SET organisation_id = ? WHERE id = ? AND user_id = ?`, orgID, sessionID, userID)
	}
	if err != nil {
		return fmt.Errorf("auth: let user %s begin in organisation %s: %w", userID, orgID, err)
	}
	return nil
}
