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
	by := func(condition string, n int) (string, []any) {
		args := make([]any, n)
		for i := range args {
			args[i] = find
		}
		return condition, args
	}
	prefix, _, _ := strings.Cut(find, "_")
	switch {
	case strings.HasPrefix(strings.ToUpper(find), "RCP-"):
		find = strings.ToUpper(find)
		return by(`receipt_number = ?`, 1)
	case strings.Contains(find, "@"):
		find = strings.ToLower(find)
		return by(`account_id IN (SELECT account_id FROM qs_billing_customers WHERE lower(email) = ?)`, 1)
	case prefix == "pi":
		return by(`intent_id = ?`, 1)
	case prefix == "ch" || prefix == "py":
		return by(`charge_id = ?`, 1)
	case prefix == "in":
		return by(`invoice_id = ?`, 1)
	case prefix == "cs":
		return by(`session_id = ?`, 1)
	case prefix == "sub":
		return by(`subscription_id = ?`, 1)
	case prefix == "cus":
		return by(`account_id IN (SELECT account_id FROM qs_billing_customers WHERE customer_id = ?)`, 1)
	case prefix == "re" || prefix == "pyr":
		return by(`id IN (SELECT payment_id FROM qs_billing_refunds WHERE refund_id = ?)`, 1)
	case prefix == "dp" || prefix == "du":
		return by(`id IN (SELECT payment_id FROM qs_billing_disputes WHERE dispute_id = ?)`, 1)
	}
	if id, err := uuid.Parse(find); err == nil {
		return `(id = ? OR account_id = ?)`, []any{id, find}
	}
	return by(`account_id = ?`, 1)
}
