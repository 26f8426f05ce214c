package auth

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// OrgRole is what a member may do in an organisation.
type OrgRole string

// The roles in an organisation. All of them use its services and credits.
const (
	// OrgOwner may do everything. There is always one at least.
	OrgOwner OrgRole = "owner"
	// OrgAdmin may pay and look after members, but not after owners.
	OrgAdmin OrgRole = "admin"
	// OrgMember may use services, credits and API keys.
	OrgMember OrgRole = "member"
	// OrgBilling may pay, and makes no API keys.
	OrgBilling OrgRole = "billing"
)

// orgRoles are all of them, the mightiest first.
var orgRoles = []OrgRole{OrgOwner, OrgAdmin, OrgMember, OrgBilling}

// Label is the role as people read it.
func (r OrgRole) Label() string {
	return map[OrgRole]string{OrgOwner: "Owner", OrgAdmin: "Administrator", OrgMember: "Member", OrgBilling: "Billing"}[r]
}

// MayPay tells that the role sees and changes what is paid for.
func (r OrgRole) MayPay() bool { return r == OrgOwner || r == OrgAdmin || r == OrgBilling }

// isContact tells that the role is written to about money; see [Auth.AccountContacts].
func (r OrgRole) isContact() bool { return r == OrgOwner || r == OrgBilling }

// MayManage tells that the role names the organisation, invites, and looks after members, roles and their API keys.
func (r OrgRole) MayManage() bool { return r == OrgOwner || r == OrgAdmin }

// MayMakeKeys tells that the role makes API keys that act as the organisation.
func (r OrgRole) MayMakeKeys() bool { return r == OrgOwner || r == OrgAdmin || r == OrgMember }

// mayRule tells that the role may give or take another one: what concerns owners is the owners'.
func (r OrgRole) mayRule(other OrgRole) bool {
	return r == OrgOwner || r == OrgAdmin && other != OrgOwner
}

// Account is what a signed-in person acts for: their own account, or an organisation that they are a member of.
type Account struct {
	// ID is the account id of the ledger and billing.
	ID string `json:"id"`
	// Name is the organisation's. Empty: the person's own account.
	Name string `json:"name"`
	// Role is the person's in it. In their own account they are its owner.
	Role OrgRole `json:"role"`
}

// Personal tells that it is the person's own account.
func (a Account) Personal() bool { return a.Name == "" }

// Organisation is an account that several people share.
type Organisation struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
	// DeleteAt is when it is erased, as one of its owners asked. Nil: never.
	DeleteAt *time.Time `json:"delete_at,omitempty"`
}

// Errors about organisations.
var (
	// ErrNoOrganisation: there is no such organisation, or the person is not a member of it.
	ErrNoOrganisation error = problem.New(problem.CodeNotFound, "There is no such organisation, or you are not a member of it.")
	// ErrOrgRole: the role in the organisation does not allow it.
	ErrOrgRole error = problem.New(problem.CodeForbidden, "Your role in this organisation does not allow this. Ask one of its owners.")
	// ErrNoMember: there is no such member.
	ErrNoMember error = problem.New(problem.CodeNotFound, "There is no such member in this organisation.")
	// ErrLastOwner: an organisation would be left without an owner.
	ErrLastOwner error = problem.New("last_owner", "An organisation needs an owner. Give the ownership to another member first, or delete the organisation.")
	// ErrOrganisationFull: the organisation has as many members and open invitations as it may have.
	ErrOrganisationFull error = problem.New("organisation_full", "This organisation has as many members and open invitations as it can have.")
	// ErrTooManyOrganisations: the person is in as many organisations as one may be.
	ErrTooManyOrganisations error = problem.New("too_many_organisations", "You are in as many organisations as a person can be.")
	// ErrOrganisationEnds: the organisation is to be deleted, and takes no members and no API keys any more.
	ErrOrganisationEnds error = problem.New(problem.CodeConflict, "This organisation is to be deleted. An owner has to keep it first.")
	// ErrNoOrganisations: the host has turned organisations off.
	ErrNoOrganisations error = problem.New(problem.CodeNotFound, "There are no organisations here.")
)

// Bounds of organisations.
const (
	maxMembers       = 500 // with open invitations
	maxOrganisations = 50
)

// accountRow is the organisation that a row of users or sessions is in, where its columns are not NULL.
type accountRow struct {
	ID   *string  `db:"id"`
	Name *string  `db:"name"`
	Role *OrgRole `db:"role"`
}

// account is what the row says, or the user's own account.
func (r accountRow) account(u User) Account {
	if r.ID == nil || r.Name == nil || r.Role == nil {
		return Account{ID: u.AccountID, Role: OrgOwner}
	}
	return Account{ID: *r.ID, Name: *r.Name, Role: *r.Role}
}

