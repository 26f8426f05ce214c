package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/webhook"
)

// TopUpStatus is where a purchase by auto top-up stands.
type TopUpStatus string

// The statuses of purchases by auto top-up.
const (
	TopUpRequested  TopUpStatus = "requested"  // written down; Stripe may or may not know
	TopUpProcessing TopUpStatus = "processing" // Stripe waits for the money
	TopUpSucceeded  TopUpStatus = "succeeded"  // the money is there and the credits are granted
	TopUpFailed     TopUpStatus = "failed"     // nothing was charged
)

// Label is the status in words.
func (s TopUpStatus) Label() string {
	return map[TopUpStatus]string{TopUpRequested: "Being paid", TopUpProcessing: "Being paid", TopUpSucceeded: "Paid", TopUpFailed: "Not paid"}[s]
}

// TopUp is one purchase by auto top-up.
type TopUp struct {
	ID      uuid.UUID      `json:"id"`
	Account string         `json:"-"`
	PriceID string         `json:"price"`
	Name    string         `json:"name"`
	Credits credits.Amount `json:"credits"`
	Price   Money          `json:"amount"`
	Status  TopUpStatus    `json:"status"`
	// Code is why it failed, mostly Stripe's code of the refusal; Reason is the same for the person.
	Code   string `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Payment is what it has become.
	Payment   *uuid.UUID `json:"payment,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
}

type topUpRow struct {
	ID          uuid.UUID      `db:"id"`
	Account     string         `db:"account_id"`
	PriceID     string         `db:"price_id"`
	Credits     credits.Amount `db:"credits"`
	Amount      int64          `db:"amount"`
	Currency    string         `db:"currency"`
	Description string         `db:"description"`
	CustomerID  string         `db:"customer_id"`
	MethodID    string         `db:"method_id"`
	Month       string         `db:"month"`
	Status      TopUpStatus    `db:"status"`
	IntentID    *string        `db:"intent_id"`
	PaymentID   *uuid.UUID     `db:"payment_id"`
	Code        string         `db:"code"`
	CreatedAt   database.Time  `db:"created_at"`
	UpdatedAt   database.Time  `db:"updated_at"`
}

const topUpColumns = `id, account_id, price_id, credits, amount, currency, description, customer_id, method_id, month, status, intent_id, payment_id, code,
	created_at, updated_at`

func (r topUpRow) topUp() TopUp {
	return TopUp{ID: r.ID, Account: r.Account, PriceID: r.PriceID, Name: r.Description, Credits: r.Credits, Price: Money{r.Amount, r.Currency}, Status: r.Status,
		Code: r.Code, Reason: refusal(r.Code), Payment: r.PaymentID, CreatedAt: r.CreatedAt.Time}
}

// Codes of failures that are not Stripe's.
const (
	codeAuthentication = "authentication_required"
	codeNoAnswer       = "no_answer" // Stripe does not know of it, an hour later
	codeStopped        = "stopped"   // turned off before Stripe knew of it
)

// refusal says why a purchase failed.
func refusal(code string) string {
	switch code {
	case "":
		return ""
	case codeAuthentication:
		return "Your bank wants you to confirm the payment yourself."
	case "insufficient_funds":
		return "The card has not enough money."
	case "expired_card":
		return "The card has expired."
	case codeNoAnswer:
		return "The payment provider did not answer. Nothing was charged."
	case codeStopped:
		return "Auto top-up was turned off before anything was charged."
	default:
		return "Your bank declined the card."
	}
}

// monthSpent is what counts towards a month's cap: what was charged and what may be.
const monthSpent = `SELECT COALESCE(SUM(amount), 0) FROM qs_billing_topups
	WHERE account_id = ? AND month = ? AND status IN ('requested', 'processing', 'succeeded')`

// How long a purchase belongs to the process that began it, how long an account rests after one, so that a reader that
// is behind does not buy twice, and when one that Stripe does not list counts as never made.
const (
	topUpLease = time.Minute
	topUpRest  = time.Minute
	topUpDoubt = time.Hour
)

// topUpWaits are how long the next try waits after a refusal; after the last of [MaxTopUpFailures] there is none.
var topUpWaits = [MaxTopUpFailures - 1]time.Duration{time.Hour, 24 * time.Hour}

