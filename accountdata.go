package quickscale

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
)

// accountData is what the other packages keep about an account, for its export and its end; then the host's. The order is
// that of the locks: billing's account comes before the ledger's, and open calls give back what they have set aside before
// the ledger writes off what is left.
func (a *App) accountData() []auth.AccountData {
	data := []auth.AccountData{
		{
			Name: "payments", Left: a.planLeft,
			Export:  func(ctx context.Context, w io.Writer, account string) error { return a.Billing.Export(ctx, w, account) },
			Closing: a.endPlan,
			Close:   func(ctx context.Context, account string) error { return a.Billing.EndAccount(ctx, account) },
			Erase: func(ctx context.Context, tx *sqlx.Tx, account string) error {
				return a.Billing.EraseTx(ctx, tx, account)
			},
		},
		{
			Name: "usage",
			Export: func(ctx context.Context, w io.Writer, account string) error {
				return a.Services.Export(ctx, w, account)
			},
			Close: func(context.Context, string) error {
				a.Services.Flush()
				return nil
			},
			Erase: func(ctx context.Context, tx *sqlx.Tx, account string) error {
				return a.Services.EraseTx(ctx, tx, account)
			},
		},
		{
			Name: "credits", Left: a.creditsLeft,
			Export: func(ctx context.Context, w io.Writer, account string) error { return a.Credits.Export(ctx, w, account) },
			Erase: func(ctx context.Context, tx *sqlx.Tx, account string) error {
				return a.Credits.EraseTx(ctx, tx, account)
			},
		},
	}
	if !a.cfg.WithoutOutbound {
		data = append(data, auth.AccountData{
			Name: "webhooks", Export: a.exportEndpoints,
			Erase: func(ctx context.Context, tx *sqlx.Tx, account string) error {
				return a.Outbound.EraseTx(ctx, tx, account)
			},
		})
	}
	return append(data, a.cfg.AccountData...)
}

// creditsLeft says what an account has of credits.
func (a *App) creditsLeft(ctx context.Context, account string) (string, error) {
	b, err := a.Credits.Balance(ctx, account)
	if err != nil || b.Available+b.Held == 0 {
		return "", err
	}
	return (b.Available + b.Held).String() + " credits. Money for them does not come back.", nil
}

// planLeft says what an account has paid for in advance.
func (a *App) planLeft(ctx context.Context, account string) (string, error) {
	s, err := a.Billing.FindSubscription(ctx, account)
	if errors.Is(err, billing.ErrNoSubscription) || err == nil && s.Ended() {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return "The plan " + cmp.Or(s.Plan.Name, s.Plan.PriceID) + ", whose period ends on " + s.PeriodEnd.Format("2 January 2006") + ".", nil
}

// endPlan lets what an account has paid for run out, and buys nothing more by itself.
func (a *App) endPlan(ctx context.Context, account string) error {
	if err := a.Billing.StopAutoTopUp(ctx, account); err != nil {
		return err
	}
	_, err := a.Billing.CancelSubscription(ctx, account, false)
	if errors.Is(err, billing.ErrNoSubscription) || errors.Is(err, billing.ErrEnded) {
		return nil
	}
	return err
}

func (a *App) exportEndpoints(ctx context.Context, w io.Writer, account string) error {
	endpoints, err := a.Outbound.ListEndpoints(ctx, account)
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(endpoints)
}
