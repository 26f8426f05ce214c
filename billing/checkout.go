package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
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

// CheckoutMode is what a checkout sells.
type CheckoutMode string

// The modes, named as Stripe's.
const (
	ModePayment      CheckoutMode = "payment"      // a pack
	ModeSubscription CheckoutMode = "subscription" // a plan
)

// Checkout is one purchase, from the intent on. Its id is the correlation id of all log lines about it.
type Checkout struct {
	ID       uuid.UUID    `json:"id"`
	Account  string       `json:"-"`
	Mode     CheckoutMode `json:"mode"`
	PriceID  string       `json:"price"`
	Quantity int64        `json:"quantity"`
	Name     string       `json:"name"`
	// Credits and Price are those of all units: the pack's, or the plan's of one period.
	Credits credits.Amount `json:"credits"`
	Price   Money          `json:"amount"`
	// TrialDays come before the first payment of a plan.
	TrialDays int64          `json:"trial_days,omitempty"`
	Status    CheckoutStatus `json:"status"`
	SessionID string         `json:"session,omitempty"`
	// URL is Stripe's page while the checkout is open.
	URL       string    `json:"url,omitempty"`
	CreatedAt time.Time `json:"created_at"`

	generation int64
}

type checkoutRow struct {
	ID          uuid.UUID      `db:"id"`
	Account     string         `db:"account_id"`
	Mode        CheckoutMode   `db:"mode"`
	RequestKey  *string        `db:"request_key"`
	PriceID     string         `db:"price_id"`
	Quantity    int64          `db:"quantity"`
	TrialDays   int64          `db:"trial_days"`
	Credits     credits.Amount `db:"credits"`
	Amount      int64          `db:"amount"`
	Currency    string         `db:"currency"`
	Description string         `db:"description"`
	Status      CheckoutStatus `db:"status"`
	SessionID   *string        `db:"session_id"`
	URL         string         `db:"url"`
	CreatedAt   database.Time  `db:"created_at"`
	Generation  int64          `db:"generation"`
}

const checkoutColumns = `id, account_id, mode, request_key, price_id, quantity, trial_days, credits, amount, currency, description, status, session_id, url, created_at, generation`

func (r checkoutRow) checkout() Checkout {
	c := Checkout{ID: r.ID, Account: r.Account, Mode: r.Mode, PriceID: r.PriceID, Quantity: r.Quantity, Name: r.Description, Credits: r.Credits,
		Price: Money{r.Amount, r.Currency}, TrialDays: r.TrialDays, Status: r.Status, URL: r.URL, CreatedAt: r.CreatedAt.Time, generation: r.Generation}
	if r.SessionID != nil {
		c.SessionID = *r.SessionID
	}
	return c
}

// MaxQuantity is how many units of a pack one checkout sells at most.
const MaxQuantity = 1000

// CheckoutParams describe a purchase.
type CheckoutParams struct {
	// Customer is who buys. Required.
	Customer Customer
	// Price is the id of an offer that is for sale. Required.
	Price string
	// Quantity is how many units of a pack, at most 1,000; a plan is sold once. 0: one.
	Quantity int64
	// IdempotencyKey makes a repetition return the first checkout, whatever became of it. Keys are the account's own.
	// Empty: none.
	IdempotencyKey string
}

// Errors of [Billing.Checkout].
var (
	ErrQuantity   error = problem.Invalid(map[string]string{"quantity": "This must be a whole number from 1 to 1000; a plan is sold once."})
	ErrSubscribed error = problem.New("already_subscribed", "You have a subscription already. Change its plan instead of buying a second one.")
	ErrCurrency   error = problem.New("currency_mismatch", "Your subscriptions are paid in another currency. Choose a plan in that one.")
	ErrKeyReused  error = problem.New("idempotency_mismatch", "This idempotency key was used before for another purchase. Use a new key.")
	ErrFrozen     error = problem.New("account_frozen", "Your account is frozen, so nothing can be bought. Please contact support.")
)