// TopUp buys a pack for an account whose auto top-up is on and whose credits are below its threshold, with the default
// card and without the person. Call it when credits were used; [Billing.SweepTopUps] finds what was missed. The purchase
// is written down before Stripe is asked, one at a time, and within the month's cap. It returns the purchase, whatever has
// become of it, and the zero value when none was due. The errors are [ErrTopUpOff], also for a pause, and [ErrStripe],
// after which the purchase may have happened: [Billing.ResumeTopUps] finds out.
func (b *Billing) TopUp(ctx context.Context, account string) (TopUp, error) {
	var setting autoTopUpRow
	err := b.db.Get(ctx, &setting, selectAutoTopUp, account)
	if database.IsNoRows(err) || err == nil && !setting.runs() {
		return TopUp{}, ErrTopUpOff
	}
	if err != nil {
		return TopUp{}, fmt.Errorf("billing: auto top-up of account %s: %w", account, err)
	}
	if b.now().Before(setting.NotBefore.Time) {
		return TopUp{}, nil
	}
	low, err := b.isLow(ctx, setting)
	if err != nil || !low {
		return TopUp{}, err
	}
	customer, card, err := b.topUpCard(ctx, account)
	if err != nil {
		return TopUp{}, err
	}
	row, made, err := b.topUpIntent(ctx, setting, customer, card)
	if err != nil || !made {
		return TopUp{}, err
	}
	return b.askTopUp(ctx, row)
}

// isLow tells that an account may buy and has too few credits.
func (b *Billing) isLow(ctx context.Context, setting autoTopUpRow) (bool, error) {
	if frozen, err := b.frozen(ctx, setting.Account); err != nil || frozen {
		return false, err
	}
	balance, err := b.cfg.Ledger.Balance(ctx, setting.Account)
	return err == nil && !balance.Frozen && balance.Available < setting.Threshold, err
}

// topUpCard finds the card that pays; none is empty.
func (b *Billing) topUpCard(ctx context.Context, account string) (customer, card string, err error) {
	if customer, err = b.customerOf(ctx, account); err != nil || customer == "" {
		return "", "", err
	}
	card, err = b.defaultMethod(ctx, account, customer)
	return customer, card, err
}

// topUpIntent writes a purchase down unless something under the account's lock speaks against it.
func (b *Billing) topUpIntent(ctx context.Context, seen autoTopUpRow, customer, card string) (row topUpRow, made bool, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return row, false, fmt.Errorf("billing: make an id: %w", err)
	}
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		row, made = topUpRow{}, false
		setting, found, err := b.autoTopUpTx(ctx, tx, seen.Account)
		if err != nil || !found || !setting.runs() || !setting.UpdatedAt.Equal(seen.UpdatedAt.Time) {
			return err // changed meanwhile: the next look sees it
		}
		if busy, err := b.topUpBusy(ctx, tx, setting.Account); err != nil || busy {
			return err
		}
		var offers []offerRow
		if err := b.db.SelectTx(ctx, tx, &offers, `SELECT `+offerColumns+offerTables+forSale+` AND r.id = ?`, true, true, false, setting.PriceID); err != nil {
			return fmt.Errorf("billing: price %s: %w", setting.PriceID, err)
		}
		switch {
		case len(offers) == 0:
			return b.pauseTopUp(ctx, tx, setting, PauseNotForSale, "The pack is not for sale any more. Choose another one.")
		case card == "":
			return b.pauseTopUp(ctx, tx, setting, PauseNoCard, "There is no default card any more. Save one and make it the default.")
		}
		pack := offers[0].offer()
		row = topUpRow{ID: id, Account: setting.Account, PriceID: pack.PriceID, Credits: pack.Credits, Amount: pack.Price.Amount, Currency: pack.Price.Currency,
			Description: pack.Name, CustomerID: customer, MethodID: card, Month: monthOf(b.now()), Status: TopUpRequested, CreatedAt: database.At(b.now())}
		row.UpdatedAt = row.CreatedAt
		within, err := b.withinCap(ctx, tx, setting, row)
		if err != nil || !within {
			return err
		}
		made = true
		return b.insertTopUp(ctx, tx, row)
	})
	return row, made && err == nil, err
}

// topUpBusy tells that a purchase is in flight, or was made a moment ago.
func (b *Billing) topUpBusy(ctx context.Context, tx *sqlx.Tx, account string) (bool, error) {
	var last []topUpRow
	if err := b.db.SelectTx(ctx, tx, &last, `SELECT `+topUpColumns+` FROM qs_billing_topups WHERE account_id = ? ORDER BY id DESC LIMIT 1`, account); err != nil {
		return false, fmt.Errorf("billing: the last top-up of account %s: %w", account, err)
	}
	if len(last) == 0 {
		return false, nil
	}
	switch last[0].Status {
	case TopUpRequested, TopUpProcessing:
		return true, nil
	case TopUpSucceeded:
		return b.now().Sub(last[0].UpdatedAt.Time) < topUpRest, nil
	default:
		return false, nil
	}
}

