package auth

import "context"

// Throttle counts an attempt at what, by the client's network address (one /64 for IPv6), in the database that all
// processes share, and returns a [*RetryError] when there were more than l allows. It is for forms of the host's own that
// strangers can send.
func (a *Auth) Throttle(ctx context.Context, what string, l Limit, c Client) error {
	return a.countAttempt(ctx, "host\x00"+what, l, c)
}
