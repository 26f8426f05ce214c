// Package stripetest is a double of Stripe for offline development and for tests: an HTTP server with state that the
// real stripe-go client talks to, with a hosted checkout page and signed webhooks.
//
// It simulates customers, products, prices, checkout sessions in payment mode, payment intents, charges, events and
// webhook endpoints, as API version 2023-10-16 has them, and is as strict as Stripe about parameters, ids, states and
// idempotency keys. What it does not simulate it refuses by name. No money moves and no card is real.
package stripetest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"
)

// Defaults of [Config].
const (
	DefaultSecretKey     = "sk_test_quickscale_double" //nolint:gosec // opens nothing but a double
	DefaultWebhookSecret = "whsec_quickscale_double"   //nolint:gosec // opens nothing but a double
)

// Config is what [NewServer] takes.
type Config struct {
	// BaseURL is where people and clients reach the double, without a slash at the end, such as
	// http://127.0.0.1:8080/dev/stripe. Hosted pages are addressed below it. Required.
	BaseURL string
	// SecretKey is the API key that clients must send. Empty: [DefaultSecretKey].
	SecretKey string
	// WebhookURL gets all events, signed with WebhookSecret (empty: [DefaultWebhookSecret]). Empty: none does, until a
	// client makes an endpoint through the API.
	WebhookURL    string
	WebhookSecret string
	// Store keeps the objects. Nil: in memory.
	Store Store
	// Clock tells the time. Nil: time.Now.
	Clock func() time.Time
	// Logger gets failures and deliveries that come to nothing. Nil: slog.Default.
	Logger *slog.Logger
}

// Server is the double. It is an http.Handler for /v1/… (the API), /checkout/… (hosted pages) and / (an overview), all
// relative to its mount point, so http.StripPrefix goes before it. Its methods are safe for concurrent use.
type Server struct {
	cfg   Config
	mux   *http.ServeMux
	pages *pages
	http  *http.Client // delivers webhooks
	wake  chan struct{}

	mu     sync.Mutex
	cancel context.CancelFunc
	done   chan struct{}
}

// NewServer checks cfg.
func NewServer(cfg Config) (*Server, error) {
	if cfg.BaseURL == "" {
		return nil, errors.New("stripetest: Config.BaseURL is required")
	}
	cfg.BaseURL = strings.TrimSuffix(cfg.BaseURL, "/")
	if cfg.SecretKey == "" {
		cfg.SecretKey = DefaultSecretKey
	}
	if !strings.HasPrefix(cfg.SecretKey, "sk_test_") {
		return nil, errors.New("stripetest: Config.SecretKey must begin with sk_test_: the double is no place for a real key")
	}
	if cfg.WebhookSecret == "" {
		cfg.WebhookSecret = DefaultWebhookSecret
	}
	if cfg.Store == nil {
		cfg.Store = NewMemoryStore()
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Server{cfg: cfg, mux: http.NewServeMux(), http: &http.Client{Timeout: deliveryTimeout}, wake: make(chan struct{}, 1)}
	var err error
	if s.pages, err = loadPages(); err != nil {
		return nil, err
	}
	s.routes()
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) routes() {
	s.api("POST /v1/products", s.createProduct)
	s.api("GET /v1/products", s.listProducts)
	s.api("GET /v1/products/{id}", s.retrieve("product"))
	s.api("POST /v1/products/{id}", s.updateProduct)
	s.api("POST /v1/prices", s.createPrice)
	s.api("GET /v1/prices", s.listPrices)
	s.api("GET /v1/prices/{id}", s.retrieve("price"))
	s.api("POST /v1/prices/{id}", s.updatePrice)
	s.api("POST /v1/customers", s.createCustomer)
	s.api("GET /v1/customers", s.listCustomers)
	s.api("GET /v1/customers/{id}", s.retrieve("customer"))
	s.api("POST /v1/customers/{id}", s.updateCustomer)
	s.api("DELETE /v1/customers/{id}", s.deleteCustomer)
	s.api("POST /v1/checkout/sessions", s.createSession)
	s.api("GET /v1/checkout/sessions", s.listSessions)
	s.api("GET /v1/checkout/sessions/{id}", s.retrieve("checkout.session"))
	s.api("GET /v1/checkout/sessions/{id}/line_items", s.listLineItems)
	s.api("POST /v1/checkout/sessions/{id}/expire", s.expireSession)
	s.api("GET /v1/payment_intents", s.listOf("payment_intent", "customer"))
	s.api("GET /v1/payment_intents/{id}", s.retrieve("payment_intent"))
	s.api("GET /v1/charges", s.listOf("charge", "customer", "payment_intent"))
	s.api("GET /v1/charges/{id}", s.retrieve("charge"))
	s.api("GET /v1/events", s.listEvents)
	s.api("GET /v1/events/{id}", s.retrieve("event"))
	s.api("POST /v1/webhook_endpoints", s.createEndpoint)
	s.api("GET /v1/webhook_endpoints", s.listOf("webhook_endpoint"))
	s.api("GET /v1/webhook_endpoints/{id}", s.retrieve("webhook_endpoint"))
	s.api("DELETE /v1/webhook_endpoints/{id}", s.deleteEndpoint)
	s.mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &apiError{status: http.StatusNotFound, Type: invalidRequest, Code: "unsupported_by_double",
			Message: "The Stripe double does not simulate " + r.Method + " " + r.URL.Path + "."})
	})
	s.mux.HandleFunc("GET /checkout/{id}", s.showCheckout)
	s.mux.HandleFunc("POST /checkout/{id}", s.payCheckout)
	s.mux.HandleFunc("GET /receipts/{id}", s.showReceipt)
	s.mux.HandleFunc("GET /static/style.css", s.pages.style)
	s.mux.HandleFunc("GET /{$}", s.showIndex)
	s.mux.HandleFunc("POST /delayed/{id}", s.settleDelayedPage)
}

// Client is a stripe-go client that calls the double directly, without a network, so it works before anything
// listens. It uses none of stripe-go's global settings.
func (s *Server) Client() *client.API {
	return NewClient(s.cfg.BaseURL, s.cfg.SecretKey, &http.Client{Transport: direct{s}})
}

// NewClient is a stripe-go client for a double, or any other Stripe, at baseURL. It retries nothing by itself.
func NewClient(baseURL, key string, httpClient *http.Client) *client.API {
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL:               stripe.String(baseURL),
		HTTPClient:        httpClient,
		MaxNetworkRetries: stripe.Int64(0),
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
	})
	return client.New(key, &stripe.Backends{API: backend, Connect: backend, Uploads: backend})
}

func (s *Server) now() time.Time { return s.cfg.Clock().UTC() }

// do runs a request's work alone and wakes the deliveries afterwards.
func (s *Server) do(ctx context.Context, fn func(tx storeTx) error) error {
	if err := s.cfg.Store.do(ctx, fn); err != nil {
		return err
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}
