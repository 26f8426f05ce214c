package stripetest

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Card is what a person enters on the hosted page.
type Card struct {
	// Number, with or without spaces. See [CardSucceeds] and the others.
	Number string
	// Email and Name of who pays. Email is needed where the session has no customer.
	Email, Name string
}

// The numbers that the double knows (docs.stripe.com/testing).
const (
	CardSucceeds          = "4242424242424242"
	CardDeclined          = "4000000000000002"
	CardInsufficientFunds = "4000000000009995"
	// Delayed is in place of a card number: a bank debit that succeeds or fails later; see [Server.SettleDelayed].
	Delayed = "delayed"
)

var declines = map[string]struct{ code, message string }{
	CardDeclined:          {"generic_decline", "Your card was declined."},
	CardInsufficientFunds: {"insufficient_funds", "Your card has insufficient funds."},
}

// Pay completes a checkout session as a person does on the hosted page. It returns the URL that the person is sent to,
// or an error: a card that is declined leaves the session open.
func (s *Server) Pay(ctx context.Context, session string, card Card) (next string, err error) {
	var declined error
	err = s.do(ctx, func(tx storeTx) error {
		declined = nil
		o, err := load(tx, "checkout.session", session, "session")
		if err != nil {
			return err
		}
		if o["status"] != "open" {
			return wrongState("The session is %s.", text(o["status"]))
		}
		if number(o["expires_at"]) <= s.now().Unix() {
			return s.expire(tx, o)
		}
		next = strings.ReplaceAll(text(o["success_url"]), "{CHECKOUT_SESSION_ID}", session)
		card.Number = strings.NewReplacer(" ", "", "-", "").Replace(card.Number)
		if number(o["amount_total"]) == 0 {
			return s.complete(tx, o, card, "no_payment_required")
		}
		switch card.Number {
		case CardSucceeds:
			return s.pay(tx, o, card)
		case Delayed:
			return s.payLater(tx, o, card)
		}
		d, known := declines[card.Number]
		if !known {
			return &apiError{status: http.StatusPaymentRequired, Type: "card_error", Code: "incorrect_number", Param: "number",
				Message: "Your card number is incorrect, or is none of the test cards that the double knows."}
		}
		// The attempt is kept, so the refusal must not undo the transaction.
		declined = &apiError{status: http.StatusPaymentRequired, Type: "card_error", Code: "card_declined", DeclineCode: d.code, Message: d.message}
		return s.decline(tx, o, card, d.code, d.message)
	})
	if err == nil {
		err = declined
	}
	if err != nil {
		return "", err
	}
	return next, nil
}

// intentOf returns the session's payment intent, made at the first attempt.
func (s *Server) intentOf(tx storeTx, session object) (object, error) {
	if id := text(session["payment_intent"]); id != "" {
		return load(tx, "payment_intent", id, "payment_intent")
	}
	id := newID("pi")
	metadata, description := any(map[string]any{}), any(nil)
	if data, ok := session["_intent"].(map[string]any); ok {
		if data["metadata"] != nil {
			metadata = data["metadata"]
		}
		description = data["description"]
	}
	pi := object{"id": id, "object": "payment_intent", "amount": session["amount_total"], "amount_capturable": 0, "amount_received": 0,
		"capture_method": "automatic", "client_secret": id + "_secret_" + newID("x")[2:], "confirmation_method": "automatic", "created": s.now().Unix(),
		"currency": session["currency"], "customer": session["customer"], "description": description, "last_payment_error": nil, "latest_charge": nil,
		"livemode": false, "metadata": metadata, "next_action": nil, "payment_method": nil, "payment_method_types": []any{"card"},
		"receipt_email": nil, "status": "requires_payment_method"}
	session["payment_intent"] = id
	return pi, s.save(tx, pi, "payment_intent.created")
}

func (s *Server) newCharge(session, pi object, card Card) object {
	id := newID("ch")
	last4, kind := "", "us_bank_account"
	if card.Number != Delayed {
		last4, kind = card.Number[len(card.Number)-4:], "card"
	}
	details := map[string]any{"type": kind, kind: map[string]any{"last4": optional(last4)}}
	if kind == "card" {
		details[kind] = map[string]any{"brand": "visa", "country": "US", "exp_month": 12, "exp_year": s.now().Year() + 3, "funding": "credit", "last4": last4}
	}
	return object{"id": id, "object": "charge", "amount": pi["amount"], "amount_captured": pi["amount"], "amount_refunded": 0, "balance_transaction": nil,
		"billing_details": map[string]any{"email": payerEmail(session, card), "name": optional(card.Name), "phone": nil}, "captured": true,
		"created": s.now().Unix(), "currency": pi["currency"], "customer": pi["customer"], "description": pi["description"], "disputed": false,
		"failure_code": nil, "failure_message": nil, "invoice": nil, "livemode": false, "metadata": pi["metadata"],
		"outcome": map[string]any{"network_status": "approved_by_network", "type": "authorized"}, "paid": true, "payment_intent": pi["id"],
		"payment_method_details": details, "receipt_email": nil, "receipt_url": s.cfg.BaseURL + "/receipts/" + id, "refunded": false, "status": "succeeded"}
}

