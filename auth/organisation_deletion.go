package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// OrganisationMail is what the texts of auth.orgdeletion, auth.orgkept and auth.orgerased are executed with.
type OrganisationMail struct {
	// Name is the member's, and Organisation the organisation's.
	Name, Organisation string
	// At is the moment of the erasure.
	At time.Time
	// Owner says that the member can keep the organisation, by the page at Link.
	Owner bool
	Link  string
}

// AskForOrganisationDeletion has an organisation erased after Config.DeletionGrace, and tells its members by mail. Its API
// keys and open invitations end at once, and its plan does not renew. Members go on until then. Its owners may; asking
// again changes nothing. [ErrNoOrganisation], [ErrOrgRole].
func (a *Auth) AskForOrganisationDeletion(ctx context.Context, actorID, orgID string, c Client) (at time.Time, err error) {
	asked := false
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		at, asked, err = a.askForOrganisationDeletion(ctx, tx, actorID, orgID, c)
		return err
	})
	if err == nil && asked {
		a.closing(ctx, orgID)
	}
	return at, err
}

func (a *Auth) askForOrganisationDeletion(ctx context.Context, tx *sqlx.Tx, actorID, orgID string, c Client) (at time.Time, asked bool, err error) {
	o, role, err := a.lockOrganisation(ctx, tx, orgID, actorID)
	switch {
	case err != nil:
		return at, false, err
	case role != OrgOwner:
		return at, false, ErrOrgRole
	case o.DeleteAt != nil:
		return *o.DeleteAt, false, nil
	}
	at = a.now().Add(a.cfg.DeletionGrace)
	for _, step := range []struct {
		text string
		args []any
	}{
		{`UPDATE qs_auth_organisations SET delete_at = ? WHERE id = ?`, []any{database.At(at), o.ID}},
		{`UPDATE qs_auth_invitations SET ended_at = ? WHERE organisation_id = ? AND ended_at IS NULL`, []any{database.At(a.now()), o.ID}},
	} {
		if _, err := a.db.ExecTx(ctx, tx, step.text, step.args...); err != nil {
			return at, false, fmt.Errorf("auth: note the deletion of organisation %s: %w", o.ID, err)
		}
	}
	if err := a.revokeAccountKeys(ctx, tx, o.ID, "", c); err != nil {
		return at, false, err
	}
	if err := a.record(ctx, tx, actorID, EventOrgDeletionAsked, o.ID, c); err != nil {
		return at, false, err
	}
	return at, true, a.mailMembers(ctx, tx, o, kindOrgDeletion, at)
}

// KeepOrganisation cancels the deletion of an organisation, and tells its members by mail. Its API keys do not come back.
// Its owners may. [ErrNoOrganisation], [ErrOrgRole], [ErrNoDeletion].
func (a *Auth) KeepOrganisation(ctx context.Context, actorID, orgID string, c Client) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		o, role, err := a.lockOrganisation(ctx, tx, orgID, actorID)
		switch {
		case err != nil:
			return err
		case role != OrgOwner:
			return ErrOrgRole
		case o.DeleteAt == nil:
			return ErrNoDeletion
		}
		if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_organisations SET delete_at = NULL WHERE id = ?`, o.ID); err != nil {
			return fmt.Errorf("auth: cancel the deletion of organisation %s: %w", o.ID, err)
		}
		if err := a.record(ctx, tx, actorID, EventOrgDeletionCancelled, o.ID, c); err != nil {
			return err
		}
		return a.mailMembers(ctx, tx, o, kindOrgKept, time.Time{})
	})
}

// mailMembers tells all members of a locked organisation what becomes of it.
func (a *Auth) mailMembers(ctx context.Context, tx *sqlx.Tx, o Organisation, kind string, at time.Time) error {
	members, err := a.membersTx(ctx, tx, o.ID)
	if err != nil {
		return err
	}
	for _, m := range members {
		data := OrganisationMail{m.Name, o.Name, at, m.Role == OrgOwner, a.cfg.BaseURL + a.cfg.AccountPath + "/organisation/delete"}
		if err := a.sendTo(ctx, tx, kind, m.Email, m.Name, data); err != nil {
			return err
		}
	}
	return nil
}

// eraseOrganisations erases those whose time has come, at most 100.
func (a *Auth) eraseOrganisations(ctx context.Context) (erased int, err error) {
	var due []string
	// Runs along qs_auth_organisations_delete.
	const query = `SELECT id FROM qs_auth_organisations WHERE delete_at IS NOT NULL AND delete_at <= ? ORDER BY delete_at LIMIT ?`
	if err := a.db.Select(ctx, &due, query, database.At(a.now()), eraseBatch); err != nil {
		return 0, fmt.Errorf("auth: organisations to erase: %w", err)
	}
	var failed []error
	for _, id := range due {
		done, err := a.eraseOrganisation(ctx, id)
		if err != nil {
			failed = append(failed, fmt.Errorf("auth: erase organisation %s: %w", id, err))
		}
		if done {
			erased++
		}
	}
	return erased, errors.Join(failed...)
}

// eraseOrganisation ends what goes on outside, then deletes an organisation in one transaction. Its members go on with
// their own accounts, and log in anew where they acted for it.
func (a *Auth) eraseOrganisation(ctx context.Context, id string) (done bool, err error) {
	if err := a.closeAccounts(ctx, []string{id}); err != nil {
		return false, err
	}
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		done = false
		o, err := a.lockOrganisationRow(ctx, tx, id)
		if errors.Is(err, ErrNoOrganisation) {
			return nil // another process was faster
		}
		if err != nil || o.DeleteAt == nil || o.DeleteAt.After(a.now()) {
			return err // or it was cancelled meanwhile
		}
		if err := a.eraseAccounts(ctx, tx, []string{id}); err != nil {
			return err
		}
		members, err := a.membersTx(ctx, tx, id)
		if err != nil {
			return err
		}
		for _, m := range members {
			if err := a.dropMember(ctx, tx, MemberParams{OrganisationID: id, UserID: m.UserID}, EventOrgErased); err != nil {
				return err
			}
			data := OrganisationMail{Name: m.Name, Organisation: o.Name, At: *o.DeleteAt}
			if err := a.sendTo(ctx, tx, kindOrgErased, m.Email, m.Name, data); err != nil {
				return err
			}
		}
		// Keys of people who left before are revoked already, but for none that a program has written.
		if err := a.revokeAccountKeys(ctx, tx, id, "", Client{}); err != nil {
			return err
		}
		if _, err := a.db.ExecTx(ctx, tx, `DELETE FROM qs_auth_organisations WHERE id = ?`, id); err != nil {
			return fmt.Errorf("auth: delete organisation %s: %w", id, err)
		}
		done = true
		return nil
	})
	return done, err
}
