package stripetest

import "slices"

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
