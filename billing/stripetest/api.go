package stripetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v76"
)

// call is one request to the API inside its store transaction.
type call struct {
	tx *work
	r  *http.Request
	p  *params
	// preview undoes everything once the answer is made.
	preview bool
}

var errPreview = errors.New("stripetest: a preview changes nothing")

const maxBody = 1 << 20

// api mounts an endpoint: authentication, parameters, idempotency, expansion, and errors in Stripe's shape.
func (s *Server) api(pattern string, endpoint func(c *call) (object, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Request-Id", "req_"+secret()[:14])
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
		if len(body) > 0 { // of DELETE too
			sent, err := url.ParseQuery(string(body))
			if err != nil {
				writeError(w, invalid("", "The body is not form-encoded."))
				return
			}
			maps.Copy(values, sent)
		}
		key := r.Header.Get("Idempotency-Key")
		if s.isSlow(key) {
			writeError(w, inUse())
			return
		}
		out, err := s.answer(r, pattern, values, body, endpoint)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if out.latency > 0 {
			s.dawdle(r, key, out.latency)
		}
		if out.drop {
			s.cut(w)
			return
		}
		if out.replayed {
			w.Header().Set("Idempotent-Replayed", "true")
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(out.status)
		_, _ = w.Write(out.body) // a client that is gone cannot be told
	})
}

// dawdle waits before an answer is sent. Its idempotency key is in use meanwhile.
func (s *Server) dawdle(r *http.Request, key string, latency time.Duration) {
	if key != "" {
		s.mu.Lock()
		s.slow[key] = true
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			delete(s.slow, key)
			s.mu.Unlock()
		}()
	}
	select {
	case <-time.After(latency):
	case <-r.Context().Done():
	}
}

func (s *Server) isSlow(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slow[key]
}

// cut ends the connection within the answer: before its first byte, clients of net/http would send a request that has an
// idempotency key again by themselves.
func (s *Server) cut(w http.ResponseWriter) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // no connection of our own: net/http ends the stream
	}
	_, _ = buf.WriteString("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{") // whoever is gone already need not be cut off
	_ = buf.Flush()
	_ = conn.Close()
}

// reply is what a call is answered with, and how.
type reply struct {
	status   int
	body     []byte
	replayed bool
	latency  time.Duration
	drop     bool
}

func (out *reply) set(status int, v any) (err error) {
	out.status = status
	if out.body, err = json.MarshalIndent(v, "", "  "); err != nil {
		return fmt.Errorf("stripetest: encode: %w", err)
	}
	return nil
}

// keyLife is how long an idempotency key is remembered (docs.stripe.com/api/idempotent_requests).
const keyLife = 24 * time.Hour

// answer runs the endpoint, or repeats what the idempotency key answered before.
func (s *Server) answer(r *http.Request, route string, values url.Values, body []byte, endpoint func(c *call) (object, error)) (out reply, err error) {
	err = s.do(r.Context(), func(tx *work) error {
		out = reply{}
		tx.request, tx.key = "req_"+secret()[:14], nil
		key := ""
		if k := r.Header.Get("Idempotency-Key"); k != "" && r.Method == http.MethodPost {
			if len(k) > maxKey {
				return invalid("", "Idempotency keys may have at most %d characters.", maxKey)
			}
			key, tx.key = "idem_"+digest(k), k
			if found, err := replay(tx, key, r, body, &out); found || err != nil {
				return err
			}
		}
		fault, err := s.judge(tx, route)
		if err != nil {
			return err
		}
		out.latency, out.drop = fault.latency, fault.drop
		at := tx.now
		if fault.before {
			if fault.fail == nil { // cut off before anything happened
				return nil
			}
			if err := out.set(fault.fail.status, map[string]any{"error": fault.fail}); err != nil || fault.fail.status < http.StatusInternalServerError {
				return err // a 429 comes before the key is looked at
			}
			return remember(tx, key, at, r, body, out)
		}
		c := &call{tx: tx, r: r, p: newParams(values)}
		expand := c.p.strings("expand")
		if err := s.run(c, expand, endpoint, &out); err != nil {
			return err
		}
		if fault.fail != nil {
			if err := out.set(fault.fail.status, map[string]any{"error": fault.fail}); err != nil {
				return err
			}
		}
		if c.preview {
			return errPreview
		}
		return remember(tx, key, at, r, body, out)
	})
	if errors.Is(err, errPreview) {
		err = nil
	}
	return out, err
}

