package billing

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

// Payment is money that came, with what it bought.
type Payment struct {
	ID          uuid.UUID      `json:"id"`
	Account     string         `json:"-"`
	Type        string         `json:"type"`
	Status      string         `json:"status"`
	Price       Money          `json:"amount"`
	Credits     credits.Amount `json:"credits"`
	Description string         `json:"description"`
	// Receipt is the receipt's number, RCP-YYYYMMDD-XXXXXX.
	Receipt string `json:"receipt"`
	// IntentID and ChargeID are Stripe's, for support.
	IntentID   string    `json:"payment_intent,omitempty"`
	ChargeID   string    `json:"charge,omitempty"`
	ReceiptURL string    `json:"stripe_receipt_url,omitempty"`
	CreatedAt  time.Time `json:"created_at"`
}

type paymentRow struct {
	ID          uuid.UUID      `db:"id"`
	Account     string         `db:"account_id"`
	CheckoutID  uuid.UUID      `db:"checkout_id"`
	Type        string         `db:"type"`
	Status      string         `db:"status"`
	Amount      int64          `db:"amount"`
	Currency    string         `db:"currency"`
	Credits     credits.Amount `db:"credits"`
	Description string         `db:"description"`
	Receipt     string         `db:"receipt_number"`
	SessionID   string         `db:"session_id"`
	IntentID    *string        `db:"intent_id"`
	ChargeID    string         `db:"charge_id"`
	ReceiptURL  string         `db:"receipt_url"`
	EntryID     uuid.UUID      `db:"entry_id"`
	CreatedAt   database.Time  `db:"created_at"`
}

const paymentColumns = `id, account_id, checkout_id, type, status, amount, currency, credits, description, receipt_number, session_id, intent_id,
	charge_id, receipt_url, entry_id, created_at`

func (r paymentRow) payment() Payment {
	p := Payment{ID: r.ID, Account: r.Account, Type: r.Type, Status: r.Status, Price: Money{r.Amount, r.Currency}, Credits: r.Credits, Description: r.Description,
		Receipt: r.Receipt, ChargeID: r.ChargeID, ReceiptURL: r.ReceiptURL, CreatedAt: r.CreatedAt.Time}
	if r.IntentID != nil {
		p.IntentID = *r.IntentID
	}
	return p
}

// receiptTries is how many numbers are drawn before a day is taken for full; there are 2^30 for each.
const receiptTries = 8

// insertPayment completes and writes a payment. The number's last part is random, so that receipts do not tell how
// many were sold; a number that is taken is drawn anew.
func (b *Billing) insertPayment(ctx context.Context, tx *sqlx.Tx, p paymentRow) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("billing: make an id: %w", err)
	}
	now := b.now()
	const insert = `INSERT INTO qs_billing_payments (` + paymentColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (receipt_number) DO NOTHING`
	for range receiptTries {
		receipt := now.Format("RCP-20060102-") + rand.Text()[:6]
		n, err := b.db.ExecTx(ctx, tx, insert, id, p.Account, p.CheckoutID, "credit_purchase", "succeeded", p.Amount, p.Currency, p.Credits, p.Description, receipt,
			p.SessionID, p.IntentID, p.ChargeID, p.ReceiptURL, p.EntryID, database.At(now))
		if err != nil {
			return fmt.Errorf("billing: write the payment of session %s: %w", p.SessionID, err)
		}
		if n == 1 {
			return nil
		}
	}
	return fmt.Errorf("billing: no free receipt number on %s", now.Format(time.DateOnly))
}

// FindPayment returns an account's payment; [ErrNotFound] when there is none or it is another's.
func (b *Billing) FindPayment(ctx context.Context, account string, id uuid.UUID) (Payment, error) {
	var row paymentRow
	err := b.db.Get(ctx, &row, `SELECT `+paymentColumns+` FROM qs_billing_payments WHERE id = ? AND account_id = ?`, id, account)
	if database.IsNoRows(err) {
		return Payment{}, ErrNotFound
	}
	if err != nil {
		return Payment{}, fmt.Errorf("billing: find payment %s: %w", id, err)
	}
	return row.payment(), nil
}

// Limits of a page of payments.
const (
	DefaultPage = 50
	MaxPage     = 500
)

// PaymentsParams choose a page of payments.
type PaymentsParams struct {
	// Account is whose. Empty: everybody's, for staff.
	Account string
	// Before is the last payment of the page before. Zero: begin with the newest.
	Before uuid.UUID
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// Payments returns a page of payments, newest first, and whether older ones follow.
func (b *Billing) Payments(ctx context.Context, p PaymentsParams) (payments []Payment, more bool, err error) {
	if p.Limit <= 0 {
		p.Limit = DefaultPage
	}
	p.Limit = min(p.Limit, MaxPage)
	// Runs along qs_billing_payments_account, or the primary key.
	query, args := `SELECT `+paymentColumns+` FROM qs_billing_payments WHERE 1 = 1`, []any{}
	if p.Account != "" {
		query, args = query+` AND account_id = ?`, append(args, p.Account)
	}
	if p.Before != uuid.Nil {
		query, args = query+` AND id < ?`, append(args, p.Before)
	}
	var rows []paymentRow
	if err := b.db.Select(ctx, &rows, query+` ORDER BY id DESC LIMIT ?`, append(args, p.Limit+1)...); err != nil {
		return nil, false, fmt.Errorf("billing: list payments: %w", err)
	}
	if more = len(rows) > p.Limit; more {
		rows = rows[:p.Limit]
	}
	payments = make([]Payment, len(rows))
	for i, r := range rows {
		payments[i] = r.payment()
	}
	return payments, more, nil
}
