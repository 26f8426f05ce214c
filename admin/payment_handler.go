package admin

import (
	"encoding/csv"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/internal/problem"
)

// paymentsPage is the data of payments.html.
type paymentsPage struct {
	frame

	Filter   paymentFilter           `json:"-"`
	Types    []billing.PaymentType   `json:"-"`
	Statuses []billing.PaymentStatus `json:"-"`
	Payments []paymentLine           `json:"payments"`
	Next     string                  `json:"next,omitempty"`
	// CSV is where the same payments are downloaded. Empty: not by who asks.
	CSV string `json:"csv,omitempty"`
}

// paymentFilter is the search form, as it stands in the address.
type paymentFilter struct {
	Query, Type, Status, Least, Most, Currency, From, Until string
}

var (
	paymentTypes    = []billing.PaymentType{billing.TypePurchase, billing.TypeSubscription, billing.TypePlanChange, billing.TypeInvoice, billing.TypeRefund}
	paymentStatuses = []billing.PaymentStatus{billing.PaymentPending, billing.PaymentSucceeded, billing.PaymentFailed, billing.PaymentCanceled,
		billing.PaymentPartiallyRefunded, billing.PaymentRefunded}
)

// paymentLine tells staff whose payment it is, which the payment itself keeps from its owner's JSON.
type paymentLine struct {
	billing.Payment

	Account string `json:"account"`
}

func readPaymentFilter(r *http.Request) paymentFilter {
	q := r.URL.Query()
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	return paymentFilter{get("q"), get("type"), get("status"), get("least"), get("most"), strings.ToLower(get("currency")), get("from"), get("until")}
}

// params are what the form asks for. Amounts are of its currency, or of one with two decimals; the last day counts whole.
func (f paymentFilter) params() (p billing.PaymentsParams, err error) {
	p = billing.PaymentsParams{Find: f.Query, Type: billing.PaymentType(f.Type), Status: billing.PaymentStatus(f.Status), Currency: f.Currency}
	wrong := map[string]string{}
	for name, text := range map[string]string{"least": f.Least, "most": f.Most} {
		if text == "" {
			continue
		}
		sign, digits := int64(1), text
		if strings.HasPrefix(text, "-") { // refunds are below zero
			sign, digits = -1, text[1:]
		}
		m, ok := billing.ParseMoney(digits, f.Currency)
		if !ok && strings.Trim(digits, "0.") != "" {
			wrong[name] = "This must be an amount such as 12.50."
		}
		if amount := sign * m.Amount; name == "least" {
			p.Least = &amount
		} else {
			p.Most = &amount
		}
	}
	for name, to := range map[string]*time.Time{"from": &p.From, "until": &p.Until} {
		text := map[string]string{"from": f.From, "until": f.Until}[name]
		if text == "" {
			continue
		}
		day, err := time.Parse(time.DateOnly, text)
		if err != nil || day.Year() < 1 {
			wrong[name] = "This must be a day such as 2026-01-31."
			continue
		}
		if *to = day; name == "until" {
			*to = day.AddDate(0, 0, 1)
		}
	}
	if len(wrong) > 0 {
		return p, problem.Invalid(wrong)
	}
	return p, nil
}

func (a *Admin) listPayments(w http.ResponseWriter, r *http.Request) error {
	page := paymentsPage{frame: a.frame(sectionPayments), Filter: readPaymentFilter(r), Types: paymentTypes, Statuses: paymentStatuses, Payments: []paymentLine{}}
	params, err := page.Filter.params()
	if err != nil {
		a.views.Reject(w, r, "payments", page, err)
		return nil
	}
	params.Before = cursor(r)
	payments, more, err := a.cfg.Payments.Payments(r.Context(), params)
	if err != nil {
		return err
	}
	for _, p := range payments {
		page.Payments = append(page.Payments, paymentLine{p, p.Account})
	}
	if a.mayDo(r, ActionPaymentsExport) {
		q := r.URL.Query()
		q.Del("before")
		page.CSV = a.cfg.Path + "/payments.csv?" + q.Encode()
	}
	if more {
		page.Next = a.next(r, more, payments[len(payments)-1].ID.String())
	}
	a.views.Respond(w, r, http.StatusOK, "payments", page)
	return nil
}

// exportPayments streams the payments that the search chooses, newest first.
func (a *Admin) exportPayments(w http.ResponseWriter, r *http.Request) error {
	params, err := readPaymentFilter(r).params()
	if err != nil {
		return err
	}
	params.Limit = billing.MaxPage
	header := []string{"when", "id", "account", "type", "status", "amount", "currency", "refunded", "disputed", "credits", "clawed_back", "description", "receipt", "payment_intent", "charge", "invoice", "subscription"}
	return a.csv(w, r, "payments.csv", header, func(out *csv.Writer) (more bool, err error) {
		payments, more, err := a.cfg.Payments.Payments(r.Context(), params)
		if err != nil {
			return false, err
		}
		for _, p := range payments {
			refunded, disputed := p.RefundedMoney(), p.DisputedMoney()
			line := []string{p.CreatedAt.Format(time.RFC3339Nano), p.ID.String(), cell(p.Account), string(p.Type), string(p.Status), p.Price.Number(), p.Price.Currency,
				refunded.Number(), disputed.Number(), p.Credits.String(), p.Clawed.String(), cell(p.Description), p.Receipt, p.IntentID, p.ChargeID, p.InvoiceID, p.SubscriptionID}
			if err := out.Write(line); err != nil {
				return false, err
			}
			params.Before = p.ID
		}
		return more, nil
	})
}

// csv streams a list as a file, page by page. What fails before the first page is told; afterwards the download stops
// short, which its reader sees.
func (a *Admin) csv(w http.ResponseWriter, r *http.Request, name string, header []string, page func(out *csv.Writer) (more bool, err error)) error {
	var first strings.Builder
	out := csv.NewWriter(&first)
	err := out.Write(header)
	more := false
	if err == nil {
		more, err = page(out)
	}
	if err != nil {
		return err
	}
	out.Flush()
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", "attachment; filename="+strconv.Quote(name))
	_, err = w.Write([]byte(first.String()))
	out = csv.NewWriter(w)
	for more && err == nil {
		more, err = page(out)
		if out.Flush(); err == nil {
			err = out.Error()
		}
	}
	if err != nil {
		a.cfg.Logger.ErrorContext(r.Context(), "a list is not downloaded whole", "list", name, "error", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}