// CreateOrganisationParams describe a new organisation.
type CreateOrganisationParams struct {
	// UserID is who makes it and is its first owner.
	UserID string
	// Name is 1 to 100 characters.
	Name string
	// Share turns the person's own account into the organisation, with its credits, subscription, payments and API keys;
	// the person's own account is a new and empty one from then on. Else the organisation begins with nothing.
	Share bool
	// SessionID acts for the organisation from then on. Empty: none does.
	SessionID string
	Client    Client
}

// CreateOrganisation makes an organisation, which the person's new sessions begin in. [ErrNoOrganisations],
// [ErrUnverified], [ErrDisabled], [ErrTooManyOrganisations], [ErrNotFound]; a problem of code "invalid" for the field
// "name".
func (a *Auth) CreateOrganisation(ctx context.Context, p CreateOrganisationParams) (o Organisation, err error) {
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		o, err = a.CreateOrganisationTx(ctx, tx, p)
		return err
	})
	return o, err
}

// CreateOrganisationTx is [Auth.CreateOrganisation] inside tx.
func (a *Auth) CreateOrganisationTx(ctx context.Context, tx *sqlx.Tx, p CreateOrganisationParams) (o Organisation, err error) {
	if a.cfg.WithoutOrganisations {
		return o, ErrNoOrganisations
	}
	if p.Name, err = parseOrgName(p.Name); err != nil {
		return o, err
	}
	row, err := a.lockJoiner(ctx, tx, p.UserID)
	if err != nil {
		return o, err
	}
	fresh, err := newID()
	if err != nil {
		return o, err
	}
	o = Organisation{ID: fresh, Name: p.Name, CreatedAt: a.now()}
	own := row.user().AccountID
	if p.Share {
		o.ID, own = own, fresh
	}
	const insert = `INSERT INTO qs_auth_organisations (id, name, created_at) VALUES (?, ?, ?)`
	if _, err := a.db.ExecTx(ctx, tx, insert, o.ID, o.Name, database.At(o.CreatedAt)); err != nil {
		return o, fmt.Errorf("auth: write an organisation: %w", err)
	}
	if err := a.addMember(ctx, tx, o.ID, row.ID, OrgOwner); err != nil {
		return o, err
	}
	if p.Share {
		if err := a.replaceAccount(ctx, tx, row.ID, o.ID, own); err != nil {
			return o, err
		}
	}
	if err := a.beginIn(ctx, tx, row.ID, p.SessionID, o.ID); err != nil {
		return o, err
	}
	return o, a.record(ctx, tx, row.ID, EventOrgCreated, o.ID, p.Client)
}

// replaceAccount gives a locked user another account of their own. Keys and sessions that meant the old one keep it.
func (a *Auth) replaceAccount(ctx context.Context, tx *sqlx.Tx, userID, old, fresh string) error {
	for _, statement := range []struct {
		text string
		args []any
	}{
		{`UPDATE qs_auth_users SET account_id = ? WHERE id = ?`, []any{fresh, userID}},
		// Keys without an account act as the user's id, which is the old account if anything.
		{`UPDATE qs_auth_api_keys SET account_id = user_id WHERE user_id = ? AND account_id IS NULL`, []any{userID}},
		// A form that is open in another browser is for the account that it shows.
		{`UPDATE qs_auth_sessions SET organisation_id = ? WHERE user_id = ? AND organisation_id IS NULL AND revoked_at IS NULL`, []any{old, userID}},
	} {
		if _, err := a.db.ExecTx(ctx, tx, statement.text, statement.args...); err != nil {
			return fmt.Errorf("auth: replace account %s of user %s: %w", old, userID, err)
		}
	}
	return nil
}

func parseOrgName(s string) (string, error) {
	s = strings.TrimSpace(s)
	message := checkLine(s)
	if s == "" {
		message = "Enter the name of the organisation."
	}
	if message != "" {
		return "", problem.Invalid(map[string]string{"name": message})
	}
	return s, nil
}

// lockJoiner locks who is to be in one more organisation. [ErrUnverified], [ErrDisabled], [ErrTooManyOrganisations],
// [ErrNotFound].
func (a *Auth) lockJoiner(ctx context.Context, tx *sqlx.Tx, userID string) (userRow, error) {
	u, err := a.lockUser(ctx, tx, userID)
	switch {
	case err != nil:
		return u, err
	case u.DisabledAt != nil:
		return u, ErrDisabled
	case u.VerifiedAt == nil:
		return u, ErrUnverified
	}
	var n int
	if err := a.db.GetTx(ctx, tx, &n, `SELECT COUNT(*) FROM qs_auth_members WHERE user_id = ?`, userID); err != nil {
		return u, fmt.Errorf("auth: count the organisations of user %s: %w", userID, err)
	}
	if n >= maxOrganisations {
		return u, ErrTooManyOrganisations
	}
	return u, nil
}

