package stripetest

import (
	"reflect"
	"time"
)

// revision is a change of what a subscription costs, and when.
type revision struct {
	// changes is false when nothing of this was sent.
	changes bool
	items   []any
	// date is from when unused and remaining time count.
	date int64
	// prorate is proration_behavior, behavior payment_behavior.
	prorate, behavior string
	// reset begins a new period now.
	reset bool
	// trialEnd is a new end of the trial; 0: unchanged, now: it ends.
	trialEnd int64
	how      attempt
}

// revisionParams reads a change. prefix is of the parameters' names in previews.
func (s *Server) revisionParams(c *call, sub object, prefix string) (r revision, err error) {
	r.items = itemsOf(sub)
	given := c.p.items(prefix + "items")
	if len(given) > 0 {
		if r.items, err = s.itemParams(c, given, r.items, sub["id"]); err != nil {
			return r, err
		}
		r.changes = !reflect.DeepEqual(r.items, itemsOf(sub))
	}
	if r.prorate, err = c.p.oneOf(prefix+"proration_behavior", prorations...); err != nil {
		return r, err
	}
	date, err := c.p.timestamp(prefix+"proration_date", c.tx.unix())
	if err != nil {
		return r, err
	}
	if c.p.has(prefix+"proration_date") && (date < number(sub["current_period_start"]) || date > number(sub["current_period_end"])) {
		return r, invalid(prefix+"proration_date", "Invalid proration date: it must be within the current period.")
	}
	r.date = date
	if prefix == "" {
		if r.behavior, err = c.p.oneOf("payment_behavior", "allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"); err != nil {
			return r, err
		}
		if r.how.offSession, err = offSession(c.p); err != nil {
			return r, err
		}
	}
	anchor, err := c.p.oneOf(prefix+"billing_cycle_anchor", "unchanged", "now")
	if err != nil {
		return r, err
	}
	if r.reset = anchor == "now"; r.reset {
		r.changes = true
	}
	if !c.p.has(prefix + "trial_end") {
		return r, nil
	}
	r.changes = true
	if c.p.str(prefix+"trial_end") == "now" {
		r.trialEnd = c.tx.unix()
		return r, nil
	}
	if r.trialEnd, err = c.p.timestamp(prefix+"trial_end", 0); err == nil && r.trialEnd <= c.tx.unix() {
		err = invalid(prefix+"trial_end", "Invalid timestamp: must be an integer Unix timestamp in the future.")
	}
	return r, err
}

// prorates tells whether a subscription has paid for its period, so that a change of it is worth something.
func prorates(sub object) bool { return sub["status"] == "active" || sub["status"] == "past_due" }

// prorate makes the items of a change: a credit for the unused time of what goes, a charge for the remaining time of what
// comes (docs.stripe.com/billing/subscriptions/prorations). As Stripe's, the credit supposes that the old price was paid.
func (s *Server) prorate(tx *work, customer, sub object, gone, come []any, date int64) error {
	start, end := number(sub["current_period_start"]), number(sub["current_period_end"])
	if end <= date {
		return nil
	}
	when := unixTime(date).Format("2 Jan 2006")
	item := func(v any, sign int64, what string) error {
		item := fields(v)
		price, quantity := fields(item["price"]), number(item["quantity"])
		name, err := s.nameOf(tx, price)
		if err != nil {
			return err
		}
		worth := share(number(price["unit_amount"])*quantity, end-date, end-start)
		worth = sign * (worth - percentOff(fields(sub["discount"]), worth, text(sub["currency"]), tx.now))
		if worth == 0 {
			return nil
		}
		o := s.newItem(tx, customer, sub, worth, text(sub["currency"]), what+" time on "+name+" after "+when, date, end, item["price"], quantity)
		o["proration"], o["discountable"], o["_subscription_item"] = true, false, item["id"]
		return s.save(tx, o, "invoiceitem.created")
	}
	for _, v := range gone {
		if err := item(v, -1, "Unused"); err != nil {
			return err
		}
	}
	for _, v := range come {
		if err := item(v, 1, "Remaining"); err != nil {
			return err
		}
	}
	return nil
}

