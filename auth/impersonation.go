package auth

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// DefaultImpersonateFor is how long staff act as somebody else at most.
const DefaultImpersonateFor = 30 * time.Minute

// Errors about acting as somebody else.
var (
	// ErrImpersonated: staff who act as somebody else can neither spend nor change anything.
	ErrImpersonated error = problem.New(problem.CodeForbidden, "You act as somebody else. Nothing can be bought, spent or changed until you stop.")
	// ErrNotImpersonated: there is nothing to stop.
	ErrNotImpersonated error = problem.New(problem.CodeConflict, "You act as yourself already.")
	// ErrImpersonateStaff: nobody acts as a member of the staff, nor as who is closed or not confirmed.
	ErrImpersonateStaff error = problem.New(problem.CodeForbidden, "You cannot act as this person: staff, closed and unconfirmed accounts are left out.")
)

// maxReason bounds why somebody acts as somebody else, in characters.
const maxReason = 300

// ImpersonateParams say who acts as whom.
type ImpersonateParams struct {
	// StaffID has [PermitImpersonate], and StaffSessionID is their session, which waits meanwhile.
	StaffID, StaffSessionID string
	// UserID is the person.
	UserID string
	// Reason is kept with the events of both, 1 to 300 characters.
	Reason string
	Client Client
}

// Impersonation is a session as somebody else, and the token of the one that waits; both replace what the browser has.
type Impersonation struct {
	SignedIn

	// StaffToken is the new token of the staff's session; the old one has stopped working.
	StaffToken string
}

// Impersonate begins a session in which a member of staff sees what a person sees, for Config.ImpersonateFor at most. It
// never counts as proof of who it is, and [Auth.Load] and [Auth.RefuseImpersonation] let nothing be changed in it.
// [ErrPermission], [ErrImpersonateStaff], [ErrNoSession], [ErrNotFound]; a problem of code "invalid" for the field "reason".
func (a *Auth) Impersonate(ctx context.Context, p ImpersonateParams) (i Impersonation, err error) {
	p.Reason = strings.TrimSpace(p.Reason)
	if p.Reason == "" || utf8.RuneCountInString(p.Reason) > maxReason || cleanText(p.Reason) != p.Reason {
		return i, problem.Invalid(map[string]string{"reason": fmt.Sprintf("Say why in one line of 1 to %d characters.", maxReason)})
	}
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		staff, err := a.lockUser(ctx, tx, p.StaffID)
		if err != nil {
			return err
		}
		if !a.Can(staff.user(), PermitImpersonate) {
			return ErrPermission
		}
		u, err := a.lockUser(ctx, tx, p.UserID)
		if err != nil {
			return err
		}
		if u.user().IsStaff() || u.DisabledAt != nil || u.VerifiedAt == nil {
			return ErrImpersonateStaff
		}
		if i.StaffToken, err = a.rotateSession(ctx, tx, staff.ID, p.StaffSessionID); err != nil {
			return err
		}
		if i.SignedIn, err = a.startSession(ctx, tx, u, false, p.Client); err != nil {
			return err
		}
		ends := a.now().Add(a.cfg.ImpersonateFor)
		// A proof of long ago: what asks for a recent one stays closed.
		const mark = `UPDATE qs_auth_sessions SET impersonator_id = ?, staff_session_id = ?, auth_at = ?, idle_until = ?, expires_at = ? WHERE id = ?`
		if _, err := a.db.ExecTx(ctx, tx, mark, staff.ID, p.StaffSessionID, database.At(time.Unix(0, 0)), database.At(ends), database.At(ends), i.Session.ID); err != nil {
			return fmt.Errorf("auth: mark session %s: %w", i.Session.ID, err)
		}
		i.Session.ImpersonatorID, i.Session.ExpiresAt, i.Session.AuthAt = staff.ID, ends, time.Unix(0, 0).UTC()
		return a.recordBoth(ctx, tx, u.ID, staff.ID, EventImpersonateStart, p.Reason, p.Client)
	})
	return i, err
}

