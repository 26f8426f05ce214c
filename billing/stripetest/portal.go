package stripetest

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	portalSession       = "billing_portal.session"
	portalConfiguration = "billing_portal.configuration"
)

// portalLife is how long the page of a portal session can be used.
const portalLife = time.Hour

// createConfiguration is POST /v1/billing_portal/configurations (docs.stripe.com/api/customer_portal/configurations).
func (s *Server) createConfiguration(c *call) (object, error) {
	features := c.p.sub("features")
	if features == nil {
		return nil, missing("features")
	}
	o := object{"id": newID("bpc"), "object": portalConfiguration, "active": true, "application": nil, "created": c.tx.unix(), "features": defaultFeatures(),
		"business_profile": map[string]any{"headline": nil, "privacy_policy_url": nil, "terms_of_service_url": nil}, "default_return_url": nil,
		"is_default": false, "livemode": false, "login_page": map[string]any{"enabled": false, "url": nil}, "metadata": map[string]any{}}
	for _, feature := range fields(o["features"]) {
		fields(feature)["enabled"] = false
	}
	if err := s.configurationParams(c, o); err != nil {
		return nil, err
	}
	return o, s.save(c.tx, o, "billing_portal.configuration.created")
}

// defaultFeatures are those of a portal that nobody configured: cards and canceling at the period's end.
func defaultFeatures() map[string]any {
	return map[string]any{
		"customer_update":       map[string]any{"allowed_updates": []any{}, "enabled": false},
		"invoice_history":       map[string]any{"enabled": true},
		"payment_method_update": map[string]any{"enabled": true},
		"subscription_cancel": map[string]any{"cancellation_reason": map[string]any{"enabled": false, "options": []any{}}, "enabled": true,
			"mode": "at_period_end", "proration_behavior": "none"},
		"subscription_pause":  map[string]any{"enabled": false},
		"subscription_update": map[string]any{"default_allowed_updates": []any{}, "enabled": false, "products": nil, "proration_behavior": "none"},
	}
}