func (a *Auth) addMember(ctx context.Context, tx *sqlx.Tx, orgID, userID string, role OrgRole) error {
	const insert = `INSERT INTO qs_auth_members (organisation_id, user_id, role, joined_at) VALUES (?, ?, ?, ?)`
	if _, err := a.db.ExecTx(ctx, tx, insert, orgID, userID, role, database.At(a.now())); err != nil {
		return fmt.Errorf("auth: add a member to organisation %s: %w", orgID, err)
	}
	return nil
}

// lockOrganisation locks an organisation, so that its members and invitations stand still until tx ends, and returns
// the role of who acts. [ErrNoOrganisation] when there is none, or the actor is not a member.
func (a *Auth) lockOrganisation(ctx context.Context, tx *sqlx.Tx, orgID, actorID string) (o Organisation, role OrgRole, err error) {
	if a.cfg.WithoutOrganisations {
		return o, "", ErrNoOrganisations
	}
	if !isID(actorID) {
		return o, "", ErrNoOrganisation
	}
	if o, err = a.lockOrganisationRow(ctx, tx, orgID); err != nil {
		return o, "", err
	}
	role, err = a.memberRole(ctx, tx, orgID, actorID)
	if err == ErrNoMember { //nolint:errorlint // our own sentinel, which is never wrapped here
		err = ErrNoOrganisation
	}
	return o, role, err
}

type organisationRow struct {
	ID        string         `db:"id"`
	Name      string         `db:"name"`
	CreatedAt database.Time  `db:"created_at"`
	DeleteAt  *database.Time `db:"delete_at"`
}

func (r organisationRow) organisation() Organisation {
	return Organisation{r.ID, r.Name, r.CreatedAt.Time, r.DeleteAt.Std()}
}

const selectOrganisation = `SELECT id, name, created_at, delete_at FROM qs_auth_organisations WHERE id = ?`

// lockOrganisationRow locks an organisation, whoever acts; [ErrNoOrganisation].
func (a *Auth) lockOrganisationRow(ctx context.Context, tx *sqlx.Tx, orgID string) (Organisation, error) {
	if !isID(orgID) {
		return Organisation{}, ErrNoOrganisation
	}
	var row organisationRow
	err := a.db.GetTx(ctx, tx, &row, selectOrganisation+a.db.Dialect().ForUpdate(), orgID)
	if database.IsNoRows(err) {
		return Organisation{}, ErrNoOrganisation
	}
	if err != nil {
		return Organisation{}, fmt.Errorf("auth: lock organisation %s: %w", orgID, err)
	}
	return row.organisation(), nil
}

// FindOrganisation returns an organisation to one of its members; [ErrNoOrganisation].
func (a *Auth) FindOrganisation(ctx context.Context, actorID, orgID string) (Organisation, error) {
	if err := a.isMember(ctx, actorID, orgID); err != nil {
		return Organisation{}, err
	}
	var row organisationRow
	err := a.db.Get(ctx, &row, selectOrganisation, orgID)
	if database.IsNoRows(err) {
		return Organisation{}, ErrNoOrganisation
	}
	if err != nil {
		return Organisation{}, fmt.Errorf("auth: organisation %s: %w", orgID, err)
	}
	return row.organisation(), nil
}

// memberRole is a member's role in a locked organisation; [ErrNoMember].
func (a *Auth) memberRole(ctx context.Context, tx *sqlx.Tx, orgID, userID string) (role OrgRole, err error) {
	if !isID(userID) {
		return "", ErrNoMember
	}
	err = a.db.GetTx(ctx, tx, &role, `SELECT role FROM qs_auth_members WHERE organisation_id = ? AND user_id = ?`, orgID, userID)
	if database.IsNoRows(err) {
		return "", ErrNoMember
	}
	if err != nil {
		return "", fmt.Errorf("auth: member %s of organisation %s: %w", userID, orgID, err)
	}
	return role, nil
}

// RenameOrganisation gives an organisation another name. Its owners and administrators may. [ErrNoOrganisation],
// [ErrOrgRole]; a problem of code "invalid" for the field "name".
func (a *Auth) RenameOrganisation(ctx context.Context, actorID, orgID, name string, c Client) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		return a.RenameOrganisationTx(ctx, tx, actorID, orgID, name, c)
	})
}

