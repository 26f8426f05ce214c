package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// upstream is a server that speaks OpenAI's API.
type upstream struct {
	// base is its URL up to and with the version, such as https://api.openai.com/v1.
	base   string
	key    string
	client *http.Client
}

const (
	headerTimeout = 2 * time.Minute
	maxAnswer     = 8 << 20
	maxLine       = 1 << 20
	maxErrorBody  = 64 << 10
)

func newUpstream(base, key string) *upstream {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = headerTimeout
	return &upstream{base: strings.TrimRight(base, "/"), key: key, client: &http.Client{
		Transport: transport,
		// The key and the prompt are for the upstream and nobody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// post sends a chat completion. Every status but 200 is an error, which is the caller's where the request was.
func (u *upstream) post(ctx context.Context, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.base+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if u.key != "" {
		req.Header.Set("Authorization", "Bearer "+u.key)
	}
	res, err := u.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", badUpstream("The model's server does not answer. Try again in a moment."), err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	return nil, refusal(res)
}

// refusal is what the caller is told of an upstream's error. What concerns the gateway's own account with the upstream,
// such as its key, stays between the two.
func refusal(res *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	if err != nil {
		return fmt.Errorf("%w: %w", badUpstream("The model's server broke off. Try again in a moment."), err)
	}
	var said struct {
		Error apiError `json:"error"`
	}
	readable := json.Unmarshal(text, &said) == nil && said.Error.Message != ""
	cause := fmt.Errorf("the upstream answered %s: %.500s", res.Status, text)
	switch {
	case res.StatusCode == http.StatusTooManyRequests:
		e := badUpstream("The model is overloaded. Try again in a moment.")
		e.status, e.Type, e.Code, e.retryAfter = http.StatusTooManyRequests, "rate_limit_exceeded", "upstream_busy", res.Header.Get("Retry-After")
		return fmt.Errorf("%w: %w", e, cause)
	case readable && (res.StatusCode == http.StatusBadRequest || res.StatusCode == http.StatusUnprocessableEntity):
		e := said.Error
		e.status, e.Code, e.Type = res.StatusCode, "upstream_refused", "invalid_request_error"
		return fmt.Errorf("%w: %w", &e, cause)
	default:
		return fmt.Errorf("%w: %w", badUpstream("The model's server failed. Try again in a moment."), cause)
	}
}

// complete asks for an answer in one piece.
func (u *upstream) complete(ctx context.Context, body []byte) (raw json.RawMessage, a answer, err error) {
	res, err := u.post(ctx, body)
	if err != nil {
		return nil, a, err
	}
	defer res.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err == nil && len(raw) > maxAnswer {
		err = errors.New("the answer is too large")
	}
	if err == nil {
		err = json.Unmarshal(raw, &a)
	}
	if err != nil {
		return nil, a, fmt.Errorf("%w: %w", badUpstream("The model's server broke off. Nothing was charged; try again."), err)
	}
	return raw, a, nil
}

// stream asks for an answer as server-sent events and calls part with the data of each. It returns true when the
// upstream has said that the stream is done.
func (u *upstream) stream(ctx context.Context, body []byte, part func(data []byte) error) (done bool, err error) {
	res, err := u.post(ctx, body)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			continue // comments, empty lines, and fields that OpenAI's streams do not use
		}
		if data = bytes.TrimSpace(data); bytes.Equal(data, []byte("[DONE]")) {
			return true, nil
		}
		if err := part(bytes.Clone(data)); err != nil {
			return false, err
		}
	}
	if err := lines.Err(); err != nil {
		return false, fmt.Errorf("%w: %w", errBroken, err)
	}
	return false, nil
}

// errBroken says that a stream ended before its end.
var errBroken = errors.New("the upstream broke off")
