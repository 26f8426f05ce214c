package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/problem"
)

// ErrPruned says that an event's payload is not kept any more.
var ErrPruned error = problem.New("payload_pruned", "The payload of this event is not kept any more.")

// PayloadParams choose an event's payload.
type PayloadParams struct {
	// ID is Stripe's id of the event. Required.
	ID string
	// Reveal shows personal data. It is recorded with By, who asks, and Reason before anything is returned.
	Reveal bool
	By     string
	Reason string
}

// Payload returns an event's payload as indented JSON. Personal data is masked unless it is asked for: of texts only
// ids and the words that Stripe's own vocabulary consists of are shown. Errors: [ErrNotFound], [ErrPruned]; [ErrNoActor]
// when personal data is asked for by nobody.
func (p *Processor) Payload(ctx context.Context, params PayloadParams) (json.RawMessage, error) {
	if params.Reveal && strings.TrimSpace(params.By) == "" {
		return nil, ErrNoActor
	}
	_, payload, err := p.find(ctx, params.ID)
	if err != nil {
		return nil, err
	}
	if len(payload) == 0 {
		return nil, ErrPruned
	}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("webhook: decode event %s: %w", params.ID, err)
	}
	if params.Reveal {
		err := p.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			return p.record(ctx, tx, VerbReveal, []string{params.ID}, params.By, params.Reason)
		})
		if err != nil {
			return nil, err
		}
	} else {
		value = mask(nil, value)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("webhook: encode event %s: %w", params.ID, err)
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

// masked stands for a text that may be personal.
const masked = "•••"

var (
	// stripeID is an id that Stripe made: a known prefix, perhaps with the mode, and letters and digits.
	stripeID = regexp.MustCompile(`^(acct|ba|bps|card|ch|cn|cs|cus|di|dp|du|evt|fee|fr|ii|il|in|ip|ipi|li|mandate|pi|plan|pm|po|price|prod|promo|py|pyr|qt|re|req|seti|` +
		`si|src|sub|sub_sched|tr|tu|txn|txi|txr|we)_((test|live)_)?[A-Za-z0-9]+$`)
	// word is what Stripe's vocabulary consists of; a name or an address has capitals, spaces or an @.
	word = regexp.MustCompile(`^[a-z0-9_.-]+$`)
	// words are the keys whose texts are Stripe's vocabulary.
	words = map[string]bool{
		"object": true, "type": true, "api_version": true, "currency": true, "status": true, "mode": true, "payment_status": true,
		"billing_reason": true, "collection_method": true, "interval": true, "usage_type": true, "billing_scheme": true, "tax_behavior": true,
		"payment_method_types": true, "payment_method_collection": true, "capture_method": true, "confirmation_method": true, "submit_type": true,
		"ui_mode": true, "reason": true, "code": true, "decline_code": true, "network_status": true, "risk_level": true, "brand": true, "funding": true,
		"network": true, "outcome": true, "setup_future_usage": true, "customer_creation": true, "billing_address_collection": true,
		"aggregate_usage": true, "proration_behavior": true, "cancellation_reason": true, "failure_code": true, "balance_type": true, "scheme": true,
	}
	// people are the keys below which nothing is shown, numbers and truths included.
	people = []string{"metadata", "address", "shipping", "shipping_details", "billing_details", "customer_details", "customer_address", "customer_shipping",
		"customer_tax_ids", "dob", "individual", "owner", "person", "custom_fields", "evidence", "fraud_details"}
)

// mask replaces what may be personal. path are the keys from the top.
func mask(path []string, value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			v[key] = mask(append(slices.Clip(path), key), inner)
		}
		return v
	case []any:
		for i, inner := range v {
			v[i] = mask(path, inner)
		}
		return v
	case nil:
		return nil
	case string:
		if harmless(path, v) {
			return v
		}
		return masked
	default:
		if slices.ContainsFunc(path, func(key string) bool { return slices.Contains(people, key) }) {
			return masked
		}
		return v
	}
}

func harmless(path []string, text string) bool {
	if text == "" || stripeID.MatchString(text) {
		return true
	}
	if len(path) == 0 || slices.ContainsFunc(path, func(key string) bool { return slices.Contains(people, key) }) {
		return false
	}
	key := path[len(path)-1]
	// An id that a person chose, such as a coupon's, is a name.
	return words[key] && word.MatchString(text)
}
