package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// DefaultDeletionGrace is how long an account waits to be erased.
const DefaultDeletionGrace = 14 * 24 * time.Hour

// AccountData is what somebody else keeps about accounts, such as a ledger, so that it joins their export and their end.
// Fields that are nil are left out.
type AccountData struct {
	// Name is the file's name in the export, without its ending; lower case.
	Name string
	// Left says in a sentence what of the account is lost with it, such as credits, for who is about to delete it. Empty:
	// nothing.
	Left func(ctx context.Context, account string) (string, error)
	// Export writes the account's data as one JSON value.
	Export func(ctx context.Context, w io.Writer, account string) error
	// Closing is called when the deletion is asked for: from then on nothing may renew. It is outside of any transaction, and
	// a failure is made up for by Close.
	Closing func(ctx context.Context, account string) error
	// Close ends what goes on outside, such as a subscription, before the erasure. It is called outside of any transaction
	// and again until it succeeds.
	Close func(ctx context.Context, account string) error
	// Erase deletes or makes anonymous what is kept, in the transaction that erases the person.
	Erase func(ctx context.Context, tx *sqlx.Tx, account string) error
}

// Errors about the end of an account.
var (
	// ErrStaffDeletion: staff give their role back first.
	ErrStaffDeletion error = problem.New(problem.CodeConflict, "An account of the staff cannot be deleted. Have the role taken from it first.")
	// ErrNoDeletion: nothing was asked for.
	ErrNoDeletion error = problem.New(problem.CodeConflict, "No deletion was asked for.")
)

// DeletionMail is what the text of auth.deletion is executed with.
type DeletionMail struct {
	Name string
	// At is the moment of the erasure, and Link the page on which it can be cancelled until then.
	At   time.Time
	Link string
}

// AskForDeletion has an account erased after Config.DeletionGrace, and tells its owner by mail how to keep it. All other
// sessions and all API keys end. An organisation in which the person is alone ends with the account. Asking again changes
// nothing. [ErrLastOwner] when an organisation with other members would be left without an owner, [ErrStaffDeletion],
// [ErrNotFound].
func (a *Auth) AskForDeletion(ctx context.Context, userID, keepSession string, c Client) (at time.Time, err error) {
	var account string
	asked := false
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if err != nil {
			return err
		}
		account = u.user().AccountID
		if asked = u.DeleteAt == nil; !asked {
			at = u.DeleteAt.Time
			return nil
		}
		if u.user().IsStaff() {
			return ErrStaffDeletion
		}
		if err := a.leavesNoOrphan(ctx, tx, u.ID); err != nil {
			return err
		}
		at = a.now().Add(a.cfg.DeletionGrace)
		if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_users SET delete_at = ? WHERE id = ?`, database.At(at), u.ID); err != nil {
			return fmt.Errorf("auth: note the deletion of user %s: %w", u.ID, err)
		}
		if err := a.endSessions(ctx, tx, u.ID, keepSession); err != nil {
			return err
		}
		if err := a.revokeKeys(ctx, tx, u.ID, c); err != nil {
			return err
		}
		if err := a.record(ctx, tx, u.ID, EventDeletionAsked, "", c); err != nil {
			return err
		}
		return a.sendTo(ctx, tx, kindDeletion, u.Email, u.Name, DeletionMail{u.Name, at, a.cfg.BaseURL + a.cfg.AccountPath + "/delete"})
	})
	if err != nil || !asked {
		return at, err
	}
	a.closing(ctx, account)
	return at, nil
}

// closing tells that an account is to end. What fails is made up for when it does.
func (a *Auth) closing(ctx context.Context, account string) {
	for _, d := range a.cfg.AccountData {
		if d.Closing == nil {
			continue
		}
		if err := d.Closing(ctx, account); err != nil {
			a.cfg.Logger.ErrorContext(ctx, "closing an account", slog.String("part", d.Name), slog.String("account", account), slog.Any("error", err))
		}
	}
}

// left is what is lost with an account, a sentence each.
func (a *Auth) left(ctx context.Context, account string) ([]string, error) {
	sentences := []string{}
	for _, d := range a.cfg.AccountData {
		if d.Left == nil {
			continue
		}
		s, err := d.Left(ctx, account)
		if err != nil {
			return nil, fmt.Errorf("auth: what is left of %s of account %s: %w", d.Name, account, err)
		}
		if s != "" {
			sentences = append(sentences, s)
		}
	}
	return sentences, nil
}

// leavesNoOrphan checks that no organisation with other members loses its last owner with the user; [ErrLastOwner].
func (a *Auth) leavesNoOrphan(ctx context.Context, tx *sqlx.Tx, userID string) error {
	var n int
	const orphans = `SELECT COUNT(*) FROM qs_auth_members m WHERE m.user_id = ? AND m.role = 'owner'
		AND EXISTS (SELECT 1 FROM qs_auth_members x WHERE x.organisation_id = m.organisation_id AND x.user_id <> m.user_id)
		AND NOT EXISTS (SELECT 1 FROM qs_auth_members x WHERE x.organisation_id = m.organisation_id AND x.user_id <> m.user_id AND x.role = 'owner')`
	if err := a.db.GetTx(ctx, tx, &n, orphans, userID); err != nil {
		return fmt.Errorf("auth: organisations of user %s: %w", userID, err)
	}
	if n > 0 {
		return ErrLastOwner
	}
	return nil
}

// CancelDeletion keeps an account that was to be erased. [ErrNoDeletion], [ErrNotFound].
func (a *Auth) CancelDeletion(ctx context.Context, userID string, c Client) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if err != nil {
			return err
		}
		if u.DeleteAt == nil {
			return ErrNoDeletion
		}
		if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_users SET delete_at = NULL WHERE id = ?`, u.ID); err != nil {
			return fmt.Errorf("auth: cancel the deletion of user %s: %w", u.ID, err)
		}
		return a.record(ctx, tx, u.ID, EventDeletionCancelled, "", c)
	})
}

