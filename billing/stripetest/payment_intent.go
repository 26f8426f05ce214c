package stripetest

import (
	"context"
	"net/http"
	"slices"
)

// The least and the most that is charged in one payment, in minor units; Stripe's own least depends on the currency.
const (
	minimumCharge = 50
	maximumCharge = 99999999
)

// newIntent makes a payment intent.
func (s *Server) newIntent(tx *work, amount int64, currency string, customer any) object {
	id := newID("pi")
	return object{"id": id, "object": "payment_intent", "amount": amount, "amount_capturable": 0, "amount_details": map[string]any{"tip": map[string]any{}},
		"amount_received": 0, "automatic_payment_methods": nil, "canceled_at": nil, "cancellation_reason": nil, "capture_method": "automatic",
		"client_secret": id + "_secret_" + secret(), "confirmation_method": "automatic", "created": tx.unix(), "currency": currency, "customer": customer,
		"description": nil, "invoice": nil, "last_payment_error": nil, "latest_charge": nil, "livemode": false, "metadata": map[string]any{},
		"next_action": nil, "payment_method": nil, "payment_method_options": map[string]any{}, "payment_method_types": []any{"card"}, "processing": nil,
		"receipt_email": nil, "setup_future_usage": nil, "shipping": nil, "statement_descriptor": nil, "status": "requires_payment_method"}
}

// createIntent is POST /v1/payment_intents (docs.stripe.com/api/payment_intents).
func (s *Server) createIntent(c *call) (object, error) {
	if _, err := c.p.required("amount"); err != nil {
		return nil, err
	}
	amount, err := amountParam(c.p)
	if err != nil {
		return nil, err
	}
	currency, err := c.p.required("currency")
	if err != nil {
		return nil, err
	}
	if !currencyCode.MatchString(currency) {
		return nil, invalid("currency", "Invalid currency: %s.", currency)
	}
	customer := c.p.str("customer")
	if customer != "" {
		if _, err := loadCustomer(c.tx, customer, "customer"); err != nil {
			return nil, err
		}
	}
	pi := s.newIntent(c.tx, amount, currency, optional(customer))
	if method, err := c.p.oneOf("capture_method", "automatic", "automatic_async", "manual"); err != nil {
		return nil, err
	} else if method == "manual" {
		return nil, unsupported("capture_method", "payments that are captured later")
	}
	if err := s.methodTypes(c, pi); err != nil {
		return nil, err
	}
	if err := s.intentParams(c, pi); err != nil {
		return nil, err
	}
	if err := s.save(c.tx, pi, "payment_intent.created"); err != nil {
		return nil, err
	}
	confirm, err := c.p.boolean("confirm", false)
	if err != nil {
		return nil, err
	}
	if !confirm {
		for _, field := range []string{"off_session", "return_url", "error_on_requires_action"} {
			if c.p.str(field) != "" {
				return nil, invalid(field, "The parameter `%s` cannot be passed when creating a PaymentIntent unless `confirm` is set to true.", field)
			}
		}
		return pi, nil
	}
	return s.confirm(c, pi)
}

// methodTypes reads which kinds of payment methods an intent takes.
func (s *Server) methodTypes(c *call, intent object) error {
	types := c.p.strings("payment_method_types")
	for i, t := range types {
		if t != "card" && t != "us_bank_account" {
			return unsupported("payment_method_types["+itoa(int64(i))+"]", "payment methods of type "+t)
		}
	}
	if len(types) > 0 {
		intent["payment_method_types"] = anys(types)
	}
	if auto := c.p.sub("automatic_payment_methods"); auto != nil {
		enabled, err := auto.boolean("enabled", false)
		if err != nil {
			return err
		}
		redirects, err := auto.oneOf("allow_redirects", "always", "never")
		if err != nil {
			return err
		}
		if enabled && len(types) > 0 {
			return invalid("automatic_payment_methods", "You may only specify one of these parameters: automatic_payment_methods, payment_method_types.")
		}
		intent["automatic_payment_methods"] = map[string]any{"enabled": enabled, "allow_redirects": redirects}
	}
	return nil
}

func amountParam(p *params) (int64, error) {
	amount, err := p.integer("amount", 0)
	switch {
	case err != nil:
		return 0, err
	case amount < 1:
		return 0, coded("parameter_invalid_integer", "amount", "This value must be greater than or equal to 1.")
	case amount < minimumCharge:
		return 0, coded("amount_too_small", "amount", "Amount must be at least 50 cents.")
	case amount > maximumCharge:
		return 0, coded("amount_too_large", "amount", "Amount must be no more than 999,999.99.")
	}
	return amount, nil
}

