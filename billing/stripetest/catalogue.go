package stripetest

import (
	"regexp"
	"slices"
)

// createProduct is POST /v1/products (docs.stripe.com/api/products).
func (s *Server) createProduct(c *call) (object, error) {
	name, err := c.p.required("name")
	if err != nil {
		return nil, err
	}
	active, err := c.p.active(true)
	if err != nil {
		return nil, err
	}
	id := c.p.str("id")
	if id == "" {
		id = newID("prod")
	} else if d, err := c.tx.get(id); d != nil || err != nil {
		if err == nil {
			err = &apiError{status: 400, Type: invalidRequest, Code: "resource_already_exists", Param: "id", Message: "Product already exists."}
		}
		return nil, err
	}
	now := s.now().Unix()
	o := object{"id": id, "object": "product", "active": active, "created": now, "updated": now, "default_price": nil,
		"description": optional(c.p.str("description")), "features": []any{}, "images": []any{}, "livemode": false, "metadata": c.p.metadata(nil),
		"name": name, "package_dimensions": nil, "shippable": nil, "statement_descriptor": nil, "tax_code": nil, "type": "service",
		"unit_label": nil, "url": nil}
	price := c.p.sub("default_price_data")
	if price != nil {
		p, err := s.newPrice(id, price)
		if err != nil {
			return nil, err
		}
		o["default_price"] = p["id"]
		if err := s.save(c.tx, p, "price.created"); err != nil {
			return nil, err
		}
	}
	return o, s.save(c.tx, o, "product.created")
}

func (s *Server) updateProduct(c *call) (object, error) {
	o, err := c.load("product", c.r.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	for _, field := range []string{"name", "description"} {
		if c.p.has(field) {
			o[field] = c.p.str(field)
		}
	}
	if o["active"], err = c.p.active(o["active"] == true); err != nil {
		return nil, err
	}
	if id := c.p.str("default_price"); id != "" {
		p, err := c.load("price", id, "default_price")
		if err != nil {
			return nil, err
		}
		if p["product"] != o["id"] {
			return nil, invalid("default_price", "The price %s is not of this product.", id)
		}
		o["default_price"] = id
	}
	o["metadata"] = c.p.metadata(o["metadata"])
	o["updated"] = s.now().Unix()
	return o, s.save(c.tx, o, "product.updated")
}

func (s *Server) listProducts(c *call) (object, error) {
	active, ids := c.p.str("active"), c.p.strings("ids")
	return c.list("product", func(o object) bool {
		return (active == "" || (active == "true") == (o["active"] == true)) && (len(ids) == 0 || slices.Contains(ids, text(o["id"])))
	})
}

// createPrice is POST /v1/prices (docs.stripe.com/api/prices).
func (s *Server) createPrice(c *call) (object, error) {
	product := c.p.str("product")
	if data := c.p.sub("product_data"); data != nil {
		return nil, unsupported("product_data", "products made along with a price; make the product first")
	}
	if product == "" {
		return nil, missing("product")
	}
	if _, err := c.load("product", product, "product"); err != nil {
		return nil, err
	}
	o, err := s.newPrice(product, c.p)
	if err != nil {
		return nil, err
	}
	return o, s.save(c.tx, o, "price.created")
}

var currencyCode = regexp.MustCompile(`^[a-z]{3}$`)

// newPrice reads the parameters that a price has by itself, in default_price_data and in line items too.
func (s *Server) newPrice(product string, p *params) (object, error) {
	currency, err := p.required("currency")
	if err != nil {
		return nil, err
	}
	if !currencyCode.MatchString(currency) {
		return nil, invalid(p.key("currency"), "Invalid currency: %s.", currency)
	}
	scheme, err := p.oneOf("billing_scheme", "per_unit", "tiered")
	if err != nil {
		return nil, err
	}
	if scheme == "tiered" || p.sub("tiers") != nil || p.str("tiers_mode") != "" {
		return nil, unsupported(p.key("tiers"), "tiered prices")
	}
	if !p.has("unit_amount") {
		return nil, missing(p.key("unit_amount"))
	}
	amount, err := p.integer("unit_amount", 0)
	if err != nil {
		return nil, err
	}
	if amount < 0 {
		return nil, &apiError{status: 400, Type: invalidRequest, Code: "parameter_invalid_integer", Param: p.key("unit_amount"), Message: "This value must be greater than or equal to 0."}
	}
	active, err := p.active(true)
	if err != nil {
		return nil, err
	}
	o := object{"id": newID("price"), "object": "price", "active": active, "billing_scheme": "per_unit", "created": s.now().Unix(), "currency": currency,
		"custom_unit_amount": nil, "livemode": false, "lookup_key": optional(p.str("lookup_key")), "metadata": p.metadata(nil),
		"nickname": optional(p.str("nickname")), "product": product, "recurring": nil, "tax_behavior": "unspecified", "tiers_mode": nil,
		"transform_quantity": nil, "type": "one_time", "unit_amount": amount, "unit_amount_decimal": itoa(amount)}
	if r := p.sub("recurring"); r != nil {
		interval, err := r.required("interval")
		if err != nil {
			return nil, err
		}
		if !slices.Contains([]string{"day", "week", "month", "year"}, interval) {
			return nil, invalid(r.key("interval"), "Invalid interval: must be one of day, month, week, or year")
		}
		count, err := r.integer("interval_count", 1)
		if err != nil {
			return nil, err
		}
		usage, err := r.oneOf("usage_type", "licensed")
		if err != nil {
			return nil, err
		}
		o["type"] = "recurring"
		o["recurring"] = map[string]any{"aggregate_usage": nil, "interval": interval, "interval_count": count, "trial_period_days": nil, "usage_type": usage}
	}
	return o, nil
}

func (s *Server) updatePrice(c *call) (object, error) {
	o, err := c.load("price", c.r.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	for _, field := range []string{"nickname", "lookup_key"} {
		if c.p.has(field) {
			o[field] = optional(c.p.str(field))
		}
	}
	if o["active"], err = c.p.active(o["active"] == true); err != nil {
		return nil, err
	}
	o["metadata"] = c.p.metadata(o["metadata"])
	return o, s.save(c.tx, o, "price.updated")
}

func (s *Server) listPrices(c *call) (object, error) {
	active, product, currency, kind, keys := c.p.str("active"), c.p.str("product"), c.p.str("currency"), c.p.str("type"), c.p.strings("lookup_keys")
	return c.list("price", func(o object) bool {
		return (active == "" || (active == "true") == (o["active"] == true)) && (product == "" || o["product"] == product) &&
			(currency == "" || o["currency"] == currency) && (kind == "" || o["type"] == kind) &&
			(len(keys) == 0 || slices.Contains(keys, text(o["lookup_key"])))
	})
}
