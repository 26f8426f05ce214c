package auth

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// EventKind is what happened.
type EventKind string

// The kinds of security events.
const (
	EventSignUp          EventKind = "signup"
	EventSignUpKnown     EventKind = "signup_known" // somebody signed up with an address that has an account
	EventVerified        EventKind = "verified"
	EventLogIn           EventKind = "login"
	EventLogInFailed     EventKind = "login_failed"
	EventLocked          EventKind = "locked"
	EventUnlocked        EventKind = "unlocked"
	EventLogOut          EventKind = "logout"
	EventPasswordChanged EventKind = "password_changed"
	EventPasswordReset   EventKind = "password_reset"
	EventKeyCreated      EventKind = "api_key_created"
	EventKeyRevoked      EventKind = "api_key_revoked"
	EventKeyReplaced     EventKind = "api_key_replaced"
	EventSessionRevoked  EventKind = "session_revoked"
	EventRoleChanged     EventKind = "role_changed"
	EventDisabled        EventKind = "disabled"
	EventEnabled         EventKind = "enabled"
	EventNewDevice       EventKind = "new_device"
	EventEmailAsked      EventKind = "email_change_asked"
	EventEmailChanged    EventKind = "email_changed"
	EventEmailUndone     EventKind = "email_change_undone"
	EventConfirmed       EventKind = "confirmed"
	EventConfirmFailed   EventKind = "confirm_failed"
)

// EventKinds are all kinds, by their names.
func EventKinds() []EventKind {
	kinds := []EventKind{}
	for _, labels := range []map[EventKind]string{entryLabels(), factorLabels(), peopleLabels()} {
		kinds = slices.AppendSeq(kinds, maps.Keys(labels))
	}
	slices.Sort(kinds)
	return kinds
}

// Label is the kind as people read it.
func (k EventKind) Label() string {
	return cmp.Or(entryLabels()[k], factorLabels()[k], peopleLabels()[k])
}

func entryLabels() map[EventKind]string {
	return map[EventKind]string{
		EventSignUp: "Signed up", EventSignUpKnown: "Sign-up with this address", EventVerified: "Address confirmed", EventLogIn: "Logged in", EventLogInFailed: "Wrong password",
		EventLocked: "Locked after wrong passwords", EventUnlocked: "Unlocked", EventLogOut: "Logged out", EventPasswordChanged: "Password changed",
		EventPasswordReset: "Password reset", EventKeyCreated: "API key created", EventKeyRevoked: "API key revoked", EventKeyReplaced: "API key replaced",
		EventSessionRevoked: "Session ended", EventRoleChanged: "Role changed", EventDisabled: "Account closed", EventEnabled: "Account opened again", EventConfirmed: "Proved who it is", EventConfirmFailed: "Wrong password when asked again", EventNewDevice: "New browser",
		EventEmailAsked: "Change of address asked for", EventEmailChanged: "Address changed", EventEmailUndone: "Change of address undone",
	}
}

// Event is something that concerns an account's security. Events are never changed or deleted.
type Event struct {
	ID   string    `json:"id"`
	Kind EventKind `json:"kind"`
	// Detail is a fact about it: the new role, the prefix of a key.
	Detail string `json:"detail,omitempty"`
	// IP and Agent are where it came from; empty for programs of the host.
	IP        string    `json:"ip,omitempty"`
	Agent     string    `json:"agent,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

// Device is the browser and the system as people call them.
func (e Event) Device() string { return deviceOf(e.Agent) }

// record writes an event in the transaction of its cause. userID is "" where an unknown address was tried. The log line
// has all fields, in this order, empty or not, and is written at once; when the transaction fails there is an error line of the request beside it.
func (a *Auth) record(ctx context.Context, tx *sqlx.Tx, userID string, kind EventKind, detail string, c Client) error {
	return a.recordAll(ctx, tx, userID, detail, c, kind)
}

// recordAll writes several events of one moment, in one statement.
func (a *Auth) recordAll(ctx context.Context, tx *sqlx.Tx, userID, detail string, c Client, kinds ...EventKind) error {
	var user *string
	if userID != "" {
		a.sessions.forget(userID)
		user = &userID
	}
	now := a.now()
	events, args := make([]Event, len(kinds)), []any{}
	for i, kind := range kinds {
		id, err := newID()
		if err != nil {
			return err
		}
		events[i] = Event{ID: id, Kind: kind, Detail: detail, IP: c.IP, Agent: cleanText(c.Agent), CreatedAt: now}
		args = append(args, id, user, kind, detail, c.IP, events[i].Agent, database.At(now))
	}
	const row = `(?, ?, ?, ?, ?, ?, ?)`
	insert := `INSERT INTO qs_auth_events (id, user_id, kind, detail, ip, agent, created_at) VALUES ` + row + strings.Repeat(`, `+row, len(kinds)-1)
	if _, err := a.db.ExecTx(ctx, tx, insert, args...); err != nil {
		return fmt.Errorf("auth: record %s of user %s: %w", kinds[0], userID, err)
	}
	for _, e := range events {
		if a.cfg.Hooks.OnEvent != nil {
			if err := a.cfg.Hooks.OnEvent(ctx, tx, userID, e); err != nil {
				return err
			}
		}
		a.cfg.Logger.InfoContext(ctx, "security event", slog.String("event", string(e.Kind)), slog.String("user", userID), slog.String("detail", detail),
			slog.String("ip", c.IP), slog.String("agent", e.Agent), slog.String("id", e.ID))
	}
	return nil
}

// Limits of pages.
const (
	DefaultPage = database.DefaultPage // 50
	MaxPage     = database.MaxPage     // 500
)

const eventColumns = `id, user_id, kind, detail, ip, agent, created_at`

type eventRow struct {
	ID        string        `db:"id"`
	UserID    *string       `db:"user_id"`
	Email     *string       `db:"email"` // of a list for staff
	Kind      EventKind     `db:"kind"`
	Detail    string        `db:"detail"`
	IP        string        `db:"ip"`
	Agent     string        `db:"agent"`
	CreatedAt database.Time `db:"created_at"`
}

func (r eventRow) event() Event {
	return Event{r.ID, r.Kind, r.Detail, r.IP, r.Agent, r.CreatedAt.Time}
}

func (r eventRow) userEvent() UserEvent {
	e := UserEvent{Event: r.event()}
	if r.UserID != nil {
		e.UserID = *r.UserID
	}
	if r.Email != nil {
		e.Email = *r.Email
	}
	return e
}

// EventsParams choose a page of a user's events.
type EventsParams struct {
	UserID string
	// Before is the id of the last event of the page before. Empty: begin with the newest.
	Before string
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// SecurityEvents returns a page of a user's events, newest first, and whether older ones follow.
func (a *Auth) SecurityEvents(ctx context.Context, p EventsParams) (events []Event, more bool, err error) {
	if !isID(p.UserID) {
		return []Event{}, false, nil
	}
	// Runs along qs_auth_events_user.
	l := database.NewList(`SELECT ` + eventColumns + ` FROM qs_auth_events`)
	l.And(`user_id = ?`, p.UserID)
	l.If(isID(p.Before), `id < ?`, p.Before)
	if events, more, err = database.Page(ctx, a.db, l, `id DESC`, p.Limit, eventRow.event); err != nil {
		return nil, false, fmt.Errorf("auth: events of user %s: %w", p.UserID, err)
	}
	return events, more, nil
}
