package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"strconv"
	"strings"

	"github.com/alexedwards/argon2id"
	"github.com/jmoiron/sqlx"
	"golang.org/x/crypto/argon2"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Backup codes are ten of eight characters, some 39 bits each, so they are hashed slowly (OWASP ASVS 5, 6.5.2).
const (
	backupCodes = 10
	backupChars = 8
	// backupAlphabet has no characters that are taken for others.
	backupAlphabet = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
	backupSalt     = 16
)

// Errors of backup codes.
var (
	// ErrNoFactor: there is no second step that backup codes could stand in for.
	ErrNoFactor error = problem.New(problem.CodeConflict, "Set up an authenticator app or a passkey first: backup codes stand in for it.")
)

// codeSet is a set of codes, in clear and as it is stored.
type codeSet struct {
	codes  []string
	hashes []string
}

// newCodes makes a set with one salt.
func (a *Auth) newCodes(ctx context.Context) (set codeSet, err error) {
	salt := make([]byte, backupSalt)
	_, _ = rand.Read(salt) // never fails (crypto/rand documentation)
	for range backupCodes {
		code := newBackupCode()
		key, err := a.hasher.key(ctx, code, salt, a.hasher.params)
		if err != nil {
			return codeSet{}, err
		}
		set.codes = append(set.codes, code[:backupChars/2]+"-"+code[backupChars/2:])
		set.hashes = append(set.hashes, phc(a.hasher.params, salt, key))
	}
	return set, nil
}

func newBackupCode() string {
	raw := make([]byte, backupChars)
	_, _ = rand.Read(raw) // never fails (crypto/rand documentation)
	for i, b := range raw {
		raw[i] = backupAlphabet[int(b)%len(backupAlphabet)] // 256 is a multiple of 32
	}
	return string(raw)
}

// key calculates the argon2id key of a code, in its turn.
func (h *hasher) key(ctx context.Context, code string, salt []byte, p argon2id.Params) ([]byte, error) {
	done, err := h.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return argon2.IDKey([]byte(code), salt, p.Iterations, p.Memory, p.Parallelism, p.KeyLength), nil
}

// firstCodes makes a set for who has none, and an empty one for others. It takes the time of ten hashes.
func (a *Auth) firstCodes(ctx context.Context, userID string) (codeSet, error) {
	f, err := a.Factors(ctx, userID)
	if err != nil || f.BackupCodes > 0 {
		return codeSet{}, err
	}
	return a.newCodes(ctx)
}

// storeFirstCodes stores a set unless a locked user has codes left, and returns what was stored.
func (a *Auth) storeFirstCodes(ctx context.Context, tx *sqlx.Tx, userID string, set codeSet) ([]string, error) {
	f, err := a.factorsTx(ctx, tx, userID)
	if err != nil || f.BackupCodes > 0 || len(set.codes) == 0 {
		return nil, err
	}
	return set.codes, a.storeCodes(ctx, tx, userID, set)
}

// storeCodes puts a set in place of a locked user's codes.
func (a *Auth) storeCodes(ctx context.Context, tx *sqlx.Tx, userID string, set codeSet) error {
	if _, err := a.db.ExecTx(ctx, tx, `DELETE FROM qs_auth_backup_codes WHERE user_id = ?`, userID); err != nil {
		return fmt.Errorf("auth: remove the backup codes of user %s: %w", userID, err)
	}
	for i, hash := range set.hashes {
		const insert = `INSERT INTO qs_auth_backup_codes (user_id, n, hash, created_at) VALUES (?, ?, ?, ?)`
		if _, err := a.db.ExecTx(ctx, tx, insert, userID, i+1, hash, database.At(a.now())); err != nil {
			return fmt.Errorf("auth: write the backup codes of user %s: %w", userID, err)
		}
	}
	return nil
}

// dropIdleCodes removes the backup codes of a locked user who has no second step any more.
func (a *Auth) dropIdleCodes(ctx context.Context, tx *sqlx.Tx, userID string) error {
	f, err := a.factorsTx(ctx, tx, userID)
	if err != nil || f.Second() {
		return err
	}
	return a.storeCodes(ctx, tx, userID, codeSet{})
}

