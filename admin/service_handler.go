package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
	"github.com/quickscale/quickscale/services"
)

// Services is where services are switched, priced and measured; *services.Services is one.
type Services interface {
	List(ctx context.Context) []services.Description
	Settings(ctx context.Context) (map[string]services.Setting, error)
	SetEnabledTx(ctx context.Context, tx *sqlx.Tx, service string, enabled *bool) error
	SetRatesTx(ctx context.Context, tx *sqlx.Tx, service string, rates services.Rates) error
	Analytics(ctx context.Context, p services.AnalyticsParams) ([]services.Figures, error)
	Percentile(ctx context.Context, service string, since time.Time, part float64) (time.Duration, error)
}

// CostUnit is the unit by which a service records what a call costs its maker, in millionths of a credit:
// call.Meter(admin.CostUnit, 250_000) is a quarter of a credit. With a metered price it needs a rate, of an amount of zero.
const CostUnit = "cost"

// serviceDays is how far back the figures of services go.
const serviceDays = 30

// servicesPage is the data of services.html.
type servicesPage struct {
	frame

	Services []serviceLine `json:"services"`
	// CanSwitch tells that who asks may.
	CanSwitch bool `json:"-"`
}

// serviceLine is a service with its figures of the last days.
type serviceLine struct {
	Name  string         `json:"name"`
	Title string         `json:"title"`
	On    bool           `json:"active"`
	Rates services.Rates `json:"rates,omitempty"`
	// Price are the rates in force, in words.
	Price    string         `json:"price"`
	Calls    int64          `json:"calls"`
	Failed   int64          `json:"failed"`
	Accounts int64          `json:"accounts"`
	Average  string         `json:"average_latency"`
	Longest  string         `json:"longest_latency"`
	Charged  credits.Amount `json:"credits_charged"`
	// Cost is what was recorded with [CostUnit], and Profit what is left; nil where nothing was recorded.
	Cost   *credits.Amount `json:"cost,omitempty"`
	Profit *credits.Amount `json:"profit,omitempty"`
}

// FailedShare is the part of the calls that failed, in percent.
func (s serviceLine) FailedShare() string {
	if s.Calls == 0 {
		return ""
	}
	return percent(float64(s.Failed) / float64(s.Calls))
}

func millis(ms float64) string {
	return time.Duration(ms * float64(time.Millisecond)).Round(time.Millisecond / 10).String()
}

func (a *Admin) servicesPage(r *http.Request) (page servicesPage, err error) {
	ctx := r.Context()
	page = servicesPage{frame: a.frame(sectionServices), Services: []serviceLine{}, CanSwitch: a.mayDo(r, ActionServiceSwitch)}
	// As the database has them: what the registry remembers may be seconds old.
	settings, err := a.cfg.Services.Settings(ctx)
	if err != nil {
		return page, err
	}
	figures, err := a.cfg.Services.Analytics(ctx, services.AnalyticsParams{By: services.ByService, UsageParams: services.UsageParams{Since: a.now().AddDate(0, 0, -serviceDays)}})
	if err != nil {
		return page, err
	}
	for _, d := range a.cfg.Services.List(ctx) {
		line := serviceLine{Name: d.Name, Title: d.Title, On: d.Active, Rates: d.Rates, Price: d.PriceText}
		if set, ok := settings[d.Name]; ok {
			if set.Enabled != nil {
				line.On = *set.Enabled
			}
			if set.Rates != nil {
				for name, rate := range set.Rates {
					line.Rates[name] = rate
				}
				line.Price = ratesText(line.Rates)
			}
		}
		if i := slices.IndexFunc(figures, func(f services.Figures) bool { return f.Key == d.Name }); i >= 0 {
			f := figures[i]
			line.Calls, line.Failed, line.Accounts, line.Charged = f.Calls, f.Failed, f.Accounts, f.Charged
			line.Average, line.Longest = millis(f.AverageMS), millis(f.LongestMS)
			if cost, ok := f.Units[CostUnit]; ok {
				line.Cost, line.Profit = new(credits.Amount(cost)), new(f.Charged-credits.Amount(cost))
			}
		}
		page.Services = append(page.Services, line)
	}
	return page, nil
}

