package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// paymentPage is the data of payment.html.
type paymentPage struct {
	frame

	Payment paymentLine `json:"payment"`
	// Eligible is what a full refund would do; nil where nothing can be refunded, and Why says so.
	Eligible *billing.RefundPreview `json:"eligible,omitempty"`
	Why      string                 `json:"why,omitempty"`
	Refunds  []billing.Refund       `json:"refunds"`
	Disputes []billing.Dispute      `json:"disputes"`
	Reasons  []string               `json:"-"`
	Form     refundForm             `json:"-"`
	// Stripe is where the Dashboard shows it. Empty: nowhere.
	Stripe string `json:"stripe_url,omitempty"`
	// Investigates says that the payment can be compared with Stripe.
	Investigates bool `json:"-"`
	// CanRefund tells that who asks may.
	CanRefund bool `json:"-"`
}

// refundForm is how much goes back and why.
type refundForm struct {
	// Amount is decimal, in the payment's currency. Empty: all that is left.
	Amount string `json:"amount"`
	Reason string `json:"reason"`
	Note   string `json:"note"`
	// Left is what was left in the preview, in minor units, so that a form that is sent twice refunds once.
	Left int64 `json:"left"`
}

var refundReasons = []string{billing.ReasonRequested, billing.ReasonDuplicate, billing.ReasonFraudulent}

var errNoPage = problem.New(problem.CodeNotFound, "There is nothing at this address. Check it, or start again from the overview.")

// pathID reads the id in the address.
func pathID(r *http.Request) (uuid.UUID, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return uuid.Nil, errNoPage
	}
	return id, nil
}

func (a *Admin) showPayment(w http.ResponseWriter, r *http.Request) error {
	page, err := a.paymentPage(r, refundForm{Reason: billing.ReasonRequested})
	if err != nil {
		return err
	}
	a.views.Respond(w, r, http.StatusOK, "payment", page)
	return nil
}

func (a *Admin) paymentPage(r *http.Request, form refundForm) (page paymentPage, err error) {
	ctx := r.Context()
	id, err := pathID(r)
	if err != nil {
		return page, err
	}
	p, err := a.cfg.Refunds.LookUpPayment(ctx, id)
	if err != nil {
		return page, err
	}
	page = paymentPage{frame: a.frame(sectionPayments), Payment: paymentLine{p, p.Account}, Reasons: refundReasons, Form: form, Investigates: a.cfg.Investigator != nil,
		CanRefund: a.mayDo(r, ActionRefund)}
	if p.IntentID != "" {
		page.Stripe = a.stripeURL("/payments/" + p.IntentID)
	}
	preview, err := a.cfg.Refunds.PreviewRefund(ctx, id, 0)
	switch {
	case errors.Is(err, billing.ErrNotRefundable):
		page.Why = problem.From(err).ErrorMessage()
	case err != nil:
		return page, err
	default:
		page.Eligible = &preview
	}
	if page.Refunds, _, err = a.cfg.Refunds.Refunds(ctx, billing.RefundsParams{Payment: id}); err != nil {
		return page, err
	}
	page.Disputes, _, err = a.cfg.Refunds.Disputes(ctx, billing.DisputesParams{Payment: id})
	return page, err
}

// stripeURL is where the Dashboard shows something. Empty: nowhere.
func (a *Admin) stripeURL(path string) string {
	if a.cfg.Dashboard == "" {
		return ""
	}
	return a.cfg.Dashboard + path
}

// refundPreviewPage is the data of refund_preview.html.
type refundPreviewPage struct {
	frame

	Preview billing.RefundPreview `json:"preview"`
	// Debt is what of the credits the account cannot cover by now. Nil where the back office has no ledger.
	Debt *credits.Amount `json:"debt,omitempty"`
	Form refundForm      `json:"-"`
}

