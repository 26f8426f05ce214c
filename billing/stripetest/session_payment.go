package stripetest

import (
	"context"
	"maps"
	"net/http"
	"strings"
)

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
	o["_payer"] = map[string]any{"email": card.Email, "name": card.Name}
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
	card := Card{Email: text(payer["email"]), Name: text(payer["name"])}
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
