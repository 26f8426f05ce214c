package auth

import (
	"context"
	"fmt"
	"strings"
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
	// Runs along the primary key, qs_auth_events_user, _kind, _ip or _created.
	where, args := []string{"1 = 1"}, []any{}
	if p.UserID != "" {
		if !isID(p.UserID) {
			return []UserEvent{}, false, nil
		}
		where, args = append(where, "e.user_id = ?"), append(args, p.UserID)
	}
	if p.Kind != "" {
		where, args = append(where, "e.kind = ?"), append(args, p.Kind)
	}
	if p.IP != "" {
		where, args = append(where, "e.ip = ?"), append(args, p.IP)
	}
	if !p.From.IsZero() {
		where, args = append(where, "e.created_at >= ?"), append(args, database.At(p.From))
	}
	if !p.Until.IsZero() {
		where, args = append(where, "e.created_at < ?"), append(args, database.At(p.Until))
	}
	if isID(p.Before) {
		where, args = append(where, "e.id < ?"), append(args, p.Before)
	}
	limit := pageSize(p.Limit)
	var rows []struct {
		ID        string        `db:"id"`
		UserID    *string       `db:"user_id"`
		Email     *string       `db:"email"`
		Kind      EventKind     `db:"kind"`
		Detail    string        `db:"detail"`
		IP        string        `db:"ip"`
		Agent     string        `db:"agent"`
		CreatedAt database.Time `db:"created_at"`
	}
	query := `SELECT e.id, e.user_id, u.email, e.kind, e.detail, e.ip, e.agent, e.created_at FROM qs_auth_events e LEFT JOIN qs_auth_users u ON u.id = e.user_id
		WHERE ` + strings.Join(where, " AND ") + ` ORDER BY e.id DESC LIMIT ?`
	if err := a.db.Select(ctx, &rows, query, append(args, limit+1)...); err != nil {
		return nil, false, fmt.Errorf("auth: list events: %w", err)
	}
	if more = len(rows) > limit; more {
		rows = rows[:limit]
	}
	events = make([]UserEvent, len(rows))
	for i, r := range rows {
		events[i] = UserEvent{Event: Event{r.ID, r.Kind, r.Detail, r.IP, r.Agent, r.CreatedAt.Time}}
		if r.UserID != nil {
			events[i].UserID = *r.UserID
		}
		if r.Email != nil {
			events[i].Email = *r.Email
		}
	}
	return events, more, nil
}
