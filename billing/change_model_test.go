package billing_test

import (
	"errors"
	"flag"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/problem"
)

// Each check is a customer's life of years over HTTP; -rapid.checks asks for more of them.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "5"); err != nil {
		panic(err)
	}
	dbtest.Main(m, crossCheck)
}

// bought is what money buys at the best rate of the offers, in millionths.
func bought(paid int64, offers []billing.Offer) credits.Amount {
	best := new(big.Rat)
	for _, o := range offers {
		if rate := big.NewRat(int64(o.Credits), o.Price.Amount); rate.Cmp(best) > 0 {
			best = rate
		}
	}
	all := best.Mul(best, new(big.Rat).SetInt64(paid))
	return credits.Amount(new(big.Int).Quo(all.Num(), all.Denom()).Int64())
}

// granted is all that the account was ever granted, less what was taken back because money went back, or counts as that
// because it had expired unused.
func (s *shop) granted() credits.Amount {
	s.t.Helper()
	var sum credits.Amount
	for _, p := range s.payments() {
		sum -= p.Clawed
	}
	for before := int64(0); ; {
		entries, more, err := s.ledger.History(s.t.Context(), credits.HistoryParams{Account: s.me.Account, Before: before, Limit: 500})
		require.NoError(s.t, err)
		for _, e := range entries {
			if e.Kind == credits.KindGrant && e.Metadata["because"] == "" { // those give back what was clawed
				sum += e.Amount
			}
			before = e.Seq
		}
		if !more {
			return sum
		}
	}
}

// money is what the double's own books say that the customer paid, refunds deducted.
func (s *shop) money() int64 {
	s.t.Helper()
	var sum int64
	for _, p := range s.payments() {
		if !p.Kept() || p.Type == billing.TypeRefund {
			continue
		}
		charge, err := s.double.Stripe.Charges.Get(p.ChargeID, nil)
		require.NoError(s.t, err)
		sum += charge.Amount - charge.AmountRefunded
	}
	return sum
}

// Whatever a customer does with plans, they never have more credits than their money buys at the best plan's rate, and
// our picture of the subscription is the double's whenever all is quiet.
func TestChangePlan_FlippingPlansYieldsNothingThatIsNotPaidFor(t *testing.T) {
	t.Parallel()
	for _, policy := range []billing.CreditPolicy{billing.TransferRemaining, billing.KeepUntilPeriodEnd, billing.Expire, billing.Prorate} {
		t.Run(string(policy), func(t *testing.T) {
			run(t, func(t *testing.T, s *shop) {
				prices := []string{s.plan("Small", "100", 1000, "month").ID, s.plan("Best", "500", 2000, "month").ID,
					s.plan("Large", "600", 3000, "month").ID, s.plan("Year", "1300", 10000, "year").ID}
				plans, err := s.Plans(t.Context())
				require.NoError(t, err)
				n := 0
				rapid.Check(t, func(r *rapid.T) {
					n++
					s.me = billing.Customer{Account: fmt.Sprintf("customer-%d", n), Email: fmt.Sprintf("c%d@example.com", n), Verified: true}
					s.subscribe(rapid.SampledFrom(prices).Draw(r, "first"), stripetest.CardSucceeds)
					for range rapid.IntRange(3, 9).Draw(r, "steps") {
						s.live(r, prices)
						s.quiet()
						s.same()
						require.LessOrEqual(r, s.granted(), bought(s.money(), plans), "%s", s.me.Account)
					}
					if !s.subscription().Ended() { // or else they renew with the next customers' time
						_, err := s.CancelSubscription(t.Context(), s.me.Account, true)
						require.NoError(r, err)
					}
				})
			}, func(c *billing.Config) {
				c.Policy, c.DowngradeAtOnce = policy, policy != billing.TransferRemaining
			})
		})
	}
}

// live does one thing that customers do. Refusals for the person are part of life.
func (s *shop) live(r *rapid.T, prices []string) {
	ctx := s.t.Context()
	var err error
	switch action := rapid.SampledFrom([]string{"change", "change", "change", "wait", "renew", "use", "cancel", "cancel now", "resume", "subscribe", "refund"}).Draw(r, "action"); action {
	case "change":
		_, err = s.ChangePlan(ctx, billing.ChangeParams{Account: s.me.Account, Price: rapid.SampledFrom(prices).Draw(r, "plan")})
	case "wait":
		s.advance(time.Duration(rapid.IntRange(1, 20*24).Draw(r, "hours")) * time.Hour)
	case "renew":
		s.advance(max(0, s.subscription().PeriodEnd.Sub(s.now())) + 2*time.Hour)
	case "use":
		balance, err := s.ledger.Balance(ctx, s.me.Account)
		require.NoError(r, err)
		if balance.Available > 0 {
			_, err = s.ledger.Debit(ctx, credits.DebitParams{Account: s.me.Account, Amount: balance.Available/2 + 1, Reason: "use"})
			require.NoError(r, err)
		}
	case "cancel", "cancel now":
		_, err = s.CancelSubscription(ctx, s.me.Account, action == "cancel now")
	case "refund":
		paid, _, err := s.Payments(ctx, billing.PaymentsParams{Account: s.me.Account})
		require.NoError(r, err)
		p := rapid.SampledFrom(paid).Draw(r, "payment")
		if _, err = s.refund(p.ID, rapid.Int64Range(0, max(0, p.Left())).Draw(r, "amount")); err != nil {
			require.ErrorIs(r, err, billing.ErrNotRefundable)
		}
	case "resume":
		_, err = s.ResumeSubscription(ctx, s.me.Account)
	case "subscribe":
		var c billing.Checkout
		if c, err = s.Checkout(ctx, billing.CheckoutParams{Customer: s.me, Price: rapid.SampledFrom(prices).Draw(r, "plan")}); err == nil {
			_, err = s.double.Pay(ctx, c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		}
	}
	if problem.From(err) == nil || errors.Is(err, billing.ErrStripe) {
		assert.NoError(r, err)
	}
}
