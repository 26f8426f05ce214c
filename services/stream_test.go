package services_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

type word struct {
	Word string `json:"word"`
}

// talker sends a word for each token, until its context ends.
func talker(n int) worker {
	return func(ctx context.Context, call *services.Call, _ job) (done, error) {
		said := 0
		for range n {
			if err := call.Meter("tokens", 1); err != nil {
				return done{}, err
			}
			if err := call.Send(word{"so\nso"}); err != nil {
				return done{}, err
			}
			said++
		}
		return done{strings.Repeat("so ", said)}, nil
	}
}

// event is a server-sent event.
type event struct{ name, data string }

func (s *shop) stream(ctx context.Context, url, service, input string, each func(e event)) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/services/"+service, strings.NewReader(input))
	require.NoError(s.t, err)
	r.Header.Set("Authorization", "Bearer "+ada)
	r.Header.Set("Accept", "text/event-stream")
	res, err := http.DefaultClient.Do(r)
	require.NoError(s.t, err)
	defer res.Body.Close()
	var e event
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		switch line := lines.Text(); {
		case line == "":
			each(e)
			e = event{}
		case strings.HasPrefix(line, "event: "):
			e.name = line[7:]
		default:
			e.data = strings.TrimPrefix(line, "data: ")
		}
	}
	return res
}

func TestStream_SendsPartsAndSettles(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.register("talk", tokens(), talker(3))
		server := httptest.NewServer(s.APIHandler())
		defer server.Close()
		var got []event
		res := s.stream(t.Context(), server.URL, "talk", `{"text":"hi","times":5}`, func(e event) { got = append(got, e) })
		assert.Equal(t, "text/event-stream; charset=utf-8", res.Header.Get("Content-Type"))
		require.Len(t, got, 5)
		assert.Equal(t, event{"part", `{"word":"so\nso"}`}, got[0])
		assert.Equal(t, event{"usage", `{"units":{"tokens":1},"credits_charged":"0.5"}`}, got[1], "told at once, and then once a second")
		assert.Equal(t, "result", got[4].name)
		var result services.Result
		require.NoError(t, json.Unmarshal([]byte(got[4].data), &result))
		assert.Equal(t, "1.5", result.Charged.String())
		assert.Equal(t, "8.5", result.Balance.String())
		assert.JSONEq(t, `{"echo":"so so so "}`, string(result.Output))

		// Without a stream the same service answers as any other.
		plain := s.send(http.MethodPost, "/api/v1/services/talk", `{"text":"hi","times":5}`, "Authorization", "Bearer "+ada)
		assert.Equal(t, "1.5", plain.Header.Get("X-Credits-Charged"))
		assert.Contains(t, text(t, plain.Body), "so so so")
	})
}

func TestStream_RefusalsAreAnswersAsUsual(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.register("talk", tokens(), talker(3))
		s.register("fails", services.Free(), func(context.Context, *services.Call, job) (done, error) {
			return done{}, services.Failure("Not today.")
		})
		for _, c := range []struct {
			service, input, want string
			status               int
		}{
			{"talk", `{"text":"hi","times":5}`, "insufficient_credits", 402},
			{"talk", `{"text":"hi","extra":5}`, "There is no such field.", 422},
			{"nobody", `{}`, "not_found", 404},
			{"fails", `{"text":"hi"}`, "Not today.", 502},
		} {
			res := s.send(http.MethodPost, "/api/v1/services/"+c.service, c.input, "Authorization", "Bearer "+ada, "Accept", "text/event-stream")
			assert.Equal(t, c.status, res.StatusCode)
			assert.Equal(t, "application/json; charset=utf-8", res.Header.Get("Content-Type"))
			assert.Contains(t, text(t, res.Body), c.want)
		}
	})
}

func TestStream_FailingInTheMiddleCostsNothing(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.register("breaks", tokens(), func(ctx context.Context, call *services.Call, in job) (done, error) {
			_, err := talker(2)(ctx, call, in)
			require.NoError(t, err)
			return done{}, errors.New("secret")
		})
		var last event
		server := httptest.NewServer(s.APIHandler())
		defer server.Close()
		s.stream(t.Context(), server.URL, "breaks", `{"text":"hi","times":5}`, func(e event) { last = e })
		assert.Equal(t, "error", last.name)
		assert.Contains(t, last.data, "execution_failed")
		assert.NotContains(t, last.data, "secret")
		assert.Equal(t, "10", s.balance(ada))
	})
}

