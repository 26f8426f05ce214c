package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// Answer is what a call gave. Amounts of credits are decimal strings, which are exact.
type Answer[Out any] struct {
	Output  Out    `json:"result"`
	CallID  string `json:"call_id"`
	Service string `json:"service"`
	Version string `json:"version"`
	// Charged is what the call cost.
	Charged string `json:"credits_charged"`
	// Balance is what the account can spend after the call. Empty for a job.
	Balance string `json:"balance"`
	// Units are what was metered, or priced.
	Units map[string]int64 `json:"units"`
	// Cached says that an earlier call with an equal input made the output.
	Cached bool `json:"cached"`
	// Incomplete says why the output is not complete. Nil: it is.
	Incomplete *Incomplete `json:"incomplete"`
}

// Incomplete says why an output is not complete.
type Incomplete struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Call calls a service and waits for its answer. It repeats the request under one idempotency key when the answer is
// lost, or is 429 or 500 and above; ctx bounds all of it. The error is an *[Error] when the server has answered.
func Call[In, Out any](ctx context.Context, c *Client, service string, in In, opts ...Option) (answer Answer[Out], err error) {
	p, err := c.newCall(service, "", in, opts)
	if err != nil {
		return answer, err
	}
	err = c.fetch(ctx, p, &answer)
	return answer, err
}

// Quote is what a call would cost.
type Quote struct {
	// Credits is what the call costs, at most if Exact is false.
	Credits string           `json:"credits"`
	Exact   bool             `json:"exact"`
	Units   map[string]int64 `json:"units"`
}

// Price asks what a call would cost. Nothing is charged.
func Price[In any](ctx context.Context, c *Client, service string, in In, opts ...Option) (q Quote, err error) {
	p, err := c.newCall(service, "/quote", in, opts)
	if err != nil {
		return q, err
	}
	p.key = ""
	err = c.fetch(ctx, p, &q)
	return q, err
}

// Balance is what the account can spend.
func (c *Client) Balance(ctx context.Context) (string, error) {
	var data struct {
		Balance string `json:"balance"`
	}
	err := c.fetch(ctx, &call{method: http.MethodGet, path: "/credits"}, &data)
	return data.Balance, err
}

// output decodes the output of a call whose type is known now. A call without one leaves the zero value.
func output[Out any](raw json.RawMessage) (out Out, err error) {
	if len(raw) == 0 {
		return out, nil
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, fmt.Errorf("client: the output is not what was expected: %w", err)
	}
	return out, nil
}
