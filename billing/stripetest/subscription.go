package stripetest

import "net/http"

// ended tells that a subscription is over for good.
func ended(sub object) bool {
	return sub["status"] == "canceled" || sub["status"] == "incomplete_expired"
}

// planOf is the older form of a recurring price, which subscriptions and lines still carry.
func planOf(price object) any {
	r := fields(price["recurring"])
	if len(r) == 0 {
		return nil
	}
	return map[string]any{"id": price["id"], "object": "plan", "active": price["active"], "aggregate_usage": nil, "amount": price["unit_amount"],
		"amount_decimal": price["unit_amount_decimal"], "billing_scheme": "per_unit", "created": price["created"], "currency": price["currency"],
		"interval": r["interval"], "interval_count": r["interval_count"], "livemode": false, "metadata": price["metadata"], "nickname": price["nickname"],
		"product": price["product"], "tiers_mode": nil, "transform_usage": nil, "trial_period_days": nil, "usage_type": "licensed"}
}

// signup is what a subscription begins with.
type signup struct {
	customer object
	items    []any
	// trialEnd is 0 without a trial.
	trialEnd    int64
	metadata    any
	description any
	method      string
	discount    object
	// missing is what happens when a trial ends without a payment method.
	missing string
	// behavior is payment_behavior.
	behavior string
	saveCard bool
	how      attempt
}

func (s *Server) newSubscription(tx *work, u signup) object {
	id, now := newID("sub"), tx.unix()
	for _, item := range u.items {
		fields(item)["subscription"] = id
	}
	price := fields(fields(u.items[0])["price"])
	end, anchor, status := periodOf(price).after(tx.now, tx.now).Unix(), now, "incomplete"
	if cost(u.items) == 0 {
		status = "active"
	}
	sub := object{"id": id, "object": "subscription", "application": nil, "application_fee_percent": nil,
		"automatic_tax": map[string]any{"enabled": false}, "billing_thresholds": nil, "cancel_at": nil, "cancel_at_period_end": false, "canceled_at": nil,
		"cancellation_details": map[string]any{"comment": nil, "feedback": nil, "reason": nil}, "collection_method": "charge_automatically", "created": now,
		"currency": price["currency"], "customer": u.customer["id"], "days_until_due": nil, "default_payment_method": optional(u.method),
		"default_source": nil, "default_tax_rates": []any{}, "description": u.description, "discount": nil, "ended_at": nil, "latest_invoice": nil,
		"livemode": false, "metadata": u.metadata, "next_pending_invoice_item_invoice": nil, "on_behalf_of": nil, "pause_collection": nil,
		"payment_settings": map[string]any{"payment_method_options": nil, "payment_method_types": nil,
			"save_default_payment_method": map[bool]string{true: "on_subscription", false: "off"}[u.saveCard]},
		"pending_invoice_item_interval": nil, "pending_setup_intent": nil, "pending_update": nil, "schedule": nil, "start_date": now,
		"test_clock": u.customer["test_clock"], "transfer_data": nil, "trial_end": nil, "trial_start": nil,
		"trial_settings": map[string]any{"end_behavior": map[string]any{"missing_payment_method": u.missing}}}
	if u.trialEnd > 0 {
		end, anchor, status = u.trialEnd, u.trialEnd, "trialing"
		sub["trial_start"], sub["trial_end"] = now, u.trialEnd
	}
	if len(u.discount) > 0 {
		u.discount["subscription"], u.discount["customer"], u.discount["start"] = id, u.customer["id"], now
		sub["discount"] = map[string]any(u.discount)
	}
	sub["status"], sub["billing_cycle_anchor"], sub["current_period_start"], sub["current_period_end"] = status, anchor, now, end
	setItems(sub, u.items)
	return sub
}

