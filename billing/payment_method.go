package billing

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// PaymentMethod is a saved card. Stripe keeps it; here it is only looked at.
type PaymentMethod struct {
	ID       string `json:"id"`
	Brand    string `json:"brand"`
	Last4    string `json:"last4"`
	ExpMonth int64  `json:"exp_month"`
	ExpYear  int64  `json:"exp_year"`
	// Default says that renewals are paid with it.
	Default bool `json:"default"`
	// Expiring says that it is good for 31 days at most, or not any more.
	Expiring bool `json:"expiring"`
}

// Errors about saved cards.
var (
	ErrNoCard   error = problem.New(problem.CodeNotFound, "You have no such card.")
	ErrCardUsed error = problem.New("card_in_use", "Your subscription is paid with this card. Make another one the default before you remove it.")
)

// expiringWithin is how early an expiring card is pointed out.
const expiringWithin = 31 * 24 * time.Hour

// PaymentMethods lists an account's saved cards, none for who never bought. The errors are [ErrStripe] and the database's.
func (b *Billing) PaymentMethods(ctx context.Context, account string) ([]PaymentMethod, error) {
	customer, err := b.customerOf(ctx, account)
	if err != nil || customer == "" {
		return nil, err
	}
	chosen, err := b.defaultMethod(ctx, account, customer)
	if err != nil {
		return nil, err
	}
	list := b.cfg.Stripe.PaymentMethods.List(&stripe.PaymentMethodListParams{
		ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}, Customer: &customer, Type: stripe.String(string(stripe.PaymentMethodTypeCard)),
	})
	var methods []PaymentMethod
	for list.Next() {
		pm := list.PaymentMethod()
		if pm.Card == nil {
			continue
		}
		// A card is good through its last month.
		ends := time.Date(int(pm.Card.ExpYear), time.Month(pm.Card.ExpMonth)+1, 1, 0, 0, 0, 0, time.UTC)
		methods = append(methods, PaymentMethod{ID: pm.ID, Brand: string(pm.Card.Brand), Last4: pm.Card.Last4, ExpMonth: pm.Card.ExpMonth, ExpYear: pm.Card.ExpYear,
			Default: pm.ID == chosen, Expiring: ends.Before(b.now().Add(expiringWithin))})
	}
	if err := list.Err(); err != nil && !isMissingCustomer(err) {
		return nil, stripeError("list payment methods", err)
	}
	return methods, nil
}

// customerOf is an account's Stripe customer, empty for who never bought.
func (b *Billing) customerOf(ctx context.Context, account string) (string, error) {
	var row customerRow
	err := b.db.Get(ctx, &row, selectCustomer, account)
	if database.IsNoRows(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("billing: customer of account %s: %w", account, err)
	}
	return deref(row.CustomerID), nil
}

// defaultMethod is the card that renewals are paid with: the subscription's, or else the customer's.
func (b *Billing) defaultMethod(ctx context.Context, account, customer string) (string, error) {
	s, err := b.living(ctx, account)
	if err == nil {
		params := &stripe.SubscriptionParams{}
		params.Context = ctx
		sub, err := b.cfg.Stripe.Subscriptions.Get(s.ID, params)
		if err != nil {
			return "", stripeError("read subscription "+s.ID, err)
		}
		if sub.DefaultPaymentMethod != nil {
			return sub.DefaultPaymentMethod.ID, nil
		}
	} else if !errors.Is(err, ErrNoSubscription) && !errors.Is(err, ErrEnded) {
		return "", err
	}
	params := &stripe.CustomerParams{}
	params.Context = ctx
	c, err := b.cfg.Stripe.Customers.Get(customer, params)
	if e, ok := asStripe(err); ok && e.Code == stripe.ErrorCodeResourceMissing {
		return "", nil
	}
	if err != nil {
		return "", stripeError("read a customer", err)
	}
	if c.InvoiceSettings == nil || c.InvoiceSettings.DefaultPaymentMethod == nil {
		return "", nil
	}
	return c.InvoiceSettings.DefaultPaymentMethod.ID, nil
}

