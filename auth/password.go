package auth

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/argon2"
	"golang.org/x/sync/semaphore"

	"github.com/quickscale/quickscale/internal/problem"
)

// Bounds of a password. There are no rules about its composition (NIST SP 800-63B, 3.1.1.2) unless the host wants them.
const (
	maxPassword      = 128 // characters
	maxPasswordBytes = 512
)

// hashParams are OWASP's minimum for Argon2id: 19 MiB, two passes, one lane (Password Storage Cheat Sheet).
func hashParams() argon2id.Params {
	return argon2id.Params{Memory: 19 << 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}
}

// Bounds of the parameters in a stored hash; beyond them a row that somebody wrote could exhaust the machine.
const (
	maxHashMemory     = 256 << 10 // KiB
	maxHashIterations = 16
	maxHashLanes      = 16
	maxHashBytes      = 64
)

// hashWait is how long a request waits for its turn to hash.
const hashWait = 5 * time.Second

func defaultHashConcurrency() int { return max(2, runtime.NumCPU()) }

// hasher hashes passwords, a few at a time.
type hasher struct {
	params argon2id.Params
	turns  *semaphore.Weighted
	wait   time.Duration
	// dummy has the form of a hash with the same parameters, and is of no password: what it ends in was drawn.
	dummy string
	// hashes counts the calculations, by which tests compare the work for known and unknown accounts.
	hashes atomic.Int64
}

func newHasher(params argon2id.Params, concurrency int) *hasher {
	drawn := make([]byte, params.SaltLength+params.KeyLength)
	_, _ = rand.Read(drawn) // never fails (crypto/rand documentation)
	return &hasher{params: params, turns: semaphore.NewWeighted(int64(concurrency)), wait: hashWait,
		dummy: phc(params, drawn[:params.SaltLength], drawn[params.SaltLength:])}
}

// phc is the text of an argon2id hash as the PHC string format has it.
func phc(p argon2id.Params, salt, key []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.Memory, p.Iterations, p.Parallelism,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

// turn waits for a free place; a [*RetryError] of code "unavailable" when none comes in time.
func (h *hasher) turn(ctx context.Context) (done func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, h.wait)
	defer cancel()
	if err := h.turns.Acquire(waiting, 1); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &RetryError{Code: problem.CodeUnavailable, Message: "Many people are logging in right now. Try again in a moment.", After: time.Second}
	}
	h.hashes.Add(1)
	return func() { h.turns.Release(1) }, nil
}

// hash returns the password's hash in PHC form.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	done, err := h.turn(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	hash, err := argon2id.CreateHash(normal(password), &h.params)
	if err != nil {
		return "", fmt.Errorf("auth: hash: %w", err)
	}
	return hash, nil
}

// matches compares a password with a stored hash, "" for an account that does not exist, at the cost of one new hash in
// any case, and of no less for a hash that costs less: the time of an answer must not tell who has one. What a hash of another system
// or with larger parameters costs beyond that cannot be hidden. stale tells that the hash is not as new ones are.
func (h *hasher) matches(ctx context.Context, password, stored string) (ok, stale bool, err error) {
	done, err := h.turn(ctx)
	if err != nil {
		return false, false, err
	}
	defer done()
	compare := stored
	if stored == "" {
		compare = h.dummy
	}
	if isImported(compare) {
		ok, err := h.matchBeside(password, compare)
		return ok, true, err
	}
	params, _, _, err := argon2id.DecodeHash(compare)
	if err != nil {
		return false, false, fmt.Errorf("auth: read a stored hash: %w", err)
	}
	if !boundedParams(params) {
		return false, false, fmt.Errorf("auth: a stored hash has parameters out of bounds: m=%d t=%d p=%d", params.Memory, params.Iterations, params.Parallelism)
	}
	equal, err := argon2id.ComparePasswordAndHash(normal(password), compare)
	if err != nil {
		return false, false, fmt.Errorf("auth: compare with a stored hash: %w", err)
	}
	h.fill(params)
	return equal && stored != "", *params != h.params, nil
}

// matchBeside compares with a hash of another system while a hash of ours is calculated, so that it takes as long as the
// longer of the two. Side by side they need no more memory than one of ours.
func (h *hasher) matchBeside(password, stored string) (ok bool, err error) {
	var beside sync.WaitGroup
	var besideErr error
	beside.Go(func() { _, besideErr = argon2id.ComparePasswordAndHash(normal(password), h.dummy) })
	ok, err = matchImported(password, stored)
	beside.Wait()
	if err == nil && besideErr != nil {
		err = fmt.Errorf("auth: hash: %w", besideErr)
	}
	return ok, err
}

// leastMemory is the least that argon2 takes for one lane, in KiB.
const leastMemory = 8

// fill does the work by which a hash with parameters of before falls short of a new one.
func (h *hasher) fill(p *argon2id.Params) {
	if memory := missing(&h.params, p); memory > 0 {
		argon2.IDKey([]byte(h.dummy), make([]byte, p.SaltLength), h.params.Iterations, memory, 1, h.params.KeyLength)
	}
}

