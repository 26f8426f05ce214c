package stripetest

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
