package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

// apiError is an error as OpenAI's clients know it. It has the methods by which the services pass it on.
type apiError struct {
	status     int
	retryAfter string
	Message    string  `json:"message"`
	Type       string  `json:"type"`
	Param      *string `json:"param"`
	Code       string  `json:"code"`
}

// Error implements error.
func (e *apiError) Error() string { return e.Code + ": " + e.Message }

// ErrorCode is the machine code, which a failed call keeps.
func (e *apiError) ErrorCode() string { return e.Code }

// ErrorMessage is what the caller reads.
func (e *apiError) ErrorMessage() string { return e.Message }

// ErrorDetails are none.
func (e *apiError) ErrorDetails() map[string]any { return nil }

func badRequest(param, message string) *apiError {
	e := &apiError{status: http.StatusBadRequest, Message: message, Type: "invalid_request_error", Code: "invalid_request"}
	if param != "" {
		e.Param = &param
	}
	return e
}

func noModel(name string) *apiError {
	e := badRequest("model", "There is no model "+name+". GET /v1/models lists those that there are.")
	e.status, e.Code = http.StatusNotFound, "model_not_found"
	return e
}

// badUpstream says that the upstream is at fault. Clients try again after this status.
func badUpstream(message string) *apiError {
	return &apiError{status: http.StatusBadGateway, Message: message, Type: "server_error", Code: "upstream_error"}
}

// The statuses of refusals, by the services' codes. OpenAI's own clients try again after 429, which would be in vain
// where the credits are too few: that is 402.
var statuses = map[string]apiError{
	"unauthenticated":      {status: http.StatusUnauthorized, Type: "invalid_request_error", Code: "invalid_api_key"},
	"account_frozen":       {status: http.StatusForbidden, Type: "invalid_request_error"},
	"service_inactive":     {status: http.StatusServiceUnavailable, Type: "server_error"},
	"plan_required":        {status: http.StatusForbidden, Type: "invalid_request_error"},
	"service_busy":         {status: http.StatusTooManyRequests, Type: "rate_limit_exceeded"},
	"idempotency_mismatch": {status: http.StatusUnprocessableEntity, Type: "invalid_request_error"},
	"call_in_progress":     {status: http.StatusConflict, Type: "invalid_request_error"},
	"invalid":              {status: http.StatusBadRequest, Type: "invalid_request_error"},
	"timeout":              {status: http.StatusGatewayTimeout, Type: "server_error"},
	"unavailable":          {status: http.StatusServiceUnavailable, Type: "server_error"},
}

// toAPI makes an error that OpenAI's clients know of any other.
func toAPI(err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*credits.InsufficientError](err); ok {
		return &apiError{status: http.StatusPaymentRequired, Message: e.ErrorMessage(), Type: "insufficient_quota", Code: "insufficient_quota"}
	}
	var known interface {
		ErrorCode() string
		ErrorMessage() string
	}
	if errors.As(err, &known) {
		e, ok := statuses[known.ErrorCode()]
		if !ok {
			e = apiError{status: http.StatusInternalServerError, Type: "server_error"}
		}
		if e.Message = known.ErrorMessage(); e.Code == "" {
			e.Code = known.ErrorCode()
		}
		return &e
	}
	return &apiError{status: http.StatusInternalServerError, Message: "Something went wrong on our side.", Type: "server_error", Code: "internal"}
}

// errorBody is an error as it is sent.
func errorBody(e *apiError) any {
	return struct {
		Error *apiError `json:"error"`
	}{e}
}

func writeError(w http.ResponseWriter, r *http.Request, logger *slog.Logger, err error) {
	e := toAPI(err)
	if e.status >= http.StatusInternalServerError && r.Context().Err() == nil {
		logger.ErrorContext(r.Context(), "chat completion failed", slog.Any("error", err))
	}
	if call, ok := errors.AsType[*services.CallError](err); ok {
		w.Header().Set("X-Credits-Charged", call.Charged.String())
	}
	if e.retryAfter != "" {
		w.Header().Set("Retry-After", e.retryAfter)
	}
	writeJSON(w, logger, e.status, errorBody(e))
}

func writeJSON(w http.ResponseWriter, logger *slog.Logger, status int, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		logger.Error("write an answer", slog.Any("error", err))
		status, text = http.StatusInternalServerError, []byte("{}")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // whoever is gone reads nothing
}
