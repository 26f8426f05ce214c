package stripetest

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

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

// sessionDiscount reads discounts and allow_promotion_codes, and sets the totals.
func (s *Server) sessionDiscount(c *call, o object) error {
	given := c.p.items("discounts")
	allow, err := c.p.boolean("allow_promotion_codes", false)
	if err != nil {
		return err
	}
	if c.p.has("allow_promotion_codes") {
		if len(given) > 0 {
			return invalid("allow_promotion_codes", "You may only specify one of these parameters: allow_promotion_codes, discounts.")
		}
		o["allow_promotion_codes"] = allow
	}
	if len(given) > 1 {
		return invalid("discounts", "You may pass at most one discount.")
	}
	for _, p := range given {
		coupon, promotion := p.str("coupon"), p.str("promotion_code")
		if coupon == "" && promotion == "" {
			return missing("discounts[0][coupon]")
		}
		d, err := s.newDiscount(c.tx, coupon, promotion, text(o["customer"]), "discounts[0]")
		if err != nil {
			return err
		}
		o["_discount"] = map[string]any(d)
	}
	return totalSession(c.tx, o)
}

// totalSession works out what a session costs: the discount is shared among the items by their amounts.
func totalSession(tx *work, o object) error {
	subtotal, items := number(o["amount_subtotal"]), elements(o["_line_items"])
	off := discounted(fields(o["_discount"]), subtotal, text(o["currency"]), tx.now)
	left := off
	for i, item := range items {
		line := fields(item)
		amount := number(line["amount_subtotal"])
		share := left
		if i < len(items)-1 {
			share = 0
			if subtotal > 0 {
				share = min(left, off*amount/subtotal)
			}
		}
		left -= share
		line["amount_discount"], line["amount_total"] = share, amount-share
	}
	total := subtotal - off
	o["amount_total"] = total
	fields(o["total_details"])["amount_discount"] = off
	if o["mode"] == "payment" && total != 0 && total < minimumCharge {
		return coded("amount_too_small", "", "The Checkout Session's total amount due must add up to at least 0.50.")
	}
	return nil
}

