package stripetest

import (
	"slices"
	"time"
)

const scheduleKind = "subscription_schedule"

// createSchedule is POST /v1/subscription_schedules with from_subscription: the subscription's current period becomes the
// first phase (docs.stripe.com/billing/subscriptions/subscription-schedules).
func (s *Server) createSchedule(c *call) (object, error) {
	id := c.p.str("from_subscription")
	if id == "" {
		return nil, unsupported("customer", "schedules that begin a subscription; use from_subscription")
	}
	sub, err := c.load("subscription", id, "from_subscription")
	if err != nil {
		return nil, err
	}
	switch {
	case ended(sub):
		return nil, invalid("from_subscription", "You cannot migrate a subscription that is already in a terminal state: canceled, incomplete_expired.")
	case text(sub["schedule"]) != "":
		return nil, invalid("from_subscription", "You cannot migrate a subscription that is already attached to a schedule: %s.", text(sub["schedule"]))
	}
	var items []any
	for _, v := range itemsOf(sub) {
		item := fields(v)
		items = append(items, phaseItem(text(fields(item["price"])["id"]), number(item["quantity"])))
	}
	start, end := sub["current_period_start"], sub["current_period_end"]
	o := object{"id": newID("sub_sched"), "object": scheduleKind, "application": nil, "canceled_at": nil, "completed_at": nil, "created": c.tx.unix(),
		"current_phase": map[string]any{"start_date": start, "end_date": end}, "customer": sub["customer"],
		"default_settings": map[string]any{"billing_cycle_anchor": "automatic", "collection_method": "charge_automatically",
			"default_payment_method": nil, "description": nil},
		"end_behavior": "release", "livemode": false, "metadata": c.p.metadata(nil),
		"phases":      []any{phaseOf(items, number(start), number(end), text(sub["currency"]), "create_prorations")},
		"released_at": nil, "released_subscription": nil, "status": "active", "subscription": id, "test_clock": sub["test_clock"]}
	if err := s.save(c.tx, o, "subscription_schedule.created"); err != nil {
		return nil, err
	}
	sub["schedule"] = o["id"]
	return o, s.saveSubscription(c.tx, sub, "customer.subscription.updated")
}

func phaseItem(price string, quantity int64) map[string]any {
	return map[string]any{"billing_thresholds": nil, "metadata": map[string]any{}, "plan": price, "price": price, "quantity": quantity, "tax_rates": []any{}}
}

func phaseOf(items []any, start, end int64, currency, prorate string) map[string]any {
	return map[string]any{"add_invoice_items": []any{}, "application_fee_percent": nil, "billing_cycle_anchor": nil, "collection_method": nil, "coupon": nil,
		"currency": currency, "default_payment_method": nil, "description": nil, "end_date": end, "items": items, "metadata": map[string]any{},
		"proration_behavior": prorate, "start_date": start, "trial_end": nil}
}

// updateSchedule is POST /v1/subscription_schedules/{id}: the phases are replaced.
func (s *Server) updateSchedule(c *call) (object, error) {
	o, sub, err := s.liveSchedule(c, "update")
	if err != nil {
		return nil, err
	}
	if o["end_behavior"], err = c.p.oneOf("end_behavior", text(o["end_behavior"]), "cancel", "release"); err != nil {
		return nil, err
	}
	prorate, err := c.p.oneOf("proration_behavior", prorations...)
	if err != nil {
		return nil, err
	}
	o["metadata"] = c.p.metadata(o["metadata"])
	if given := c.p.items("phases"); len(given) > 0 {
		if err := s.phaseParams(c, o, given); err != nil {
			return nil, err
		}
	}
	if err := s.save(c.tx, o, "subscription_schedule.updated"); err != nil {
		return nil, err
	}
	current := fields(elements(o["phases"])[s.phaseAt(c.tx, o)])
	items, err := s.phaseItems(c.tx, sub, current)
	if err != nil {
		return nil, err
	}
	if gone, come := difference(itemsOf(sub), items); len(gone)+len(come) == 0 {
		return o, s.saveSubscription(c.tx, sub, "customer.subscription.updated")
	}
	_, err = s.revise(c.tx, sub, revision{items: items, date: c.tx.unix(), prorate: prorate}, false)
	return o, err
}

