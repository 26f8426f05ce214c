// Package stripetest is a double of Stripe for offline development and for tests: an HTTP server with state that the
// real stripe-go client talks to, with hosted pages and signed webhooks.
//
// It simulates customers, payment methods, products, prices, coupons, promotion codes, checkout sessions, payment and setup
// intents, charges, refunds, disputes, subscriptions with trials, prorations, pending updates and schedules, invoices and
// their retries, test clocks, the billing portal, events and webhook endpoints, as API version 2023-10-16 has them, and is
// as strict as Stripe about parameters, ids, states and idempotency keys. What it does not simulate it refuses by name:
// taxes, tiers, metered prices, balance transactions. Failures of Stripe and of the network are made on demand; see
// [Server.Inject]. No money moves and no card is real.
package stripetest

import (
	"context"
	"errors"
	"fmt"
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
	// Clock tells the time, to which [Server.AdvanceTo] adds. Nil: time.Now.
	Clock func() time.Time
	// Retries are the times between the attempts to collect an invoice of a subscription that was not paid, each counted
	// from the attempt before. Nil: 3, 5 and 7 days. Empty: none is made.
	Retries []time.Duration
	// AfterRetries is what becomes of the subscription when the last one has failed. Empty: [AfterRetriesCancel].
	AfterRetries AfterRetries
	// Logger gets failures and deliveries that come to nothing. Nil: slog.Default.
	Logger *slog.Logger
}

// Server is the double. It is an http.Handler for /v1/… (the API), /checkout/… and the other hosted pages, and / (what it
// holds, and what can be made to happen), all relative to its mount point, so http.StripPrefix goes before it. Its methods are safe for concurrent use.
type Server struct {
	cfg   Config
	mux   *http.ServeMux
	pages *pages
	http  *http.Client // delivers webhooks
	wake  chan struct{}

	mu     sync.Mutex
	cancel context.CancelFunc
	done   chan struct{}
	slow   map[string]bool // idempotency keys whose answers are delayed
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
	if cfg.Retries == nil {
		cfg.Retries = defaultRetries
	}
	switch cfg.AfterRetries {
	case "":
		cfg.AfterRetries = AfterRetriesCancel
	case AfterRetriesCancel, AfterRetriesUnpaid, AfterRetriesPastDue:
	default:
		return nil, fmt.Errorf("stripetest: Config.AfterRetries: there is no %q", cfg.AfterRetries)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Server{cfg: cfg, mux: http.NewServeMux(), http: &http.Client{Timeout: deliveryTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: sendersAtOnce, Proxy: http.ProxyFromEnvironment}}, wake: make(chan struct{}, 1), slow: map[string]bool{}}
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
	s.catalogueRoutes()
	s.customerRoutes()
	s.paymentRoutes()
	s.subscriptionRoutes()
	s.webhookRoutes()
	s.mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &apiError{status: http.StatusNotFound, Type: invalidRequest, Code: "unsupported_by_double",
			Message: "The Stripe double does not simulate " + r.Method + " " + r.URL.Path + "."})
	})
	s.pageRoutes()
}

func (s *Server) catalogueRoutes() {
	s.api("POST /v1/products", s.createProduct)
	s.api("GET /v1/products", s.listProducts)
	s.api("GET /v1/products/{id}", s.retrieve("product"))
	s.api("POST /v1/products/{id}", s.updateProduct)
	s.api("DELETE /v1/products/{id}", s.deleteProduct)
	s.api("POST /v1/prices", s.createPrice)
	s.api("GET /v1/prices", s.listPrices)
	s.api("GET /v1/prices/{id}", s.retrieve("price"))
	s.api("POST /v1/prices/{id}", s.updatePrice)
	s.api("POST /v1/coupons", s.createCoupon)
	s.api("GET /v1/coupons", s.listOf("coupon"))
	s.api("GET /v1/coupons/{id}", s.retrieve("coupon"))
	s.api("POST /v1/coupons/{id}", s.updateCoupon)
	s.api("DELETE /v1/coupons/{id}", s.deleteCoupon)
	s.api("POST /v1/promotion_codes", s.createPromotion)
	s.api("GET /v1/promotion_codes", s.listPromotions)
	s.api("GET /v1/promotion_codes/{id}", s.showPromotion)
	s.api("POST /v1/promotion_codes/{id}", s.updatePromotion)
}