// The credits that an account has run out in the middle: the stream ends, and costs what it had used.
func TestStream_StopsWhenCreditsRunOut(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "2")
		s.register("talk", tokens(), talker(100), services.StartWith(credits.Credit))
		parts := 0
		var last event
		server := httptest.NewServer(s.APIHandler())
		defer server.Close()
		s.stream(t.Context(), server.URL, "talk", `{"text":"hi","times":5}`, func(e event) {
			if last = e; e.name == "part" {
				parts++
			}
		})
		assert.Equal(t, 4, parts, "2 credits are 4 tokens")
		assert.Equal(t, "result", last.name)
		assert.Contains(t, last.data, `"incomplete":{"code":"out_of_credits"`)
		assert.Equal(t, "0", s.balance(ada))
		assert.Equal(t, services.PartlySucceeded, s.calls(ada)[0].Status)
	})
}

// The client goes away: the work hears of it, and what it used is charged.
func TestStream_StopsWhenTheClientLeaves(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		heard := make(chan error, 1)
		s.register("talk", tokens(), func(ctx context.Context, call *services.Call, in job) (done, error) {
			if _, err := talker(2)(ctx, call, in); err != nil {
				return done{}, err
			}
			<-ctx.Done()
			heard <- ctx.Err()
			return done{}, ctx.Err()
		})
		server := httptest.NewServer(s.APIHandler())
		defer server.Close()
		ctx, leave := context.WithCancel(t.Context())
		parts := 0
		s.stream(ctx, server.URL, "talk", `{"text":"hi","times":5}`, func(e event) {
			if e.name == "part" {
				parts++
			}
			if parts == 2 {
				leave()
			}
		})
		leave()
		require.ErrorIs(t, <-heard, context.Canceled)
		require.Eventually(t, func() bool { return s.calls(ada)[0].FinishedAt != nil }, 10*time.Second, 10*time.Millisecond)
		call := s.calls(ada)[0]
		assert.Equal(t, services.PartlySucceeded, call.Status)
		assert.Equal(t, "canceled", call.ErrorCode)
		assert.Equal(t, "1", call.Charged.String())
		assert.Equal(t, "9", s.balance(ada))
	})
}

// A caller that cannot be written to counts as gone too.
func TestStream_StopsWhenTheCallerTakesNoMore(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.register("talk", tokens(), talker(100))
		s.register("fixed", services.Fixed(credits.Credit), talker(100))
		refuse := func(after int) func(services.Part) error {
			return func(p services.Part) error {
				if after--; after < 0 {
					return io.ErrClosedPipe
				}
				return nil
			}
		}
		p := services.RunParams{Account: ada, Service: "talk", Input: job{Text: "hi", Times: 5}}
		res, err := s.Stream(t.Context(), p, refuse(2))
		require.NoError(t, err)
		assert.Equal(t, "canceled", res.Incomplete.Code)
		assert.Equal(t, "1.5", res.Charged.String(), "the third token was made, and not taken")
		p.Service = "fixed"
		res, err = s.Stream(t.Context(), p, refuse(1))
		require.NoError(t, err)
		assert.Equal(t, "1", res.Charged.String(), "a fixed price is due once something was taken")
		_, err = s.Stream(t.Context(), p, refuse(0))
		assert.Equal(t, "canceled", code(err))
		assert.Equal(t, "7.5", s.balance(ada))
	})
}

func TestStream_AKeyGivesTheFirstResultAgain(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.register("talk", tokens(), talker(3))
		p := services.RunParams{Account: ada, Service: "talk", Input: job{Text: "hi", Times: 5}, IdempotencyKey: "k"}
		parts := 0
		count := func(services.Part) error { parts++; return nil }
		first, err := s.Stream(t.Context(), p, count)
		require.NoError(t, err)
		again, err := s.Stream(t.Context(), p, count)
		require.NoError(t, err)
		assert.Equal(t, first, again)
		assert.Equal(t, 3, parts)
		assert.Equal(t, "8.5", s.balance(ada))
	})
}

// However many tokens a stream has, the database is asked as often.
func TestStream_AsksNothingOfTheDatabasePerToken(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "1000000")
		var asked atomic.Int64
		s.ledger.set(func(context.Context, *sqlx.Tx, string) error { asked.Add(1); return nil })
		defer s.ledger.set(nil)
		busy := 0
		s.register("talk", services.Metered(services.Rates{"tokens": services.Each(1)}, func(job) services.Units { return services.Units{"tokens": 10_000} }),
			func(ctx context.Context, call *services.Call, in job) (done, error) {
				before := s.db.Writer().Stats()
				out, err := talker(10_000)(ctx, call, in)
				after := s.db.Writer().Stats()
				busy = int(after.WaitCount-before.WaitCount) + after.InUse - before.InUse
				return out, err
			})
		_, err := s.Stream(t.Context(), services.RunParams{Account: ada, Service: "talk", Input: job{Text: "hi"}}, func(services.Part) error { return nil })
		require.NoError(t, err)
		assert.EqualValues(t, 4, asked.Load(), "reserved and settled, before and after")
		assert.Zero(t, busy)
	})
}
