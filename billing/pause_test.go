package billing_test

import (
	"encoding/json"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

func (s *shop) entitled() bool {
	s.t.Helper()
	ok, err := s.Entitled(s.t.Context(), s.me.Account, "")
	require.NoError(s.t, err)
	return ok
}

// nextPeriod lets time pass until the period is over and the invoice of the next one is dealt with.
func (s *shop) nextPeriod() {
	s.t.Helper()
	s.advance(s.subscription().PeriodEnd.Sub(s.now()) + 2*time.Hour)
}

func TestPause_ChargesNothingAndLastsAsLongAsWasPaid(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan, other := s.plan("Pro", "1000", 2900, "month"), s.plan("Max", "5000", 9900, "month")
		s.subscribe(plan.ID, stripetest.CardSucceeds)
		s.buy(stripetest.CardSucceeds)
		end := s.subscription().PeriodEnd
		sub, err := s.PauseSubscription(t.Context(), billing.PauseParams{Account: ada.Account})
		require.NoError(t, err)
		assert.True(t, sub.Paused())
		assert.Equal(t, &end, sub.PaidThrough, "known at once, without a webhook")
		assert.Nil(t, sub.ResumesAt)
		assert.True(t, s.entitled(), "this period is paid for")
		assert.Equal(t, "1100.5", s.balance())
		_, err = s.PauseSubscription(t.Context(), billing.PauseParams{Account: ada.Account})
		require.ErrorIs(t, err, billing.ErrPaused)
		_, err = s.PreviewChange(t.Context(), ada.Account, other.ID)
		require.ErrorIs(t, err, billing.ErrPaused)
		_, err = s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: plan.ID})
		require.ErrorIs(t, err, billing.ErrSubscribed)

		for range 2 {
			s.nextPeriod()
			assert.False(t, s.entitled())
			assert.Equal(t, "100.5", s.balance(), "the pack stays, and no period's credits come")
			assert.Len(t, s.payments(), 2)
			assert.Equal(t, int64(3900), s.charged())
			assert.Equal(t, &end, s.same().PaidThrough)
		}
		sub, err = s.ResumeSubscription(t.Context(), ada.Account)
		require.NoError(t, err)
		assert.False(t, sub.Paused())
		s.quiet()
		assert.False(t, s.entitled(), "the rest of this period is not paid for")
		assert.Equal(t, int64(3900), s.charged())
		s.nextPeriod()
		assert.True(t, s.entitled())
		assert.Equal(t, "1100.5", s.balance())
		assert.Equal(t, int64(6800), s.charged())
		assert.Nil(t, s.same().PaidThrough)
		s.advance(s.subscription().PeriodEnd.Sub(s.now()) + time.Minute)
		assert.True(t, s.entitled(), "as ever, also while the renewal's invoice is a draft")
	})
}

func TestPause_ResumedWithinThePaidPeriodChangesNothing(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2900, "month")
		s.subscribe(plan.ID, stripetest.CardSucceeds)
		_, err := s.PauseSubscription(t.Context(), billing.PauseParams{Account: ada.Account})
		require.NoError(t, err)
		s.advance(3 * day)
		sub, err := s.ResumeSubscription(t.Context(), ada.Account)
		require.NoError(t, err)
		assert.Nil(t, sub.PaidThrough)
		s.nextPeriod()
		assert.True(t, s.entitled())
		assert.Equal(t, "1000", s.balance())
		assert.Len(t, s.payments(), 2)
	})
}

func TestPause_EndsByItselfOnTheDayThatWasSaid(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2900, "month")
		s.subscribe(plan.ID, stripetest.CardSucceeds)
		for _, until := range []time.Time{s.now().Add(-time.Hour), s.now().AddDate(2, 0, 0)} {
			_, err := s.PauseSubscription(t.Context(), billing.PauseParams{Account: ada.Account, Until: until})
			require.ErrorIs(t, err, billing.ErrPauseUntil)
		}
		until := s.subscription().PeriodEnd.Add(3 * day)
		sub, err := s.PauseSubscription(t.Context(), billing.PauseParams{Account: ada.Account, Until: until})
		require.NoError(t, err)
		require.NotNil(t, sub.ResumesAt)
		assert.Equal(t, until.Unix(), sub.ResumesAt.Unix())
		s.nextPeriod()
		assert.False(t, s.entitled())
		s.advance(3 * day)
		assert.False(t, s.same().Paused(), "Stripe has resumed it")
		assert.False(t, s.entitled())
		s.nextPeriod()
		assert.True(t, s.entitled())
		assert.Equal(t, "1000", s.balance())
	})
}