// previewRefund tells what a refund would do, without doing it.
func (a *Admin) previewRefund(w http.ResponseWriter, r *http.Request) error {
	form, amount, err := a.readRefund(w, r)
	if err != nil {
		return a.rejectRefund(w, r, form, err)
	}
	if err := a.record(r.Context(), a.line(r, ActionRefundPreview, r.PathValue("id"), form.String())); err != nil {
		return err
	}
	id, err := pathID(r)
	if err != nil {
		return err
	}
	preview, err := a.cfg.Refunds.PreviewRefund(r.Context(), id, amount)
	if err != nil {
		return a.rejectRefund(w, r, form, err)
	}
	form.Left = preview.Left.Amount
	form.Amount = preview.Amount.Number()
	page := refundPreviewPage{frame: a.frame(sectionPayments), Preview: preview, Form: form}
	if a.cfg.Ledger != nil {
		balance, err := a.cfg.Ledger.Balance(r.Context(), preview.Payment.Account)
		if err != nil {
			return err
		}
		taken, err := credits.ParseAmount(preview.Credits)
		if err != nil {
			return fmt.Errorf("admin: credits of a preview: %w", err)
		}
		debt := max(0, taken-max(0, balance.Available))
		page.Debt = &debt
	}
	a.views.Respond(w, r, http.StatusOK, "refund_preview", page)
	return nil
}

// String is the form as the audit log keeps it.
func (f refundForm) String() string {
	return fmt.Sprintf("amount=%s reason=%s note=%s", f.Amount, f.Reason, f.Note)
}

// readRefund reads the form, and its amount in minor units; 0 means all that is left.
func (a *Admin) readRefund(w http.ResponseWriter, r *http.Request) (form refundForm, amount int64, err error) {
	if err := web.Decode(w, r, &form); err != nil {
		return form, 0, err
	}
	id, err := pathID(r)
	if err != nil {
		return form, 0, err
	}
	switch form.Reason {
	case billing.ReasonRequested, billing.ReasonDuplicate, billing.ReasonFraudulent:
	default:
		return form, 0, billing.ErrRefundReason
	}
	if form.Note == "" {
		return form, 0, billing.ErrRefundNote
	}
	if form.Amount == "" {
		return form, 0, nil
	}
	p, err := a.cfg.Refunds.LookUpPayment(r.Context(), id)
	if err != nil {
		return form, 0, err
	}
	money, ok := billing.ParseMoney(form.Amount, p.Price.Currency)
	if !ok {
		return form, 0, billing.ErrRefundAmount
	}
	return form, money.Amount, nil
}

// rejectRefund shows the payment again with what is wrong.
func (a *Admin) rejectRefund(w http.ResponseWriter, r *http.Request, form refundForm, err error) error {
	page, failed := a.paymentPage(r, form)
	if failed != nil {
		return errors.Join(err, failed)
	}
	a.views.Reject(w, r, "payment", page, err)
	return nil
}

// postRefund refunds after the preview was seen. The line of the audit log is written first: the refund's own trail
// tells how it went.
func (a *Admin) postRefund(w http.ResponseWriter, r *http.Request) error {
	form, amount, err := a.readRefund(w, r)
	if err != nil {
		return a.rejectRefund(w, r, form, err)
	}
	if form.Left <= 0 {
		return a.rejectRefund(w, r, form, problem.Invalid(map[string]string{"left": "Look at the preview first; it says what is left of the payment."}))
	}
	id, err := pathID(r)
	if err != nil {
		return err
	}
	if err := a.record(r.Context(), a.line(r, ActionRefund, id.String(), form.String())); err != nil {
		return err
	}
	refund, err := a.cfg.Refunds.Refund(r.Context(), billing.RefundParams{Payment: id, Amount: amount, Left: form.Left, Reason: form.Reason, Note: form.Note, Staff: a.actor(r)})
	// What was written down has a page that tells where it stands, whatever Stripe said.
	if err != nil && (refund.ID == uuid.Nil || web.WantsJSON(r)) {
		return a.rejectRefund(w, r, form, err)
	}
	if web.WantsJSON(r) {
		web.JSON(w, http.StatusCreated, refund)
		return nil
	}
	kind, text := web.FlashSuccess, "The refund is made."
	switch {
	case err != nil && problem.From(err) != nil:
		kind, text = web.FlashDanger, problem.From(err).ErrorMessage()
	case err != nil:
		return err
	case refund.Status != billing.RefundSucceeded:
		kind, text = web.FlashInfo, "The refund is on its way."
	}
	a.cfg.Site.Flash(w, kind, text)
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/refunds/"+refund.ID.String())
	return nil
}

