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

func (r recordRow) record() Record {
	return Record{ID: r.ID, StaffID: r.StaffID, StaffEmail: r.StaffEmail, Action: r.Action, Subject: r.Subject, Detail: r.Detail,
		Address: r.Address, RequestID: r.RequestID, CreatedAt: r.CreatedAt.Time}
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
	DefaultPage = database.DefaultPage // 50
	MaxPage     = database.MaxPage     // 500
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
	// Runs along the primary key, qs_admin_audit_action, _staff, _subject or _created.
	l := database.NewList(`SELECT ` + recordColumns + ` FROM qs_admin_audit`)
	l.If(p.Action != "", `action = ?`, p.Action)
	l.If(p.StaffID != "", `staff_id = ?`, p.StaffID)
	l.If(p.Subject != "", `subject = ?`, p.Subject)
	l.If(!p.From.IsZero(), `created_at >= ?`, database.At(p.From))
	l.If(!p.Until.IsZero(), `created_at < ?`, database.At(p.Until))
	l.If(p.Before != uuid.Nil, `id < ?`, p.Before)
	if records, more, err = database.Page(ctx, a.db, l, `id DESC`, p.Limit, recordRow.record); err != nil {
		return nil, false, fmt.Errorf("admin: read the audit log: %w", err)
	}
	return records, more, nil
}
