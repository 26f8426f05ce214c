package servicestest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/services/servicestest"
)

type in struct {
	Text string `json:"text" validate:"required,max=20"`
}

type out struct {
	Text string `json:"text"`
}

func shout() services.Service[in, out] {
	return services.Func(services.Info{Name: "shout", Title: "Shout"}, services.Fixed(credits.MustAmount("0.5")),
		func(_ context.Context, call *services.Call, in in) (out, error) {
			if in.Text == "fail" {
				return out{}, services.Failure("No voice.")
			}
			return out{strings.ToUpper(in.Text)}, call.Send(out(in))
		})
}

// spy is a test whose failures are counted.
type spy struct {
	testing.TB

	failed []string
}

func (s *spy) Helper() {}
func (s *spy) Errorf(format string, args ...any) {
	s.failed = append(s.failed, fmt.Sprintf(format, args...))
}
func (s *spy) Error(args ...any) { s.failed = append(s.failed, fmt.Sprint(args...)) }

func TestHarness_RunsAndCharges(t *testing.T) {
	t.Parallel()
	h := servicestest.New(t)
	h.Grant("10")
	servicestest.Register(h, shout())
	assert.Equal(t, out{"HI"}, servicestest.Run[out](h, "shout", in{"hi"}))
	h.AssertCharged("0.5")
	h.AssertBalance("9.5")
	parts, got := servicestest.Stream[out, out](h, "shout", in{"ho"})
	assert.Equal(t, []out{{"ho"}}, parts)
	assert.Equal(t, out{"HO"}, got)
	h.AssertCharged("0.5")
	_, err := h.Call(services.RunParams{Service: "shout", Input: in{"fail"}})
	require.ErrorContains(t, err, "No voice.")
	h.AssertCharged("0")
	h.AssertInvalid("shout", in{}, "text")
	h.AssertInvalid("shout", []byte(`{"text":"x","loud":1}`), "loud")
	h.AssertBalance("9")
	res := h.Post("shout", `{"text":"hi"}`)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, res.StatusCode, string(body))
	h.AssertBalance("8.5")
}

func TestHarness_FailsTheTestWhenWrong(t *testing.T) {
	t.Parallel()
	s := &spy{TB: t}
	h := servicestest.New(s)
	h.Grant("1")
	servicestest.Register(h, shout())
	assert.False(t, h.AssertCharged("0.5"), "nothing was called")
	servicestest.Run[out](h, "shout", in{"hi"})
	assert.False(t, h.AssertCharged("0.4"))
	assert.False(t, h.AssertBalance("1"))
	assert.False(t, h.AssertInvalid("shout", in{"fine"}, "text"))
	assert.Len(t, s.failed, 4)
}

func TestHarness_HasATimeOfItsOwn(t *testing.T) {
	t.Parallel()
	h := servicestest.New(t, func(cfg *services.Config) { cfg.RateLimit = services.RateLimit{Calls: 1, Window: time.Hour} })
	servicestest.Register(h, services.Func(services.Info{Name: "free", Title: "Free"}, services.Free(),
		func(_ context.Context, _ *services.Call, in in) (out, error) { return out(in), nil }))
	assert.Equal(t, http.StatusOK, h.Post("free", `{"text":"hi"}`).StatusCode)
	assert.Equal(t, http.StatusTooManyRequests, h.Post("free", `{"text":"hi"}`).StatusCode)
	h.Advance(time.Hour)
	assert.Equal(t, http.StatusOK, h.Post("free", `{"text":"hi"}`).StatusCode)
}
