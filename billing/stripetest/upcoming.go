package stripetest

import (
	"errors"
	"slices"
	"time"
)

// upcoming is GET /v1/invoices/upcoming: what a change would charge, or the next invoice. The change is made and undone,
// so the two cannot differ.
func (s *Server) upcoming(c *call) (object, error) {
	c.preview = true
	id, customerID := c.p.str("subscription"), c.p.str("customer")
	if id == "" && customerID == "" {
		return nil, missing("customer")
	}
	if id == "" && len(c.p.items("subscription_items")) > 0 {
		return s.upcomingFirst(c, customerID)
	}
	sub, err := s.upcomingOf(c, id, customerID)
	if err != nil {
		return nil, err
	}
	r, err := s.revisionParams(c, sub, "subscription_")
	if err != nil {
		return nil, err
	}
	if coupon := c.p.str("coupon"); coupon != "" {
		d, err := s.newDiscount(c.tx, coupon, "", text(sub["customer"]), "")
		if err != nil {
			return nil, err
		}
		sub["discount"] = map[string]any(d)
	}
	atEnd, err := c.p.boolean("subscription_cancel_at_period_end", sub["cancel_at_period_end"] == true)
	if err != nil {
		return nil, err
	}
	if atEnd != (sub["cancel_at_period_end"] == true) {
		end := number(sub["current_period_end"])
		s.cancelAt(c.tx, sub, map[bool]int64{true: end}[atEnd], atEnd)
	}
	if r.changes {
		inv, err := s.revise(c.tx, sub, r, true)
		if err != nil {
			return nil, err
		}
		if inv != nil {
			return shownUpcoming(inv), nil
		}
		if sub, err = c.load("subscription", text(sub["id"]), "subscription"); err != nil {
			return nil, err
		}
	}
	inv, err := s.nextInvoice(c.tx, sub)
	if err != nil {
		return nil, err
	}
	return shownUpcoming(inv), nil
}

// upcomingOf finds the subscription that is meant: the customer's only one, when none is named.
func (s *Server) upcomingOf(c *call, id, customer string) (object, error) {
	if customer != "" {
		if _, err := loadCustomer(c.tx, customer, "customer"); err != nil {
			return nil, err
		}
	}
	if id == "" {
		subscriptions, err := all(c.tx, query{kind: "subscription", field: "customer", value: customer})
		if err != nil {
			return nil, err
		}
		subscriptions = slices.DeleteFunc(subscriptions, ended)
		if len(subscriptions) == 0 {
			return nil, noUpcoming(customer)
		}
		id = text(slices.MinFunc(subscriptions, func(a, b object) int {
			return int(number(a["current_period_end"]) - number(b["current_period_end"]))
		})["id"])
	}
	sub, err := c.load("subscription", id, "subscription")
	if err != nil {
		return nil, err
	}
	if customer != "" && sub["customer"] != customer {
		return nil, noSuch("subscription", id, "subscription")
	}
	if ended(sub) {
		return nil, noUpcoming(text(sub["customer"]))
	}
	return sub, nil
}

func noUpcoming(customer string) *apiError {
	return &apiError{status: 404, Type: invalidRequest, Code: "invoice_upcoming_none", Message: "No upcoming invoices for customer: '" + customer + "'"}
}

// nextInvoice is the invoice of the next renewal. The transaction is undone afterwards.
func (s *Server) nextInvoice(tx *work, sub object) (object, error) {
	customer, err := load(tx, "customer", text(sub["customer"]), "customer")
	if err != nil {
		return nil, err
	}
	end := number(sub["current_period_end"])
	if at := number(sub["cancel_at"]); at != 0 && at <= end || sub["status"] == "paused" {
		items, err := s.pendingItems(tx, customer, sub, text(sub["currency"]))
		if err != nil {
			return nil, err
		}
		if len(items) == 0 {
			return nil, noUpcoming(text(customer["id"]))
		}
		return s.draft(tx, customer, sub, "upcoming", items, nil)
	}
	tx.now = unixTime(end)
	if text(sub["schedule"]) != "" {
		if done, err := s.tickSchedule(tx, sub); done || err != nil {
			if err == nil {
				err = noUpcoming(text(customer["id"]))
			}
			return nil, err
		}
	}
	if sub["status"] == "trialing" {
		sub["status"] = "active"
	}
	from := sub["current_period_start"]
	s.nextPeriod(sub)
	inv, err := s.renewalInvoice(tx, customer, sub, "upcoming")
	if err != nil {
		return nil, err
	}
	inv["period_start"], inv["period_end"], inv["next_payment_attempt"] = from, end, end+int64(draftTime.Seconds())
	return inv, nil
}

