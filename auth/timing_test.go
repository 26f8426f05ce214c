package auth_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

// differ measures two ways in turn, so that whatever else the machine does hits both, and tells whether their medians are
// further apart than any noise would explain.
func differ(n int, one, two func()) bool {
	times := [2][]time.Duration{}
	for range n {
		for i, fn := range []func(){one, two} {
			began := time.Now()
			fn()
			times[i] = append(times[i], time.Since(began))
		}
	}
	a, b := median(times[0]), median(times[1])
	return max(a, b) > min(a, b)*3/2
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// The time of an answer tells no more than its words. What is compared with no hash at all shows that the measure could
// tell.
func TestAnswers_TakeAsLongWhetherOrNotAnAccountExists(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		require.NoError(t, k.UseHashMemory(8<<10))
		k.user(email)
		ctx, c := t.Context(), auth.Client{IP: "192.0.2.1", Agent: "Test"}
		logIn := func(address, pass string) func() {
			return func() {
				_, err := k.LogIn(ctx, auth.LogInParams{Email: address, Password: pass, Client: c})
				assert.ErrorIs(t, err, auth.ErrCredentials)
			}
		}
		const samples = 30
		assert.False(t, differ(samples, logIn(email, "wrong password"), logIn("nobody@example.com", "wrong password")))
		long := string(make([]byte, 600))
		assert.True(t, differ(samples, logIn(email, "wrong password"), logIn(email, long)), "the measure can tell")

		for name, route := range map[string]func(ctx context.Context, address string) error{
			"forgot": func(ctx context.Context, address string) error { return k.ForgotPassword(ctx, address, c) },
			"resend": func(ctx context.Context, address string) error { return k.ResendVerification(ctx, address, c) },
			"signup": func(ctx context.Context, address string) error {
				_, err := k.SignUp(ctx, auth.SignUpParams{Email: address, Password: password, Client: c})
				return err
			},
			"magic": func(ctx context.Context, address string) error {
				_, err := k.RequestMagic(ctx, auth.RequestMagicParams{Email: address, Client: c})
				return err
			},
		} {
			do := func(address string) func() {
				return func() {
					if err := route(ctx, address); err != nil && !errors.Is(err, context.Canceled) {
						assert.NoError(t, err)
					}
				}
			}
			// What an account costs more is a row or two, far less than a request over a network varies.
			times := [2][]time.Duration{}
			for range samples {
				for i, address := range []string{email, "nobody@example.com"} {
					began := time.Now()
					do(address)()
					times[i] = append(times[i], time.Since(began))
				}
			}
			gap := median(times[0]) - median(times[1])
			assert.Less(t, gap.Abs(), 15*time.Millisecond, name)
		}
	})
}
