package stripetest

import (
	"slices"
	"strings"
)

// createSubscription is POST /v1/subscriptions (docs.stripe.com/api/subscriptions).
func (s *Server) createSubscription(c *call) (object, error) {
	id, err := c.p.required("customer")
	if err != nil {
		return nil, err
	}
	u := signup{metadata: c.p.metadata(nil), description: optional(c.p.str("description"))}
	if u.customer, err = loadCustomer(c.tx, id, "customer"); err != nil {
		return nil, err
	}
	given := c.p.items("items")
	if len(given) == 0 {
		return nil, missing("items")
	}
	if u.items, err = s.itemParams(c, given, nil, nil); err != nil {
		return nil, err
	}
	if err := automatic(c.p); err != nil {
		return nil, err
	}
	if u.behavior, err = c.p.oneOf("payment_behavior", "allow_incomplete", "default_incomplete", "error_if_incomplete"); err != nil {
		return nil, err
	}
	if _, err := c.p.oneOf("proration_behavior", prorations...); err != nil {
		return nil, err
	}
	if u.method = c.p.str("default_payment_method"); u.method != "" {
		if _, err := s.methodOf(c.tx, u.method, id, "default_payment_method"); err != nil {
			return nil, err
		}
	}
	if u.trialEnd, err = trialParams(c.tx, c.p); err != nil {
		return nil, err
	}
	if u.missing, err = missingParam(c.p, "create_invoice"); err != nil {
		return nil, err
	}
	if u.saveCard, err = settingsParam(c.p, false); err != nil {
		return nil, err
	}
	if u.how.offSession, err = offSession(c.p); err != nil {
		return nil, err
	}
	if d, err := s.discountParams(c, id, ""); err != nil {
		return nil, err
	} else if d != nil {
		u.discount = fields(d)
	}
	sub, refused, err := s.subscribe(c.tx, u)
	if err != nil {
		return nil, err
	}
	if refused != nil {
		return nil, refused
	}
	changed, err := s.cancelParams(c, sub)
	if err != nil || !changed {
		return sub, err
	}
	return sub, s.saveSubscription(c.tx, sub, "customer.subscription.updated")
}

// automatic refuses the ways of collecting that the double does not have.
func automatic(p *params) error {
	if method := p.str("collection_method"); method != "" && method != "charge_automatically" {
		return unsupported("collection_method", "invoices that are sent")
	}
	if tax := p.sub("automatic_tax"); tax != nil {
		if enabled, err := tax.boolean("enabled", false); err != nil || enabled {
			return unsupported("automatic_tax", "taxes of subscriptions")
		}
	}
	return nil
}

var prorations = []string{"create_prorations", "always_invoice", "none"}

// trialParams reads when a trial ends: 0 without one.
func trialParams(tx *work, p *params) (int64, error) {
	if p.str("trial_end") == "now" {
		return 0, nil
	}
	end, err := p.timestamp("trial_end", 0)
	if err != nil {
		return 0, err
	}
	days, err := p.between("trial_period_days", 0, 1, 730)
	switch {
	case err != nil:
		return 0, err
	case end != 0 && days != 0:
		return 0, invalid(p.key("trial_period_days"), "You may only specify one of these parameters: trial_end, trial_period_days.")
	case days != 0:
		return tx.now.AddDate(0, 0, int(days)).Unix(), nil
	case end != 0 && end <= tx.unix():
		return 0, invalid(p.key("trial_end"), "Invalid timestamp: must be an integer Unix timestamp in the future.")
	case end > tx.now.AddDate(0, 0, 730).Unix():
		return 0, invalid(p.key("trial_end"), "Invalid timestamp: can be no more than two years in the future.")
	}
	return end, nil
}

// missingParam reads what happens when a trial ends without a payment method.
func missingParam(p *params, fallback string) (string, error) {
	settings := p.sub("trial_settings")
	if settings == nil {
		return fallback, nil
	}
	behavior := settings.sub("end_behavior")
	if behavior == nil {
		return "", missing(settings.key("end_behavior"))
	}
	if _, err := behavior.required("missing_payment_method"); err != nil {
		return "", err
	}
	return behavior.oneOf("missing_payment_method", fallback, "create_invoice", "cancel", "pause")
}