// eraseBatch bounds how many accounts one call erases.
const eraseBatch = 100

// EraseDue erases the organisations and accounts whose time has come, at most 100 of each, and returns how many. What
// cannot be erased is tried again by the next call; the error names all of them. Call it every few minutes.
func (a *Auth) EraseDue(ctx context.Context) (erased int, err error) {
	// An organisation goes first: its last owner may wait for it.
	organisations, orgErr := a.eraseOrganisations(ctx)
	people, err := a.erasePeople(ctx)
	return organisations + people, errors.Join(orgErr, err)
}

func (a *Auth) erasePeople(ctx context.Context) (erased int, err error) {
	var due []string
	const query = `SELECT id FROM qs_auth_users WHERE delete_at IS NOT NULL AND delete_at <= ? ORDER BY delete_at LIMIT ?`
	if err := a.db.Select(ctx, &due, query, database.At(a.now()), eraseBatch); err != nil {
		return 0, fmt.Errorf("auth: accounts to erase: %w", err)
	}
	var failed []error
	for _, id := range due {
		if err := a.erase(ctx, id); err != nil {
			failed = append(failed, fmt.Errorf("auth: erase user %s: %w", id, err))
			continue
		}
		erased++
	}
	return erased, errors.Join(failed...)
}

// errAccountsChanged says that somebody joined or left an organisation while a person was being erased; it is tried again.
var errAccountsChanged = errors.New("auth: the organisations that end with the person have changed meanwhile")

// erase ends what goes on outside for each account that ends with the person, then deletes them in one transaction.
func (a *Auth) erase(ctx context.Context, userID string) error {
	u, err := a.FindUser(ctx, userID)
	if errors.Is(err, ErrNotFound) {
		return nil // another process was faster
	}
	if err != nil {
		return err
	}
	var alone []string
	if err := a.db.Select(ctx, &alone, selectAlone, userID); err != nil {
		return fmt.Errorf("auth: organisations of user %s: %w", userID, err)
	}
	if err := a.closeAccounts(ctx, slices.Concat(alone, []string{u.AccountID})); err != nil {
		return err
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if u.DeleteAt == nil || u.DeleteAt.After(a.now()) {
			return nil // it was cancelled meanwhile
		}
		ending, err := a.lockAlone(ctx, tx, u.ID)
		if err != nil {
			return err
		}
		if !slices.Equal(ending, alone) {
			return errAccountsChanged
		}
		if err := a.leavesNoOrphan(ctx, tx, u.ID); err != nil {
			return err
		}
		if err := a.eraseAccounts(ctx, tx, slices.Concat(ending, []string{u.user().AccountID})); err != nil {
			return err
		}
		return a.deleteUser(ctx, tx, u)
	})
}

