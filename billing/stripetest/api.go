package stripetest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/stripe/stripe-go/v76"
)

// call is one request to the API inside its store transaction.
type call struct {
	tx storeTx
	r  *http.Request
	p  *params
}

const maxBody = 1 << 20

// api mounts an endpoint: authentication, parameters, idempotency, expansion, and errors in Stripe's shape.
func (s *Server) api(pattern string, endpoint func(c *call) (object, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Request-Id", "req_"+rand.Text()[:14])
		w.Header().Set("Stripe-Version", stripe.APIVersion)
		if key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); !ok || key != s.cfg.SecretKey {
			writeError(w, unauthorized())
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			writeError(w, invalid("", "The body could not be read."))
			return
		}
		values := r.URL.Query()
		if r.Method == http.MethodPost {
			if values, err = url.ParseQuery(string(body)); err != nil {
				writeError(w, invalid("", "The body is not form-encoded."))
				return
			}
		}
		status, answer, err := s.answer(r, values, body, endpoint)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(answer) //nolint:gosec // JSON, and marked as such; a client that is gone cannot be told
	})
}

// answer runs the endpoint, or repeats what the idempotency key answered before.
func (s *Server) answer(r *http.Request, values url.Values, body []byte, endpoint func(c *call) (object, error)) (status int, answer []byte, err error) {
	err = s.do(r.Context(), func(tx storeTx) error {
		key := ""
		if k := r.Header.Get("Idempotency-Key"); k != "" && r.Method == http.MethodPost {
			key = "idem_" + digest(k)
			if status, answer, err = replay(tx, key, r, body); status != 0 || err != nil {
				return err
			}
		}
		c := &call{tx: tx, r: r, p: newParams(values)}
		expand := c.p.strings("expand")
		result, err := endpoint(c)
		if err != nil {
			return err
		}
		if err := c.p.finish(); err != nil {
			return err
		}
		for _, path := range expand {
			if err := c.expand(result, strings.Split(path, "."), path); err != nil {
				return err
			}
		}
		status = http.StatusOK
		if answer, err = json.MarshalIndent(public(result), "", "  "); err != nil {
			return fmt.Errorf("stripetest: encode: %w", err)
		}
		if key == "" {
			return nil
		}
		return tx.put(key, "idempotency", object{"request": fingerprint(r, body), "status": status, "answer": string(answer)})
	})
	return status, answer, err
}

func replay(tx storeTx, key string, r *http.Request, body []byte) (int, []byte, error) {
	d, err := tx.get(key)
	if d == nil || err != nil {
		return 0, nil, err
	}
	o, err := d.object()
	if err != nil {
		return 0, nil, err
	}
	if o["request"] != fingerprint(r, body) {
		return 0, nil, &apiError{status: http.StatusBadRequest, Type: "idempotency_error",
			Message: "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '" +
				r.Header.Get("Idempotency-Key") + "' if you meant to execute a different request."}
	}
	return int(number(o["status"])), []byte(text(o["answer"])), nil
}

func fingerprint(r *http.Request, body []byte) string {
	return digest(r.Method + " " + r.URL.Path + "\n" + string(body))
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := errors.AsType[*apiError](err); ok {
		writeError(w, e)
		return
	}
	s.cfg.Logger.ErrorContext(r.Context(), "stripe double failed", slog.String("path", r.URL.Path), slog.Any("error", err))
	writeError(w, &apiError{status: http.StatusInternalServerError, Type: "api_error", Message: "The Stripe double failed; see its log."})
}

