package stripetest

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
