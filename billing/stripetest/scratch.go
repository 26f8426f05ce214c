package stripetest

// scratch is a transaction whose puts are seen by itself only, and are gone with it. It finds what was there before: a new
// object can be got, and is not found by a query.
type scratch struct {
	storeTx

	docs map[string]*doc
}

func (s *scratch) get(id string) (*doc, error) {
	if d, ok := s.docs[id]; ok {
		return d, nil
	}
	return s.storeTx.get(id)
}

func (s *scratch) put(id, kind string, body object) error {
	d, err := newDoc(id, kind, body)
	if err != nil {
		return err
	}
	s.docs[id] = d
	return nil
}

func (s *scratch) find(q query) ([]*doc, error) {
	docs, err := s.storeTx.find(q)
	for i, d := range docs {
		if own, ok := s.docs[d.ID]; ok {
			docs[i] = own
		}
	}
	return docs, err
}
