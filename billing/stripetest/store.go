package stripetest

import (
	"context"
	"encoding/json"
	"fmt"
)

// Store keeps the double's objects. [NewMemoryStore] and [NewSQLStore] make the two there are.
type Store interface {
	// do runs fn alone: nothing else reads or changes the store meanwhile, and an error undoes what fn put.
	do(ctx context.Context, fn func(tx storeTx) error) error
}

// storeTx is the store as one request sees it.
type storeTx interface {
	// get returns nil when there is no such object.
	get(id string) (*doc, error)
	// put adds an object or replaces the one of the same id, which keeps its place in the order.
	put(id, kind string, body object) error
	// find returns objects of a kind, newest first unless the query says otherwise.
	find(q query) ([]*doc, error)
	// due returns what is due in a queue at a time in milliseconds, what is due longest first.
	due(queue string, until int64, limit int) ([]*doc, error)
}

// query chooses objects of one kind.
type query struct {
	kind string
	// field, which must be one of the indexed, and its value; no field means all of the kind.
	field, value string
	// after and before bound seq, both excluded; 0 does not.
	after, before int64
	oldestFirst   bool
	limit         int // 0: no limit
}

// indexed are the fields that objects of a kind can be found by without reading all of them.
var indexed = map[string][]string{
	"charge":                {"customer", "payment_intent", "invoice"},
	"checkout.session":      {"customer", "payment_intent", "subscription", "status"},
	"customer":              {"email", "test_clock"},
	"dispute":               {"charge", "payment_intent"},
	"event":                 {"type", "_undelivered"},
	"invoice":               {"customer", "subscription", "status"},
	"invoiceitem":           {"customer", "invoice", "_pending"},
	"payment_intent":        {"customer"},
	"payment_method":        {"customer"},
	"price":                 {"product", "lookup_key", "active"},
	"promotion_code":        {"code", "coupon"},
	"refund":                {"charge", "payment_intent"},
	"setup_intent":          {"customer"},
	"subscription":          {"customer", "status", "test_clock", "_item_ids"},
	"subscription_schedule": {"customer", "subscription"},
}

// terms are what an object is found by in the index.
func terms(kind string, body object) []string {
	var out []string
	for _, field := range indexed[kind] {
		switch v := body[field].(type) {
		case string:
			if v != "" {
				out = append(out, term(kind, field, v))
			}
		case bool:
			if v {
				out = append(out, term(kind, field, "true"))
			}
		case []any:
			for _, one := range v {
				out = append(out, term(kind, field, text(one)))
			}
		}
	}
	return out
}

func term(kind, field, value string) string { return kind + "." + field + "=" + value }

// object is what the API answers with, as JSON has it. Fields that begin with an underscore are the double's own: _queue
// and _due say when the object wants to be looked at, and by whom; see [storeTx].
type object map[string]any

// doc is a stored object. It is never changed, but replaced.
type doc struct {
	ID    string `db:"id"`
	Kind  string `db:"kind"`
	Seq   int64  `db:"seq"`
	Queue string `db:"queue"`
	// Due is when the object wants to be looked at, in milliseconds; 0: never.
	Due  int64  `db:"due"`
	Body string `db:"body"`

	terms []string
}

func newDoc(id, kind string, body object) (*doc, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("stripetest: write %s: %w", id, err)
	}
	queue, _ := body["_queue"].(string)
	return &doc{ID: id, Kind: kind, Queue: queue, Due: number(body["_due"]), Body: string(text), terms: terms(kind, body)}, nil
}

func (d *doc) object() (object, error) {
	var o object
	if err := json.Unmarshal([]byte(d.Body), &o); err != nil {
		return nil, fmt.Errorf("stripetest: read %s: %w", d.ID, err)
	}
	return o, nil
}
