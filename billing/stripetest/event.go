package stripetest

import (
	"slices"

	"github.com/stripe/stripe-go/v76"
)

// save stores an object and tells the webhook endpoints about it.
func (s *Server) save(tx storeTx, o object, eventType string) error {
	if err := tx.put(text(o["id"]), text(o["object"]), o); err != nil {
		return err
	}
	return s.emit(tx, eventType, o)
}

// emit makes an event with a picture of the object, and a delivery for each endpoint that wants it.
func (s *Server) emit(tx storeTx, eventType string, o object) error {
	id := newID("evt")
	ev := object{"id": id, "object": "event", "api_version": stripe.APIVersion, "created": s.now().Unix(), "data": map[string]any{"object": public(o)},
		"livemode": false, "pending_webhooks": 0, "request": map[string]any{"id": nil, "idempotency_key": nil}, "type": eventType}
	endpoints, err := tx.list("webhook_endpoint")
	if err != nil {
		return err
	}
	pending := 0
	for _, d := range endpoints {
		endpoint, err := d.object()
		if err != nil {
			return err
		}
		if endpoint["status"] != "enabled" || !wants(endpoint, eventType) {
			continue
		}
		pending++
		delivery := newID("whd")
		err = tx.put(delivery, deliveryOpen, object{"id": delivery, "event": id, "endpoint": d.ID, "attempts": 0, "next": s.now().UnixMilli(), "status": 0})
		if err != nil {
			return err
		}
	}
	ev["pending_webhooks"] = pending
	return tx.put(id, "event", ev)
}

func wants(endpoint object, eventType string) bool {
	types, _ := endpoint["enabled_events"].([]any)
	return slices.Contains(types, any("*")) || slices.Contains(types, any(eventType))
}

// listEvents is GET /v1/events (docs.stripe.com/api/events/list).
func (s *Server) listEvents(c *call) (object, error) {
	kind, kinds, success := c.p.str("type"), c.p.strings("types"), c.p.str("delivery_success")
	if kind != "" && len(kinds) > 0 {
		return nil, invalid("types", "You may only provide one of type and types.")
	}
	return c.list("event", func(o object) bool {
		name := text(o["type"])
		return (kind == "" || name == kind) && (len(kinds) == 0 || slices.Contains(kinds, name)) &&
			(success == "" || (success == "true") == (number(o["pending_webhooks"]) == 0))
	})
}