// RegenerateBackupCodes replaces a user's backup codes by ten new ones, to be shown once; the old ones stop working. The
// caller has just seen the person prove who they are; the owner is told by mail. [ErrNoFactor], [ErrNotFound]; a
// [*RetryError] when the machine is busy.
func (a *Auth) RegenerateBackupCodes(ctx context.Context, userID string, c Client) ([]string, error) {
	if f, err := a.Factors(ctx, userID); err != nil || !f.Second() {
		if err == nil {
			err = ErrNoFactor
		}
		return nil, err
	}
	set, err := a.newCodes(ctx)
	if err != nil {
		return nil, err
	}
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if err != nil {
			return err
		}
		if f, err := a.factorsTx(ctx, tx, u.ID); err != nil || !f.Second() {
			if err == nil {
				err = ErrNoFactor
			}
			return err
		}
		if err := a.storeCodes(ctx, tx, u.ID, set); err != nil {
			return err
		}
		return a.factorChanged(ctx, tx, u, EventBackupCodes, "", "", c)
	})
	if err != nil {
		return nil, err
	}
	return set.codes, nil
}

// checkedBackup is what was found out about a code before the transaction that spends it.
type checkedBackup struct {
	// entered tells that the code has the form of a backup code.
	entered bool
	// n and hash are those of the code that matches; 0 for none.
	n    int
	hash string
}

// backupCode returns a code in the form in which it was hashed; false when it has another form.
func backupCode(s string) (string, bool) {
	s = strings.ToUpper(plainCode(s))
	if len(s) != backupChars {
		return "", false
	}
	for _, c := range s {
		if !strings.ContainsRune(backupAlphabet, c) {
			return "", false
		}
	}
	return s, true
}

// checkBackup compares a code with a user's, outside of any transaction: it takes the time of one hash, whatever is
// found.
func (a *Auth) checkBackup(ctx context.Context, userID, code string) (found checkedBackup, err error) {
	plain, ok := backupCode(code)
	if !ok {
		return found, nil
	}
	found.entered = true
	var rows []struct {
		N    int    `db:"n"`
		Hash string `db:"hash"`
	}
	if err := a.db.Select(ctx, &rows, `SELECT n, hash FROM qs_auth_backup_codes WHERE user_id = ? AND used_at IS NULL ORDER BY n`, userID); err != nil {
		return found, fmt.Errorf("auth: backup codes of user %s: %w", userID, err)
	}
	compare := []string{a.hasher.dummy}
	if len(rows) > 0 {
		compare = compare[:0]
		for _, r := range rows {
			compare = append(compare, r.Hash)
		}
	}
	params, salt, _, err := argon2id.DecodeHash(compare[0])
	if err != nil {
		return found, fmt.Errorf("auth: read a stored backup code of user %s: %w", userID, err)
	}
	got, err := a.hasher.key(ctx, plain, salt, *params)
	if err != nil {
		return found, err
	}
	for _, r := range rows {
		_, _, want, err := argon2id.DecodeHash(r.Hash)
		if err != nil {
			return found, fmt.Errorf("auth: read a stored backup code of user %s: %w", userID, err)
		}
		if subtle.ConstantTimeCompare(got, want) == 1 {
			found.n, found.hash = r.N, r.Hash
		}
	}
	return found, nil
}

// spendBackup uses a code of a locked user up and tells the owner; [ErrCode] when it is not one, or was used meanwhile.
func (a *Auth) spendBackup(ctx context.Context, tx *sqlx.Tx, u userRow, found checkedBackup, c Client) error {
	if found.n == 0 {
		return ErrCode
	}
	const spend = `UPDATE qs_auth_backup_codes SET used_at = ? WHERE user_id = ? AND n = ? AND hash = ? AND used_at IS NULL`
	n, err := a.db.ExecTx(ctx, tx, spend, database.At(a.now()), u.ID, found.n, found.hash)
	if err != nil {
		return fmt.Errorf("auth: spend a backup code of user %s: %w", u.ID, err)
	}
	if n != 1 {
		return ErrCode
	}
	f, err := a.factorsTx(ctx, tx, u.ID)
	if err != nil {
		return err
	}
	return a.factorChanged(ctx, tx, u, EventBackupUsed, fmt.Sprintf("%d left", f.BackupCodes), strconv.Itoa(f.BackupCodes), c)
}
