package admin

import (
	"net/http"
	"strings"

	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
)

// disputesPage is the data of disputes.html.
type disputesPage struct {
	frame

	Filter   billing.DisputesParams `json:"-"`
	Statuses []stripe.DisputeStatus `json:"-"`
	Disputes []billing.Dispute      `json:"disputes"`
	Next     string                 `json:"next,omitempty"`
}

var disputeStatuses = []stripe.DisputeStatus{
	stripe.DisputeStatusNeedsResponse, stripe.DisputeStatusUnderReview, stripe.DisputeStatusWon, stripe.DisputeStatusLost,
	stripe.DisputeStatusWarningNeedsResponse, stripe.DisputeStatusWarningUnderReview, stripe.DisputeStatusWarningClosed,
}

func (a *Admin) listDisputes(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	filter := billing.DisputesParams{Account: strings.TrimSpace(q.Get("account")), Status: stripe.DisputeStatus(q.Get("status")), Before: cursor(r)}
	disputes, more, err := a.cfg.Refunds.Disputes(r.Context(), filter)
	if err != nil {
		return err
	}
	page := disputesPage{frame: a.frame(sectionDisputes), Filter: filter, Statuses: disputeStatuses, Disputes: disputes}
	if more {
		page.Next = a.next(r, more, disputes[len(disputes)-1].ID.String())
	}
	a.views.Respond(w, r, http.StatusOK, "disputes", page)
	return nil
}

// disputePage is the data of dispute.html.
type disputePage struct {
	frame

	Dispute billing.Dispute `json:"dispute"`
	Payment paymentLine     `json:"payment"`
	// Clawed is what all refunds and disputes of the payment have taken of its credits.
	Clawed credits.Amount        `json:"credits_taken"`
	Trail  []billing.DisputeStep `json:"trail"`
	Stripe string                `json:"stripe_url,omitempty"`
}

func (a *Admin) showDispute(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	page := disputePage{frame: a.frame(sectionDisputes)}
	if page.Dispute, err = a.cfg.Refunds.FindDispute(r.Context(), id); err != nil {
		return err
	}
	p, err := a.cfg.Refunds.LookUpPayment(r.Context(), page.Dispute.Payment)
	if err != nil {
		return err
	}
	if page.Trail, err = a.cfg.Refunds.DisputeTrail(r.Context(), id); err != nil {
		return err
	}
	page.Payment, page.Clawed = paymentLine{p, p.Account}, p.Clawed
	page.Stripe = a.stripeURL("/disputes/" + page.Dispute.DisputeID)
	a.views.Respond(w, r, http.StatusOK, "dispute", page)
	return nil
}
