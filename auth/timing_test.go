package auth_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
)

// comparison is what two ways took that were measured in pairs, one right after the other.
type comparison struct {
	one, two time.Duration // medians
	// shorter is in how many of the pairs the first way took less.
	shorter, pairs int
}

// compare measures two ways in turn, in an order that is drawn for each pair: whatever else the machine does hits both
// alike.
func compare(pairs int, one, two func()) comparison {
	var times [2][]time.Duration
	c := comparison{pairs: pairs}
	ways := []func(){one, two}
	for range pairs {
		var took [2]time.Duration
		first := rand.IntN(2)
		for _, way := range []int{first, 1 - first} {
			began := time.Now()
			ways[way]()
			took[way] = time.Since(began)
		}
		for way := range took {
			times[way] = append(times[way], took[way])
		}
		if took[0] < took[1] {
			c.shorter++
		}
	}
	for _, t := range times {
		slices.Sort(t)
	}
	c.one, c.two = times[0][pairs/2], times[1][pairs/2]
	return c
}

// sigmas is how far from one half the number of pairs is in which one way took less, in standard deviations of what chance
// gives to two ways that take the same time, however loaded the machine is.
func (c comparison) sigmas() float64 {
	return math.Abs(float64(c.shorter)-float64(c.pairs)/2) / (math.Sqrt(float64(c.pairs)) / 2)
}

// gap is how far apart the medians are, as a share of the longer one.
func (c comparison) gap() float64 {
	return float64((c.one - c.two).Abs()) / float64(max(c.one, c.two))
}

// chance is what two equal ways exceed in one of two million comparisons.
const chance = 5.0

// tells says that somebody who measures could tell the ways apart: the medians are further apart than the share, and not
// by chance.
func (c comparison) tells(share float64) bool { return c.gap() > share && c.sigmas() > chance }

// The time of an answer tells no more than its words. The medians of 200 log-ins are within 5 % whether or not an account
// exists, those of answers by mail, of which each is a few milliseconds in the database, within 15 %; or the difference is
// chance. That the work is the same is what TestAnswers_DoTheSameWorkWhetherOrNotAnAccountExists counts; the measure here
// shows that no work was forgotten there, and finds a hash of four times the cost. It does not run beside the other tests of the
// package.
func TestAnswers_TakeAsLongWhetherOrNotAnAccountExists(t *testing.T) { //nolint:paralleltest // it measures time
	for _, engine := range engines {
		t.Run(engine.name, func(t *testing.T) {
			db := engine.open(t, schema)
			if db.Dialect() == database.SQLite {
				_, err := db.Writer().Exec(`PRAGMA synchronous = OFF`) // how long a disk takes is no matter
				require.NoError(t, err)
			}
			k, costly := newKit(t, db), newKit(t, db)
			const memory = 4 << 10
			k.UseHashMemory(memory)
			costly.UseHashMemory(4 * memory)
			k.user(email)
			locked := k.user("locked@example.com")
			hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
			require.NoError(t, err)
			_, err = k.CreateUser(t.Context(), auth.CreateUserParams{Email: "imported@example.com", PasswordHash: string(hash), Verified: true})
			require.NoError(t, err)
			ctx, c := t.Context(), auth.Client{IP: "192.0.2.1", Agent: "Test"}
			logIn := func(k *kit, address, pass string) func() {
				return func() {
					_, err := k.LogIn(ctx, auth.LogInParams{Email: address, Password: pass, Client: c})
					assert.ErrorIs(t, err, auth.ErrCredentials)
				}
			}
			for range 5 {
				logIn(k, locked.Email, "wrong password")()
			}
			unknown := logIn(k, "nobody@example.com", "wrong password")
			for range 10 { // what is made at the first use
				unknown()
				logIn(k, email, "wrong password")()
			}
			got := compare(200, logIn(k, email, "wrong password"), unknown)
			assert.False(t, got.tells(0.05), "wrong password: %+v, %.1f σ", got, got.sigmas())
			got = compare(100, logIn(k, locked.Email, password), unknown)
			assert.False(t, got.tells(0.05), "locked, with the right password: %+v, %.1f σ", got, got.sigmas())
			// Beside a cheap hash of another system one of ours is calculated. It never takes less; on a machine without a free
			// core it takes what the cheap one does more.
			got = compare(60, logIn(k, "imported@example.com", "wrong password"), unknown)
			assert.False(t, got.one < got.two && got.tells(0.05), "imported: %+v, %.1f σ", got, got.sigmas())

			got = compare(100, logIn(costly, "nobody@example.com", "wrong password"), unknown)
			assert.True(t, got.tells(0.05), "the measure can tell: %+v, %.1f σ", got, got.sigmas())

			for name, route := range map[string]func(address string) error{
				"forgot": func(address string) error { return k.ForgotPassword(ctx, address, c) },
				"resend": func(address string) error { return k.ResendVerification(ctx, address, c) },
				"signup": func(address string) error {
					_, err := k.SignUp(ctx, auth.SignUpParams{Email: address, Password: password, Client: c})
					return err
				},
				"magic": func(address string) error {
					_, err := k.RequestMagic(ctx, auth.RequestMagicParams{Email: address, Client: c})
					return err
				},
			} {
				do := func(address func() string) func() { return func() { assert.NoError(t, route(address())) } }
				known := func() string { return email }
				nobody := func() string { return fmt.Sprintf("nobody%d@example.com", rand.Int64()) }
				got := compare(60, do(known), do(nobody))
				assert.False(t, got.tells(0.15), "%s: %+v, %.1f σ", name, got, got.sigmas())
			}
		})
	}
}