func (s *Server) customerRoutes() {
	s.api("POST /v1/customers", s.createCustomer)
	s.api("GET /v1/customers", s.listCustomers)
	s.api("GET /v1/customers/{id}", s.retrieve("customer"))
	s.api("POST /v1/customers/{id}", s.updateCustomer)
	s.api("DELETE /v1/customers/{id}", s.deleteCustomer)
	s.api("DELETE /v1/customers/{id}/discount", s.deleteDiscount)
	s.api("GET /v1/customers/{id}/payment_methods", s.listMethods)
	s.api("GET /v1/customers/{id}/payment_methods/{method}", s.retrieveMethodOf)
	s.api("POST /v1/payment_methods", s.createMethod)
	s.api("GET /v1/payment_methods", s.listMethods)
	s.api("GET /v1/payment_methods/{id}", s.retrieve("payment_method"))
	s.api("POST /v1/payment_methods/{id}", s.updateMethod)
	s.api("POST /v1/payment_methods/{id}/attach", s.attachMethod)
	s.api("POST /v1/payment_methods/{id}/detach", s.detachMethod)
	s.api("POST /v1/setup_intents", s.createSetup)
	s.api("GET /v1/setup_intents", s.listOf("setup_intent", "customer", "payment_method"))
	s.api("GET /v1/setup_intents/{id}", s.retrieve("setup_intent"))
	s.api("POST /v1/setup_intents/{id}", s.updateSetup)
	s.api("POST /v1/setup_intents/{id}/confirm", s.confirmSetup)
	s.api("POST /v1/setup_intents/{id}/cancel", s.cancelSetup)
	s.api("POST /v1/billing_portal/configurations", s.createConfiguration)
	s.api("GET /v1/billing_portal/configurations", s.listOf(portalConfiguration))
	s.api("GET /v1/billing_portal/configurations/{id}", s.retrieve(portalConfiguration))
	s.api("POST /v1/billing_portal/configurations/{id}", s.updateConfiguration)
	s.api("POST /v1/billing_portal/sessions", s.createPortal)
}

func (s *Server) paymentRoutes() {
	s.api("POST /v1/checkout/sessions", s.createSession)
	s.api("GET /v1/checkout/sessions", s.listOf("checkout.session", "customer", "payment_intent", "subscription", "status"))
	s.api("GET /v1/checkout/sessions/{id}", s.retrieve("checkout.session"))
	s.api("GET /v1/checkout/sessions/{id}/line_items", s.listLineItems)
	s.api("POST /v1/checkout/sessions/{id}/expire", s.expireSession)
	s.api("POST /v1/payment_intents", s.createIntent)
	s.api("GET /v1/payment_intents", s.listOf("payment_intent", "customer"))
	s.api("GET /v1/payment_intents/{id}", s.retrieve("payment_intent"))
	s.api("POST /v1/payment_intents/{id}", s.updateIntent)
	s.api("POST /v1/payment_intents/{id}/confirm", s.confirmIntent)
	s.api("POST /v1/payment_intents/{id}/cancel", s.cancelIntent)
	s.api("GET /v1/charges", s.listOf("charge", "customer", "payment_intent"))
	s.api("GET /v1/charges/{id}", s.retrieve("charge"))
	s.api("POST /v1/refunds", s.createRefund)
	s.api("GET /v1/refunds", s.listOf("refund", "charge", "payment_intent"))
	s.api("GET /v1/refunds/{id}", s.retrieve("refund"))
	s.api("POST /v1/refunds/{id}", s.updateRefund)
	s.api("POST /v1/refunds/{id}/cancel", s.cancelRefund)
	s.api("GET /v1/disputes", s.listOf("dispute", "charge", "payment_intent"))
	s.api("GET /v1/disputes/{id}", s.retrieve("dispute"))
	s.api("POST /v1/disputes/{id}", s.updateDispute)
	s.api("POST /v1/disputes/{id}/close", s.concedeDispute)
}

