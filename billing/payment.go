package billing

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

// PaymentType is what was paid for.
type PaymentType string

// The types of payments.
const (
	TypePurchase     PaymentType = "credit_purchase" // a pack
	TypeSubscription PaymentType = "subscription"    // a period of a plan
	TypePlanChange   PaymentType = "plan_change"     // the difference to another plan
	TypeInvoice      PaymentType = "invoice"         // any other invoice, which gives no credits
	TypeRefund       PaymentType = "refund"          // money that went back
)

// PaymentStatus is where a payment stands.
type PaymentStatus string

// The statuses of payments.
const (
	PaymentPending           PaymentStatus = "pending"   // a refund on its way
	PaymentSucceeded         PaymentStatus = "succeeded" // the money is there
	PaymentFailed            PaymentStatus = "failed"    // it was refused, and may be tried again
	PaymentCanceled          PaymentStatus = "canceled"  // it will not be tried again
	PaymentPartiallyRefunded PaymentStatus = "partially_refunded"
	PaymentRefunded          PaymentStatus = "refunded"
)

var (
	paymentTypes    = []PaymentType{TypePurchase, TypeSubscription, TypePlanChange, TypeInvoice, TypeRefund}
	paymentStatuses = []PaymentStatus{PaymentPending, PaymentSucceeded, PaymentFailed, PaymentCanceled, PaymentPartiallyRefunded, PaymentRefunded}
)

// Label is the type in words.
func (t PaymentType) Label() string {
	return map[PaymentType]string{TypePurchase: "Credit pack", TypeSubscription: "Subscription", TypePlanChange: "Plan change", TypeInvoice: "Invoice", TypeRefund: "Refund"}[t]
}

// Label is the status in words.
func (s PaymentStatus) Label() string {
	return map[PaymentStatus]string{PaymentPending: "On its way", PaymentSucceeded: "Paid", PaymentFailed: "Not paid", PaymentCanceled: "Canceled",
		PaymentPartiallyRefunded: "Partly refunded", PaymentRefunded: "Refunded"}[s]
}

// Payment is money that came, should come, or went back, with what it bought.
type Payment struct {
	ID      uuid.UUID     `json:"id"`
	Account string        `json:"-"`
	Type    PaymentType   `json:"type"`
	Status  PaymentStatus `json:"status"`
	// Price is below zero for refunds.
	Price Money `json:"amount"`
	// Refunded is what of Price went back or is on its way.
	Refunded int64 `json:"refunded"`
	// Disputed is what of Price disputes hold, or have taken for good.
	Disputed int64 `json:"disputed,omitempty"`
	// Credits were granted; CreditsExpire is when they stop counting, nil for never.
	Credits       credits.Amount `json:"credits"`
	CreditsExpire *time.Time     `json:"credits_expire,omitempty"`
	// Clawed is what of Credits was taken back because money went back.
	Clawed      credits.Amount `json:"clawed_back"`
	Description string         `json:"description"`
	// Receipt is the receipt's number, RCP-YYYYMMDD-XXXXXX.
	Receipt string `json:"receipt"`
	// IntentID, ChargeID, InvoiceID and SubscriptionID are Stripe's, for support.
	IntentID       string `json:"payment_intent,omitempty"`
	ChargeID       string `json:"charge,omitempty"`
	InvoiceID      string `json:"invoice,omitempty"`
	SubscriptionID string `json:"subscription,omitempty"`
	ReceiptURL     string `json:"stripe_receipt_url,omitempty"`
	// InvoiceURL is where an invoice is seen, and paid while it is open.
	InvoiceURL string    `json:"invoice_url,omitempty"`
	CreatedAt  time.Time `json:"created_at"`
}

// Left is what of the money has not gone back and is not disputed, in minor units.
func (p Payment) Left() int64 { return max(0, p.Price.Amount-p.Refunded-p.Disputed) }

// RefundedMoney is Refunded as money.
func (p Payment) RefundedMoney() Money { return Money{p.Refunded, p.Price.Currency} }

// DisputedMoney is Disputed as money.
func (p Payment) DisputedMoney() Money { return Money{p.Disputed, p.Price.Currency} }

// Kept says that the money is there, less what was refunded.
func (p Payment) Kept() bool {
	return p.Status == PaymentSucceeded || p.Status == PaymentPartiallyRefunded || p.Status == PaymentRefunded
}

type paymentRow struct {
	ID             uuid.UUID      `db:"id"`
	Account        string         `db:"account_id"`
	Type           PaymentType    `db:"type"`
	Status         PaymentStatus  `db:"status"`
	Amount         int64          `db:"amount"`
	Currency       string         `db:"currency"`
	Refunded       int64          `db:"refunded"`
	Disputed       int64          `db:"disputed"`
	Credits        credits.Amount `db:"credits"`
	Clawed         credits.Amount `db:"clawed"`
	CreditsExpire  *database.Time `db:"credits_expire"`
	Description    string         `db:"description"`
	Receipt        string         `db:"receipt_number"`
	CheckoutID     *uuid.UUID     `db:"checkout_id"`
	SessionID      *string        `db:"session_id"`
	InvoiceID      *string        `db:"invoice_id"`
	SubscriptionID *string        `db:"subscription_id"`
	IntentID       *string        `db:"intent_id"`
	ChargeID       string         `db:"charge_id"`
	ReceiptURL     string         `db:"receipt_url"`
	InvoiceURL     string         `db:"invoice_url"`
	Attempts       int64          `db:"attempts"`
	EntryID        *uuid.UUID     `db:"entry_id"`
	CreatedAt      database.Time  `db:"created_at"`
	UpdatedAt      database.Time  `db:"updated_at"`
}