// AddPaymentMethod returns the URL of Stripe's page where a card is saved. The errors are [ErrUnverified] and [ErrStripe].
func (b *Billing) AddPaymentMethod(ctx context.Context, who Customer) (string, error) {
	if !who.Verified {
		return "", ErrUnverified
	}
	customer, err := b.ensureCustomer(ctx, who)
	if err != nil {
		return "", err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("billing: make an id: %w", err)
	}
	params := &stripe.CheckoutSessionParams{
		Mode: stripe.String(string(stripe.CheckoutSessionModeSetup)), Customer: &customer, PaymentMethodTypes: stripe.StringSlice([]string{"card"}),
		SuccessURL: stripe.String(b.cfg.BaseURL + b.cfg.Path + "/payment-methods?added=true"), CancelURL: stripe.String(b.cfg.BaseURL + b.cfg.Path + "/payment-methods"),
		Metadata: map[string]string{accountKey: who.Account},
	}
	params.Context = ctx
	params.SetIdempotencyKey("setup-" + id.String())
	session, err := b.cfg.Stripe.CheckoutSessions.New(params)
	if err != nil {
		return "", stripeError("open a setup session", err)
	}
	return session.URL, nil
}

// SetDefaultPaymentMethod makes a card the one that renewals are paid with. The errors are [ErrNoCard] and [ErrStripe].
func (b *Billing) SetDefaultPaymentMethod(ctx context.Context, account, method string) error {
	customer, err := b.ownMethod(ctx, account, method)
	if err != nil {
		return err
	}
	params := &stripe.CustomerParams{InvoiceSettings: &stripe.CustomerInvoiceSettingsParams{DefaultPaymentMethod: &method}}
	params.Context = ctx
	if _, err := b.cfg.Stripe.Customers.Update(customer, params); err != nil {
		return stripeError("change the default card", err)
	}
	s, err := b.living(ctx, account)
	if errors.Is(err, ErrNoSubscription) || errors.Is(err, ErrEnded) {
		return nil
	}
	if err != nil {
		return err
	}
	// A subscription's own card goes before the customer's.
	change := &stripe.SubscriptionParams{DefaultPaymentMethod: &method}
	change.Context = ctx
	if _, err := b.cfg.Stripe.Subscriptions.Update(s.ID, change); err != nil {
		return stripeError("change the subscription's card", err)
	}
	return nil
}

// RemovePaymentMethod forgets a card. The errors are [ErrNoCard], [ErrCardUsed] for the card that pays a subscription
// which has not ended, and so for the last one, and [ErrStripe].
func (b *Billing) RemovePaymentMethod(ctx context.Context, account, method string) error {
	if _, err := b.ownMethod(ctx, account, method); err != nil {
		return err
	}
	methods, err := b.PaymentMethods(ctx, account)
	if err != nil {
		return err
	}
	_, err = b.living(ctx, account)
	if err == nil {
		for _, m := range methods {
			if m.ID == method && (m.Default || len(methods) == 1) {
				return ErrCardUsed
			}
		}
	} else if !errors.Is(err, ErrNoSubscription) && !errors.Is(err, ErrEnded) {
		return err
	}
	params := &stripe.PaymentMethodDetachParams{}
	params.Context = ctx
	if _, err := b.cfg.Stripe.PaymentMethods.Detach(method, params); err != nil {
		return stripeError("remove a card", err)
	}
	return nil
}