// percentOff is what a percentage takes off a proration; an amount off is for whole periods only.
func percentOff(d object, worth int64, currency string, at time.Time) int64 {
	if _, ok := fields(d["coupon"])["percent_off"].(float64); !ok {
		return 0
	}
	return discounted(d, worth, currency, at)
}

// difference are the items that go and those that come.
func difference(old, next []any) (gone, come []any) {
	same := func(a, b any) bool {
		return fields(a)["id"] == fields(b)["id"] && fields(fields(a)["price"])["id"] == fields(fields(b)["price"])["id"] &&
			number(fields(a)["quantity"]) == number(fields(b)["quantity"])
	}
	lacks := func(list []any, v any) bool {
		for _, other := range list {
			if same(v, other) {
				return false
			}
		}
		return true
	}
	for _, v := range old {
		if lacks(next, v) {
			gone = append(gone, v)
		}
	}
	for _, v := range next {
		if lacks(old, v) {
			come = append(come, v)
		}
	}
	return gone, come
}

// revise changes a subscription. The invoice that it makes at once is nil when there is none; a preview returns it before
// it is finalized. The refusal undoes everything.
func (s *Server) revise(tx *work, sub object, r revision, preview bool) (object, error) {
	if sub["status"] == "incomplete" {
		return nil, invalid("", "This subscription is incomplete; its first invoice must be paid before its items can change.")
	}
	if fields(sub["pending_update"])["expires_at"] != nil {
		if err := s.dropUpdate(tx, sub); err != nil {
			return nil, err
		}
	}
	customer, err := loadCustomer(tx, text(sub["customer"]), "customer")
	if err != nil {
		return nil, err
	}
	next, err := copyOf(sub)
	if err != nil {
		return nil, err
	}
	reset, trial := s.reperiod(tx, sub, next, r)
	if prorates(sub) && r.prorate != "none" {
		gone, come := difference(itemsOf(sub), r.items)
		if reset {
			gone, come = itemsOf(sub), nil
		}
		if err := s.prorate(tx, customer, sub, gone, come, r.date); err != nil {
			return nil, err
		}
	}
	items, err := s.pendingItems(tx, customer, sub, text(sub["currency"]))
	if err != nil {
		return nil, err
	}
	if !reset && (r.prorate != "always_invoice" || len(items) == 0) || trial {
		return nil, s.saveSubscription(tx, next, "customer.subscription.updated")
	}
	var lines []any
	if reset {
		if lines, err = s.periodLines(tx, next); err != nil {
			return nil, err
		}
	}
	inv, err := s.draft(tx, customer, next, "subscription_update", items, lines)
	if err != nil || preview {
		return inv, err
	}
	next["latest_invoice"] = inv["id"]
	return inv, s.payRevision(tx, customer, sub, next, inv, r)
}

// reperiod gives next its items and its period. It tells whether a new period begins now, and whether that is a trial.
func (s *Server) reperiod(tx *work, sub, next object, r revision) (reset, trial bool) {
	setItems(next, r.items)
	now := tx.unix()
	was, is := periodOf(fields(fields(itemsOf(sub)[0])["price"])), periodOf(fields(fields(r.items[0])["price"]))
	trialing := sub["status"] == "trialing"
	switch {
	case r.trialEnd > now: // begins, or ends at another time
		next["status"], next["trial_end"], next["current_period_end"], next["billing_cycle_anchor"] = "trialing", r.trialEnd, r.trialEnd, r.trialEnd
		next["_trial_noticed"] = r.trialEnd-now <= trialNotice
		if !trialing {
			next["trial_start"], next["current_period_start"] = now, now
		}
		return false, true
	case trialing && r.trialEnd == 0 && !r.reset:
		return false, true // nothing is paid until the trial ends
	case trialing:
		next["trial_end"], next["status"] = now, "active"
		reset = true
	default:
		reset = r.reset || was != is || cost(itemsOf(sub)) == 0 && cost(r.items) > 0
	}
	if !reset {
		return false, false
	}
	start := tx.now
	next["billing_cycle_anchor"], next["current_period_start"], next["current_period_end"] = start.Unix(), start.Unix(), is.after(start, start).Unix()
	return true, false
}

