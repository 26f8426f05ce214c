package quickscale

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/maintenance"
)

// Maintenance shuts the application to people for a while: they get a page that says so, and programs an answer, with
// status 503 and Retry-After. The staff passes, and everybody can log in, to be known as staff. Stripe's webhooks are
// taken, probes answer and jobs go on. It holds in all processes two seconds later. message is what people are told, and
// may be empty; until is when it is expected to be over, nil when nobody knows: it does not end by itself. by is who does
// it. The error says when the message is longer than 500 characters.
func (a *App) Maintenance(ctx context.Context, message, by string, until *time.Time) error {
	return maintenance.Begin(ctx, a.db, message, by, until, a.cfg.Clock())
}

// EndMaintenance opens the application again. Nothing happens when it is open.
func (a *App) EndMaintenance(ctx context.Context) error {
	_, err := maintenance.End(ctx, a.db)
	return err
}

// shutTo keeps people out while there is maintenance, except for the staff.
func (a *App) shutTo(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state := a.watch.State(r.Context())
		if !state.On || strings.HasPrefix(r.URL.Path, authPath+"/") {
			next.ServeHTTP(w, r)
			return
		}
		if u, ok := auth.UserFrom(r.Context()); ok && a.Auth.Can(u, auth.PermitBackOffice) {
			next.ServeHTTP(w, r)
			return
		}
		message, after := state.Message, retryAfter
		if message == "" {
			message = "We are working on the site. Nothing of yours is lost; please try again in a few minutes."
		}
		if state.Until != nil {
			message += " We expect to be back at " + state.Until.UTC().Format("15:04 UTC on 2 January") + "."
			after = max(state.Until.Sub(a.cfg.Clock()), leastRetryAfter)
		}
		a.site.Closed(w, r, message, after)
	})
}

// When to try again during maintenance whose end is not known, and the least that is said.
const (
	retryAfter      = 5 * time.Minute
	leastRetryAfter = 30 * time.Second
)
