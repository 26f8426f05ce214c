package auth

import (
	"context"
	"errors"
	"time"

	"github.com/alexedwards/argon2id"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// UseHashMemory replaces the cost of hashing, in KiB with one pass.
func (a *Auth) UseHashMemory(kib uint32) {
	a.hasher = newHasher(argon2id.Params{Memory: kib, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}, a.cfg.HashConcurrency)
}

// UseDefaultHash puts the cost of hashing back.
func (a *Auth) UseDefaultHash() { a.hasher = newHasher(hashParams(), a.cfg.HashConcurrency) }

// Hashes is how many passwords were hashed or compared.
func (a *Auth) Hashes() int64 { return a.hasher.hashes.Load() }

// OccupyHasher takes all turns and makes others wait for only as long as given.
func (a *Auth) OccupyHasher(ctx context.Context, wait time.Duration) (free func(), err error) {
	a.hasher.wait = wait
	n := int64(a.cfg.HashConcurrency)
	return func() { a.hasher.turns.Release(n) }, a.hasher.turns.Acquire(ctx, n)
}

// Database is where the accounts are.
func (a *Auth) Database() *database.DB { return a.db }

// CheckPassword is the policy's sentence about a password.
func (a *Auth) CheckPassword(password string, words ...string) string {
	return a.checkPassword(password, words...)
}

// EmailKey is what an address is compared by.
func EmailKey(s string) (shown, key string, err error) {
	e, err := parseEmail(s)
	if err != nil && problem.FieldsOf(err)["email"] == "" {
		return "", "", errors.New("the error names no field")
	}
	return e.shown, e.key, err
}

// IsSecret tells that s has the form of a session's or a link's token.
func IsSecret(s string) bool { return isSecret(s) }

// MatchImported compares a password with a hash of another system.
func MatchImported(password, stored string) (right, imported bool, err error) {
	right, err = matchImported(password, stored)
	return right, isImported(stored), err
}

// MissingMemory is what makes up for a hash of so much memory and so many passes, beside one as new ones are.
func MissingMemory(memory, passes uint32) uint32 {
	now := hashParams()
	return missing(&now, &argon2id.Params{Memory: memory, Iterations: passes})
}

// CommonPasswords is how many passwords are known as common.
func CommonPasswords() int { return len(commonPasswords()) }