// maxKey is the length of the longest idempotency key.
const maxKey = 255

// run makes the answer of an endpoint. An error that keeps its effects is an answer too.
func (s *Server) run(c *call, expand []string, endpoint func(c *call) (object, error), out *reply) error {
	result, err := endpoint(c)
	refusal, kept := errors.AsType[*apiError](err)
	if kept = kept && refusal.kept; err != nil && !kept {
		return err
	}
	if err := c.p.finish(); err != nil {
		return err
	}
	if kept {
		return out.set(refusal.status, map[string]any{"error": refusal})
	}
	for _, path := range expand {
		if err := c.expand(result, strings.Split(path, "."), path); err != nil {
			return err
		}
	}
	return out.set(http.StatusOK, public(result))
}

// remember keeps an answer for whoever sends the key again.
func remember(tx *work, key string, at time.Time, r *http.Request, body []byte, out reply) error {
	if key == "" {
		return nil
	}
	return tx.put(key, "idempotency", object{"id": key, "created": at.Unix(), "request": fingerprint(r, body), "status": out.status, "answer": string(out.body)})
}

func replay(tx *work, key string, r *http.Request, body []byte, out *reply) (bool, error) {
	d, err := tx.get(key)
	if d == nil || err != nil {
		return false, err
	}
	o, err := d.object()
	if err != nil {
		return false, err
	}
	if at := time.Unix(number(o["created"]), 0); tx.now.Sub(at) >= keyLife {
		return false, nil
	}
	if o["request"] != fingerprint(r, body) {
		return false, &apiError{status: http.StatusBadRequest, Type: "idempotency_error",
			Message: "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '" +
				r.Header.Get("Idempotency-Key") + "' if you meant to execute a different request."}
	}
	out.status, out.body, out.replayed = int(number(o["status"])), []byte(text(o["answer"])), true
	return true, nil
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

// path loads the object that the path names.
func (c *call) path(kind string) (object, error) { return c.load(kind, c.r.PathValue("id"), "id") }

// retrieve answers GET of one object.
func (s *Server) retrieve(kind string) func(c *call) (object, error) {
	return func(c *call) (object, error) { return c.path(kind) }
}

// referents are the kinds that filters name objects of: Stripe refuses to filter by one that is not there.
var referents = map[string]string{"customer": "customer", "subscription": "subscription", "payment_intent": "payment_intent", "charge": "charge",
	"invoice": "invoice", "coupon": "coupon", "test_clock": testClock}

// listOf answers GET of a collection that can be filtered by the named fields.
func (s *Server) listOf(kind string, filters ...string) func(c *call) (object, error) {
	return func(c *call) (object, error) {
		q, wanted := query{kind: kind}, map[string]string{}
		for _, f := range filters {
			v := c.p.str(f)
			if v == "" {
				continue
			}
			if of := referents[f]; of != "" {
				if _, err := c.load(of, v, f); err != nil {
					return nil, err
				}
			}
			wanted[f] = v
			if q.field == "" && slices.Contains(indexed[kind], f) {
				q.field, q.value = f, v
			}
		}
		return c.list(q, func(o object) bool {
			for f, v := range wanted {
				if text(o[f]) != v {
					return false
				}
			}
			return true
		})
	}
}

// readAhead is how many objects are read at once to fill a page.
const readAhead = 200

// list pages through the objects of a query, newest first (docs.stripe.com/api/pagination).
func (c *call) list(q query, keep func(object) bool) (object, error) {
	limit, err := c.p.integer("limit", 10)
	if err != nil {
		return nil, err
	}
	if limit < 1 || limit > 100 {
		return nil, invalid("limit", "This value must be between 1 and 100.")
	}
	created, err := c.p.window("created")
	if err != nil {
		return nil, err
	}
	after, before := c.p.str("starting_after"), c.p.str("ending_before")
	if after != "" && before != "" {
		return nil, invalid("ending_before", "You may only provide one of starting_after and ending_before.")
	}
	if after != "" {
		if q.before, err = c.place(q.kind, after, "starting_after"); err != nil {
			return nil, err
		}
	}
	if before != "" {
		if q.after, err = c.place(q.kind, before, "ending_before"); err != nil {
			return nil, err
		}
		q.oldestFirst = true
	}
	data, more, err := c.page(q, limit, func(o object) bool { return created.holds(number(o["created"])) && keep(o) })
	if err != nil {
		return nil, err
	}
	if q.oldestFirst {
		slices.Reverse(data)
	}
	return object{"object": "list", "data": data, "has_more": more, "url": c.r.URL.Path}, nil
}

// page reads until it has a page, or all there is.
func (c *call) page(q query, limit int64, keep func(object) bool) (data []any, more bool, err error) {
	data = []any{}
	for q.limit = int(limit) + 1; ; q.limit = readAhead {
		docs, err := c.tx.find(q)
		if err != nil {
			return nil, false, err
		}
		for _, d := range docs {
			o, err := d.object()
			if err != nil {
				return nil, false, err
			}
			if !keep(o) {
				continue
			}
			if int64(len(data)) == limit {
				return data, true, nil
			}
			data = append(data, map[string]any(o))
		}
		if len(docs) < q.limit {
			return data, false, nil
		}
		if last := docs[len(docs)-1].Seq; q.oldestFirst {
			q.after = last
		} else {
			q.before = last
		}
	}
}

// place is where a page begins or ends.
func (c *call) place(kind, id, param string) (int64, error) {
	d, err := c.tx.get(id)
	if err != nil {
		return 0, err
	}
	if d == nil || d.Kind != kind {
		return 0, noSuch(kind, id, param)
	}
	return d.Seq, nil
}

// includable are the lists that an object has only when it is asked for them.
var includable = []string{"line_items", "refunds", "subscriptions"}

// include fetches such a list.
func (c *call) include(o object, name string) error {
	q := query{field: text(o["object"]), value: text(o["id"])}
	switch {
	case name == "line_items" && o["_line_items"] != nil:
		o["line_items"] = lineItems(o, o["_line_items"])
		return nil
	case name == "refunds" && o["object"] == "charge":
		q.kind = "refund"
	case name == "subscriptions" && o["object"] == "customer":
		q.kind = "subscription"
	default:
		return nil
	}
	data, more, err := c.page(q, 10, func(o object) bool { return q.kind != "subscription" || !ended(o) })
	if err != nil {
		return err
	}
	list := inline(data, "/v1/"+name+"?"+q.field+"="+q.value)
	list["has_more"] = more
	o[name] = list
	return nil
}

// expand replaces the ids at path by their objects (docs.stripe.com/api/expanding_objects).
func (c *call) expand(o object, path []string, whole string) error {
	name := path[0]
	if err := c.include(o, name); err != nil {
		return err
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
		if len(path) == 1 && !slices.Contains(includable, name) {
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
	if !d.serve(w, in) {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r}, nil
}

// serve tells whether the connection held.
func (d direct) serve(w http.ResponseWriter, r *http.Request) (held bool) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // a panic's value, compared as net/http does
			panic(p)
		}
	}()
	d.handler.ServeHTTP(w, r)
	return true
}

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
