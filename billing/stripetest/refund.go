package stripetest

import (
	"context"
	"net/http"
	"time"
)

// refundFailure is how long after its making a refund of [CardRefundFails] fails.
const refundFailure = 24 * time.Hour

var refundReasons = []string{"", "duplicate", "fraudulent", "requested_by_customer"}

// createRefund is POST /v1/refunds (docs.stripe.com/api/refunds).
func (s *Server) createRefund(c *call) (object, error) {
	charge, err := s.refunded(c)
	if err != nil {
		return nil, err
	}
	id, left := text(charge["id"]), number(charge["amount"])-number(charge["amount_refunded"])
	amountSent, err := c.p.integer("amount", left)
	if err != nil {
		return nil, err
	}
	reason, err := c.p.oneOf("reason", refundReasons...)
	switch {
	case err != nil:
		return nil, err
	case charge["status"] != "succeeded":
		return nil, coded("charge_not_refundable", "", "The charge %s has not succeeded and cannot be refunded.", id)
	case charge["disputed"] == true && charge["_inquiry"] != true:
		return nil, coded("charge_disputed", "", "The charge %s has been charged back; cannot issue a refund.", id)
	case left == 0:
		return nil, coded("charge_already_refunded", "", "Charge %s has already been refunded.", id)
	case amountSent < 1:
		return nil, coded("parameter_invalid_integer", "amount", "This value must be greater than or equal to 1.")
	case amountSent > left:
		return nil, &apiError{status: http.StatusBadRequest, Type: invalidRequest, Param: "amount", Message: "Refund amount (" +
			amount(amountSent, text(charge["currency"])) + ") is greater than unrefunded amount on charge (" + amount(left, text(charge["currency"])) + ")"}
	}
	o := object{"id": newID("re"), "object": "refund", "amount": amountSent, "balance_transaction": nil, "charge": id, "created": c.tx.unix(),
		"currency": charge["currency"], "destination_details": map[string]any{"type": "card"}, "metadata": c.p.metadata(nil),
		"payment_intent": charge["payment_intent"], "reason": optional(reason), "receipt_number": nil, "source_transfer_reversal": nil, "status": "succeeded",
		"transfer_reversal": nil}
	switch t := keptTrait(charge); {
	case t.refund == "pending" || charge["_card"] == Delayed:
		o["status"] = "pending"
	case t.refund == "failing":
		c.tx.wait(o, c.tx.now.Add(refundFailure).Unix())
	}
	if err := s.keep(c.tx, o); err != nil {
		return nil, err
	}
	return o, s.addRefunded(c.tx, charge, amountSent, "charge.refunded")
}

// refunded is the charge that is meant: that of the payment intent, or the one named.
func (s *Server) refunded(c *call) (object, error) {
	intent, charge := c.p.str("payment_intent"), c.p.str("charge")
	switch {
	case intent != "" && charge != "":
		return nil, invalid("charge", "You may only specify one of these parameters: payment_intent, charge.")
	case intent == "" && charge == "":
		return nil, coded("parameter_missing", "payment_intent", "One of the following params should be provided for this request: payment_intent or charge.")
	case charge != "":
		return c.load("charge", charge, "charge")
	}
	pi, err := c.load("payment_intent", intent, "payment_intent")
	if err != nil {
		return nil, err
	}
	if pi["status"] != "succeeded" {
		return nil, coded("charge_not_refundable", "payment_intent", "This PaymentIntent (%s) does not have a successful charge to refund.", intent)
	}
	return c.load("charge", text(pi["latest_charge"]), "payment_intent")
}

// addRefunded moves the running sum of a charge; a refund that fails takes its part back.
func (s *Server) addRefunded(tx *work, charge object, amount int64, event string) error {
	sum := number(charge["amount_refunded"]) + amount
	charge["amount_refunded"], charge["refunded"] = sum, sum == number(charge["amount"])
	if event == "" {
		return s.keep(tx, charge)
	}
	return s.save(tx, charge, event)
}

func (s *Server) updateRefund(c *call) (object, error) {
	o, err := c.path("refund")
	if err != nil {
		return nil, err
	}
	o["metadata"] = c.p.metadata(o["metadata"])
	return o, s.save(c.tx, o, "charge.refund.updated")
}

// cancelRefund is POST /v1/refunds/{id}/cancel, which Stripe allows only while a refund waits for the customer; the
// double's never do.
func (s *Server) cancelRefund(c *call) (object, error) {
	o, err := c.path("refund")
	if err != nil {
		return nil, err
	}
	return nil, invalid("", "You can only cancel refunds that require an action. This refund is %s.", text(o["status"]))
}

func (s *Server) tickRefund(tx *work, o object) error {
	tx.wait(o, 0)
	return s.failRefund(tx, o, "lost_or_stolen_card")
}

func (s *Server) failRefund(tx *work, o object, reason string) error {
	o["status"], o["failure_reason"], o["failure_balance_transaction"] = "failed", reason, nil
	tx.wait(o, 0)
	charge, err := load(tx, "charge", text(o["charge"]), "charge")
	if err != nil {
		return err
	}
	if err := s.addRefunded(tx, charge, -number(o["amount"]), ""); err != nil {
		return err
	}
	return s.save(tx, o, "charge.refund.updated")
}

// SettleRefund makes a pending refund succeed.
func (s *Server) SettleRefund(ctx context.Context, refund string) error {
	return s.do(ctx, func(tx *work) error {
		o, err := load(tx, "refund", refund, "id")
		if err != nil {
			return err
		}
		if o["status"] != "pending" {
			return wrongState("The refund is %s and waits for nothing.", text(o["status"]))
		}
		o["status"] = "succeeded"
		return s.save(tx, o, "charge.refund.updated")
	})
}

// FailRefund makes a refund fail that is pending or had succeeded, as banks do days later. The reason is one of Stripe's,
// such as lost_or_stolen_card; empty: unknown. The charge counts the money as not refunded again.
func (s *Server) FailRefund(ctx context.Context, refund, reason string) error {
	if reason == "" {
		reason = "unknown"
	}
	return s.do(ctx, func(tx *work) error {
		o, err := load(tx, "refund", refund, "id")
		if err != nil {
			return err
		}
		if o["status"] != "pending" && o["status"] != "succeeded" {
			return wrongState("The refund is %s already.", text(o["status"]))
		}
		return s.failRefund(tx, o, reason)
	})
}
