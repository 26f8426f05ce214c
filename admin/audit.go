package admin

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// Action is what a member of staff did.
type Action string

// The actions. Reading personal data is one too.
const (
	ActionOverview     Action = "overview_view"
	ActionUserSearch   Action = "user_search"
	ActionUserView     Action = "user_view"
	ActionPaymentsView Action = "payments_view"
	ActionEventsView   Action = "webhooks_view"
	ActionEventView    Action = "webhook_view"
	ActionEventStats   Action = "webhook_stats"
	ActionEventReveal  Action = "webhook_reveal" // personal data in a payload
	ActionEventRetry   Action = "webhook_retry"
	ActionEventSkip    Action = "webhook_skip"
	ActionEventReplay  Action = "webhook_replay"
	ActionEventSpan    Action = "webhook_span" // events taken from Stripe's list
	ActionAuditView    Action = "audit_view"
	ActionLedgerView   Action = "ledger_view"
	ActionLedgerVerify Action = "ledger_verify"

	ActionPaymentView    Action = "payment_view"
	ActionRefundPreview  Action = "refund_preview"
	ActionRefund         Action = "refund"
	ActionRefundsView    Action = "refunds_view"
	ActionRefundView     Action = "refund_view"
	ActionRefundStats    Action = "refund_stats"
	ActionDisputesView   Action = "disputes_view"
	ActionDisputeView    Action = "dispute_view"
	ActionReconcileView  Action = "reconcile_view"
	ActionReconcile      Action = "reconcile"
	ActionProductsView   Action = "products_view"
	ActionProductArrange Action = "product_arrange"
	ActionProductSync    Action = "product_sync"
	ActionProductsSync   Action = "products_sync"
	ActionAdjustPreview  Action = "credits_preview"
	ActionAdjust         Action = "credits_adjust"
	ActionAuditExport    Action = "audit_export"
	ActionJobsView       Action = "jobs_view"
	ActionJobRetry       Action = "job_retry"
	ActionJobCancel      Action = "job_cancel"
	ActionRoleChange     Action = "role_change"
)

// Record is one line of the audit log. Lines are never changed or removed.
type Record struct {
	ID         uuid.UUID `json:"id"`
	StaffID    string    `json:"staff_id"`
	StaffEmail string    `json:"staff_email"`
	Action     Action    `json:"action"`
	// Subject is the id of what was acted on, Detail the query that was asked. Either may be empty.
	Subject   string    `json:"subject,omitempty"`
	Detail    string    `json:"detail,omitempty"`
	Address   string    `json:"address"`
	RequestID string    `json:"request_id"`
	CreatedAt time.Time `json:"created_at"`
}

type recordRow struct {
	ID         uuid.UUID     `db:"id"`
	StaffID    string        `db:"staff_id"`
	StaffEmail string        `db:"staff_email"`
	Action     Action        `db:"action"`
	Subject    string        `db:"subject"`
	Detail     string        `db:"detail"`
	Address    string        `db:"address"`
	RequestID  string        `db:"request_id"`
	CreatedAt  database.Time `db:"created_at"`
}

const recordColumns = `id, staff_id, staff_email, action, subject, detail, address, request_id, created_at`

// maxText bounds what an address or a query leaves in the log, in bytes.
const maxText = 500

// bounded is text from outside as a column takes it; the cut may fall into a character.
func bounded(text string) string { return strings.ToValidUTF8(text[:min(len(text), maxText)], "") }

// record writes one line. The page that it is about is shown only once it is written.
func (a *Admin) record(ctx context.Context, r Record) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.recordTx(ctx, tx, r) })
}

// recordTx writes one line in the transaction of what it is about.
func (a *Admin) recordTx(ctx context.Context, tx *sqlx.Tx, r Record) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("admin: make an id: %w", err)
	}
	const insert = `INSERT INTO qs_admin_audit (` + recordColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	_, err = a.db.ExecTx(ctx, tx, insert, id, r.StaffID, r.StaffEmail, r.Action, bounded(r.Subject), bounded(r.Detail), r.Address, r.RequestID, database.At(a.now()))
	if err != nil {
		return fmt.Errorf("admin: write the audit log: %w", err)
	}
	return nil
}

// Limits of a page of the audit log.
const (
	DefaultPage = 50
	MaxPage     = 500
)

// AuditParams choose a page of the audit log.
type AuditParams struct {
	// Action leaves out the others. Empty: all.
	Action Action
	// StaffID leaves out other people's. Empty: everybody's.
	StaffID string
	// Subject leaves out what was about others. Empty: all.
	Subject string
	// From and Until bound the time: from From on, and before Until. The zero time is no bound.
	From, Until time.Time
	// Before is the last line of the page before. Zero: begin with the newest.
	Before uuid.UUID
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// Audit returns a page of the audit log, newest first, and whether older lines follow.
func (a *Admin) Audit(ctx context.Context, p AuditParams) (records []Record, more bool, err error) {
	if p.Limit <= 0 {
		p.Limit = DefaultPage
	}
	p.Limit = min(p.Limit, MaxPage)
	// Runs along the primary key, qs_admin_audit_action, _staff, _subject or _created.
	query, args := `SELECT `+recordColumns+` FROM qs_admin_audit WHERE 1 = 1`, []any{}
	if p.Action != "" {
		query, args = query+` AND action = ?`, append(args, p.Action)
	}
	if p.StaffID != "" {
		query, args = query+` AND staff_id = ?`, append(args, p.StaffID)
	}
	if p.Subject != "" {
		query, args = query+` AND subject = ?`, append(args, p.Subject)
	}
	if !p.From.IsZero() {
		query, args = query+` AND created_at >= ?`, append(args, database.At(p.From))
	}
	if !p.Until.IsZero() {
		query, args = query+` AND created_at < ?`, append(args, database.At(p.Until))
	}
	if p.Before != uuid.Nil {
		query, args = query+` AND id < ?`, append(args, p.Before)
	}
	var rows []recordRow
	if err := a.db.Select(ctx, &rows, query+` ORDER BY id DESC LIMIT ?`, append(args, p.Limit+1)...); err != nil {
		return nil, false, fmt.Errorf("admin: read the audit log: %w", err)
	}
	if more = len(rows) > p.Limit; more {
		rows = rows[:p.Limit]
	}
	records = make([]Record, len(rows))
	for i, r := range rows {
		records[i] = Record{ID: r.ID, StaffID: r.StaffID, StaffEmail: r.StaffEmail, Action: r.Action, Subject: r.Subject, Detail: r.Detail,
			Address: r.Address, RequestID: r.RequestID, CreatedAt: r.CreatedAt.Time}
	}
	return records, more, nil
}