// intentParams reads what can be set when an intent is made, changed or confirmed.
func (s *Server) intentParams(c *call, pi object) error {
	for _, field := range []string{"description", "receipt_email", "statement_descriptor", "statement_descriptor_suffix"} {
		if c.p.has(field) {
			pi[field] = optional(c.p.str(field))
		}
	}
	if c.p.has("setup_future_usage") {
		usage, err := c.p.oneOf("setup_future_usage", "", "on_session", "off_session")
		if err != nil {
			return err
		}
		pi["setup_future_usage"] = optional(usage)
	}
	pi["metadata"] = c.p.metadata(pi["metadata"])
	id := c.p.str("payment_method")
	if id == "" {
		return nil
	}
	pm, err := s.loadMethod(c.tx, id, "payment_method")
	if err != nil {
		return err
	}
	owner, customer := text(pm["customer"]), text(pi["customer"])
	switch {
	case owner != "" && customer == "":
		return invalid("payment_method", "The PaymentMethod %s belongs to a customer. Please include the customer in the `customer` parameter on the PaymentIntent.", id)
	case owner != "" && owner != customer:
		return invalid("payment_method", "The PaymentMethod %s does not belong to the Customer you supplied %s.", id, customer)
	case pm["_detached"] == true:
		return invalid("payment_method", "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, or was detached from a Customer. It may not be used again.")
	}
	pi["payment_method"] = pm["id"]
	if pi["status"] == "requires_payment_method" {
		pi["status"] = "requires_confirmation"
	}
	return nil
}

// unconfirmed are the statuses in which an intent can still be changed.
var unconfirmed = []string{"requires_payment_method", "requires_confirmation", "requires_action"}

func unexpectedIntent(pi object, action string) *apiError {
	return &apiError{status: http.StatusBadRequest, Type: invalidRequest, Code: "payment_intent_unexpected_state", PaymentIntent: public(pi),
		Message: "You cannot " + action + " this PaymentIntent because it has a status of " + text(pi["status"]) + "."}
}

func (s *Server) updateIntent(c *call) (object, error) {
	pi, err := c.path("payment_intent")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(unconfirmed, text(pi["status"])) {
		return nil, unexpectedIntent(pi, "update")
	}
	if c.p.has("amount") {
		if text(pi["invoice"]) != "" {
			return nil, invalid("amount", "This PaymentIntent's amount could not be updated because it belongs to an invoice.")
		}
		if pi["amount"], err = amountParam(c.p); err != nil {
			return nil, err
		}
	}
	if id := c.p.str("customer"); id != "" {
		if _, err := loadCustomer(c.tx, id, "customer"); err != nil {
			return nil, err
		}
		pi["customer"] = id
	}
	if err := s.intentParams(c, pi); err != nil {
		return nil, err
	}
	return pi, s.keep(c.tx, pi) // Stripe has no event for it
}

// confirmIntent is POST /v1/payment_intents/{id}/confirm.
func (s *Server) confirmIntent(c *call) (object, error) {
	pi, err := c.path("payment_intent")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(unconfirmed, text(pi["status"])) {
		return nil, unexpectedIntent(pi, "confirm")
	}
	if err := s.intentParams(c, pi); err != nil {
		return nil, err
	}
	return s.confirm(c, pi)
}

func (s *Server) confirm(c *call, pi object) (object, error) {
	if text(pi["payment_method"]) == "" {
		return nil, coded("payment_intent_unexpected_state", "payment_method", "You cannot confirm this PaymentIntent because it's missing a payment method.")
	}
	pm, err := load(c.tx, "payment_method", text(pi["payment_method"]), "payment_method")
	if err != nil {
		return nil, err
	}
	how := attempt{returnURL: c.p.str("return_url")}
	if how.offSession, err = offSession(c.p); err != nil {
		return nil, err
	}
	strict, err := c.p.boolean("error_on_requires_action", false)
	if err != nil {
		return nil, err
	}
	how.offSession = how.offSession || strict
	refused, err := s.charge(c.tx, pi, pm, how)
	if err != nil {
		return nil, err
	}
	if err := s.settleInvoice(c.tx, pi); err != nil {
		return nil, err
	}
	if refused != nil {
		return nil, refused
	}
	return pi, nil
}

// offSession is true, or what kind of payment it is.
func offSession(p *params) (bool, error) {
	switch v := p.str("off_session"); v {
	case "one_off", "recurring":
		return true, nil
	default:
		return p.boolean("off_session", false)
	}
}

var cancelReasons = []string{"", "duplicate", "fraudulent", "requested_by_customer", "abandoned"}