func payerEmail(session object, card Card) any {
	if card.Email != "" {
		return card.Email
	}
	if details, ok := session["customer_details"].(map[string]any); ok {
		return details["email"]
	}
	return nil
}

func (s *Server) pay(tx storeTx, session object, card Card) error {
	pi, err := s.intentOf(tx, session)
	if err != nil {
		return err
	}
	charge := s.newCharge(session, pi, card)
	if err := s.save(tx, charge, "charge.succeeded"); err != nil {
		return err
	}
	pi["latest_charge"], pi["status"], pi["amount_received"], pi["last_payment_error"] = charge["id"], "succeeded", pi["amount"], nil
	if err := s.save(tx, pi, "payment_intent.succeeded"); err != nil {
		return err
	}
	return s.complete(tx, session, card, "paid")
}

func (s *Server) decline(tx storeTx, session object, card Card, code, message string) error {
	pi, err := s.intentOf(tx, session)
	if err != nil {
		return err
	}
	if err := tx.put(text(session["id"]), "checkout.session", session); err != nil {
		return err
	}
	return s.failPayment(tx, s.newCharge(session, pi, card), pi, code, message, "charge.failed")
}

// failPayment marks a charge and its intent as failed.
func (s *Server) failPayment(tx storeTx, charge, pi object, code, message, event string) error {
	charge["status"], charge["paid"], charge["captured"], charge["amount_captured"] = "failed", false, false, 0
	charge["failure_code"], charge["failure_message"], charge["receipt_url"] = "card_declined", message, nil
	charge["outcome"] = map[string]any{"network_status": "declined_by_network", "reason": code, "type": "issuer_declined"}
	if err := s.save(tx, charge, event); err != nil {
		return err
	}
	pi["latest_charge"], pi["status"] = charge["id"], "requires_payment_method"
	pi["last_payment_error"] = map[string]any{"charge": charge["id"], "code": "card_declined", "decline_code": code, "message": message, "type": "card_error"}
	return s.save(tx, pi, "payment_intent.payment_failed")
}

// payLater completes the session with a method whose money comes later, or does not.
func (s *Server) payLater(tx storeTx, session object, card Card) error {
	pi, err := s.intentOf(tx, session)
	if err != nil {
		return err
	}
	charge := s.newCharge(session, pi, card)
	charge["status"], charge["paid"] = "pending", false
	if err := s.save(tx, charge, "charge.pending"); err != nil {
		return err
	}
	pi["latest_charge"], pi["status"] = charge["id"], "processing"
	if err := s.save(tx, pi, "payment_intent.processing"); err != nil {
		return err
	}
	return s.complete(tx, session, card, "unpaid")
}

func (s *Server) complete(tx storeTx, session object, card Card, paymentStatus string) error {
	session["status"], session["payment_status"], session["url"] = "complete", paymentStatus, nil
	session["customer_details"] = map[string]any{"email": payerEmail(session, card), "name": optional(card.Name), "phone": nil}
	return s.save(tx, session, "checkout.session.completed")
}

// SettleDelayed decides a payment of the method [Delayed]: the money came, or it did not.
func (s *Server) SettleDelayed(ctx context.Context, session string, succeeded bool) error {
	return s.do(ctx, func(tx storeTx) error {
		o, err := load(tx, "checkout.session", session, "session")
		if err != nil {
			return err
		}
		pi, err := load(tx, "payment_intent", text(o["payment_intent"]), "payment_intent")
		if err != nil {
			return err
		}
		if pi["status"] != "processing" {
			return wrongState("The payment is %s and waits for nothing.", text(pi["status"]))
		}
		charge, err := load(tx, "charge", text(pi["latest_charge"]), "charge")
		if err != nil {
			return err
		}
		if !succeeded {
			if err := s.failPayment(tx, charge, pi, "generic_decline", "The bank refused the payment.", "charge.failed"); err != nil {
				return err
			}
			return s.save(tx, o, "checkout.session.async_payment_failed")
		}
		charge["status"], charge["paid"] = "succeeded", true
		if err := s.save(tx, charge, "charge.succeeded"); err != nil {
			return err
		}
		pi["status"], pi["amount_received"] = "succeeded", pi["amount"]
		if err := s.save(tx, pi, "payment_intent.succeeded"); err != nil {
			return err
		}
		o["payment_status"] = "paid"
		return s.save(tx, o, "checkout.session.async_payment_succeeded")
	})
}

// luhn checks a card number's last digit (ISO/IEC 7812-1).
func luhn(digits string) bool {
	if len(digits) < 12 || len(digits) > 19 {
		return false
	}
	sum := 0
	for i := range len(digits) {
		n, err := strconv.Atoi(digits[len(digits)-1-i : len(digits)-i])
		if err != nil {
			return false
		}
		if i%2 == 1 {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	return sum%10 == 0
}

// Amount writes money for people: 12.50 USD.
func amount(minor int64, currency string) string {
	switch strings.ToLower(currency) {
	case "jpy", "krw", "vnd", "clp":
		return fmt.Sprintf("%d %s", minor, strings.ToUpper(currency))
	case "kwd", "bhd", "jod", "omr", "tnd":
		return fmt.Sprintf("%d.%03d %s", minor/1000, minor%1000, strings.ToUpper(currency))
	}
	return fmt.Sprintf("%d.%02d %s", minor/100, minor%100, strings.ToUpper(currency))
}
