package stripetest

import "slices"

// includable are the lists that an object has only when it is asked for them.
var includable = []string{"line_items", "refunds", "subscriptions"}

// include fetches such a list.
func (c *call) include(o object, name string) error {
	q := query{field: text(o["object"]), value: text(o["id"])}
	switch {
	case name == "line_items" && o["_line_items"] != nil:
		o["line_items"] = lineItems(o, o["_line_items"])
		return nil
	case name == "refunds" && o["object"] == "charge":
		q.kind = "refund"
	case name == "subscriptions" && o["object"] == "customer":
		q.kind = "subscription"
	default:
		return nil
	}
	data, more, err := c.page(q, 10, func(o object) bool { return q.kind != "subscription" || !ended(o) })
	if err != nil {
		return err
	}
	list := inline(data, "/v1/"+name+"?"+q.field+"="+q.value)
	list["has_more"] = more
	o[name] = list
	return nil
}

// expand replaces the ids at path by their objects (docs.stripe.com/api/expanding_objects).
func (c *call) expand(o object, path []string, whole string) error {
	name := path[0]
	if err := c.include(o, name); err != nil {
		return err
	}
	switch v := o[name].(type) {
	case nil:
		if _, known := o[name]; known {
			return nil
		}
		return invalid("expand", "This property cannot be expanded (%s).", whole)
	case string:
		d, err := c.tx.get(v)
		if err != nil {
			return err
		}
		if d == nil {
			return invalid("expand", "This property cannot be expanded (%s).", whole)
		}
		inner, err := d.object()
		if err != nil {
			return err
		}
		o[name] = map[string]any(inner)
	case map[string]any, []any:
		if len(path) == 1 && !slices.Contains(includable, name) {
			return invalid("expand", "This property cannot be expanded (%s).", whole)
		}
	default:
		return invalid("expand", "This property cannot be expanded (%s).", whole)
	}
	if len(path) == 1 {
		return nil
	}
	switch v := o[name].(type) {
	case map[string]any:
		return c.expand(v, path[1:], whole)
	case []any:
		for _, item := range v {
			inner, ok := item.(map[string]any)
			if !ok {
				return invalid("expand", "This property cannot be expanded (%s).", whole)
			}
			if err := c.expand(inner, path[1:], whole); err != nil {
				return err
			}
		}
	}
	return nil
}