// liveSchedule returns the path's schedule, which must be active, and its subscription.
func (s *Server) liveSchedule(c *call, action string) (o, sub object, err error) {
	if o, err = c.path(scheduleKind); err != nil {
		return nil, nil, err
	}
	if o["status"] != "active" {
		return nil, nil, invalid("", "You cannot %s a subscription schedule that is currently in the `%s` status.", action, text(o["status"]))
	}
	sub, err = c.load("subscription", text(o["subscription"]), "subscription")
	return o, sub, err
}

// phaseParams reads the phases, which follow each other without a gap from the current one on.
func (s *Server) phaseParams(c *call, o object, given []*params) error {
	var phases []any
	at := number(fields(o["current_phase"])["start_date"])
	for i, p := range given {
		if begins := p.str("start_date"); begins == "now" {
			at = c.tx.unix()
		} else if start, err := p.timestamp("start_date", at); err != nil {
			return err
		} else if start != at {
			return invalid(p.key("start_date"), "You can not modify the start date of the current phase, and phases follow each other without a gap.")
		}
		items, first, err := s.phaseItemParams(c, p)
		if err != nil {
			return err
		}
		prorate, err := p.oneOf("proration_behavior", prorations...)
		if err != nil {
			return err
		}
		end, err := p.timestamp("end_date", 0)
		if err != nil {
			return err
		}
		count, err := p.between("iterations", 0, 1, 100)
		switch {
		case err != nil:
			return err
		case end != 0 && count != 0:
			return invalid(p.key("iterations"), "You may only specify one of these parameters: end_date, iterations.")
		case end == 0 && count == 0 && i < len(given)-1:
			return missing(p.key("end_date"))
		case end == 0:
			at := unixTime(at)
			for range max(count, 1) {
				at = periodOf(first).after(at, at)
			}
			end = at.Unix()
		case end <= at:
			return invalid(p.key("end_date"), "The end date must be after the start date of the phase.")
		}
		phase := phaseOf(items, at, end, text(first["currency"]), prorate)
		phase["metadata"] = p.metadata(nil)
		phases = append(phases, phase)
		at = end
	}
	o["phases"] = phases
	current := s.phaseAt(c.tx, o)
	o["current_phase"] = map[string]any{"start_date": fields(phases[current])["start_date"], "end_date": fields(phases[current])["end_date"]}
	return nil
}

