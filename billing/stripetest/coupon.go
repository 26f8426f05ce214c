package stripetest

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// createCoupon is POST /v1/coupons (docs.stripe.com/api/coupons).
func (s *Server) createCoupon(c *call) (object, error) {
	id := c.p.str("id")
	if id == "" {
		id = secret()[:8]
	} else if d, err := c.tx.get(id); d != nil || err != nil {
		if err == nil {
			err = coded("resource_already_exists", "id", "Coupon already exists.")
		}
		return nil, err
	}
	o := object{"id": id, "object": "coupon", "amount_off": nil, "created": c.tx.unix(), "currency": nil, "duration_in_months": nil, "livemode": false,
		"max_redemptions": nil, "metadata": c.p.metadata(nil), "name": optional(c.p.str("name")), "percent_off": nil, "redeem_by": nil,
		"times_redeemed": 0, "valid": true}
	if err := couponWorth(c.p, o); err != nil {
		return nil, err
	}
	duration, err := c.p.oneOf("duration", "once", "repeating", "forever")
	if err != nil {
		return nil, err
	}
	months, err := c.p.between("duration_in_months", 0, 1, 36)
	switch {
	case err != nil:
		return nil, err
	case duration == "repeating" && months == 0:
		return nil, missing("duration_in_months")
	case duration != "repeating" && months != 0:
		return nil, invalid("duration_in_months", "You may only set duration_in_months if duration is set to repeating.")
	case months != 0:
		o["duration_in_months"] = months
	}
	o["duration"] = duration
	if err := redemptionParams(c, o, "redeem_by"); err != nil {
		return nil, err
	}
	if c.p.sub("applies_to") != nil {
		return nil, unsupported("applies_to", "coupons of some products only")
	}
	return o, s.save(c.tx, o, "coupon.created")
}

func couponWorth(p *params, o object) error {
	percent, err := p.decimal("percent_off")
	if err != nil {
		return err
	}
	amount, err := p.integer("amount_off", 0)
	if err != nil {
		return err
	}
	switch {
	case p.has("percent_off") == p.has("amount_off"):
		return invalid("percent_off", "You must pass exactly one of percent_off or amount_off.")
	case p.has("percent_off"):
		if percent <= 0 || percent > 100 {
			return invalid("percent_off", "Invalid percent_off: must be between 0 and 100")
		}
		o["percent_off"] = percent
	default:
		if amount < 1 {
			return coded("parameter_invalid_integer", "amount_off", "This value must be greater than or equal to 1.")
		}
		currency, err := p.required("currency")
		if err != nil {
			return err
		}
		if !currencyCode.MatchString(currency) {
			return invalid("currency", "Invalid currency: %s.", currency)
		}
		o["amount_off"], o["currency"] = amount, currency
	}
	return nil
}

// redemptionParams reads how often and until when a coupon or a promotion code may be used.
func redemptionParams(c *call, o object, until string) error {
	most, err := c.p.between("max_redemptions", 0, 1, math.MaxInt32)
	if err != nil {
		return err
	}
	at, err := c.p.timestamp(until, 0)
	if err != nil {
		return err
	}
	if at != 0 && at <= c.tx.unix() {
		return invalid(until, "Invalid timestamp: must be an integer Unix timestamp in the future.")
	}
	o["max_redemptions"], o[until] = moment(most), moment(at)
	return nil
}

func (s *Server) updateCoupon(c *call) (object, error) {
	o, err := c.path("coupon")
	if err != nil {
		return nil, err
	}
	if c.p.has("name") {
		o["name"] = optional(c.p.str("name"))
	}
	o["metadata"] = c.p.metadata(o["metadata"])
	return o, s.save(c.tx, o, "coupon.updated")
}

// deleteCoupon is DELETE /v1/coupons/{id}: who has the discount keeps it.
func (s *Server) deleteCoupon(c *call) (object, error) {
	o, err := c.path("coupon")
	if err != nil {
		return nil, err
	}
	gone := object{"id": o["id"], "object": "coupon", "deleted": true}
	if err := c.tx.put(text(o["id"]), "deleted_coupon", gone); err != nil {
		return nil, err
	}
	return gone, s.emit(c.tx, "coupon.deleted", o)
}

