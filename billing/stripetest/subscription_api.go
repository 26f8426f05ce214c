package stripetest

import "slices"

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