// Checkout begins a purchase and returns it with the URL of Stripe's page to send the person to. An account has one open
// page for a subscription: asking again for the same plan returns the same one, and asking for another closes it. The
// errors are [ErrUnverified], [ErrFrozen], [ErrNotForSale], [ErrQuantity], [ErrSubscribed], [ErrCurrency],
// [ErrKeyReused] and [ErrStripe]; after the last the intent stays without effect.
func (b *Billing) Checkout(ctx context.Context, p CheckoutParams) (Checkout, error) {
	c, err := b.validate(ctx, p)
	if err != nil {
		return Checkout{}, err
	}
	customer, err := b.ensureCustomer(ctx, p.Customer)
	if err != nil {
		return Checkout{}, err
	}
	if c.Mode == ModeSubscription {
		if err := b.unsubscribedAtStripe(ctx, c, customer); err != nil {
			return Checkout{}, err
		}
	}
	// Each round but the last closes one page for a subscription, of which there is one at most at any moment.
	for range maxCloses {
		var other Checkout
		if c, other, err = b.checkoutIntent(ctx, p, c); err != nil {
			return Checkout{}, err
		}
		if other.ID == uuid.Nil {
			return b.open(ctx, p.Customer, c, customer)
		}
		if err := b.closeCheckout(ctx, p.Customer, other, customer); err != nil {
			return Checkout{}, err
		}
		if err := b.unsubscribed(ctx, p.Customer.Account, c.Price.Currency); err != nil {
			return Checkout{}, err
		}
	}
	return Checkout{}, fmt.Errorf("%w (the account opens checkouts all the time)", ErrStripe)
}

const maxCloses = 3

// pageLife is how long one page for a subscription is given out again; Stripe closes it after 24 hours.
const pageLife = 23 * time.Hour

// validate checks everything that can be known before Stripe is asked, and returns the checkout that would be.
func (b *Billing) validate(ctx context.Context, p CheckoutParams) (Checkout, error) {
	if !p.Customer.Verified {
		return Checkout{}, ErrUnverified
	}
	if b.cfg.Frozen != nil {
		frozen, err := b.cfg.Frozen(ctx, p.Customer.Account)
		if err != nil {
			return Checkout{}, err
		}
		if frozen {
			return Checkout{}, ErrFrozen
		}
	}
	offer, err := b.offer(ctx, p.Price)
	if err != nil {
		return Checkout{}, err
	}
	quantity := p.Quantity
	if quantity == 0 {
		quantity = 1
	}
	if quantity < 1 || quantity > MaxQuantity || offer.isPlan() && quantity != 1 {
		return Checkout{}, ErrQuantity
	}
	worth, err := offer.Credits.Mul(quantity)
	if err != nil {
		return Checkout{}, ErrQuantity
	}
	c := Checkout{Account: p.Customer.Account, Mode: ModePayment, PriceID: offer.PriceID, Quantity: quantity, Name: offer.Name, Credits: worth,
		Price: Money{offer.Price.Amount * quantity, offer.Price.Currency}, Status: CheckoutCreated}
	if !offer.isPlan() {
		return c, nil
	}
	c.Mode, c.TrialDays = ModeSubscription, offer.TrialDays
	err = b.unsubscribed(ctx, c.Account, c.Price.Currency)
	if errors.Is(err, ErrSubscribed) && b.syncLiving(ctx, c.Account) == nil {
		err = b.unsubscribed(ctx, c.Account, c.Price.Currency) // it may have ended without our hearing of it
	}
	if err != nil {
		return Checkout{}, err
	}
	return c, nil
}

// syncLiving reads an account's subscription afresh.
func (b *Billing) syncLiving(ctx context.Context, account string) error {
	s, err := b.FindSubscription(ctx, account)
	if err != nil {
		return err
	}
	return b.syncSubscription(ctx, s.ID)
}

// unsubscribedAtStripe refuses who has a subscription of which we have not heard, because its webhooks were lost: a second
// one would be paid for beside it.
func (b *Billing) unsubscribedAtStripe(ctx context.Context, c Checkout, customer string) error {
	params := &stripe.SubscriptionListParams{Customer: &customer}
	params.Context = ctx
	list := b.cfg.Stripe.Subscriptions.List(params)
	for list.Next() {
		if err := b.syncSubscription(ctx, list.Subscription().ID); err != nil {
			return err
		}
	}
	if err := list.Err(); err != nil && !isMissingCustomer(err) {
		return stripeError("list the subscriptions of customer "+customer, err)
	}
	return b.unsubscribed(ctx, c.Account, c.Price.Currency)
}

