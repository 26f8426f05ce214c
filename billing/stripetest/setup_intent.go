package stripetest

import (
	"net/http"
	"slices"
)

func (s *Server) newSetup(tx *work, customer any) object {
	id := newID("seti")
	return object{"id": id, "object": "setup_intent", "application": nil, "automatic_payment_methods": nil, "cancellation_reason": nil,
		"client_secret": id + "_secret_" + secret(), "created": tx.unix(), "customer": customer, "description": nil, "flow_directions": nil,
		"last_setup_error": nil, "latest_attempt": nil, "livemode": false, "mandate": nil, "metadata": map[string]any{}, "next_action": nil,
		"payment_method": nil, "payment_method_options": map[string]any{}, "payment_method_types": []any{"card"},
		"status": "requires_payment_method", "usage": "off_session"}
}

// createSetup is POST /v1/setup_intents (docs.stripe.com/api/setup_intents).
func (s *Server) createSetup(c *call) (object, error) {
	customer := c.p.str("customer")
	if customer != "" {
		if _, err := loadCustomer(c.tx, customer, "customer"); err != nil {
			return nil, err
		}
	}
	si := s.newSetup(c.tx, optional(customer))
	var err error
	if si["usage"], err = c.p.oneOf("usage", "off_session", "on_session"); err != nil {
		return nil, err
	}
	if err := s.methodTypes(c, si); err != nil {
		return nil, err
	}
	if err := s.setupParams(c, si); err != nil {
		return nil, err
	}
	if err := s.save(c.tx, si, "setup_intent.created"); err != nil {
		return nil, err
	}
	confirm, err := c.p.boolean("confirm", false)
	if err != nil || !confirm {
		return si, err
	}
	return s.confirmTheSetup(c, si)
}

func (s *Server) setupParams(c *call, si object) error {
	if c.p.has("description") {
		si["description"] = optional(c.p.str("description"))
	}
	si["metadata"] = c.p.metadata(si["metadata"])
	id := c.p.str("payment_method")
	if id == "" {
		return nil
	}
	pm, err := s.loadMethod(c.tx, id, "payment_method")
	if err != nil {
		return err
	}
	if owner := text(pm["customer"]); owner != "" && owner != text(si["customer"]) {
		return invalid("payment_method", "The PaymentMethod %s does not belong to the Customer you supplied.", id)
	}
	si["payment_method"] = pm["id"]
	if si["status"] == "requires_payment_method" {
		si["status"] = "requires_confirmation"
	}
	return nil
}

func unexpectedSetup(si object, action string) *apiError {
	return &apiError{status: http.StatusBadRequest, Type: invalidRequest, Code: "setup_intent_unexpected_state", SetupIntent: public(si),
		Message: "You cannot " + action + " this SetupIntent because it has a status of " + text(si["status"]) + "."}
}

func (s *Server) updateSetup(c *call) (object, error) {
	si, err := c.path("setup_intent")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(unconfirmed, text(si["status"])) {
		return nil, unexpectedSetup(si, "update")
	}
	if err := s.setupParams(c, si); err != nil {
		return nil, err
	}
	return si, s.keep(c.tx, si)
}

func (s *Server) confirmSetup(c *call) (object, error) {
	si, err := c.path("setup_intent")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(unconfirmed, text(si["status"])) {
		return nil, unexpectedSetup(si, "confirm")
	}
	if err := s.setupParams(c, si); err != nil {
		return nil, err
	}
	return s.confirmTheSetup(c, si)
}

func (s *Server) confirmTheSetup(c *call, si object) (object, error) {
	if text(si["payment_method"]) == "" {
		return nil, coded("setup_intent_unexpected_state", "payment_method", "You cannot confirm this SetupIntent because it's missing a payment method.")
	}
	pm, err := load(c.tx, "payment_method", text(si["payment_method"]), "payment_method")
	if err != nil {
		return nil, err
	}
	refused, err := s.setUp(c.tx, si, pm, attempt{returnURL: c.p.str("return_url")})
	if err != nil {
		return nil, err
	}
	if refused != nil {
		return nil, refused
	}
	return si, nil
}

// setUp saves a payment method for later, or refuses it.
func (s *Server) setUp(tx *work, si, pm object, how attempt) (*apiError, error) {
	t := keptTrait(pm)
	si["payment_method"], si["next_action"] = pm["id"], nil
	switch {
	case t.unsaved:
		return s.failSetup(tx, si, pm, t.refusal())
	case t.authenticate && !how.authenticated:
		si["status"], si["next_action"] = "requires_action", s.nextAction(text(si["id"]), how.returnURL)
		return nil, s.save(tx, si, "setup_intent.requires_action")
	}
	if customer := text(si["customer"]); customer != "" {
		if err := s.attach(tx, pm, customer); err != nil {
			return nil, err
		}
	}
	si["status"], si["last_setup_error"] = "succeeded", nil
	return nil, s.save(tx, si, "setup_intent.succeeded")
}

func (s *Server) failSetup(tx *work, si, pm object, refused *apiError) (*apiError, error) {
	si["status"], si["payment_method"] = "requires_payment_method", nil
	si["last_setup_error"] = map[string]any{"code": refused.Code, "decline_code": optional(refused.DeclineCode), "message": refused.Message,
		"payment_method": public(pm), "type": "card_error"}
	if err := s.save(tx, si, "setup_intent.setup_failed"); err != nil {
		return nil, err
	}
	refused.kept, refused.SetupIntent, refused.PaymentMethod = true, public(si), public(pm)
	return refused, nil
}

// resumeSetup goes on with a setup intent after 3-D Secure.
func (s *Server) resumeSetup(tx *work, si object, succeed bool) error {
	pm, err := load(tx, "payment_method", text(si["payment_method"]), "payment_method")
	if err != nil {
		return err
	}
	if succeed {
		_, err = s.setUp(tx, si, pm, attempt{authenticated: true})
		return err
	}
	si["next_action"] = nil
	_, err = s.failSetup(tx, si, pm, &apiError{status: http.StatusPaymentRequired, Type: "card_error", Code: "setup_intent_authentication_failure",
		Message: "We are unable to authenticate your payment method. Please choose a different payment method and try again."})
	return err
}

func (s *Server) cancelSetup(c *call) (object, error) {
	si, err := c.path("setup_intent")
	if err != nil {
		return nil, err
	}
	reason, err := c.p.oneOf("cancellation_reason", "", "abandoned", "duplicate", "requested_by_customer")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(unconfirmed, text(si["status"])) {
		return nil, unexpectedSetup(si, "cancel")
	}
	si["status"], si["cancellation_reason"], si["next_action"] = "canceled", optional(reason), nil
	return si, s.save(c.tx, si, "setup_intent.canceled")
}