// settingsParam reads whether the card that pays becomes the subscription's default.
func settingsParam(p *params, fallback bool) (bool, error) {
	settings := p.sub("payment_settings")
	if settings == nil {
		return fallback, nil
	}
	for i, t := range settings.strings("payment_method_types") {
		if t != "card" && t != "us_bank_account" {
			return false, unsupported(settings.key("payment_method_types["+itoa(int64(i))+"]"), "payment methods of type "+t)
		}
	}
	choice, err := settings.oneOf("save_default_payment_method", "", "off", "on_subscription")
	if choice == "" {
		return fallback, err
	}
	return choice == "on_subscription", err
}

// cancelParams reads when a subscription shall end, and tells whether that changes it.
func (s *Server) cancelParams(c *call, sub object) (bool, error) {
	changed := false
	if details := c.p.sub("cancellation_details"); details != nil {
		if err := cancellationDetails(details, sub); err != nil {
			return false, err
		}
		changed = true
	}
	if !c.p.has("cancel_at_period_end") && !c.p.has("cancel_at") {
		return changed, nil
	}
	if id := text(sub["schedule"]); id != "" {
		return false, invalid("", "The subscription is managed by the subscription schedule `%s`, and updating any cancelation behavior directly is not allowed. Please update the schedule instead.", id)
	}
	atEnd, err := c.p.boolean("cancel_at_period_end", false)
	if err != nil {
		return false, err
	}
	at, err := c.p.timestamp("cancel_at", 0)
	switch {
	case err != nil:
		return false, err
	case at != 0 && atEnd:
		return false, invalid("cancel_at", "You may only specify one of these parameters: cancel_at, cancel_at_period_end.")
	case at != 0 && at <= c.tx.unix():
		return false, invalid("cancel_at", "Invalid timestamp: must be an integer Unix timestamp in the future.")
	case atEnd:
		at = number(sub["current_period_end"])
	}
	s.cancelAt(c.tx, sub, at, atEnd)
	return true, nil
}

// cancelAt plans the end of a subscription; 0 undoes the plan.
func (s *Server) cancelAt(tx *work, sub object, at int64, periodEnd bool) {
	details := fields(sub["cancellation_details"])
	sub["cancel_at"], sub["cancel_at_period_end"], sub["canceled_at"], details["reason"] = moment(at), periodEnd, nil, nil
	if at != 0 {
		sub["canceled_at"], details["reason"] = tx.unix(), "cancellation_requested"
	}
}

var feedbacks = []string{"", "customer_service", "low_quality", "missing_features", "other", "switched_service", "too_complex", "too_expensive", "unused"}

func cancellationDetails(p *params, sub object) (err error) {
	details := fields(sub["cancellation_details"])
	if p.has("comment") {
		details["comment"] = optional(p.str("comment"))
	}
	if p.has("feedback") {
		feedback, err := p.oneOf("feedback", feedbacks...)
		if err != nil {
			return err
		}
		details["feedback"] = optional(feedback)
	}
	return nil
}