func (a *Admin) listServices(w http.ResponseWriter, r *http.Request) error {
	page, err := a.servicesPage(r)
	if err != nil {
		return err
	}
	a.views.Respond(w, r, http.StatusOK, "services", page)
	return nil
}

// switchForm names services and whether they are to be on.
type switchForm struct {
	Services []string `json:"service"`
	On       bool     `json:"on"`
}

// postSwitch switches services on or off, each with its line of the audit log, all in one transaction.
func (a *Admin) postSwitch(w http.ResponseWriter, r *http.Request) error {
	var form switchForm
	if err := web.Decode(w, r, &form); err != nil {
		return err
	}
	page, err := a.servicesPage(r)
	if err != nil {
		return err
	}
	if len(form.Services) == 0 {
		a.views.Reject(w, r, "services", page, problem.Invalid(map[string]string{"service": "Choose a service."}))
		return nil
	}
	err = a.db.InTx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		for _, name := range form.Services {
			if err := a.cfg.Services.SetEnabledTx(ctx, tx, name, &form.On); err != nil {
				return err
			}
			line := a.line(r, ActionServiceSwitch, name, "")
			line.Before, line.After = "off", onOff(form.On)
			if i := slices.IndexFunc(page.Services, func(s serviceLine) bool { return s.Name == name }); i >= 0 {
				line.Before = onOff(page.Services[i].On)
			}
			if err := a.recordTx(ctx, tx, line); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case web.WantsJSON(r), r.Header.Get("HX-Request") == "true":
		return a.listServices(w, r) // HTMX takes the line that it shows
	}
	a.cfg.Site.Flash(w, web.FlashSuccess, strings.Join(form.Services, ", ")+": "+onOff(form.On)+".")
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/services")
	return nil
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// servicePage is the data of service.html.
type servicePage struct {
	frame

	Service serviceLine   `json:"service"`
	Within  string        `json:"latency_95"`
	Chart   web.Chart     `json:"-"`
	Changes []PriceChange `json:"price_changes"`
	// CanPrice tells that who asks may; Form is what was refused.
	CanPrice bool      `json:"-"`
	Form     priceForm `json:"-"`
}

// priceForm is a rate of a service from a moment on.
type priceForm struct {
	Rate   string `json:"rate"`
	Amount string `json:"amount"`
	// From is a moment in UTC. Empty: at once.
	From   string `json:"from"`
	Reason string `json:"reason"`
	// Reset takes the override away.
	Reset bool `json:"reset"`
}

func (a *Admin) servicePage(r *http.Request, form priceForm) (page servicePage, err error) {
	ctx, name := r.Context(), r.PathValue("id")
	all, err := a.servicesPage(r)
	if err != nil {
		return page, err
	}
	i := slices.IndexFunc(all.Services, func(s serviceLine) bool { return s.Name == name })
	if i < 0 {
		return page, errNoPage
	}
	page = servicePage{frame: a.frame(sectionServices), Service: all.Services[i], CanPrice: a.mayDo(r, ActionServicePrice), Form: form}
	since := a.now().Truncate(24*time.Hour).AddDate(0, 0, 1-serviceDays)
	within, err := a.cfg.Services.Percentile(ctx, name, since, 0.95)
	if err != nil {
		return page, err
	}
	page.Within = within.Round(time.Millisecond / 10).String()
	days, err := a.cfg.Services.Analytics(ctx, services.AnalyticsParams{By: services.ByDay, UsageParams: services.UsageParams{Service: name, Since: since}})
	if err != nil {
		return page, err
	}
	calls := map[string]int64{}
	for _, d := range days {
		calls[d.Key] = d.Calls
	}
	var points []web.Point
	for n := range serviceDays {
		day := since.AddDate(0, 0, n).Format(time.DateOnly)
		points = append(points, web.Point{Label: day, Value: calls[day], Text: fmt.Sprint(calls[day])})
	}
	page.Chart = web.NewChart("Calls by day", "Day", "Calls", points)
	page.Changes, err = a.prices(ctx, name)
	return page, err
}

func (a *Admin) showService(w http.ResponseWriter, r *http.Request) error {
	page, err := a.servicePage(r, priceForm{})
	if err != nil {
		return err
	}
	a.views.Respond(w, r, http.StatusOK, "service", page)
	return nil
}

// parseCredits reads an amount of zero or more.
func parseCredits(text string) (credits.Amount, error) {
	amount, err := credits.ParseAmount(strings.TrimSpace(text))
	if err != nil || amount < 0 {
		return 0, errRate
	}
	return amount, nil
}

// change is what the form asks for, beside the rates that are overridden already.
func (f priceForm) change(service string, now time.Time, overridden services.Rates) (c PriceChange, err error) {
	c = PriceChange{Service: service, Rates: services.Rates{}, Reason: f.Reason, EffectiveAt: now}
	wrong := map[string]string{}
	if f.Reason == "" {
		wrong["reason"] = "Say why; it is kept in the audit log."
	}
	if at, ok := parseMoment(f.From); !ok {
		wrong["from"] = "Give a day and a time, or nothing for now."
	} else if f.From != "" {
		c.EffectiveAt = at.UTC()
	}
	if !f.Reset {
		for name, rate := range overridden {
			c.Rates[name] = rate
		}
		rate, err := parseRate(f.Amount)
		if err != nil {
			wrong["amount"] = "This must be a number of credits, such as 0.5, or 2 per 1000."
		}
		c.Rates[f.Rate] = rate
	}
	if len(wrong) > 0 {
		return c, problem.Invalid(wrong)
	}
	return c, nil
}

// postPrice overrides a rate, at once or from a moment on.
func (a *Admin) postPrice(w http.ResponseWriter, r *http.Request) error {
	var form priceForm
	err := web.Decode(w, r, &form)
	page, failed := a.servicePage(r, form)
	if failed != nil {
		return failed
	}
	settings, failed := a.cfg.Services.Settings(r.Context())
	if failed != nil {
		return failed
	}
	name := page.Service.Name
	var change PriceChange
	if err == nil {
		change, err = form.change(name, a.now(), settings[name].Rates)
	}
	if _, known := page.Service.Rates[form.Rate]; err == nil && !form.Reset && !known {
		err = problem.Invalid(map[string]string{"rate": "Choose a rate that the price has."})
	}
	if err != nil {
		a.views.Reject(w, r, "service", page, err)
		return nil
	}
	who := whoAsks(r)
	change.StaffID, change.StaffEmail = who.ID, who.Email
	line := a.line(r, ActionServicePrice, name, "from "+change.EffectiveAt.Format(time.RFC3339))
	line.Reason, line.Before, line.After = form.Reason, page.Service.Price, ratesText(change.Rates)
	err = a.db.InTx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if err := a.setPriceTx(ctx, tx, change); err != nil {
			return err
		}
		return a.recordTx(ctx, tx, line)
	})
	if err != nil {
		a.views.Reject(w, r, "service", page, err)
		return nil
	}
	return a.serviceDone(w, r, name, "The price is set.")
}

func (a *Admin) postCancelPrice(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("id")
	id, err := uuid.Parse(r.PathValue("change"))
	if err != nil {
		return errNoPage
	}
	err = a.db.InTx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if err := a.cancelPriceTx(ctx, tx, name, id); err != nil {
			return err
		}
		return a.recordTx(ctx, tx, a.line(r, ActionServicePriceCancel, name, "change="+id.String()))
	})
	if err != nil {
		return err
	}
	return a.serviceDone(w, r, name, "The change is taken back.")
}

func (a *Admin) serviceDone(w http.ResponseWriter, r *http.Request, name, said string) error {
	if web.WantsJSON(r) {
		return a.showService(w, r)
	}
	a.cfg.Site.Flash(w, web.FlashSuccess, said)
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/services/"+name)
	return nil
}