// withinCap checks the month's cap, and tells the person once a month when it is reached. A pack that has come to cost in
// another currency than the cap's pauses.
func (b *Billing) withinCap(ctx context.Context, tx *sqlx.Tx, setting autoTopUpRow, row topUpRow) (bool, error) {
	if row.Currency != setting.Currency {
		return false, b.pauseTopUp(ctx, tx, setting, PauseCurrency, "The pack's currency has changed. Choose a new cap.")
	}
	var spent int64
	if err := b.db.GetTx(ctx, tx, &spent, monthSpent, row.Account, row.Month); err != nil {
		return false, fmt.Errorf("billing: this month's top-ups of account %s: %w", row.Account, err)
	}
	if row.Amount <= setting.MonthlyCap-spent {
		return true, nil
	}
	if setting.CappedIn == row.Month {
		return false, nil
	}
	// updated_at stays: nothing that the person has set has changed.
	if _, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_auto_topups SET capped_in = ? WHERE account_id = ?`, row.Month, row.Account); err != nil {
		return false, fmt.Errorf("billing: note the cap of account %s: %w", row.Account, err)
	}
	return false, b.notify(ctx, tx, Notice{Kind: NoticeTopUpCapped, Account: row.Account, Price: Money{setting.MonthlyCap, setting.Currency}, Description: row.Description,
		URL: b.topUpURL(), Key: "topup:" + row.Account + ":capped:" + row.Month})
}

func (b *Billing) insertTopUp(ctx context.Context, tx *sqlx.Tx, r topUpRow) error {
	const insert = `INSERT INTO qs_billing_topups (` + topUpColumns + `) VALUES (:id, :account_id, :price_id, :credits, :amount, :currency, :description, :customer_id,
		:method_id, :month, :status, :intent_id, :payment_id, :code, :created_at, :updated_at)`
	query, args, err := sqlx.Named(insert, r)
	if err != nil {
		return fmt.Errorf("billing: name the columns of a top-up: %w", err)
	}
	if _, err := b.db.ExecTx(ctx, tx, query, args...); err != nil {
		return fmt.Errorf("billing: write a top-up of account %s: %w", r.Account, err)
	}
	b.logTopUp(ctx, r)
	return nil
}

// topUpKey is the metadata that carries our purchase's id.
const topUpKey = "topup"

// askTopUp asks Stripe for a purchase that is written down, and records the answer. All that the call says is in the row,
// so that asking again under the row's key is the same call.
func (b *Billing) askTopUp(ctx context.Context, row topUpRow) (TopUp, error) {
	params := &stripe.PaymentIntentParams{
		Amount: &row.Amount, Currency: &row.Currency, Customer: &row.CustomerID, PaymentMethod: &row.MethodID, PaymentMethodTypes: stripe.StringSlice([]string{"card"}),
		OffSession: stripe.Bool(true), Confirm: stripe.Bool(true), Description: stripe.String("Auto top-up: " + row.Description),
		Metadata: map[string]string{topUpKey: row.ID.String(), accountKey: row.Account},
	}
	params.Context = ctx
	params.AddExpand("latest_charge")
	params.SetIdempotencyKey("topup-" + row.ID.String())
	pi, err := b.cfg.Stripe.PaymentIntents.New(params)
	if err == nil {
		return b.recordTopUp(ctx, row, pi, "")
	}
	failed := stripeError("charge top-up "+row.ID.String(), err)
	if errors.Is(failed, ErrStripe) {
		return row.topUp(), failed
	}
	b.cfg.Logger.WarnContext(ctx, "top-up refused", slog.String("topup", row.ID.String()), slog.Any("error", err))
	code := "refused"
	if e, ok := asStripe(err); ok {
		if code = refusalCode(string(e.Code), string(e.DeclineCode)); e.PaymentIntent != nil {
			return b.recordTopUp(ctx, row, e.PaymentIntent, code)
		}
	}
	if isMissingCustomer(err) {
		if err := b.forgetCustomer(ctx, row.Account, row.CustomerID); err != nil {
			return row.topUp(), err
		}
	}
	return b.recordTopUp(ctx, row, nil, code)
}

// refusalCode is the more telling one of Stripe's two codes.
func refusalCode(code, decline string) string {
	switch {
	case decline != "" && decline != "generic_decline":
		return decline
	case code != "":
		return code
	default:
		return "refused"
	}
}

// recordTopUp takes the answer over: of a payment intent, or without one the failure of that code.
func (b *Billing) recordTopUp(ctx context.Context, row topUpRow, pi *stripe.PaymentIntent, code string) (TopUp, error) {
	err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if pi != nil {
			return b.saveIntent(ctx, tx, pi)
		}
		setting, _, err := b.autoTopUpTx(ctx, tx, row.Account)
		if err != nil {
			return err
		}
		now, found, err := b.topUpTx(ctx, tx, row.ID)
		if err != nil || !found || now.Status != TopUpRequested {
			return err
		}
		now.Code = code
		return b.failTopUp(ctx, tx, now, setting)
	})
	if err != nil {
		return row.topUp(), err
	}
	return b.findTopUp(ctx, row.ID)
}

func (b *Billing) findTopUp(ctx context.Context, id uuid.UUID) (TopUp, error) {
	var row topUpRow
	// From the writer: it was written a moment ago.
	if err := b.db.Writer().GetContext(ctx, &row, b.db.Rebind(`SELECT `+topUpColumns+` FROM qs_billing_topups WHERE id = ?`), id); err != nil {
		return TopUp{}, fmt.Errorf("billing: find top-up %s: %w", id, err)
	}
	return row.topUp(), nil
}

func (b *Billing) topUpTx(ctx context.Context, tx *sqlx.Tx, id uuid.UUID) (r topUpRow, found bool, err error) {
	err = b.db.GetTx(ctx, tx, &r, `SELECT `+topUpColumns+` FROM qs_billing_topups WHERE id = ?`, id)
	if database.IsNoRows(err) {
		return topUpRow{}, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("billing: find top-up %s: %w", id, err)
	}
	return r, true, nil
}

func (b *Billing) fetchIntent(ctx context.Context, id string) (*stripe.PaymentIntent, error) {
	params := &stripe.PaymentIntentParams{}
	params.Context = ctx
	params.AddExpand("latest_charge")
	pi, err := b.cfg.Stripe.PaymentIntents.Get(id, params)
	if err != nil {
		return nil, stripeError("read payment intent "+id, err)
	}
	return pi, nil
}

func (b *Billing) onIntent(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.PaymentIntent]) error {
	return b.saveIntent(ctx, tx, ev.Object)
}

// saveIntent brings a purchase to the state of its payment intent. Our own call's answer, the webhook, a resumed purchase
// and a reconciliation all come here, in any order; there is one effect. Other payment intents belong to checkouts and
// invoices, and are theirs to follow.
func (b *Billing) saveIntent(ctx context.Context, tx *sqlx.Tx, pi *stripe.PaymentIntent) error {
	id, err := uuid.Parse(pi.Metadata[topUpKey])
	if err != nil {
		return nil //nolint:nilerr // not a top-up
	}
	row, found, err := b.topUpTx(ctx, tx, id)
	if err != nil {
		return err
	}
	if !found {
		if pi.Status == stripe.PaymentIntentStatusSucceeded && pi.Metadata[accountKey] != "" {
			// Ours and paid, and the row is gone, as after a restored backup: a person has to look.
			return webhook.Permanent(fmt.Errorf("billing: payment intent %s is paid and its top-up %s is not known", pi.ID, id))
		}
		return nil
	}
	if err := b.lockAccount(ctx, tx, row.Account); err != nil {
		return err
	}
	setting, _, err := b.autoTopUpTx(ctx, tx, row.Account)
	if err != nil {
		return err
	}
	if row, _, err = b.topUpTx(ctx, tx, id); err != nil { // as it is under the lock
		return err
	}
	if row.IntentID != nil && *row.IntentID != pi.ID {
		return webhook.Permanent(fmt.Errorf("billing: payment intent %s names top-up %s, which is of %s", pi.ID, id, *row.IntentID))
	}
	row.IntentID = &pi.ID
	switch {
	case row.Status == TopUpSucceeded:
		return nil
	case pi.Status == stripe.PaymentIntentStatusSucceeded:
		return b.fulfilTopUp(ctx, tx, row, pi)
	case row.Status == TopUpFailed: // nothing new, or a picture that is older
		return nil
	case pi.Status == stripe.PaymentIntentStatusProcessing:
		row.Status = TopUpProcessing
		return b.moveTopUp(ctx, tx, row)
	}
	row.Code = codeAuthentication
	if pi.Status != stripe.PaymentIntentStatusRequiresAction {
		row.Code = "refused"
	}
	if e := pi.LastPaymentError; e != nil {
		row.Code = refusalCode(string(e.Code), string(e.DeclineCode))
	}
	return b.failTopUp(ctx, tx, row, setting)
}

// fulfilTopUp delivers what was bought. The account is locked.
func (b *Billing) fulfilTopUp(ctx context.Context, tx *sqlx.Tx, row topUpRow, pi *stripe.PaymentIntent) error {
	p := paymentRow{Account: row.Account, Type: TypePurchase, Amount: pi.AmountReceived, Currency: string(pi.Currency), Credits: row.Credits,
		Description: "Auto top-up: " + row.Description}
	p.paidBy(pi)
	p, err := b.deliver(ctx, tx, p, pi.ID, "stripe:pi:"+pi.ID+":fulfil")
	if err != nil {
		return err
	}
	row.Status, row.PaymentID, row.Code = TopUpSucceeded, &p.ID, ""
	if err := b.moveTopUp(ctx, tx, row); err != nil {
		return err
	}
	if _, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_auto_topups SET failures = 0 WHERE account_id = ?`, row.Account); err != nil {
		return fmt.Errorf("billing: forget the failures of account %s: %w", row.Account, err)
	}
	return b.notify(ctx, tx, Notice{Kind: NoticeTopUpSucceeded, Account: row.Account, Price: Money{p.Amount, p.Currency}, Description: row.Description,
		Credits: row.Credits, URL: b.cfg.BaseURL + b.cfg.Path + "/payments/" + p.ID.String(), Key: "topup:" + row.ID.String() + ":succeeded"})
}

