package auth

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/bcrypt"

	"github.com/quickscale/quickscale/internal/problem"
)

// Bounds of imported hashes; beyond them a row that somebody wrote could keep the machine busy.
const (
	maxBcryptCost       = 14
	maxPBKDF2Iterations = 2_000_000
	maxBcryptBytes      = 72
)

// Errors that callers branch on.
var (
	// ErrHash: the password hash is of a kind that cannot be imported, or costs too much.
	ErrHash error = problem.Invalid(map[string]string{"password": "The hash must be argon2id, bcrypt up to cost 14, or Django's pbkdf2_sha256 up to 2,000,000 iterations."})
)

// djangoHash is pbkdf2_sha256$iterations$salt$hash, as Django writes it.
type djangoHash struct {
	iterations int
	salt       string
	key        []byte
}

func parseDjango(stored string) (h djangoHash, ok bool) {
	parts := strings.Split(stored, "$")
	if len(parts) != 4 || parts[0] != "pbkdf2_sha256" || parts[2] == "" {
		return h, false
	}
	n, err := strconv.Atoi(parts[1])
	key, keyErr := base64.StdEncoding.Strict().DecodeString(parts[3])
	if err != nil || keyErr != nil || n < 1 || n > maxPBKDF2Iterations || len(key) != sha256.Size {
		return h, false
	}
	return djangoHash{n, parts[2], key}, true
}

func isBcrypt(stored string) bool {
	return strings.HasPrefix(stored, "$2a$") || strings.HasPrefix(stored, "$2b$") || strings.HasPrefix(stored, "$2y$")
}

// checkImported tells whether a hash can be stored; [ErrHash].
func checkImported(stored string) error {
	if strings.HasPrefix(stored, "$argon2id$") {
		params, _, _, err := argon2id.DecodeHash(stored)
		if err != nil || !boundedParams(params) {
			return ErrHash
		}
		return nil
	}
	if isBcrypt(stored) {
		if cost, err := bcrypt.Cost([]byte(stored)); err != nil || cost > maxBcryptCost {
			return ErrHash
		}
		return nil
	}
	if _, ok := parseDjango(stored); !ok {
		return ErrHash
	}
	return nil
}

// isImported tells that a stored hash is another system's.
func isImported(stored string) bool { return isBcrypt(stored) || strings.HasPrefix(stored, "pbkdf2_") }

// matchImported compares with a hash of another system. The password is taken as it is, since those systems did not
// normalise it. Of bcrypt only what is up to 72 bytes long can be right: it ignores the rest, and the hash that replaces it
// would be of a password that nobody has checked.
func matchImported(password, stored string) (right bool, err error) {
	if isBcrypt(stored) {
		if checkImported(stored) != nil {
			return false, errors.New("auth: a stored bcrypt hash is malformed or out of bounds")
		}
		err := bcrypt.CompareHashAndPassword([]byte(stored), []byte(password))
		if err != nil && !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) && !errors.Is(err, bcrypt.ErrPasswordTooLong) {
			return false, fmt.Errorf("auth: compare with a stored hash: %w", err)
		}
		return err == nil && len(password) <= maxBcryptBytes, nil
	}
	h, ok := parseDjango(stored)
	if !ok {
		return false, errors.New("auth: a stored PBKDF2 hash is malformed or out of bounds")
	}
	key, err := pbkdf2.Key(sha256.New, password, []byte(h.salt), h.iterations, len(h.key))
	if err != nil {
		return false, fmt.Errorf("auth: compare with a stored hash: %w", err)
	}
	return subtle.ConstantTimeCompare(key, h.key) == 1, nil
}