// recordBoth writes an event for the person and for the member of staff.
func (a *Auth) recordBoth(ctx context.Context, tx *sqlx.Tx, userID, staffID string, kind EventKind, reason string, c Client) error {
	if err := a.record(ctx, tx, userID, kind, "by "+staffID+": "+reason, c); err != nil {
		return err
	}
	return a.record(ctx, tx, staffID, kind, "as "+userID+": "+reason, c)
}

// rotateSession gives a session that is alive a new token; [ErrNoSession].
func (a *Auth) rotateSession(ctx context.Context, tx *sqlx.Tx, userID, sessionID string) (string, error) {
	if !isID(sessionID) {
		return "", ErrNoSession
	}
	token, hash := newSecret()
	const rotate = `UPDATE qs_auth_sessions SET token_hash = ? WHERE id = ? AND user_id = ? AND impersonator_id IS NULL AND revoked_at IS NULL AND expires_at > ?`
	n, err := a.db.ExecTx(ctx, tx, rotate, hash, sessionID, userID, database.At(a.now()))
	if err != nil {
		return "", fmt.Errorf("auth: rotate session %s: %w", sessionID, err)
	}
	if n != 1 {
		return "", ErrNoSession
	}
	return token, nil
}

// StopImpersonation ends a session as somebody else, which may have run out, and gives the staff's session that waited a
// new token. staffToken is that of the session which waited. [ErrNotImpersonated] when the token is none of a session
// that waits; [ErrNoSession] when that has ended meanwhile.
func (a *Auth) StopImpersonation(ctx context.Context, staffToken string, c Client) (s SignedIn, err error) {
	if !isSecret(staffToken) {
		return s, ErrNotImpersonated
	}
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		var row struct {
			sessionRow

			UserID string `db:"user_id"`
		}
		const find = `SELECT ` + sessionColumns + `, user_id FROM qs_auth_sessions WHERE token_hash = ? AND impersonator_id IS NULL AND revoked_at IS NULL`
		err := a.db.GetTx(ctx, tx, &row, find, hashSecret(staffToken))
		if database.IsNoRows(err) {
			return ErrNoSession
		}
		if err != nil {
			return fmt.Errorf("auth: find the session that waits: %w", err)
		}
		staff, err := a.lockUser(ctx, tx, row.UserID)
		if err != nil {
			return err
		}
		if staff.DisabledAt != nil {
			return ErrNoSession
		}
		const end = `UPDATE qs_auth_sessions SET revoked_at = ? WHERE staff_session_id = ? AND revoked_at IS NULL RETURNING user_id`
		var people []string
		if err := a.db.SelectTx(ctx, tx, &people, end, database.At(a.now()), row.ID); err != nil {
			return fmt.Errorf("auth: end the session as somebody else: %w", err)
		}
		if len(people) == 0 {
			return ErrNotImpersonated
		}
		for _, person := range people {
			if err := a.recordBoth(ctx, tx, person, staff.ID, EventImpersonateStop, "ended", c); err != nil {
				return err
			}
		}
		s.Token, err = a.rotateSession(ctx, tx, staff.ID, row.ID)
		s.User, s.Session = staff.user(), row.session()
		return err
	})
	return s, err
}

// Impersonated tells that a request is of staff who act as somebody else.
func Impersonated(r *http.Request) bool {
	s, _ := SessionFrom(r.Context())
	return s.ImpersonatorID != ""
}

// RefuseImpersonation refuses with [ErrImpersonated] what staff who act as somebody else would spend or change: every
// request that is not GET, HEAD or OPTIONS. A host wraps its own such handlers in it; those of the library are.
func (a *Auth) RefuseImpersonation(next http.Handler) http.Handler {
	return a.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if Impersonated(r) && !isSafe(r.Method) {
			a.cfg.Site.Fail(w, r, ErrImpersonated)
			return
		}
		next.ServeHTTP(w, r)
	}))
}