func (s *Server) phaseItemParams(c *call, p *params) (items []any, first object, err error) {
	given := p.items("items")
	if len(given) == 0 {
		return nil, nil, missing(p.key("items"))
	}
	parsed, err := s.itemParams(c, given, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	for _, v := range parsed {
		item := fields(v)
		items = append(items, phaseItem(text(fields(item["price"])["id"]), number(item["quantity"])))
	}
	return items, fields(fields(parsed[0])["price"]), nil
}

// phaseAt is the index of the phase that is current.
func (s *Server) phaseAt(tx *work, o object) int {
	phases := elements(o["phases"])
	i := slices.IndexFunc(phases, func(v any) bool { return tx.unix() < number(fields(v)["end_date"]) })
	if i < 0 {
		i = len(phases) - 1
	}
	return i
}

// phaseItems are the items that a phase gives a subscription; an item of the same price stays the same.
func (s *Server) phaseItems(tx *work, sub, phase object) ([]any, error) {
	current := itemsOf(sub)
	var items []any
	for i, v := range elements(phase["items"]) {
		wanted := fields(v)
		price, err := load(tx, "price", text(wanted["price"]), "price")
		if err != nil {
			return nil, err
		}
		item := newItemOf(tx, price, number(wanted["quantity"]), sub["id"], map[string]any{})
		if i < len(current) { // the item lives on with another price, as one that is updated does
			item["id"], item["created"] = fields(current[i])["id"], fields(current[i])["created"]
		}
		items = append(items, item)
	}
	return items, nil
}

// tickSchedule begins the next phase when the current one is over; done says that nothing is left to do now.
func (s *Server) tickSchedule(tx *work, sub object) (done bool, err error) {
	o, err := load(tx, scheduleKind, text(sub["schedule"]), "schedule")
	if err != nil {
		return false, err
	}
	over := number(fields(o["current_phase"])["end_date"])
	if over > tx.unix() {
		return false, nil
	}
	phases := elements(o["phases"])
	i := slices.IndexFunc(phases, func(v any) bool { return number(fields(v)["start_date"]) >= over })
	if i < 0 {
		sub["schedule"] = nil
		if o["end_behavior"] == "cancel" {
			if err := s.endSchedule(tx, o, "completed"); err != nil {
				return false, err
			}
			return true, s.end(tx, sub, "cancellation_requested")
		}
		return false, s.endSchedule(tx, o, "released")
	}
	phase := fields(phases[i])
	o["current_phase"] = map[string]any{"start_date": phase["start_date"], "end_date": phase["end_date"]}
	if err := s.save(tx, o, "subscription_schedule.updated"); err != nil {
		return false, err
	}
	items, err := s.phaseItems(tx, sub, phase)
	if err != nil {
		return false, err
	}
	if number(sub["current_period_end"]) > over {
		_, err := s.revise(tx, sub, revision{items: items, date: over, prorate: text(phase["proration_behavior"])}, false)
		return true, err
	}
	was := periodOf(fields(fields(itemsOf(sub)[0])["price"]))
	setItems(sub, items)
	if is := periodOf(fields(fields(items[0])["price"])); is != was {
		sub["billing_cycle_anchor"] = over
	}
	return false, nil
}

// endSchedule ends a schedule: completed, canceled or released.
func (s *Server) endSchedule(tx *work, o object, status string) error {
	o["status"], o["current_phase"] = status, nil
	switch status {
	case "completed":
		o["completed_at"] = tx.unix()
	case "canceled":
		o["canceled_at"] = tx.unix()
	case "released":
		o["released_at"], o["released_subscription"], o["subscription"] = tx.unix(), o["subscription"], nil
	}
	return s.save(tx, o, "subscription_schedule."+status)
}

// releaseSchedule is POST /v1/subscription_schedules/{id}/release: the subscription goes on as it is.
func (s *Server) releaseSchedule(c *call) (object, error) {
	o, sub, err := s.liveSchedule(c, "release")
	if err != nil {
		return nil, err
	}
	if _, err := c.p.boolean("preserve_cancel_date", false); err != nil {
		return nil, err
	}
	if err := s.endSchedule(c.tx, o, "released"); err != nil {
		return nil, err
	}
	sub["schedule"] = nil
	return o, s.saveSubscription(c.tx, sub, "customer.subscription.updated")
}

// cancelSchedule is POST /v1/subscription_schedules/{id}/cancel: the subscription ends with it.
func (s *Server) cancelSchedule(c *call) (object, error) {
	o, sub, err := s.liveSchedule(c, "cancel")
	if err != nil {
		return nil, err
	}
	for _, param := range []string{"invoice_now", "prorate"} {
		if v, err := c.p.boolean(param, false); err != nil {
			return nil, err
		} else if v {
			return nil, unsupported(param, "a last invoice of a canceled schedule; cancel the subscription instead")
		}
	}
	if err := s.end(c.tx, sub, "cancellation_requested"); err != nil {
		return nil, err
	}
	return c.load(scheduleKind, text(o["id"]), "id")
}

// Retries of an invoice that was not paid, unless [Config.Retries] says otherwise: after 3, 5 and 7 days.
var defaultRetries = []time.Duration{3 * 24 * time.Hour, 5 * 24 * time.Hour, 7 * 24 * time.Hour}

// AfterRetries is what becomes of a subscription when the last retry has failed.
type AfterRetries string

// The choices of Stripe's Dashboard.
const (
	AfterRetriesCancel  AfterRetries = "cancel"
	AfterRetriesUnpaid  AfterRetries = "unpaid"
	AfterRetriesPastDue AfterRetries = "past_due"
)
