package stripetest

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

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

// setItems gives a subscription its items, and what it shows of a single one.
func setItems(sub object, items []any) {
	sub["items"] = inline(items, "/v1/subscription_items?subscription="+text(sub["id"]))
	sub["plan"], sub["quantity"] = nil, nil
	ids := make([]any, len(items))
	for i, v := range items {
		ids[i] = fields(v)["id"]
	}
	sub["_item_ids"] = ids
	if len(items) == 1 {
		item := fields(items[0])
		sub["plan"], sub["quantity"] = item["plan"], item["quantity"]
	}
}

func itemsOf(sub object) []any { return elements(fields(sub["items"])["data"]) }

func newItemOf(tx *work, price object, quantity int64, subscription any, metadata any) map[string]any {
	return map[string]any{"id": newID("si")[:17], "object": "subscription_item", "billing_thresholds": nil, "created": tx.unix(), "metadata": metadata,
		"plan": planOf(price), "price": map[string]any(price), "quantity": quantity, "subscription": subscription, "tax_rates": []any{}}
}

// itemParams makes the items that a subscription shall have of those it has and what was sent
// (docs.stripe.com/api/subscriptions/update#update_subscription-items).
func (s *Server) itemParams(c *call, given []*params, current []any, subscription any) ([]any, error) {
	items := slices.Clone(current)
	for _, p := range given {
		id, at := p.str("id"), -1
		if id != "" {
			if at = slices.IndexFunc(items, func(v any) bool { return fields(v)["id"] == id }); at < 0 {
				return nil, noSuch("subscription_item", id, p.key("id"))
			}
		}
		deleted, err := p.boolean("deleted", false)
		if err != nil {
			return nil, err
		}
		if deleted {
			if at < 0 {
				return nil, missing(p.key("id"))
			}
			items = slices.Delete(items, at, at+1)
			continue
		}
		item := map[string]any{}
		if at >= 0 {
			copied, err := copyOf(fields(items[at]))
			if err != nil {
				return nil, err
			}
			item = copied
		}
		if err := s.itemParam(c, p, item, subscription); err != nil {
			return nil, err
		}
		price := fields(item["price"])["id"]
		if slices.IndexFunc(items, func(v any) bool { return fields(fields(v)["price"])["id"] == price && fields(v)["id"] != id }) >= 0 {
			return nil, invalid(p.key("price"), "Cannot add multiple subscription items with the same plan: %v", price)
		}
		if at >= 0 {
			items[at] = item
		} else {
			items = append(items, item)
		}
	}
	return items, sameTerms(items)
}

// itemParam reads one item into item, which is empty for a new one.
func (s *Server) itemParam(c *call, p *params, item map[string]any, subscription any) error {
	if p.sub("price_data") != nil {
		return unsupported(p.key("price_data"), "prices made along with a subscription; make the price first")
	}
	id := p.str("price")
	if id == "" {
		id = p.str("plan")
	}
	quantity, err := p.between("quantity", 1, 0, 999999)
	if err != nil {
		return err
	}
	switch {
	case id == "" && item["id"] == nil:
		return missing(p.key("price"))
	case id != "":
		price, err := c.load("price", id, p.key("price"))
		if err != nil {
			return err
		}
		if price["type"] != "recurring" {
			return invalid(p.key("price"), "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.")
		}
		if price["active"] != true && fields(item["price"])["id"] != id {
			return coded("price_inactive", p.key("price"), "The price specified is inactive. This field only accepts active prices.")
		}
		if item["id"] == nil {
			maps.Copy(item, newItemOf(c.tx, price, quantity, subscription, map[string]any{}))
		}
		item["price"], item["plan"] = map[string]any(price), planOf(price)
	}
	if p.has("quantity") {
		item["quantity"] = quantity
	}
	item["metadata"] = p.metadata(item["metadata"])
	return nil
}

// sameTerms refuses items of several currencies or periods.
func sameTerms(items []any) error {
	if len(items) == 0 {
		return invalid("items", "A subscription must have at least one active plan.")
	}
	first := fields(fields(items[0])["price"])
	for _, item := range items[1:] {
		price := fields(fields(item)["price"])
		if price["currency"] != first["currency"] {
			return invalid("items", "All prices on a subscription must have the same `currency`.")
		}
		if periodOf(price) != periodOf(first) {
			return invalid("items", "All prices on a subscription must have the same `recurring.interval` and `recurring.interval_count`. If you meant to update an existing subscription item instead of creating a new one, make sure to include the subscription item ID in the request.")
		}
	}
	return nil
}

