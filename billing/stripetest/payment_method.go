package stripetest

import (
	"context"
	"slices"
	"time"
)

// newMethod makes a payment method of a test card, or of a bank account for [Delayed].
func (s *Server) newMethod(tx *work, number string, month, year int64, billing map[string]any) object {
	o := object{"id": newID("pm"), "object": "payment_method", "billing_details": billing, "created": tx.unix(), "customer": nil, "livemode": false,
		"metadata": map[string]any{}, "type": "card", "_card": cardKey(number)}
	if number == Delayed {
		o["type"] = "us_bank_account"
		o["us_bank_account"] = map[string]any{"account_holder_type": "individual", "account_type": "checking", "bank_name": "STRIPE TEST BANK",
			"fingerprint": digest(number)[:16], "last4": "6789", "routing_number": "110000000"}
		return o
	}
	t := traits[number]
	o["card"] = map[string]any{"brand": t.brand, "checks": map[string]any{"address_line1_check": nil, "address_postal_code_check": nil, "cvc_check": "pass"},
		"country": "US", "exp_month": month, "exp_year": year, "fingerprint": digest(number)[:16], "funding": "credit", "generated_from": nil,
		"last4": number[len(number)-4:], "networks": map[string]any{"available": []any{t.brand}, "preferred": nil},
		"three_d_secure_usage": map[string]any{"supported": true}, "wallet": nil}
	return o
}

func billingDetails(email, name string) map[string]any {
	return map[string]any{"address": map[string]any{"city": nil, "country": nil, "line1": nil, "line2": nil, "postal_code": nil, "state": nil},
		"email": optional(email), "name": optional(name), "phone": nil}
}

// createMethod is POST /v1/payment_methods (docs.stripe.com/api/payment_methods).
func (s *Server) createMethod(c *call) (object, error) {
	kind, err := c.p.required("type")
	if err != nil {
		return nil, err
	}
	billing := billingDetails("", "")
	billingParams(c.p, billing)
	number, month, year := Delayed, int64(0), int64(0)
	switch kind {
	case "card":
		card := c.p.sub("card")
		if card == nil {
			return nil, missing("card")
		}
		if number, month, year, err = s.cardParams(c.tx, card); err != nil {
			return nil, err
		}
	case "us_bank_account":
		account := c.p.sub("us_bank_account")
		if account == nil {
			return nil, missing("us_bank_account")
		}
		for _, field := range []string{"account_number", "routing_number", "account_holder_type"} {
			if _, err := account.required(field); err != nil {
				return nil, err
			}
		}
		account.str("account_type")
	default:
		return nil, unsupported("type", "payment methods of type "+kind)
	}
	o := s.newMethod(c.tx, number, month, year, billing)
	o["metadata"] = c.p.metadata(nil)
	return o, s.keep(c.tx, o)
}

func billingParams(p *params, billing map[string]any) {
	b := p.sub("billing_details")
	if b == nil {
		return
	}
	for _, field := range []string{"email", "name", "phone"} {
		if b.has(field) {
			billing[field] = optional(b.str(field))
		}
	}
	if a := b.sub("address"); a != nil {
		billing["address"] = addressOf(a)
	}
}

func (s *Server) cardParams(tx *work, card *params) (number string, month, year int64, err error) {
	if token := card.str("token"); token != "" {
		if number = testTokens[token]; number == "" {
			return "", 0, 0, noSuch("token", token, card.key("token"))
		}
		return number, 12, int64(tx.now.Year() + 3), nil
	}
	if number, err = card.required("number"); err != nil {
		return "", 0, 0, err
	}
	number = digits(number)
	if _, err := traitOf(number, card.key("number")); err != nil {
		return "", 0, 0, err
	}
	for _, field := range []string{"exp_month", "exp_year"} {
		if _, err := card.required(field); err != nil {
			return "", 0, 0, err
		}
	}
	if month, year, err = expiryParams(tx, card, 0, 0); err != nil {
		return "", 0, 0, err
	}
	card.str("cvc")
	return number, month, year, nil
}

func expiryParams(tx *work, card *params, month, year int64) (int64, int64, error) {
	month, err := card.integer("exp_month", month)
	if err != nil {
		return 0, 0, err
	}
	if month < 1 || month > 12 {
		return 0, 0, cardParam("invalid_expiry_month", card.key("exp_month"), "Your card's expiration month is invalid.")
	}
	year, err = card.integer("exp_year", year)
	if err != nil {
		return 0, 0, err
	}
	if end := time.Date(int(year), time.Month(month)+1, 1, 0, 0, 0, 0, time.UTC); !end.After(tx.now) {
		return 0, 0, cardParam("invalid_expiry_year", card.key("exp_year"), "Your card's expiration year is invalid.")
	}
	return month, year, nil
}

func cardParam(code, param, message string) *apiError {
	return &apiError{status: 402, Type: "card_error", Code: code, Param: param, Message: message}
}

// loadMethod returns a payment method; those that stand for test cards are made anew each time.
func (s *Server) loadMethod(tx *work, id, param string) (object, error) {
	if number := testMethods[id]; number != "" {
		o := s.newMethod(tx, number, 12, int64(tx.now.Year()+3), billingDetails("", ""))
		return o, s.keep(tx, o)
	}
	return load(tx, "payment_method", id, param)
}

