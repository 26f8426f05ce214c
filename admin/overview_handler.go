package admin

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/web"
	"github.com/quickscale/quickscale/webhook"
)

const (
	// overviewRows is how many of each list the overview shows.
	overviewRows = 5
	// overviewDays and overviewMonths are how far back its figures go.
	overviewDays   = 30
	overviewMonths = 12
	// faultsFor is how long what did not add up is shown after it was seen last: the ledger is verified once a day.
	faultsFor = 36 * time.Hour
)

// overviewPage is the data of overview.html.
type overviewPage struct {
	frame

	// Needs are the things that need a person.
	Needs []need `json:"needs_a_person"`
	// Cards are single figures, Charts figures by day or month.
	Cards  []card      `json:"-"`
	Charts []web.Chart `json:"-"`
	// Movements are of this month. Revenue, Use, People and Lag are nil where there is no source for them.
	Movements []movementLine   `json:"movements_this_month"`
	Revenue   *billing.Figures `json:"revenue,omitempty"`
	Use       *credits.Figures `json:"credits,omitempty"`
	People    []PeopleDay      `json:"people,omitempty"`
	Lag       *webhook.Lag     `json:"webhook_lag,omitempty"`

	Users    []auth.User       `json:"users"`
	Payments []billing.Payment `json:"payments"`
	// Dead are events that were given up; Waiting are those on their way.
	Dead    []webhook.Record `json:"dead_events"`
	Waiting []webhook.Record `json:"waiting_events"`
}

// need is something that needs a person, and where it is seen to.
type need struct {
	Text string `json:"text"`
	URL  string `json:"url"`
}

// card is one figure.
type card struct{ Label, Value, Note string }

// movementLine is how plans moved, in one currency and one way.
type movementLine struct {
	Movement billing.Movement `json:"movement"`
	Monthly  billing.Money    `json:"monthly"`
	Accounts int64            `json:"accounts"`
}

func (a *Admin) showOverview(w http.ResponseWriter, r *http.Request) error {
	page := overviewPage{frame: a.frame(sectionOverview), Needs: []need{}, Movements: []movementLine{}}
	for _, fill := range []func(ctx context.Context, p *overviewPage) error{a.fillRevenue, a.fillUse, a.fillPeople, a.fillEvents, a.fillNeeds, a.fillLists} {
		if err := fill(r.Context(), &page); err != nil {
			return err
		}
	}
	a.views.Respond(w, r, http.StatusOK, "overview", page)
	return nil
}

// days are the last days by name, today last.
func (a *Admin) days() (names []string) {
	today := a.now().Truncate(24 * time.Hour)
	for i := range overviewDays {
		names = append(names, today.AddDate(0, 0, i+1-overviewDays).Format(time.DateOnly))
	}
	return names
}

func (a *Admin) months() (names []string) {
	now := a.now()
	this := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	for i := range overviewMonths {
		names = append(names, this.AddDate(0, i+1-overviewMonths, 0).Format("2006-01"))
	}
	return names
}

// firstDay is the first of days, and of this month, whichever is earlier.
func (a *Admin) firstDay() time.Time {
	now := a.now()
	first, month := now.AddDate(0, 0, 1-overviewDays), time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	if month.Before(first) {
		return month
	}
	return first
}

func (a *Admin) fillRevenue(ctx context.Context, p *overviewPage) error {
	if a.cfg.Revenue == nil {
		return nil
	}
	days, months := a.days(), a.months()
	since, err := time.Parse("2006-01", months[0])
	if err != nil {
		return fmt.Errorf("admin: a month: %w", err)
	}
	f, err := a.cfg.Revenue.Figures(ctx, billing.FiguresParams{From: a.firstDay(), MonthsFrom: since})
	if err != nil {
		return err
	}
	p.Revenue = &f
	byDay, byMonth, currencies := map[string]billing.Money{}, map[string]billing.Money{}, map[string]bool{}
	for _, d := range f.Months {
		byMonth[d.Day+d.Currency] = d.Revenue()
		currencies[d.Currency] = true
	}
	for _, d := range f.Days {
		byDay[d.Day+d.Currency] = d.Revenue()
	}
	today, month := days[len(days)-1], months[len(months)-1]
	for _, m := range f.MRR {
		p.Cards = append(p.Cards, card{"Monthly from plans", m.Monthly.String(), strconv.FormatInt(m.Subscribers, 10) + " subscribers, by list prices"})
	}
	for _, c := range slices.Sorted(maps.Keys(currencies)) {
		money := func(m billing.Money) billing.Money { return billing.Money{Amount: m.Amount, Currency: c} }
		p.Cards = append(p.Cards, card{"Revenue today", money(byDay[today+c]).String(), "less refunds"},
			card{"Revenue this month", money(byMonth[month+c]).String(), "less refunds"})
		p.Charts = append(p.Charts, moneyChart("Revenue by month, "+c, "Month", months, byMonth, c), moneyChart("Revenue by day, "+c, "Day", days, byDay, c))
	}
	p.Cards = append(p.Cards, card{"Unpaid renewals", strconv.FormatInt(f.PastDue, 10), "plans that are past due"})
	p.Movements = movementsOf(f.Movements, month)
	return nil
}

