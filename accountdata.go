package quickscale

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/webhook/outbound"
)

// accountData is what the other packages keep about an account, for its export and its end; then the host's.
func (a *App) accountData() []auth.AccountData {
	data := []auth.AccountData{
		{
			Name: "credits", Left: a.creditsLeft,
			Export: func(ctx context.Context, w io.Writer, account string) error { return a.Credits.Export(ctx, w, account) },
			Erase: func(ctx context.Context, tx *sqlx.Tx, account string) error {
				return a.Credits.EraseTx(ctx, tx, account)
			},
		},
		{
			Name: "payments", Export: a.exportPayments, Left: a.planLeft,
			Closing: func(ctx context.Context, account string) error { return a.endSubscription(ctx, account, false) },
			Close:   func(ctx context.Context, account string) error { return a.endSubscription(ctx, account, true) },
			Erase: func(ctx context.Context, tx *sqlx.Tx, account string) error {
				return a.Billing.EraseTx(ctx, tx, account)
			},
		},
		{Name: "usage", Export: a.exportUsage},
	}
	if !a.cfg.WithoutOutbound {
		data = append(data, auth.AccountData{Name: "webhooks", Export: a.exportEndpoints, Close: a.deleteEndpoints})
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
	return "The plan " + cmp.Or(s.Plan.Name, s.Plan.Price) + ", whose period ends on " + s.PeriodEnd.Format("2 January 2006") + ".", nil
}

// endSubscription cancels what an account has, at the end of its period or at once, and buys nothing more by itself.
func (a *App) endSubscription(ctx context.Context, account string, atOnce bool) error {
	if err := a.Billing.StopAutoTopUp(ctx, account); err != nil {
		return err
	}
	_, err := a.Billing.CancelSubscription(ctx, account, atOnce)
	if errors.Is(err, billing.ErrNoSubscription) || errors.Is(err, billing.ErrEnded) {
		return nil
	}
	return err
}

func (a *App) exportPayments(ctx context.Context, w io.Writer, account string) error {
	all := []billing.Payment{}
	for before := uuid.Nil; ; {
		payments, more, err := a.Billing.Payments(ctx, billing.PaymentsParams{Account: account, Before: before})
		if err != nil {
			return err
		}
		if all = append(all, payments...); !more {
			return json.NewEncoder(w).Encode(all)
		}
		before = payments[len(payments)-1].ID
	}
}

func (a *App) exportUsage(ctx context.Context, w io.Writer, account string) error {
	all := []services.Record{}
	for before := uuid.Nil; ; {
		records, more, err := a.Services.Usage(ctx, services.UsageParams{Account: account, Before: before})
		if err != nil {
			return err
		}
		if all = append(all, records...); !more {
			return json.NewEncoder(w).Encode(all)
		}
		before = records[len(records)-1].ID
	}
}

func (a *App) exportEndpoints(ctx context.Context, w io.Writer, account string) error {
	endpoints, err := a.Outbound.ListEndpoints(ctx, account)
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(endpoints)
}

func (a *App) deleteEndpoints(ctx context.Context, account string) error {
	endpoints, err := a.Outbound.ListEndpoints(ctx, account)
	if err != nil {
		return err
	}
	for _, e := range endpoints {
		if err := a.Outbound.DeleteEndpoint(ctx, account, e.ID); err != nil && !errors.Is(err, outbound.ErrNotFound) {
			return err
		}
	}
	return nil
}
