package main

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/quickscale/quickscale/services"
)

// api are the routes that OpenAI's clients use.
type api struct {
	shop   *services.Services
	models []Model
	caller func(r *http.Request) (services.Caller, error)
	logger *slog.Logger
}

func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", a.complete)
	mux.HandleFunc("GET /v1/models", a.list)
	// What an account has and has used, as every QuickScale API tells it.
	own := a.shop.APIHandler()
	mux.Handle("GET /api/v1/credits", own)
	mux.Handle("GET /api/v1/usage", own)
	return mux
}

func (a *api) list(w http.ResponseWriter, r *http.Request) {
	if _, err := a.caller(r); err != nil {
		writeError(w, r, a.logger, err)
		return
	}
	type model struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		OwnedBy string `json:"owned_by"`
	}
	data := make([]model, len(a.models))
	for i, m := range a.models {
		data[i] = model{ID: m.Name, Object: "model", OwnedBy: "gateway"}
	}
	writeJSON(w, a.logger, http.StatusOK, map[string]any{"object": "list", "data": data})
}

func (a *api) complete(w http.ResponseWriter, r *http.Request) {
	who, err := a.caller(r)
	if err != nil {
		writeError(w, r, a.logger, err)
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		e := badRequest("", "The request is too large.")
		e.status = http.StatusRequestEntityTooLarge
		if _, large := errors.AsType[*http.MaxBytesError](err); !large {
			e = badRequest("", "The request could not be read.")
		}
		writeError(w, r, a.logger, e)
		return
	}
	request, err := parseRequest(raw)
	if err != nil {
		writeError(w, r, a.logger, err)
		return
	}
	if _, ok := findModel(a.models, request.Model); !ok {
		writeError(w, r, a.logger, noModel(request.Model))
		return
	}
	p := services.RunParams{Account: who.Account, Service: serviceName, Input: Input{string(raw)}, IdempotencyKey: r.Header.Get("Idempotency-Key")}
	if request.Stream {
		a.stream(w, r, p)
		return
	}
	result, err := a.shop.Run(r.Context(), p)
	if err != nil {
		writeError(w, r, a.logger, err)
		return
	}
	var out struct {
		Response json.RawMessage `json:"response"`
	}
	if err := json.Unmarshal(result.Output, &out); err != nil {
		writeError(w, r, a.logger, err)
		return
	}
	w.Header().Set("X-Credits-Charged", result.Charged.String())
	w.Header().Set("X-Credits-Remaining", result.Balance.String())
	writeJSON(w, a.logger, http.StatusOK, out.Response)
}

// events writes the parts of a stream as OpenAI does.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

// partLimit is how long a client may take to receive a part before it counts as gone.
const partLimit = 30 * time.Second

func (e *events) write(data []byte) error {
	// Where the connection has no deadlines it has none to miss.
	if err := e.control.SetWriteDeadline(time.Now().Add(partLimit)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if !e.begun {
		e.begun = true
		e.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		e.w.Header().Set("Cache-Control", "no-store")
		e.w.Header().Set("X-Accel-Buffering", "no")
		e.w.WriteHeader(http.StatusOK)
	}
	if _, err := io.WriteString(e.w, "data: "+string(data)+"\n\n"); err != nil {
		return err
	}
	return e.control.Flush()
}

func (a *api) stream(w http.ResponseWriter, r *http.Request, p services.RunParams) {
	e := &events{w: w, control: http.NewResponseController(w)}
	result, err := a.shop.Stream(r.Context(), p, func(part services.Part) error { return e.write(part.Data) })
	if err != nil && !e.begun {
		writeError(w, r, a.logger, err)
		return
	}
	var out struct {
		Parts  []json.RawMessage `json:"parts"`
		Broken string            `json:"broken"`
	}
	if err == nil && result.Output != nil {
		err = json.Unmarshal(result.Output, &out)
	}
	if err == nil && !e.begun {
		for _, part := range out.Parts { // a repetition under the same key
			if err := e.write(part); err != nil {
				return
			}
		}
	}
	if err == nil && out.Broken != "" {
		err = badUpstream(out.Broken)
	}
	if err == nil {
		_ = e.write([]byte("[DONE]")) // whoever is gone reads nothing
		return
	}
	text, writing := json.Marshal(errorBody(toAPI(err)))
	if writing != nil {
		a.logger.ErrorContext(r.Context(), "write an error", slog.Any("error", writing))
		return
	}
	_ = e.write(text)
}
