package stripetest

import (
	"context"
	"maps"
	"net/url"
	"time"
)

// createEndpoint is POST /v1/webhook_endpoints. The secret is in this answer only.
func (s *Server) createEndpoint(c *call) (object, error) {
	target, err := endpointURL(c.p)
	if err != nil {
		return nil, err
	}
	types := c.p.strings("enabled_events")
	if len(types) == 0 {
		return nil, missing("enabled_events")
	}
	key := "whsec_" + secret()
	o := s.newEndpoint(c.tx, newID("we"), target, key, types)
	o["metadata"], o["description"], o["api_version"] = c.p.metadata(nil), optional(c.p.str("description")), optional(c.p.str("api_version"))
	if err := s.keep(c.tx, o); err != nil {
		return nil, err
	}
	shown := object{"secret": key}
	maps.Copy(shown, o)
	return shown, nil
}

func endpointURL(p *params) (string, error) {
	target, err := p.required("url")
	if err != nil {
		return "", err
	}
	if u, err := url.Parse(target); err != nil || u.Host == "" {
		return "", coded("url_invalid", "url", "Invalid URL")
	}
	return target, nil
}

func (s *Server) newEndpoint(tx *work, id, target, secret string, types []string) object {
	return object{"id": id, "object": "webhook_endpoint", "api_version": nil, "application": nil, "created": tx.unix(), "description": nil,
		"enabled_events": anys(types), "livemode": false, "metadata": map[string]any{}, "status": "enabled", "url": target, "_secret": secret}
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

// updateEndpoint is POST /v1/webhook_endpoints/{id}.
func (s *Server) updateEndpoint(c *call) (object, error) {
	o, err := c.path("webhook_endpoint")
	if err != nil {
		return nil, err
	}
	if c.p.has("url") {
		if o["url"], err = endpointURL(c.p); err != nil {
			return nil, err
		}
	}
	if types := c.p.strings("enabled_events"); len(types) > 0 {
		o["enabled_events"] = anys(types)
	}
	disabled, err := c.p.boolean("disabled", o["status"] == "disabled")
	if err != nil {
		return nil, err
	}
	o["status"] = "enabled"
	if disabled {
		o["status"] = "disabled"
	}
	if c.p.has("description") {
		o["description"] = optional(c.p.str("description"))
	}
	o["metadata"] = c.p.metadata(o["metadata"])
	return o, s.keep(c.tx, o)
}

func (s *Server) deleteEndpoint(c *call) (object, error) {
	o, err := c.path("webhook_endpoint")
	if err != nil {
		return nil, err
	}
	gone := object{"id": o["id"], "object": "webhook_endpoint", "deleted": true}
	return gone, c.tx.put(text(o["id"]), "deleted_webhook_endpoint", gone)
}

// RollSecret gives a webhook endpoint a new signing secret and returns it, as the Dashboard does. Until overlap has
// passed, at most a day, deliveries are signed with both, the new one first (docs.stripe.com/webhooks#roll-endpoint-secrets).
// An empty endpoint is that of [Config.WebhookURL], whose secret comes back with the next Start.
func (s *Server) RollSecret(ctx context.Context, endpoint string, overlap time.Duration) (key string, err error) {
	if overlap < 0 || overlap > 24*time.Hour {
		return "", invalid("overlap", "The old secret lives at most 24 hours on.")
	}
	if endpoint == "" {
		endpoint = s.ownEndpoint()
	}
	err = s.do(ctx, func(tx *work) error {
		o, err := load(tx, "webhook_endpoint", endpoint, "id")
		if err != nil {
			return err
		}
		key = "whsec_" + secret()
		o["_old_secret"], o["_old_until"], o["_secret"] = o["_secret"], tx.now.Add(overlap).Unix(), key
		return s.keep(tx, o)
	})
	return key, err
}

// ownEndpoint is the id of the endpoint of [Config.WebhookURL].
func (s *Server) ownEndpoint() string { return "we_" + digest(s.cfg.WebhookURL)[:24] }
