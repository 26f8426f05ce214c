package billing

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

// CheckoutStatus is where a checkout stands.
type CheckoutStatus string

// The statuses of checkouts.
const (
	CheckoutCreated CheckoutStatus = "created" // written down, Stripe not asked yet
	CheckoutOpen    CheckoutStatus = "open"    // the person may pay
	CheckoutWaiting CheckoutStatus = "waiting" // completed with a method whose money comes later
	CheckoutPaid    CheckoutStatus = "paid"    // the money is there and the credits are granted
	CheckoutFailed  CheckoutStatus = "failed"  // the money did not come
	CheckoutExpired CheckoutStatus = "expired" // nobody paid in time
)

// Checkout is one purchase, from the intent on. Its id is the correlation id of all log lines about it.
type Checkout struct {
	ID        uuid.UUID      `json:"id"`
	Account   string         `json:"-"`
	PriceID   string         `json:"price"`
	Name      string         `json:"name"`
	Credits   credits.Amount `json:"credits"`
	Price     Money          `json:"amount"`
	Status    CheckoutStatus `json:"status"`
	SessionID string         `json:"session,omitempty"`
	// URL is Stripe's page while the checkout is open.
	URL       string    `json:"url,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

type checkoutRow struct {
	ID          uuid.UUID      `db:"id"`
	Account     string         `db:"account_id"`
	PriceID     string         `db:"price_id"`
	Description string         `db:"description"`
	Credits     credits.Amount `db:"credits"`
	Amount      int64          `db:"amount"`
	Currency    string         `db:"currency"`
	Status      CheckoutStatus `db:"status"`
	SessionID   *string        `db:"session_id"`
	URL         string         `db:"url"`
	CreatedAt   database.Time  `db:"created_at"`
}

const checkoutColumns = `id, account_id, price_id, description, credits, amount, currency, status, session_id, url, created_at`

func (r checkoutRow) checkout() Checkout {
	c := Checkout{ID: r.ID, Account: r.Account, PriceID: r.PriceID, Name: r.Description, Credits: r.Credits, Price: Money{r.Amount, r.Currency},
		Status: r.Status, URL: r.URL, CreatedAt: r.CreatedAt.Time}
	if r.SessionID != nil {
		c.SessionID = *r.SessionID
	}
	return c
}

// Checkout begins the purchase of one pack and returns it with the URL to send the person to. The errors are
// [ErrUnverified], [ErrNotForSale], [ErrSubscribing] and [ErrStripe]; after the last the intent stays without effect.
func (b *Billing) Checkout(ctx context.Context, who Customer, price string) (Checkout, error) {
	if !who.Verified {
		return Checkout{}, ErrUnverified
	}
	pack, err := b.pack(ctx, price)
	if err != nil {
		return Checkout{}, err
	}
	customer, err := b.ensureCustomer(ctx, who)
	if err != nil {
		return Checkout{}, err
	}
	c, err := b.checkoutIntent(ctx, who, pack)
	if err != nil {
		return Checkout{}, err
	}
	session, err := b.openSession(ctx, c, customer)
	if isMissingCustomer(err) {
		if err := b.forgetCustomer(ctx, who.Account, customer); err != nil {
			return Checkout{}, err
		}
		if customer, err = b.ensureCustomer(ctx, who); err != nil {
			return Checkout{}, err
		}
		session, err = b.openSession(ctx, c, customer)
	}
	if err != nil {
		return Checkout{}, stripeError("open a checkout session", err)
	}
	const opened = `UPDATE qs_billing_checkouts SET session_id = ?, url = ?, status = 'open', updated_at = ? WHERE id = ? AND status = 'created'`
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := b.db.ExecTx(ctx, tx, opened, session.ID, session.URL, database.At(b.now()), c.ID)
		return err
	})
	if err != nil {
		return Checkout{}, fmt.Errorf("billing: save checkout %s: %w", c.ID, err)
	}
	c.SessionID, c.URL, c.Status = session.ID, session.URL, CheckoutOpen
	b.log(ctx, "checkout opened", c)
	return c, nil
}

func (b *Billing) checkoutIntent(ctx context.Context, who Customer, pack Pack) (Checkout, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Checkout{}, fmt.Errorf("billing: make an id: %w", err)
	}
	c := Checkout{ID: id, Account: who.Account, PriceID: pack.PriceID, Name: pack.Name, Credits: pack.Credits, Price: pack.Price, Status: CheckoutCreated, CreatedAt: b.now()}
	const insert = `INSERT INTO qs_billing_checkouts (id, account_id, price_id, credits, amount, currency, description, status, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := b.db.ExecTx(ctx, tx, insert, c.ID, c.Account, c.PriceID, c.Credits, c.Price.Amount, c.Price.Currency, c.Name, c.Status,
			database.At(c.CreatedAt), database.At(c.CreatedAt))
		return err
	})
	if err != nil {
		return Checkout{}, fmt.Errorf("billing: intent of a checkout: %w", err)
	}
	return c, nil
}

func (b *Billing) openSession(ctx context.Context, c Checkout, customer string) (*stripe.CheckoutSession, error) {
	metadata := map[string]string{"checkout": c.ID.String(), "account": c.Account}
	params := &stripe.CheckoutSessionParams{
		Mode:              stripe.String(string(stripe.CheckoutSessionModePayment)),
		Customer:          &customer,
		ClientReferenceID: stripe.String(c.ID.String()),
		Metadata:          metadata,
		// A session's metadata is not copied to its payment intent.
		PaymentIntentData: &stripe.CheckoutSessionPaymentIntentDataParams{Metadata: metadata},
		LineItems:         []*stripe.CheckoutSessionLineItemParams{{Price: &c.PriceID, Quantity: stripe.Int64(1)}},
		SuccessURL:        stripe.String(b.cfg.BaseURL + b.cfg.Path + "/success?session_id={CHECKOUT_SESSION_ID}"),
		CancelURL:         stripe.String(b.cfg.BaseURL + b.cfg.Path + "/cancel"),
	}
	params.Context = ctx
	// The customer is part of the key: a customer deleted in Stripe and made anew is another request.
	params.SetIdempotencyKey("checkout-" + c.ID.String() + "-" + customer)
	return b.cfg.Stripe.CheckoutSessions.New(params)
}

// FindCheckout returns an account's checkout by its session; [ErrNotFound] when there is none or it is another's.
func (b *Billing) FindCheckout(ctx context.Context, account, session string) (Checkout, error) {
	var row checkoutRow
	err := b.db.Get(ctx, &row, `SELECT `+checkoutColumns+` FROM qs_billing_checkouts WHERE session_id = ? AND account_id = ?`, session, account)
	if database.IsNoRows(err) {
		return Checkout{}, ErrNotFound
	}
	if err != nil {
		return Checkout{}, fmt.Errorf("billing: find the checkout of session %s: %w", session, err)
	}
	return row.checkout(), nil
}

func (b *Billing) log(ctx context.Context, message string, c Checkout) {
	b.cfg.Logger.InfoContext(ctx, message, slog.String("checkout", c.ID.String()), slog.String("account", c.Account), slog.String("session", c.SessionID),
		slog.String("price", c.PriceID), slog.String("status", string(c.Status)))
}
