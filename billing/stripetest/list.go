package stripetest

import "slices"

// referents are the kinds that filters name objects of: Stripe refuses to filter by one that is not there.
var referents = map[string]string{"customer": "customer", "subscription": "subscription", "payment_intent": "payment_intent", "charge": "charge",
	"invoice": "invoice", "coupon": "coupon", "test_clock": testClock}

// listOf answers GET of a collection that can be filtered by the named fields.
func (s *Server) listOf(kind string, filters ...string) func(c *call) (object, error) {
	return func(c *call) (object, error) {
		q, wanted := query{kind: kind}, map[string]string{}
		for _, f := range filters {
			v := c.p.str(f)
			if v == "" {
				continue
			}
			if of := referents[f]; of != "" {
				if _, err := c.load(of, v, f); err != nil {
					return nil, err
				}
			}
			wanted[f] = v
			if q.field == "" && slices.Contains(indexed[kind], f) {
				q.field, q.value = f, v
			}
		}
		return c.list(q, func(o object) bool {
			for f, v := range wanted {
				if text(o[f]) != v {
					return false
				}
			}
			return true
		})
	}
}

// readAhead is how many objects are read at once to fill a page.
const readAhead = 200

// list pages through the objects of a query, newest first (docs.stripe.com/api/pagination).
func (c *call) list(q query, keep func(object) bool) (object, error) {
	limit, err := c.p.integer("limit", 10)
	if err != nil {
		return nil, err
	}
	if limit < 1 || limit > 100 {
		return nil, invalid("limit", "This value must be between 1 and 100.")
	}
	created, err := c.p.window("created")
	if err != nil {
		return nil, err
	}
	after, before := c.p.str("starting_after"), c.p.str("ending_before")
	if after != "" && before != "" {
		return nil, invalid("ending_before", "You may only provide one of starting_after and ending_before.")
	}
	if after != "" {
		if q.before, err = c.place(q.kind, after, "starting_after"); err != nil {
			return nil, err
		}
	}
	if before != "" {
		if q.after, err = c.place(q.kind, before, "ending_before"); err != nil {
			return nil, err
		}
		q.oldestFirst = true
	}
	data, more, err := c.page(q, limit, func(o object) bool { return created.holds(number(o["created"])) && keep(o) })
	if err != nil {
		return nil, err
	}
	if q.oldestFirst {
		slices.Reverse(data)
	}
	return object{"object": "list", "data": data, "has_more": more, "url": c.r.URL.Path}, nil
}

// page reads until it has a page, or all there is.
func (c *call) page(q query, limit int64, keep func(object) bool) (data []any, more bool, err error) {
	data = []any{}
	for q.limit = int(limit) + 1; ; q.limit = readAhead {
		docs, err := c.tx.find(q)
		if err != nil {
			return nil, false, err
		}
		for _, d := range docs {
			o, err := d.object()
			if err != nil {
				return nil, false, err
			}
			if !keep(o) {
				continue
			}
			if int64(len(data)) == limit {
				return data, true, nil
			}
			data = append(data, map[string]any(o))
		}
		if len(docs) < q.limit {
			return data, false, nil
		}
		if last := docs[len(docs)-1].Seq; q.oldestFirst {
			q.after = last
		} else {
			q.before = last
		}
	}
}

// place is where a page begins or ends.
func (c *call) place(kind, id, param string) (int64, error) {
	d, err := c.tx.get(id)
	if err != nil {
		return 0, err
	}
	if d == nil || d.Kind != kind {
		return 0, noSuch(kind, id, param)
	}
	return d.Seq, nil
}
