package stripetest

import (
	"context"
	"slices"
	"time"
)

// evidenceTime is how long evidence can be handed in.
const evidenceTime = 9 * 24 * time.Hour

// DisputeParams are how a dispute begins.
type DisputeParams struct {
	// Amount that is disputed, in minor units. 0: what is left of the charge after refunds.
	Amount int64
	// Reason is one of Stripe's, such as product_not_received. Empty: fraudulent.
	Reason string
	// Inquiry begins an early warning, which moves no money: its status is warning_needs_response.
	Inquiry bool
}

// OpenDispute makes the customer's bank dispute a charge, and returns the dispute's id. Unless it is an inquiry the money
// is withdrawn at once.
func (s *Server) OpenDispute(ctx context.Context, charge string, p DisputeParams) (id string, err error) {
	err = s.do(ctx, func(tx *work) error {
		o, err := load(tx, "charge", charge, "id")
		if err != nil {
			return err
		}
		id, err = s.openDispute(tx, o, p)
		return err
	})
	return id, err
}

var disputeReasons = []string{"fraudulent", "bank_cannot_process", "check_returned", "credit_not_processed", "customer_initiated", "debit_not_authorized",
	"duplicate", "general", "incorrect_account_details", "insufficient_funds", "product_not_received", "product_unacceptable",
	"subscription_canceled", "unrecognized"}

func (s *Server) openDispute(tx *work, charge object, p DisputeParams) (string, error) {
	if p.Reason == "" {
		p.Reason = disputeReasons[0]
	}
	left := number(charge["amount"]) - number(charge["amount_refunded"])
	if p.Amount == 0 {
		p.Amount = left
	}
	switch {
	case !slices.Contains(disputeReasons, p.Reason):
		return "", invalid("reason", "Invalid reason: %s", p.Reason)
	case charge["status"] != "succeeded":
		return "", wrongState("The charge is %s and cannot be disputed.", text(charge["status"]))
	case charge["disputed"] == true:
		return "", wrongState("The charge is disputed already.")
	case p.Amount < 1 || p.Amount > number(charge["amount"]):
		return "", invalid("amount", "The disputed amount is more than the charge's, or nothing is left of it.")
	}
	id, status := newID("dp"), "needs_response"
	if p.Inquiry {
		status = "warning_needs_response"
	}
	o := object{"id": id, "object": "dispute", "amount": p.Amount, "balance_transaction": nil, "balance_transactions": []any{}, "charge": charge["id"],
		"created": tx.unix(), "currency": charge["currency"], "evidence": map[string]any{},
		"evidence_details":     map[string]any{"due_by": tx.now.Add(evidenceTime).Unix(), "has_evidence": false, "past_due": false, "submission_count": 0},
		"is_charge_refundable": p.Inquiry, "livemode": false, "metadata": map[string]any{}, "network_reason_code": nil,
		"payment_intent": charge["payment_intent"], "payment_method_details": map[string]any{"type": "card", "card": map[string]any{"brand": "visa", "network_reason_code": nil}},
		"reason": p.Reason, "status": status}
	charge["disputed"], charge["dispute"], charge["_inquiry"] = true, id, p.Inquiry
	if err := s.save(tx, charge, "charge.updated"); err != nil {
		return "", err
	}
	if err := s.save(tx, o, "charge.dispute.created"); err != nil || p.Inquiry {
		return id, err
	}
	return id, s.emit(tx, "charge.dispute.funds_withdrawn", o)
}

// isWarning tells an inquiry from a dispute.
func isWarning(o object) bool {
	return len(text(o["status"])) > 8 && text(o["status"])[:8] == "warning_"
}

func disputeOver(o object) bool {
	return slices.Contains([]string{"won", "lost", "warning_closed"}, text(o["status"]))
}

// EscalateDispute makes an inquiry a dispute: the money is withdrawn now.
func (s *Server) EscalateDispute(ctx context.Context, dispute string) error {
	return s.do(ctx, func(tx *work) error {
		o, err := load(tx, "dispute", dispute, "id")
		if err != nil {
			return err
		}
		if !isWarning(o) || disputeOver(o) {
			return wrongState("The dispute is %s and no open inquiry.", text(o["status"]))
		}
		charge, err := load(tx, "charge", text(o["charge"]), "charge")
		if err != nil {
			return err
		}
		charge["_inquiry"] = false
		if err := s.keep(tx, charge); err != nil {
			return err
		}
		o["status"], o["is_charge_refundable"] = "needs_response", false
		if err := s.save(tx, o, "charge.dispute.updated"); err != nil {
			return err
		}
		return s.emit(tx, "charge.dispute.funds_withdrawn", o)
	})
}