// cancelIntent is POST /v1/payment_intents/{id}/cancel.
func (s *Server) cancelIntent(c *call) (object, error) {
	pi, err := c.path("payment_intent")
	if err != nil {
		return nil, err
	}
	reason, err := c.p.oneOf("cancellation_reason", cancelReasons...)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(unconfirmed, text(pi["status"])) {
		return nil, unexpectedIntent(pi, "cancel")
	}
	if text(pi["invoice"]) != "" {
		return nil, invalid("", "You cannot cancel a PaymentIntent of an invoice. Void the invoice instead.")
	}
	return pi, s.dropIntent(c.tx, pi, reason)
}

func (s *Server) dropIntent(tx *work, pi object, reason string) error {
	pi["status"], pi["canceled_at"], pi["cancellation_reason"], pi["next_action"] = "canceled", tx.unix(), optional(reason), nil
	return s.save(tx, pi, "payment_intent.canceled")
}

// attempt is how a payment is tried.
type attempt struct {
	offSession    bool
	authenticated bool
	returnURL     string
}

// charge tries to take an intent's amount. The refusal of the card is kept in the intent and returned, complete; what
// becomes of the intent otherwise is in its status.
func (s *Server) charge(tx *work, pi, pm object, how attempt) (*apiError, error) {
	t, id := keptTrait(pm), text(pi["id"])
	pi["payment_method"], pi["next_action"] = pm["id"], nil
	customer := text(pi["customer"])
	if customer != "" && text(pi["setup_future_usage"]) != "" && !t.unsaved {
		if err := s.attach(tx, pm, customer); err != nil {
			return nil, err
		}
	}
	switch {
	case t.authenticate && !how.authenticated && how.offSession:
		return s.failIntent(tx, pi, s.newCharge(tx, pi, pm), notAuthenticated())
	case t.authenticate && !how.authenticated:
		pi["status"], pi["next_action"] = "requires_action", s.nextAction(id, how.returnURL)
		return nil, s.save(tx, pi, "payment_intent.requires_action")
	case t.code != "":
		return s.failIntent(tx, pi, s.newCharge(tx, pi, pm), t.refusal())
	}
	charge := s.newCharge(tx, pi, pm)
	if pm["_card"] == Delayed {
		charge["status"], charge["paid"] = "pending", false
		if err := s.save(tx, charge, "charge.pending"); err != nil {
			return nil, err
		}
		pi["status"], pi["latest_charge"], pi["last_payment_error"] = "processing", charge["id"], nil
		return nil, s.save(tx, pi, "payment_intent.processing")
	}
	if err := s.succeed(tx, pi, charge); err != nil {
		return nil, err
	}
	if t.dispute != "" {
		_, err := s.openDispute(tx, charge, DisputeParams{Inquiry: t.dispute != "needs_response"})
		return nil, err
	}
	return nil, nil
}

// nextAction is where 3-D Secure goes on.
func (s *Server) nextAction(intent, returnURL string) map[string]any {
	page := s.cfg.BaseURL + "/authenticate/" + intent
	if returnURL == "" {
		return map[string]any{"type": "use_stripe_sdk", "use_stripe_sdk": map[string]any{"type": "three_d_secure_redirect", "stripe_js": page, "source": "src_" + secret()}}
	}
	return map[string]any{"type": "redirect_to_url", "redirect_to_url": map[string]any{"return_url": returnURL, "url": page}}
}

// succeed completes a charge and its intent, and what they pay.
func (s *Server) succeed(tx *work, pi, charge object) error {
	charge["status"], charge["paid"] = "succeeded", true
	if err := s.save(tx, charge, "charge.succeeded"); err != nil {
		return err
	}
	pi["latest_charge"], pi["status"], pi["amount_received"], pi["last_payment_error"] = charge["id"], "succeeded", pi["amount"], nil
	return s.save(tx, pi, "payment_intent.succeeded")
}

