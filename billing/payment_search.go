package billing

import (
	"strings"

	"github.com/google/uuid"
)

// where is the condition that a search by one text adds, told by the text's form; see [PaymentsParams.Find].
func (p PaymentsParams) where() (condition string, args []any) {
	find := strings.TrimSpace(p.Find)
	if find == "" {
		return "", nil
	}
	by := func(condition string) (string, []any) { return condition, []any{find} }
	prefix, _, _ := strings.Cut(find, "_")
	switch {
	case strings.HasPrefix(strings.ToUpper(find), "RCP-"):
		find = strings.ToUpper(find)
		return by(`receipt_number = ?`)
	case strings.Contains(find, "@"):
		find = strings.ToLower(find)
		return by(`account_id IN (SELECT account_id FROM qs_billing_customers WHERE lower(email) = ?)`)
	case prefix == "pi":
		return by(`intent_id = ?`)
	case prefix == "ch" || prefix == "py":
		return by(`charge_id = ?`)
	case prefix == "in":
		return by(`invoice_id = ?`)
	case prefix == "cs":
		return by(`session_id = ?`)
	case prefix == "sub":
		return by(`subscription_id = ?`)
	case prefix == "cus":
		return by(`account_id IN (SELECT account_id FROM qs_billing_customers WHERE customer_id = ?)`)
	case prefix == "re" || prefix == "pyr":
		return by(`id IN (SELECT payment_id FROM qs_billing_refunds WHERE refund_id = ?)`)
	case prefix == "dp" || prefix == "du":
		return by(`id IN (SELECT payment_id FROM qs_billing_disputes WHERE dispute_id = ?)`)
	}
	if id, err := uuid.Parse(find); err == nil {
		return `(id = ? OR account_id = ?)`, []any{id, find}
	}
	return by(`account_id = ?`)
}
