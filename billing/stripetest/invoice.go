package stripetest

import (
	"slices"
	"time"
)

// draftTime is how long the invoice of a renewal stays a draft before it is finalized and paid
// (docs.stripe.com/billing/invoices/subscription#sub-invoice-lifecycle).
const draftTime = time.Hour

// pendingLife is how long a first payment, or a change that waits for its payment, may take
// (docs.stripe.com/billing/subscriptions/pending-updates).
const pendingLife = 23 * time.Hour

// line makes a line of an invoice.
func line(amount int64, currency, description string, from, to int64, price any, quantity int64) map[string]any {
	return map[string]any{"id": newID("il"), "object": "line_item", "amount": amount, "amount_excluding_tax": amount, "currency": currency,
		"description": description, "discount_amounts": []any{}, "discountable": true, "discounts": []any{}, "invoice_item": nil, "livemode": false,
		"metadata": map[string]any{}, "period": map[string]any{"start": from, "end": to}, "plan": planOf(fields(price)), "price": price, "proration": false,
		"proration_details": map[string]any{"credited_items": nil}, "quantity": quantity, "subscription": nil, "subscription_item": nil,
		"tax_amounts": []any{}, "tax_rates": []any{}, "type": "invoiceitem"}
}

// draft makes an invoice of pending items and of lines. sub may be nil.
func (s *Server) draft(tx *work, customer, sub object, reason string, items []object, lines []any) (object, error) {
	id := newID("in")
	inv := object{"id": id, "object": "invoice", "account_country": "US", "account_name": "Simulated", "amount_due": 0, "amount_paid": 0, "amount_remaining": 0,
		"amount_shipping": 0, "application": nil, "attempt_count": 0, "attempted": false, "auto_advance": true,
		"automatic_tax": map[string]any{"enabled": false, "status": nil}, "billing_reason": reason, "charge": nil, "collection_method": "charge_automatically",
		"created": tx.unix(), "currency": nil, "custom_fields": nil, "customer": customer["id"], "customer_address": customer["address"],
		"customer_email": customer["email"], "customer_name": customer["name"], "customer_phone": customer["phone"], "default_payment_method": nil,
		"default_source": nil, "default_tax_rates": []any{}, "description": nil, "discount": nil, "discounts": []any{}, "due_date": nil,
		"effective_at": nil, "ending_balance": nil, "footer": nil, "hosted_invoice_url": nil, "invoice_pdf": nil, "last_finalization_error": nil,
		"livemode": false, "metadata": map[string]any{}, "next_payment_attempt": nil, "number": nil, "paid": false, "paid_out_of_band": false,
		"payment_intent": nil, "payment_settings": map[string]any{"default_mandate": nil, "payment_method_options": nil, "payment_method_types": nil},
		"period_start": tx.unix(), "period_end": tx.unix(), "receipt_number": nil, "starting_balance": 0, "status": "draft",
		"status_transitions": map[string]any{"finalized_at": nil, "marked_uncollectible_at": nil, "paid_at": nil, "voided_at": nil},
		"subscription":       nil, "subscription_details": map[string]any{"metadata": nil}, "tax": nil, "test_clock": customer["test_clock"]}
	discount := fields(customer["discount"])
	if sub != nil {
		inv["subscription"], inv["currency"], inv["default_payment_method"] = sub["id"], sub["currency"], nil
		inv["subscription_details"] = map[string]any{"metadata": sub["metadata"]}
		if d := fields(sub["discount"]); len(d) > 0 {
			discount = d
		}
	}
	var all []any
	for _, item := range items {
		l := line(number(item["amount"]), text(item["currency"]), text(item["description"]), number(fields(item["period"])["start"]), number(fields(item["period"])["end"]),
			item["price"], number(item["quantity"]))
		l["invoice_item"], l["proration"], l["discountable"], l["metadata"] = item["id"], item["proration"], item["discountable"], item["metadata"]
		l["subscription"], l["subscription_item"] = item["subscription"], item["_subscription_item"]
		all = append(all, l)
		if inv["currency"] == nil {
			inv["currency"] = item["currency"]
		}
		item["invoice"], item["_pending"] = id, nil
		if err := s.keep(tx, item); err != nil {
			return nil, err
		}
	}
	all = append(all, lines...)
	inv["lines"] = inline(all, "/v1/invoices/"+id+"/lines")
	if len(discount) > 0 {
		inv["discount"] = map[string]any(discount)
	}
	s.total(tx, inv, customer)
	if err := s.save(tx, inv, "invoice.created"); err != nil {
		return nil, err
	}
	return inv, s.useDiscount(tx, customer, sub, discount)
}

// useDiscount takes a discount away that was for one invoice, or is over.
func (s *Server) useDiscount(tx *work, customer, sub, discount object) error {
	if len(discount) == 0 || fields(discount["coupon"])["duration"] != "once" && !passed(tx, discount["end"]) {
		return nil
	}
	owner := customer
	if sub != nil && fields(sub["discount"])["id"] == discount["id"] {
		owner = sub
	}
	_, err := s.dropDiscount(tx, owner)
	return err
}

