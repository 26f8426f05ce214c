package webhook

import (
	"context"
	"fmt"
	"sync"
)

// scope is what the reads for one run of one event share.
type scope struct {
	event Record
	mu    sync.Mutex
	reads map[any]func() (any, error)
}

type scopeKey struct{}

func withScope(ctx context.Context, r Record) context.Context {
	return context.WithValue(ctx, scopeKey{}, &scope{event: r, reads: map[any]func() (any, error){}})
}

// FromContext tells a fetch which event it reads for; false outside of one.
func FromContext(ctx context.Context) (Record, bool) {
	s, ok := ctx.Value(scopeKey{}).(*scope)
	if !ok {
		return Record{}, false
	}
	return s.event, true
}

// Cached reads a value once per run of an event, however many of its handlers' fetches ask for it under the same key,
// such as "subscription/sub_1". The error is shared too. When the event is run again the value is read again. Outside
// of a fetch it just reads. A key stands for values of one type.
func Cached[T any](ctx context.Context, key any, read func(ctx context.Context) (T, error)) (T, error) {
	s, ok := ctx.Value(scopeKey{}).(*scope)
	if !ok {
		return read(ctx)
	}
	s.mu.Lock()
	once, ok := s.reads[key]
	if !ok {
		once = sync.OnceValues(func() (any, error) { return read(ctx) })
		s.reads[key] = once
	}
	s.mu.Unlock()
	value, err := once()
	if err != nil {
		var none T
		return none, err
	}
	typed, ok := value.(T)
	if !ok {
		return typed, fmt.Errorf("webhook: the key %v was read as %T before", key, value)
	}
	return typed, nil
}
