package stripetest

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// How long a session stays open, and the bounds of expires_at (docs.stripe.com/api/checkout/sessions/create).
const (
	sessionLife    = 24 * time.Hour
	minSessionLife = 30 * time.Minute
)

// createSession is POST /v1/checkout/sessions.
func (s *Server) createSession(c *call) (object, error) {
	mode, err := c.p.required("mode")
	if err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"payment", "setup", "subscription"}, mode) {
		return nil, invalid("mode", "Invalid mode: must be one of payment, setup, or subscription")
	}
	success, cancel, err := sessionURLs(c.p)
	if err != nil {
		return nil, err
	}
	customer, email := c.p.str("customer"), c.p.str("customer_email")
	if customer != "" {
		if email != "" {
			return nil, invalid("customer_email", "You may only specify one of these parameters: customer, customer_email.")
		}
		o, err := loadCustomer(c.tx, customer, "customer")
		if err != nil {
			return nil, err
		}
		email = text(o["email"])
	}
	id := "cs_test_" + secret() + secret()
	o := object{"id": id, "object": "checkout.session", "after_expiration": nil, "allow_promotion_codes": nil, "amount_subtotal": nil, "amount_total": nil,
		"cancel_url": optional(cancel), "client_reference_id": optional(c.p.str("client_reference_id")), "consent": nil, "created": c.tx.unix(),
		"currency": nil, "currency_conversion": nil, "custom_fields": []any{}, "customer": optional(customer), "customer_creation": nil,
		"customer_details": map[string]any{"address": nil, "email": optional(email), "name": nil, "phone": nil, "tax_exempt": "none", "tax_ids": nil},
		"customer_email":   nil, "invoice": nil, "invoice_creation": nil, "livemode": false, "locale": optional(c.p.str("locale")), "metadata": c.p.metadata(nil),
		"mode": mode, "payment_intent": nil, "payment_link": nil, "payment_method_collection": "always", "payment_method_types": []any{"card"},
		"payment_status": "unpaid", "setup_intent": nil, "shipping_details": nil, "status": "open", "submit_type": nil, "subscription": nil,
		"success_url": success, "total_details": map[string]any{"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0}, "ui_mode": "hosted",
		"url": s.cfg.BaseURL + "/checkout/" + id}
	if customer == "" {
		o["customer_email"] = optional(email)
	}
	if err := s.sessionOptions(c, o); err != nil {
		return nil, err
	}
	expires, err := c.p.timestamp("expires_at", c.tx.now.Add(sessionLife).Unix())
	if err != nil {
		return nil, err
	}
	if at := time.Unix(expires, 0); at.Before(c.tx.now.Add(minSessionLife-time.Second)) || at.After(c.tx.now.Add(sessionLife+time.Second)) {
		return nil, invalid("expires_at", "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.")
	}
	o["expires_at"] = expires
	switch mode {
	case "setup":
		err = s.setupSession(c, o)
	case "payment":
		err = s.paymentSession(c, o)
	case "subscription":
		err = s.subscriptionSession(c, o)
	}
	if err != nil {
		return nil, err
	}
	c.tx.wait(o, expires)
	// Stripe sends no event when a session is made.
	return o, s.keep(c.tx, o)
}

func sessionURLs(p *params) (success, cancel string, err error) {
	if mode := p.str("ui_mode"); mode != "" && mode != "hosted" {
		return "", "", unsupported("ui_mode", "checkout pages that are "+mode)
	}
	if success, err = p.required("success_url"); err != nil {
		return "", "", err
	}
	cancel = p.str("cancel_url")
	for _, param := range []string{"success_url", "cancel_url"} {
		u := p.str(param)
		if parsed, err := url.Parse(strings.ReplaceAll(u, "{CHECKOUT_SESSION_ID}", "x")); u != "" && (err != nil || parsed.Host == "" || !strings.HasPrefix(parsed.Scheme, "http")) {
			return "", "", coded("url_invalid", param, "Not a valid URL")
		}
	}
	return success, cancel, nil
}

