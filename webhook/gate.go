package webhook

import "sync"

// gate lets one event per object through at a time.
type gate struct {
	mu     sync.Mutex
	inside map[string]struct{}
}

func (g *gate) enter(key string) (leave func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, taken := g.inside[key]; taken {
		return nil, false
	}
	g.inside[key] = struct{}{}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.inside, key)
	}, true
}
