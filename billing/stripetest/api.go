package stripetest

import (
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