// sessionOptions reads what all modes have in common and what changes nothing about the money: the double knows no taxes.
func (s *Server) sessionOptions(c *call, o object) (err error) {
	automatic := false
	if tax := c.p.sub("automatic_tax"); tax != nil {
		if automatic, err = tax.boolean("enabled", false); err != nil {
			return err
		}
	}
	o["automatic_tax"] = map[string]any{"enabled": automatic, "liability": nil, "status": nil}
	if automatic {
		o["automatic_tax"] = map[string]any{"enabled": true, "liability": map[string]any{"type": "self"}, "status": "complete"}
	}
	if o["billing_address_collection"], err = c.p.oneOf("billing_address_collection", "auto", "required"); err != nil {
		return err
	}
	for field, inner := range map[string][]string{"customer_update": {"address", "name", "shipping"}, "tax_id_collection": {"enabled"}, "phone_number_collection": {"enabled"}} {
		if p := c.p.sub(field); p != nil {
			for _, name := range inner {
				p.str(name)
			}
		}
	}
	if c.p.sub("customer_update") != nil && text(o["customer"]) == "" {
		return invalid("customer_update", "`customer_update` can only be used with `customer`.")
	}
	if types := c.p.strings("payment_method_types"); len(types) > 0 {
		for i, t := range types {
			if t != "card" && t != "us_bank_account" {
				return unsupported("payment_method_types["+itoa(int64(i))+"]", "payment methods of type "+t)
			}
		}
		o["payment_method_types"] = anys(types)
	}
	return nil
}

// setupSession is for saving a card.
func (s *Server) setupSession(c *call, o object) error {
	if len(c.p.items("line_items")) > 0 {
		return invalid("line_items", "You can not pass `line_items` in `setup` mode.")
	}
	currency := c.p.str("currency")
	if currency == "" && !c.p.has("payment_method_types[0]") {
		return missing("currency")
	}
	o["currency"], o["payment_status"] = optional(currency), "no_payment_required"
	si := s.newSetup(c.tx, o["customer"])
	if data := c.p.sub("setup_intent_data"); data != nil {
		si["metadata"], si["description"] = data.metadata(nil), optional(data.str("description"))
	}
	si["_session"], o["setup_intent"] = o["id"], si["id"]
	return s.save(c.tx, si, "setup_intent.created")
}

// paymentSession is for paying once.
func (s *Server) paymentSession(c *call, o object) error {
	if err := s.lineItemsOf(c, o); err != nil {
		return err
	}
	creation, err := c.p.oneOf("customer_creation", "if_required", "always")
	if err != nil {
		return err
	}
	if c.p.has("customer_creation") && text(o["customer"]) != "" {
		return invalid("customer_creation", "You may only specify one of these parameters: customer, customer_creation.")
	}
	if text(o["customer"]) == "" {
		o["customer_creation"] = creation
	}
	submit, err := c.p.oneOf("submit_type", "", "auto", "book", "donate", "pay")
	if err != nil {
		return err
	}
	o["submit_type"] = optional(submit)
	if creation := c.p.sub("invoice_creation"); creation != nil {
		enabled, err := creation.boolean("enabled", false)
		if err != nil {
			return err
		}
		if enabled {
			return unsupported("invoice_creation", "invoices of one-time payments")
		}
	}
	intent := map[string]any{}
	if data := c.p.sub("payment_intent_data"); data != nil {
		intent["metadata"] = data.metadata(nil)
		for _, field := range []string{"description", "receipt_email", "statement_descriptor"} {
			intent[field] = optional(data.str(field))
		}
		usage, err := data.oneOf("setup_future_usage", "", "on_session", "off_session")
		if err != nil {
			return err
		}
		intent["setup_future_usage"] = optional(usage)
		if method, err := data.oneOf("capture_method", "automatic", "automatic_async", "manual"); err != nil {
			return err
		} else if method == "manual" {
			return unsupported(data.key("capture_method"), "payments that are captured later")
		}
	}
	o["_intent"] = intent
	return nil
}

