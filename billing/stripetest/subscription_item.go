package stripetest

import (
	"maps"
	"slices"
)

// itemOf finds the subscription of the item that the path names, and where the item is.
func (s *Server) itemOf(c *call) (sub object, at int, err error) {
	id := c.r.PathValue("id")
	found, err := all(c.tx, query{kind: "subscription", field: "_item_ids", value: id, limit: 1})
	if err != nil {
		return nil, 0, err
	}
	if len(found) == 0 {
		return nil, 0, noSuch("subscription_item", id, "id")
	}
	sub = found[0]
	at = slices.IndexFunc(itemsOf(sub), func(v any) bool { return fields(v)["id"] == id })
	return sub, at, c.tx.follow(sub)
}

// retrieveItem is GET /v1/subscription_items/{id}.
func (s *Server) retrieveItem(c *call) (object, error) {
	sub, at, err := s.itemOf(c)
	if err != nil {
		return nil, err
	}
	return fields(itemsOf(sub)[at]), nil
}

// createSubscriptionItem is POST /v1/subscription_items.
func (s *Server) createSubscriptionItem(c *call) (object, error) {
	id, err := c.p.required("subscription")
	if err != nil {
		return nil, err
	}
	sub, err := c.load("subscription", id, "subscription")
	if err != nil {
		return nil, err
	}
	item := map[string]any{}
	if err := s.itemParam(c, c.p, item, id); err != nil {
		return nil, err
	}
	price := fields(item["price"])["id"]
	if slices.ContainsFunc(itemsOf(sub), func(v any) bool { return fields(fields(v)["price"])["id"] == price }) {
		return nil, invalid("price", "Cannot add multiple subscription items with the same plan: %v", price)
	}
	if err := s.reviseItems(c, sub, append(slices.Clone(itemsOf(sub)), item)); err != nil {
		return nil, err
	}
	return item, nil
}

// updateSubscriptionItem is POST /v1/subscription_items/{id}.
func (s *Server) updateSubscriptionItem(c *call) (object, error) {
	sub, at, err := s.itemOf(c)
	if err != nil {
		return nil, err
	}
	item, err := copyOf(fields(itemsOf(sub)[at]))
	if err != nil {
		return nil, err
	}
	if err := s.itemParam(c, c.p, item, sub["id"]); err != nil {
		return nil, err
	}
	items := slices.Clone(itemsOf(sub))
	items[at] = map[string]any(item)
	if err := s.reviseItems(c, sub, items); err != nil {
		return nil, err
	}
	return s.retrieveItem(c) // a change that waits for its money is not made yet
}

// deleteSubscriptionItem is DELETE /v1/subscription_items/{id}; the last one stays.
func (s *Server) deleteSubscriptionItem(c *call) (object, error) {
	sub, at, err := s.itemOf(c)
	if err != nil {
		return nil, err
	}
	if err := s.reviseItems(c, sub, slices.Delete(slices.Clone(itemsOf(sub)), at, at+1)); err != nil {
		return nil, err
	}
	return object{"id": c.r.PathValue("id"), "object": "subscription_item", "deleted": true}, nil
}

// reviseItems gives a subscription other items, on the terms that the parameters say.
func (s *Server) reviseItems(c *call, sub object, items []any) error {
	if ended(sub) {
		return invalid("subscription", "The subscription is %s and cannot change.", text(sub["status"]))
	}
	if err := sameTerms(items); err != nil {
		return err
	}
	r, err := s.revisionParams(c, sub, "")
	if err != nil {
		return err
	}
	r.items = items
	_, err = s.revise(c.tx, sub, r, false)
	return err
}

// setItems gives a subscription its items, and what it shows of a single one.
func setItems(sub object, items []any) {
	sub["items"] = inline(items, "/v1/subscription_items?subscription="+text(sub["id"]))
	sub["plan"], sub["quantity"] = nil, nil
	ids := make([]any, len(items))
	for i, v := range items {
		ids[i] = fields(v)["id"]
	}
	sub["_item_ids"] = ids
	if len(items) == 1 {
		item := fields(items[0])
		sub["plan"], sub["quantity"] = item["plan"], item["quantity"]
	}
}

func itemsOf(sub object) []any { return elements(fields(sub["items"])["data"]) }

