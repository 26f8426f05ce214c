// Package client calls services of QuickScale over HTTP. A call is repeated under one idempotency key until its answer
// has arrived, so it is charged once, however often the network or the server fails in between.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// What [Config] leaves open.
const (
	DefaultAPIPath = "/api/v1"
	DefaultRetries = 5
	DefaultPause   = 250 * time.Millisecond
)

// Config is what [New] takes.
type Config struct {
	// BaseURL is where the application is, such as https://app.example.com. Required.
	BaseURL string
	// Key is an API key. Required.
	Key string
	// APIPath is where the application has its API. Empty: /api/v1.
	APIPath string
	// Retries are how often a request is sent again that got no answer, or one of 429 or 500 and above. 0:
	// [DefaultRetries]. Negative: never.
	Retries int
	// Pause is the time before the first repetition; it doubles from one to the next, up to half a minute, and a part of
	// it is random. What the server says in Retry-After weighs more. 0: [DefaultPause].
	Pause time.Duration
	// HTTP sends the requests. It should have no Timeout, which would end streams: contexts bound the calls. Nil: one
	// with net/http's usual transport.
	HTTP *http.Client
}

// Client calls services. It is safe for concurrent use.
type Client struct{ cfg Config }

// New checks cfg.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.BaseURL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("client: Config.BaseURL: %w", err)
	case u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return nil, errors.New("client: Config.BaseURL must be an address such as https://app.example.com")
	case cfg.Key == "":
		return nil, errors.New("client: Config.Key is required")
	case cfg.Pause < 0:
		return nil, errors.New("client: Config.Pause must not be negative")
	}
	cfg.BaseURL = strings.TrimSuffix(cfg.BaseURL, "/")
	if cfg.APIPath == "" {
		cfg.APIPath = DefaultAPIPath
	}
	if cfg.Retries == 0 {
		cfg.Retries = DefaultRetries
	}
	if cfg.Pause == 0 {
		cfg.Pause = DefaultPause
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{}
	}
	return &Client{cfg}, nil
}

// Option changes one call.
type Option func(*call)

// IdempotencyKey names the call, so that it can be repeated after a restart of the caller too. Without it each call gets
// a key of its own.
func IdempotencyKey(key string) Option { return func(c *call) { c.key = key } }

// Tag adds a tag for the account's own accounting. A comma cannot be in it.
func Tag(name, value string) Option { return func(c *call) { c.tags[name] = value } }

// Version calls a version of the service other than the last.
func Version(version string) Option { return func(c *call) { c.query.Set("version", version) } }

// Notify asks the application to tell the end of a job by a webhook.
func Notify() Option { return func(c *call) { c.query.Set("notify", "true") } }

// call is a request that may be sent several times.
type call struct {
	method, path string
	query        url.Values
	body         []byte
	key          string
	tags         map[string]string
	accept       string
	async        bool
}

// newCall is the call of a service.
func (c *Client) newCall(service, suffix string, in any, opts []Option) (*call, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("client: write the input of %s: %w", service, err)
	}
	made := &call{method: http.MethodPost, path: "/services/" + url.PathEscape(service) + suffix, query: url.Values{}, body: body, key: rand.Text(), tags: map[string]string{}}
	for _, o := range opts {
		o(made)
	}
	for name, value := range made.tags {
		if strings.ContainsAny(name, ",=") || strings.Contains(value, ",") {
			return nil, fmt.Errorf("client: the tag %q has a comma or an equals sign, which a header cannot carry", name)
		}
	}
	return made, nil
}

func (c *Client) request(ctx context.Context, p *call) (*http.Request, error) {
	target := c.cfg.BaseURL + c.cfg.APIPath + p.path
	if len(p.query) > 0 {
		target += "?" + p.query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, p.method, target, bytes.NewReader(p.body))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+c.cfg.Key)
	r.Header.Set("Accept", "application/json")
	if p.accept != "" {
		r.Header.Set("Accept", p.accept)
	}
	if p.body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if p.key != "" {
		r.Header.Set("Idempotency-Key", p.key)
	}
	if p.async {
		r.Header.Set("Prefer", "respond-async")
	}
	var tags []string
	for _, name := range slices.Sorted(maps.Keys(p.tags)) {
		tags = append(tags, name+"="+p.tags[name])
	}
	if tags != nil {
		r.Header.Set("X-Usage-Tags", strings.Join(tags, ", "))
	}
	return r, nil
}

// maxAnswer bounds an answer, or a part of a stream.
const maxAnswer = 64 << 20

// fetch sends a request until it is answered, and decodes the data of the answer.
func (c *Client) fetch(ctx context.Context, p *call, data any) error {
	return c.repeat(ctx, func() error {
		res, err := c.send(ctx, p)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		return decode(res, data)
	})
}

// send sends a request once. An answer that is no success is an *[Error].
func (c *Client) send(ctx context.Context, p *call) (*http.Response, error) {
	r, err := c.request(ctx, p)
	if err != nil {
		return nil, err
	}
	res, err := c.cfg.HTTP.Do(r)
	if err != nil {
		return nil, lostError{err}
	}
	if res.StatusCode >= http.StatusOK && res.StatusCode < http.StatusMultipleChoices {
		return res, nil
	}
	defer res.Body.Close()
	return nil, readError(res)
}

// decode reads the data of a success.
func decode(res *http.Response, data any) error {
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return lostError{fmt.Errorf("client: read the answer: %w", err)}
	}
	envelope := struct {
		Data any `json:"data"`
	}{data}
	if err := json.Unmarshal(text, &envelope); err != nil {
		return fmt.Errorf("client: the answer is not what was expected: %w", err)
	}
	return nil
}