// total works out an invoice from its lines, its discount and the customer's balance.
func (s *Server) total(tx *work, inv, customer object) {
	subtotal, base := int64(0), int64(0)
	for _, l := range elements(fields(inv["lines"])["data"]) {
		amount := number(fields(l)["amount"])
		subtotal += amount
		if fields(l)["discountable"] == true {
			base += amount
		}
	}
	d := fields(inv["discount"])
	off := discounted(d, base, text(inv["currency"]), tx.now)
	inv["total_discount_amounts"] = []any{}
	if off > 0 {
		inv["total_discount_amounts"] = []any{map[string]any{"amount": off, "discount": d["id"]}}
	}
	total := subtotal - off
	inv["subtotal"], inv["subtotal_excluding_tax"], inv["total"], inv["total_excluding_tax"], inv["total_tax_amounts"] = subtotal, subtotal, total, total, []any{}
	s.balance(inv, number(customer["balance"]))
}

// balance sets what is due after the customer's balance, of which the invoice leaves a rest: a credit is below 0. What
// is too little to be charged goes to the balance (docs.stripe.com/billing/customer/balance).
func (s *Server) balance(inv object, starting int64) (ending int64) {
	due := number(inv["total"]) + starting
	switch {
	case due < minimumCharge && number(inv["total"]) != 0:
		due, ending = 0, due
	case number(inv["total"]) == 0:
		due, ending = 0, starting
	}
	inv["starting_balance"], inv["amount_due"], inv["amount_remaining"] = starting, due, due
	return ending
}

// finalize makes a draft an open invoice with a number; one of which nothing is due is paid by that.
func (s *Server) finalize(tx *work, inv object) error {
	customer, err := load(tx, "customer", text(inv["customer"]), "customer")
	if err != nil {
		return err
	}
	sequence := number(customer["next_invoice_sequence"])
	starting := number(customer["balance"])
	ending := s.balance(inv, starting)
	customer["next_invoice_sequence"], customer["balance"] = sequence+1, ending
	if ending == starting {
		err = s.keep(tx, customer)
	} else {
		err = s.save(tx, customer, "customer.updated")
	}
	if err != nil {
		return err
	}
	inv["ending_balance"], inv["status"], inv["effective_at"] = ending, "open", tx.unix()
	inv["number"] = text(customer["invoice_prefix"]) + "-" + pad(sequence)
	inv["hosted_invoice_url"] = s.cfg.BaseURL + "/invoices/" + text(inv["id"])
	fields(inv["status_transitions"])["finalized_at"] = tx.unix()
	inv["next_payment_attempt"] = nil
	tx.wait(inv, 0)
	due := number(inv["amount_due"])
	if due > 0 {
		pi := s.newIntent(tx, due, text(inv["currency"]), inv["customer"])
		pi["invoice"], pi["setup_future_usage"] = inv["id"], optional(map[bool]string{true: "off_session"}[text(inv["subscription"]) != ""])
		pi["description"] = map[string]string{"subscription_create": "Subscription creation", "subscription_cycle": "Subscription update",
			"subscription_update": "Subscription update"}[text(inv["billing_reason"])]
		if err := s.save(tx, pi, "payment_intent.created"); err != nil {
			return err
		}
		inv["payment_intent"] = pi["id"]
	}
	if err := s.save(tx, inv, "invoice.finalized"); err != nil || due > 0 {
		return err
	}
	return s.invoicePaid(tx, inv, nil)
}

func pad(n int64) string {
	digits := "0000" + itoa(n)
	return digits[len(digits)-max(4, len(itoa(n))):]
}

// tickInvoice finalizes a draft, or tries again.
func (s *Server) tickInvoice(tx *work, inv object) error {
	customer, err := load(tx, "customer", text(inv["customer"]), "customer")
	if err != nil {
		return err
	}
	tx.wait(inv, 0)
	if inv["status"] == "draft" {
		if err := s.finalize(tx, inv); err != nil {
			return err
		}
	}
	if inv["status"] != "open" || customer["deleted"] == true {
		return s.keep(tx, inv)
	}
	pm, err := s.invoiceMethod(tx, customer, inv)
	if err != nil {
		return err
	}
	_, err = s.collect(tx, inv, pm, attempt{}, false)
	return err
}

// void ends an invoice that nobody shall pay. What it took from the customer's balance goes back.
func (s *Server) void(tx *work, inv object) error {
	if id := text(inv["payment_intent"]); id != "" {
		pi, err := load(tx, "payment_intent", id, "payment_intent")
		if err != nil {
			return err
		}
		if slices.Contains(unconfirmed, text(pi["status"])) {
			if err := s.dropIntent(tx, pi, "void_invoice"); err != nil {
				return err
			}
		}
	}
	if taken := number(inv["starting_balance"]) - number(inv["ending_balance"]); taken != 0 {
		customer, err := load(tx, "customer", text(inv["customer"]), "customer")
		if err != nil {
			return err
		}
		if customer["deleted"] != true {
			customer["balance"] = number(customer["balance"]) + taken
			if err := s.save(tx, customer, "customer.updated"); err != nil {
				return err
			}
		}
	}
	inv["status"], inv["next_payment_attempt"], inv["auto_advance"] = "void", nil, false
	fields(inv["status_transitions"])["voided_at"] = tx.unix()
	tx.wait(inv, 0)
	for _, event := range []string{"invoice.updated", "invoice.voided"} {
		if err := s.save(tx, inv, event); err != nil {
			return err
		}
	}
	return s.subscriptionVoided(tx, inv)
}

func (s *Server) giveUp(tx *work, inv object) error {
	inv["status"], inv["next_payment_attempt"] = "uncollectible", nil
	fields(inv["status_transitions"])["marked_uncollectible_at"] = tx.unix()
	tx.wait(inv, 0)
	if err := s.save(tx, inv, "invoice.marked_uncollectible"); err != nil {
		return err
	}
	return s.delinquent(tx, inv, false)
}
