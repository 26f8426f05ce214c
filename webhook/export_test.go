package webhook

// HoldWriters keeps events from their transactions until release is called.
func (p *Processor) HoldWriters() (release func()) {
	for range cap(p.writes) {
		p.writes <- struct{}{}
	}
	return func() {
		for range cap(p.writes) {
			<-p.writes
		}
	}
}

// Lobby is how many events wait for a transaction that they can share.
func (p *Processor) Lobby() int {
	p.lobby.mu.Lock()
	defer p.lobby.mu.Unlock()
	return len(p.lobby.waiting)
}