func (s *Server) configurationParams(c *call, o object) (err error) {
	if o["active"], err = c.p.active(o["active"] == true); err != nil {
		return err
	}
	o["metadata"], o["updated"] = c.p.metadata(o["metadata"]), c.tx.unix()
	if c.p.has("default_return_url") {
		o["default_return_url"] = optional(c.p.str("default_return_url"))
	}
	if profile := c.p.sub("business_profile"); profile != nil {
		for _, field := range []string{"headline", "privacy_policy_url", "terms_of_service_url"} {
			if profile.has(field) {
				fields(o["business_profile"])[field] = optional(profile.str(field))
			}
		}
	}
	given, features := c.p.sub("features"), fields(o["features"])
	if given == nil {
		return nil
	}
	for name := range features {
		p, feature := given.sub(name), fields(features[name])
		if p == nil {
			continue
		}
		if !p.has("enabled") && o["updated"] == o["created"] {
			return missing(p.key("enabled"))
		}
		if feature["enabled"], err = p.boolean("enabled", feature["enabled"] == true); err != nil {
			return err
		}
		switch name {
		case "customer_update":
			if updates := p.strings("allowed_updates"); len(updates) > 0 {
				feature["allowed_updates"] = anys(updates)
			}
		case "subscription_cancel":
			err = cancelFeature(p, feature)
		case "subscription_update":
			err = s.updateFeature(c, p, feature)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func cancelFeature(p *params, feature object) (err error) {
	if feature["mode"], err = p.oneOf("mode", text(feature["mode"]), "at_period_end", "immediately"); err != nil {
		return err
	}
	if reason := p.sub("cancellation_reason"); reason != nil {
		enabled, err := reason.boolean("enabled", false)
		if err != nil {
			return err
		}
		feature["cancellation_reason"] = map[string]any{"enabled": enabled, "options": anys(reason.strings("options"))}
	}
	feature["proration_behavior"], err = p.oneOf("proration_behavior", append([]string{text(feature["proration_behavior"])}, prorations...)...)
	return err
}

// updateFeature reads the products among which the plan can be changed.
func (s *Server) updateFeature(c *call, p *params, feature object) (err error) {
	if feature["proration_behavior"], err = p.oneOf("proration_behavior", append([]string{text(feature["proration_behavior"])}, prorations...)...); err != nil {
		return err
	}
	if updates := p.strings("default_allowed_updates"); len(updates) > 0 {
		feature["default_allowed_updates"] = anys(updates)
	}
	var products []any
	for _, item := range p.items("products") {
		product, err := item.required("product")
		if err != nil {
			return err
		}
		if _, err := c.load("product", product, item.key("product")); err != nil {
			return err
		}
		prices := item.strings("prices")
		if len(prices) == 0 {
			return missing(item.key("prices"))
		}
		for i, price := range prices {
			if o, err := c.load("price", price, item.key("prices["+itoa(int64(i))+"]")); err != nil {
				return err
			} else if o["product"] != product || o["type"] != "recurring" {
				return invalid(item.key("prices["+itoa(int64(i))+"]"), "The price %s is not a recurring price of the product %s.", price, product)
			}
		}
		products = append(products, map[string]any{"product": product, "prices": anys(prices)})
	}
	if len(products) > 0 {
		feature["products"] = products
	}
	if feature["enabled"] == true && feature["products"] == nil {
		return missing(p.key("products"))
	}
	return nil
}

func (s *Server) updateConfiguration(c *call) (object, error) {
	o, err := c.path(portalConfiguration)
	if err != nil {
		return nil, err
	}
	if err := s.configurationParams(c, o); err != nil {
		return nil, err
	}
	return o, s.save(c.tx, o, "billing_portal.configuration.updated")
}

// createPortal is POST /v1/billing_portal/sessions.
func (s *Server) createPortal(c *call) (object, error) {
	customer, err := c.p.required("customer")
	if err != nil {
		return nil, err
	}
	if _, err := loadCustomer(c.tx, customer, "customer"); err != nil {
		return nil, err
	}
	configuration := c.p.str("configuration")
	back := ""
	if configuration != "" {
		o, err := c.load(portalConfiguration, configuration, "configuration")
		if err != nil {
			return nil, err
		}
		if o["active"] != true {
			return nil, invalid("configuration", "The configuration %s is not active.", configuration)
		}
		back = text(o["default_return_url"])
	}
	if c.p.has("return_url") {
		back = c.p.str("return_url")
		if u, err := url.Parse(back); err != nil || u.Host == "" || !strings.HasPrefix(u.Scheme, "http") {
			return nil, coded("url_invalid", "return_url", "Not a valid URL")
		}
	}
	if c.p.sub("flow_data") != nil {
		return nil, unsupported("flow_data", "portal sessions that go to one page")
	}
	id := newID("bps")
	o := object{"id": id, "object": portalSession, "configuration": optional(configuration), "created": c.tx.unix(), "customer": customer, "flow": nil,
		"livemode": false, "locale": optional(c.p.str("locale")), "on_behalf_of": nil, "return_url": optional(back), "url": s.cfg.BaseURL + "/portal/" + id}
	return o, s.save(c.tx, o, "billing_portal.session.created")
}

// portal is what the portal's page works with.
type portal struct {
	session, customer, features object
}

func (s *Server) openPortal(tx *work, id string) (p portal, err error) {
	if p.session, err = load(tx, portalSession, id, "id"); err != nil {
		return p, err
	}
	if tx.unix() > number(p.session["created"])+int64(portalLife.Seconds()) {
		return p, noSuch(portalSession, id, "id")
	}
	if p.customer, err = loadCustomer(tx, text(p.session["customer"]), "id"); err != nil {
		return p, err
	}
	p.features = defaultFeatures()
	if configuration := text(p.session["configuration"]); configuration != "" {
		o, err := load(tx, portalConfiguration, configuration, "configuration")
		if err != nil {
			return p, err
		}
		p.features = fields(o["features"])
	}
	return p, nil
}

func (p portal) allows(feature string) bool { return fields(p.features[feature])["enabled"] == true }

// prices are the ids that a plan can be changed to.
func (p portal) prices() (out []string) {
	if !p.allows("subscription_update") {
		return nil
	}
	for _, product := range elements(fields(p.features["subscription_update"])["products"]) {
		for _, price := range elements(fields(product)["prices"]) {
			out = append(out, text(price))
		}
	}
	return out
}

// portalAction does what a person asks for on the portal's page.
func (s *Server) portalAction(tx *work, id, action string, form func(string) string) (refused *apiError, err error) {
	p, err := s.openPortal(tx, id)
	if err != nil {
		return nil, err
	}
	feature := map[string]string{"card": "payment_method_update", "default": "payment_method_update", "cancel": "subscription_cancel",
		"resume": "subscription_cancel", "plan": "subscription_update"}[action]
	if !p.allows(feature) {
		return nil, wrongState("The portal does not offer this.")
	}
	switch action {
	case "card":
		return s.portalCard(tx, p, digits(form("number")))
	case "default":
		pm, err := s.methodOf(tx, form("method"), text(p.customer["id"]), "method")
		if err != nil {
			return nil, err
		}
		return nil, s.makeDefault(tx, p.customer, pm)
	}
	sub, err := load(tx, "subscription", form("subscription"), "subscription")
	if err != nil {
		return nil, err
	}
	if sub["customer"] != p.customer["id"] || ended(sub) {
		return nil, noSuch("subscription", text(sub["id"]), "subscription")
	}
	switch {
	case action == "plan":
		return nil, s.portalPlan(tx, p, sub, form("price"))
	case text(sub["schedule"]) != "":
		return nil, wrongState("The subscription is managed by a schedule.")
	case action == "resume":
		s.cancelAt(tx, sub, 0, false)
	case fields(p.features["subscription_cancel"])["mode"] == "immediately":
		return nil, s.end(tx, sub, "cancellation_requested")
	default:
		s.cancelAt(tx, sub, number(sub["current_period_end"]), true)
	}
	return nil, s.saveSubscription(tx, sub, "customer.subscription.updated")
}

// portalCard saves a card and makes it what pays by default, for the subscriptions too.
func (s *Server) portalCard(tx *work, p portal, number string) (*apiError, error) {
	t, err := traitOf(number, "number")
	if err != nil {
		return nil, err
	}
	if t.unsaved || number == Delayed {
		return t.refusal(), nil
	}
	pm := s.newMethod(tx, number, 12, int64(tx.now.Year()+3), billingDetails(text(p.customer["email"]), text(p.customer["name"])))
	si := s.newSetup(tx, p.customer["id"])
	if err := s.save(tx, si, "setup_intent.created"); err != nil {
		return nil, err
	}
	if err := s.keep(tx, pm); err != nil {
		return nil, err
	}
	if _, err := s.setUp(tx, si, pm, attempt{authenticated: true}); err != nil {
		return nil, err
	}
	return nil, s.makeDefault(tx, p.customer, pm)
}

func (s *Server) makeDefault(tx *work, customer, pm object) error {
	fields(customer["invoice_settings"])["default_payment_method"] = pm["id"]
	if err := s.save(tx, customer, "customer.updated"); err != nil {
		return err
	}
	subscriptions, err := all(tx, query{kind: "subscription", field: "customer", value: text(customer["id"])})
	if err != nil {
		return err
	}
	for _, sub := range subscriptions {
		if ended(sub) || text(sub["default_payment_method"]) == "" {
			continue
		}
		sub["default_payment_method"] = pm["id"]
		if err := s.save(tx, sub, "customer.subscription.updated"); err != nil {
			return err
		}
	}
	return nil
}

// portalPlan changes to another price; when its payment fails nothing changes.
func (s *Server) portalPlan(tx *work, p portal, sub object, priceID string) error {
	if !slices.Contains(p.prices(), priceID) {
		return invalid("price", "The portal does not offer this plan.")
	}
	price, err := load(tx, "price", priceID, "price")
	if err != nil {
		return err
	}
	old := itemsOf(sub)
	if len(old) != 1 || price["active"] != true || price["currency"] != sub["currency"] {
		return wrongState("This subscription cannot change to the plan.")
	}
	item, err := copyOf(fields(old[0]))
	if err != nil {
		return err
	}
	item["price"], item["plan"] = map[string]any(price), planOf(price)
	r := revision{items: []any{map[string]any(item)}, date: tx.unix(), behavior: "error_if_incomplete",
		prorate: text(fields(p.features["subscription_update"])["proration_behavior"])}
	_, err = s.revise(tx, sub, r, false)
	return err
}
