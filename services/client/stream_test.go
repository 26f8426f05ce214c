package client_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/services/client"
)

// words is a metered price of 0.1 credits a word.
func words() services.Pricing {
	return services.Metered(services.Rates{"words": services.Each(credits.MustAmount("0.1"))}, func(line) services.Units { return services.Units{"words": 10} })
}

// speak sends a word after the other, and waits before the fourth until it is stopped.
func speak(ctx context.Context, call *services.Call, in line) (line, error) {
	for i, word := range strings.Fields(in.Text) {
		if i == 3 {
			<-ctx.Done()
			return line{}, ctx.Err()
		}
		if err := errors.Join(call.Meter("words", 1), call.Send(word)); err != nil {
			return line{}, err
		}
	}
	return in, nil
}

func TestStream_GivesEachPart(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.add("speak", words(), speak)
		var parts []string
		answer, err := client.Stream[line, string, line](t.Context(), s.client(), "speak", line{"one two"}, func(p string) error {
			parts = append(parts, p)
			return nil
		})
		require.NoError(t, err)
		assert.Equal(t, []string{"one", "two"}, parts)
		assert.Equal(t, "one two", answer.Output.Text)
		assert.Equal(t, "0.2", answer.Charged)
		assert.Equal(t, map[string]int64{"words": 2}, answer.Units)
		_, err = client.Stream[line, string, line](t.Context(), s.client(), "speak", line{""}, func(string) error { return nil })
		require.ErrorIs(t, err, &client.Error{Code: "invalid"})
	})
}

// Who stops listening pays for what was said until then.
func TestStream_EndsWithItsContextAndItsReader(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.add("speak", words(), speak)
		ctx, cancel := context.WithCancel(t.Context())
		heard := 0
		_, err := client.Stream[line, string, line](ctx, s.client(), "speak", line{"one two three four"}, func(string) error {
			if heard++; heard == 3 {
				cancel()
			}
			return nil
		})
		require.ErrorIs(t, err, context.Canceled)
		require.Eventually(t, func() bool { return len(s.charges()) == 1 }, 20*time.Second, 5*time.Millisecond)
		assert.Equal(t, []string{"-0.3"}, s.charges())

		enough := errors.New("enough")
		_, err = client.Stream[line, string, line](t.Context(), s.client(), "speak", line{"one two three four"}, func(p string) error {
			if p == "three" {
				return enough
			}
			return nil
		})
		require.ErrorIs(t, err, enough)
		require.Eventually(t, func() bool { return len(s.charges()) == 2 }, 20*time.Second, 5*time.Millisecond)
		assert.Equal(t, []string{"-0.3", "-0.3"}, s.charges())
	})
}

// A connection that breaks in the middle ends the call on the server; asked again, it tells what it came to.
func TestStream_ACutStreamIsChargedOnce(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.add("speak", words(), speak)
		s.spoil = func(n int, w http.ResponseWriter, r *http.Request, through http.Handler) bool {
			if n == 1 {
				ctx, cut := context.WithCancel(r.Context())
				through.ServeHTTP(&cutter{ResponseWriter: w, after: 3, cut: cut}, r.WithContext(ctx))
				panic(http.ErrAbortHandler)
			}
			return false
		}
		var parts []string
		answer, err := client.Stream[line, string, line](t.Context(), s.client(), "speak", line{"one two three four"}, func(p string) error {
			parts = append(parts, p)
			return nil
		})
		require.NoError(t, err)
		assert.Equal(t, []string{"one", "two", "three"}, parts, "no part twice")
		require.NotNil(t, answer.Incomplete)
		assert.Equal(t, "canceled", answer.Incomplete.Code)
		assert.Equal(t, "0.3", answer.Charged)
		assert.Equal(t, []string{"-0.3"}, s.charges())
	})
}

// cutter breaks a connection after some parts.
type cutter struct {
	http.ResponseWriter

	after int
	cut   func()
}

func (c *cutter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	if strings.HasPrefix(string(p), "event: part") {
		if c.after--; c.after == 0 {
			defer c.cut()
		}
	}
	return n, err
}

func (c *cutter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func TestJob_IsWaitedFor(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.add("shout", services.Fixed(credits.MustAmount("0.5")), loud)
		s.add("breaks", services.Fixed(credits.Credit), func(context.Context, *services.Call, line) (line, error) {
			return line{}, services.Failure("No luck.")
		}, services.Background())
		s.add("half", services.Fixed(credits.Credit), func(_ context.Context, call *services.Call, in line) (line, error) {
			return in, errors.Join(call.Charge(credits.MustAmount("0.25")), services.Partial("Half of it."))
		})
		s.spoil = func(n int, _ http.ResponseWriter, r *http.Request, through http.Handler) bool {
			if n == 1 {
				lose(r, through)
			}
			return false
		}
		c := s.client()
		job, err := client.Enqueue(t.Context(), c, "shout", line{"hi"})
		require.NoError(t, err)
		answer, err := client.Wait[line](t.Context(), c, job.ID)
		require.NoError(t, err)
		assert.Equal(t, "HI", answer.Output.Text)
		assert.Equal(t, "0.5", answer.Charged)
		assert.Equal(t, []string{"-0.5"}, s.charges(), "its first answer was lost")
		after, err := c.CancelJob(t.Context(), job.ID)
		require.NoError(t, err)
		assert.Equal(t, "succeeded", after.Status, "too late")

		job, err = client.Enqueue(t.Context(), c, "breaks", line{"hi"})
		require.NoError(t, err)
		_, err = client.Wait[line](t.Context(), c, job.ID)
		require.ErrorIs(t, err, &client.Error{Code: "execution_failed"})
		require.ErrorContains(t, err, "No luck.")

		job, err = client.Enqueue(t.Context(), c, "half", line{"hi"})
		require.NoError(t, err)
		answer, err = client.Wait[line](t.Context(), c, job.ID)
		require.NoError(t, err)
		require.NotNil(t, answer.Incomplete)
		assert.Equal(t, "0.25", answer.Charged)

		_, err = client.Enqueue(t.Context(), c, "shout", line{"hi"}, client.Notify())
		require.ErrorIs(t, err, &client.Error{Code: "invalid"}, "this application tells nobody")
		_, err = client.Wait[line](t.Context(), c, "none")
		require.ErrorIs(t, err, &client.Error{Code: "not_found"})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = client.Wait[line](ctx, c, job.ID)
		require.ErrorIs(t, err, context.Canceled)
	})
}
