package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// ApprovalLife is how long a change of credits waits for a second person.
const ApprovalLife = 7 * 24 * time.Hour

// ApprovalStatus is where an asked-for change stands.
type ApprovalStatus string

// The statuses.
const (
	ApprovalWaiting  ApprovalStatus = "waiting"
	ApprovalApproved ApprovalStatus = "approved"
	ApprovalRefused  ApprovalStatus = "refused"
	ApprovalExpired  ApprovalStatus = "expired" // nobody decided in time
)

// Approval is a change of credits that needs a second person.
type Approval struct {
	ID      uuid.UUID      `json:"id"`
	User    string         `json:"user"`
	Account string         `json:"account"`
	Amount  credits.Amount `json:"amount"`
	Reason  string         `json:"reason"`
	// AskedBy is the id of who asked, DecidedBy of who decided; empty while nobody has.
	AskedBy      string         `json:"asked_by"`
	AskedEmail   string         `json:"asked_email"`
	Status       ApprovalStatus `json:"status"`
	DecidedBy    string         `json:"decided_by,omitempty"`
	DecidedEmail string         `json:"decided_email,omitempty"`
	DecidedAt    *time.Time     `json:"decided_at,omitempty"`
	Note         string         `json:"note,omitempty"`
	// Entry is the ledger's, once it happened.
	Entry     *uuid.UUID `json:"entry,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt time.Time  `json:"expires_at"`
}

type approvalRow struct {
	ID           uuid.UUID      `db:"id"`
	Key          uuid.UUID      `db:"key"`
	User         string         `db:"user_id"`
	Account      string         `db:"account_id"`
	Amount       credits.Amount `db:"amount"`
	Reason       string         `db:"reason"`
	AskedBy      string         `db:"asked_by"`
	AskedEmail   string         `db:"asked_email"`
	Status       ApprovalStatus `db:"status"`
	DecidedBy    string         `db:"decided_by"`
	DecidedEmail string         `db:"decided_email"`
	DecidedAt    *database.Time `db:"decided_at"`
	Note         string         `db:"note"`
	Entry        *uuid.UUID     `db:"entry_id"`
	CreatedAt    database.Time  `db:"created_at"`
	ExpiresAt    database.Time  `db:"expires_at"`
}

const approvalColumns = `id, key, user_id, account_id, amount, reason, asked_by, asked_email, status, decided_by, decided_email, decided_at, note, entry_id,
	created_at, expires_at`

func (r approvalRow) approval(now time.Time) Approval {
	a := Approval{ID: r.ID, User: r.User, Account: r.Account, Amount: r.Amount, Reason: r.Reason, AskedBy: r.AskedBy, AskedEmail: r.AskedEmail, Status: r.Status,
		DecidedBy: r.DecidedBy, DecidedEmail: r.DecidedEmail, DecidedAt: r.DecidedAt.Std(), Note: r.Note, Entry: r.Entry, CreatedAt: r.CreatedAt.Time, ExpiresAt: r.ExpiresAt.Time}
	if a.Status == ApprovalWaiting && !now.Before(a.ExpiresAt) {
		a.Status = ApprovalExpired
	}
	return a
}

// Errors of approvals.
var (
	ErrOwnApproval     error = problem.New(problem.CodeForbidden, "Who asked for a change does not decide about it. It needs a second person.")
	ErrApprovalDecided error = problem.New(problem.CodeConflict, "This was decided already.")
	ErrApprovalExpired error = problem.New(problem.CodeConflict, "Nobody decided about this in time. It has to be asked for again.")
	errNoApproval            = problem.New(problem.CodeNotFound, "There is no such request.")
)

// needsApproval tells that a change of credits needs a second person.
func (a *Admin) needsApproval(amount credits.Amount) bool {
	limit := a.cfg.ApproveAbove
	return limit > 0 && (amount > limit || amount < -limit)
}

// askTx writes down a request; again with the same key it is the first.
func (a *Admin) askTx(ctx context.Context, tx *sqlx.Tx, row approvalRow) (Approval, bool, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Approval{}, false, fmt.Errorf("admin: make an id: %w", err)
	}
	now := a.now()
	const insert = `INSERT INTO qs_admin_approvals (id, key, user_id, account_id, amount, reason, asked_by, asked_email, status, created_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?, ?) ON CONFLICT (key) DO NOTHING`
	made, err := a.db.ExecTx(ctx, tx, insert, id, row.Key, row.User, row.Account, row.Amount, row.Reason, row.AskedBy, row.AskedEmail, database.At(now), database.At(now.Add(ApprovalLife)))
	if err != nil {
		return Approval{}, false, fmt.Errorf("admin: ask for a second person: %w", err)
	}
	var found approvalRow
	if err := a.db.GetTx(ctx, tx, &found, `SELECT `+approvalColumns+` FROM qs_admin_approvals WHERE key = ?`, row.Key); err != nil {
		return Approval{}, false, fmt.Errorf("admin: find a request: %w", err)
	}
	return found.approval(now), made == 1, nil
}

// lockApproval reads a request that staff may decide about, and keeps others from deciding until tx ends.
func (a *Admin) lockApproval(ctx context.Context, tx *sqlx.Tx, id uuid.UUID, who Staff) (approvalRow, error) {
	var row approvalRow
	err := a.db.GetTx(ctx, tx, &row, `SELECT `+approvalColumns+` FROM qs_admin_approvals WHERE id = ?`+a.db.Dialect().ForUpdate(), id)
	switch {
	case database.IsNoRows(err):
		return row, errNoApproval
	case err != nil:
		return row, fmt.Errorf("admin: lock a request: %w", err)
	}
	switch row.approval(a.now()).Status {
	case ApprovalApproved, ApprovalRefused:
		return row, ErrApprovalDecided
	case ApprovalExpired:
		return row, ErrApprovalExpired
	case ApprovalWaiting:
	}
	if row.AskedBy == who.ID {
		return row, ErrOwnApproval
	}
	return row, nil
}

func (a *Admin) decideTx(ctx context.Context, tx *sqlx.Tx, id uuid.UUID, status ApprovalStatus, who Staff, note string, entry *uuid.UUID) error {
	const update = `UPDATE qs_admin_approvals SET status = ?, decided_by = ?, decided_email = ?, decided_at = ?, note = ?, entry_id = ? WHERE id = ?`
	if _, err := a.db.ExecTx(ctx, tx, update, status, who.ID, who.Email, database.At(a.now()), note, entry, id); err != nil {
		return fmt.Errorf("admin: decide about a request: %w", err)
	}
	return nil
}

// FindApproval returns a request; a problem of code "not_found" when there is none.
func (a *Admin) FindApproval(ctx context.Context, id uuid.UUID) (Approval, error) {
	var row approvalRow
	err := a.db.Get(ctx, &row, `SELECT `+approvalColumns+` FROM qs_admin_approvals WHERE id = ?`, id)
	if database.IsNoRows(err) {
		return Approval{}, errNoApproval
	}
	if err != nil {
		return Approval{}, fmt.Errorf("admin: find a request: %w", err)
	}
	return row.approval(a.now()), nil
}

// ApprovalsParams choose a page of requests.
type ApprovalsParams struct {
	// Waiting leaves out what was decided or expired.
	Waiting bool
	// Before is the last request of the page before. Zero: begin with the newest.
	Before uuid.UUID
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// Approvals returns a page of requests, newest first, and whether older ones follow.
func (a *Admin) Approvals(ctx context.Context, p ApprovalsParams) (page []Approval, more bool, err error) {
	if p.Limit <= 0 {
		p.Limit = DefaultPage
	}
	p.Limit = min(p.Limit, MaxPage)
	now := a.now()
	query, args := `SELECT `+approvalColumns+` FROM qs_admin_approvals WHERE 1 = 1`, []any{}
	if p.Waiting { // along qs_admin_approvals_waiting
		query, args = query+` AND status = 'waiting' AND expires_at > ?`, append(args, database.At(now))
	}
	if p.Before != uuid.Nil {
		query, args = query+` AND id < ?`, append(args, p.Before)
	}
	var rows []approvalRow
	if err := a.db.Select(ctx, &rows, query+` ORDER BY id DESC LIMIT ?`, append(args, p.Limit+1)...); err != nil {
		return nil, false, fmt.Errorf("admin: list requests: %w", err)
	}
	if more = len(rows) > p.Limit; more {
		rows = rows[:p.Limit]
	}
	page = make([]Approval, len(rows))
	for i, r := range rows {
		page[i] = r.approval(now)
	}
	return page, more, nil
}