// createPromotion is POST /v1/promotion_codes.
func (s *Server) createPromotion(c *call) (object, error) {
	id, err := c.p.required("coupon")
	if err != nil {
		return nil, err
	}
	coupon, err := c.load("coupon", id, "coupon")
	if err != nil {
		return nil, err
	}
	code := strings.ToUpper(c.p.str("code"))
	if code == "" {
		code = strings.ToUpper(secret()[:8])
	}
	active, err := c.p.active(true)
	if err != nil {
		return nil, err
	}
	if found, err := s.findPromotion(c.tx, code); err != nil {
		return nil, err
	} else if found != nil && active {
		return nil, coded("resource_already_exists", "code", "An active promotion code with `code: %s` already exists.", code)
	}
	o := object{"id": newID("promo"), "object": "promotion_code", "active": active, "code": code, "coupon": id, "created": c.tx.unix(),
		"customer": nil, "livemode": false, "metadata": c.p.metadata(nil), "restrictions": map[string]any{"first_time_transaction": false, "minimum_amount": nil, "minimum_amount_currency": nil},
		"times_redeemed": 0}
	if customer := c.p.str("customer"); customer != "" {
		if _, err := loadCustomer(c.tx, customer, "customer"); err != nil {
			return nil, err
		}
		o["customer"] = customer
	}
	if err := redemptionParams(c, o, "expires_at"); err != nil {
		return nil, err
	}
	if r := c.p.sub("restrictions"); r != nil {
		first, err := r.boolean("first_time_transaction", false)
		if err != nil {
			return nil, err
		}
		least, err := r.integer("minimum_amount", 0)
		if err != nil {
			return nil, err
		}
		o["restrictions"] = map[string]any{"first_time_transaction": first, "minimum_amount": moment(least), "minimum_amount_currency": optional(r.str("minimum_amount_currency"))}
	}
	if err := s.save(c.tx, o, "promotion_code.created"); err != nil {
		return nil, err
	}
	return withCoupon(o, coupon), nil
}

// withCoupon shows a promotion code as Stripe does, with its coupon in it; it is stored with the coupon's id.
func withCoupon(o, coupon object) object {
	o["coupon"] = map[string]any(coupon)
	return o
}

func (s *Server) showPromotion(c *call) (object, error) {
	o, err := c.path("promotion_code")
	if err != nil {
		return nil, err
	}
	return o, s.fillCoupon(c.tx, o)
}

func (s *Server) fillCoupon(tx *work, o object) error {
	d, err := tx.get(text(o["coupon"]))
	if d == nil || err != nil {
		return err
	}
	coupon, err := d.object()
	if err != nil {
		return err
	}
	withCoupon(o, coupon)
	return nil
}

func (s *Server) updatePromotion(c *call) (object, error) {
	o, err := c.path("promotion_code")
	if err != nil {
		return nil, err
	}
	active, err := c.p.active(o["active"] == true)
	if err != nil {
		return nil, err
	}
	o["active"], o["metadata"] = active, c.p.metadata(o["metadata"])
	if err := s.save(c.tx, o, "promotion_code.updated"); err != nil {
		return nil, err
	}
	return o, s.fillCoupon(c.tx, o)
}

