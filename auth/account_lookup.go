package auth

import (
	"context"
	"fmt"

	"github.com/quickscale/quickscale/internal/database"
)

// AccountOwner is whose an account of the ledger and billing is: a person's own, or an organisation's.
type AccountOwner struct {
	// UserID is the person whose own account it is. Empty: it is an organisation's.
	UserID string `json:"user_id,omitempty"`
	// Organisation is nil for a person's own account; Members are its, at most 500.
	Organisation *Organisation `json:"organisation,omitempty"`
	Members      []Member      `json:"members,omitempty"`
}

// LookUpAccount tells staff whose an account is. [ErrNotFound] when it is nobody's here, as an account of the host's own.
func (a *Auth) LookUpAccount(ctx context.Context, accountID string) (o AccountOwner, err error) {
	if !isID(accountID) {
		return o, ErrNotFound
	}
	var users []string
	// Runs along qs_auth_users_account and the primary key.
	const own = `SELECT id FROM qs_auth_users WHERE account_id = ? UNION SELECT id FROM qs_auth_users WHERE id = ? AND account_id IS NULL`
	if err := a.db.Select(ctx, &users, own, accountID, accountID); err != nil {
		return o, fmt.Errorf("auth: owner of account %s: %w", accountID, err)
	}
	if len(users) > 0 {
		return AccountOwner{UserID: users[0]}, nil
	}
	var row organisationRow
	err = a.db.Get(ctx, &row, selectOrganisation, accountID)
	if database.IsNoRows(err) {
		return o, ErrNotFound
	}
	if err != nil {
		return o, fmt.Errorf("auth: organisation %s: %w", accountID, err)
	}
	var rows []memberRow
	if err := a.db.Select(ctx, &rows, selectMembers, accountID); err != nil {
		return o, fmt.Errorf("auth: members of organisation %s: %w", accountID, err)
	}
	organisation := row.organisation()
	return AccountOwner{Organisation: &organisation, Members: membersOf(rows)}, nil
}
