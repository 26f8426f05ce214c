package stripetest

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/stripe/stripe-go/v76/client"
)

// Test is a double on a server of its own, for tests.
type Test struct {
	*Server
	// URL is where it listens.
	URL string
	// Stripe is a client that talks to it over HTTP.
	Stripe *client.API
}

// New starts a double for a test and stops it at the test's end. change may alter the configuration before the start,
// its BaseURL excepted.
func New(tb testing.TB, change ...func(*Config)) *Test {
	tb.Helper()
	// It listens already, so that its address is known, and serves once there is something to serve.
	listener := httptest.NewUnstartedServer(nil)
	cfg := Config{BaseURL: "http://" + listener.Listener.Addr().String()}
	for _, f := range change {
		f(&cfg)
	}
	s, err := NewServer(cfg)
	if err != nil {
		listener.Close()
		tb.Fatal(err)
	}
	listener.Config.Handler = s
	listener.Start()
	if err := s.Start(context.Background()); err != nil {
		listener.Close()
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		s.Stop()
		listener.Close()
	})
	return &Test{Server: s, URL: listener.URL, Stripe: NewClient(listener.URL, s.cfg.SecretKey, listener.Client())}
}
