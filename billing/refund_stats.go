package billing

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// What is unusual.
const (
	manyByStaff   = 5              // refunds by one person, and twice the average of the others
	manyOfAccount = 3              // refunds of one account
	spikeOfDay    = 5              // refunds on one day, and three times the average of the other days
	soonAfterUse  = 24 * time.Hour // between the last use of credits and the refund
	maxStatsSpan  = 366 * 24 * time.Hour
	maxUseChecks  = 200 // refunds whose account's use is looked at, the newest
)

// PatternKind is what is unusual about refunds.
type PatternKind string

// The patterns.
const (
	PatternStaff    PatternKind = "staff"     // one person refunds far more often than the others
	PatternAccount  PatternKind = "account"   // one account gets money back again and again
	PatternAfterUse PatternKind = "after_use" // credits were used less than a day before the money went back
	PatternSpike    PatternKind = "spike"     // a day with far more refunds than the others
)

// Pattern is something about refunds that a person should look at. It proves nothing.
type Pattern struct {
	Kind PatternKind `json:"kind"`
	// Who is the person, the account, the refund's id, or the day as 2006-01-02.
	Who     string `json:"who"`
	Refunds int64  `json:"refunds"`
	// Usual is what Refunds is compared with: the average of the others, or the limit.
	Usual float64 `json:"usual"`
}

// RefundRate is what of the payments in one currency went back.
type RefundRate struct {
	Currency string `json:"currency"`
	// Payments and Paid are those of the span, Refunds and Refunded the refunds of the span, also of older payments.
	Payments int64 `json:"payments"`
	Paid     Money `json:"paid"`
	Refunds  int64 `json:"refunds"`
	Refunded Money `json:"refunded"`
}

// ByMoney is the share of the money that went back, 1 being all of it; 0 where nothing was paid.
func (r RefundRate) ByMoney() float64 { return portion(r.Refunded.Amount, r.Paid.Amount) }

// ByCount is refunds per payment; 0 where nothing was paid.
func (r RefundRate) ByCount() float64 { return portion(r.Refunds, r.Payments) }

func portion(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// RefundShare is what refunds have in common, in one currency.
type RefundShare struct {
	// Name is the reason or the person; empty for refunds from Stripe's Dashboard that have none.
	Name     string `json:"name"`
	Refunds  int64  `json:"refunds"`
	Refunded Money  `json:"refunded"`
}

// RefundDay is the refunds of one day, in UTC.
type RefundDay struct {
	Day     time.Time `json:"day"`
	Refunds int64     `json:"refunds"`
}

// RefundStats are figures of the refunds of a span. Those that failed or were canceled do not count.
type RefundStats struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Failed is how many did not come about.
	Failed int64 `json:"failed"`
	// Rates are by currency, Reasons and Staff the most frequent first, Days all days of the span.
	Rates    []RefundRate  `json:"rates"`
	Reasons  []RefundShare `json:"reasons"`
	Staff    []RefundShare `json:"staff"`
	Days     []RefundDay   `json:"days"`
	Patterns []Pattern     `json:"patterns"`
}

// RefundStatsParams choose a span.
type RefundStatsParams struct {
	// From and To bound when refunds were asked for: from From on, and before To; at most 366 days apart.
	From, To time.Time
	// History reads an account's ledger, to find refunds shortly after use; (*credits.Ledger).History is one. Nil: they
	// are not looked for.
	History func(ctx context.Context, p credits.HistoryParams) (entries []credits.Entry, more bool, err error)
}

// ErrStatsSpan says that a span is none, or too long.
var ErrStatsSpan error = problem.Invalid(map[string]string{"from": "The span must end after it begins, at most 366 days later."})

// RefundStats reckons figures of refunds, for staff; [ErrStatsSpan].
func (b *Billing) RefundStats(ctx context.Context, p RefundStatsParams) (RefundStats, error) {
	if !p.From.Before(p.To) || p.To.Sub(p.From) > maxStatsSpan {
		return RefundStats{}, ErrStatsSpan
	}
	stats := RefundStats{From: p.From.UTC(), To: p.To.UTC(), Rates: []RefundRate{}, Reasons: []RefundShare{}, Staff: []RefundShare{}, Days: []RefundDay{}, Patterns: []Pattern{}}
	var rows []refundRow
	// Runs along qs_billing_refunds_created.
	const refunds = `SELECT ` + refundColumns + ` FROM qs_billing_refunds WHERE created_at >= ? AND created_at < ? ORDER BY created_at DESC, id DESC`
	if err := b.db.Select(ctx, &rows, refunds, database.At(p.From), database.At(p.To)); err != nil {
		return stats, fmt.Errorf("billing: refunds of a span: %w", err)
	}
	kept := rows[:0]
	for _, r := range rows {
		if r.Status == RefundFailed || r.Status == RefundCanceled {
			stats.Failed++
			continue
		}
		kept = append(kept, r)
	}
	var err error
	if stats.Rates, err = b.refundRates(ctx, p, kept); err != nil {
		return stats, err
	}
	stats.Reasons = shares(kept, func(r refundRow) string { return r.Reason })
	stats.Staff = shares(kept, func(r refundRow) string { return r.Staff })
	stats.Days = refundDays(p, kept)
	stats.Patterns = append(stats.Patterns, staffPatterns(kept)...)
	stats.Patterns = append(stats.Patterns, accountPatterns(kept)...)
	stats.Patterns = append(stats.Patterns, spikes(stats.Days)...)
	used, err := usePatterns(ctx, p, kept)
	stats.Patterns = append(stats.Patterns, used...)
	return stats, err
}

