package stripetest

import (
	"context"
	"net/http"
)

// collect tries to take the money of an open invoice. manual is for what somebody asks for, which changes nothing about
// the automatic retries. inv is stale afterwards.
func (s *Server) collect(tx *work, inv, pm object, how attempt, manual bool) (*apiError, error) {
	inv["_manual"] = manual
	if err := s.keep(tx, inv); err != nil {
		return nil, err
	}
	pi, err := load(tx, "payment_intent", text(inv["payment_intent"]), "payment_intent")
	if err != nil {
		return nil, err
	}
	var refused *apiError
	if pm == nil {
		refused = noMethod()
	} else if refused, err = s.charge(tx, pi, pm, how); err != nil {
		return nil, err
	}
	return refused, s.settleInvoice(tx, pi)
}

func noMethod() *apiError {
	return &apiError{status: http.StatusBadRequest, Type: invalidRequest, Code: "resource_missing",
		Message: "This customer has no attached payment source or default payment method. Please consider adding a default payment method."}
}

// settleInvoice makes of an invoice what became of its payment intent.
func (s *Server) settleInvoice(tx *work, pi object) error {
	id := text(pi["invoice"])
	if id == "" {
		return nil
	}
	inv, err := load(tx, "invoice", id, "invoice")
	if err != nil {
		return err
	}
	if inv["status"] != "open" && inv["status"] != "uncollectible" {
		return nil
	}
	switch pi["status"] {
	case "succeeded":
		return s.invoicePaid(tx, inv, pi)
	case "processing":
		inv["attempted"], inv["charge"], inv["next_payment_attempt"] = true, pi["latest_charge"], nil
		tx.wait(inv, 0)
		if err := s.save(tx, inv, "invoice.updated"); err != nil {
			return err
		}
		return s.subscriptionPaid(tx, inv)
	case "requires_action":
		if err := s.emit(tx, "invoice.payment_action_required", inv); err != nil {
			return err
		}
		if inv["billing_reason"] == "subscription_create" {
			inv["attempted"] = true
			return s.keep(tx, inv)
		}
	}
	return s.invoiceFailed(tx, inv, pi)
}

// invoicePaid marks an invoice as paid, and what it pays for. pi is nil when nothing was due.
func (s *Server) invoicePaid(tx *work, inv, pi object) error {
	inv["status"], inv["paid"], inv["attempted"], inv["next_payment_attempt"] = "paid", true, true, nil
	inv["amount_paid"], inv["amount_remaining"] = inv["amount_due"], 0
	if pi != nil {
		inv["charge"] = pi["latest_charge"]
		if number(inv["attempt_count"]) == 0 || inv["_manual"] != true {
			inv["attempt_count"] = number(inv["attempt_count"]) + 1
		}
	}
	fields(inv["status_transitions"])["paid_at"] = tx.unix()
	tx.wait(inv, 0)
	for _, event := range []string{"invoice.updated", "invoice.paid", "invoice.payment_succeeded"} {
		if err := s.save(tx, inv, event); err != nil {
			return err
		}
	}
	if err := s.delinquent(tx, inv, false); err != nil {
		return err
	}
	return s.subscriptionPaid(tx, inv)
}

// delinquent notes on the customer what became of the latest invoice that changed: an automatic payment that failed sets
// it, and paying or giving up an invoice clears it (docs.stripe.com/api/customers/object#customer_object-delinquent).
func (s *Server) delinquent(tx *work, inv object, is bool) error {
	customer, err := load(tx, "customer", text(inv["customer"]), "customer")
	if err != nil || customer["deleted"] == true || customer["delinquent"] == is {
		return err
	}
	customer["delinquent"] = is
	return s.save(tx, customer, "customer.updated")
}

// invoiceFailed notes an attempt that brought no money, and when the next one is.
func (s *Server) invoiceFailed(tx *work, inv, pi object) error {
	inv["attempted"], inv["charge"] = true, pi["latest_charge"]
	manual := inv["_manual"] == true
	if number(inv["attempt_count"]) == 0 || !manual {
		inv["attempt_count"] = number(inv["attempt_count"]) + 1
	}
	// The first payment of a subscription, and of a change that waits for it, is not tried again by itself.
	retried := inv["auto_advance"] == true && inv["billing_reason"] != "subscription_create" && text(inv["_update"]) == "" && text(inv["subscription"]) != ""
	last := false
	if retried && (!manual || number(inv["next_payment_attempt"]) == 0) {
		try := int(number(inv["attempt_count"])) - 1
		if last = try >= len(s.cfg.Retries); last {
			inv["next_payment_attempt"] = nil
			tx.wait(inv, 0)
		} else {
			next := tx.now.Add(s.cfg.Retries[try]).Unix()
			inv["next_payment_attempt"] = next
			tx.wait(inv, next)
		}
	}
	for _, event := range []string{"invoice.updated", "invoice.payment_failed"} {
		if err := s.save(tx, inv, event); err != nil {
			return err
		}
	}
	if !manual && inv["billing_reason"] != "subscription_create" && text(inv["_update"]) == "" {
		if err := s.delinquent(tx, inv, true); err != nil {
			return err
		}
	}
	return s.subscriptionUnpaid(tx, inv, last)
}

// invoiceMethod is what pays for an invoice by itself.
func (s *Server) invoiceMethod(tx *work, customer, inv object) (object, error) {
	sub := object{}
	if id := text(inv["subscription"]); id != "" {
		var err error
		if sub, err = load(tx, "subscription", id, "subscription"); err != nil {
			return nil, err
		}
	}
	return s.defaultMethod(tx, customer, sub)
}

// PayInvoice pays an open invoice as a person does on its hosted page, with a new card that is saved for the next ones.
// A card that is declined leaves it open.
func (s *Server) PayInvoice(ctx context.Context, invoice string, card Card) error {
	var refused *apiError
	err := s.do(ctx, func(tx *work) (err error) {
		refused, err = s.payHosted(tx, invoice, card)
		return err
	})
	if err == nil && refused != nil {
		err = refused
	}
	return err
}

func (s *Server) payHosted(tx *work, invoice string, card Card) (*apiError, error) {
	inv, err := load(tx, "invoice", invoice, "id")
	if err != nil {
		return nil, err
	}
	if inv["status"] != "open" && inv["status"] != "uncollectible" {
		return nil, notOpen(inv, "pay")
	}
	card.Number = digits(card.Number)
	t, err := traitOf(card.Number, "number")
	if err != nil {
		return nil, err
	}
	pm := s.newMethod(tx, card.Number, 12, int64(tx.now.Year()+3), billingDetails(text(inv["customer_email"]), card.Name))
	if err := s.keep(tx, pm); err != nil {
		return nil, err
	}
	if t.authenticate && card.FailAuthentication {
		return &apiError{status: http.StatusPaymentRequired, Type: "card_error", Code: "payment_intent_authentication_failure",
			Message: "We are unable to authenticate your payment method. Please choose a different payment method and try again."}, nil
	}
	refused, err := s.collect(tx, inv, pm, attempt{authenticated: true}, true)
	if err != nil || refused != nil || text(inv["subscription"]) == "" {
		return refused, err
	}
	sub, err := load(tx, "subscription", text(inv["subscription"]), "subscription")
	if err != nil || ended(sub) {
		return nil, err
	}
	sub["default_payment_method"] = pm["id"]
	return nil, s.save(tx, sub, "customer.subscription.updated")
}