func (s *Server) subscriptionRoutes() {
	s.api("POST /v1/subscriptions", s.createSubscription)
	s.api("GET /v1/subscriptions", s.listSubscriptions)
	s.api("GET /v1/subscriptions/{id}", s.retrieve("subscription"))
	s.api("POST /v1/subscriptions/{id}", s.updateSubscription)
	s.api("DELETE /v1/subscriptions/{id}", s.cancelSubscription)
	s.api("POST /v1/subscriptions/{id}/resume", s.resumeSubscription)
	s.api("DELETE /v1/subscriptions/{id}/discount", s.deleteSubscriptionDiscount)
	s.api("GET /v1/subscription_items", s.listItems)
	s.api("POST /v1/subscription_items", s.createSubscriptionItem)
	s.api("GET /v1/subscription_items/{id}", s.retrieveItem)
	s.api("POST /v1/subscription_items/{id}", s.updateSubscriptionItem)
	s.api("DELETE /v1/subscription_items/{id}", s.deleteSubscriptionItem)
	s.api("POST /v1/subscription_schedules", s.createSchedule)
	s.api("GET /v1/subscription_schedules", s.listOf(scheduleKind, "customer"))
	s.api("GET /v1/subscription_schedules/{id}", s.retrieve(scheduleKind))
	s.api("POST /v1/subscription_schedules/{id}", s.updateSchedule)
	s.api("POST /v1/subscription_schedules/{id}/release", s.releaseSchedule)
	s.api("POST /v1/subscription_schedules/{id}/cancel", s.cancelSchedule)
	s.api("POST /v1/invoices", s.createInvoice)
	s.api("GET /v1/invoices", s.listOf("invoice", "subscription", "customer", "status"))
	s.api("GET /v1/invoices/upcoming", s.upcoming)
	s.api("GET /v1/invoices/upcoming/lines", s.upcomingLines)
	s.api("GET /v1/invoices/{id}", s.retrieve("invoice"))
	s.api("POST /v1/invoices/{id}", s.updateInvoice)
	s.api("DELETE /v1/invoices/{id}", s.deleteInvoice)
	s.api("GET /v1/invoices/{id}/lines", s.listInvoiceLines)
	s.api("POST /v1/invoices/{id}/finalize", s.finalizeInvoice)
	s.api("POST /v1/invoices/{id}/pay", s.payInvoice)
	s.api("POST /v1/invoices/{id}/void", s.voidInvoice)
	s.api("POST /v1/invoices/{id}/mark_uncollectible", s.markUncollectible)
	s.api("POST /v1/invoiceitems", s.createItem)
	s.api("GET /v1/invoiceitems", s.listOf("invoiceitem", "customer", "invoice"))
	s.api("GET /v1/invoiceitems/{id}", s.retrieve("invoiceitem"))
	s.api("DELETE /v1/invoiceitems/{id}", s.deleteItem)
	s.api("POST /v1/test_helpers/test_clocks", s.createClock)
	s.api("GET /v1/test_helpers/test_clocks", s.listOf(testClock))
	s.api("GET /v1/test_helpers/test_clocks/{id}", s.retrieve(testClock))
	s.api("POST /v1/test_helpers/test_clocks/{id}/advance", s.advanceClock)
	s.api("DELETE /v1/test_helpers/test_clocks/{id}", s.deleteClock)
}

func (s *Server) webhookRoutes() {
	s.api("GET /v1/events", s.listEvents)
	s.api("GET /v1/events/{id}", s.retrieve("event"))
	s.api("POST /v1/webhook_endpoints", s.createEndpoint)
	s.api("GET /v1/webhook_endpoints", s.listOf("webhook_endpoint"))
	s.api("GET /v1/webhook_endpoints/{id}", s.retrieve("webhook_endpoint"))
	s.api("POST /v1/webhook_endpoints/{id}", s.updateEndpoint)
	s.api("DELETE /v1/webhook_endpoints/{id}", s.deleteEndpoint)
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
