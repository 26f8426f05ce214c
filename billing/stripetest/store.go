package stripetest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
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
	// list returns the objects of a kind in the order of creation.
	list(kind string) ([]*doc, error)
}

// object is what the API answers with, as JSON has it. Fields that begin with an underscore are the double's own.
type object map[string]any

// doc is a stored object.
type doc struct {
	ID   string `db:"id"`
	Kind string `db:"kind"`
	Seq  int64  `db:"seq"`
	Body string `db:"body"`
}

func (d *doc) object() (object, error) {
	var o object
	if err := json.Unmarshal([]byte(d.Body), &o); err != nil {
		return nil, fmt.Errorf("stripetest: read %s: %w", d.ID, err)
	}
	return o, nil
}

// memoryStore is for tests and for processes that may forget.
type memoryStore struct {
	mu   sync.Mutex
	docs map[string]*doc
	seq  int64
}

// NewMemoryStore makes a store that lives as long as the process.
func NewMemoryStore() Store { return &memoryStore{docs: map[string]*doc{}} }

func (m *memoryStore) do(_ context.Context, fn func(tx storeTx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := maps.Clone(m.docs)
	if err := fn((*memoryTx)(m)); err != nil {
		m.docs = before
		return err
	}
	return nil
}

type memoryTx memoryStore

func (m *memoryTx) get(id string) (*doc, error) { return m.docs[id], nil }

func (m *memoryTx) put(id, kind string, body object) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("stripetest: write %s: %w", id, err)
	}
	d := &doc{ID: id, Kind: kind, Body: string(text)}
	if old := m.docs[id]; old != nil {
		d.Seq = old.Seq
	} else {
		m.seq++
		d.Seq = m.seq
	}
	m.docs[id] = d
	return nil
}

func (m *memoryTx) list(kind string) ([]*doc, error) {
	var docs []*doc
	for _, d := range m.docs {
		if d.Kind == kind {
			docs = append(docs, d)
		}
	}
	slices.SortFunc(docs, func(a, b *doc) int { return int(a.Seq - b.Seq) })
	return docs, nil
}
