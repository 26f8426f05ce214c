package stripetest

import (
	"maps"
	"net/url"
)

// createEndpoint is POST /v1/webhook_endpoints. The secret is in this answer only.
func (s *Server) createEndpoint(c *call) (object, error) {
	target, err := c.p.required("url")
	if err != nil {
		return nil, err
	}
	if u, err := url.Parse(target); err != nil || u.Host == "" {
		return nil, &apiError{status: 400, Type: invalidRequest, Code: "url_invalid", Param: "url", Message: "Invalid URL"}
	}
	types := c.p.strings("enabled_events")
	if len(types) == 0 {
		return nil, missing("enabled_events")
	}
	secret := "whsec_" + newID("x")[2:]
	o := s.newEndpoint(newID("we"), target, secret, types)
	o["metadata"], o["description"], o["api_version"] = c.p.metadata(nil), optional(c.p.str("description")), optional(c.p.str("api_version"))
	if err := c.tx.put(text(o["id"]), "webhook_endpoint", o); err != nil {
		return nil, err
	}
	shown := object{"secret": secret}
	maps.Copy(shown, o)
	return shown, nil
}

func (s *Server) newEndpoint(id, target, secret string, types []string) object {
	enabled := make([]any, len(types))
	for i, t := range types {
		enabled[i] = t
	}
	return object{"id": id, "object": "webhook_endpoint", "api_version": nil, "application": nil, "created": s.now().Unix(), "description": nil,
		"enabled_events": enabled, "livemode": false, "metadata": map[string]any{}, "status": "enabled", "url": target, "_secret": secret}
}

func (s *Server) deleteEndpoint(c *call) (object, error) {
	id := c.r.PathValue("id")
	if _, err := c.load("webhook_endpoint", id, "id"); err != nil {
		return nil, err
	}
	gone := object{"id": id, "object": "webhook_endpoint", "deleted": true}
	return gone, c.tx.put(id, "deleted_webhook_endpoint", gone)
}