func isSafe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// notImpersonated keeps a page from staff who act as somebody else, whatever the method.
func (a *Auth) notImpersonated(next func(w http.ResponseWriter, r *http.Request, u User)) func(w http.ResponseWriter, r *http.Request, u User) {
	return func(w http.ResponseWriter, r *http.Request, u User) {
		if Impersonated(r) {
			a.cfg.Site.Fail(w, r, ErrImpersonated)
			return
		}
		next(w, r, u)
	}
}

// guardImpersonation stands before all routes of the package: only stopping and logging out go on.
func (a *Auth) guardImpersonation(next http.Handler) http.Handler {
	refused := a.RefuseImpersonation(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && (r.URL.Path == a.cfg.AccountPath+"/impersonation/stop" || r.URL.Path == a.cfg.Path+"/logout") {
			next.ServeHTTP(w, r)
			return
		}
		refused.ServeHTTP(w, r)
	})
}

// returnFromImpersonation brings staff back whose session as somebody else has run out; false when it was none. A form
// that was sent meanwhile is not carried out.
func (a *Auth) returnFromImpersonation(w http.ResponseWriter, r *http.Request) bool {
	token := a.readCookie(r, staffCookie)
	if token == "" {
		return false
	}
	s, err := a.StopImpersonation(r.Context(), token, ClientOf(r))
	a.dropCookie(w, staffCookie)
	if err != nil {
		if problem.From(err) == nil {
			a.cfg.Site.Fail(w, r, err)
			return true
		}
		return false
	}
	a.SetSession(w, s)
	a.cfg.Site.Flash(w, web.FlashInfo, "The time to act as somebody else is over. You are yourself again.")
	a.cfg.Site.Redirect(w, r, a.cfg.Home)
	return true
}

func (a *Auth) postImpersonate(w http.ResponseWriter, r *http.Request, u User) {
	var in struct {
		Reason string `json:"reason"`
	}
	err := web.Decode(w, r, &in)
	var i Impersonation
	if err == nil {
		session, _ := SessionFrom(r.Context())
		i, err = a.Impersonate(r.Context(), ImpersonateParams{StaffID: u.ID, StaffSessionID: session.ID, UserID: r.PathValue("id"), Reason: in.Reason, Client: ClientOf(r)})
	}
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	session, _ := SessionFrom(r.Context())
	lifetime := time.Duration(0)
	if session.Remember {
		lifetime = session.ExpiresAt.Sub(a.now())
	}
	a.setCookie(w, staffCookie, i.StaffToken, lifetime)
	a.SetSession(w, i.SignedIn)
	a.cfg.Site.Redirect(w, r, a.cfg.Home)
}

func (a *Auth) postStopImpersonation(w http.ResponseWriter, r *http.Request) {
	s, err := a.StopImpersonation(r.Context(), a.readCookie(r, staffCookie), ClientOf(r))
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.dropCookie(w, staffCookie)
	a.SetSession(w, s)
	a.cfg.Site.Flash(w, web.FlashSuccess, "You are yourself again.")
	a.cfg.Site.Redirect(w, r, a.cfg.Home)
}

// logOutStaff ends the session that waits while its owner logs out as somebody else.
func (a *Auth) logOutStaff(w http.ResponseWriter, r *http.Request) error {
	token := a.readCookie(r, staffCookie)
	if token == "" {
		return nil
	}
	a.dropCookie(w, staffCookie)
	return a.LogOut(r.Context(), token, ClientOf(r))
}

// impersonationRoutes are where staff begin and stop to act as somebody else.
func (a *Auth) impersonationRoutes(mux *http.ServeMux) {
	at := a.cfg.AccountPath + "/impersonation"
	mux.Handle("POST "+at+"/{id}", a.RequirePermission(PermitImpersonate)(a.recent(a.postImpersonate)))
	mux.HandleFunc("POST "+at+"/stop", a.postStopImpersonation)
}
