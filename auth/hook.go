package auth

import (
	"context"

	"github.com/jmoiron/sqlx"
)

// Hooks are called inside the transaction of what they tell of, once each time that it happens: what they write through
// tx is kept if and only if it is, and an error undoes it. They must call nothing outside; a job that they insert can.
// A transaction that is tried again calls them again.
type Hooks struct {
	// OnSignUp: an account was made, unverified yet unless a program made it.
	OnSignUp func(ctx context.Context, tx *sqlx.Tx, u User) error
	// OnVerify: the address was shown to be the person's.
	OnVerify func(ctx context.Context, tx *sqlx.Tx, u User) error
	// OnLogIn: a session has begun.
	OnLogIn func(ctx context.Context, tx *sqlx.Tx, u User, s Session) error
	// OnPasswordChange: the password was replaced or reset.
	OnPasswordChange func(ctx context.Context, tx *sqlx.Tx, u User) error
	// OnEmailChange: u has another address now than before, or again the one that it had before.
	OnEmailChange func(ctx context.Context, tx *sqlx.Tx, u User, before string) error
	// OnContactsChange: the people of [Auth.AccountContacts] are others now than before, as an organisation has another owner.
	OnContactsChange func(ctx context.Context, tx *sqlx.Tx, accountID string) error
	// OnEvent: a security event was recorded. userID is empty where an unknown address was tried.
	OnEvent func(ctx context.Context, tx *sqlx.Tx, userID string, e Event) error
}

func (a *Auth) signedUp(ctx context.Context, tx *sqlx.Tx, u userRow) error {
	if a.cfg.Hooks.OnSignUp == nil {
		return nil
	}
	return a.cfg.Hooks.OnSignUp(ctx, tx, u.user())
}

// contactsChanged tells that others look after an organisation's money than before.
func (a *Auth) contactsChanged(ctx context.Context, tx *sqlx.Tx, orgID string) error {
	if a.cfg.Hooks.OnContactsChange == nil {
		return nil
	}
	return a.cfg.Hooks.OnContactsChange(ctx, tx, orgID)
}
