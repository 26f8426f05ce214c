package stripetest

import "time"

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
		sooner(noticeAt(sub))
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
	case due(noticeAt(sub)):
		return s.noticeUpcoming(tx, sub)
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
