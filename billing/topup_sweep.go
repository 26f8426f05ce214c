package billing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/database"
)

// sweepPage is how many accounts a sweep reads at a time.
const sweepPage = 500

// SweepTopUps calls [Billing.TopUp] for all accounts that have it on, so that one whose low balance nobody told of is
// topped up too. It returns how many purchases it made; an account that failed does not keep the others waiting.
func (b *Billing) SweepTopUps(ctx context.Context) (bought int, err error) {
	after := ""
	for {
		var accounts []string
		// Runs along qs_billing_auto_topups_on.
		const page = `SELECT account_id FROM qs_billing_auto_topups WHERE enabled AND paused_at IS NULL AND account_id > ? ORDER BY account_id LIMIT ?`
		if err := b.db.Select(ctx, &accounts, page, after, sweepPage); err != nil {
			return bought, fmt.Errorf("billing: accounts with auto top-up: %w", err)
		}
		for _, account := range accounts {
			if ctx.Err() != nil {
				return bought, errors.Join(err, ctx.Err())
			}
			made, one := b.TopUp(ctx, account)
			if one != nil && !errors.Is(one, ErrTopUpOff) {
				err = errors.Join(err, fmt.Errorf("billing: top up account %s: %w", account, one))
			}
			if made.Status == TopUpSucceeded {
				bought++
			}
			after = account
		}
		if len(accounts) < sweepPage {
			return bought, err
		}
	}
}

// ResumeTopUps goes on with purchases whose outcome was not recorded within a minute, because the process ended or
// Stripe's answer was lost: it looks whether Stripe has them, and asks again for those that it has not, under the same
// key. What Stripe does not know of an hour later was never made. Call it now and then; it returns how many have an
// outcome now.
func (b *Billing) ResumeTopUps(ctx context.Context) (resumed int, err error) {
	var rows []topUpRow
	// Runs along qs_billing_topups_open.
	const open = `SELECT ` + topUpColumns + ` FROM qs_billing_topups WHERE status IN ('requested', 'processing') AND updated_at < ? ORDER BY updated_at LIMIT 100`
	if err := b.db.Select(ctx, &rows, open, database.At(b.now().Add(-topUpLease))); err != nil {
		return 0, fmt.Errorf("billing: open top-ups: %w", err)
	}
	for _, row := range rows {
		mine, one := b.claimTopUp(ctx, row)
		if one == nil && mine {
			var now TopUp
			now, one = b.resumeTopUp(ctx, row)
			if one == nil && (now.Status == TopUpSucceeded || now.Status == TopUpFailed) {
				resumed++
			}
		}
		err = errors.Join(err, one)
	}
	return resumed, err
}

// claimTopUp takes a purchase over from the process that had it.
func (b *Billing) claimTopUp(ctx context.Context, row topUpRow) (mine bool, err error) {
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		n, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_topups SET updated_at = ? WHERE id = ? AND status = ? AND updated_at = ?`,
			database.At(b.now()), row.ID, row.Status, row.UpdatedAt)
		mine = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("billing: claim top-up %s: %w", row.ID, err)
	}
	return mine, nil
}

func (b *Billing) resumeTopUp(ctx context.Context, row topUpRow) (TopUp, error) {
	pi, err := b.intentOf(ctx, row)
	switch {
	case err != nil:
		return row.topUp(), err
	case pi != nil:
		return b.recordTopUp(ctx, row, pi, "")
	case b.now().Sub(row.CreatedAt.Time) >= topUpDoubt:
		return b.recordTopUp(ctx, row, nil, codeNoAnswer)
	}
	var setting autoTopUpRow
	if err := b.db.Get(ctx, &setting, selectAutoTopUp, row.Account); err != nil {
		return row.topUp(), fmt.Errorf("billing: auto top-up of account %s: %w", row.Account, err)
	}
	if !setting.runs() {
		return b.recordTopUp(ctx, row, nil, codeStopped)
	}
	return b.askTopUp(ctx, row)
}

// intentOf finds the payment intent of a purchase. A key is forgotten after 24 hours, and repeats a 500 until then; what
// Stripe lists is the truth.
func (b *Billing) intentOf(ctx context.Context, row topUpRow) (*stripe.PaymentIntent, error) {
	if row.IntentID != nil {
		return b.fetchIntent(ctx, *row.IntentID)
	}
	list := b.cfg.Stripe.PaymentIntents.List(&stripe.PaymentIntentListParams{
		ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}, Customer: &row.CustomerID,
	})
	since := row.CreatedAt.Add(-time.Hour).Unix() // clocks differ
	for list.Next() {
		pi := list.PaymentIntent()
		if pi.Created < since {
			break // the newest come first
		}
		if pi.Metadata[topUpKey] == row.ID.String() {
			return b.fetchIntent(ctx, pi.ID)
		}
	}
	if err := list.Err(); err != nil && !isMissingCustomer(err) {
		return nil, stripeError("list payment intents", err)
	}
	return nil, nil
}

// TopUps returns a page of an account's purchases by auto top-up, newest first, and whether older ones follow. before is
// the last one of the page before, zero for the newest; limit is at most 500, and 0 means 50.
func (b *Billing) TopUps(ctx context.Context, account string, before uuid.UUID, limit int) (list []TopUp, more bool, err error) {
	// Runs along qs_billing_topups_account.
	l := database.NewList(`SELECT ` + topUpColumns + ` FROM qs_billing_topups`)
	l.And(`account_id = ?`, account)
	l.If(before != uuid.Nil, `id < ?`, before)
	if list, more, err = database.Page(ctx, b.db, l, `id DESC`, limit, topUpRow.topUp); err != nil {
		return nil, false, fmt.Errorf("billing: list top-ups: %w", err)
	}
	return list, more, nil
}
