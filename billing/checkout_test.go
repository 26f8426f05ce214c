package billing_test

import (
	"context"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
)

func TestCheckout_CreditsAreMetadataTimesQuantityWhateverIsPaid(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		coupon, err := s.double.Stripe.Coupons.New(&stripe.CouponParams{PercentOff: stripe.Float64(50), Duration: stripe.String("once")})
		require.NoError(t, err)
		_, err = s.double.Stripe.PromotionCodes.New(&stripe.PromotionCodeParams{Coupon: &coupon.ID, Code: stripe.String("HALF")})
		require.NoError(t, err)
		c, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: s.pack.ID, Quantity: 3})
		require.NoError(t, err)
		assert.Equal(t, billing.Money{Amount: 3000, Currency: "usd"}, c.Price)
		session, err := s.double.Stripe.CheckoutSessions.Get(c.SessionID, nil)
		require.NoError(t, err)
		assert.True(t, session.AutomaticTax.Enabled)
		require.NoError(t, s.double.ApplyPromotionCode(t.Context(), c.SessionID, "HALF"))
		_, err = s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(t, err)
		s.waitFor(c.SessionID, billing.CheckoutPaid)
		assert.Equal(t, "301.5", s.balance())
		payments, _, err := s.Payments(t.Context(), billing.PaymentsParams{Type: billing.TypePurchase, Status: billing.PaymentSucceeded})
		require.NoError(t, err)
		require.Len(t, payments, 1)
		assert.Equal(t, int64(1500), payments[0].Price.Amount)
		assert.Equal(t, "3 × Starter", payments[0].Description)
		none, _, err := s.Payments(t.Context(), billing.PaymentsParams{Type: billing.TypeRefund})
		require.NoError(t, err)
		assert.Empty(t, none)
	}, func(c *billing.Config) { c.PromotionCodes, c.AutomaticTax = true, true })
}

func TestCheckout_RefusesWrongQuantitiesAndFrozenAccounts(t *testing.T) {
	frozen := map[string]bool{"eve": true}
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2900, "month")
		for _, p := range []billing.CheckoutParams{{Price: s.pack.ID, Quantity: -1}, {Price: s.pack.ID, Quantity: 1001}, {Price: plan.ID, Quantity: 2}} {
			p.Customer = ada
			_, err := s.Checkout(t.Context(), p)
			require.ErrorIs(t, err, billing.ErrQuantity)
		}
		_, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: billing.Customer{Account: "eve", Email: "eve@example.com", Verified: true}, Price: s.pack.ID})
		require.ErrorIs(t, err, billing.ErrFrozen)
	}, func(c *billing.Config) {
		c.Frozen = func(_ context.Context, account string) (bool, error) { return frozen[account], nil }
	})
}

func TestCheckout_KeyMakesARepetitionFindTheFirst(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		buy := func(price string, quantity int64) (billing.Checkout, error) {
			return s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: price, Quantity: quantity, IdempotencyKey: "click-1"})
		}
		first, err := buy(s.pack.ID, 1)
		require.NoError(t, err)
		var group errgroup.Group
		for range 6 {
			group.Go(func() error {
				again, err := buy(s.pack.ID, 0)
				assert.Equal(t, first.ID, again.ID)
				assert.Equal(t, first.URL, again.URL)
				return err
			})
		}
		require.NoError(t, group.Wait())
		_, err = buy(s.pack.ID, 2)
		require.ErrorIs(t, err, billing.ErrKeyReused)
		res, _ := s.request("POST", "/billing/checkout", url.Values{"price": {s.pack.ID}}, "Idempotency-Key", "click-1")
		assert.Equal(t, first.URL, res.Header.Get("Location"))
		_, err = s.double.Pay(t.Context(), first.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(t, err)
		s.waitFor(first.SessionID, billing.CheckoutPaid)
		res, _ = s.request("POST", "/billing/checkout", url.Values{"price": {s.pack.ID}}, "Idempotency-Key", "click-1")
		assert.Equal(t, "/billing/success?session_id="+first.SessionID, res.Header.Get("Location"), "it is paid, and not sold again")
	})
}

// Ten pages and the webhooks all find the money at once.
func TestCheckout_PageAndWebhookRaceAndGrantOnce(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		c := s.checkout()
		_, err := s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(t, err)
		var group errgroup.Group
		for range 10 {
			group.Go(func() error {
				got, err := s.SyncCheckout(t.Context(), ada.Account, c.SessionID)
				assert.Equal(t, billing.CheckoutPaid, got.Status)
				return err
			})
		}
		require.NoError(t, group.Wait())
		s.quiet()
		assert.Equal(t, "100.5", s.balance())
		payments, _, err := s.Payments(t.Context(), billing.PaymentsParams{})
		require.NoError(t, err)
		assert.Len(t, payments, 1)
		_, err = s.SyncCheckout(t.Context(), "eve", c.SessionID)
		require.ErrorIs(t, err, billing.ErrNotFound)
	})
}