func newItemOf(tx *work, price object, quantity int64, subscription any, metadata any) map[string]any {
	return map[string]any{"id": newID("si")[:17], "object": "subscription_item", "billing_thresholds": nil, "created": tx.unix(), "metadata": metadata,
		"plan": planOf(price), "price": map[string]any(price), "quantity": quantity, "subscription": subscription, "tax_rates": []any{}}
}

// itemParams makes the items that a subscription shall have of those it has and what was sent
// (docs.stripe.com/api/subscriptions/update#update_subscription-items).
func (s *Server) itemParams(c *call, given []*params, current []any, subscription any) ([]any, error) {
	items := slices.Clone(current)
	for _, p := range given {
		id, at := p.str("id"), -1
		if id != "" {
			if at = slices.IndexFunc(items, func(v any) bool { return fields(v)["id"] == id }); at < 0 {
				return nil, noSuch("subscription_item", id, p.key("id"))
			}
		}
		deleted, err := p.boolean("deleted", false)
		if err != nil {
			return nil, err
		}
		if deleted {
			if at < 0 {
				return nil, missing(p.key("id"))
			}
			items = slices.Delete(items, at, at+1)
			continue
		}
		item := map[string]any{}
		if at >= 0 {
			copied, err := copyOf(fields(items[at]))
			if err != nil {
				return nil, err
			}
			item = copied
		}
		if err := s.itemParam(c, p, item, subscription); err != nil {
			return nil, err
		}
		price := fields(item["price"])["id"]
		if slices.IndexFunc(items, func(v any) bool { return fields(fields(v)["price"])["id"] == price && fields(v)["id"] != id }) >= 0 {
			return nil, invalid(p.key("price"), "Cannot add multiple subscription items with the same plan: %v", price)
		}
		if at >= 0 {
			items[at] = item
		} else {
			items = append(items, item)
		}
	}
	return items, sameTerms(items)
}

// itemParam reads one item into item, which is empty for a new one.
func (s *Server) itemParam(c *call, p *params, item map[string]any, subscription any) error {
	if p.sub("price_data") != nil {
		return unsupported(p.key("price_data"), "prices made along with a subscription; make the price first")
	}
	id := p.str("price")
	if id == "" {
		id = p.str("plan")
	}
	quantity, err := p.between("quantity", 1, 0, 999999)
	if err != nil {
		return err
	}
	switch {
	case id == "" && item["id"] == nil:
		return missing(p.key("price"))
	case id != "":
		price, err := c.load("price", id, p.key("price"))
		if err != nil {
			return err
		}
		if price["type"] != "recurring" {
			return invalid(p.key("price"), "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.")
		}
		if price["active"] != true && fields(item["price"])["id"] != id {
			return coded("price_inactive", p.key("price"), "The price specified is inactive. This field only accepts active prices.")
		}
		if item["id"] == nil {
			maps.Copy(item, newItemOf(c.tx, price, quantity, subscription, map[string]any{}))
		}
		item["price"], item["plan"] = map[string]any(price), planOf(price)
	}
	if p.has("quantity") {
		item["quantity"] = quantity
	}
	item["metadata"] = p.metadata(item["metadata"])
	return nil
}

// sameTerms refuses items of several currencies or periods.
func sameTerms(items []any) error {
	if len(items) == 0 {
		return invalid("items", "A subscription must have at least one active plan.")
	}
	first := fields(fields(items[0])["price"])
	for _, item := range items[1:] {
		price := fields(fields(item)["price"])
		if price["currency"] != first["currency"] {
			return invalid("items", "All prices on a subscription must have the same `currency`.")
		}
		if periodOf(price) != periodOf(first) {
			return invalid("items", "All prices on a subscription must have the same `recurring.interval` and `recurring.interval_count`. If you meant to update an existing subscription item instead of creating a new one, make sure to include the subscription item ID in the request.")
		}
	}
	return nil
}

func cost(items []any) (total int64) {
	for _, item := range items {
		total += number(fields(fields(item)["price"])["unit_amount"]) * number(fields(item)["quantity"])
	}
	return total
}

// listItems is GET /v1/subscription_items.
func (s *Server) listItems(c *call) (object, error) {
	id, err := c.p.required("subscription")
	if err != nil {
		return nil, err
	}
	sub, err := c.load("subscription", id, "subscription")
	if err != nil {
		return nil, err
	}
	if _, err := c.p.between("limit", 10, 1, 100); err != nil { // a subscription of the double has fewer items than a page
		return nil, err
	}
	return inline(itemsOf(sub), "/v1/subscription_items"), nil
}
