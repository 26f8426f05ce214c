package services

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
)

type streamKey struct{}

// markStreams notes which requests want server-sent events, before their Accept header is made JSON.
func markStreams(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
			if part == "" {
				continue
			}
			if kind, _, _ := mime.ParseMediaType(part); kind == "text/event-stream" {
				r = r.WithContext(context.WithValue(r.Context(), streamKey{}, true))
			}
		}
		next.ServeHTTP(w, r)
	})
}

func wantsStream(r *http.Request) bool { return r.Context().Value(streamKey{}) != nil }

// usageEach is how often at most a stream tells what it has used.
const usageEach = time.Second

// events writes a call as server-sent events (WHATWG HTML, section 9.2): "part" with each part of the output, "usage"
// with what was metered until then, and at the end "result", as the call answers without a stream, or "error".
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
	// stall is how long a write may take, and until the end of all of them.
	stall time.Duration
	until time.Time
	begun bool
	told  time.Time
	units Units
}

func (e *events) begin(limit time.Duration) {
	e.begun, e.until = true, time.Now().Add(limit)
	h := e.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("X-Accel-Buffering", "no") // nginx would keep the parts back
	e.w.WriteHeader(http.StatusOK)
}

// write writes an event within the time that the caller has to receive it. Between events, the server's limit for
// answers that come at once does not count. Where there is no limit to set, as in a handler of a test, none binds.
func (e *events) write(name string, data []byte) error {
	_ = e.control.SetWriteDeadline(time.Now().Add(e.stall))
	defer func() { _ = e.control.SetWriteDeadline(e.until) }()
	if _, err := io.WriteString(e.w, "event: "+name+"\ndata: "+string(data)+"\n\n"); err != nil {
		return err
	}
	if err := e.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

func (e *events) send(name string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("services: write an event: %w", err)
	}
	return e.write(name, text)
}

// part writes a part, and from time to time what was used until then.
func (e *events) part(p Part) error {
	if err := e.write("part", p.Data); err != nil {
		return err
	}
	if len(p.Units) == 0 || time.Since(e.told) < usageEach || maps.Equal(p.Units, e.units) {
		return nil
	}
	e.told, e.units = time.Now(), p.Units
	return e.send("usage", struct {
		Units   Units          `json:"units"`
		Credits credits.Amount `json:"credits_charged"`
	}{p.Units, p.Credits})
}

// DefaultStallTime is how long the caller of a stream may take to receive a part.
const DefaultStallTime = 20 * time.Second

// streamMargin is what an answer may take beyond the work.
const streamMargin = time.Minute

// apiStream answers a call as server-sent events. What is refused before the first part is answered as without a
// stream.
func (s *Services) apiStream(w http.ResponseWriter, r *http.Request, svc *registered, p RunParams) {
	e := &events{w: w, control: http.NewResponseController(w), stall: s.cfg.StallTime}
	limit := svc.opts.timeout + streamMargin
	result, err := s.Stream(r.Context(), p, func(part Part) error {
		if !e.begun {
			e.begin(limit)
		}
		return e.part(part)
	})
	if err != nil && !e.begun {
		s.failCall(w, r, err)
		return
	}
	if !e.begun {
		setCreditHeaders(w, result)
		e.begin(limit)
	}
	// The caller may be gone: there is nobody to tell then, and what the call cost is recorded.
	if err == nil {
		_ = e.send("result", result)
		return
	}
	c := problem.From(err)
	if c == nil {
		s.cfg.Logger.ErrorContext(r.Context(), "stream failed", "error", err)
		c = problem.New(problem.CodeInternal, "Something went wrong on our side.")
	}
	_ = e.send("error", map[string]any{"code": c.ErrorCode(), "message": c.ErrorMessage(), "details": c.ErrorDetails()})
}
