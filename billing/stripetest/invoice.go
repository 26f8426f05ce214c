package stripetest

import (
	"context"
	"net/http"
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

// pendingItems are the items that wait for the next invoice of a subscription, or of the customer.
func (s *Server) pendingItems(tx *work, customer, sub object, currency string) ([]object, error) {
	items, err := all(tx, query{kind: "invoiceitem", field: "_pending", value: text(customer["id"]), oldestFirst: true})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(items, func(o object) bool {
		of := text(o["subscription"])
		return sub == nil && of != "" || sub != nil && of != "" && of != sub["id"] || currency != "" && o["currency"] != currency
	}), nil
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
	return s.subscriptionPaid(tx, inv)
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
	return s.subscriptionUnpaid(tx, inv, last)
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

// createInvoice is POST /v1/invoices: an invoice of the customer's pending items.
func (s *Server) createInvoice(c *call) (object, error) {
	id, err := c.p.required("customer")
	if err != nil {
		return nil, err
	}
	customer, err := loadCustomer(c.tx, id, "customer")
	if err != nil {
		return nil, err
	}
	if method := c.p.str("collection_method"); method != "" && method != "charge_automatically" {
		return nil, unsupported("collection_method", "invoices that are sent")
	}
	behavior, err := c.p.oneOf("pending_invoice_items_behavior", "exclude", "include")
	if err != nil {
		return nil, err
	}
	auto, err := c.p.boolean("auto_advance", false)
	if err != nil {
		return nil, err
	}
	var items []object
	if behavior == "include" {
		if items, err = s.pendingItems(c.tx, customer, nil, c.p.str("currency")); err != nil {
			return nil, err
		}
	}
	inv, err := s.draft(c.tx, customer, nil, "manual", items, nil)
	if err != nil {
		return nil, err
	}
	inv["auto_advance"], inv["metadata"], inv["description"] = auto, c.p.metadata(nil), optional(c.p.str("description"))
	if inv["currency"] == nil {
		inv["currency"] = map[bool]any{true: customer["currency"], false: "usd"}[customer["currency"] != nil]
	}
	if currency := c.p.str("currency"); currency != "" {
		inv["currency"] = currency
	}
	if auto {
		at := c.tx.now.Add(draftTime).Unix()
		inv["next_payment_attempt"] = at
		c.tx.wait(inv, at)
	}
	return inv, s.keep(c.tx, inv)
}

// updateInvoice is POST /v1/invoices/{id}.
func (s *Server) updateInvoice(c *call) (object, error) {
	inv, err := c.path("invoice")
	if err != nil {
		return nil, err
	}
	if c.p.has("description") {
		inv["description"] = optional(c.p.str("description"))
	}
	if inv["auto_advance"], err = c.p.boolean("auto_advance", inv["auto_advance"] == true); err != nil {
		return nil, err
	}
	if inv["auto_advance"] != true {
		inv["next_payment_attempt"] = nil
		c.tx.wait(inv, 0)
	} else if inv["status"] == "draft" && number(inv["_due"]) == 0 {
		c.tx.wait(inv, c.tx.now.Add(draftTime).Unix())
	}
	inv["metadata"] = c.p.metadata(inv["metadata"])
	return inv, s.save(c.tx, inv, "invoice.updated")
}

func notOpen(inv object, action string) *apiError {
	return coded("invoice_not_editable", "", "You can only %s invoices that are open. This invoice is %s.", action, text(inv["status"]))
}

func (s *Server) finalizeInvoice(c *call) (object, error) {
	inv, err := c.path("invoice")
	if err != nil {
		return nil, err
	}
	auto, err := c.p.boolean("auto_advance", inv["auto_advance"] == true)
	if err != nil {
		return nil, err
	}
	if inv["status"] != "draft" {
		return nil, coded("invoice_not_editable", "", "This invoice is already finalized, you can't finalize it again.")
	}
	inv["auto_advance"] = auto
	return inv, s.finalize(c.tx, inv)
}

// payInvoice is POST /v1/invoices/{id}/pay.
func (s *Server) payInvoice(c *call) (object, error) {
	inv, err := c.path("invoice")
	if err != nil {
		return nil, err
	}
	off, err := offSession(c.p)
	if err != nil {
		return nil, err
	}
	outside, err := c.p.boolean("paid_out_of_band", false)
	if err != nil {
		return nil, err
	}
	if inv["status"] == "paid" {
		return nil, coded("invoice_already_paid", "", "Invoice is already paid")
	}
	if inv["status"] == "draft" {
		if err := s.finalize(c.tx, inv); err != nil {
			return nil, err
		}
	}
	if inv["status"] == "paid" { // nothing was due
		return inv, nil
	}
	if inv["status"] != "open" && inv["status"] != "uncollectible" {
		return nil, notOpen(inv, "pay")
	}
	if outside {
		inv["paid_out_of_band"] = true
		return inv, s.invoicePaid(c.tx, inv, nil)
	}
	customer, err := loadCustomer(c.tx, text(inv["customer"]), "customer")
	if err != nil {
		return nil, err
	}
	var pm object
	if id := c.p.str("payment_method"); id != "" {
		pm, err = s.methodOf(c.tx, id, text(customer["id"]), "payment_method")
	} else {
		pm, err = s.invoiceMethod(c.tx, customer, inv)
	}
	if err != nil {
		return nil, err
	}
	if pm == nil {
		return nil, noMethod()
	}
	refused, err := s.collect(c.tx, inv, pm, attempt{offSession: off}, true)
	if err != nil {
		return nil, err
	}
	if refused != nil {
		return nil, refused
	}
	if inv, err = c.path("invoice"); err != nil || inv["status"] == "paid" {
		return inv, err
	}
	pi, err := c.load("payment_intent", text(inv["payment_intent"]), "payment_intent")
	if err == nil && pi["status"] == "requires_action" {
		err = &apiError{status: http.StatusPaymentRequired, Type: "card_error", Code: "invoice_payment_intent_requires_action", PaymentIntent: public(pi), kept: true,
			Message: "This payment requires additional user action before it can be completed successfully."}
	}
	return inv, err
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

// voidInvoice is POST /v1/invoices/{id}/void.
func (s *Server) voidInvoice(c *call) (object, error) {
	inv, err := c.path("invoice")
	if err != nil {
		return nil, err
	}
	if inv["status"] != "open" && inv["status"] != "uncollectible" {
		return nil, notOpen(inv, "void")
	}
	return inv, s.void(c.tx, inv)
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

func (s *Server) markUncollectible(c *call) (object, error) {
	inv, err := c.path("invoice")
	if err != nil {
		return nil, err
	}
	if inv["status"] != "open" {
		return nil, notOpen(inv, "mark uncollectible")
	}
	return inv, s.giveUp(c.tx, inv)
}

func (s *Server) giveUp(tx *work, inv object) error {
	inv["status"], inv["next_payment_attempt"] = "uncollectible", nil
	fields(inv["status_transitions"])["marked_uncollectible_at"] = tx.unix()
	tx.wait(inv, 0)
	return s.save(tx, inv, "invoice.marked_uncollectible")
}

// deleteInvoice is DELETE /v1/invoices/{id}: drafts only, and none of a subscription.
func (s *Server) deleteInvoice(c *call) (object, error) {
	inv, err := c.path("invoice")
	if err != nil {
		return nil, err
	}
	if inv["status"] != "draft" || text(inv["subscription"]) != "" {
		return nil, coded("invoice_not_editable", "", "You can only delete draft invoices that are not of a subscription.")
	}
	gone := object{"id": inv["id"], "object": "invoice", "deleted": true}
	if err := c.tx.put(text(inv["id"]), "deleted_invoice", gone); err != nil {
		return nil, err
	}
	return gone, s.emit(c.tx, "invoice.deleted", inv)
}

func (s *Server) listInvoiceLines(c *call) (object, error) {
	inv, err := c.path("invoice")
	if err != nil {
		return nil, err
	}
	if _, err := c.p.between("limit", 10, 1, 100); err != nil { // an invoice of the double has fewer lines than a page
		return nil, err
	}
	return fields(inv["lines"]), nil
}

// createItem is POST /v1/invoiceitems.
func (s *Server) createItem(c *call) (object, error) {
	id, err := c.p.required("customer")
	if err != nil {
		return nil, err
	}
	customer, err := loadCustomer(c.tx, id, "customer")
	if err != nil {
		return nil, err
	}
	quantity, err := c.p.between("quantity", 1, 1, 999999)
	if err != nil {
		return nil, err
	}
	var price any
	var amount int64
	currency := c.p.str("currency")
	if id := c.p.str("price"); id != "" {
		p, err := c.load("price", id, "price")
		if err != nil {
			return nil, err
		}
		if p["type"] != "one_time" {
			return nil, invalid("price", "The price specified is set to `type=recurring` but this field only accepts prices with `type=one_time`.")
		}
		price, amount, currency = map[string]any(p), number(p["unit_amount"])*quantity, text(p["currency"])
	} else {
		if _, err := c.p.required("amount"); err != nil {
			return nil, err
		}
		if amount, err = c.p.integer("amount", 0); err != nil {
			return nil, err
		}
		if currency == "" {
			return nil, missing("currency")
		}
	}
	sub := object(nil)
	if id := c.p.str("subscription"); id != "" {
		if sub, err = c.load("subscription", id, "subscription"); err != nil {
			return nil, err
		}
	}
	item := s.newItem(c.tx, customer, sub, amount, currency, c.p.str("description"), c.tx.unix(), c.tx.unix(), price, quantity)
	item["metadata"] = c.p.metadata(nil)
	if id := c.p.str("invoice"); id != "" {
		return item, s.addToInvoice(c, item, customer, id)
	}
	return item, s.save(c.tx, item, "invoiceitem.created")
}

// addToInvoice puts an item on a draft.
func (s *Server) addToInvoice(c *call, item, customer object, id string) error {
	inv, err := c.load("invoice", id, "invoice")
	if err != nil {
		return err
	}
	if inv["status"] != "draft" || inv["customer"] != customer["id"] {
		return coded("invoice_not_editable", "invoice", "The invoice is not a draft of this customer.")
	}
	if inv["currency"] != item["currency"] {
		return invalid("currency", "The invoice is in another currency.")
	}
	item["invoice"], item["_pending"] = id, nil
	if err := s.save(c.tx, item, "invoiceitem.created"); err != nil {
		return err
	}
	l := line(number(item["amount"]), text(item["currency"]), text(item["description"]), c.tx.unix(), c.tx.unix(), item["price"], number(item["quantity"]))
	l["invoice_item"] = item["id"]
	inv["lines"] = inline(append(elements(fields(inv["lines"])["data"]), l), "/v1/invoices/"+id+"/lines")
	s.total(c.tx, inv, customer)
	return s.save(c.tx, inv, "invoice.updated")
}

// newItem makes an item that waits for the next invoice.
func (s *Server) newItem(tx *work, customer, sub object, amount int64, currency, description string, from, to int64, price any, quantity int64) object {
	o := object{"id": newID("ii"), "object": "invoiceitem", "amount": amount, "currency": currency, "customer": customer["id"], "date": tx.unix(),
		"description": optional(description), "discountable": true, "discounts": []any{}, "invoice": nil, "livemode": false, "metadata": map[string]any{},
		"period": map[string]any{"start": from, "end": to}, "plan": planOf(fields(price)), "price": price, "proration": false, "quantity": quantity,
		"subscription": nil, "tax_rates": []any{}, "test_clock": customer["test_clock"], "unit_amount": nil, "created": tx.unix(), "_pending": customer["id"]}
	if sub != nil {
		o["subscription"] = sub["id"]
	}
	return o
}

func (s *Server) deleteItem(c *call) (object, error) {
	item, err := c.path("invoiceitem")
	if err != nil {
		return nil, err
	}
	if text(item["invoice"]) != "" {
		return nil, coded("invoice_not_editable", "", "The item is on an invoice already.")
	}
	gone := object{"id": item["id"], "object": "invoiceitem", "deleted": true}
	if err := c.tx.put(text(item["id"]), "deleted_invoiceitem", gone); err != nil {
		return nil, err
	}
	return gone, s.emit(c.tx, "invoiceitem.deleted", item)
}