// subscribe makes a subscription and its first invoice, and tries to take the money.
func (s *Server) subscribe(tx *work, u signup) (object, *apiError, error) {
	currency := fields(fields(u.items[0])["price"])["currency"]
	if has := text(u.customer["currency"]); has != "" && has != currency {
		return nil, nil, invalid("items", "You cannot combine currencies on a single customer. This customer has an active subscription, subscription schedule, discount, quote, or invoice item with currency %s.", has)
	}
	if u.customer["currency"] == nil {
		u.customer["currency"] = currency
		if err := s.keep(tx, u.customer); err != nil {
			return nil, nil, err
		}
	}
	sub := s.newSubscription(tx, u)
	if err := s.refreshTimer(tx, sub); err != nil {
		return nil, nil, err
	}
	if err := s.save(tx, sub, "customer.subscription.created"); err != nil {
		return nil, nil, err
	}
	if len(u.discount) > 0 {
		if err := s.emit(tx, "customer.discount.created", u.discount); err != nil {
			return nil, nil, err
		}
	}
	if sub["status"] == "trialing" && number(sub["trial_end"])-tx.unix() <= trialNotice {
		sub["_trial_noticed"] = true
		if err := s.save(tx, sub, "customer.subscription.trial_will_end"); err != nil {
			return nil, nil, err
		}
	}
	inv, err := s.firstInvoice(tx, u.customer, sub)
	if err != nil {
		return nil, nil, err
	}
	refused, err := s.payFirst(tx, sub, inv, u)
	if err != nil || refused != nil {
		return nil, refused, err
	}
	sub, err = load(tx, "subscription", text(sub["id"]), "subscription")
	return sub, nil, err
}

// firstInvoice makes and finalizes it.
func (s *Server) firstInvoice(tx *work, customer, sub object) (object, error) {
	items, err := s.pendingItems(tx, customer, sub, text(sub["currency"]))
	if err != nil {
		return nil, err
	}
	lines, err := s.periodLines(tx, sub)
	if err != nil {
		return nil, err
	}
	inv, err := s.draft(tx, customer, sub, "subscription_create", items, lines)
	if err != nil {
		return nil, err
	}
	sub["latest_invoice"] = inv["id"]
	if err := s.keep(tx, sub); err != nil {
		return nil, err
	}
	return inv, s.finalize(tx, inv)
}

// payFirst takes the money of the first invoice, or says why there is no subscription.
func (s *Server) payFirst(tx *work, sub, inv object, u signup) (*apiError, error) {
	if inv["status"] != "open" {
		return nil, nil
	}
	pm, err := s.defaultMethod(tx, u.customer, sub)
	if err != nil {
		return nil, err
	}
	if u.behavior == "default_incomplete" {
		return nil, nil
	}
	if pm == nil {
		return noMethod(), nil
	}
	refused, err := s.collect(tx, inv, pm, u.how, false)
	if err != nil {
		return nil, err
	}
	if u.behavior != "error_if_incomplete" {
		return nil, nil
	}
	return s.strictly(tx, inv, refused)
}

// strictly makes an error of a payment that is not complete, so that nothing stays of what it was for.
func (s *Server) strictly(tx *work, inv object, refused *apiError) (*apiError, error) {
	if refused != nil {
		refused.kept = false
		return refused, nil
	}
	pi, err := load(tx, "payment_intent", text(inv["payment_intent"]), "payment_intent")
	if err == nil && pi["status"] == "requires_action" {
		return &apiError{status: http.StatusPaymentRequired, Type: "card_error", Code: "subscription_payment_intent_requires_action",
			Message: "Payment for this subscription requires additional user action before it can be completed successfully. Payment can be completed using the PaymentIntent associated with subscription.latest_invoice."}, nil
	}
	return nil, err
}

// How long before its end a trial is announced, in seconds.
const trialNotice = 3 * 24 * 3600

// saveSubscription sets the timer, and saves.
func (s *Server) saveSubscription(tx *work, sub object, event string) error {
	if err := s.refreshTimer(tx, sub); err != nil {
		return err
	}
	return s.save(tx, sub, event)
}

// end cancels a subscription now.
func (s *Server) end(tx *work, sub object, reason string) error {
	if fields(sub["pending_update"])["expires_at"] != nil {
		if err := s.dropUpdate(tx, sub); err != nil {
			return err
		}
	}
	sub["status"], sub["ended_at"] = "canceled", tx.unix()
	if sub["canceled_at"] == nil {
		sub["canceled_at"] = tx.unix()
	}
	details := fields(sub["cancellation_details"])
	if details["reason"] == nil || reason == "payment_failed" {
		details["reason"] = reason
	}
	if id := text(sub["schedule"]); id != "" {
		schedule, err := load(tx, "subscription_schedule", id, "schedule")
		if err != nil {
			return err
		}
		if err := s.endSchedule(tx, schedule, "canceled"); err != nil {
			return err
		}
	}
	if err := s.stopInvoices(tx, sub); err != nil {
		return err
	}
	return s.saveSubscription(tx, sub, "customer.subscription.deleted")
}