// methodOf returns a payment method that is attached to a customer.
func (s *Server) methodOf(tx *work, id, customer, param string) (object, error) {
	pm, err := load(tx, "payment_method", id, param)
	if err != nil {
		return nil, err
	}
	if text(pm["customer"]) != customer {
		return nil, invalid(param, "The customer does not have a payment method with the ID %s. The payment method must be attached to the customer.", id)
	}
	return pm, nil
}

// attach binds a payment method to a customer. The card is checked, as Stripe does.
func (s *Server) attach(tx *work, pm object, customer string) error {
	switch owner := text(pm["customer"]); {
	case owner == customer:
		return nil
	case owner != "":
		return coded("payment_method_unexpected_state", "", "The payment method you provided has already been attached to a customer.")
	case pm["_detached"] == true:
		return invalid("", "This PaymentMethod was previously used without being attached to a Customer or was detached from a Customer, and may not be used again.")
	}
	if t := keptTrait(pm); t.unsaved {
		return t.refusal()
	}
	pm["customer"] = customer
	return s.save(tx, pm, "payment_method.attached")
}

func (s *Server) attachMethod(c *call) (object, error) {
	id, err := c.p.required("customer")
	if err != nil {
		return nil, err
	}
	if _, err := loadCustomer(c.tx, id, "customer"); err != nil {
		return nil, err
	}
	pm, err := s.loadMethod(c.tx, c.r.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	return pm, s.attach(c.tx, pm, id)
}

func (s *Server) detachMethod(c *call) (object, error) {
	pm, err := c.path("payment_method")
	if err != nil {
		return nil, err
	}
	return pm, s.detach(c.tx, pm)
}

// detach takes a payment method away from its customer, and from what uses it by default.
func (s *Server) detach(tx *work, pm object) error {
	id, owner := text(pm["id"]), text(pm["customer"])
	if owner == "" {
		return invalid("", "The payment method you provided is not attached to a customer so detachment is impossible.")
	}
	customer, err := loadCustomer(tx, owner, "customer")
	if err != nil {
		return err
	}
	if settings := fields(customer["invoice_settings"]); settings["default_payment_method"] == id {
		settings["default_payment_method"] = nil
		if err := s.save(tx, customer, "customer.updated"); err != nil {
			return err
		}
	}
	subscriptions, err := all(tx, query{kind: "subscription", field: "customer", value: owner})
	if err != nil {
		return err
	}
	for _, sub := range subscriptions {
		if sub["default_payment_method"] != id || ended(sub) {
			continue
		}
		sub["default_payment_method"] = nil
		if err := s.save(tx, sub, "customer.subscription.updated"); err != nil {
			return err
		}
	}
	pm["customer"], pm["_detached"] = nil, true
	return s.save(tx, pm, "payment_method.detached")
}

// updateMethod is POST /v1/payment_methods/{id}: the expiry, the billing details and the metadata.
func (s *Server) updateMethod(c *call) (object, error) {
	pm, err := c.path("payment_method")
	if err != nil {
		return nil, err
	}
	if text(pm["customer"]) == "" {
		return nil, invalid("", "You must save this PaymentMethod to a customer before you can update it.")
	}
	billingParams(c.p, fields(pm["billing_details"]))
	if p := c.p.sub("card"); p != nil {
		card := fields(pm["card"])
		if card["exp_month"], card["exp_year"], err = expiryParams(c.tx, p, number(card["exp_month"]), number(card["exp_year"])); err != nil {
			return nil, err
		}
	}
	pm["metadata"] = c.p.metadata(pm["metadata"])
	return pm, s.save(c.tx, pm, "payment_method.updated")
}

// listMethods is GET /v1/payment_methods and GET /v1/customers/{id}/payment_methods.
func (s *Server) listMethods(c *call) (object, error) {
	customer, param := c.r.PathValue("id"), "id"
	if customer == "" {
		customer, param = c.p.str("customer"), "customer"
	}
	if customer == "" {
		return nil, missing("customer")
	}
	if _, err := c.load("customer", customer, param); err != nil {
		return nil, err
	}
	kind := c.p.str("type")
	return c.list(query{kind: "payment_method", field: "customer", value: customer}, func(o object) bool { return kind == "" || o["type"] == kind })
}

// retrieveMethodOf is GET /v1/customers/{id}/payment_methods/{method}.
func (s *Server) retrieveMethodOf(c *call) (object, error) {
	return s.methodOf(c.tx, c.r.PathValue("method"), c.r.PathValue("id"), "payment_method")
}

// RenewCard gives a saved card a new expiry, as the networks do by themselves: payment_method.automatically_updated.
func (s *Server) RenewCard(ctx context.Context, method string, month, year int) error {
	return s.do(ctx, func(tx *work) error {
		pm, err := load(tx, "payment_method", method, "id")
		if err != nil {
			return err
		}
		if pm["type"] != "card" {
			return wrongState("Only cards are renewed.")
		}
		card := fields(pm["card"])
		card["exp_month"], card["exp_year"] = month, year
		return s.save(tx, pm, "payment_method.automatically_updated")
	})
}

// defaultMethod is what pays for an invoice: the subscription's, else the customer's default. Nil: there is none.
func (s *Server) defaultMethod(tx *work, customer, sub object) (object, error) {
	candidates := []string{text(sub["default_payment_method"]), text(fields(customer["invoice_settings"])["default_payment_method"])}
	i := slices.IndexFunc(candidates, func(id string) bool { return id != "" })
	if i < 0 {
		return nil, nil
	}
	return load(tx, "payment_method", candidates[i], "default_payment_method")
}
