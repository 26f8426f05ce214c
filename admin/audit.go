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
	ActionInvestigate    Action = "payment_investigate" // a payment beside Stripe's live objects
	ActionPaymentsExport Action = "payments_export"
	ActionAccountView    Action = "account_view"
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
	ActionDutiesChange   Action = "duties_change"
	ActionAuditVerify    Action = "audit_verify"
	ActionApprovalsView  Action = "approvals_view"
	ActionApprovalAsk    Action = "approval_ask" // a change of credits that a second person decides about
	ActionApprove        Action = "approval_approve"
	ActionServicesView   Action = "services_view"
	ActionServiceSwitch  Action = "service_switch"
	ActionServicePrice   Action = "service_price"
	// ActionServicePriceDue is a price that came to hold at its moment, under the name of who set it.
	ActionServicePriceDue    Action = "service_price_due"
	ActionServicePriceCancel Action = "service_price_cancel"
	ActionRefuse             Action = "approval_refuse"
)

// Record is one line of the audit log. Lines are never changed or removed.
type Record struct {
	ID         uuid.UUID `json:"id"`
	StaffID    string    `json:"staff_id"`
	StaffEmail string    `json:"staff_email"`
	Action     Action    `json:"action"`
	// Subject is the id of what was acted on, Detail the query that was asked or what else there is to say, Reason why it was
	// done, and Before and After what it changed. Each may be empty.
	Subject   string    `json:"subject,omitempty"`
	Detail    string    `json:"detail,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Before    string    `json:"before,omitempty"`
	After     string    `json:"after,omitempty"`
	Address   string    `json:"address"`
	RequestID string    `json:"request_id"`
	CreatedAt time.Time `json:"created_at"`
	// N is the line's number in the chain, from 1. 0: it is from before there was one.
	N int64 `json:"n"`
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
	Reason     string        `db:"reason"`
	Before     string        `db:"before"`
	After      string        `db:"after"`
	N          *int64        `db:"n"`
	Hash       *string       `db:"hash"`
}

const recordColumns = `id, staff_id, staff_email, action, subject, detail, address, request_id, created_at, reason, before, after, n, hash`

func (r recordRow) record() Record {
	record := Record{ID: r.ID, StaffID: r.StaffID, StaffEmail: r.StaffEmail, Action: r.Action, Subject: r.Subject, Detail: r.Detail, Reason: r.Reason,
		Before: r.Before, After: r.After, Address: r.Address, RequestID: r.RequestID, CreatedAt: r.CreatedAt.Time}
	if r.N != nil {
		record.N = *r.N
	}
	return record
}

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
	row := recordRow{ID: id, StaffID: r.StaffID, StaffEmail: r.StaffEmail, Action: r.Action, Subject: bounded(r.Subject), Detail: bounded(r.Detail), Address: r.Address,
		RequestID: r.RequestID, CreatedAt: database.At(a.now()), Reason: bounded(r.Reason), Before: bounded(r.Before), After: bounded(r.After)}
	if err := a.linkTx(ctx, tx, &row); err != nil {
		return err
	}
	const insert = `INSERT INTO qs_admin_audit (` + recordColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	_, err = a.db.ExecTx(ctx, tx, insert, row.ID, row.StaffID, row.StaffEmail, row.Action, row.Subject, row.Detail, row.Address, row.RequestID, row.CreatedAt,
		row.Reason, row.Before, row.After, row.N, row.Hash)
	if err != nil {
		return fmt.Errorf("admin: write the audit log: %w", err)
	}
	return nil
}

// sameView is for how long a page that the same person opens again, from the same address and with the same filters, leaves
// no further line.
const sameView = 10 * time.Minute

// viewsSeen is how many of a person's last lines are compared.
const viewsSeen = 20

// recordView writes one line about a page, unless the person opened the very same lately.
func (a *Admin) recordView(ctx context.Context, r Record) error {
	var last []recordRow
	// Runs along qs_admin_audit_staff. A replica that is behind costs a line too many.
	if err := a.db.Select(ctx, &last, `SELECT `+recordColumns+` FROM qs_admin_audit WHERE staff_id = ? ORDER BY id DESC LIMIT ?`, r.StaffID, viewsSeen); err != nil {
		return fmt.Errorf("admin: read the audit log: %w", err)
	}
	now := a.now()
	for _, l := range last {
		age := now.Sub(l.CreatedAt.Time)
		if age >= 0 && age < sameView && l.Action == r.Action && l.Subject == bounded(r.Subject) && l.Detail == bounded(r.Detail) && l.Address == r.Address {
			return nil
		}
	}
	return a.record(ctx, r)
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