func writeError(w http.ResponseWriter, e *apiError) {
	body, err := json.MarshalIndent(map[string]any{"error": e}, "", "  ")
	if err != nil {
		panic(err) // strings only
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	_, _ = w.Write(body) // the client is gone; there is nobody to tell
}

// load returns an object of a kind, or Stripe's error about param.
func (c *call) load(kind, id, param string) (object, error) { return load(c.tx, kind, id, param) }

func load(tx storeTx, kind, id, param string) (object, error) {
	d, err := tx.get(id)
	if err != nil {
		return nil, err
	}
	if d == nil || d.Kind != kind {
		return nil, noSuch(strings.ReplaceAll(kind, "_", " "), id, param)
	}
	return d.object()
}

// retrieve answers GET of one object.
func (s *Server) retrieve(kind string) func(c *call) (object, error) {
	return func(c *call) (object, error) { return c.load(kind, c.r.PathValue("id"), "id") }
}

// listOf answers GET of a collection that can be filtered by the named fields.
func (s *Server) listOf(kind string, filters ...string) func(c *call) (object, error) {
	return func(c *call) (object, error) {
		wanted := map[string]string{}
		for _, f := range filters {
			if v := c.p.str(f); v != "" {
				wanted[f] = v
			}
		}
		return c.list(kind, func(o object) bool {
			for f, v := range wanted {
				if text(o[f]) != v {
					return false
				}
			}
			return true
		})
	}
}

// list pages through the objects of a kind, newest first (docs.stripe.com/api/pagination).
func (c *call) list(kind string, keep func(object) bool) (object, error) {
	limit, err := c.p.integer("limit", 10)
	if err != nil {
		return nil, err
	}
	if limit < 1 || limit > 100 {
		return nil, invalid("limit", "This value must be between 1 and 100.")
	}
	after, before := c.p.str("starting_after"), c.p.str("ending_before")
	if after != "" && before != "" {
		return nil, invalid("ending_before", "You may only provide one of starting_after and ending_before.")
	}
	since, until := int64(0), int64(0)
	if created := c.p.sub("created"); created != nil {
		if since, err = created.integer("gte", 0); err != nil {
			return nil, err
		}
		if until, err = created.integer("lte", 0); err != nil {
			return nil, err
		}
	}
	docs, err := c.tx.list(kind)
	if err != nil {
		return nil, err
	}
	slices.Reverse(docs)
	var all []object
	for _, d := range docs {
		o, err := d.object()
		if err != nil {
			return nil, err
		}
		at := number(o["created"])
		if keep(o) && at >= since && (until == 0 || at <= until) {
			all = append(all, o)
		}
	}
	index := func(id, param string) (int, error) {
		i := slices.IndexFunc(all, func(o object) bool { return o["id"] == id })
		if i < 0 {
			return 0, noSuch(kind, id, param)
		}
		return i, nil
	}
	if after != "" {
		i, err := index(after, "starting_after")
		if err != nil {
			return nil, err
		}
		all = all[i+1:]
	}
	if before != "" {
		i, err := index(before, "ending_before")
		if err != nil {
			return nil, err
		}
		all = all[:i]
	}
	more := int64(len(all)) > limit
	switch {
	case more && before != "":
		all = all[int64(len(all))-limit:]
	case more:
		all = all[:limit]
	}
	data := make([]any, len(all))
	for i, o := range all {
		data[i] = map[string]any(o)
	}
	return object{"object": "list", "data": data, "has_more": more, "url": c.r.URL.Path}, nil
}

// expand replaces the ids at path by their objects (docs.stripe.com/api/expanding_objects).
func (c *call) expand(o object, path []string, whole string) error {
	name := path[0]
	if name == "line_items" {
		if items, ok := o["_line_items"]; ok {
			o["line_items"] = lineItems(o, items)
		}
	}
	switch v := o[name].(type) {
	case nil:
		if _, known := o[name]; known {
			return nil
		}
		return invalid("expand", "This property cannot be expanded (%s).", whole)
	case string:
		d, err := c.tx.get(v)
		if err != nil {
			return err
		}
		if d == nil {
			return invalid("expand", "This property cannot be expanded (%s).", whole)
		}
		inner, err := d.object()
		if err != nil {
			return err
		}
		o[name] = map[string]any(inner)
	case map[string]any, []any:
		if len(path) == 1 && name != "line_items" {
			return invalid("expand", "This property cannot be expanded (%s).", whole)
		}
	default:
		return invalid("expand", "This property cannot be expanded (%s).", whole)
	}
	if len(path) == 1 {
		return nil
	}
	switch v := o[name].(type) {
	case map[string]any:
		return c.expand(v, path[1:], whole)
	case []any:
		for _, item := range v {
			inner, ok := item.(map[string]any)
			if !ok {
				return invalid("expand", "This property cannot be expanded (%s).", whole)
			}
			if err := c.expand(inner, path[1:], whole); err != nil {
				return err
			}
		}
	}
	return nil
}

// public leaves out the double's own fields, at any depth.
func public(v any) any {
	switch v := v.(type) {
	case object:
		return public(map[string]any(v))
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, inner := range v {
			if !strings.HasPrefix(k, "_") {
				out[k] = public(inner)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = public(inner)
		}
		return out
	}
	return v
}

// text is a JSON string, or empty.
func text(v any) string {
	s, _ := v.(string)
	return s
}

// number is a JSON number, or 0. Money in a double stays far below 2^53.
func number(v any) int64 {
	switch n := v.(type) {
	case float64:
		return int64(n)
	case int64:
		return n
	case int:
		return int64(n)
	}
	return 0
}

// optional is a string, or null when it is empty.
func optional(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// newID makes an id as Stripe's look: a prefix and 24 letters and digits.
func newID(prefix string) string { return prefix + "_" + strings.ReplaceAll(rand.Text(), "=", "")[:24] }

// direct is a transport that calls a handler in place of a network.
type direct struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	// The client's base URL may have a path, which is the mount point.
	if i := strings.Index(in.URL.Path, "/v1/"); i > 0 {
		in.URL.Path = in.URL.Path[i:]
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &recorder{header: http.Header{}, status: http.StatusOK}
	d.handler.ServeHTTP(w, in)
	return &http.Response{Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r}, nil
}

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
