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
	o := s.newProduct(c.tx, c.p, id, name, active)
	o["description"], o["unit_label"], o["statement_descriptor"] = optional(c.p.str("description")), optional(c.p.str("unit_label")), optional(c.p.str("statement_descriptor"))
	if price := c.p.sub("default_price_data"); price != nil {
		p, err := s.newPrice(c.tx, id, price)
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

func (s *Server) newProduct(tx *work, p *params, id, name string, active bool) object {
	now := tx.unix()
	return object{"id": id, "object": "product", "active": active, "created": now, "updated": now, "default_price": nil,
		"description": nil, "features": []any{}, "images": []any{}, "livemode": false, "metadata": p.metadata(nil),
		"name": name, "package_dimensions": nil, "shippable": nil, "statement_descriptor": nil, "tax_code": nil, "type": "service",
		"unit_label": nil, "url": nil}
}

// productOf makes the product that product_data describes.
func (s *Server) productOf(tx *work, data *params) (string, error) {
	name, err := data.required("name")
	if err != nil {
		return "", err
	}
	active, err := data.active(true)
	if err != nil {
		return "", err
	}
	o := s.newProduct(tx, data, newID("prod"), name, active)
	if data.has("description") {
		o["description"] = optional(data.str("description"))
	}
	return text(o["id"]), s.save(tx, o, "product.created")
}

func (s *Server) updateProduct(c *call) (object, error) {
	o, err := c.load("product", c.r.PathValue("id"), "id")
	if err != nil {
		return nil, err
	}
	if c.p.has("name") {
		if o["name"], err = c.p.required("name"); err != nil {
			return nil, err
		}
	}
	for _, field := range []string{"description", "unit_label", "statement_descriptor"} {
		if c.p.has(field) {
			o[field] = optional(c.p.str(field))
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
	o["updated"] = c.tx.unix()
	return o, s.save(c.tx, o, "product.updated")
}

func (s *Server) listProducts(c *call) (object, error) {
	filtered, ids := c.p.has("active"), c.p.strings("ids")
	active, err := c.p.active(false)
	if err != nil {
		return nil, err
	}
	return c.list(query{kind: "product"}, func(o object) bool {
		return (!filtered || active == (o["active"] == true)) && (len(ids) == 0 || slices.Contains(ids, text(o["id"])))
	})
}

// createPrice is POST /v1/prices (docs.stripe.com/api/prices).
func (s *Server) createPrice(c *call) (object, error) {
	product, err := s.productParam(c)
	if err != nil {
		return nil, err
	}
	o, err := s.newPrice(c.tx, product, c.p)
	if err != nil {
		return nil, err
	}
	return o, s.save(c.tx, o, "price.created")
}

// productParam is the product of a price that is being made: one that exists, or product_data.
func (s *Server) productParam(c *call) (string, error) {
	product, data := c.p.str("product"), c.p.sub("product_data")
	switch {
	case product != "" && data != nil:
		return "", invalid("product_data", "You may only specify one of these parameters: product, product_data.")
	case data != nil:
		return s.productOf(c.tx, data)
	case product == "":
		return "", missing("product")
	}
	_, err := c.load("product", product, "product")
	return product, err
}

// deleteProduct is DELETE /v1/products/{id}: only a product without prices goes.
func (s *Server) deleteProduct(c *call) (object, error) {
	o, err := c.path("product")
	if err != nil {
		return nil, err
	}
	prices, err := c.tx.find(query{kind: "price", field: "product", value: text(o["id"]), limit: 1})
	if err != nil {
		return nil, err
	}
	if len(prices) > 0 {
		return nil, invalid("", "This product cannot be deleted because it has one or more user-created prices.")
	}
	gone := object{"id": o["id"], "object": "product", "deleted": true}
	if err := c.tx.put(text(o["id"]), "deleted_product", gone); err != nil {
		return nil, err
	}
	return gone, s.emit(c.tx, "product.deleted", o)
}

// longest are the most of each interval that a period may have: three years (docs.stripe.com/api/prices/create).
var longest = map[string]int64{"day": 1095, "week": 156, "month": 36, "year": 3}

var currencyCode = regexp.MustCompile(`^[a-z]{3}$`)

// newPrice reads the parameters that a price has by itself, in default_price_data and in line items too.
func (s *Server) newPrice(tx *work, product string, p *params) (object, error) {
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
	o := object{"id": newID("price"), "object": "price", "active": active, "billing_scheme": "per_unit", "created": tx.unix(), "currency": currency,
		"custom_unit_amount": nil, "livemode": false, "lookup_key": optional(p.str("lookup_key")), "metadata": p.metadata(nil),
		"nickname": optional(p.str("nickname")), "product": product, "recurring": nil, "tax_behavior": "unspecified", "tiers_mode": nil,
		"transform_quantity": nil, "type": "one_time", "unit_amount": amount, "unit_amount_decimal": itoa(amount)}
	if o["tax_behavior"], err = p.oneOf("tax_behavior", "unspecified", "exclusive", "inclusive"); err != nil {
		return nil, err
	}
	if r := p.sub("recurring"); r != nil {
		interval, err := r.required("interval")
		if err != nil {
			return nil, err
		}
		most, known := longest[interval]
		if !known {
			return nil, invalid(r.key("interval"), "Invalid interval: must be one of day, month, week, or year")
		}
		count, err := r.between("interval_count", 1, 1, most)
		if err != nil {
			return nil, err
		}
		if r.str("usage_type") == "metered" {
			return nil, unsupported(r.key("usage_type"), "metered prices")
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
	if c.p.has("tax_behavior") {
		if o["tax_behavior"], err = c.p.oneOf("tax_behavior", "unspecified", "exclusive", "inclusive"); err != nil {
			return nil, err
		}
	}
	if o["active"], err = c.p.active(o["active"] == true); err != nil {
		return nil, err
	}
	o["metadata"] = c.p.metadata(o["metadata"])
	return o, s.save(c.tx, o, "price.updated")
}

func (s *Server) listPrices(c *call) (object, error) {
	product, currency, kind, keys := c.p.str("product"), c.p.str("currency"), c.p.str("type"), c.p.strings("lookup_keys")
	filtered := c.p.has("active")
	active, err := c.p.active(false)
	if err != nil {
		return nil, err
	}
	interval := ""
	if r := c.p.sub("recurring"); r != nil {
		interval = r.str("interval")
	}
	q := query{kind: "price"}
	switch {
	case product != "":
		q.field, q.value = "product", product
	case len(keys) == 1:
		q.field, q.value = "lookup_key", keys[0]
	case active:
		q.field, q.value = "active", "true"
	}
	return c.list(q, func(o object) bool {
		return (!filtered || active == (o["active"] == true)) && (product == "" || o["product"] == product) &&
			(currency == "" || o["currency"] == currency) && (kind == "" || o["type"] == kind) && (interval == "" || fields(o["recurring"])["interval"] == interval) &&
			(len(keys) == 0 || slices.Contains(keys, text(o["lookup_key"])))
	})
}