// ownMethod checks that a card is the account's, and returns the customer.
func (b *Billing) ownMethod(ctx context.Context, account, method string) (string, error) {
	customer, err := b.customerOf(ctx, account)
	if err != nil {
		return "", err
	}
	params := &stripe.PaymentMethodParams{}
	params.Context = ctx
	pm, err := b.cfg.Stripe.PaymentMethods.Get(method, params)
	if e, ok := asStripe(err); ok && (e.Code == stripe.ErrorCodeResourceMissing || e.HTTPStatusCode == http.StatusNotFound) {
		return "", ErrNoCard
	}
	if err != nil {
		return "", stripeError("read a card", err)
	}
	if customer == "" || pm.Customer == nil || pm.Customer.ID != customer {
		return "", ErrNoCard
	}
	return customer, nil
}

// PortalOrigin is where Stripe's customer portal is; a Content-Security-Policy must let forms lead there.
const PortalOrigin = "https://billing.stripe.com"

// Portal returns the URL of Stripe's customer portal for an account, where addresses, tax numbers and invoices are. Do
// not let the portal change plans: that belongs here, where the credits follow. The errors are [ErrUnverified] and
// [ErrStripe].
func (b *Billing) Portal(ctx context.Context, who Customer) (string, error) {
	if !who.Verified {
		return "", ErrUnverified
	}
	customer, err := b.ensureCustomer(ctx, who)
	if err != nil {
		return "", err
	}
	params := &stripe.BillingPortalSessionParams{Customer: &customer, ReturnURL: stripe.String(b.cfg.BaseURL + b.cfg.Path + "/payment-methods")}
	params.Context = ctx
	session, err := b.cfg.Stripe.BillingPortalSessions.New(params)
	if err != nil {
		return "", stripeError("open the portal", err)
	}
	return session.URL, nil
}

// methodsPage is the data of payment-methods.html.
type methodsPage struct {
	Path    string          `json:"-"`
	Methods []PaymentMethod `json:"payment_methods"`
	// Added says that the person comes from saving a card.
	Added bool `json:"-"`
}

func (b *Billing) showMethods(w http.ResponseWriter, r *http.Request, who Customer) {
	methods, err := b.PaymentMethods(r.Context(), who.Account)
	if err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	b.views.Respond(w, r, http.StatusOK, "payment-methods", methodsPage{b.cfg.Path, methods, r.URL.Query().Get("added") != ""})
}

func (b *Billing) postAddMethod(w http.ResponseWriter, r *http.Request, who Customer) {
	url, err := b.AddPaymentMethod(r.Context(), who)
	b.away(w, r, url, err)
}

func (b *Billing) postPortal(w http.ResponseWriter, r *http.Request, who Customer) {
	url, err := b.Portal(r.Context(), who)
	b.away(w, r, url, err)
}

// away sends the person to a page of Stripe's.
func (b *Billing) away(w http.ResponseWriter, r *http.Request, url string, err error) {
	switch {
	case err != nil:
		b.cfg.Site.Fail(w, r, err)
	case web.WantsJSON(r):
		web.JSON(w, http.StatusCreated, map[string]string{"url": url})
	default:
		b.cfg.Site.Redirect(w, r, url)
	}
}

func (b *Billing) postDefaultMethod(w http.ResponseWriter, r *http.Request, who Customer) {
	b.methodChanged(w, r, b.SetDefaultPaymentMethod(r.Context(), who.Account, r.PathValue("id")), "Renewals are paid with this card from now on.")
}

func (b *Billing) postRemoveMethod(w http.ResponseWriter, r *http.Request, who Customer) {
	b.methodChanged(w, r, b.RemovePaymentMethod(r.Context(), who.Account, r.PathValue("id")), "The card is removed.")
}

func (b *Billing) methodChanged(w http.ResponseWriter, r *http.Request, err error, said string) {
	switch {
	case err != nil:
		b.cfg.Site.Fail(w, r, err)
	case web.WantsJSON(r):
		web.JSON(w, http.StatusOK, map[string]bool{"done": true})
	default:
		b.cfg.Site.Flash(w, web.FlashSuccess, said)
		b.cfg.Site.Redirect(w, r, b.cfg.Path+"/payment-methods")
	}
}