// ApplyPromotionCode enters a code on a session's page, which [stripe.CheckoutSessionParams.AllowPromotionCodes] must
// allow. An empty code takes it away again.
func (s *Server) ApplyPromotionCode(ctx context.Context, session, code string) error {
	return s.do(ctx, func(tx *work) error {
		o, err := load(tx, "checkout.session", session, "id")
		if err != nil {
			return err
		}
		if o["status"] != "open" {
			return wrongState("The session is %s.", text(o["status"]))
		}
		if o["allow_promotion_codes"] != true {
			return wrongState("The session takes no promotion codes.")
		}
		o["_discount"] = nil
		if code != "" {
			promotion, err := s.findPromotion(tx, strings.TrimSpace(code))
			if err != nil {
				return err
			}
			if promotion == nil {
				return coded("resource_missing", "code", "This code is invalid.")
			}
			least := number(fields(promotion["restrictions"])["minimum_amount"])
			if number(o["amount_subtotal"]) < least {
				return coded("promotion_code_minimum_amount", "code", "This code needs a larger order.")
			}
			d, err := s.newDiscount(tx, "", text(promotion["id"]), text(o["customer"]), "")
			if err != nil {
				return err
			}
			o["_discount"] = map[string]any(d)
		}
		if err := totalSession(tx, o); err != nil {
			return err
		}
		return s.keep(tx, o)
	})
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

// Pay completes a checkout session as a person does on the hosted page. It returns the URL that the person is sent to,
// or an error: a card that is declined leaves the session open. Where the card asks for 3-D Secure, the person passes it
// unless card says otherwise.
func (s *Server) Pay(ctx context.Context, session string, card Card) (next string, err error) {
	var refused *apiError
	err = s.do(ctx, func(tx *work) error {
		o, err := load(tx, "checkout.session", session, "session")
		if err != nil {
			return err
		}
		var waits bool
		if next, waits, refused, err = s.paySession(tx, o, card); err != nil || !waits {
			return err
		}
		if card.FailAuthentication {
			refused = &apiError{status: http.StatusPaymentRequired, Type: "card_error", Code: "payment_intent_authentication_failure",
				Message: "We are unable to authenticate your payment method. Please choose a different payment method and try again."}
		}
		next, err = s.resumeSession(tx, o, !card.FailAuthentication)
		return err
	})
	if err == nil && refused != nil {
		err = refused
	}
	if err != nil {
		return "", err
	}
	return next, nil
}

func doneURL(session object) string {
	return strings.ReplaceAll(text(session["success_url"]), "{CHECKOUT_SESSION_ID}", text(session["id"]))
}

// paySession tries a card on an open session. waits says that 3-D Secure comes next, at the returned page.
func (s *Server) paySession(tx *work, o object, card Card) (next string, waits bool, refused *apiError, err error) {
	if o["status"] != "open" {
		return "", false, nil, wrongState("The session is %s.", text(o["status"]))
	}
	card.Number = digits(card.Number)
	if card.Number == "" && !needsCard(o) {
		return doneURL(o), false, nil, s.finishSession(tx, o, nil, card, false)
	}
	t, err := traitOf(card.Number, "number")
	if err != nil {
		return "", false, nil, err
	}
	pm := s.newMethod(tx, card.Number, 12, int64(tx.now.Year()+3), billingDetails(payerEmail(o, card), card.Name))
	if err := s.keep(tx, pm); err != nil {
		return "", false, nil, err
	}
	o["_payer"] = map[string]any{"email": card.Email, "name": card.Name, "number": card.Number}
	switch o["mode"] {
	case "payment":
		waits, refused, err = s.payOnce(tx, o, pm, attempt{returnURL: doneURL(o)})
	case "setup":
		si, err2 := load(tx, "setup_intent", text(o["setup_intent"]), "setup_intent")
		if err2 != nil {
			return "", false, nil, err2
		}
		refused, err = s.setUp(tx, si, pm, attempt{returnURL: doneURL(o)})
		waits = si["status"] == "requires_action"
	case "subscription":
		// Nothing of the subscription exists until the card is taken.
		waits = t.authenticate
		if t.code != "" && (number(o["amount_total"]) > 0 || t.unsaved) {
			refused = t.refusal()
		}
	}
	switch {
	case err != nil:
		return "", false, nil, err
	case refused != nil || waits:
		o["_waiting"] = nil
		if waits {
			o["_waiting"] = pm["id"]
		}
		return s.cfg.BaseURL + "/authenticate/" + text(o["id"]), waits, refused, s.keep(tx, o)
	}
	return doneURL(o), false, nil, s.finishSession(tx, o, pm, card, false)
}

// needsCard tells whether a session asks for a card at all.
func needsCard(o object) bool {
	switch o["mode"] {
	case "payment":
		return number(o["amount_total"]) > 0
	case "subscription":
		return number(o["amount_total"]) > 0 || o["payment_method_collection"] == "always"
	}
	return true
}

func payerEmail(session object, card Card) string {
	if card.Email != "" {
		return card.Email
	}
	return text(fields(session["customer_details"])["email"])
}

// payOnce tries to take the money of a session in payment mode.
func (s *Server) payOnce(tx *work, o, pm object, how attempt) (waits bool, refused *apiError, err error) {
	if number(o["amount_total"]) == 0 {
		return false, nil, nil
	}
	pi, err := s.intentOf(tx, o)
	if err != nil {
		return false, nil, err
	}
	refused, err = s.charge(tx, pi, pm, how)
	return pi["status"] == "requires_action", refused, err
}

// intentOf returns the session's payment intent, made at the first attempt.
func (s *Server) intentOf(tx *work, session object) (object, error) {
	if id := text(session["payment_intent"]); id != "" {
		pi, err := load(tx, "payment_intent", id, "payment_intent")
		if err == nil {
			pi["amount"] = session["amount_total"] // a promotion code may have come
		}
		return pi, err
	}
	pi := s.newIntent(tx, number(session["amount_total"]), text(session["currency"]), session["customer"])
	maps.Copy(pi, fields(session["_intent"]))
	pi["_session"], session["payment_intent"] = session["id"], pi["id"]
	return pi, s.save(tx, pi, "payment_intent.created")
}

// resumeSession goes on with a session after 3-D Secure and returns where the person is sent.
func (s *Server) resumeSession(tx *work, o object, succeed bool) (string, error) {
	if o["status"] != "open" {
		return "", wrongState("The session is %s.", text(o["status"]))
	}
	pm, err := load(tx, "payment_method", text(o["_waiting"]), "payment_method")
	if err != nil {
		return "", err
	}
	o["_waiting"] = nil
	payer := fields(o["_payer"])
	card := Card{Number: text(payer["number"]), Email: text(payer["email"]), Name: text(payer["name"])}
	switch o["mode"] {
	case "payment":
		pi, err := load(tx, "payment_intent", text(o["payment_intent"]), "payment_intent")
		if err != nil {
			return "", err
		}
		if err := s.resumeIntent(tx, pi, succeed); err != nil {
			return "", err
		}
	case "setup":
		si, err := load(tx, "setup_intent", text(o["setup_intent"]), "setup_intent")
		if err != nil {
			return "", err
		}
		if err := s.resumeSetup(tx, si, succeed); err != nil {
			return "", err
		}
	}
	if !succeed {
		return text(o["url"]), s.keep(tx, o)
	}
	return doneURL(o), s.finishSession(tx, o, pm, card, true)
}

// finishSession completes a session whose card was taken, or that needs none.
func (s *Server) finishSession(tx *work, o, pm object, card Card, authenticated bool) error {
	details := fields(o["customer_details"])
	if card.Email != "" {
		details["email"] = card.Email
	}
	if card.Name != "" {
		details["name"] = card.Name
	}
	if d := fields(o["_discount"]); len(d) > 0 {
		if err := s.redeem(tx, d); err != nil {
			return err
		}
	}
	status := "paid"
	switch {
	case o["mode"] == "setup":
		status = "no_payment_required"
	case o["mode"] == "subscription":
		if err := s.subscribeSession(tx, o, pm, authenticated); err != nil {
			return err
		}
		if number(o["amount_total"]) == 0 {
			status = "no_payment_required"
		} else if card.Number == Delayed {
			status = "unpaid"
		}
	case number(o["amount_total"]) == 0:
		status = "no_payment_required"
	case card.Number == Delayed:
		status = "unpaid"
	}
	if o["mode"] == "payment" && o["customer_creation"] == "always" && text(o["customer"]) == "" {
		if err := s.customerOfSession(tx, o); err != nil {
			return err
		}
	}
	o["status"], o["payment_status"], o["url"] = "complete", status, nil
	tx.wait(o, 0)
	return s.save(tx, o, "checkout.session.completed")
}

// customerOfSession makes the customer of a session that has none.
func (s *Server) customerOfSession(tx *work, o object) error {
	details, customer := fields(o["customer_details"]), s.newCustomer(tx)
	customer["email"], customer["name"] = details["email"], details["name"]
	o["customer"] = customer["id"]
	if err := s.save(tx, customer, "customer.created"); err != nil {
		return err
	}
	if id := text(o["payment_intent"]); id != "" {
		pi, err := load(tx, "payment_intent", id, "payment_intent")
		if err != nil {
			return err
		}
		pi["customer"] = customer["id"]
		return s.keep(tx, pi)
	}
	return nil
}

// SettleDelayed ends the wait for the money of a session, or of a payment intent without one, that was paid with [Delayed]:
// it comes, or it does not.
func (s *Server) SettleDelayed(ctx context.Context, session string, succeeded bool) error {
	return s.do(ctx, func(tx *work) error {
		if strings.HasPrefix(session, "pi_") {
			pi, err := load(tx, "payment_intent", session, "id")
			if err != nil {
				return err
			}
			return s.settleIntent(tx, pi, succeeded)
		}
		o, err := load(tx, "checkout.session", session, "session")
		if err != nil {
			return err
		}
		intent := text(o["payment_intent"])
		if id := text(o["subscription"]); id != "" {
			sub, err := load(tx, "subscription", id, "subscription")
			if err != nil {
				return err
			}
			invoice, err := load(tx, "invoice", text(sub["latest_invoice"]), "invoice")
			if err != nil {
				return err
			}
			intent = text(invoice["payment_intent"])
		}
		pi, err := load(tx, "payment_intent", intent, "payment_intent")
		if err != nil {
			return err
		}
		if err := s.settleIntent(tx, pi, succeeded); err != nil {
			return err
		}
		if !succeeded {
			return s.save(tx, o, "checkout.session.async_payment_failed")
		}
		o["payment_status"] = "paid"
		return s.save(tx, o, "checkout.session.async_payment_succeeded")
	})
}

// settleIntent ends the wait of a payment intent that is processing.
func (s *Server) settleIntent(tx *work, pi object, succeeded bool) error {
	if pi["status"] != "processing" {
		return wrongState("The payment is %s and waits for nothing.", text(pi["status"]))
	}
	charge, err := load(tx, "charge", text(pi["latest_charge"]), "charge")
	if err != nil {
		return err
	}
	if succeeded {
		err = s.succeed(tx, pi, charge)
	} else {
		refused := &apiError{status: http.StatusPaymentRequired, Type: "card_error", Code: "payment_method_bank_account_closed", DeclineCode: "generic_decline",
			Message: "The bank refused the payment."}
		_, err = s.failIntent(tx, pi, charge, refused)
	}
	if err != nil {
		return err
	}
	return s.settleInvoice(tx, pi)
}
