package billing_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
)

// use spends some of ada's credits.
func (s *shop) use(amount string) {
	s.t.Helper()
	_, err := s.ledger.Debit(s.t.Context(), credits.DebitParams{Account: s.me.Account, Amount: credits.MustAmount(amount), Reason: "use"})
	require.NoError(s.t, err)
}

func (s *shop) bySource() map[credits.Source]string {
	s.t.Helper()
	b, err := s.ledger.Balance(s.t.Context(), s.me.Account)
	require.NoError(s.t, err)
	got := map[credits.Source]string{}
	for source, amount := range b.BySource {
		got[source] = amount.String()
	}
	return got
}

// In the middle of a period of 30 days: Basic (100 credits for 10.00) to Pro (400 for 30.00) costs half of the
// difference, 10.00, which buys 133.333333 credits at Pro's rate; 60 of Basic's are left.
func TestChangePlan_UpgradeIsChargedAtOnceUnderEachPolicy(t *testing.T) {
	t.Parallel()
	for policy, want := range map[billing.CreditPolicy]map[credits.Source]string{
		billing.TransferRemaining:  {credits.Purchase: "60", credits.Subscription: "133.333333"},
		billing.KeepUntilPeriodEnd: {credits.Subscription: "193.333333"},
		billing.Expire:             {credits.Subscription: "133.333333"},
		billing.Prorate:            {credits.Subscription: "193.333333"},
	} {
		t.Run(string(policy), func(t *testing.T) {
			run(t, func(t *testing.T, s *shop) {
				basic, pro := s.plan("Basic", "100", 1000, "month"), s.plan("Pro", "400", 3000, "month")
				s.subscribe(basic.ID, stripetest.CardSucceeds)
				sub := s.subscription()
				s.use("40")
				s.advance(sub.PeriodEnd.Sub(sub.PeriodStart)/2 - s.now().Sub(sub.PeriodStart))
				preview, err := s.PreviewChange(t.Context(), ada.Account, pro.ID)
				require.NoError(t, err)
				assert.True(t, preview.AtOnce)
				assert.Equal(t, billing.Money{Amount: 1000, Currency: "usd"}, preview.Due)
				require.Len(t, preview.Lines, 2)
				assert.Equal(t, "133.333333", preview.Credits.String())

				var group errgroup.Group
				for range 3 { // a person who clicks thrice
					group.Go(func() error {
						_, err := s.ChangePlan(t.Context(), billing.ChangeParams{Account: ada.Account, Price: pro.ID, ProrationDate: preview.ProrationDate})
						if err == billing.ErrSamePlan { //nolint:errorlint // the sentinel itself
							return nil
						}
						return err
					})
				}
				require.NoError(t, group.Wait())
				s.quiet()
				assert.Equal(t, want, s.bySource())
				assert.Equal(t, "Pro", s.same().Plan.Name)
				payments := s.payments()
				require.Len(t, payments, 2)
				assert.Equal(t, billing.TypePlanChange, payments[0].Type)
				assert.Equal(t, preview.Due, payments[0].Price, "what was agreed to")
				assert.Equal(t, "Change to Pro", payments[0].Description)
				for range 3 {
					require.NoError(t, s.deliver("evt_again_"+rand.Text(), "invoice.paid", payments[0].InvoiceID))
				}
				s.quiet()
				assert.Equal(t, want, s.bySource())
				s.advance(s.subscription().PeriodEnd.Sub(s.now()) + 2*time.Hour)
				assert.Equal(t, "400", s.bySource()[credits.Subscription])
			}, func(c *billing.Config) { c.Policy = policy })
		})
	}
}