// unsubscribed refuses who has a subscription, and a currency that Stripe would not mix with an earlier one's.
func (b *Billing) unsubscribed(ctx context.Context, account, currency string) error {
	s, err := b.FindSubscription(ctx, account)
	switch {
	case errors.Is(err, ErrNoSubscription):
		return nil
	case err != nil:
		return err
	case !s.Ended():
		return ErrSubscribed
	case s.Currency != currency:
		return ErrCurrency
	}
	return nil
}

// checkoutIntent writes the checkout down, or finds the one that this is a repetition of. other is a page for another
// subscription, which has to be closed first.
func (b *Billing) checkoutIntent(ctx context.Context, p CheckoutParams, c Checkout) (made, other Checkout, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return c, other, fmt.Errorf("billing: make an id: %w", err)
	}
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		made, other = c, Checkout{}
		if err := b.lockAccount(ctx, tx, c.Account); err != nil {
			return err
		}
		if p.IdempotencyKey != "" {
			first, found, err := b.findCheckoutTx(ctx, tx, `account_id = ? AND request_key = ?`, c.Account, p.IdempotencyKey)
			if err != nil || found {
				made = first
				if found && (first.PriceID != c.PriceID || first.Quantity != c.Quantity) {
					return ErrKeyReused
				}
				return err
			}
		}
		if c.Mode == ModeSubscription {
			// Runs along qs_billing_checkouts_subscribing.
			open, found, err := b.findCheckoutTx(ctx, tx, `account_id = ? AND mode = 'subscription' AND status IN ('created', 'open')`, c.Account)
			if err != nil {
				return err
			}
			if found && (open.PriceID != c.PriceID || b.now().Sub(open.CreatedAt) > pageLife) {
				other = open
				return nil
			}
			if found {
				made = open
				return nil
			}
			if made.TrialDays, err = b.trialDays(ctx, tx, c); err != nil {
				return err
			}
		}
		made.ID, made.CreatedAt = id, b.now()
		return b.insertCheckout(ctx, tx, made, p.IdempotencyKey)
	})
	if errors.Is(err, ErrKeyReused) {
		return c, other, err
	}
	if err != nil {
		return c, other, fmt.Errorf("billing: intent of a checkout: %w", err)
	}
	if other.ID != uuid.Nil {
		made = c
	}
	return made, other, nil
}

// trialDays are the plan's for who never had a subscription.
func (b *Billing) trialDays(ctx context.Context, tx *sqlx.Tx, c Checkout) (int64, error) {
	var had []string
	err := b.db.SelectTx(ctx, tx, &had, `SELECT subscription_id FROM qs_billing_subscriptions WHERE account_id = ?`, c.Account)
	if err != nil {
		return 0, fmt.Errorf("billing: subscription of account %s: %w", c.Account, err)
	}
	if len(had) > 0 {
		return 0, nil
	}
	return c.TrialDays, nil
}

func (b *Billing) insertCheckout(ctx context.Context, tx *sqlx.Tx, c Checkout, key string) error {
	var requestKey *string
	if key != "" {
		requestKey = &key
	}
	const insert = `INSERT INTO qs_billing_checkouts (` + checkoutColumns + `, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)`
	_, err := b.db.ExecTx(ctx, tx, insert, c.ID, c.Account, c.Mode, requestKey, c.PriceID, c.Quantity, c.TrialDays, c.Credits, c.Price.Amount, c.Price.Currency,
		c.Name, c.Status, nil, "", database.At(c.CreatedAt), database.At(c.CreatedAt))
	return err
}

func (b *Billing) findCheckoutTx(ctx context.Context, tx *sqlx.Tx, where string, args ...any) (Checkout, bool, error) {
	var row checkoutRow
	err := b.db.GetTx(ctx, tx, &row, `SELECT `+checkoutColumns+` FROM qs_billing_checkouts WHERE `+where, args...)
	if database.IsNoRows(err) {
		return Checkout{}, false, nil
	}
	if err != nil {
		return Checkout{}, false, fmt.Errorf("billing: find a checkout: %w", err)
	}
	return row.checkout(), true, nil
}

