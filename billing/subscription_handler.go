package billing

import (
	"errors"
	"net/http"

	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/web"
)

// subscriptionPage is the data of subscription.html.
type subscriptionPage struct {
	Path string `json:"-"`
	// Subscription is nil for who never had one.
	Subscription *Subscription `json:"subscription"`
	// DaysLeft are those until the period ends.
	DaysLeft int `json:"days_left"`
	// State is the status in words.
	State string `json:"state"`
	// Plans are those to change to, the current one among them.
	Plans []Offer `json:"plans"`
	// Until is what was typed for the end of a pause.
	Until string `json:"-"`
}

// states say what a status means, and what there is to do.
var states = map[stripe.SubscriptionStatus]string{
	stripe.SubscriptionStatusActive:            "Active",
	stripe.SubscriptionStatusTrialing:          "On trial",
	stripe.SubscriptionStatusPastDue:           "Payment overdue",
	stripe.SubscriptionStatusUnpaid:            "Not paid",
	stripe.SubscriptionStatusPaused:            "Paused",
	stripe.SubscriptionStatusIncomplete:        "Waiting for the first payment",
	stripe.SubscriptionStatusIncompleteExpired: "Never begun",
	stripe.SubscriptionStatusCanceled:          "Ended",
}

func (b *Billing) showSubscription(w http.ResponseWriter, r *http.Request, who Customer) {
	page, err := b.subscriptionPage(r, who)
	if err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	b.views.Respond(w, r, http.StatusOK, "subscription", page)
}

func (b *Billing) subscriptionPage(r *http.Request, who Customer) (subscriptionPage, error) {
	page := subscriptionPage{Path: b.cfg.Path}
	s, err := b.FindSubscription(r.Context(), who.Account)
	switch {
	case err == nil:
		page.Subscription, page.DaysLeft, page.State = &s, s.DaysLeft(b.now()), states[s.Status]
		if s.Paused() && s.Active() {
			page.State = "Paused"
		}
	case !errors.Is(err, ErrNoSubscription):
		return page, err
	}
	page.Plans, err = b.Plans(r.Context())
	return page, err
}

func (b *Billing) postCancel(w http.ResponseWriter, r *http.Request, who Customer) {
	var in struct {
		Now bool `json:"now"`
	}
	if err := web.Decode(w, r, &in); err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	s, err := b.CancelSubscription(r.Context(), who.Account, in.Now)
	said := "Your subscription ends on " + s.PeriodEnd.Format("2 Jan 2006") + ". Until then nothing changes."
	if in.Now {
		said = "Your subscription has ended. Credits that you have stay until they expire."
	}
	b.changed(w, r, s, err, said)
}

func (b *Billing) postResume(w http.ResponseWriter, r *http.Request, who Customer) {
	s, err := b.ResumeSubscription(r.Context(), who.Account)
	b.changed(w, r, s, err, "Your subscription goes on.")
}

// changed answers to what changed a subscription.
func (b *Billing) changed(w http.ResponseWriter, r *http.Request, s Subscription, err error, said string) {
	switch {
	case err != nil:
		b.cfg.Site.Fail(w, r, err)
	case web.WantsJSON(r):
		web.JSON(w, http.StatusOK, s)
	default:
		b.cfg.Site.Flash(w, web.FlashSuccess, said)
		b.cfg.Site.Redirect(w, r, b.cfg.Path+"/subscription")
	}
}

// changePage is the data of change.html.
type changePage struct {
	Path   string `json:"-"`
	Change Change `json:"change"`
}

func (b *Billing) showChange(w http.ResponseWriter, r *http.Request, who Customer) {
	c, err := b.PreviewChange(r.Context(), who.Account, r.URL.Query().Get("price"))
	if err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	b.views.Respond(w, r, http.StatusOK, "change", changePage{b.cfg.Path, c})
}

func (b *Billing) postChange(w http.ResponseWriter, r *http.Request, who Customer) {
	var in struct {
		Price         string `json:"price"`
		ProrationDate int64  `json:"proration_date"`
	}
	if err := web.Decode(w, r, &in); err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	s, err := b.ChangePlan(r.Context(), ChangeParams{Account: who.Account, Price: in.Price, ProrationDate: in.ProrationDate})
	said := "Your plan is " + s.Plan.Name + " now."
	switch {
	case s.PendingPrice != "":
		said = "The payment did not go through, so your plan is as it was. Pay the open invoice to change it."
	case s.Next != nil:
		said = "Your plan changes to " + s.Next.Name + " on " + s.PeriodEnd.Format("2 Jan 2006") + "."
	}
	b.changed(w, r, s, err, said)
}