// CloseDispute ends a dispute: won brings the money back, lost does not. An inquiry that is won closes without a dispute;
// one cannot be lost.
func (s *Server) CloseDispute(ctx context.Context, dispute string, won bool) error {
	return s.do(ctx, func(tx *work) error {
		o, err := load(tx, "dispute", dispute, "id")
		if err != nil {
			return err
		}
		return s.closeDispute(tx, o, won)
	})
}

func (s *Server) closeDispute(tx *work, o object, won bool) error {
	switch {
	case disputeOver(o):
		return wrongState("The dispute is %s already.", text(o["status"]))
	case isWarning(o) && !won:
		return wrongState("An inquiry is not lost; it becomes a dispute.")
	case isWarning(o):
		o["status"] = "warning_closed"
		charge, err := load(tx, "charge", text(o["charge"]), "charge")
		if err != nil {
			return err
		}
		charge["disputed"], charge["_inquiry"] = false, false
		if err := s.save(tx, charge, "charge.updated"); err != nil {
			return err
		}
	case won:
		o["status"] = "won"
	default:
		o["status"] = "lost"
	}
	o["is_charge_refundable"] = false
	if err := s.save(tx, o, "charge.dispute.closed"); err != nil || o["status"] != "won" {
		return err
	}
	return s.emit(tx, "charge.dispute.funds_reinstated", o)
}

var evidenceFields = []string{"access_activity_log", "billing_address", "cancellation_policy", "cancellation_policy_disclosure", "cancellation_rebuttal",
	"customer_communication", "customer_email_address", "customer_name", "customer_purchase_ip", "customer_signature", "duplicate_charge_documentation",
	"duplicate_charge_explanation", "duplicate_charge_id", "product_description", "receipt", "refund_policy", "refund_policy_disclosure",
	"refund_refusal_explanation", "service_date", "service_documentation", "shipping_address", "shipping_carrier", "shipping_date",
	"shipping_documentation", "shipping_tracking_number", "uncategorized_file", "uncategorized_text"}

// updateDispute is POST /v1/disputes/{id}: evidence. As in Stripe's test mode, winning_evidence and losing_evidence as the
// uncategorized text decide (docs.stripe.com/testing#evidence).
func (s *Server) updateDispute(c *call) (object, error) {
	o, err := c.path("dispute")
	if err != nil {
		return nil, err
	}
	o["metadata"] = c.p.metadata(o["metadata"])
	submit, err := c.p.boolean("submit", true)
	if err != nil {
		return nil, err
	}
	given := c.p.sub("evidence")
	if given == nil {
		return o, s.save(c.tx, o, "charge.dispute.updated")
	}
	if disputeOver(o) {
		return nil, invalid("", "This dispute is already closed.")
	}
	evidence, details := fields(o["evidence"]), fields(o["evidence_details"])
	for _, field := range evidenceFields {
		if given.has(field) {
			evidence[field] = optional(given.str(field))
		}
	}
	details["has_evidence"] = true
	if !submit {
		return o, s.save(c.tx, o, "charge.dispute.updated")
	}
	details["submission_count"] = number(details["submission_count"]) + 1
	if o["status"] = "under_review"; o["is_charge_refundable"] == true {
		o["status"] = "warning_under_review"
	}
	if err := s.save(c.tx, o, "charge.dispute.updated"); err != nil {
		return nil, err
	}
	switch evidence["uncategorized_text"] {
	case "winning_evidence":
		err = s.closeDispute(c.tx, o, true)
	case "losing_evidence":
		err = s.closeDispute(c.tx, o, false)
	}
	return o, err
}

// concedeDispute is POST /v1/disputes/{id}/close: it is lost.
func (s *Server) concedeDispute(c *call) (object, error) {
	o, err := c.path("dispute")
	if err != nil {
		return nil, err
	}
	if disputeOver(o) || isWarning(o) {
		return nil, invalid("", "This dispute cannot be closed: it is %s.", text(o["status"]))
	}
	return o, s.closeDispute(c.tx, o, false)
}
