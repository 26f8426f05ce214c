package stripetest

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// memoryStore is for tests and for processes that may forget.
type memoryStore struct {
	mu     sync.Mutex
	docs   map[string]*doc
	kinds  map[string][]*doc // by seq
	terms  map[string][]*doc // by seq
	queues map[string][]*doc // by due and seq
	seq    int64
	undo   []change
}

// change is one put of a transaction: what stood there before, and what stands there since.
type change struct{ old, new *doc }

// NewMemoryStore makes a store that lives as long as the process.
func NewMemoryStore() Store {
	return &memoryStore{docs: map[string]*doc{}, kinds: map[string][]*doc{}, terms: map[string][]*doc{}, queues: map[string][]*doc{}}
}

func (m *memoryStore) do(_ context.Context, fn func(tx storeTx) error) (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.undo = m.undo[:0]
	done := false
	defer func() { // after a panic too
		if done && err == nil {
			return
		}
		for _, c := range slices.Backward(m.undo) {
			m.swap(c.new, c.old)
		}
	}()
	err = fn((*memoryTx)(m))
	done = true
	return err
}

// swap takes one document out and puts another in; either may be nil.
func (m *memoryStore) swap(out, in *doc) {
	if out != nil {
		delete(m.docs, out.ID)
		m.kinds[out.Kind] = without(m.kinds[out.Kind], out, bySeq)
		for _, t := range out.terms {
			if m.terms[t] = without(m.terms[t], out, bySeq); len(m.terms[t]) == 0 {
				delete(m.terms, t)
			}
		}
		if out.Due != 0 {
			m.queues[out.Queue] = without(m.queues[out.Queue], out, byDue)
		}
	}
	if in != nil {
		m.docs[in.ID] = in
		m.kinds[in.Kind] = with(m.kinds[in.Kind], in, bySeq)
		for _, t := range in.terms {
			m.terms[t] = with(m.terms[t], in, bySeq)
		}
		if in.Due != 0 {
			m.queues[in.Queue] = with(m.queues[in.Queue], in, byDue)
		}
	}
}

func bySeq(a, b *doc) int { return cmp.Compare(a.Seq, b.Seq) }

func byDue(a, b *doc) int { return cmp.Or(cmp.Compare(a.Due, b.Due), cmp.Compare(a.Seq, b.Seq)) }

func with(list []*doc, d *doc, order func(a, b *doc) int) []*doc {
	if n := len(list); n == 0 || order(list[n-1], d) < 0 {
		return append(list, d)
	}
	i, _ := slices.BinarySearchFunc(list, d, order)
	return slices.Insert(list, i, d)
}

func without(list []*doc, d *doc, order func(a, b *doc) int) []*doc {
	if i, found := slices.BinarySearchFunc(list, d, order); found {
		return slices.Delete(list, i, i+1)
	}
	return list
}

type memoryTx memoryStore

func (m *memoryTx) get(id string) (*doc, error) { return m.docs[id], nil }

func (m *memoryTx) put(id, kind string, body object) error {
	d, err := newDoc(id, kind, body)
	if err != nil {
		return err
	}
	old := m.docs[id]
	if old != nil {
		d.Seq = old.Seq
	} else {
		m.seq++
		d.Seq = m.seq
	}
	(*memoryStore)(m).swap(old, d)
	m.undo = append(m.undo, change{old, d})
	return nil
}

func (m *memoryTx) find(q query) ([]*doc, error) {
	list := m.kinds[q.kind]
	if q.field != "" {
		list = m.terms[term(q.kind, q.field, q.value)]
	}
	if q.after > 0 {
		i, _ := slices.BinarySearchFunc(list, &doc{Seq: q.after + 1}, bySeq)
		list = list[i:]
	}
	if q.before > 0 {
		i, _ := slices.BinarySearchFunc(list, &doc{Seq: q.before}, bySeq)
		list = list[:i]
	}
	n := len(list)
	if q.limit > 0 {
		n = min(n, q.limit)
	}
	if q.oldestFirst {
		return slices.Clone(list[:n]), nil
	}
	list = slices.Clone(list[len(list)-n:])
	slices.Reverse(list)
	return list, nil
}

func (m *memoryTx) due(queue string, until int64, limit int) ([]*doc, error) {
	list := m.queues[queue]
	i, _ := slices.BinarySearchFunc(list, &doc{Due: until + 1}, byDue)
	return slices.Clone(list[:min(i, limit)]), nil
}
