package billing_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

// addCard saves a card for whom the helpers are about, as a person does.
func (s *shop) addCard(number string) {
	s.t.Helper()
	page, err := s.AddPaymentMethod(s.t.Context(), s.me)
	require.NoError(s.t, err)
	_, err = s.double.Pay(s.t.Context(), page[strings.LastIndex(page, "/")+1:], stripetest.Card{Number: number})
	require.NoError(s.t, err)
}

func (s *shop) cards() []billing.PaymentMethod {
	s.t.Helper()
	cards, err := s.PaymentMethods(s.t.Context(), s.me.Account)
	require.NoError(s.t, err)
	return cards
}

func TestPaymentMethods_TheOneThatPaysASubscriptionStays(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		assert.Empty(t, s.cards())
		plan := s.plan("Pro", "1000", 2900, "month")
		s.subscribe(plan.ID, stripetest.CardSucceeds)
		first := s.cards()
		require.Len(t, first, 1)
		assert.True(t, first[0].Default)
		assert.Equal(t, "4242", first[0].Last4)
		require.ErrorIs(t, s.RemovePaymentMethod(t.Context(), ada.Account, first[0].ID), billing.ErrCardUsed)
		s.addCard("5555555555554444")
		cards := s.cards()
		require.Len(t, cards, 2)
		other := cards[0]
		if other.ID == first[0].ID {
			other = cards[1]
		}
		assert.False(t, other.Default)
		require.ErrorIs(t, s.RemovePaymentMethod(t.Context(), ada.Account, first[0].ID), billing.ErrCardUsed)
		require.NoError(t, s.SetDefaultPaymentMethod(t.Context(), ada.Account, other.ID))
		require.NoError(t, s.RemovePaymentMethod(t.Context(), ada.Account, first[0].ID))
		cards = s.cards()
		require.Len(t, cards, 1)
		assert.Equal(t, other.ID, cards[0].ID)
		assert.True(t, cards[0].Default)
		sub, err := s.double.Stripe.Subscriptions.Get(s.subscription().ID, nil)
		require.NoError(t, err)
		assert.Equal(t, other.ID, sub.DefaultPaymentMethod.ID, "the next renewal is paid with it")
		_, err = s.CancelSubscription(t.Context(), ada.Account, true)
		require.NoError(t, err)
		require.NoError(t, s.RemovePaymentMethod(t.Context(), ada.Account, other.ID))
		assert.Empty(t, s.cards())
	})
}

func TestPaymentMethods_AreTheirOwnersOnly(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.addCard(stripetest.CardSucceeds)
		card := s.cards()[0]
		s.me = billing.Customer{Account: "eve", Email: "eve@example.com", Verified: true}
		s.who = &s.me
		s.addCard(stripetest.CardSucceeds)
		for _, id := range []string{card.ID, "pm_none", "x"} {
			require.ErrorIs(t, s.SetDefaultPaymentMethod(t.Context(), "eve", id), billing.ErrNoCard)
			require.ErrorIs(t, s.RemovePaymentMethod(t.Context(), "eve", id), billing.ErrNoCard)
			require.ErrorIs(t, s.RemovePaymentMethod(t.Context(), "nobody", id), billing.ErrNoCard)
		}
		res, _ := s.request("POST", "/billing/payment-methods/"+card.ID+"/remove", nil)
		assert.Equal(t, 404, res.StatusCode)
		_, err := s.AddPaymentMethod(t.Context(), billing.Customer{Account: "mallory"})
		require.ErrorIs(t, err, billing.ErrUnverified)
		_, err = s.Portal(t.Context(), billing.Customer{Account: "mallory"})
		require.ErrorIs(t, err, billing.ErrUnverified)
	})
}

func TestPages_PaymentMethods(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		_, body := s.request("GET", "/billing/payment-methods", nil)
		assert.Contains(t, body, "No cards saved")
		res, _ := s.request("POST", "/billing/payment-methods/add", nil)
		require.Equal(t, 303, res.StatusCode)
		assert.Contains(t, res.Header.Get("Location"), s.double.URL)
		s.addCard(stripetest.CardSucceeds)
		card := s.cards()[0]
		now := s.now()
		require.NoError(t, s.double.RenewCard(t.Context(), card.ID, int(now.Month()), now.Year()))
		_, body = s.request("GET", "/billing/payment-methods?added=true", nil)
		assert.Contains(t, body, "visa ending in 4242")
		assert.Contains(t, body, "Your card is saved")
		assert.Contains(t, body, "Expires soon")
		res, _ = s.request("POST", "/billing/payment-methods/"+card.ID+"/default", nil)
		assert.Equal(t, 303, res.StatusCode)
		res, body = s.request("POST", "/billing/portal", nil, "Accept", "application/json")
		assert.Equal(t, 201, res.StatusCode)
		assert.Contains(t, body, `"url"`)
		res, _ = s.request("POST", "/billing/payment-methods/"+card.ID+"/remove", url.Values{})
		assert.Equal(t, 303, res.StatusCode)
		res, body = s.request("GET", "/billing/payment-methods", nil, "Accept", "application/json")
		assert.Equal(t, 200, res.StatusCode)
		assert.NotContains(t, body, card.ID)
		it := s.double.Stripe.Customers.List(&stripe.CustomerListParams{})
		require.True(t, it.Next())
		_, err := s.double.Stripe.Customers.Del(it.Customer().ID, nil)
		require.NoError(t, err)
		assert.Empty(t, s.cards(), "a customer that was deleted in Stripe has none")
	})
}
