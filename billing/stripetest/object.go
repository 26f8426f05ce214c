package stripetest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// text is a JSON string, or empty.
func text(v any) string {
	s, _ := v.(string)
	return s
}

// number is a JSON number, or 0. Money in a double stays far below 2^53.
func number(v any) int64 {
	switch n := v.(type) {
	case float64:
		return int64(n)
	case int64:
		return n
	case int:
		return int64(n)
	}
	return 0
}

// fields is a JSON object, empty when v is none.
func fields(v any) object {
	switch m := v.(type) {
	case object:
		return m
	case map[string]any:
		return m
	}
	return object{}
}

// elements is a JSON array, or empty.
func elements(v any) []any {
	l, _ := v.([]any)
	return l
}

// optional is a string, or null when it is empty.
func optional(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// moment is a timestamp, or null when it is 0.
func moment(at int64) any {
	if at == 0 {
		return nil
	}
	return at
}

// copyOf is a deep copy, with the types that JSON gives.
func copyOf(o object) (object, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("stripetest: copy: %w", err)
	}
	var out object
	if err := json.Unmarshal(body, &out); err != nil {
		return nil, fmt.Errorf("stripetest: copy: %w", err)
	}
	return out, nil
}

// previous is what an update replaced: data.previous_attributes of its event (docs.stripe.com/api/events/object).
func previous(before, after map[string]any) map[string]any {
	out := map[string]any{}
	for k, old := range before {
		now, there := after[k]
		switch {
		case strings.HasPrefix(k, "_") || there && reflect.DeepEqual(old, now):
		case isObject(old) && isObject(now):
			if inner := previous(fields(old), fields(now)); len(inner) > 0 {
				out[k] = inner
			}
		default:
			out[k] = old
		}
	}
	for k := range after {
		if _, there := before[k]; !there && !strings.HasPrefix(k, "_") {
			out[k] = nil
		}
	}
	return out
}

func isObject(v any) bool {
	_, ok := v.(map[string]any)
	return ok
}

// public leaves out the double's own fields, at any depth.
func public(v any) any {
	switch v := v.(type) {
	case object:
		return public(map[string]any(v))
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, inner := range v {
			if !strings.HasPrefix(k, "_") {
				out[k] = public(inner)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = public(inner)
		}
		return out
	}
	return v
}

// inline is a list as it stands inside of another object.
func inline(data []any, url string) map[string]any {
	if data == nil {
		data = []any{}
	}
	return map[string]any{"object": "list", "data": data, "has_more": false, "total_count": len(data), "url": url}
}

// Letters of ids; Stripe's have no others.
const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// newID makes an id as Stripe's look: a prefix and 24 letters and digits.
func newID(prefix string) string {
	random := make([]byte, 24)
	_, _ = rand.Read(random) // never fails (crypto/rand)
	for i, b := range random {
		random[i] = letters[int(b)%len(letters)]
	}
	return prefix + "_" + string(random)
}

// secret is a random part of a client secret or a webhook secret.
func secret() string { return strings.TrimPrefix(newID(""), "_") }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
