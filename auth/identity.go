package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Errors of linked accounts.
var (
	// ErrNoIdentity: there is no such linked account, or it is another user's.
	ErrNoIdentity error = problem.New(problem.CodeNotFound, "There is no such linked account.")
	// ErrIdentityTaken: the account elsewhere is linked to another user, or the user has linked another one there.
	ErrIdentityTaken error = problem.New("already_linked", "This account is linked to another one here, or you have linked another one there. Unlink that first.")
	// ErrHasPassword: the account has a password already.
	ErrHasPassword error = problem.New(problem.CodeConflict, "You have a password already. Change it instead.")
)

// Identity is an account at another site by which a person logs in.
type Identity struct {
	ID string `json:"id"`
	// Provider is the other site's name in Config.OAuth.
	Provider string `json:"provider"`
	// Email is the address there when it was linked, to be shown only.
	Email      string     `json:"email"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
}

type identityRow struct {
	ID         string         `db:"id"`
	UserID     string         `db:"user_id"`
	Provider   string         `db:"provider"`
	Email      string         `db:"email"`
	CreatedAt  database.Time  `db:"created_at"`
	LastUsedAt *database.Time `db:"last_used_at"`
}

const identityColumns = `id, user_id, provider, email, created_at, last_used_at`

// claim is who another site says that somebody is.
type claim struct {
	Provider string
	// Issuer and Subject name the person for ever; Issuer is empty where there is none.
	Issuer  string
	Subject string
	// Email is the address there, Verified says that the other site vouches for it.
	Email    string
	Verified bool
	Name     string
}

// Identities are a user's linked accounts, the oldest first: at most one of each provider.
func (a *Auth) Identities(ctx context.Context, userID string) ([]Identity, error) {
	list := []Identity{}
	if !isID(userID) {
		return list, nil
	}
	var rows []identityRow
	if err := a.db.Select(ctx, &rows, `SELECT `+identityColumns+` FROM qs_auth_identities WHERE user_id = ? ORDER BY id`, userID); err != nil {
		return nil, fmt.Errorf("auth: linked accounts of user %s: %w", userID, err)
	}
	for _, r := range rows {
		list = append(list, Identity{r.ID, r.Provider, r.Email, r.CreatedAt.Time, r.LastUsedAt.Std()})
	}
	return list, nil
}

// findIdentity returns whose an account elsewhere is; [ErrNoIdentity] when it is nobody's.
func (a *Auth) findIdentity(ctx context.Context, tx *sqlx.Tx, c claim) (row identityRow, err error) {
	const query = `SELECT ` + identityColumns + ` FROM qs_auth_identities WHERE provider = ? AND issuer = ? AND subject = ?`
	err = a.db.GetTx(ctx, tx, &row, query, c.Provider, c.Issuer, c.Subject)
	if database.IsNoRows(err) {
		return row, ErrNoIdentity
	}
	if err != nil {
		return row, fmt.Errorf("auth: find a linked account: %w", err)
	}
	return row, nil
}

// link ties an account elsewhere to a locked user; [ErrIdentityTaken] when it is another's, or the user has another one
// there. One that is the user's already is no error.
func (a *Auth) link(ctx context.Context, tx *sqlx.Tx, u userRow, who claim, c Client) error {
	id, err := newID()
	if err != nil {
		return err
	}
	const insert = `INSERT INTO qs_auth_identities (id, user_id, provider, issuer, subject, email, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING`
	n, err := a.db.ExecTx(ctx, tx, insert, id, u.ID, who.Provider, who.Issuer, who.Subject, cleanText(who.Email), database.At(a.now()))
	if err != nil {
		return fmt.Errorf("auth: link an account of user %s: %w", u.ID, err)
	}
	if n == 0 {
		row, err := a.findIdentity(ctx, tx, who)
		if errors.Is(err, ErrNoIdentity) || err == nil && row.UserID != u.ID {
			return ErrIdentityTaken
		}
		return err
	}
	label := a.labelOf(who.Provider)
	return a.factorChanged(ctx, tx, u, EventLinked, label, label, c)
}

// Unlink takes a linked account away. The caller has just seen the person prove who they are; the owner is told by mail.
// [ErrNoIdentity]; [ErrLastWayIn] when the account would have no password, passkey or other linked account left.
func (a *Auth) Unlink(ctx context.Context, userID, id string, c Client) error {
	if !isID(userID) || !isID(id) {
		return ErrNoIdentity
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if errors.Is(err, ErrNotFound) {
			return ErrNoIdentity
		}
		if err != nil {
			return err
		}
		var provider string
		err = a.db.GetTx(ctx, tx, &provider, `DELETE FROM qs_auth_identities WHERE id = ? AND user_id = ? RETURNING provider`, id, u.ID)
		if database.IsNoRows(err) {
			return ErrNoIdentity
		}
		if err != nil {
			return fmt.Errorf("auth: unlink %s: %w", id, err)
		}
		if err := a.needWayIn(ctx, tx, u); err != nil {
			return err // rolls back
		}
		label := a.labelOf(provider)
		return a.factorChanged(ctx, tx, u, EventUnlinked, label, label, c)
	})
}

// HasPassword tells that a user can log in by password; false for an unknown user.
func (a *Auth) HasPassword(ctx context.Context, userID string) (bool, error) {
	if !isID(userID) {
		return false, nil
	}
	var row userRow
	err := a.db.Get(ctx, &row, selectUser, userID)
	if database.IsNoRows(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("auth: find user %s: %w", userID, err)
	}
	return row.PasswordHash != "", nil
}

// AddPassword gives a first password to an account that has none. The caller has just seen the person prove who they
// are; the owner is told by mail, and sessions go on. [ErrHasPassword], [ErrNotFound]; a problem of code "invalid" for
// the field "password".
func (a *Auth) AddPassword(ctx context.Context, userID, password string, c Client) error {
	u, err := a.FindUser(ctx, userID)
	if err != nil {
		return err
	}
	address, err := parseEmail(u.Email)
	if err != nil {
		return err
	}
	if message := a.checkNewPassword(ctx, password, localPart(address.key)); message != "" {
		return problem.Invalid(map[string]string{"password": message})
	}
	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if err != nil {
			return err
		}
		if u.PasswordHash != "" {
			return ErrHasPassword
		}
		if err := a.storeHash(ctx, tx, u.ID, hash); err != nil {
			return err
		}
		return a.factorChanged(ctx, tx, u, EventPasswordSet, "", "", c)
	})
}