// RenameOrganisationTx is [Auth.RenameOrganisation] inside tx.
func (a *Auth) RenameOrganisationTx(ctx context.Context, tx *sqlx.Tx, actorID, orgID, name string, c Client) error {
	o, role, err := a.lockOrganisation(ctx, tx, orgID, actorID)
	if err != nil {
		return err
	}
	if !role.MayManage() {
		return ErrOrgRole
	}
	if name, err = parseOrgName(name); err != nil || name == o.Name {
		return err
	}
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_organisations SET name = ? WHERE id = ?`, name, o.ID); err != nil {
		return fmt.Errorf("auth: rename organisation %s: %w", o.ID, err)
	}
	return a.record(ctx, tx, actorID, EventOrgRenamed, o.ID, c)
}

// Accounts are what a person can act for: their own account first, then their organisations by name. [ErrNotFound].
func (a *Auth) Accounts(ctx context.Context, userID string) ([]Account, error) {
	u, err := a.FindUser(ctx, userID)
	if err != nil {
		return nil, err
	}
	return a.accountsOf(ctx, u)
}

func (a *Auth) accountsOf(ctx context.Context, u User) ([]Account, error) {
	accounts := []Account{{ID: u.AccountID, Role: OrgOwner}}
	if a.cfg.WithoutOrganisations {
		return accounts, nil
	}
	// Runs along qs_auth_members_user; there are at most maxOrganisations.
	const query = `SELECT o.id, o.name, m.role FROM qs_auth_members m JOIN qs_auth_organisations o ON o.id = m.organisation_id
		WHERE m.user_id = ? ORDER BY o.name, o.id`
	var rows []accountRow
	if err := a.db.Select(ctx, &rows, query, u.ID); err != nil {
		return nil, fmt.Errorf("auth: organisations of user %s: %w", u.ID, err)
	}
	for _, r := range rows {
		accounts = append(accounts, r.account(u))
	}
	return accounts, nil
}

// SwitchAccount has a session act for another account of its owner, and their new sessions begin there.
// [ErrNoOrganisation] when they have no such account; [ErrNoSession].
func (a *Auth) SwitchAccount(ctx context.Context, userID, sessionID, accountID string) error {
	if !isID(sessionID) {
		return ErrNoSession
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if err != nil {
			return err
		}
		var organisation *string
		if accountID != u.user().AccountID {
			if _, _, err := a.lockOrganisation(ctx, tx, accountID, userID); err != nil {
				return err
			}
			organisation = &accountID
		}
		const session = `UPDATE qs_auth_sessions SET organisation_id = ? WHERE id = ? AND user_id = ? AND revoked_at IS NULL`
		n, err := a.db.ExecTx(ctx, tx, session, organisation, sessionID, userID)
		if err == nil && n == 0 {
			return ErrNoSession
		}
		if err == nil {
			_, err = a.db.ExecTx(ctx, tx, `UPDATE qs_auth_users SET organisation_id = ? WHERE id = ?`, organisation, userID)
		}
		if err != nil {
			return fmt.Errorf("auth: switch user %s to account %s: %w", userID, accountID, err)
		}
		return nil
	})
}

// AccountContacts are the people to write to about an account's money, at most 50: its owner, or an organisation's
// owners and who looks after its billing, whose accounts are open. None: nobody here has the account.
func (a *Auth) AccountContacts(ctx context.Context, accountID string) ([]User, error) {
	var rows []userRow
	err := a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
		rows, err = a.contacts(ctx, tx, accountID)
		return err
	})
	return usersOf(rows), err
}

// AccountContactsTx is [Auth.AccountContacts] inside tx.
func (a *Auth) AccountContactsTx(ctx context.Context, tx *sqlx.Tx, accountID string) ([]User, error) {
	rows, err := a.contacts(ctx, tx, accountID)
	return usersOf(rows), err
}

func usersOf(rows []userRow) []User {
	users := make([]User, len(rows))
	for i, r := range rows {
		users[i] = r.user()
	}
	return users
}

func (a *Auth) contacts(ctx context.Context, tx *sqlx.Tx, accountID string) (rows []userRow, err error) {
	if !isID(accountID) {
		return nil, nil
	}
	const members = `SELECT ` + userColumns + ` FROM qs_auth_members m JOIN qs_auth_users u ON u.id = m.user_id
		WHERE m.organisation_id = ? AND m.role IN ('owner', 'billing') AND u.disabled_at IS NULL
		ORDER BY CASE m.role WHEN 'owner' THEN 0 ELSE 1 END, m.joined_at, u.id LIMIT 50`
	if err := a.db.SelectTx(ctx, tx, &rows, members, accountID); err != nil {
		return nil, fmt.Errorf("auth: contacts of account %s: %w", accountID, err)
	}
	if len(rows) > 0 {
		return rows, nil
	}
	// A person's own account is named by account_id, or else by the user's id.
	const person = `SELECT ` + userColumns + ` FROM qs_auth_users u WHERE (u.account_id = ? OR u.id = ? AND u.account_id IS NULL) AND u.disabled_at IS NULL`
	if err := a.db.SelectTx(ctx, tx, &rows, person, accountID, accountID); err != nil {
		return nil, fmt.Errorf("auth: owner of account %s: %w", accountID, err)
	}
	return rows, nil
}
