package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// maxPause bounds the time between two tries.
const maxPause = 30 * time.Second

// lostError is an answer that did not arrive: whether the request was carried out is not known.
type lostError struct{ error }

// Unwrap returns the error of the network.
func (e lostError) Unwrap() error { return e.error }

// repeat does something until it succeeds or another try is of no use. While an earlier try still runs on the server it
// waits for that, for as long as ctx lasts.
func (c *Client) repeat(ctx context.Context, do func() error) error {
	pause := c.cfg.Pause
	for left := c.cfg.Retries; ; {
		err := do()
		if err == nil || ctx.Err() != nil {
			return err
		}
		after, again := retriable(err)
		running := isRunning(err)
		if !again || (left <= 0 && !running) {
			return err
		}
		if !running {
			left--
		}
		wait := max(after, pause/2+rand.N(pause/2+1))
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		case <-timer.C:
		}
		pause = min(2*pause, maxPause)
	}
}

// isRunning tells that an earlier try still runs on the server.
func isRunning(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == codeRunning
}

const codeRunning = "call_in_progress"

// retriable tells whether the same request may get another answer, and after how long at the earliest.
func retriable(err error) (after time.Duration, again bool) {
	if _, lost := errors.AsType[lostError](err); lost {
		return 0, true
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return 0, false
	}
	switch {
	case e.Code == codeRunning:
	case e.Status == http.StatusTooManyRequests || e.Status >= http.StatusInternalServerError:
		if e.charged() {
			return 0, false // its failure is final, and is what a repetition would get
		}
	default:
		return 0, false
	}
	return e.RetryAfter, true
}

// retryAfter reads the header in its form of seconds; the server sends no other.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(n) * time.Second
}