// failIntent marks a charge and its intent as failed and returns the complete refusal.
func (s *Server) failIntent(tx *work, pi, charge object, refused *apiError) (*apiError, error) {
	charge["status"], charge["paid"], charge["captured"], charge["amount_captured"] = "failed", false, false, 0
	charge["failure_code"], charge["failure_message"] = refused.Code, refused.Message
	charge["outcome"] = map[string]any{"network_status": "declined_by_network", "reason": optional(refused.DeclineCode), "risk_level": "normal", "risk_score": 20,
		"seller_message": "The bank did not return any further details with this decline.", "type": "issuer_declined"}
	if err := s.save(tx, charge, "charge.failed"); err != nil {
		return nil, err
	}
	method := text(pi["payment_method"])
	pi["status"], pi["latest_charge"], pi["payment_method"] = "requires_payment_method", charge["id"], nil
	refused.Charge, refused.kept = text(charge["id"]), true
	failure := map[string]any{"charge": charge["id"], "code": refused.Code, "decline_code": optional(refused.DeclineCode), "message": refused.Message, "type": "card_error"}
	if d, err := tx.get(method); err != nil {
		return nil, err
	} else if d != nil {
		pm, err := d.object()
		if err != nil {
			return nil, err
		}
		failure["payment_method"], refused.PaymentMethod = public(pm), public(pm)
	}
	pi["last_payment_error"] = failure
	if err := s.save(tx, pi, "payment_intent.payment_failed"); err != nil {
		return nil, err
	}
	refused.PaymentIntent = public(pi)
	return refused, nil
}

// newCharge makes the charge of an attempt to pay.
func (s *Server) newCharge(tx *work, pi, pm object) object {
	id, kind := newID("ch"), text(pm["type"])
	billing := fields(pm["billing_details"])
	return object{"id": id, "object": "charge", "amount": pi["amount"], "amount_captured": pi["amount"], "amount_refunded": 0, "application": nil,
		"balance_transaction": nil, "billing_details": map[string]any(billing), "captured": true, "created": tx.unix(), "currency": pi["currency"],
		"customer": pi["customer"], "description": pi["description"], "dispute": nil, "disputed": false, "failure_code": nil, "failure_message": nil,
		"fraud_details": map[string]any{}, "invoice": pi["invoice"], "livemode": false, "metadata": pi["metadata"],
		"outcome": map[string]any{"network_status": "approved_by_network", "reason": nil, "risk_level": "normal", "risk_score": 20,
			"seller_message": "Payment complete.", "type": "authorized"},
		"paid": true, "payment_intent": pi["id"], "payment_method": pm["id"],
		"payment_method_details": map[string]any{"type": kind, kind: pm[kind]}, "receipt_email": pi["receipt_email"],
		"receipt_url": s.cfg.BaseURL + "/receipts/" + id, "refunded": false, "status": "succeeded", "_card": pm["_card"]}
}

// Authenticate ends the 3-D Secure of a payment intent, a setup intent or a checkout session that asks for it, as the
// person does on its page. It returns where the person is sent then, which is empty for intents that were confirmed
// without a return_url.
func (s *Server) Authenticate(ctx context.Context, id string, succeed bool) (next string, err error) {
	err = s.do(ctx, func(tx *work) error {
		next, err = s.authenticate(tx, id, succeed)
		return err
	})
	return next, err
}

func (s *Server) authenticate(tx *work, id string, succeed bool) (next string, err error) {
	d, err := tx.get(id)
	if err != nil {
		return "", err
	}
	if d == nil {
		return "", noSuch("payment_intent", id, "id")
	}
	o, err := load(tx, d.Kind, id, "id")
	if err != nil {
		return "", err
	}
	switch {
	case d.Kind == "checkout.session" && text(o["_waiting"]) != "":
		return s.resumeSession(tx, o, succeed)
	case d.Kind != "payment_intent" && d.Kind != "setup_intent":
		return "", noSuch("payment_intent", id, "id")
	case o["status"] != "requires_action":
		return "", wrongState("The status is %s and asks for no authentication.", text(o["status"]))
	}
	if id := text(o["_session"]); id != "" {
		session, err := load(tx, "checkout.session", id, "id")
		if err != nil {
			return "", err
		}
		return s.resumeSession(tx, session, succeed)
	}
	next = text(fields(fields(o["next_action"])["redirect_to_url"])["return_url"])
	if d.Kind == "setup_intent" {
		return next, s.resumeSetup(tx, o, succeed)
	}
	return next, s.resumeIntent(tx, o, succeed)
}

// resumeIntent goes on with a payment intent after 3-D Secure.
func (s *Server) resumeIntent(tx *work, pi object, succeed bool) error {
	pm, err := load(tx, "payment_method", text(pi["payment_method"]), "payment_method")
	if err != nil {
		return err
	}
	if !succeed {
		pi["next_action"] = nil
		refused := &apiError{status: http.StatusPaymentRequired, Type: "card_error", Code: "payment_intent_authentication_failure",
			Message: "We are unable to authenticate your payment method. Please choose a different payment method and try again."}
		if _, err := s.failIntent(tx, pi, s.newCharge(tx, pi, pm), refused); err != nil {
			return err
		}
	} else if _, err := s.charge(tx, pi, pm, attempt{authenticated: true}); err != nil {
		return err
	}
	return s.settleInvoice(tx, pi)
}
