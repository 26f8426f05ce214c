package stripetest

import (
	"context"
	"strings"
)

// sessionDiscount reads discounts and allow_promotion_codes, and sets the totals.
func (s *Server) sessionDiscount(c *call, o object) error {
	given := c.p.items("discounts")
	allow, err := c.p.boolean("allow_promotion_codes", false)
	if err != nil {
		return err
	}
	if c.p.has("allow_promotion_codes") {
		if len(given) > 0 {
			return invalid("allow_promotion_codes", "You may only specify one of these parameters: allow_promotion_codes, discounts.")
		}
		o["allow_promotion_codes"] = allow
	}
	if len(given) > 1 {
		return invalid("discounts", "You may pass at most one discount.")
	}
	for _, p := range given {
		coupon, promotion := p.str("coupon"), p.str("promotion_code")
		if coupon == "" && promotion == "" {
			return missing("discounts[0][coupon]")
		}
		d, err := s.newDiscount(c.tx, coupon, promotion, text(o["customer"]), "discounts[0]")
		if err != nil {
			return err
		}
		o["_discount"] = map[string]any(d)
	}
	return totalSession(c.tx, o)
}

// totalSession works out what a session costs: the discount is shared among the items by their amounts.
func totalSession(tx *work, o object) error {
	subtotal, items := number(o["amount_subtotal"]), elements(o["_line_items"])
	off := discounted(fields(o["_discount"]), subtotal, text(o["currency"]), tx.now)
	left := off
	for i, item := range items {
		line := fields(item)
		amount := number(line["amount_subtotal"])
		share := left
		if i < len(items)-1 {
			share = 0
			if subtotal > 0 {
				share = min(left, off*amount/subtotal)
			}
		}
		left -= share
		line["amount_discount"], line["amount_total"] = share, amount-share
	}
	total := subtotal - off
	o["amount_total"] = total
	fields(o["total_details"])["amount_discount"] = off
	if o["mode"] == "payment" && total != 0 && total < minimumCharge {
		return coded("amount_too_small", "", "The Checkout Session's total amount due must add up to at least 0.50.")
	}
	return nil
}

// ApplyPromotionCode enters a code on a session's page, which [stripe.CheckoutSessionParams.AllowPromotionCodes] must
// allow. An empty code takes it away again.
func (s *Server) ApplyPromotionCode(ctx context.Context, session, code string) error {
	return s.do(ctx, func(tx *work) error {
		o, err := load(tx, "checkout.session", session, "id")
		if err != nil {
			return err
		}
		if o["status"] != "open" {
			return wrongState("The session is %s.", text(o["status"]))
		}
		if o["allow_promotion_codes"] != true {
			return wrongState("The session takes no promotion codes.")
		}
		o["_discount"] = nil
		if code != "" {
			promotion, err := s.findPromotion(tx, strings.TrimSpace(code))
			if err != nil {
				return err
			}
			if promotion == nil {
				return coded("resource_missing", "code", "This code is invalid.")
			}
			least := number(fields(promotion["restrictions"])["minimum_amount"])
			if number(o["amount_subtotal"]) < least {
				return coded("promotion_code_minimum_amount", "code", "This code needs a larger order.")
			}
			d, err := s.newDiscount(tx, "", text(promotion["id"]), text(o["customer"]), "")
			if err != nil {
				return err
			}
			o["_discount"] = map[string]any(d)
		}
		if err := totalSession(tx, o); err != nil {
			return err
		}
		return s.keep(tx, o)
	})
}
