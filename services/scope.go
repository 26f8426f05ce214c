package services

import (
	"context"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/problem"
)

// ErrScope says that the caller's API key does not reach that far; nothing was charged.
var ErrScope error = problem.New(problem.CodeForbidden, "This API key may not do that. Use one that is allowed to. Nothing was charged.")

// may tells whether the caller may use a service.
func (c Caller) may(service string) error {
	if c.Services != nil && !slices.Contains(c.Services, service) {
		return ErrScope
	}
	return nil
}

// unlimited lets only callers through who may use all services, for what spans them.
func unlimited(s *Services, next func(w http.ResponseWriter, r *http.Request, who Caller)) func(w http.ResponseWriter, r *http.Request, who Caller) {
	return func(w http.ResponseWriter, r *http.Request, who Caller) {
		if who.Services != nil {
			s.cfg.Site.FailJSON(w, r, ErrScope)
			return
		}
		next(w, r, who)
	}
}

// recordFor does something with a call of a caller, who sees only those of services that they may use.
func (s *Services) recordFor(ctx context.Context, who Caller, id uuid.UUID, do func(ctx context.Context, account string, id uuid.UUID) (Record, error)) (Record, error) {
	if who.Services != nil {
		record, err := s.FindCall(ctx, who.Account, id)
		if err != nil {
			return Record{}, err
		}
		if who.may(record.Service) != nil {
			return Record{}, ErrNoCall
		}
	}
	return do(ctx, who.Account, id)
}
