package stripetest

import "slices"

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