// lineItemsOf reads the line items, each of a price that exists or of price_data, and the discount.
func (s *Server) lineItemsOf(c *call, o object) error {
	given := c.p.items("line_items")
	if len(given) == 0 {
		return missing("line_items")
	}
	items, total, currency, recurring := []any{}, int64(0), "", 0
	for _, item := range given {
		price, err := s.linePrice(c, item)
		if err != nil {
			return err
		}
		if price["type"] == "recurring" {
			recurring++
		}
		if price["type"] == "recurring" && o["mode"] == "payment" {
			return invalid(item.key("price"), "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use only one-time prices.")
		}
		if currency == "" {
			currency = text(price["currency"])
		} else if currency != text(price["currency"]) {
			return invalid(item.key("price"), "All prices of a session must have the same currency.")
		}
		quantity, err := item.between("quantity", 0, 1, 999999)
		if err != nil {
			return err
		}
		if quantity == 0 {
			return missing(item.key("quantity"))
		}
		product, err := c.load("product", text(price["product"]), item.key("price"))
		if err != nil {
			return err
		}
		amount := number(price["unit_amount"]) * quantity
		total += amount
		items = append(items, map[string]any{"id": newID("li"), "object": "item", "amount_discount": 0, "amount_subtotal": amount, "amount_tax": 0,
			"amount_total": amount, "currency": currency, "description": product["name"], "price": map[string]any(price), "quantity": quantity})
	}
	if o["mode"] == "subscription" && recurring == 0 {
		return invalid("line_items", "You must provide at least one recurring price in `subscription` mode when using prices.")
	}
	if asked := c.p.str("currency"); asked != "" && asked != currency {
		return invalid("currency", "The prices of the line items are not in %s.", asked)
	}
	o["_line_items"], o["currency"], o["amount_subtotal"] = items, currency, total
	return s.sessionDiscount(c, o)
}

// linePrice is the price of a line item; price_data makes one.
func (s *Server) linePrice(c *call, item *params) (object, error) {
	data, id := item.sub("price_data"), item.str("price")
	switch {
	case id != "" && data != nil:
		return nil, invalid(item.key("price_data"), "You may only specify one of these parameters: price, price_data.")
	case id != "":
		price, err := c.load("price", id, item.key("price"))
		if err != nil {
			return nil, err
		}
		if price["active"] != true {
			return nil, coded("price_inactive", item.key("price"), "The price specified is inactive. This field only accepts active prices.")
		}
		return price, nil
	case data == nil:
		return nil, missing(item.key("price"))
	}
	product, made := data.str("product"), data.sub("product_data")
	var err error
	switch {
	case made != nil:
		product, err = s.productOf(c.tx, made)
	case product == "":
		err = missing(data.key("product"))
	default:
		_, err = c.load("product", product, data.key("product"))
	}
	if err != nil {
		return nil, err
	}
	price, err := s.newPrice(c.tx, product, data)
	if err != nil {
		return nil, err
	}
	price["active"] = false // not for others (docs.stripe.com/products-prices/pricing-models#inline-prices)
	return price, s.save(c.tx, price, "price.created")
}

func lineItems(session object, items any) map[string]any {
	return inline(elements(items), "/v1/checkout/sessions/"+text(session["id"])+"/line_items")
}

func (s *Server) listLineItems(c *call) (object, error) {
	o, err := c.path("checkout.session")
	if err != nil {
		return nil, err
	}
	if _, err := c.p.between("limit", 10, 1, 100); err != nil { // a session of the double has fewer items than a page
		return nil, err
	}
	return lineItems(o, o["_line_items"]), nil
}

func (s *Server) expireSession(c *call) (object, error) {
	o, err := c.path("checkout.session")
	if err != nil {
		return nil, err
	}
	if o["status"] != "open" {
		return nil, wrongState("Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of %s.", text(o["status"]))
	}
	return o, s.expire(c.tx, o)
}

func (s *Server) expire(tx *work, o object) error {
	o["status"], o["url"] = "expired", nil
	tx.wait(o, 0)
	return s.save(tx, o, "checkout.session.expired")
}
