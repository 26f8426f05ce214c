package quickscale

import (
	"net/http"
	"time"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

// What the dashboard looks at: days of use until today, days ahead for what expires, and entries of the history.
const (
	dashboardUse      = 30
	dashboardExpiring = 30 * 24 * time.Hour
	dashboardActivity = 5
)

// overview is what the ledger, the payments and the services know of an account for its dashboard, in a number of queries
// that does not depend on how much there is.
func (a *App) overview(r *http.Request, _ auth.User) (o auth.Overview, err error) {
	ctx := r.Context()
	account, _ := auth.AccountFrom(ctx)
	payments, _, err := a.Billing.Payments(ctx, billing.PaymentsParams{Account: account.ID, Status: billing.PaymentSucceeded, Limit: 1})
	if err != nil {
		return o, err
	}
	calls, _, err := a.Services.Usage(ctx, services.UsageParams{Account: account.ID, Limit: 1})
	if err != nil {
		return o, err
	}
	o.Steps = []auth.Step{
		{Label: "Buy credits", URL: billingPath + "/", Done: len(payments) > 0},
		{Label: "Use a service for the first time", URL: servicesPath + "/", Done: len(calls) > 0},
	}
	if o.Use, err = a.recentUse(r, account.ID); err != nil {
		return o, err
	}
	balance, err := a.Credits.BalanceWithin(ctx, account.ID, dashboardExpiring)
	if err != nil {
		return o, err
	}
	for _, e := range balance.Expiring {
		o.Expiring = append(o.Expiring, auth.DayFigure{Day: e.Day, Value: int64(e.Amount), Text: e.Amount.String()})
	}
	entries, _, err := a.Credits.History(ctx, credits.HistoryParams{Account: account.ID, Limit: dashboardActivity})
	if err != nil {
		return o, err
	}
	for _, e := range entries {
		sign := ""
		if e.Amount > 0 {
			sign = "+"
		}
		o.Activity = append(o.Activity, auth.Activity{Text: e.Reason, Note: sign + e.Amount.String(), At: e.CreatedAt})
	}
	o.ActivityURL = creditsPath + "/"
	return o, nil
}

// recentUse has a figure for each of the last days; nil for an account that used nothing in them.
func (a *App) recentUse(r *http.Request, account string) ([]auth.DayFigure, error) {
	today := a.cfg.Clock().UTC().Truncate(24 * time.Hour)
	used, since, err := a.Credits.DailyUse(r.Context(), credits.DailyUseParams{Account: account, From: today.AddDate(0, 0, 1-dashboardUse)})
	if err != nil || len(used) == 0 {
		return nil, err
	}
	byDay := make(map[time.Time]credits.Amount, len(used))
	for _, u := range used {
		byDay[u.Day] = u.Used
	}
	var figures []auth.DayFigure
	for day := since; !day.After(today); day = day.AddDate(0, 0, 1) {
		figures = append(figures, auth.DayFigure{Day: day, Value: int64(byDay[day]), Text: byDay[day].String()})
	}
	return figures, nil
}
