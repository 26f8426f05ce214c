package billing

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/quickscale/quickscale/internal/web"
)

// paymentsHeader names the columns. Money is in the currency's main unit.
var paymentsHeader = []string{"time", "type", "status", "amount", "currency", "refunded", "disputed", "credits", "clawed_back", "description", "receipt", "id",
	"payment_intent", "charge", "invoice", "subscription"}

// PaymentsCSV writes all payments that p chooses as CSV, newest first, with a line of column names, reading page after
// page; p.Limit does not bound it. Times are UTC.
func (b *Billing) PaymentsCSV(ctx context.Context, w io.Writer, p PaymentsParams) error {
	out := csv.NewWriter(w)
	if err := out.Write(paymentsHeader); err != nil {
		return fmt.Errorf("billing: write CSV: %w", err)
	}
	p.Limit = MaxPage
	for {
		payments, more, err := b.Payments(ctx, p)
		if err != nil {
			return err
		}
		for _, p := range payments {
			if err := out.Write(p.record()); err != nil {
				return fmt.Errorf("billing: write CSV: %w", err)
			}
		}
		out.Flush()
		if err := out.Error(); err != nil {
			return fmt.Errorf("billing: write CSV: %w", err)
		}
		if !more {
			return nil
		}
		p.Before = payments[len(payments)-1].ID
	}
}

// record are a payment's columns. Descriptions are names of products, which are not made here.
func (p Payment) record() []string {
	return []string{p.CreatedAt.UTC().Format(time.RFC3339Nano), string(p.Type), string(p.Status), p.Price.Decimal(), strings.ToUpper(p.Price.Currency),
		p.RefundedMoney().Decimal(), p.DisputedMoney().Decimal(), p.Credits.String(), p.Clawed.String(), web.CSVText(p.Description), p.Receipt, p.ID.String(),
		p.IntentID, p.ChargeID, p.InvoiceID, p.SubscriptionID}
}