// payRevision takes the money of a change and makes the change, or does not, as payment_behavior says
// (docs.stripe.com/billing/subscriptions/pending-updates).
func (s *Server) payRevision(tx *work, customer, sub, next, inv object, r revision) error {
	if r.behavior == "pending_if_incomplete" {
		inv["_update"] = "now"
		if err := s.keep(tx, inv); err != nil {
			return err
		}
	} else if err := s.saveSubscription(tx, next, "customer.subscription.updated"); err != nil {
		return err
	}
	if err := s.finalize(tx, inv); err != nil {
		return err
	}
	var refused *apiError
	if inv["status"] == "open" && r.behavior != "default_incomplete" {
		pm, err := s.defaultMethod(tx, customer, next)
		if err != nil {
			return err
		}
		if refused, err = s.collect(tx, inv, pm, r.how, false); err != nil {
			return err
		}
	}
	inv, err := load(tx, "invoice", text(inv["id"]), "invoice")
	if err != nil {
		return err
	}
	waiting := inv["status"] == "open"
	switch r.behavior {
	case "pending_if_incomplete":
		return s.pendRevision(tx, sub, next, inv, r)
	case "error_if_incomplete":
		if !waiting {
			return nil
		}
		refused, err := s.strictly(tx, inv, refused)
		if err == nil && refused != nil {
			err = refused
		}
		return err
	case "default_incomplete":
		if waiting {
			return s.subscriptionUnpaid(tx, inv, false)
		}
	}
	return nil
}

// pendRevision makes a change whose money is there, or keeps it for when it comes.
func (s *Server) pendRevision(tx *work, sub, next, inv object, r revision) error {
	pi := object{}
	if id := text(inv["payment_intent"]); id != "" {
		var err error
		if pi, err = load(tx, "payment_intent", id, "payment_intent"); err != nil {
			return err
		}
	}
	if inv["status"] == "paid" || pi["status"] == "processing" {
		inv["_update"] = nil
		if err := s.keep(tx, inv); err != nil {
			return err
		}
		return s.saveSubscription(tx, next, "customer.subscription.updated")
	}
	inv["_update"] = "pending"
	if err := s.keep(tx, inv); err != nil {
		return err
	}
	expires := min(tx.now.Add(pendingLife).Unix(), number(sub["current_period_end"]))
	sub["latest_invoice"], sub["discount"], sub["_next"] = inv["id"], next["discount"], map[string]any(next)
	sub["pending_update"] = map[string]any{"billing_cycle_anchor": nil, "expires_at": expires, "subscription_items": r.items, "trial_end": moment(r.trialEnd),
		"trial_from_plan": false}
	if next["billing_cycle_anchor"] != sub["billing_cycle_anchor"] {
		fields(sub["pending_update"])["billing_cycle_anchor"] = next["billing_cycle_anchor"]
	}
	return s.saveSubscription(tx, sub, "customer.subscription.updated")
}

// applyUpdate makes a change whose money came later.
func (s *Server) applyUpdate(tx *work, sub object) error {
	next := fields(sub["_next"])
	for _, field := range []string{"items", "_item_ids", "plan", "quantity", "billing_cycle_anchor", "current_period_start", "current_period_end", "status", "trial_end", "trial_start"} {
		sub[field] = next[field]
	}
	sub["pending_update"], sub["_next"] = nil, nil
	if err := s.saveSubscription(tx, sub, "customer.subscription.updated"); err != nil {
		return err
	}
	return s.emit(tx, "customer.subscription.pending_update_applied", sub)
}

// expireUpdate ends the wait for the money of a change.
func (s *Server) expireUpdate(tx *work, sub object) error {
	if err := s.dropUpdate(tx, sub); err != nil {
		return err
	}
	return s.saveSubscription(tx, sub, "customer.subscription.pending_update_expired")
}

// dropUpdate forgets a change that waits for its money.
func (s *Server) dropUpdate(tx *work, sub object) error {
	inv, err := load(tx, "invoice", text(sub["latest_invoice"]), "invoice")
	if err != nil {
		return err
	}
	sub["pending_update"], sub["_next"] = nil, nil
	if inv["_update"] != "pending" || inv["status"] != "open" {
		return nil
	}
	inv["_update"] = "dropped"
	return s.void(tx, inv)
}

func unixTime(at int64) time.Time { return time.Unix(at, 0).UTC() }