// refundsPage is the data of refunds.html.
type refundsPage struct {
	frame

	Filter   billing.RefundsParams  `json:"-"`
	Statuses []billing.RefundStatus `json:"-"`
	Reasons  []string               `json:"-"`
	Refunds  []billing.Refund       `json:"refunds"`
	Next     string                 `json:"next,omitempty"`
}

var refundStatuses = []billing.RefundStatus{billing.RefundRequested, billing.RefundPending, billing.RefundSucceeded, billing.RefundFailed, billing.RefundCanceled}

func (a *Admin) listRefunds(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	filter := billing.RefundsParams{Account: strings.TrimSpace(q.Get("account")), Status: billing.RefundStatus(q.Get("status")), Reason: q.Get("reason"),
		Staff: strings.TrimSpace(q.Get("staff")), Before: cursor(r)}
	refunds, more, err := a.cfg.Refunds.Refunds(r.Context(), filter)
	if err != nil {
		return err
	}
	page := refundsPage{frame: a.frame(sectionRefunds), Filter: filter, Statuses: refundStatuses, Reasons: refundReasons, Refunds: refunds}
	if more {
		page.Next = a.next(r, more, refunds[len(refunds)-1].ID.String())
	}
	a.views.Respond(w, r, http.StatusOK, "refunds", page)
	return nil
}

// refundPage is the data of refund.html.
type refundPage struct {
	frame

	Refund  billing.Refund       `json:"refund"`
	Trail   []billing.RefundStep `json:"trail"`
	Payment paymentLine          `json:"payment"`
	Stripe  string               `json:"stripe_url,omitempty"`
}

func (a *Admin) showRefund(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	page := refundPage{frame: a.frame(sectionRefunds)}
	if page.Refund, err = a.cfg.Refunds.FindRefund(r.Context(), id); err != nil {
		return err
	}
	if page.Trail, err = a.cfg.Refunds.RefundTrail(r.Context(), id); err != nil {
		return err
	}
	p, err := a.cfg.Refunds.LookUpPayment(r.Context(), page.Refund.Payment)
	if err != nil {
		return err
	}
	page.Payment = paymentLine{p, p.Account}
	if p.IntentID != "" {
		page.Stripe = a.stripeURL("/payments/" + p.IntentID)
	}
	a.views.Respond(w, r, http.StatusOK, "refund", page)
	return nil
}

// refundStatsPage is the data of refund_stats.html.
type refundStatsPage struct {
	frame

	Stats billing.RefundStats `json:"stats"`
	Rates []refundRate        `json:"-"`
	Spans []daySpan           `json:"-"`
	Chart web.Chart           `json:"-"`
}

// refundRate is a rate with its shares in percent.
type refundRate struct {
	billing.RefundRate

	Money, Count string
}

func (a *Admin) showRefundStats(w http.ResponseWriter, r *http.Request) error {
	page := refundStatsPage{frame: a.frame(sectionRefunds)}
	days, spans := daySpans(r)
	page.Spans = spans
	to := a.now().Truncate(24*time.Hour).AddDate(0, 0, 1)
	params := billing.RefundStatsParams{From: to.AddDate(0, 0, -days), To: to}
	if a.cfg.Ledger != nil {
		params.History = a.cfg.Ledger.History
	}
	var err error
	if page.Stats, err = a.cfg.Refunds.RefundStats(r.Context(), params); err != nil {
		return err
	}
	for _, rate := range page.Stats.Rates {
		page.Rates = append(page.Rates, refundRate{rate, percent(rate.ByMoney()), percent(rate.ByCount())})
	}
	points := make([]web.Point, len(page.Stats.Days))
	for i, d := range page.Stats.Days {
		points[i] = web.Point{Label: d.Day.Format("2 Jan 2006"), Value: d.Refunds, Text: strconv.FormatInt(d.Refunds, 10)}
	}
	page.Chart = web.NewChart("Refunds by day", "Day", "Refunds", points)
	a.views.Respond(w, r, http.StatusOK, "refund_stats", page)
	return nil
}

func percent(share float64) string { return strconv.FormatFloat(share*100, 'f', 1, 64) + " %" }