// failTopUp ends a purchase that was refused, and tells the person how to pay, or that auto top-up pauses. The account is
// locked. One that Stripe never heard of is nobody's fault and does not count.
func (b *Billing) failTopUp(ctx context.Context, tx *sqlx.Tx, row topUpRow, setting autoTopUpRow) error {
	row.Status = TopUpFailed
	if err := b.moveTopUp(ctx, tx, row); err != nil {
		return err
	}
	if row.Code == codeNoAnswer || row.Code == codeStopped {
		return nil
	}
	setting.Failures++
	wait := time.Duration(0)
	if setting.Failures <= int64(len(topUpWaits)) {
		wait = topUpWaits[setting.Failures-1]
	}
	const count = `UPDATE qs_billing_auto_topups SET failures = ?, not_before = ? WHERE account_id = ?`
	if _, err := b.db.ExecTx(ctx, tx, count, setting.Failures, database.At(b.now().Add(wait)), row.Account); err != nil {
		return fmt.Errorf("billing: count a failure of account %s: %w", row.Account, err)
	}
	if setting.Failures >= MaxTopUpFailures && setting.runs() {
		return b.pauseTopUp(ctx, tx, setting, row.Code, fmt.Sprintf("%d payments were refused one after the other. The last time: %s", setting.Failures, refusal(row.Code)))
	}
	kind := NoticeTopUpFailed
	if row.Code == codeAuthentication {
		kind = NoticeTopUpAuthentication
	}
	return b.notify(ctx, tx, Notice{Kind: kind, Account: row.Account, Price: Money{row.Amount, row.Currency}, Description: row.Description, Credits: row.Credits,
		Reason: refusal(row.Code), Code: row.Code, URL: b.topUpURL(), Key: "topup:" + row.ID.String() + ":failed"})
}

func (b *Billing) moveTopUp(ctx context.Context, tx *sqlx.Tx, r topUpRow) error {
	const update = `UPDATE qs_billing_topups SET status = ?, intent_id = ?, payment_id = ?, code = ?, updated_at = ? WHERE id = ?`
	if _, err := b.db.ExecTx(ctx, tx, update, r.Status, r.IntentID, r.PaymentID, r.Code, database.At(b.now()), r.ID); err != nil {
		return fmt.Errorf("billing: move top-up %s: %w", r.ID, err)
	}
	b.logTopUp(ctx, r)
	return nil
}

func (b *Billing) logTopUp(ctx context.Context, r topUpRow) {
	b.cfg.Logger.InfoContext(ctx, "top-up moved", slog.String("topup", r.ID.String()), slog.String("account", r.Account), slog.String("intent", deref(r.IntentID)),
		slog.String("status", string(r.Status)), slog.String("code", r.Code))
}