func TestChangePlan_DowngradeComesWithTheNextPeriodAndCanBeDropped(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		basic, pro := s.plan("Basic", "100", 1000, "month"), s.plan("Pro", "400", 3000, "month")
		s.subscribe(pro.ID, stripetest.CardSucceeds)
		preview, err := s.PreviewChange(t.Context(), ada.Account, basic.ID)
		require.NoError(t, err)
		assert.False(t, preview.AtOnce)
		assert.Zero(t, preview.Due.Amount)
		assert.Equal(t, s.subscription().PeriodEnd, preview.At)
		change := func(price string) (billing.Subscription, error) {
			return s.ChangePlan(t.Context(), billing.ChangeParams{Account: ada.Account, Price: price})
		}
		sub, err := change(basic.ID)
		require.NoError(t, err)
		assert.Equal(t, "Pro", sub.Plan.Name)
		require.NotNil(t, sub.Next)
		assert.Equal(t, "Basic", sub.Next.Name)
		_, err = change(basic.ID)
		require.ErrorIs(t, err, billing.ErrSamePlan)
		sub, err = change(pro.ID)
		require.NoError(t, err)
		assert.Nil(t, sub.Next, "dropped")
		s.advance(time.Minute)
		_, err = change(basic.ID)
		require.NoError(t, err)
		_, err = s.CancelSubscription(t.Context(), ada.Account, false)
		require.NoError(t, err, "a cancellation drops it too")
		_, err = change(basic.ID)
		require.ErrorIs(t, err, billing.ErrCanceling)
		_, err = s.ResumeSubscription(t.Context(), ada.Account)
		require.NoError(t, err)
		s.advance(time.Minute)
		_, err = change(basic.ID)
		require.NoError(t, err)
		s.quiet()
		assert.Equal(t, "400", s.balance(), "nothing changes before the period's end")
		s.advance(s.subscription().PeriodEnd.Sub(s.now()) + 2*time.Hour)
		sub = s.same()
		assert.Equal(t, "Basic", sub.Plan.Name)
		assert.Nil(t, sub.Next)
		assert.Equal(t, "100", s.balance())
		payments := s.payments()
		require.Len(t, payments, 2)
		assert.Equal(t, int64(1000), payments[0].Price.Amount)
	})
}

func TestChangePlan_DowngradeAtOnceGivesNoMoneyBack(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		basic, pro := s.plan("Basic", "100", 1000, "month"), s.plan("Pro", "400", 3000, "month")
		s.subscribe(pro.ID, stripetest.CardSucceeds)
		sub, err := s.ChangePlan(t.Context(), billing.ChangeParams{Account: ada.Account, Price: basic.ID})
		require.NoError(t, err)
		assert.Equal(t, "Basic", sub.Plan.Name)
		s.quiet()
		assert.Equal(t, map[credits.Source]string{credits.Purchase: "400"}, s.bySource())
		assert.Len(t, s.payments(), 1)
		customer, err := s.double.Stripe.Customers.List(&stripe.CustomerListParams{}), error(nil)
		require.NoError(t, err)
		for customer.Next() {
			assert.Zero(t, customer.Customer().Balance)
		}
		require.NoError(t, customer.Err())
	}, func(c *billing.Config) { c.DowngradeAtOnce = true })
}

func TestChangePlan_ALongerPeriodBeginsAtOnce(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		monthly, yearly := s.plan("Monthly", "100", 1000, "month"), s.plan("Yearly", "1500", 10000, "year")
		s.subscribe(monthly.ID, stripetest.CardSucceeds)
		preview, err := s.PreviewChange(t.Context(), ada.Account, yearly.ID)
		require.NoError(t, err)
		assert.InDelta(t, 9000, preview.Due.Amount, 2)
		sub, err := s.ChangePlan(t.Context(), billing.ChangeParams{Account: ada.Account, Price: yearly.ID, ProrationDate: preview.ProrationDate})
		require.NoError(t, err)
		s.quiet()
		assert.InDelta(t, 365, sub.DaysLeft(s.now()), 1)
		assert.Equal(t, "100", s.bySource()[credits.Purchase])
		assert.Equal(t, preview.Credits.String(), s.bySource()[credits.Subscription])
		assert.Equal(t, s.same().PeriodEnd, *s.payments()[0].CreditsExpire)
		back, err := s.PreviewChange(t.Context(), ada.Account, monthly.ID)
		require.NoError(t, err)
		assert.False(t, back.AtOnce, "a shorter one begins at the end")
	}, func(c *billing.Config) { c.DowngradeAtOnce = true })
}