const paymentColumns = `id, account_id, type, status, amount, currency, refunded, disputed, credits, clawed, credits_expire, description, receipt_number, checkout_id,
	session_id, invoice_id, subscription_id, intent_id, charge_id, receipt_url, invoice_url, attempts, entry_id, created_at, updated_at`

func (r paymentRow) payment() Payment {
	return Payment{ID: r.ID, Account: r.Account, Type: r.Type, Status: r.Status, Price: Money{r.Amount, r.Currency}, Refunded: r.Refunded, Disputed: r.Disputed, Credits: r.Credits,
		CreditsExpire: r.CreditsExpire.Std(), Clawed: r.Clawed, Description: r.Description, Receipt: r.Receipt, IntentID: deref(r.IntentID),
		ChargeID: r.ChargeID, InvoiceID: deref(r.InvoiceID), SubscriptionID: deref(r.SubscriptionID), ReceiptURL: r.ReceiptURL, InvoiceURL: r.InvoiceURL,
		CreatedAt: r.CreatedAt.Time}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// receiptTries is how many numbers are drawn before a day is taken for full; there are 2^30 for each.
const receiptTries = 8

// insertPayment completes and writes a payment. The number's last part is random, so that receipts do not tell how
// many were sold; a number that is taken is drawn anew.
func (b *Billing) insertPayment(ctx context.Context, tx *sqlx.Tx, p paymentRow) (paymentRow, error) {
	var err error
	if p.ID, err = uuid.NewV7(); err != nil {
		return p, fmt.Errorf("billing: make an id: %w", err)
	}
	now := b.now()
	p.CreatedAt, p.UpdatedAt = database.At(now), database.At(now)
	const insert = `INSERT INTO qs_billing_payments (` + paymentColumns + `)
		VALUES (:id, :account_id, :type, :status, :amount, :currency, :refunded, :disputed, :credits, :clawed, :credits_expire, :description, :receipt_number, :checkout_id,
			:session_id, :invoice_id, :subscription_id, :intent_id, :charge_id, :receipt_url, :invoice_url, :attempts, :entry_id, :created_at, :updated_at)
		ON CONFLICT (receipt_number) DO NOTHING`
	for range receiptTries {
		p.Receipt = now.Format("RCP-20060102-") + rand.Text()[:6]
		query, args, err := sqlx.Named(insert, p)
		if err != nil {
			return p, fmt.Errorf("billing: name the columns of a payment: %w", err)
		}
		n, err := b.db.ExecTx(ctx, tx, query, args...)
		if err != nil {
			return p, fmt.Errorf("billing: write payment %q of account %s: %w", p.Description, p.Account, err)
		}
		if n == 1 {
			return p, nil
		}
	}
	return p, fmt.Errorf("billing: no free receipt number on %s", now.Format(time.DateOnly))
}

// updatePayment writes what can change of a payment.
func (b *Billing) updatePayment(ctx context.Context, tx *sqlx.Tx, p paymentRow) error {
	p.UpdatedAt = database.At(b.now())
	const update = `UPDATE qs_billing_payments SET type = :type, status = :status, amount = :amount, refunded = :refunded, disputed = :disputed, credits = :credits, clawed = :clawed,
			credits_expire = :credits_expire, description = :description, subscription_id = :subscription_id, intent_id = :intent_id, charge_id = :charge_id,
			receipt_url = :receipt_url, invoice_url = :invoice_url, attempts = :attempts, entry_id = :entry_id, updated_at = :updated_at
		WHERE id = :id`
	query, args, err := sqlx.Named(update, p)
	if err != nil {
		return fmt.Errorf("billing: name the columns of a payment: %w", err)
	}
	if _, err := b.db.ExecTx(ctx, tx, query, args...); err != nil {
		return fmt.Errorf("billing: change payment %s: %w", p.ID, err)
	}
	return nil
}

// paymentTx finds a payment inside a transaction that has locked its account.
func (b *Billing) paymentTx(ctx context.Context, tx *sqlx.Tx, where string, args ...any) (p paymentRow, found bool, err error) {
	err = b.db.GetTx(ctx, tx, &p, `SELECT `+paymentColumns+` FROM qs_billing_payments WHERE `+where, args...)
	if database.IsNoRows(err) {
		return paymentRow{}, false, nil // sqlx fills pointers before it knows
	}
	if err != nil {
		return p, false, fmt.Errorf("billing: find a payment: %w", err)
	}
	return p, true, nil
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

// LookUpPayment returns a payment whoever's it is, for staff; [ErrNotFound] when there is none.
func (b *Billing) LookUpPayment(ctx context.Context, id uuid.UUID) (Payment, error) {
	p, err := b.anyPayment(ctx, id)
	if database.IsNoRows(err) {
		return Payment{}, ErrNotFound
	}
	return p, err
}

// Limits of a page of payments.
const (
	DefaultPage = database.DefaultPage // 50
	MaxPage     = database.MaxPage     // 500
)

// PaymentsParams choose a page of payments.
type PaymentsParams struct {
	// Account is whose. Empty: everybody's, for staff.
	Account string
	// Type and Status, when set, choose those that have them.
	Type   PaymentType
	Status PaymentStatus
	// Find chooses, for staff, those with an id or a number: the payment's or the account's, a receipt's (RCP-…), the customer's
	// e-mail address in any case, or Stripe's id of a payment intent, charge, invoice, checkout session, subscription,
	// customer, refund or dispute. Empty: all.
	Find string
	// Least and Most bound the amount in minor units, both included, and Currency is theirs. Nil and empty: no bound.
	Least, Most *int64
	Currency    string
	// From and Until, when set, choose those that were made at or after the one and before the other.
	From  time.Time
	Until time.Time
	// Before is the last payment of the page before. Zero: begin with the newest.
	Before uuid.UUID
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// Payments returns a page of payments, newest first, and whether older ones follow.
func (b *Billing) Payments(ctx context.Context, p PaymentsParams) (payments []Payment, more bool, err error) {
	// Runs along the primary key, qs_billing_payments_account, or the index of what is searched by.
	l := database.NewList(`SELECT ` + paymentColumns + ` FROM qs_billing_payments`)
	l.If(p.Account != "", `account_id = ?`, p.Account)
	l.If(p.Type != "", `type = ?`, p.Type)
	l.If(p.Status != "", `status = ?`, p.Status)
	if found, with := p.where(); found != "" {
		l.And(found, with...)
	}
	if p.Least != nil {
		l.And(`amount >= ?`, *p.Least)
	}
	if p.Most != nil {
		l.And(`amount <= ?`, *p.Most)
	}
	l.If(p.Currency != "", `currency = ?`, p.Currency)
	l.If(!p.From.IsZero(), `created_at >= ?`, database.At(p.From))
	l.If(!p.Until.IsZero(), `created_at < ?`, database.At(p.Until))
	l.If(p.Before != uuid.Nil, `id < ?`, p.Before)
	if payments, more, err = database.Page(ctx, b.db, l, `id DESC`, p.Limit, paymentRow.payment); err != nil {
		return nil, false, fmt.Errorf("billing: list payments: %w", err)
	}
	return payments, more, nil
}

// anyPayment is a payment whoever's it is.
func (b *Billing) anyPayment(ctx context.Context, id uuid.UUID) (Payment, error) {
	var row paymentRow
	err := b.db.Get(ctx, &row, `SELECT `+paymentColumns+` FROM qs_billing_payments WHERE id = ?`, id)
	if err != nil {
		return Payment{}, fmt.Errorf("billing: find payment %s: %w", id, err)
	}
	return row.payment(), nil
}

// paymentOf finds the payment that a payment intent or a charge is of. One that should be here, or be paid, and is not yet,
// because its event is still on its way, is an error, so that this is tried again.
func (b *Billing) paymentOf(ctx context.Context, tx *sqlx.Tx, intent *stripe.PaymentIntent, charge *stripe.Charge) (p paymentRow, found bool, err error) {
	intentID, chargeID := "", ""
	if intent != nil {
		intentID = intent.ID
	}
	if charge != nil {
		chargeID = charge.ID
	}
	if p, found, err = b.paymentTx(ctx, tx, `intent_id = ?`, intentID); err == nil && !found {
		p, found, err = b.paymentTx(ctx, tx, `charge_id = ? AND charge_id <> '' AND type <> 'refund'`, chargeID)
	}
	if found && !p.payment().Kept() {
		// Money went back of it, so that it has come: an invoice that was refused at first.
		return p, false, fmt.Errorf("billing: payment %s is not known to be paid yet", p.ID)
	}
	if found || err != nil {
		return p, found, err
	}
	if intent != nil && (intent.Metadata["checkout"] != "" || intent.Metadata[topUpKey] != "" || intent.Invoice != nil) {
		var customers []string
		if intent.Customer != nil {
			if err := b.db.SelectTx(ctx, tx, &customers, `SELECT account_id FROM qs_billing_customers WHERE customer_id = ?`, intent.Customer.ID); err != nil {
				return p, false, fmt.Errorf("billing: account of customer %s: %w", intent.Customer.ID, err)
			}
		}
		if len(customers) > 0 {
			return p, false, fmt.Errorf("billing: the payment of intent %s is not known yet", intentID)
		}
	}
	b.cfg.Logger.InfoContext(ctx, "charge is not ours", slog.String("intent", intentID), slog.String("charge", chargeID))
	return p, false, nil
}
