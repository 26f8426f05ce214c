package stripetest

import (
	"net/url"
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

// minimumCharge is the least that is charged in one payment, in minor units; Stripe's own depends on the currency.
const minimumCharge = 50

// createSession is POST /v1/checkout/sessions in payment mode.
func (s *Server) createSession(c *call) (object, error) {
	mode, err := c.p.required("mode")
	if err != nil {
		return nil, err
	}
	switch mode {
	case "payment":
	case "subscription", "setup":
		return nil, unsupported("mode", "checkout sessions in "+mode+" mode")
	default:
		return nil, invalid("mode", "Invalid mode: must be one of payment, setup, or subscription")
	}
	success, err := c.p.required("success_url")
	if err != nil {
		return nil, err
	}
	cancel := c.p.str("cancel_url")
	for param, u := range map[string]string{"success_url": success, "cancel_url": cancel} {
		if parsed, err := url.Parse(strings.ReplaceAll(u, "{CHECKOUT_SESSION_ID}", "x")); u != "" && (err != nil || parsed.Host == "" || !strings.HasPrefix(parsed.Scheme, "http")) {
			return nil, &apiError{status: 400, Type: invalidRequest, Code: "url_invalid", Param: param, Message: "Not a valid URL"}
		}
	}
	customer := c.p.str("customer")
	email := c.p.str("customer_email")
	if customer != "" {
		if email != "" {
			return nil, invalid("customer_email", "You may only specify one of these parameters: customer, customer_email.")
		}
		o, err := c.load("customer", customer, "customer")
		if err != nil {
			return nil, err
		}
		if o["deleted"] == true {
			return nil, noSuch("customer", customer, "customer")
		}
		email = text(o["email"])
	}
	items, total, currency, err := s.lineItemsOf(c)
	if err != nil {
		return nil, err
	}
	now := s.now()
	expires, err := c.p.integer("expires_at", now.Add(sessionLife).Unix())
	if err != nil {
		return nil, err
	}
	if at := time.Unix(expires, 0); at.Before(now.Add(minSessionLife-time.Second)) || at.After(now.Add(sessionLife+time.Second)) {
		return nil, invalid("expires_at", "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.")
	}
	intent := map[string]any{}
	if data := c.p.sub("payment_intent_data"); data != nil {
		intent["metadata"] = data.metadata(nil)
		intent["description"] = optional(data.str("description"))
	}
	id := "cs_test_" + newID("a")[2:] + newID("a")[2:]
	o := object{"id": id, "object": "checkout.session", "amount_subtotal": total, "amount_total": total, "automatic_tax": map[string]any{"enabled": false, "status": nil},
		"cancel_url": optional(cancel), "client_reference_id": optional(c.p.str("client_reference_id")), "created": now.Unix(), "currency": currency,
		"customer": optional(customer), "customer_creation": "if_required", "customer_details": map[string]any{"email": optional(email), "name": nil, "phone": nil},
		"customer_email": nil, "expires_at": expires, "livemode": false, "locale": optional(c.p.str("locale")), "metadata": c.p.metadata(nil),
		"mode": mode, "payment_intent": nil, "payment_method_types": []any{"card"}, "payment_status": "unpaid", "setup_intent": nil, "status": "open",
		"subscription": nil, "success_url": success, "total_details": map[string]any{"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
		"url": s.cfg.BaseURL + "/checkout/" + id, "_line_items": items, "_intent": intent}
	if customer == "" {
		o["customer_email"] = optional(email)
	}
	// Stripe sends no event when a session is made.
	return o, c.tx.put(id, "checkout.session", o)
}

// lineItemsOf reads the line items, each of a price that exists or of price_data.
func (s *Server) lineItemsOf(c *call) (items []any, total int64, currency string, err error) {
	given := c.p.items("line_items")
	if len(given) == 0 {
		return nil, 0, "", missing("line_items")
	}
	for _, item := range given {
		var price object
		switch data, id := item.sub("price_data"), item.str("price"); {
		case id != "":
			if price, err = c.load("price", id, item.key("price")); err != nil {
				return nil, 0, "", err
			}
			if price["active"] != true {
				return nil, 0, "", &apiError{status: 400, Type: invalidRequest, Code: "price_inactive", Param: item.key("price"),
					Message: "The price specified is inactive. This field only accepts active prices."}
			}
		case data != nil:
			return nil, 0, "", unsupported(item.key("price_data"), "prices made along with a session; make the price first")
		default:
			return nil, 0, "", missing(item.key("price"))
		}
		if price["type"] != "one_time" {
			return nil, 0, "", invalid(item.key("price"), "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use only one-time prices.")
		}
		if currency == "" {
			currency = text(price["currency"])
		} else if currency != text(price["currency"]) {
			return nil, 0, "", invalid(item.key("price"), "All prices of a session must have the same currency.")
		}
		quantity, err := item.integer("quantity", 0)
		if err != nil {
			return nil, 0, "", err
		}
		if quantity < 1 {
			return nil, 0, "", missing(item.key("quantity"))
		}
		amount := number(price["unit_amount"]) * quantity
		total += amount
		product, err := c.load("product", text(price["product"]), item.key("price"))
		if err != nil {
			return nil, 0, "", err
		}
		items = append(items, map[string]any{"id": newID("li"), "object": "item", "amount_discount": 0, "amount_subtotal": amount, "amount_tax": 0,
			"amount_total": amount, "currency": currency, "description": product["name"], "price": map[string]any(price), "quantity": quantity})
	}
	if total != 0 && total < minimumCharge {
		return nil, 0, "", &apiError{status: 400, Type: invalidRequest, Code: "amount_too_small", Message: "The Checkout Session's total amount due must add up to at least 0.50."}
	}
	return items, total, currency, nil
}

func lineItems(session object, items any) map[string]any {
	return map[string]any{"object": "list", "data": items, "has_more": false, "url": "/v1/checkout/sessions/" + text(session["id"]) + "/line_items"}
}

func (s *Server) listLineItems(c *call) (object, error) {
	o, err := c.load("checkout.session", c.r.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	c.p.str("limit") // a session of the double has fewer items than a page
	return lineItems(o, o["_line_items"]), nil
}

func (s *Server) listSessions(c *call) (object, error) {
	customer, intent, status := c.p.str("customer"), c.p.str("payment_intent"), c.p.str("status")
	return c.list("checkout.session", func(o object) bool {
		return (customer == "" || o["customer"] == customer) && (intent == "" || o["payment_intent"] == intent) && (status == "" || o["status"] == status)
	})
}

func (s *Server) expireSession(c *call) (object, error) {
	o, err := c.load("checkout.session", c.r.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	if o["status"] != "open" {
		return nil, wrongState("Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of %s.", text(o["status"]))
	}
	return o, s.expire(c.tx, o)
}

func (s *Server) expire(tx storeTx, o object) error {
	o["status"], o["url"] = "expired", nil
	return s.save(tx, o, "checkout.session.expired")
}

// expireDue ends the sessions that nobody completed in time.
func (s *Server) expireDue(tx storeTx) error {
	docs, err := tx.list("checkout.session")
	if err != nil {
		return err
	}
	for _, d := range docs {
		o, err := d.object()
		if err != nil {
			return err
		}
		if o["status"] == "open" && number(o["expires_at"]) <= s.now().Unix() {
			if err := s.expire(tx, o); err != nil {
				return err
			}
		}
	}
	return nil
}
