package admin

import (
	"net/http"
	"strings"

	"github.com/quickscale/quickscale/billing"
)

// paymentsPage is the data of payments.html.
type paymentsPage struct {
	frame

	Account  string        `json:"account"`
	Payments []paymentLine `json:"payments"`
	Next     string        `json:"next,omitempty"`
	// HasUsers tells that accounts have pages to lead to.
	HasUsers bool `json:"-"`
}

// paymentLine tells staff whose payment it is, which the payment itself keeps from its owner's JSON.
type paymentLine struct {
	billing.Payment

	Account string `json:"account"`
}

func (a *Admin) listPayments(w http.ResponseWriter, r *http.Request) error {
	account := strings.TrimSpace(r.URL.Query().Get("q"))
	payments, more, err := a.cfg.Payments.Payments(r.Context(), billing.PaymentsParams{Account: account, Before: cursor(r)})
	if err != nil {
		return err
	}
	page := paymentsPage{frame: a.frame(sectionPayments), Account: account, Payments: make([]paymentLine, len(payments)), HasUsers: a.cfg.Users != nil}
	for i, p := range payments {
		page.Payments[i] = paymentLine{p, p.Account}
	}
	if more {
		page.Next = a.next(r, more, payments[len(payments)-1].ID.String())
	}
	a.views.Respond(w, r, http.StatusOK, "payments", page)
	return nil
}
