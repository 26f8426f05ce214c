package auth_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// medians measures two ways in turn, so that whatever else the machine does hits both.
func medians(n int, one, two func()) (a, b time.Duration) {
	times := [2][]time.Duration{}
	for i := range 2 * n {
		// Each comes first as often as second.
		which := (i + i/2) % 2
		began := time.Now()
		[]func(){one, two}[which]()
		times[which] = append(times[which], time.Since(began))
	}
	for _, t := range times {
		slices.Sort(t)
	}
	return times[0][n/2], times[1][n/2]
}

// alike measures up to four times whether the medians of two ways are as close as given. What the machine does beside
// puts them apart now and then; a way that does less work is apart each time.
func alike(n int, share float64, atLeast time.Duration, one, two func()) bool {
	for range 4 {
		a, b := medians(n, one, two)
		if gap := (a - b).Abs(); gap <= max(time.Duration(share*float64(max(a, b))), atLeast) {
			return true
		}
	}
	return false
}

// The time of an answer tells no more than its words: the medians of 30 log-ins each are the same within 5 % whether or not an
// account exists, with a hash of a cost as in production. The measure can tell: a way without a hash fails it. It does
// not run beside the other tests of the package.
func TestAnswers_TakeAsLongWhetherOrNotAnAccountExists(t *testing.T) { //nolint:paralleltest // it measures time
	for name, open := range map[string]func(testing.TB, dbtest.Schema) *database.DB{"sqlite": dbtest.SQLite, "postgres": dbtest.Postgres} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t, open(t, schema))
			k.UseHashMemory(16 << 10)
			k.user(email)
			locked := k.user("locked@example.com")
			ctx, c := t.Context(), auth.Client{IP: "192.0.2.1", Agent: "Test"}
			logIn := func(address, pass string) func() {
				return func() {
					_, err := k.LogIn(ctx, auth.LogInParams{Email: address, Password: pass, Client: c})
					assert.ErrorIs(t, err, auth.ErrCredentials)
				}
			}
			for range 5 {
				logIn(locked.Email, "wrong password")()
			}
			const samples = 30
			unknown := logIn("nobody@example.com", "wrong password")
			assert.True(t, alike(samples, 0.05, time.Millisecond, logIn(email, "wrong password"), unknown), "wrong password")
			assert.True(t, alike(samples, 0.05, time.Millisecond, logIn(locked.Email, password), unknown), "locked, with the right password")
			assert.False(t, alike(10, 0.05, 0, logIn(email, "wrong password"), logIn(email, string(make([]byte, 600)))), "the measure can tell")

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
				do := func(address string) func() { return func() { assert.NoError(t, route(address)) } }
				// What an account costs more is a row or two, far less than a request over a network varies.
				assert.True(t, alike(20, 0.25, 5*time.Millisecond, do(email), do("nobody@example.com")), name)
			}
		})
	}
}
