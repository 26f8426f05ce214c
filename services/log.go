package services

import (
	"context"
	"log/slog"

	"github.com/google/uuid"
)

// callHandler adds the service and the call to what is logged. It does so when there is something to log, since most
// calls log nothing.
type callHandler struct {
	slog.Handler

	service string
	call    uuid.UUID
}

func (h *callHandler) named() slog.Handler {
	return h.Handler.WithAttrs([]slog.Attr{slog.String("service", h.service), slog.String("call", h.call.String())})
}

// Handle implements slog.Handler.
func (h *callHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.named().Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *callHandler) WithAttrs(attrs []slog.Attr) slog.Handler { return h.named().WithAttrs(attrs) }

// WithGroup implements slog.Handler.
func (h *callHandler) WithGroup(name string) slog.Handler { return h.named().WithGroup(name) }
