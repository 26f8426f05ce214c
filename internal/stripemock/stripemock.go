// Package stripemock checks requests to Stripe's API with Stripe's own validator, github.com/stripe/stripe-mock: it
// answers from the OpenAPI description of the API and refuses parameters that are not in it. For tests.
package stripemock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Version is the last one of those that the module proxy serves whose description is that of API version 2023-10-16.
const Version = "v0.180.0"

// Recorder passes requests on and remembers one of each shape: method, path and names of the parameters.
type Recorder struct {
	// Next makes the requests. Nil: http.DefaultTransport.
	Next http.RoundTripper

	mu     sync.Mutex
	shapes map[string]request
}

type request struct{ method, path, body string }

// RoundTrip implements http.RoundTripper. What the server refuses is not remembered: tests send wrong requests on purpose.
func (r *Recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		if err := req.Body.Close(); err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	next := r.Next
	if next == nil {
		next = http.DefaultTransport
	}
	res, err := next.RoundTrip(req)
	if err == nil && res.StatusCode == http.StatusOK {
		r.remember(req, string(body))
	}
	return res, err
}

// id is a part of a path that names an object: unlike the names of collections, ids have digits or capitals.
var id = regexp.MustCompile(`/[^/?]*[A-Z0-9][^/?]*`)

func (r *Recorder) remember(req *http.Request, body string) {
	_, path, found := strings.Cut(req.URL.RequestURI(), "/v1/")
	if !found {
		return
	}
	values, err := url.ParseQuery(body + "&" + req.URL.RawQuery)
	if err != nil {
		return
	}
	collection, _, _ := strings.Cut(path, "?")
	shape := req.Method + " /v1" + id.ReplaceAllString("/"+collection, "/*") + " " + strings.Join(slices.Sorted(maps.Keys(values)), " ")
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shapes == nil {
		r.shapes = map[string]request{}
	}
	r.shapes[shape] = request{req.Method, "/v1/" + path, body}
}

// Check sends what was recorded to stripe-mock and returns an error for each request that it refuses for its parameters,
// and how many it took.
func (r *Recorder) Check(ctx context.Context) (checked int, err error) {
	base, stop, err := start(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	r.mu.Lock()
	defer r.mu.Unlock()
	var refused []error
	for _, shape := range slices.Sorted(maps.Keys(r.shapes)) {
		message, err := send(ctx, base, r.shapes[shape])
		if err != nil {
			return 0, err
		}
		if message != "" {
			refused = append(refused, fmt.Errorf("stripe-mock refuses %s: %s", shape, message))
		}
	}
	return len(r.shapes) - len(refused), errors.Join(refused...)
}

// Fixtures asks for objects by their paths and returns them as Stripe's own examples have them.
func Fixtures(ctx context.Context, paths ...string) (objects [][]byte, err error) {
	base, stop, err := start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, path := range paths {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer sk_test_123")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		object, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("stripemock: GET %s answers %d: %s", path, res.StatusCode, object)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// send returns the refusal of a request, empty when it was taken.
func send(ctx context.Context, base string, q request) (string, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, base+q.path, strings.NewReader(q.body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer sk_test_123")
	if q.method == http.MethodPost || q.body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var answer struct {
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return "", fmt.Errorf("stripemock: answer to %s %s: %w", q.method, q.path, err)
	}
	if res.StatusCode == http.StatusOK {
		return "", nil
	}
	return answer.Error.Message, nil
}

// start builds stripe-mock outside of this module, so that it never enters go.mod, and runs it.
func start(ctx context.Context) (base string, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "stripemock")
	if err != nil {
		return "", nil, err
	}
	build := exec.CommandContext(ctx, "go", "install", "github.com/stripe/stripe-mock@"+Version)
	build.Dir, build.Env = dir, append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return "", nil, errors.Join(fmt.Errorf("stripemock: build: %w\n%s", err, out), os.RemoveAll(dir))
	}
	port, err := freePort(ctx)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	run := exec.CommandContext(ctx, filepath.Join(dir, "stripe-mock"), "-http-addr", "127.0.0.1:"+port) //nolint:gosec // what was built above
	if err := run.Start(); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop = func() error {
		err := run.Process.Kill()
		_ = run.Wait() // says that it was killed
		return errors.Join(err, os.RemoveAll(dir))
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:"+port)
		if err == nil {
			return "http://127.0.0.1:" + port, stop, conn.Close()
		}
		if time.Now().After(deadline) {
			return "", nil, errors.Join(fmt.Errorf("stripemock: it does not listen: %w", err), stop())
		}
	}
}

func freePort(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, errors.Join(err, listener.Close())
}