// missing is the memory, in KiB, with which as many passes as a new hash has make up for one of less work. Work is memory
// times passes. 0: there is nothing to make up for, or too little to do.
func missing(now, before *argon2id.Params) uint32 {
	work, done := uint64(now.Memory)*uint64(now.Iterations), uint64(before.Memory)*uint64(before.Iterations)
	if done >= work {
		return 0
	}
	memory := uint32((work - done) / uint64(now.Iterations)) //nolint:gosec // G115: now.Memory at most
	if memory < leastMemory {
		return 0
	}
	return memory
}

func boundedParams(p *argon2id.Params) bool {
	return p.Memory <= maxHashMemory && p.Iterations > 0 && p.Iterations <= maxHashIterations && p.Parallelism > 0 && p.Parallelism <= maxHashLanes &&
		p.KeyLength > 0 && p.KeyLength <= maxHashBytes && p.SaltLength <= maxHashBytes
}

// checkLength returns the sentence about a password of the wrong length, or "".
func checkLength(password string, least int) string {
	n := utf8.RuneCountInString(normal(password))
	switch {
	case n < least:
		return fmt.Sprintf("Use %d characters or more.", least)
	case n > maxPassword || len(password) > maxPasswordBytes || len(normal(password)) > maxPasswordBytes:
		return fmt.Sprintf("Use at most %d characters.", maxPassword)
	}
	return ""
}

// checkPassword returns the sentence about a password that the policy refuses, or "". words are those that belong to
// the person or the product.
func (a *Auth) checkPassword(password string, words ...string) string {
	if message := checkLength(password, a.cfg.MinPassword); message != "" {
		return message
	}
	if a.cfg.MixedPasswords && !isMixed(password) {
		return "Use upper-case and lower-case letters, a digit and another sign."
	}
	password = normal(password)
	if isCommon(password) {
		return "This password is one of the first that attackers try. Choose another one, such as a few words that do not belong together."
	}
	low, name := strings.ToLower(password), strings.Fields(a.cfg.Site.Name())
	words = append(words, strings.Join(name, " "), strings.Join(name, ""))
	for _, word := range append(words, name...) {
		word = strings.ToLower(word)
		// What is long without the word may contain it.
		if utf8.RuneCountInString(word) >= 3 && strings.Contains(low, word) &&
			utf8.RuneCountInString(strings.ReplaceAll(low, word, "")) < DefaultMinPassword {
			return "This password is close to your address or to the name of this site. Choose another one."
		}
	}
	return ""
}

//go:embed common.txt
var commonFile string

// common are words that most bad passwords are made of, as they stand in common.txt.
var common = readCommon(commonFile)

func readCommon(file string) map[string]bool {
	words := map[string]bool{}
	for word := range strings.FieldsSeq(file) {
		words[word] = true
	}
	return words
}

// runs are rows of keys, alphabets and the like; a part of one is no password.
var runs = []string{
	"01234567890123456789", "98765432109876543210", "abcdefghijklmnopqrstuvwxyzabc", "zyxwvutsrqponmlkjihgfedcba",
	"qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm", "azertyuiopqsdfghjklmwxcvbn", "poiuytrewqlkjhgfdsamnbvcxz",
	"1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik", "1q2w3e4r5t6y7u8i9o0p", "q1w2e3r4t5y6u7i8o9p0", "qazwsxedcrfvtgbyhnujmikolp", "!@#$%^&*()_+", "147258369", "159357456852",
}

// unleet undoes the usual replacements.
var unleet = strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i")

// isCommon tells that a password is a common one, or is made from one by capitals, by look-alikes, or by digits and
// signs around it; that it repeats a short piece; or that it is a part of a row of keys.
func isCommon(password string) bool {
	low := strings.ToLower(password)
	const signsAround = "!?.,-_*#+@$%&= "
	const around = "0123456789" + signsAround
	stem := strings.Trim(low, around)
	for _, s := range []string{low, stem, strings.TrimRight(low, around), strings.Trim(low, signsAround)} {
		if common[s] || common[unleet.Replace(s)] || commonPasswords()[s] {
			return true
		}
	}
	if repeats(low) || repeats(stem) {
		return true
	}
	for _, run := range runs {
		if strings.Contains(run, low) || len(stem) >= 4 && strings.Contains(run, stem) {
			return true
		}
	}
	return false
}

// repeats tells that s is one piece of up to four characters again and again, or two common words.
func repeats(s string) bool {
	r := []rune(s)
	for size := 1; size <= min(4, len(r)/2); size++ {
		same := true
		for i := size; i < len(r) && same; i++ {
			same = r[i] == r[i-size]
		}
		if same {
			return true
		}
	}
	half := len(r) / 2
	return half > 0 && len(r)%2 == 0 && string(r[:half]) == string(r[half:]) && common[string(r[:half])]
}
