package webhook

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"
)

// The reasons of refusals, as the metric quickscale.webhook.refused counts them.
const (
	refusedMethod    = "method"
	refusedTooLarge  = "too_large"
	refusedBody      = "body"
	refusedSignature = "signature"
	refusedTimestamp = "timestamp"
	refusedShape     = "shape"
	refusedMode      = "mode"
	refusedAccount   = "account"
	refusedDatabase  = "database"
)

// Handler receives events: POST, with the raw body that Stripe signed. It answers 200 once the event is stored or was
// before; 400 to a wrong signature, mode, account or shape; 405, 413; and 503 when the database does not answer, so
// that Stripe comes again. Each refusal is counted and logged, without the payload. The handler must not be wrapped in
// protection against cross-site requests or in anything that reads the body.
func (p *Processor) Handler() http.Handler { return http.HandlerFunc(p.receive) }

// refusal is why an event is not taken.
type refusal struct {
	status int
	reason string
	text   string
	cause  error
}

func (p *Processor) receive(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	e, stored, no := p.take(w, r)
	if no != nil {
		p.refuse(w, r, *no)
		return
	}
	p.metrics.receive(r.Context(), e.Type, stored, time.Since(started))
	p.cfg.Logger.DebugContext(r.Context(), "webhook received", slog.String("event", e.ID), slog.String("type", e.Type), slog.Bool("repeated", !stored))
	w.WriteHeader(http.StatusOK)
}

// take verifies and stores an event. Nothing of one that fails verification is kept.
func (p *Processor) take(w http.ResponseWriter, r *http.Request) (e envelope, stored bool, no *refusal) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return e, false, &refusal{http.StatusMethodNotAllowed, refusedMethod, "POST only", nil}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return e, false, &refusal{http.StatusRequestEntityTooLarge, refusedTooLarge, "the event is too large", err}
		}
		return e, false, &refusal{http.StatusBadRequest, refusedBody, "the body could not be read", err}
	}
	err = Verify(body, r.Header.Get("Stripe-Signature"), p.cfg.Secrets, p.cfg.Clock(), p.cfg.Tolerance)
	switch {
	case errors.Is(err, ErrTimestamp):
		return e, false, &refusal{http.StatusBadRequest, refusedTimestamp, "the signature is not accepted", err}
	case err != nil:
		return e, false, &refusal{http.StatusBadRequest, refusedSignature, "the signature is not accepted", err}
	}
	if e, err = parse(body); err != nil {
		// The parser's own words may quote the body.
		return e, false, &refusal{http.StatusBadRequest, refusedShape, "this is not an event", errNoEvent}
	}
	if e.Livemode != p.cfg.Livemode {
		return e, false, &refusal{http.StatusBadRequest, refusedMode, "the event is of the other mode (live or test)", nil}
	}
	if e.Account != "" {
		ok, err := p.knows(r, e.Account)
		if err != nil {
			return e, false, &refusal{http.StatusServiceUnavailable, refusedDatabase, "the account could not be looked up", err}
		}
		if !ok {
			return e, false, &refusal{http.StatusBadRequest, refusedAccount, "the event is of an account that is not ours", nil}
		}
	}
	if stored, err = p.intake.store(r.Context(), e, string(body)); err != nil {
		return e, false, &refusal{http.StatusServiceUnavailable, refusedDatabase, "the event could not be stored", err}
	}
	return e, stored, nil
}

func (p *Processor) knows(r *http.Request, account string) (bool, error) {
	if p.cfg.Accounts == nil {
		return false, nil
	}
	return p.cfg.Accounts(r.Context(), account)
}

func (p *Processor) refuse(w http.ResponseWriter, r *http.Request, no refusal) {
	level := slog.LevelWarn
	if no.status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	p.metrics.refuse(r.Context(), no.reason)
	attrs := []slog.Attr{slog.Int("status", no.status), slog.String("reason", no.reason)}
	if no.cause != nil {
		attrs = append(attrs, slog.Any("error", no.cause))
	}
	p.cfg.Logger.LogAttrs(r.Context(), level, "webhook refused", attrs...)
	http.Error(w, no.text, no.status)
}