// A pause that somebody made in Stripe's Dashboard while no webhook arrived is heard of in its second period.
func TestPause_MadeInTheDashboardAndHeardOfLate(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2900, "month")
		s.subscribe(plan.ID, stripetest.CardSucceeds)
		sub := s.subscription()
		_, err := s.Reconcile(t.Context())
		require.NoError(t, err)
		s.lose(1, 1)
		_, err = s.double.Stripe.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{PauseCollection: &stripe.SubscriptionPauseCollectionParams{Behavior: stripe.String("void")}})
		require.NoError(t, err)
		s.pass(sub.PeriodEnd.Sub(s.now()) + 2*time.Hour)
		report, err := s.Reconcile(t.Context())
		require.NoError(t, err)
		assert.NotEmpty(t, report.Repaired)
		assert.Equal(t, &sub.PeriodEnd, s.same().PaidThrough)
		assert.False(t, s.entitled())
		assert.Equal(t, "0", s.balance())
	})
}

func TestPause_RefusesWhatCannotBe(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		pause := func() error {
			_, err := s.PauseSubscription(t.Context(), billing.PauseParams{Account: ada.Account})
			return err
		}
		require.ErrorIs(t, pause(), billing.ErrNoSubscription)
		trial := s.plan("Trial", "1000", 2900, "month", "trial_days", "7")
		s.subscribe(trial.ID, stripetest.CardSucceeds)
		require.ErrorIs(t, pause(), billing.ErrOnTrial)
		s.advance(8 * day)
		_, err := s.CancelSubscription(t.Context(), ada.Account, false)
		require.NoError(t, err)
		require.ErrorIs(t, pause(), billing.ErrCanceling)
		_, err = s.ResumeSubscription(t.Context(), ada.Account)
		require.NoError(t, err)
		require.NoError(t, pause())
		_, err = s.CancelSubscription(t.Context(), ada.Account, false)
		require.NoError(t, err, "a pause can be canceled")
		sub, err := s.ResumeSubscription(t.Context(), ada.Account)
		require.NoError(t, err)
		assert.False(t, sub.CancelAtPeriodEnd || sub.Paused(), "and both undone")
		_, err = s.CancelSubscription(t.Context(), ada.Account, true)
		require.NoError(t, err)
		require.ErrorIs(t, pause(), billing.ErrEnded)
	})
}

func TestPages_Pause(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2900, "month")
		s.subscribe(plan.ID, stripetest.CardSucceeds)
		_, shown := s.request("GET", "/billing/subscription", nil)
		assert.Contains(t, shown, "Pause the subscription")
		res, body := s.request("POST", "/billing/subscription/pause", url.Values{"until": {"2020-01-31"}})
		assert.Equal(t, 422, res.StatusCode)
		assert.Contains(t, body, `id="f-until-error"`, "said beside the field")
		assert.Contains(t, body, `value="2020-01-31"`)
		res, body = s.request("POST", "/billing/subscription/pause", url.Values{"until": {"soon"}}, "Accept", "application/json")
		assert.Equal(t, 422, res.StatusCode)
		assert.Contains(t, body, `"until"`)
		res, _ = s.request("POST", "/billing/subscription/pause", url.Values{"until": {""}})
		assert.Equal(t, "/billing/subscription", res.Header.Get("Location"))
		_, body = s.request("GET", "/billing/subscription", nil)
		assert.Contains(t, body, "Access until")
		assert.Contains(t, body, "When you say so")
		assert.NotContains(t, body, "Other plans")
		res, body = s.request("POST", "/billing/subscription/pause", nil, "Accept", "application/json")
		assert.Equal(t, 409, res.StatusCode)
		assert.Contains(t, body, "subscription_paused")
		res, body = s.request("POST", "/billing/subscription/resume", nil, "Accept", "application/json")
		assert.Equal(t, 200, res.StatusCode)
		assert.NotContains(t, body, "paid_through")
		day := s.now().AddDate(0, 2, 0).Format(time.DateOnly)
		_, body = s.request("POST", "/billing/subscription/pause", url.Values{"until": {day}}, "Accept", "application/json")
		var got struct{ Data billing.Subscription }
		require.NoError(t, json.Unmarshal([]byte(body), &got))
		require.NotNil(t, got.Data.ResumesAt)
		assert.Equal(t, day, got.Data.ResumesAt.Format(time.DateOnly))
		s.who = nil
		res, _ = s.request("POST", "/billing/subscription/pause", nil, "Accept", "application/json")
		assert.Equal(t, 401, res.StatusCode)
	})
}