// shownUpcoming is an invoice that does not exist yet.
func shownUpcoming(inv object) object {
	inv["object"], inv["billing_reason"] = "invoice", "upcoming"
	delete(inv, "id")
	list := fields(inv["lines"])
	list["url"] = "/v1/invoices/upcoming/lines"
	return inv
}

// upcomingFirst is what a new subscription would charge.
func (s *Server) upcomingFirst(c *call, customerID string) (object, error) {
	customer, err := loadCustomer(c.tx, customerID, "customer")
	if err != nil {
		return nil, err
	}
	u := signup{customer: customer, metadata: map[string]any{}, missing: "create_invoice", behavior: "default_incomplete"}
	if u.items, err = s.itemParams(c, c.p.items("subscription_items"), nil, nil); err != nil {
		return nil, err
	}
	if u.trialEnd, err = c.p.timestamp("subscription_trial_end", 0); err != nil {
		return nil, err
	}
	if coupon := c.p.str("coupon"); coupon != "" {
		if u.discount, err = s.newDiscount(c.tx, coupon, "", customerID, ""); err != nil {
			return nil, err
		}
	}
	sub := s.newSubscription(c.tx, u)
	if err := s.keep(c.tx, sub); err != nil {
		return nil, err
	}
	items, err := s.pendingItems(c.tx, customer, sub, text(sub["currency"]))
	if err != nil {
		return nil, err
	}
	lines, err := s.periodLines(c.tx, sub)
	if err != nil {
		return nil, err
	}
	inv, err := s.draft(c.tx, customer, sub, "upcoming", items, lines)
	if err != nil {
		return nil, err
	}
	inv["subscription"] = nil
	return shownUpcoming(inv), nil
}

// upcomingLines is GET /v1/invoices/upcoming/lines.
func (s *Server) upcomingLines(c *call) (object, error) {
	if _, err := c.p.between("limit", 10, 1, 100); err != nil {
		return nil, err
	}
	inv, err := s.upcoming(c)
	if err != nil {
		return nil, err
	}
	return fields(inv["lines"]), nil
}

// upcomingNotice is how long before a renewal invoice.upcoming tells of it: one of the times that the Dashboard offers
// (docs.stripe.com/billing/subscriptions/webhooks#invoice-upcoming).
const upcomingNotice = 7 * 24 * time.Hour

// noticeAt is when a subscription's renewal is told of, in seconds; 0: not any more, or not at all, as of periods that are
// shorter than the notice.
func noticeAt(sub object) int64 {
	end := number(sub["current_period_end"])
	at := end - int64(upcomingNotice.Seconds())
	if number(sub["_noticed"]) == end || at <= number(sub["current_period_start"]) {
		return 0
	}
	return at
}

// noticeUpcoming tells of the renewal that comes, with the invoice that it would have, which has no id yet. A subscription
// that ends has none.
func (s *Server) noticeUpcoming(tx *work, sub object) error {
	sub["_noticed"] = sub["current_period_end"]
	if err := s.refreshTimer(tx, sub); err != nil {
		return err
	}
	if err := s.keep(tx, sub); err != nil {
		return err
	}
	trial := *tx
	trial.storeTx = &scratch{storeTx: tx.storeTx, docs: map[string]*doc{}}
	shown, err := copyOf(sub)
	if err != nil {
		return err
	}
	inv, err := s.nextInvoice(&trial, shown)
	if e, ok := errors.AsType[*apiError](err); ok && e.Code == "invoice_upcoming_none" {
		return nil
	}
	if err != nil {
		return err
	}
	return s.emit(tx, "invoice.upcoming", shownUpcoming(inv))
}