func TestChangePlan_FailedPaymentIsNoFreeUpgrade(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		basic, pro := s.plan("Basic", "100", 1000, "month", "trial_days", "1"), s.plan("Pro", "400", 3000, "month")
		s.subscribe(basic.ID, stripetest.CardSucceeds)
		s.advance(day + 2*time.Hour)
		require.Equal(t, "100", s.balance())
		customer, err := s.double.Stripe.Subscriptions.Get(s.subscription().ID, nil)
		require.NoError(t, err)
		card, err := s.double.Stripe.PaymentMethods.Attach("pm_card_chargeCustomerFail", &stripe.PaymentMethodAttachParams{Customer: &customer.Customer.ID})
		require.NoError(t, err)
		_, err = s.double.Stripe.Subscriptions.Update(customer.ID, &stripe.SubscriptionParams{DefaultPaymentMethod: &card.ID})
		require.NoError(t, err)
		s.quiet()
		sub, err := s.ChangePlan(t.Context(), billing.ChangeParams{Account: ada.Account, Price: pro.ID})
		require.NoError(t, err)
		assert.Equal(t, "Basic", sub.Plan.Name)
		assert.Equal(t, pro.ID, sub.PendingPrice)
		require.NotEmpty(t, sub.PayURL)
		s.quiet()
		assert.Equal(t, "100", s.balance())
		_, err = s.PreviewChange(t.Context(), ada.Account, pro.ID)
		require.ErrorIs(t, err, billing.ErrUnpaid)
		open := s.payments()[0]
		require.Equal(t, billing.PaymentFailed, open.Status)
		require.NoError(t, s.double.PayInvoice(t.Context(), open.InvoiceID, stripetest.Card{Number: stripetest.CardSucceeds}))
		s.quiet()
		assert.Equal(t, "Pro", s.same().Plan.Name)
		assert.Empty(t, s.subscription().PendingPrice)
		assert.Equal(t, "100", s.bySource()[credits.Purchase])
		assert.Equal(t, s.payments()[0].Credits.String(), s.bySource()[credits.Subscription])
	})
}

func TestChangePlan_RefusesWhatCannotBe(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		basic, pro := s.plan("Basic", "100", 1000, "month"), s.plan("Pro", "400", 3000, "month")
		change := func(price string, at int64) error {
			_, err := s.ChangePlan(t.Context(), billing.ChangeParams{Account: ada.Account, Price: price, ProrationDate: at})
			return err
		}
		require.ErrorIs(t, change(pro.ID, 0), billing.ErrNoSubscription)
		s.subscribe(basic.ID, stripetest.CardSucceeds)
		require.ErrorIs(t, change(basic.ID, 0), billing.ErrSamePlan)
		require.ErrorIs(t, change(s.pack.ID, 0), billing.ErrNotAPlan)
		require.ErrorIs(t, change("price_none", 0), billing.ErrNotForSale)
		require.ErrorIs(t, change(pro.ID, s.now().Add(time.Hour).Unix()), billing.ErrPreviewStale)
		s.advance(3 * time.Hour)
		require.ErrorIs(t, change(pro.ID, s.now().Add(-2*time.Hour).Unix()), billing.ErrPreviewStale)
		_, err := s.CancelSubscription(t.Context(), ada.Account, true)
		require.NoError(t, err)
		require.ErrorIs(t, change(pro.ID, 0), billing.ErrEnded)
	})
}

// Stripe changed the plan, and its answer was lost. The same change again is the same one.
func TestChangePlan_LostAnswerChargesOnce(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		basic, pro := s.plan("Basic", "100", 1000, "month"), s.plan("Pro", "400", 3000, "month")
		s.subscribe(basic.ID, stripetest.CardSucceeds)
		preview, err := s.PreviewChange(t.Context(), ada.Account, pro.ID)
		require.NoError(t, err)
		s.losePost("/subscriptions/" + s.subscription().ID)
		p := billing.ChangeParams{Account: ada.Account, Price: pro.ID, ProrationDate: preview.ProrationDate}
		_, err = s.ChangePlan(t.Context(), p)
		require.ErrorIs(t, err, billing.ErrStripe)
		s.breaks.Store(nil)
		if _, err = s.ChangePlan(t.Context(), p); err != nil {
			require.ErrorIs(t, err, billing.ErrSamePlan, "the webhook may have been faster")
		}
		s.quiet()
		assert.Len(t, s.payments(), 2)
		assert.Equal(t, "Pro", s.same().Plan.Name)
		assert.Equal(t, preview.Credits.String(), s.bySource()[credits.Subscription])
	})
}