// open asks Stripe for the page of a checkout that has none yet.
func (b *Billing) open(ctx context.Context, who Customer, c Checkout, customer string) (Checkout, error) {
	if c.Status != CheckoutCreated {
		return c, nil
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
	if isOutage(err) {
		if err := b.renewCheckout(ctx, c); err != nil {
			return Checkout{}, err
		}
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

// renewCheckout gives a checkout a new key for the next try. A session that was made after all has an address that nobody
// knows, so that nobody can pay on it, and expires.
func (b *Billing) renewCheckout(ctx context.Context, c Checkout) error {
	err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_checkouts SET generation = ? WHERE id = ? AND status = 'created' AND generation = ?`, c.generation+1, c.ID, c.generation)
		return err
	})
	if err != nil {
		return fmt.Errorf("billing: renew checkout %s: %w", c.ID, err)
	}
	return nil
}

// closeCheckout makes Stripe's page of a checkout unusable, and takes over what the session has become: it may have been
// paid a moment ago.
func (b *Billing) closeCheckout(ctx context.Context, who Customer, c Checkout, customer string) error {
	c, err := b.open(ctx, who, c, customer) // it may be made on Stripe's side without our knowing
	if err != nil {
		return err
	}
	return b.expireSession(ctx, c.Account, c.SessionID)
}

// expireSession makes Stripe's page unusable where it still is, and takes over what the session has become.
func (b *Billing) expireSession(ctx context.Context, account, session string) error {
	params := &stripe.CheckoutSessionExpireParams{}
	params.Context = ctx
	if _, err := b.cfg.Stripe.CheckoutSessions.Expire(session, params); err != nil {
		if e, ok := asStripe(err); !ok || e.Type != stripe.ErrorTypeInvalidRequest {
			return stripeError("expire a checkout session", err)
		}
		b.cfg.Logger.InfoContext(ctx, "checkout is not open any more", slog.String("account", account), slog.String("session", session))
	}
	_, err := b.SyncCheckout(ctx, account, session)
	return err
}

func (b *Billing) openSession(ctx context.Context, c Checkout, customer string) (*stripe.CheckoutSession, error) {
	metadata := map[string]string{"checkout": c.ID.String(), accountKey: c.Account}
	params := &stripe.CheckoutSessionParams{
		Mode:              stripe.String(string(c.Mode)),
		Customer:          &customer,
		ClientReferenceID: stripe.String(c.ID.String()),
		Metadata:          metadata,
		LineItems:         []*stripe.CheckoutSessionLineItemParams{{Price: &c.PriceID, Quantity: &c.Quantity}},
		SuccessURL:        stripe.String(b.cfg.BaseURL + b.cfg.Path + "/success?session_id={CHECKOUT_SESSION_ID}"),
		CancelURL:         stripe.String(b.cfg.BaseURL + b.cfg.Path + "/cancel"),
	}
	// A session's metadata is not copied to what it makes.
	if c.Mode == ModeSubscription {
		params.SubscriptionData = &stripe.CheckoutSessionSubscriptionDataParams{Metadata: metadata}
		if c.TrialDays > 0 {
			params.SubscriptionData.TrialPeriodDays = &c.TrialDays
		}
	} else {
		params.PaymentIntentData = &stripe.CheckoutSessionPaymentIntentDataParams{Metadata: metadata}
	}
	if b.cfg.PromotionCodes {
		params.AllowPromotionCodes = stripe.Bool(true)
	}
	if b.cfg.AutomaticTax {
		params.AutomaticTax = &stripe.CheckoutSessionAutomaticTaxParams{Enabled: stripe.Bool(true)}
		params.CustomerUpdate = &stripe.CheckoutSessionCustomerUpdateParams{Address: stripe.String("auto")} // where they live decides the tax
	}
	params.Context = ctx
	// The customer is part of the key: a customer deleted in Stripe and made anew is another request.
	params.SetIdempotencyKey(fmt.Sprintf("checkout-%s-%s-%d", c.ID, customer, c.generation))
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