// closeAccounts ends what goes on outside for accounts that end.
func (a *Auth) closeAccounts(ctx context.Context, accounts []string) error {
	for _, d := range a.cfg.AccountData {
		for _, account := range accounts {
			if d.Close == nil {
				continue
			}
			if err := d.Close(ctx, account); err != nil {
				return fmt.Errorf("close %s: %w", d.Name, err)
			}
		}
	}
	return nil
}

// eraseAccounts erases what others keep about accounts that end.
func (a *Auth) eraseAccounts(ctx context.Context, tx *sqlx.Tx, accounts []string) error {
	for _, d := range a.cfg.AccountData {
		for _, account := range accounts {
			if d.Erase == nil {
				continue
			}
			if err := d.Erase(ctx, tx, account); err != nil {
				return fmt.Errorf("erase %s: %w", d.Name, err)
			}
		}
	}
	return nil
}

// selectAlone are the organisations in which a person is and nobody else.
const selectAlone = `SELECT m.organisation_id FROM qs_auth_members m WHERE m.user_id = ?
	AND NOT EXISTS (SELECT 1 FROM qs_auth_members x WHERE x.organisation_id = m.organisation_id AND x.user_id <> m.user_id) ORDER BY m.organisation_id`

// lockAlone locks all organisations of a person, so that nobody joins or leaves, and returns those of selectAlone.
func (a *Auth) lockAlone(ctx context.Context, tx *sqlx.Tx, userID string) (alone []string, err error) {
	const lock = `SELECT id FROM qs_auth_organisations WHERE id IN (SELECT organisation_id FROM qs_auth_members WHERE user_id = ?) ORDER BY id`
	var locked []string
	if err = a.db.SelectTx(ctx, tx, &locked, lock+a.db.Dialect().ForUpdate(), userID); err == nil {
		err = a.db.SelectTx(ctx, tx, &alone, selectAlone, userID)
	}
	if err != nil {
		return nil, fmt.Errorf("auth: organisations of user %s: %w", userID, err)
	}
	return alone, nil
}

// deleteUser removes a locked user with all that hangs on them. The security events stay, by an id that is nobody's.
func (a *Auth) deleteUser(ctx context.Context, tx *sqlx.Tx, u userRow) error {
	var organisations []string
	if err := a.db.SelectTx(ctx, tx, &organisations, `DELETE FROM qs_auth_members WHERE user_id = ? RETURNING organisation_id`, u.ID); err != nil {
		return fmt.Errorf("auth: memberships of user %s: %w", u.ID, err)
	}
	const empty = `DELETE FROM qs_auth_organisations WHERE id = ? AND NOT EXISTS (SELECT 1 FROM qs_auth_members WHERE organisation_id = qs_auth_organisations.id)`
	for _, id := range organisations {
		n, err := a.db.ExecTx(ctx, tx, empty, id)
		if err != nil {
			return fmt.Errorf("auth: delete organisation %s: %w", id, err)
		}
		if n == 0 {
			if err := a.contactsChanged(ctx, tx, id); err != nil {
				return err
			}
		}
	}
	// Those to the person's address name it, whatever became of them.
	if _, err := a.db.ExecTx(ctx, tx, `DELETE FROM qs_auth_invitations WHERE email_key = ?`, u.EmailKey); err != nil {
		return fmt.Errorf("auth: invitations of user %s: %w", u.ID, err)
	}
	if _, err := a.db.ExecTx(ctx, tx, `DELETE FROM qs_auth_users WHERE id = ?`, u.ID); err != nil {
		return fmt.Errorf("auth: delete user %s: %w", u.ID, err)
	}
	if err := a.record(ctx, tx, u.ID, EventErased, "", Client{}); err != nil {
		return err
	}
	return a.sendIn(ctx, tx, u.Language, kindErased, u.Email, "", struct{}{})
}
