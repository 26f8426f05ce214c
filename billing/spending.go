package billing

import (
	"context"
	"fmt"

	"github.com/quickscale/quickscale/credits"
)

// Spending is what an account has paid in one currency, with the credits that it bought.
type Spending struct {
	// Paid is the money that came, and Back what of it went back or is disputed.
	Paid Money `json:"paid"`
	Back Money `json:"back"`
	// Credits were granted for it, and TakenBack with the money that went back.
	Credits   credits.Amount `json:"credits"`
	TakenBack credits.Amount `json:"taken_back"`
}

// Spending returns what an account has paid in each currency, in the order of their codes; nothing for who never paid.
func (b *Billing) Spending(ctx context.Context, account string) ([]Spending, error) {
	var rows []struct {
		Currency string         `db:"currency"`
		Paid     int64          `db:"paid"`
		Back     int64          `db:"back"`
		Credits  credits.Amount `db:"credits"`
		Clawed   credits.Amount `db:"clawed"`
	}
	// Runs along qs_billing_payments_account. CAST: a sum of BIGINT is NUMERIC in PostgreSQL.
	const sums = `SELECT currency, CAST(SUM(amount) AS BIGINT) AS paid, CAST(SUM(refunded + disputed) AS BIGINT) AS back,
			CAST(SUM(credits) AS BIGINT) AS credits, CAST(SUM(clawed) AS BIGINT) AS clawed
		FROM qs_billing_payments WHERE account_id = ? AND type <> 'refund' AND status IN ('succeeded', 'partially_refunded', 'refunded')
		GROUP BY currency ORDER BY currency`
	if err := b.db.Select(ctx, &rows, sums, account); err != nil {
		return nil, fmt.Errorf("billing: spending of account %s: %w", account, err)
	}
	spending := make([]Spending, len(rows))
	for i, r := range rows {
		spending[i] = Spending{Paid: Money{r.Paid, r.Currency}, Back: Money{r.Back, r.Currency}, Credits: r.Credits, TakenBack: r.Clawed}
	}
	return spending, nil
}