func cost(items []any) (total int64) {
	for _, item := range items {
		total += number(fields(fields(item)["price"])["unit_amount"]) * number(fields(item)["quantity"])
	}
	return total
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

// periodLines are the lines of a subscription's current period.
func (s *Server) periodLines(tx *work, sub object) ([]any, error) {
	var lines []any
	trial := sub["status"] == "trialing"
	for _, v := range itemsOf(sub) {
		item := fields(v)
		price, quantity := fields(item["price"]), number(item["quantity"])
		name, err := s.nameOf(tx, price)
		if err != nil {
			return nil, err
		}
		each, total := number(price["unit_amount"]), number(price["unit_amount"])*quantity
		description := itoa(quantity) + " × " + name + " (at " + amount(each, text(price["currency"])) + " / " + text(fields(price["recurring"])["interval"]) + ")"
		if trial {
			total, description = 0, "Trial period for "+name
		}
		l := line(total, text(sub["currency"]), description, number(sub["current_period_start"]), number(sub["current_period_end"]), item["price"], quantity)
		l["type"], l["subscription"], l["subscription_item"], l["metadata"] = "subscription", sub["id"], item["id"], sub["metadata"]
		lines = append(lines, l)
	}
	return lines, nil
}

// nameOf is what a line calls a price: its product.
func (s *Server) nameOf(tx *work, price object) (string, error) {
	product, err := load(tx, "product", text(price["product"]), "product")
	return text(product["name"]), err
}

// How long before its end a trial is announced, in seconds.
const trialNotice = 3 * 24 * 3600

// refreshTimer sets when a subscription wants to be looked at next.
func (s *Server) refreshTimer(tx *work, sub object) error {
	next := int64(0)
	sooner := func(at any) {
		if t := number(at); t != 0 && (next == 0 || t < next) {
			next = t
		}
	}
	switch sub["status"] {
	case "canceled", "incomplete_expired":
		tx.wait(sub, 0)
		return nil
	case "incomplete":
		sooner(number(sub["created"]) + int64(pendingLife.Seconds()))
	case "paused":
		sooner(sub["cancel_at"])
	case "trialing":
		if sub["_trial_noticed"] != true {
			sooner(number(sub["trial_end"]) - trialNotice)
		}
		fallthrough
	default:
		sooner(sub["current_period_end"])
		sooner(sub["cancel_at"])
		sooner(fields(sub["pause_collection"])["resumes_at"])
		sooner(fields(sub["pending_update"])["expires_at"])
		if id := text(sub["schedule"]); id != "" {
			schedule, err := load(tx, "subscription_schedule", id, "schedule")
			if err != nil {
				return err
			}
			sooner(fields(schedule["current_phase"])["end_date"])
		}
	}
	tx.wait(sub, next)
	return nil
}

// saveSubscription sets the timer, and saves.
func (s *Server) saveSubscription(tx *work, sub object, event string) error {
	if err := s.refreshTimer(tx, sub); err != nil {
		return err
	}
	return s.save(tx, sub, event)
}

// tickSubscription does the one thing that is due first.
func (s *Server) tickSubscription(tx *work, sub object) error {
	now := tx.unix()
	due := func(at any) bool { return number(at) != 0 && number(at) <= now }
	switch {
	case sub["status"] == "incomplete":
		return s.expireFirst(tx, sub)
	case due(fields(sub["pending_update"])["expires_at"]):
		return s.expireUpdate(tx, sub)
	case due(fields(sub["pause_collection"])["resumes_at"]):
		sub["pause_collection"] = nil
		return s.saveSubscription(tx, sub, "customer.subscription.updated")
	case sub["status"] == "trialing" && sub["_trial_noticed"] != true:
		sub["_trial_noticed"] = true
		return s.saveSubscription(tx, sub, "customer.subscription.trial_will_end")
	case due(sub["cancel_at"]):
		return s.end(tx, sub, "cancellation_requested")
	}
	if text(sub["schedule"]) != "" {
		done, err := s.tickSchedule(tx, sub)
		if done || err != nil {
			return err
		}
	}
	if due(sub["current_period_end"]) {
		return s.renew(tx, sub)
	}
	if err := s.refreshTimer(tx, sub); err != nil {
		return err
	}
	return s.keep(tx, sub)
}

// expireFirst ends a subscription whose first payment did not come in time.
func (s *Server) expireFirst(tx *work, sub object) error {
	inv, err := load(tx, "invoice", text(sub["latest_invoice"]), "invoice")
	if err != nil {
		return err
	}
	sub["status"], sub["ended_at"], sub["canceled_at"] = "incomplete_expired", tx.unix(), tx.unix()
	if err := s.saveSubscription(tx, sub, "customer.subscription.updated"); err != nil {
		return err
	}
	return s.void(tx, inv)
}

// renew begins the next period, after a trial too.
func (s *Server) renew(tx *work, sub object) error {
	customer, err := load(tx, "customer", text(sub["customer"]), "customer")
	if err != nil {
		return err
	}
	if sub["status"] == "trialing" {
		going, err := s.endTrial(tx, sub, customer)
		if !going || err != nil {
			return err
		}
	}
	from, to := number(sub["current_period_start"]), number(sub["current_period_end"])
	s.nextPeriod(sub)
	inv, err := s.renewalInvoice(tx, customer, sub, "subscription_cycle")
	if err != nil {
		return err
	}
	inv["period_start"], inv["period_end"] = from, to
	if err := s.keep(tx, inv); err != nil {
		return err
	}
	sub["latest_invoice"] = inv["id"]
	if err := s.saveSubscription(tx, sub, "customer.subscription.updated"); err != nil {
		return err
	}
	return s.schedulePayment(tx, sub, inv)
}

// nextPeriod moves a subscription to the period that follows.
func (s *Server) nextPeriod(sub object) {
	start := time.Unix(number(sub["current_period_end"]), 0).UTC()
	p := periodOf(fields(fields(itemsOf(sub)[0])["price"]))
	sub["current_period_start"] = start.Unix()
	sub["current_period_end"] = p.after(time.Unix(number(sub["billing_cycle_anchor"]), 0).UTC(), start).Unix()
}

// renewalInvoice is the draft of a period, with what waits for it. It may use up the subscription's discount.
func (s *Server) renewalInvoice(tx *work, customer, sub object, reason string) (object, error) {
	items, err := s.pendingItems(tx, customer, sub, text(sub["currency"]))
	if err != nil {
		return nil, err
	}
	lines, err := s.periodLines(tx, sub)
	if err != nil {
		return nil, err
	}
	return s.draft(tx, customer, sub, reason, items, lines)
}

// schedulePayment says when a renewal's draft is finalized and paid, if it is.
func (s *Server) schedulePayment(tx *work, sub, inv object) error {
	behavior := text(fields(sub["pause_collection"])["behavior"])
	switch {
	case behavior == "void" || behavior == "mark_uncollectible":
		if err := s.finalize(tx, inv); err != nil {
			return err
		}
		if inv["status"] == "paid" {
			return nil
		}
		if behavior == "void" {
			return s.void(tx, inv)
		}
		return s.giveUp(tx, inv)
	case behavior == "keep_as_draft" || sub["status"] == "unpaid":
		inv["auto_advance"] = false
	default:
		at := tx.now.Add(draftTime).Unix()
		inv["next_payment_attempt"] = at
		tx.wait(inv, at)
	}
	return s.keep(tx, inv)
}

// endTrial makes a trial a paid subscription; going is false when it was canceled or paused instead.
func (s *Server) endTrial(tx *work, sub, customer object) (going bool, err error) {
	pm, err := s.defaultMethod(tx, customer, sub)
	if err != nil {
		return false, err
	}
	behavior := text(fields(fields(sub["trial_settings"])["end_behavior"])["missing_payment_method"])
	switch {
	case pm == nil && behavior == "cancel":
		return false, s.end(tx, sub, "cancellation_requested")
	case pm == nil && behavior == "pause":
		sub["status"] = "paused"
		return false, s.saveSubscription(tx, sub, "customer.subscription.paused")
	}
	sub["status"] = "active"
	return true, nil
}

// subscriptionPaid does for a subscription what a paid invoice of it brings.
func (s *Server) subscriptionPaid(tx *work, inv object) error {
	id := text(inv["subscription"])
	if id == "" || inv["_update"] == "now" {
		return nil
	}
	sub, err := load(tx, "subscription", id, "subscription")
	if err != nil || ended(sub) {
		return err
	}
	if inv["_update"] == "pending" {
		return s.applyUpdate(tx, sub)
	}
	if err := s.saveCard(tx, sub, inv); err != nil {
		return err
	}
	switch status := text(sub["status"]); {
	case status == "incomplete", status == "paused" && inv["_resumes"] == true:
		sub["status"] = "active"
	case (status == "past_due" || status == "unpaid") && sub["latest_invoice"] == inv["id"]:
		sub["status"] = "active"
	default:
		return s.keep(tx, sub)
	}
	if inv["_resumes"] == true {
		return s.saveSubscription(tx, sub, "customer.subscription.resumed")
	}
	return s.saveSubscription(tx, sub, "customer.subscription.updated")
}

// saveCard makes what paid the default of a subscription that asks for it.
func (s *Server) saveCard(tx *work, sub, inv object) error {
	if fields(sub["payment_settings"])["save_default_payment_method"] != "on_subscription" || text(inv["payment_intent"]) == "" {
		return nil
	}
	pi, err := load(tx, "payment_intent", text(inv["payment_intent"]), "payment_intent")
	if err != nil || text(pi["payment_method"]) == "" {
		return err
	}
	sub["default_payment_method"] = pi["payment_method"]
	return nil
}

// subscriptionUnpaid does for a subscription what an invoice that is not paid brings; last says that no more attempts follow.
func (s *Server) subscriptionUnpaid(tx *work, inv object, last bool) error {
	id := text(inv["subscription"])
	if id == "" || text(inv["_update"]) != "" || inv["billing_reason"] == "subscription_create" {
		return nil
	}
	sub, err := load(tx, "subscription", id, "subscription")
	if err != nil || ended(sub) || sub["status"] == "paused" {
		return err
	}
	if last {
		switch s.cfg.AfterRetries {
		case AfterRetriesCancel:
			return s.end(tx, sub, "payment_failed")
		case AfterRetriesUnpaid:
			sub["status"] = "unpaid"
			return s.saveSubscription(tx, sub, "customer.subscription.updated")
		}
	}
	if sub["status"] == "past_due" || sub["status"] == "unpaid" {
		return nil
	}
	sub["status"] = "past_due"
	return s.saveSubscription(tx, sub, "customer.subscription.updated")
}

// subscriptionVoided does for a subscription what voiding an invoice of it brings.
func (s *Server) subscriptionVoided(tx *work, inv object) error {
	id := text(inv["subscription"])
	if id == "" {
		return nil
	}
	sub, err := load(tx, "subscription", id, "subscription")
	if err != nil || ended(sub) {
		return err
	}
	switch {
	case inv["_update"] == "pending":
		sub["pending_update"], sub["_next"] = nil, nil
	case sub["status"] == "incomplete":
		sub["status"], sub["ended_at"], sub["canceled_at"] = "incomplete_expired", tx.unix(), tx.unix()
	case (sub["status"] == "past_due" || sub["status"] == "unpaid") && sub["latest_invoice"] == inv["id"]:
		sub["status"] = "active"
	default:
		return nil
	}
	return s.saveSubscription(tx, sub, "customer.subscription.updated")
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

// stopInvoices ends the automatic collection of what a subscription has open.
func (s *Server) stopInvoices(tx *work, sub object) error {
	invoices, err := all(tx, query{kind: "invoice", field: "subscription", value: text(sub["id"])})
	if err != nil {
		return err
	}
	for _, inv := range invoices {
		if inv["status"] != "draft" && inv["status"] != "open" {
			continue
		}
		inv["auto_advance"], inv["next_payment_attempt"] = false, nil
		tx.wait(inv, 0)
		if err := s.save(tx, inv, "invoice.updated"); err != nil {
			return err
		}
	}
	return nil
}