func (b *Billing) refundRates(ctx context.Context, p RefundStatsParams, kept []refundRow) ([]RefundRate, error) {
	var paid []struct {
		Currency string `db:"currency"`
		Payments int64  `db:"payments"`
		Amount   int64  `db:"amount"`
	}
	// Runs along qs_billing_payments_created.
	const sums = `SELECT currency, COUNT(*) AS payments, CAST(SUM(amount) AS BIGINT) AS amount FROM qs_billing_payments
		WHERE created_at >= ? AND created_at < ? AND type <> 'refund' AND amount > 0 AND status IN ('succeeded', 'partially_refunded', 'refunded') GROUP BY currency`
	if err := b.db.Select(ctx, &paid, sums, database.At(p.From), database.At(p.To)); err != nil {
		return nil, fmt.Errorf("billing: payments of a span: %w", err)
	}
	byCurrency := map[string]*RefundRate{}
	rate := func(currency string) *RefundRate {
		if byCurrency[currency] == nil {
			byCurrency[currency] = &RefundRate{Currency: currency, Paid: Money{0, currency}, Refunded: Money{0, currency}}
		}
		return byCurrency[currency]
	}
	for _, s := range paid {
		r := rate(s.Currency)
		r.Payments, r.Paid.Amount = s.Payments, s.Amount
	}
	for _, s := range kept {
		r := rate(s.Currency)
		r.Refunds, r.Refunded.Amount = r.Refunds+1, r.Refunded.Amount+s.Amount
	}
	rates := make([]RefundRate, 0, len(byCurrency))
	for _, r := range byCurrency {
		rates = append(rates, *r)
	}
	slices.SortFunc(rates, func(a, b RefundRate) int { return cmp.Compare(a.Currency, b.Currency) })
	return rates, nil
}

func shares(rows []refundRow, name func(refundRow) string) []RefundShare {
	type key struct{ name, currency string }
	sums := map[key]RefundShare{}
	for _, r := range rows {
		k := key{name(r), r.Currency}
		s := sums[k]
		sums[k] = RefundShare{k.name, s.Refunds + 1, Money{s.Refunded.Amount + r.Amount, r.Currency}}
	}
	list := make([]RefundShare, 0, len(sums))
	for _, s := range sums {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b RefundShare) int {
		return cmp.Or(cmp.Compare(b.Refunds, a.Refunds), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Refunded.Currency, b.Refunded.Currency))
	})
	return list
}

func refundDays(p RefundStatsParams, rows []refundRow) []RefundDay {
	counts := map[time.Time]int64{}
	for _, r := range rows {
		counts[r.CreatedAt.Truncate(24*time.Hour)]++
	}
	days := []RefundDay{}
	for day := p.From.UTC().Truncate(24 * time.Hour); day.Before(p.To); day = day.AddDate(0, 0, 1) {
		days = append(days, RefundDay{day, counts[day]})
	}
	return days
}

// tally counts rows by a name, in a fixed order of names.
func tally(rows []refundRow, name func(refundRow) string) (names []string, counts map[string]int64, total int64) {
	counts = map[string]int64{}
	for _, r := range rows {
		if n := name(r); n != "" {
			counts[n]++
			total++
		}
	}
	for n := range counts {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) })
	return names, counts, total
}

func staffPatterns(rows []refundRow) (found []Pattern) {
	names, counts, total := tally(rows, func(r refundRow) string { return r.Staff })
	for _, name := range names {
		others := portion(total-counts[name], int64(len(names)-1))
		if len(names) > 1 && counts[name] >= manyByStaff && float64(counts[name]) >= 2*others {
			found = append(found, Pattern{PatternStaff, name, counts[name], others})
		}
	}
	return found
}

func accountPatterns(rows []refundRow) (found []Pattern) {
	names, counts, _ := tally(rows, func(r refundRow) string { return r.Account })
	for _, name := range names {
		if counts[name] >= manyOfAccount {
			found = append(found, Pattern{PatternAccount, name, counts[name], manyOfAccount})
		}
	}
	return found
}

func spikes(days []RefundDay) (found []Pattern) {
	total := int64(0)
	for _, d := range days {
		total += d.Refunds
	}
	for _, d := range days {
		others := portion(total-d.Refunds, int64(len(days)-1))
		if len(days) > 1 && d.Refunds >= spikeOfDay && float64(d.Refunds) >= 3*others {
			found = append(found, Pattern{PatternSpike, d.Day.Format(time.DateOnly), d.Refunds, others})
		}
	}
	return found
}

// usePatterns looks at what the account did before the money went back: credits used, and then the money too.
func usePatterns(ctx context.Context, p RefundStatsParams, rows []refundRow) (found []Pattern, err error) {
	if p.History == nil {
		return nil, nil
	}
	for _, r := range rows[:min(len(rows), maxUseChecks)] {
		entries, _, err := p.History(ctx, credits.HistoryParams{
			Account: r.Account, Kind: credits.KindDebit, From: r.CreatedAt.Add(-soonAfterUse), Until: r.CreatedAt.Time, Limit: 1,
		})
		if err != nil {
			return nil, fmt.Errorf("billing: use before refund %s: %w", r.ID, err)
		}
		if len(entries) > 0 {
			found = append(found, Pattern{PatternAfterUse, r.ID.String(), 1, 0})
		}
	}
	return found, nil
}