func TestCatalogue_PricesAndStaffDecideWhatIsShown(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		monthly := s.plan("Pro", "1000", 2900, "month", "features", "api, export,,api", "trial_days", "14", "trial_credits", "50")
		yearly, err := s.double.Stripe.Prices.New(&stripe.PriceParams{Product: &monthly.Product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(29000),
			Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("year")}, Metadata: map[string]string{"credits": "12000"}})
		require.NoError(t, err)
		quarterly, err := s.double.Stripe.Prices.New(&stripe.PriceParams{Product: &monthly.Product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(8000),
			Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("month"), IntervalCount: stripe.Int64(3)}, Metadata: map[string]string{"credits": "3000"}})
		require.NoError(t, err)
		basic := s.plan("Basic", "100", 900, "month", "trial_days", "many")
		plans, err := s.Plans(t.Context())
		require.NoError(t, err)
		require.Len(t, plans, 4)
		assert.Equal(t, []string{basic.ID, monthly.ID, quarterly.ID, yearly.ID}, []string{plans[0].PriceID, plans[1].PriceID, plans[2].PriceID, plans[3].PriceID}, "the cheapest first")
		assert.Equal(t, []string{"0.090", "0.029", "0.027", "0.024"}, []string{plans[0].PerCredit(), plans[1].PerCredit(), plans[2].PerCredit(), plans[3].PerCredit()})
		assert.Equal(t, []string{"month", "3 months", "year"}, []string{plans[1].Every(), plans[2].Every(), plans[3].Every()})
		assert.Equal(t, credits.MustAmount("12000"), plans[3].Credits, "a price's own metadata goes before its product's")
		assert.Equal(t, []string{"api", "export"}, plans[1].Features)
		assert.Equal(t, int64(14), plans[1].TrialDays)
		assert.Zero(t, plans[0].TrialDays, "what is wrong in the metadata counts as missing")

		require.NoError(t, s.Arrange(t.Context(), billing.ArrangeParams{Product: basic.Product.ID, Position: 9}))
		require.NoError(t, s.Arrange(t.Context(), billing.ArrangeParams{Product: s.pack.Product.ID, Hidden: true}))
		require.ErrorIs(t, s.Arrange(t.Context(), billing.ArrangeParams{Product: "prod_none"}), billing.ErrNoProduct)
		require.NoError(t, s.SyncProduct(t.Context(), basic.Product.ID))
		plans, err = s.Plans(t.Context())
		require.NoError(t, err)
		assert.Equal(t, basic.ID, plans[3].PriceID, "the staff's order survives a sync")
		packs, err := s.Packs(t.Context())
		require.NoError(t, err)
		assert.Empty(t, packs)
		_, err = s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: s.pack.ID})
		require.ErrorIs(t, err, billing.ErrNotForSale)
		_, body := s.request("GET", "/billing/", nil)
		assert.Contains(t, body, "290.00 USD")
		assert.Contains(t, body, "every 3 months")
		assert.Contains(t, body, "api, export")
	})
}

func TestCustomer_AddressIsFollowed(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		moved := ada
		moved.Email = "ada@new.example"
		require.NoError(t, s.FollowCustomer(t.Context(), moved), "nobody yet")
		s.checkout()
		address := func() []string {
			var all []string
			it := s.double.Stripe.Customers.List(&stripe.CustomerListParams{})
			for it.Next() {
				all = append(all, it.Customer().Email)
			}
			require.NoError(t, it.Err())
			return all
		}
		assert.Equal(t, []string{"ada@example.com"}, address())
		require.NoError(t, s.FollowCustomer(t.Context(), moved))
		assert.Equal(t, []string{"ada@new.example"}, address())
		_, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: s.pack.ID})
		require.NoError(t, err)
		assert.Equal(t, []string{"ada@example.com"}, address(), "the next checkout makes up for what was missed")
	})
}

// A bank debit for a plan is refused days after the checkout.
func TestCheckout_APlanWhoseMoneyDoesNotComeHasFailed(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2900, "month")
		c := s.subscribe(plan.ID, stripetest.Delayed)
		s.waitFor(c.SessionID, billing.CheckoutWaiting)
		_, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: plan.ID})
		require.ErrorIs(t, err, billing.ErrSubscribed, "nobody pays twice while the money is on its way")
		require.NoError(t, s.double.SettleDelayed(t.Context(), c.SessionID, false))
		s.quiet()
		s.waitFor(c.SessionID, billing.CheckoutFailed)
		require.NoError(t, s.deliver("evt_again", "checkout.session.completed", c.SessionID))
		s.quiet()
		s.waitFor(c.SessionID, billing.CheckoutFailed)
		assert.Equal(t, "0", s.balance())
		_, body := s.request("GET", "/billing/success?look=1&session_id="+c.SessionID, nil)
		assert.Contains(t, body, "Your bank refused the payment")
		_, body = s.request("GET", "/billing/subscription", nil)
		assert.Contains(t, body, "Pay now", "the invoice can be paid with something else")

		require.NoError(t, s.double.PayInvoice(t.Context(), s.payments()[0].InvoiceID, stripetest.Card{Number: stripetest.CardSucceeds}))
		s.quiet()
		assert.Equal(t, stripe.SubscriptionStatusActive, s.same().Status)
		assert.Equal(t, "1000", s.balance())
	})
}
