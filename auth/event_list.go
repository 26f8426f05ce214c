package auth

import (
	"context"
	"fmt"

	"github.com/quickscale/quickscale/internal/database"
)

// UserEvent is an event and whose it is.
type UserEvent struct {
	Event
	// UserID is empty where an unknown address was tried. The user may be gone.
	UserID string `json:"user_id,omitempty"`
}

// AllEventsParams choose a page of the events of all users.
type AllEventsParams struct {
	// UserID and Kind leave out the events of others and of other kinds. Empty: all.
	UserID string
	Kind   EventKind
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
	// Runs along the primary key, qs_auth_events_user or qs_auth_events_kind.
	l := database.NewList(`SELECT ` + eventColumns + ` FROM qs_auth_events`)
	l.If(p.UserID != "", `user_id = ?`, p.UserID)
	l.If(p.Kind != "", `kind = ?`, p.Kind)
	l.If(isID(p.Before), `id < ?`, p.Before)
	if events, more, err = database.Page(ctx, a.db, l, `id DESC`, p.Limit, eventRow.userEvent); err != nil {
		return nil, false, fmt.Errorf("auth: list events: %w", err)
	}
	return events, more, nil
}