// moneyChart has no bar where more went back than came.
func moneyChart(title, label string, labels []string, by map[string]billing.Money, currency string) web.Chart {
	points := make([]web.Point, len(labels))
	for i, l := range labels {
		m := billing.Money{Amount: by[l+currency].Amount, Currency: currency}
		points[i] = web.Point{Label: l, Value: m.Amount, Text: m.String()}
	}
	return web.NewChart(title, label, "Revenue", points)
}

// movementsOf sums up the movements of a month.
func movementsOf(all []billing.MovementFigures, month string) []movementLine {
	lines := []movementLine{}
	for _, currency := range currenciesOf(all) {
		for _, kind := range []billing.Movement{billing.MovementNew, billing.MovementReactivation, billing.MovementExpansion, billing.MovementContraction, billing.MovementChurn} {
			line := movementLine{Movement: kind, Monthly: billing.Money{Currency: currency}}
			for _, m := range all {
				if m.Currency == currency && m.Movement == kind && m.Day[:7] == month {
					line.Monthly.Amount += m.Amount
					line.Accounts += m.Accounts
				}
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func currenciesOf(all []billing.MovementFigures) []string {
	names := map[string]bool{}
	for _, m := range all {
		names[m.Currency] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func (a *Admin) fillUse(ctx context.Context, p *overviewPage) error {
	if a.cfg.Use == nil {
		return nil
	}
	f, err := a.cfg.Use.Figures(ctx, credits.FiguresParams{From: a.firstDay()})
	if err != nil {
		return err
	}
	p.Use = &f
	days := a.days()
	sold, used := map[string]credits.Amount{}, map[string]credits.Amount{}
	for _, d := range f.Days {
		switch {
		case d.Kind == credits.KindDebit:
			used[d.Day] -= d.Amount
		case d.Kind == credits.KindGrant && (d.Source == credits.Purchase || d.Source == credits.Subscription):
			sold[d.Day] += d.Amount
		}
	}
	chart := func(by map[string]credits.Amount) (points []web.Point, sum credits.Amount) {
		for _, day := range days {
			points, sum = append(points, web.Point{Label: day, Value: int64(by[day]), Text: by[day].String()}), sum+by[day]
		}
		return points, sum
	}
	usedPoints, usedSum := chart(used)
	_, soldSum := chart(sold)
	note := "nothing is sealed yet"
	if f.AsOf != nil {
		note = "owed to accounts" + worth(f.Outstanding, p.Revenue) + ", as of " + f.AsOf.Format("2 Jan 15:04 UTC")
	}
	p.Cards = append(p.Cards, card{"Credits outstanding", f.Outstanding.String(), note}, card{"Credits sold", soldSum.String(), "in 30 days, packs and plans"},
		card{"Credits used", usedSum.String(), "in 30 days"})
	p.Charts = append(p.Charts, web.NewChart("Credits used by day", "Day", "Credits", usedPoints))
	return nil
}

// worth says what credits are worth at what was paid for one on average, in the currency that was paid most often.
func worth(outstanding credits.Amount, f *billing.Figures) string {
	if f == nil {
		return ""
	}
	sums := map[string]billing.DayFigures{}
	var most billing.DayFigures
	for _, m := range f.Months {
		sum := sums[m.Currency]
		sum.Currency, sum.Paid, sum.Credits, sum.Payments = m.Currency, sum.Paid+m.Paid, sum.Credits+m.Credits, sum.Payments+m.Payments
		if sums[m.Currency] = sum; sum.Payments >= most.Payments {
			most = sum
		}
	}
	if most.Credits <= 0 {
		return ""
	}
	n := new(big.Int).Mul(big.NewInt(int64(outstanding)), big.NewInt(most.Paid))
	n.Div(n, big.NewInt(most.Credits))
	if !n.IsInt64() {
		return ""
	}
	return ", about " + billing.Money{Amount: n.Int64(), Currency: most.Currency}.String() + " at the average price of a year"
}

func (a *Admin) fillPeople(ctx context.Context, p *overviewPage) (err error) {
	if a.cfg.Crowd == nil {
		return nil
	}
	if p.People, err = a.People(ctx, a.firstDay()); err != nil || len(p.People) == 0 {
		return err
	}
	last := p.People[len(p.People)-1]
	count := func(n int64) string { return strconv.FormatInt(n, 10) }
	p.Cards = append(p.Cards, card{"Users", count(last.Total), count(last.New) + " new on " + last.Day},
		card{"Active users", count(last.ActiveMonth), "in 30 days; " + count(last.ActiveDay) + " on " + last.Day})
	by := map[string]int64{}
	for _, d := range p.People {
		by[d.Day] = d.New
	}
	var points []web.Point
	for _, day := range a.days() {
		points = append(points, web.Point{Label: day, Value: by[day], Text: count(by[day])})
	}
	p.Charts = append(p.Charts, web.NewChart("New users by day", "Day", "Users", points))
	return nil
}

func (a *Admin) fillEvents(ctx context.Context, p *overviewPage) error {
	if a.cfg.Lag == nil {
		return nil
	}
	now := a.now()
	stats, err := a.cfg.Lag.Stats(ctx, webhook.StatsParams{From: now.Add(-time.Hour), To: now.Add(time.Second)})
	if err != nil {
		return err
	}
	p.Lag = &stats.Lag
	p.Cards = append(p.Cards, card{"Webhook lag", stats.Lag.P95.Round(time.Millisecond).String(), "95 of 100 events of the last hour; " + strconv.FormatInt(stats.Backlog.Waiting, 10) + " wait"})
	if n := stats.Backlog.Dead; n > 0 {
		p.Needs = append(p.Needs, need{"Stripe's events that were given up: " + strconv.FormatInt(n, 10), a.cfg.Path + "/webhooks?status=dead"})
	}
	return nil
}

// atMost tells a number of which only the first few were looked at.
func atMost(n int, more bool) string {
	if more {
		return strconv.Itoa(n) + " or more"
	}
	return strconv.Itoa(n)
}

// fillNeeds looks for what needs a person.
func (a *Admin) fillNeeds(ctx context.Context, p *overviewPage) error {
	if a.cfg.Refunds != nil {
		failed, more, err := a.cfg.Refunds.Refunds(ctx, billing.RefundsParams{Status: billing.RefundFailed, Limit: MaxPage})
		if err != nil {
			return err
		}
		since := a.now().AddDate(0, 0, -overviewDays)
		failed = slices.DeleteFunc(failed, func(f billing.Refund) bool { return f.CreatedAt.Before(since) })
		if len(failed) > 0 {
			p.Needs = append(p.Needs, need{"Refunds that failed in the last 30 days: " + atMost(len(failed), more), a.cfg.Path + "/refunds?status=failed"})
		}
		for _, status := range []stripe.DisputeStatus{stripe.DisputeStatusNeedsResponse, stripe.DisputeStatusWarningNeedsResponse} {
			open, more, err := a.cfg.Refunds.Disputes(ctx, billing.DisputesParams{Status: status, Limit: MaxPage})
			if err != nil {
				return err
			}
			if len(open) > 0 {
				p.Needs = append(p.Needs, need{"Disputes that await evidence: " + atMost(len(open), more), a.cfg.Path + "/disputes?status=" + string(status)})
			}
		}
	}
	if a.cfg.ApproveAbove > 0 {
		waiting, more, err := a.Approvals(ctx, ApprovalsParams{Waiting: true, Limit: MaxPage})
		if err != nil {
			return err
		}
		if len(waiting) > 0 {
			p.Needs = append(p.Needs, need{"Changes of credits that await a second person: " + atMost(len(waiting), more), a.cfg.Path + "/approvals"})
		}
	}
	if a.cfg.Use != nil {
		faults, err := a.cfg.Use.Faults(ctx, a.now().Add(-faultsFor))
		if err != nil {
			return err
		}
		if len(faults) > 0 {
			p.Needs = append(p.Needs, need{"What does not add up in the ledger: " + atMost(len(faults), len(faults) == credits.MaxFaults), a.cfg.Path + "/ledger"})
		}
	}
	if a.cfg.Reconciler != nil {
		runs, err := a.cfg.Reconciler.Runs(ctx, 1)
		if err != nil {
			return err
		}
		if len(runs) > 0 && runs[0].Failed > 0 {
			p.Needs = append(p.Needs, need{"Objects of Stripe's that the last reconciliation failed at: " + fmt.Sprint(runs[0].Failed), a.cfg.Path + "/reconcile"})
		}
	}
	return nil
}

func (a *Admin) fillLists(ctx context.Context, p *overviewPage) (err error) {
	if a.cfg.Users != nil {
		if p.Users, _, err = a.cfg.Users.Users(ctx, auth.UsersParams{Limit: overviewRows}); err != nil {
			return err
		}
	}
	if a.cfg.Payments != nil {
		if p.Payments, _, err = a.cfg.Payments.Payments(ctx, billing.PaymentsParams{Limit: overviewRows}); err != nil {
			return err
		}
	}
	if a.cfg.Events != nil {
		if p.Dead, _, err = a.cfg.Events.List(ctx, webhook.ListParams{Status: webhook.StatusDead, Limit: overviewRows}); err != nil {
			return err
		}
		if p.Waiting, _, err = a.cfg.Events.List(ctx, webhook.ListParams{Status: webhook.StatusReceived, Limit: overviewRows}); err != nil {
			return err
		}
	}
	return nil
}
