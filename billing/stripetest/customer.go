package stripetest

import (
	"strings"
)

var customerFields = []string{"email", "name", "phone", "description"}

// createCustomer is POST /v1/customers (docs.stripe.com/api/customers).
func (s *Server) createCustomer(c *call) (object, error) {
	clock := c.p.str("test_clock")
	if clock != "" {
		if _, err := c.load(testClock, clock, "test_clock"); err != nil {
			return nil, err
		}
		if err := c.tx.follow(object{"_clock": clock}); err != nil {
			return nil, err
		}
	}
	o := s.newCustomer(c.tx)
	o["test_clock"], o["metadata"] = optional(clock), c.p.metadata(nil)
	if err := s.customerParams(c, o); err != nil {
		return nil, err
	}
	if method := c.p.str("payment_method"); method != "" {
		if err := s.save(c.tx, o, "customer.created"); err != nil {
			return nil, err
		}
		pm, err := s.loadMethod(c.tx, method, "payment_method")
		if err != nil {
			return nil, err
		}
		if err := s.attach(c.tx, pm, text(o["id"])); err != nil {
			return nil, err
		}
		if err := s.invoiceSettings(c, o); err != nil {
			return nil, err
		}
		return o, s.keep(c.tx, o)
	}
	if err := s.invoiceSettings(c, o); err != nil {
		return nil, err
	}
	return o, s.save(c.tx, o, "customer.created")
}

func (s *Server) newCustomer(tx *work) object {
	return object{"id": newID("cus")[:18], "object": "customer", "address": nil, "balance": 0, "created": tx.unix(), "currency": nil,
		"default_source": nil, "delinquent": false, "description": nil, "discount": nil, "email": nil, "invoice_prefix": strings.ToUpper(secret()[:8]),
		"invoice_settings":      map[string]any{"custom_fields": nil, "default_payment_method": nil, "footer": nil, "rendering_options": nil},
		"livemode":              false,
		"metadata":              map[string]any{},
		"name":                  nil,
		"next_invoice_sequence": 1,
		"phone":                 nil,
		"preferred_locales":     []any{},
		"shipping":              nil,
		"tax_exempt":            "none",
		"test_clock":            nil,
	}
}

var addressFields = []string{"line1", "line2", "city", "state", "postal_code", "country"}

// customerParams reads what creating and updating a customer have in common.
func (s *Server) customerParams(c *call, o object) error {
	for _, field := range customerFields {
		if c.p.has(field) {
			o[field] = optional(c.p.str(field))
		}
	}
	email := text(o["email"])
	if email != "" && (!strings.Contains(email, "@") || len(email) > 512) {
		return coded("email_invalid", "email", "Invalid email address: %s", email)
	}
	if a := c.p.sub("address"); a != nil {
		o["address"] = addressOf(a)
	}
	if c.p.has("preferred_locales[0]") {
		o["preferred_locales"] = anys(c.p.strings("preferred_locales"))
	}
	balance, err := c.p.integer("balance", number(o["balance"]))
	if err != nil {
		return err
	}
	o["balance"] = balance
	if o["tax_exempt"], err = c.p.oneOf("tax_exempt", text(o["tax_exempt"]), "none", "exempt", "reverse"); err != nil {
		return err
	}
	d, err := s.discountParams(c, text(o["id"]), "")
	if d == nil || err != nil {
		return err
	}
	o["discount"] = d
	return s.emit(c.tx, "customer.discount.created", fields(d))
}

func addressOf(p *params) map[string]any {
	address := map[string]any{}
	for _, field := range addressFields {
		address[field] = optional(p.str(field))
	}
	return address
}

// invoiceSettings reads the default payment method, which must be the customer's.
func (s *Server) invoiceSettings(c *call, o object) error {
	settings := c.p.sub("invoice_settings")
	if settings == nil {
		return nil
	}
	method := settings.str("default_payment_method")
	if method != "" {
		if _, err := s.methodOf(c.tx, method, text(o["id"]), settings.key("default_payment_method")); err != nil {
			return err
		}
	}
	fields(o["invoice_settings"])["default_payment_method"] = optional(method)
	return nil
}

// loadCustomer returns a customer that is not deleted.
func loadCustomer(tx *work, id, param string) (object, error) {
	o, err := load(tx, "customer", id, param)
	if err == nil && o["deleted"] == true {
		err = noSuch("customer", id, param)
	}
	return o, err
}

func (s *Server) updateCustomer(c *call) (object, error) {
	o, err := loadCustomer(c.tx, c.r.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	if err := s.customerParams(c, o); err != nil {
		return nil, err
	}
	if err := s.invoiceSettings(c, o); err != nil {
		return nil, err
	}
	o["metadata"] = c.p.metadata(o["metadata"])
	return o, s.save(c.tx, o, "customer.updated")
}

func (s *Server) deleteCustomer(c *call) (object, error) {
	o, err := loadCustomer(c.tx, c.r.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	return s.removeCustomer(c.tx, o)
}

// removeCustomer ends what a customer has at once (docs.stripe.com/api/customers/delete).
func (s *Server) removeCustomer(tx *work, o object) (object, error) {
	id := text(o["id"])
	subscriptions, err := all(tx, query{kind: "subscription", field: "customer", value: id})
	if err != nil {
		return nil, err
	}
	for _, sub := range subscriptions {
		if ended(sub) {
			continue
		}
		if err := s.end(tx, sub, "cancellation_requested"); err != nil {
			return nil, err
		}
	}
	methods, err := all(tx, query{kind: "payment_method", field: "customer", value: id})
	if err != nil {
		return nil, err
	}
	for _, pm := range methods {
		pm["customer"] = nil
		if err := s.save(tx, pm, "payment_method.detached"); err != nil {
			return nil, err
		}
	}
	if err := s.emit(tx, "customer.deleted", o); err != nil {
		return nil, err
	}
	gone := object{"id": id, "object": "customer", "deleted": true}
	return gone, tx.put(id, "customer", gone)
}

func (s *Server) listCustomers(c *call) (object, error) {
	email, clock := c.p.str("email"), c.p.str("test_clock")
	q := query{kind: "customer"}
	switch {
	case email != "":
		q.field, q.value = "email", email
	case clock != "":
		if _, err := c.load(testClock, clock, "test_clock"); err != nil {
			return nil, err
		}
		q.field, q.value = "test_clock", clock
	}
	return c.list(q, func(o object) bool {
		return o["deleted"] != true && (email == "" || o["email"] == email) && text(o["test_clock"]) == clock
	})
}

// deleteDiscount is DELETE /v1/customers/{id}/discount.
func (s *Server) deleteDiscount(c *call) (object, error) {
	o, err := loadCustomer(c.tx, c.r.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	return s.dropDiscount(c.tx, o)
}
