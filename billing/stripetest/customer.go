package stripetest

import "strings"

var customerFields = []string{"email", "name", "phone", "description"}

// createCustomer is POST /v1/customers (docs.stripe.com/api/customers).
func (s *Server) createCustomer(c *call) (object, error) {
	o := object{"id": newID("cus")[:18], "object": "customer", "address": nil, "balance": 0, "created": s.now().Unix(), "currency": nil,
		"default_source": nil, "delinquent": false, "discount": nil, "invoice_prefix": strings.ToUpper(newID("i")[2:10]),
		"invoice_settings":      map[string]any{"custom_fields": nil, "default_payment_method": nil, "footer": nil, "rendering_options": nil},
		"livemode":              false,
		"metadata":              c.p.metadata(nil),
		"preferred_locales":     []any{},
		"shipping":              nil,
		"tax_exempt":            "none",
		"test_clock":            nil,
		"next_invoice_sequence": 1,
	}
	for _, field := range customerFields {
		o[field] = optional(c.p.str(field))
	}
	if err := checkEmail(o); err != nil {
		return nil, err
	}
	return o, s.save(c.tx, o, "customer.created")
}

func checkEmail(o object) error {
	email := text(o["email"])
	if email != "" && (!strings.Contains(email, "@") || len(email) > 512) {
		return &apiError{status: 400, Type: invalidRequest, Code: "email_invalid", Param: "email", Message: "Invalid email address: " + email}
	}
	return nil
}

func (s *Server) updateCustomer(c *call) (object, error) {
	o, err := c.load("customer", c.r.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	if o["deleted"] == true {
		return nil, noSuch("customer", text(o["id"]), "id")
	}
	for _, field := range customerFields {
		if c.p.has(field) {
			o[field] = optional(c.p.str(field))
		}
	}
	if err := checkEmail(o); err != nil {
		return nil, err
	}
	o["metadata"] = c.p.metadata(o["metadata"])
	return o, s.save(c.tx, o, "customer.updated")
}

func (s *Server) deleteCustomer(c *call) (object, error) {
	o, err := c.load("customer", c.r.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	if o["deleted"] == true {
		return nil, noSuch("customer", text(o["id"]), "id")
	}
	if err := s.emit(c.tx, "customer.deleted", o); err != nil {
		return nil, err
	}
	gone := object{"id": o["id"], "object": "customer", "deleted": true}
	return gone, c.tx.put(text(o["id"]), "customer", gone)
}

func (s *Server) listCustomers(c *call) (object, error) {
	email := c.p.str("email")
	return c.list("customer", func(o object) bool { return o["deleted"] != true && (email == "" || o["email"] == email) })
}
