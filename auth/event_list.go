package auth

import (
	"context"
	"fmt"
	"time"

	"github.com/quickscale/quickscale/internal/database"
)

// UserEvent is an event and whose it is.
type UserEvent struct {
	Event
	// UserID is empty where an unknown address was tried. The user may be gone.
	UserID string `json:"user_id,omitempty"`
	// Email is the user's address now. Empty: there is no such user any more.
	Email string `json:"email,omitempty"`
}

// AllEventsParams choose a page of the events of all users.
type AllEventsParams struct {
	// UserID and Kind leave out the events of others and of other kinds. Empty: all.
	UserID string
	Kind   EventKind
	// IP leaves out what came from other network addresses. Empty: all.
	IP string
	// From and Until bound the time: from From on, and before Until. The zero time is no bound.
	From, Until time.Time
	// Before is the id of the last event of the page before. Empty: begin with the newest.
	Before string
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// AllEvents returns a page of security events for staff, newest first, and whether older ones follow. It shows where
// people come from: the caller decides who may see it.
func (a *Auth) AllEvents(ctx context.Context, p AllEventsParams) (events []UserEvent, more bool, err error) {
	if p.UserID != "" && !isID(p.UserID) {
		return []UserEvent{}, false, nil
	}
	// Runs along the primary key, qs_auth_events_user, _kind, _ip or _created.
	l := database.NewList(`SELECT e.id, e.user_id, u.email, e.kind, e.detail, e.ip, e.agent, e.created_at FROM qs_auth_events e LEFT JOIN qs_auth_users u ON u.id = e.user_id`)
	l.If(p.UserID != "", `e.user_id = ?`, p.UserID)
	l.If(p.Kind != "", `e.kind = ?`, p.Kind)
	l.If(p.IP != "", `e.ip = ?`, p.IP)
	l.If(!p.From.IsZero(), `e.created_at >= ?`, database.At(p.From))
	l.If(!p.Until.IsZero(), `e.created_at < ?`, database.At(p.Until))
	l.If(isID(p.Before), `e.id < ?`, p.Before)
	if events, more, err = database.Page(ctx, a.db, l, `e.id DESC`, p.Limit, eventRow.userEvent); err != nil {
		return nil, false, fmt.Errorf("auth: list events: %w", err)
	}
	return events, more, nil
}
