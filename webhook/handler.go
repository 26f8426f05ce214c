package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"

	"github.com/quickscale/quickscale/internal/database"
)

// envelope is what is read of an event whatever its API version.
type envelope struct {
	ID         string `json:"id"`
	Object     string `json:"object"`
	Type       string `json:"type"`
	APIVersion string `json:"api_version"`
	Account    string `json:"account"`
	Created    int64  `json:"created"`
	Livemode   bool   `json:"livemode"`
	Data       struct {
		Object struct {
			ID string `json:"id"`
		} `json:"object"`
	} `json:"data"`
}

// Handler receives events: POST, with the raw body that Stripe signed. It answers 200 once the event is stored or was
// before; 400 to a wrong signature, mode or shape; 405, 413; and 503 when the database does not answer, so that
// Stripe comes again. It must not be wrapped in protection against cross-site requests or in anything that reads the
// body.
func (p *Processor) Handler() http.Handler { return http.HandlerFunc(p.receive) }

func (p *Processor) receive(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			p.refuse(w, r, http.StatusRequestEntityTooLarge, "the event is too large", err)
			return
		}
		p.refuse(w, r, http.StatusBadRequest, "the body could not be read", err)
		return
	}
	if err := Verify(body, r.Header.Get("Stripe-Signature"), p.cfg.Secrets, p.cfg.Clock(), p.cfg.Tolerance); err != nil {
		p.refuse(w, r, http.StatusBadRequest, "the signature is not accepted", err)
		return
	}
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil || e.ID == "" || e.Type == "" || e.Object != "event" {
		p.refuse(w, r, http.StatusBadRequest, "this is not an event", err)
		return
	}
	if e.Livemode != p.cfg.Livemode {
		p.refuse(w, r, http.StatusBadRequest, "the event is of the other mode (live or test)", nil)
		return
	}
	stored, err := p.store(r.Context(), e, body)
	if err != nil {
		p.refuse(w, r, http.StatusServiceUnavailable, "the event could not be stored", err)
		return
	}
	p.cfg.Logger.DebugContext(r.Context(), "webhook received", slog.String("event", e.ID), slog.String("type", e.Type), slog.Bool("repeated", !stored))
	w.WriteHeader(http.StatusOK)
}

func (p *Processor) refuse(w http.ResponseWriter, r *http.Request, status int, reason string, err error) {
	level := slog.LevelWarn
	if status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	p.cfg.Logger.LogAttrs(r.Context(), level, "webhook refused", slog.Int("status", status), slog.String("reason", reason), slog.Any("error", err))
	http.Error(w, reason, status)
}

const insertEvent = `INSERT INTO qs_webhook_events (id, type, object_id, account, api_version, livemode, payload, status, created_at, received_at)
	VALUES (?, ?, ?, ?, ?, ?, ?, 'received', ?, ?) ON CONFLICT (id) DO NOTHING`

// store keeps the event and its job; false when it was there before.
func (p *Processor) store(ctx context.Context, e envelope, body []byte) (stored bool, err error) {
	object := e.Data.Object.ID
	if object == "" {
		object = e.ID // an object without an id, such as a balance, shares nothing with other events
	}
	err = p.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		n, err := p.db.ExecTx(ctx, tx, insertEvent, e.ID, e.Type, object, e.Account, e.APIVersion, e.Livemode, string(body),
			database.At(time.Unix(e.Created, 0)), database.At(p.now()))
		if stored = n == 1; err != nil || !stored {
			return err
		}
		_, err = p.cfg.Jobs.InsertTx(ctx, tx.Tx, jobArgs{Event: e.ID}, &river.InsertOpts{MaxAttempts: p.cfg.MaxAttempts})
		return err
	})
	return stored, err
}