// listSubscriptions leaves out canceled ones unless they are asked for (docs.stripe.com/api/subscriptions/list).
func (s *Server) listSubscriptions(c *call) (object, error) {
	customer, price, clock := c.p.str("customer"), c.p.str("price"), c.p.str("test_clock")
	status, err := c.p.oneOf("status", "", "active", "all", "canceled", "ended", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid")
	if err != nil {
		return nil, err
	}
	q := query{kind: "subscription"}
	switch {
	case customer != "":
		if _, err := c.load("customer", customer, "customer"); err != nil {
			return nil, err
		}
		q.field, q.value = "customer", customer
	case clock != "":
		q.field, q.value = "test_clock", clock
	case status != "" && status != "all" && status != "ended":
		q.field, q.value = "status", status
	}
	return c.list(q, func(o object) bool {
		fits := status == "all" || status == "" && o["status"] != "canceled" || status == "ended" && ended(o) || o["status"] == status
		return fits && (customer != "" || text(o["test_clock"]) == clock) && (price == "" ||
			slices.ContainsFunc(itemsOf(o), func(v any) bool { return fields(fields(v)["price"])["id"] == price }))
	})
}

// listItems is GET /v1/subscription_items.
func (s *Server) listItems(c *call) (object, error) {
	id, err := c.p.required("subscription")
	if err != nil {
		return nil, err
	}
	sub, err := c.load("subscription", id, "subscription")
	if err != nil {
		return nil, err
	}
	if _, err := c.p.between("limit", 10, 1, 100); err != nil { // a subscription of the double has fewer items than a page
		return nil, err
	}
	return inline(itemsOf(sub), "/v1/subscription_items"), nil
}

// updateSubscription is POST /v1/subscriptions/{id}.
func (s *Server) updateSubscription(c *call) (object, error) {
	sub, err := c.path("subscription")
	if err != nil {
		return nil, err
	}
	if sub["status"] == "incomplete_expired" {
		return nil, coded("resource_missing", "id", "No such subscription: '%s'", text(sub["id"]))
	}
	if sub["status"] == "canceled" {
		return nil, invalid("", "A canceled subscription can only update its cancellation_details and metadata.")
	}
	if err := automatic(c.p); err != nil {
		return nil, err
	}
	r, err := s.revisionParams(c, sub, "")
	if err != nil {
		return nil, err
	}
	if r.behavior == "pending_if_incomplete" {
		if param := c.p.first("metadata", "default_payment_method", "cancel_at_period_end", "cancel_at", "pause_collection", "description", "coupon",
			"promotion_code", "trial_settings", "payment_settings", "cancellation_details"); param != "" {
			return nil, invalid("payment_behavior", "When `payment_behavior` is set to `pending_if_incomplete`, you cannot set `%s`.", param)
		}
	}
	if err := s.plainParams(c, sub); err != nil {
		return nil, err
	}
	if !r.changes {
		return sub, s.saveSubscription(c.tx, sub, "customer.subscription.updated")
	}
	if _, err := s.revise(c.tx, sub, r, false); err != nil {
		return nil, err
	}
	return c.path("subscription")
}

// plainParams reads what changes nothing about the money.
func (s *Server) plainParams(c *call, sub object) error {
	if c.p.has("description") {
		sub["description"] = optional(c.p.str("description"))
	}
	sub["metadata"] = c.p.metadata(sub["metadata"])
	if c.p.has("default_payment_method") {
		id := c.p.str("default_payment_method")
		if id != "" {
			if _, err := s.methodOf(c.tx, id, text(sub["customer"]), "default_payment_method"); err != nil {
				return err
			}
		}
		sub["default_payment_method"] = optional(id)
	}
	missing, err := missingParam(c.p, text(fields(fields(sub["trial_settings"])["end_behavior"])["missing_payment_method"]))
	if err != nil {
		return err
	}
	sub["trial_settings"] = map[string]any{"end_behavior": map[string]any{"missing_payment_method": missing}}
	settings := fields(sub["payment_settings"])
	saves, err := settingsParam(c.p, settings["save_default_payment_method"] == "on_subscription")
	if err != nil {
		return err
	}
	settings["save_default_payment_method"] = map[bool]string{true: "on_subscription", false: "off"}[saves]
	if err := pauseParams(c, sub); err != nil {
		return err
	}
	if d, err := s.discountParams(c, text(sub["customer"]), text(sub["id"])); err != nil {
		return err
	} else if d != nil {
		sub["discount"] = d
		if err := s.emit(c.tx, "customer.discount.created", fields(d)); err != nil {
			return err
		}
	} else if c.p.has("coupon") && sub["discount"] != nil {
		if _, err := s.dropDiscount(c.tx, sub); err != nil {
			return err
		}
	}
	_, err = s.cancelParams(c, sub)
	return err
}

// pauseParams reads pause_collection; empty resumes.
func pauseParams(c *call, sub object) error {
	if c.p.has("pause_collection") {
		if c.p.str("pause_collection") != "" {
			return invalid("pause_collection", "Invalid object")
		}
		sub["pause_collection"] = nil
		return nil
	}
	p := c.p.sub("pause_collection")
	if p == nil {
		return nil
	}
	if _, err := p.required("behavior"); err != nil {
		return err
	}
	behavior, err := p.oneOf("behavior", "keep_as_draft", "mark_uncollectible", "void")
	if err != nil {
		return err
	}
	at, err := p.timestamp("resumes_at", 0)
	if err != nil {
		return err
	}
	if at != 0 && at <= c.tx.unix() {
		return invalid(p.key("resumes_at"), "Invalid timestamp: must be an integer Unix timestamp in the future.")
	}
	sub["pause_collection"] = map[string]any{"behavior": behavior, "resumes_at": moment(at)}
	return nil
}

// cancelSubscription is DELETE /v1/subscriptions/{id}.
func (s *Server) cancelSubscription(c *call) (object, error) {
	sub, err := c.path("subscription")
	if err != nil {
		return nil, err
	}
	if ended(sub) {
		return nil, noSuch("subscription", text(sub["id"]), "id")
	}
	if details := c.p.sub("cancellation_details"); details != nil {
		if err := cancellationDetails(details, sub); err != nil {
			return nil, err
		}
	}
	prorate, err := c.p.boolean("prorate", false)
	if err != nil {
		return nil, err
	}
	bill, err := c.p.boolean("invoice_now", false)
	if err != nil {
		return nil, err
	}
	customer, err := loadCustomer(c.tx, text(sub["customer"]), "customer")
	if err != nil {
		return nil, err
	}
	if prorate && prorates(sub) {
		if err := s.prorate(c.tx, customer, sub, itemsOf(sub), nil, c.tx.unix()); err != nil {
			return nil, err
		}
	}
	var final object
	if bill {
		items, err := s.pendingItems(c.tx, customer, sub, text(sub["currency"]))
		if err != nil {
			return nil, err
		}
		if len(items) > 0 {
			if final, err = s.draft(c.tx, customer, sub, "manual", items, nil); err != nil {
				return nil, err
			}
			sub["latest_invoice"] = final["id"]
		}
	}
	if err := s.end(c.tx, sub, "cancellation_requested"); err != nil || final == nil {
		return sub, err
	}
	if final, err = c.load("invoice", text(final["id"]), "invoice"); err != nil {
		return nil, err
	}
	if err := s.finalize(c.tx, final); err != nil || final["status"] != "open" {
		return sub, err
	}
	pm, err := s.defaultMethod(c.tx, customer, sub)
	if err != nil {
		return nil, err
	}
	_, err = s.collect(c.tx, final, pm, attempt{}, false)
	return sub, err
}

// resumeSubscription is POST /v1/subscriptions/{id}/resume: of one that is paused.
func (s *Server) resumeSubscription(c *call) (object, error) {
	sub, err := c.path("subscription")
	if err != nil {
		return nil, err
	}
	anchor, err := c.p.oneOf("billing_cycle_anchor", "now", "unchanged")
	if err != nil {
		return nil, err
	}
	if _, err := c.p.oneOf("proration_behavior", prorations...); err != nil {
		return nil, err
	}
	if _, err := c.p.timestamp("proration_date", 0); err != nil {
		return nil, err
	}
	if anchor != "now" {
		return nil, unsupported("billing_cycle_anchor", "resuming without a new billing cycle")
	}
	if sub["status"] != "paused" {
		return nil, invalid("", "Subscription %s is not in a state that can be resumed: it is %s.", text(sub["id"]), text(sub["status"]))
	}
	customer, err := loadCustomer(c.tx, text(sub["customer"]), "customer")
	if err != nil {
		return nil, err
	}
	pm, err := s.defaultMethod(c.tx, customer, sub)
	if err != nil {
		return nil, err
	}
	if pm == nil {
		return nil, noMethod()
	}
	sub["billing_cycle_anchor"], sub["current_period_end"] = c.tx.unix(), c.tx.unix()
	s.nextPeriod(sub)
	inv, err := s.renewalInvoice(c.tx, customer, sub, "subscription_cycle")
	if err != nil {
		return nil, err
	}
	inv["_resumes"] = true
	sub["latest_invoice"] = inv["id"]
	if err := s.saveSubscription(c.tx, sub, "customer.subscription.updated"); err != nil {
		return nil, err
	}
	if err := s.finalize(c.tx, inv); err != nil {
		return nil, err
	}
	if inv["status"] == "open" {
		if _, err := s.collect(c.tx, inv, pm, attempt{}, false); err != nil {
			return nil, err
		}
	}
	return c.path("subscription")
}

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

// subscriptionSession is for subscribing on the hosted page.
func (s *Server) subscriptionSession(c *call, o object) error {
	data := map[string]any{"metadata": map[string]any{}, "description": nil, "missing": "create_invoice", "trial_days": 0, "trial_end": 0}
	if p := c.p.sub("subscription_data"); p != nil {
		data["metadata"], data["description"] = p.metadata(nil), optional(p.str("description"))
		if _, err := trialParams(c.tx, p); err != nil {
			return err
		}
		// The days count from when the session is completed.
		days, err := p.integer("trial_period_days", 0)
		if err != nil {
			return err
		}
		end, err := p.timestamp("trial_end", 0)
		if err != nil {
			return err
		}
		if end != 0 && end < c.tx.now.AddDate(0, 0, 2).Unix() {
			return invalid(p.key("trial_end"), "The `trial_end` date has to be at least 2 days in the future.")
		}
		data["trial_days"], data["trial_end"] = days, end
		if data["missing"], err = missingParam(p, "create_invoice"); err != nil {
			return err
		}
		if _, err := p.oneOf("proration_behavior", prorations...); err != nil {
			return err
		}
	}
	o["_subscription"] = data
	var err error
	if o["payment_method_collection"], err = c.p.oneOf("payment_method_collection", "always", "if_required"); err != nil {
		return err
	}
	for _, param := range []string{"payment_intent_data", "submit_type", "customer_creation"} {
		if c.p.has(param) || c.p.sub(param) != nil {
			return invalid(param, "You can not pass `%s` in `subscription` mode.", param)
		}
	}
	if err := s.lineItemsOf(c, o); err != nil {
		return err
	}
	var items []any
	for i, v := range elements(o["_line_items"]) {
		item := fields(v)
		price := fields(item["price"])
		if price["type"] != "recurring" {
			return unsupported("line_items["+itoa(int64(i))+"][price]", "one-time prices in subscription mode")
		}
		items = append(items, map[string]any{"price": map[string]any(price)})
		if number(data["trial_days"]) != 0 || number(data["trial_end"]) != 0 {
			item["amount_subtotal"], item["amount_total"], item["amount_discount"] = 0, 0, 0
			o["amount_subtotal"] = 0
		}
	}
	if err := sameTerms(items); err != nil {
		if e, ok := err.(*apiError); ok { //nolint:errorlint // made in the line above
			e.Param = "line_items"
		}
		return err
	}
	return totalSession(c.tx, o)
}

// subscribeSession makes the subscription of a session whose card was taken. pm is nil when none was needed.
func (s *Server) subscribeSession(tx *work, o, pm object, authenticated bool) error {
	if text(o["customer"]) == "" {
		if err := s.customerOfSession(tx, o); err != nil {
			return err
		}
	}
	customer, err := loadCustomer(tx, text(o["customer"]), "customer")
	if err != nil {
		return err
	}
	data := fields(o["_subscription"])
	u := signup{customer: customer, metadata: data["metadata"], description: data["description"], missing: text(data["missing"]), trialEnd: number(data["trial_end"]),
		behavior: "error_if_incomplete", discount: fields(o["_discount"]), how: attempt{authenticated: authenticated}}
	if days := number(data["trial_days"]); days > 0 {
		u.trialEnd = tx.now.AddDate(0, 0, int(days)).Unix()
	}
	for _, v := range elements(o["_line_items"]) {
		item := fields(v)
		u.items = append(u.items, newItemOf(tx, fields(item["price"]), number(item["quantity"]), nil, map[string]any{}))
	}
	if pm != nil {
		if err := s.attach(tx, pm, text(customer["id"])); err != nil {
			return err
		}
		u.method = text(pm["id"])
	}
	sub, refused, err := s.subscribe(tx, u)
	if err != nil {
		return err
	}
	if refused != nil {
		return refused
	}
	o["subscription"], o["invoice"] = sub["id"], sub["latest_invoice"]
	return nil
}

// first returns the first of the parameters that was sent, with whatever is below it.
func (p *params) first(names ...string) string {
	for _, name := range names {
		if p.has(name) {
			return name
		}
		for full := range p.values {
			if strings.HasPrefix(full, p.key(name)+"[") {
				return name
			}
		}
	}
	return ""
}

// deleteSubscriptionDiscount is DELETE /v1/subscriptions/{id}/discount.
func (s *Server) deleteSubscriptionDiscount(c *call) (object, error) {
	sub, err := c.path("subscription")
	if err != nil {
		return nil, err
	}
	return s.dropDiscount(c.tx, sub)
}
