package admin

import (
	"net/http"
	"slices"

	"github.com/quickscale/quickscale/billing"
)

// investigationPage is the data of investigation.html.
type investigationPage struct {
	frame

	Payment paymentLine          `json:"payment"`
	Objects []billing.LiveObject `json:"objects"`
	// Differs says that something does not agree.
	Differs bool `json:"differs"`
	// Stripe is where the Dashboard shows the payment. Empty: nowhere.
	Stripe string `json:"stripe_url,omitempty"`
	// Reconciles says that there is a page to repair it by.
	Reconciles bool `json:"-"`
}

// showInvestigation asks Stripe, and so may take a second or two.
func (a *Admin) showInvestigation(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	p, err := a.cfg.Refunds.LookUpPayment(r.Context(), id)
	if err != nil {
		return err
	}
	page := investigationPage{frame: a.frame(sectionPayments), Payment: paymentLine{p, p.Account}, Reconciles: a.cfg.Reconciler != nil}
	if page.Objects, err = a.cfg.Investigator.Investigate(r.Context(), id); err != nil {
		return err
	}
	page.Differs = slices.ContainsFunc(page.Objects, billing.LiveObject.Differs)
	if p.IntentID != "" {
		page.Stripe = a.stripeURL("/payments/" + p.IntentID)
	}
	a.views.Respond(w, r, http.StatusOK, "investigation", page)
	return nil
}