// A subscription has one schedule. Where the answer that told of it was lost and its webhook has not come, the next try
// finds it.
func TestChangePlan_DowngradeGoesOnWithAScheduleThatWasNotHeardOf(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		basic, pro := s.plan("Basic", "100", 1000, "month"), s.plan("Pro", "400", 3000, "month")
		s.subscribe(pro.ID, stripetest.CardSucceeds)
		id := s.subscription().ID
		_, err := s.double.Stripe.SubscriptionSchedules.New(&stripe.SubscriptionScheduleParams{FromSubscription: &id})
		require.NoError(t, err)
		s.quiet()
		_, err = s.db.Writer().Exec(`UPDATE qs_billing_subscriptions SET schedule_id = ''`)
		require.NoError(t, err)
		sub, err := s.ChangePlan(t.Context(), billing.ChangeParams{Account: ada.Account, Price: basic.ID})
		require.NoError(t, err)
		require.NotNil(t, sub.Next)
		assert.Equal(t, "Basic", sub.Next.Name)
	})
}

// A change at once that costs nothing has no invoice to carry the policy out; its intent does, whatever was lost.
func TestChangePlan_LostAnswerIsResumed(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		basic, pro := s.plan("Basic", "100", 1000, "month"), s.plan("Pro", "400", 3000, "month")
		s.subscribe(pro.ID, stripetest.CardSucceeds)
		s.losePost("/subscriptions/" + s.subscription().ID)
		_, err := s.ChangePlan(t.Context(), billing.ChangeParams{Account: ada.Account, Price: basic.ID})
		require.ErrorIs(t, err, billing.ErrStripe)
		s.breaks.Store(nil)
		n, err := s.ResumeChanges(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n, "it may still be under way")
		s.advance(2 * time.Minute)
		for want := range 2 {
			n, err = s.ResumeChanges(t.Context())
			require.NoError(t, err)
			assert.Equal(t, 1-want, n)
			assert.Equal(t, map[credits.Source]string{credits.Purchase: "400"}, s.bySource())
		}
		assert.Equal(t, "Basic", s.same().Plan.Name)

		down := func(r *http.Request) error {
			if r.Method == http.MethodPost {
				return errors.New("connection cut before the effect")
			}
			return nil
		}
		s.breaks.Store(&down)
		_, err = s.ChangePlan(t.Context(), billing.ChangeParams{Account: ada.Account, Price: pro.ID})
		require.ErrorIs(t, err, billing.ErrStripe)
		s.breaks.Store(nil)
		s.advance(time.Hour)
		n, err = s.ResumeChanges(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n, "its webhook may come yet")
		s.advance(day)
		n, err = s.ResumeChanges(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, n, "it never happened")
		assert.Equal(t, "Basic", s.same().Plan.Name)
	}, func(c *billing.Config) { c.DowngradeAtOnce = true })
}

func TestPages_ChangePlan(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		basic, pro := s.plan("Basic", "100", 1000, "month"), s.plan("Pro", "400", 3000, "month")
		s.subscribe(basic.ID, stripetest.CardSucceeds)
		_, body := s.request("GET", "/billing/subscription", nil)
		assert.Contains(t, body, "/billing/subscription/change?price="+pro.ID)
		res, body := s.request("GET", "/billing/subscription/change?price="+pro.ID, nil)
		assert.Equal(t, 200, res.StatusCode)
		assert.Contains(t, body, "Pay 20.00 USD and change")
		assert.Contains(t, body, "credits that do not expire")
		_, body = s.request("GET", "/billing/subscription/change?price="+pro.ID, nil, "Accept", "application/json")
		var got struct {
			Data struct{ Change billing.Change }
		}
		require.NoError(t, json.Unmarshal([]byte(body), &got))
		assert.Equal(t, int64(2000), got.Data.Change.Due.Amount)
		res, _ = s.request("POST", "/billing/subscription/change", url.Values{"price": {pro.ID}, "proration_date": {fmt.Sprint(got.Data.Change.ProrationDate)}})
		assert.Equal(t, 303, res.StatusCode)
		_, body = s.request("GET", "/billing/subscription", nil)
		assert.Contains(t, body, "30.00 USD every month")
		res, _ = s.request("POST", "/billing/subscription/change", url.Values{"price": {basic.ID}})
		assert.Equal(t, 303, res.StatusCode)
		_, body = s.request("GET", "/billing/subscription", nil)
		assert.Contains(t, body, "Stay with Pro")
		assert.Contains(t, body, "Comes next")
		res, _ = s.request("GET", "/billing/subscription/change?price="+basic.ID, nil)
		assert.Equal(t, 409, res.StatusCode)
	})
}