func (s *Server) listPromotions(c *call) (object, error) {
	code, coupon, customer := strings.ToUpper(c.p.str("code")), c.p.str("coupon"), c.p.str("customer")
	filtered := c.p.has("active")
	active, err := c.p.active(false)
	if err != nil {
		return nil, err
	}
	q := query{kind: "promotion_code"}
	switch {
	case code != "":
		q.field, q.value = "code", code
	case coupon != "":
		q.field, q.value = "coupon", coupon
	}
	list, err := c.list(q, func(o object) bool {
		return (code == "" || o["code"] == code) && (coupon == "" || o["coupon"] == coupon) && (customer == "" || o["customer"] == customer) &&
			(!filtered || active == (o["active"] == true))
	})
	if err != nil {
		return nil, err
	}
	for _, item := range elements(list["data"]) {
		if err := s.fillCoupon(c.tx, fields(item)); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// findPromotion returns the active promotion code with a code, nil when there is none.
func (s *Server) findPromotion(tx *work, code string) (object, error) {
	found, err := all(tx, query{kind: "promotion_code", field: "code", value: strings.ToUpper(code)})
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(found, func(o object) bool { return o["active"] == true }); i >= 0 {
		return found[i], nil
	}
	return nil, nil
}

// discountParams reads coupon and promotion_code, nil when neither was sent, and counts the redemption.
func (s *Server) discountParams(c *call, customer, subscription string) (any, error) {
	coupon, promotion := c.p.str("coupon"), c.p.str("promotion_code")
	if coupon == "" && promotion == "" {
		return nil, nil
	}
	d, err := s.newDiscount(c.tx, coupon, promotion, customer, "")
	if err != nil {
		return nil, err
	}
	d["customer"], d["subscription"] = optional(customer), optional(subscription)
	return map[string]any(d), s.redeem(c.tx, d)
}

// newDiscount checks a coupon or a promotion code for a customer. prefix is of the parameters' names.
func (s *Server) newDiscount(tx *work, couponID, promotionID, customer, prefix string) (object, error) {
	name := func(field string) string {
		if prefix == "" {
			return field
		}
		return prefix + "[" + field + "]"
	}
	if couponID != "" && promotionID != "" {
		return nil, invalid(name("promotion_code"), "You may only specify one of these parameters: coupon, promotion_code.")
	}
	d := object{"id": newID("di"), "object": "discount", "checkout_session": nil, "customer": optional(customer), "end": nil, "invoice": nil, "invoice_item": nil,
		"promotion_code": optional(promotionID), "start": tx.unix(), "subscription": nil}
	param := name("coupon")
	if promotionID != "" {
		param = name("promotion_code")
		promotion, err := load(tx, "promotion_code", promotionID, param)
		if err != nil {
			return nil, err
		}
		if err := s.checkPromotion(tx, promotion, customer, param); err != nil {
			return nil, err
		}
		couponID = text(promotion["coupon"])
	}
	coupon, err := load(tx, "coupon", couponID, param)
	if err != nil {
		return nil, err
	}
	if used := number(coupon["max_redemptions"]); used != 0 && number(coupon["times_redeemed"]) >= used || passed(tx, coupon["redeem_by"]) {
		return nil, coded("coupon_expired", param, "The coupon %s is no longer valid.", couponID)
	}
	if coupon["duration"] == "repeating" {
		d["end"] = addMonths(tx.now, int(number(coupon["duration_in_months"]))).Unix()
	}
	d["coupon"] = map[string]any(coupon)
	return d, nil
}

func passed(tx *work, at any) bool { return number(at) != 0 && number(at) <= tx.unix() }

func (s *Server) checkPromotion(tx *work, promotion object, customer, param string) error {
	most := number(promotion["max_redemptions"])
	switch {
	case promotion["active"] != true, most != 0 && number(promotion["times_redeemed"]) >= most, passed(tx, promotion["expires_at"]):
		return coded("promotion_code_expired", param, "This promotion code is no longer valid.")
	case text(promotion["customer"]) != "" && text(promotion["customer"]) != customer:
		return coded("promotion_code_customer_mismatch", param, "This promotion code cannot be redeemed by this customer.")
	case fields(promotion["restrictions"])["first_time_transaction"] == true && customer != "":
		charges, err := all(tx, query{kind: "charge", field: "customer", value: customer})
		if err != nil {
			return err
		}
		if slices.ContainsFunc(charges, func(o object) bool { return o["paid"] == true }) {
			return coded("promotion_code_customer_not_first_time", param, "This promotion code cannot be redeemed because the associated customer has prior transactions.")
		}
	}
	return nil
}

// redeem counts the use of a discount's coupon and promotion code.
func (s *Server) redeem(tx *work, d object) error {
	for kind, id := range map[string]string{"coupon": text(fields(d["coupon"])["id"]), "promotion_code": text(d["promotion_code"])} {
		if id == "" {
			continue
		}
		o, err := load(tx, kind, id, kind)
		if err != nil {
			return err
		}
		o["times_redeemed"] = number(o["times_redeemed"]) + 1
		if err := s.keep(tx, o); err != nil {
			return err
		}
	}
	return nil
}

// discounted is what a discount takes off an amount in a currency at a time.
func discounted(d object, amount int64, currency string, at time.Time) int64 {
	coupon := fields(d["coupon"])
	end := number(d["end"])
	if amount <= 0 || len(coupon) == 0 || end != 0 && end <= at.Unix() {
		return 0
	}
	if percent, ok := coupon["percent_off"].(float64); ok {
		return int64(math.Round(float64(amount) * percent / 100))
	}
	if coupon["currency"] != currency {
		return 0
	}
	return min(amount, number(coupon["amount_off"]))
}

// dropDiscount takes a customer's or a subscription's discount away.
func (s *Server) dropDiscount(tx *work, o object) (object, error) {
	d := fields(o["discount"])
	if len(d) == 0 {
		return nil, noSuch("discount", text(o["id"]), "id")
	}
	o["discount"] = nil
	if err := s.keep(tx, o); err != nil {
		return nil, err
	}
	gone := object{"deleted": true}
	maps.Copy(gone, d)
	return gone, s.emit(tx, "customer.discount.deleted", gone)
}

// deleteSubscriptionDiscount is DELETE /v1/subscriptions/{id}/discount.
func (s *Server) deleteSubscriptionDiscount(c *call) (object, error) {
	sub, err := c.path("subscription")
	if err != nil {
		return nil, err
	}
	return s.dropDiscount(c.tx, sub)
}
