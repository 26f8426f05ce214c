package auth

import (
	"context"
	"sync"
	"time"
)

// maxCached is how many sessions, and how many users who have changed, one process remembers.
const maxCached = 16_384

// sessionCache spares requests that follow each other closely the read of their session. What it tells is at most ttl
// old: a change of a user through this process is seen at once, one through another process after ttl at the latest.
type sessionCache struct {
	ttl   time.Duration // 0: nothing is kept
	clock func() time.Time

	mu      sync.Mutex
	kept    map[[secretBytes]byte]keptSession
	changed map[string]time.Time // when a user's rows were last being changed
	all     time.Time            // the same for every user
	swept   time.Time
}

type keptSession struct {
	user    User
	session Session
	// read is from before the read, so that what was committed after it is not missed for longer than ttl.
	read time.Time
}

func newSessionCache(ttl time.Duration, clock func() time.Time) *sessionCache {
	return &sessionCache{ttl: max(ttl, 0), clock: clock, kept: map[[secretBytes]byte]keptSession{}, changed: map[string]time.Time{}}
}

// find returns what is known of a token's hash; false when it has to be read.
func (c *sessionCache) find(hash [secretBytes]byte) (keptSession, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.kept[hash]
	if !ok {
		return k, false
	}
	now := c.clock()
	age := now.Sub(k.read)
	return k, age >= 0 && age < c.ttl && now.Before(k.session.ExpiresAt) && !c.isStale(k)
}

// isStale tells that the user was being changed when the session was read, or since. A change is noted before its
// transaction ends, so for ttl after it nothing that was read is kept.
func (c *sessionCache) isStale(k keptSession) bool {
	if !c.all.IsZero() && !k.read.After(c.all.Add(c.ttl)) {
		return true
	}
	at, ok := c.changed[k.user.ID]
	return ok && !k.read.After(at.Add(c.ttl))
}

func (c *sessionCache) keep(hash [secretBytes]byte, k keptSession) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep()
	if len(c.kept) < maxCached && !c.isStale(k) {
		c.kept[hash] = k
	}
}

// forget is called where a user's rows, or those of their sessions, are about to change.
func (c *sessionCache) forget(userID string) {
	if c.ttl == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep()
	now := c.clock()
	if len(c.changed) >= maxCached {
		clear(c.changed)
		c.all = now
	}
	c.changed[userID] = now
}

// sweep drops what time has made useless, every ttl.
func (c *sessionCache) sweep() {
	now := c.clock()
	if age := now.Sub(c.swept); age >= 0 && age < c.ttl {
		return
	}
	c.swept = now
	for hash, k := range c.kept {
		if now.Sub(k.read) >= c.ttl {
			delete(c.kept, hash)
		}
	}
	for id, at := range c.changed {
		if now.Sub(at) > 2*c.ttl { // no session that it makes stale is young enough to be found
			delete(c.changed, id)
		}
	}
}

// recall is [Auth.resume], or what it told less than Config.SessionCache ago.
func (a *Auth) recall(ctx context.Context, token string) (User, Session, bool, error) {
	if a.sessions.ttl == 0 {
		return a.resume(ctx, token)
	}
	hash := [secretBytes]byte(hashSecret(token))
	if k, ok := a.sessions.find(hash); ok {
		return k.user, k.session, true, nil
	}
	read := a.cfg.Clock()
	u, s, ok, err := a.resume(ctx, token)
	// A session of staff as somebody else hangs on the rows of two people, and is read each time.
	if ok && err == nil && s.ImpersonatorID == "" {
		a.sessions.keep(hash, keptSession{u, s, read})
	}
	return u, s, ok, err
}
