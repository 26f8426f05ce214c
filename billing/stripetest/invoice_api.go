package stripetest

import "net/http"

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
