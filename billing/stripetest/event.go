package stripetest

import (
	"slices"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v76"
)

// save stores an object and tells the webhook endpoints about it.
func (s *Server) save(tx *work, o object, eventType string) error {
	if tx.clock != "" && o["_clock"] == nil && o["object"] != testClock {
		o["_clock"] = tx.clock
	}
	before, err := tx.get(text(o["id"]))
	if err != nil {
		return err
	}
	if err := tx.put(text(o["id"]), text(o["object"]), o); err != nil {
		return err
	}
	if before == nil || !strings.HasSuffix(eventType, ".updated") {
		return s.emit(tx, eventType, o)
	}
	was, err := before.object()
	if err != nil {
		return err
	}
	is, err := copyOf(o)
	if err != nil {
		return err
	}
	return s.event(tx, eventType, map[string]any{"object": public(o), "previous_attributes": previous(was, is)})
}

// keep stores an object of which nobody is told.
func (s *Server) keep(tx *work, o object) error {
	if tx.clock != "" && o["_clock"] == nil {
		o["_clock"] = tx.clock
	}
	return tx.put(text(o["id"]), text(o["object"]), o)
}

// emit makes an event with a picture of the object.
func (s *Server) emit(tx *work, eventType string, o object) error {
	return s.event(tx, eventType, map[string]any{"object": public(o)})
}

// event makes an event, and a delivery for each endpoint that wants it, unless a fault decides otherwise.
func (s *Server) event(tx *work, eventType string, data map[string]any) error {
	endpoints, err := all(tx, query{kind: "webhook_endpoint", oldestFirst: true})
	if err != nil {
		return err
	}
	endpoints = slices.DeleteFunc(endpoints, func(e object) bool { return e["status"] != "enabled" || !wants(e, eventType) })
	fate, err := s.fate(tx, eventType)
	if err != nil {
		return err
	}
	for range fate.events {
		ev := object{"id": newID("evt"), "object": "event", "api_version": stripe.APIVersion, "created": tx.unix(), "data": data, "livemode": false,
			"pending_webhooks": len(endpoints), "request": map[string]any{"id": tx.request, "idempotency_key": tx.key}, "type": eventType,
			"_undelivered": len(endpoints) > 0}
		if err := tx.put(text(ev["id"]), "event", ev); err != nil {
			return err
		}
		for _, endpoint := range endpoints {
			for copies := range fate.copies {
				id, next := newID("whd"), time.Now().Add(fate.delay).UnixMilli()
				// Only the first copy counts, so that an event is delivered once the endpoint took it.
				err := tx.put(id, deliveryOpen, object{"id": id, "event": ev["id"], "type": eventType, "endpoint": endpoint["id"], "attempts": 0, "next": next,
					"status": 0, "extra": copies > 0, "_queue": deliveryQueue, "_due": next})
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func wants(endpoint object, eventType string) bool {
	types, _ := endpoint["enabled_events"].([]any)
	return slices.Contains(types, any("*")) || slices.Contains(types, any(eventType))
}

// eventLife is how long events can be listed (docs.stripe.com/api/events).
const eventLife = 30 * 24 * time.Hour

// listEvents is GET /v1/events (docs.stripe.com/api/events/list).
func (s *Server) listEvents(c *call) (object, error) {
	kind, kinds := c.p.str("type"), c.p.strings("types")
	if kind != "" && len(kinds) > 0 {
		return nil, invalid("types", "You may only provide one of type and types.")
	}
	if kind != "" {
		kinds = []string{kind}
	}
	filtered := c.p.has("delivery_success")
	success, err := c.p.boolean("delivery_success", false)
	if err != nil {
		return nil, err
	}
	q := query{kind: "event"}
	switch {
	case filtered && !success:
		q.field, q.value = "_undelivered", "true"
	case len(kinds) == 1 && !strings.Contains(kinds[0], "*"):
		q.field, q.value = "type", kinds[0]
	}
	oldest := c.tx.now.Add(-eventLife).Unix()
	return c.list(q, func(o object) bool {
		return number(o["created"]) >= oldest && (len(kinds) == 0 || slices.ContainsFunc(kinds, func(k string) bool { return matches(k, text(o["type"])) })) &&
			(!filtered || success == (number(o["pending_webhooks"]) == 0))
	})
}

// matches compares a name with a pattern that may end in a star.
func matches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}
