package billing

import (
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// paymentsPage is the data of payments.html.
type paymentsPage struct {
	Path     string    `json:"-"`
	Payments []Payment `json:"payments"`
	// Type, Status, From and Until are the filters as they were given, Types and Statuses what can be chosen.
	Type     PaymentType     `json:"-"`
	Status   PaymentStatus   `json:"-"`
	From     string          `json:"-"`
	Until    string          `json:"-"`
	Types    []PaymentType   `json:"-"`
	Statuses []PaymentStatus `json:"-"`
	// Next is the URL of the page with older payments, empty on the last one. CSV is that of all that are chosen.
	Next string `json:"next,omitempty"`
	CSV  string `json:"-"`
	// Spending is what all payments come to, by currency.
	Spending []Spending `json:"spending"`
}

// Filtered says that not all payments are chosen.
func (p paymentsPage) Filtered() bool {
	return p.Type != "" || p.Status != "" || p.From != "" || p.Until != ""
}

func (b *Billing) listPayments(w http.ResponseWriter, r *http.Request, who Customer) {
	query := r.URL.Query()
	page := paymentsPage{Path: b.cfg.Path, Type: PaymentType(query.Get("type")), Status: PaymentStatus(query.Get("status")),
		From: query.Get("from"), Until: query.Get("until"), Types: paymentTypes, Statuses: paymentStatuses}
	filter, err := paymentsFilter(query)
	if err != nil {
		b.views.Reject(w, r, "payments", page, err)
		return
	}
	filter.Account = who.Account
	if query.Get("format") == "csv" || web.WantsCSV(r) {
		filter.Before = uuid.Nil
		b.cfg.Site.Download(w, r, "payments.csv", func(w io.Writer) error { return b.PaymentsCSV(r.Context(), w, filter) })
		return
	}
	payments, more, err := b.Payments(r.Context(), filter)
	if err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	page.Payments = payments
	if page.Spending, err = b.Spending(r.Context(), who.Account); err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	query.Del("before")
	if more {
		query.Set("before", payments[len(payments)-1].ID.String())
		page.Next = b.cfg.Path + "/payments?" + query.Encode()
		query.Del("before")
	}
	query.Set("format", "csv")
	page.CSV = b.cfg.Path + "/payments?" + query.Encode()
	b.views.Respond(w, r, http.StatusOK, "payments", page)
}

// paymentsFilter reads the filter and the place of a page. A place that is none begins with the newest; a day that is
// none is an error, since it would show what was not asked for. The last day is part of what is chosen.
func paymentsFilter(query url.Values) (PaymentsParams, error) {
	p := PaymentsParams{Type: PaymentType(query.Get("type")), Status: PaymentStatus(query.Get("status"))}
	if before, err := uuid.Parse(query.Get("before")); err == nil {
		p.Before = before
	}
	faults := map[string]string{}
	day := func(field string) time.Time {
		text := query.Get(field)
		if text == "" {
			return time.Time{}
		}
		at, err := time.Parse(time.DateOnly, text)
		if err != nil {
			faults[field] = "Enter a day such as 2026-01-31."
		}
		return at
	}
	p.From, p.Until = day("from"), day("until")
	if !p.Until.IsZero() {
		p.Until = p.Until.AddDate(0, 0, 1)
	}
	if len(faults) > 0 {
		return p, problem.Invalid(faults)
	}
	return p, nil
}
