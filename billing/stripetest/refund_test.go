package stripetest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing/stripetest"
)

// paid is a payment intent of 15.00 USD that a card has paid.
func paid(t *testing.T, s *stripetest.Test, number string) *stripe.PaymentIntent {
	t.Helper()
	pm := newCard(t, s, number)
	return must(intent(t, s, func(p *stripe.PaymentIntentParams) { p.PaymentMethod, p.Confirm = &pm.ID, stripe.Bool(true) }))(t)
}

func charge(t *testing.T, s *stripetest.Test, id string) *stripe.Charge {
	t.Helper()
	p := &stripe.ChargeParams{}
	p.AddExpand("refunds")
	return must(s.Stripe.Charges.Get(id, p))(t)
}

func TestRefunds_FullPartialAndRefused(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		pi := paid(t, s, stripetest.CardSucceeds)
		first := must(s.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID, Amount: stripe.Int64(500), Reason: stripe.String("requested_by_customer"), Metadata: map[string]string{"by": "staff"}}))(t)
		assert.Equal(t, stripe.RefundStatusSucceeded, first.Status)
		assert.Equal(t, int64(500), charge(t, s, pi.LatestCharge.ID).AmountRefunded)
		_, err := s.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID, Amount: stripe.Int64(1001)})
		requireError(t, err, 400, "", "amount")
		require.ErrorContains(t, err, "greater than unrefunded amount on charge (10.00 USD)")
		second := must(s.Stripe.Refunds.New(&stripe.RefundParams{Charge: &pi.LatestCharge.ID}))(t)
		assert.Equal(t, int64(1000), second.Amount)
		_, err = s.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID})
		requireError(t, err, 400, "charge_already_refunded", "")
		ch := charge(t, s, pi.LatestCharge.ID)
		assert.True(t, ch.Refunded)
		require.Len(t, ch.Refunds.Data, 2)
		assert.Equal(t, second.ID, ch.Refunds.Data[0].ID)
		list := s.Stripe.Refunds.List(&stripe.RefundListParams{PaymentIntent: &pi.ID})
		n := 0
		for list.Next() {
			n++
		}
		require.NoError(t, list.Err())
		assert.Equal(t, 2, n)
		must(s.Stripe.Refunds.Update(first.ID, &stripe.RefundParams{Metadata: map[string]string{"by": "other"}}))(t)
		assert.Equal(t, "other", must(s.Stripe.Refunds.Get(first.ID, nil))(t).Metadata["by"])
		_, err = s.Stripe.Refunds.Cancel(first.ID, nil)
		requireError(t, err, 400, "parameter_invalid", "")
		_, err = s.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID, Charge: &pi.LatestCharge.ID})
		requireError(t, err, 400, "parameter_invalid", "charge")
		_, err = s.Stripe.Refunds.New(&stripe.RefundParams{})
		requireError(t, err, 400, "parameter_missing", "payment_intent")
		_, err = s.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: stripe.String("pi_x")})
		requireError(t, err, 400, "resource_missing", "payment_intent")
		_, err = s.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID, Reason: stripe.String("why not")})
		requireError(t, err, 400, "parameter_invalid", "reason")
		unpaid := must(intent(t, s, func(*stripe.PaymentIntentParams) {}))(t)
		_, err = s.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: &unpaid.ID})
		requireError(t, err, 400, "charge_not_refundable", "payment_intent")
		assert.Equal(t, map[string]int{"charge.refunded": 2, "charge.refund.updated": 1}, events(t, s, "charge.refund"))
	})
}

func TestRefunds_PendAndFailDaysLater(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		pi := paid(t, s, stripetest.CardRefundPends)
		refund := must(s.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID, Amount: stripe.Int64(700)}))(t)
		assert.Equal(t, stripe.RefundStatusPending, refund.Status)
		require.NoError(t, s.SettleRefund(t.Context(), refund.ID))
		require.ErrorContains(t, s.SettleRefund(t.Context(), refund.ID), "waits for nothing")
		assert.Equal(t, stripe.RefundStatusSucceeded, must(s.Stripe.Refunds.Get(refund.ID, nil))(t).Status)

		require.NoError(t, s.FailRefund(t.Context(), refund.ID, "lost_or_stolen_card"))
		failed := must(s.Stripe.Refunds.Get(refund.ID, nil))(t)
		assert.Equal(t, stripe.RefundStatusFailed, failed.Status)
		assert.Equal(t, stripe.RefundFailureReason("lost_or_stolen_card"), failed.FailureReason)
		assert.Zero(t, charge(t, s, pi.LatestCharge.ID).AmountRefunded, "the money is not refunded any more")
		require.ErrorContains(t, s.FailRefund(t.Context(), refund.ID, ""), "failed already")
		again := must(s.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID, Amount: stripe.Int64(700)}))(t)
		assert.NotEqual(t, refund.ID, again.ID)
		assert.Equal(t, int64(700), charge(t, s, pi.LatestCharge.ID).AmountRefunded)

		other := paid(t, s, stripetest.CardRefundFails)
		later := must(s.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: &other.ID}))(t)
		assert.Equal(t, stripe.RefundStatusSucceeded, later.Status)
		pass(t, s, 25*time.Hour)
		assert.Equal(t, stripe.RefundStatusFailed, must(s.Stripe.Refunds.Get(later.ID, nil))(t).Status)
		assert.False(t, charge(t, s, other.LatestCharge.ID).Refunded)
		assert.Equal(t, map[string]int{"charge.refunded": 3, "charge.refund.updated": 3}, events(t, s, "charge.refund"))
	})
}

func TestDisputes_TakeTheMoneyAndGiveItBackWhenWon(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		pi := paid(t, s, stripetest.CardSucceeds)
		id := must(s.OpenDispute(t.Context(), pi.LatestCharge.ID, stripetest.DisputeParams{Reason: "product_not_received"}))(t)
		d := must(s.Stripe.Disputes.Get(id, nil))(t)
		assert.Equal(t, stripe.DisputeStatusNeedsResponse, d.Status)
		assert.Equal(t, int64(1500), d.Amount)
		assert.Equal(t, pi.ID, d.PaymentIntent.ID)
		assert.True(t, charge(t, s, pi.LatestCharge.ID).Disputed)
		_, err := s.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID})
		requireError(t, err, 400, "charge_disputed", "")
		_, err = s.OpenDispute(t.Context(), pi.LatestCharge.ID, stripetest.DisputeParams{})
		require.ErrorContains(t, err, "disputed already")
		d = must(s.Stripe.Disputes.Update(id, &stripe.DisputeParams{Evidence: &stripe.DisputeEvidenceParams{ProductDescription: stripe.String("credits")}, Submit: stripe.Bool(false)}))(t)
		assert.Equal(t, stripe.DisputeStatusNeedsResponse, d.Status)
		d = must(s.Stripe.Disputes.Update(id, &stripe.DisputeParams{Evidence: &stripe.DisputeEvidenceParams{UncategorizedText: stripe.String("winning_evidence")}, Submit: stripe.Bool(true)}))(t)
		assert.Equal(t, stripe.DisputeStatusWon, d.Status)
		_, err = s.Stripe.Disputes.Close(id, nil)
		requireError(t, err, 400, "parameter_invalid", "")
		require.ErrorContains(t, s.CloseDispute(t.Context(), id, false), "won already")
		assert.Equal(t, map[string]int{"charge.dispute.created": 1, "charge.dispute.funds_withdrawn": 1, "charge.dispute.updated": 2, "charge.dispute.closed": 1,
			"charge.dispute.funds_reinstated": 1}, events(t, s, "charge.dispute"))
	})
}

func TestDisputes_LostInquiredAndEscalated(t *testing.T) {
	t.Parallel()
	s := double(t)
	lost := paid(t, s, stripetest.CardDisputed)
	list := s.Stripe.Disputes.List(&stripe.DisputeListParams{PaymentIntent: &lost.ID})
	require.True(t, list.Next())
	assert.Equal(t, stripe.DisputeStatusLost, must(s.Stripe.Disputes.Close(list.Dispute().ID, nil))(t).Status)
	assert.Equal(t, map[string]int{"charge.dispute.created": 1, "charge.dispute.funds_withdrawn": 1, "charge.dispute.closed": 1}, events(t, s, "charge.dispute"))

	inquired := paid(t, s, stripetest.CardInquired)
	list = s.Stripe.Disputes.List(&stripe.DisputeListParams{Charge: &inquired.LatestCharge.ID})
	require.True(t, list.Next())
	id := list.Dispute().ID
	assert.Equal(t, stripe.DisputeStatusWarningNeedsResponse, list.Dispute().Status)
	assert.Equal(t, 1, events(t, s, "charge.dispute")["charge.dispute.funds_withdrawn"], "an inquiry moves no money")
	require.ErrorContains(t, s.CloseDispute(t.Context(), id, false), "not lost")
	require.NoError(t, s.EscalateDispute(t.Context(), id))
	require.ErrorContains(t, s.EscalateDispute(t.Context(), id), "no open inquiry")
	require.NoError(t, s.CloseDispute(t.Context(), id, true))
	assert.Equal(t, stripe.DisputeStatusWon, must(s.Stripe.Disputes.Get(id, nil))(t).Status)

	warned := paid(t, s, stripetest.CardSucceeds)
	must(s.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: &warned.ID, Amount: stripe.Int64(500)}))(t)
	id = must(s.OpenDispute(t.Context(), warned.LatestCharge.ID, stripetest.DisputeParams{Inquiry: true}))(t)
	assert.Equal(t, int64(1000), must(s.Stripe.Disputes.Get(id, nil))(t).Amount, "what is left after the refund")
	require.NoError(t, s.CloseDispute(t.Context(), id, true))
	assert.Equal(t, stripe.DisputeStatusWarningClosed, must(s.Stripe.Disputes.Get(id, nil))(t).Status)
	assert.False(t, charge(t, s, warned.LatestCharge.ID).Disputed)

	_, err := s.OpenDispute(t.Context(), "ch_x", stripetest.DisputeParams{})
	require.ErrorContains(t, err, "No such charge")
	_, err = s.OpenDispute(t.Context(), warned.LatestCharge.ID, stripetest.DisputeParams{Reason: "boredom"})
	require.ErrorContains(t, err, "Invalid reason")
	_, err = s.OpenDispute(t.Context(), warned.LatestCharge.ID, stripetest.DisputeParams{Amount: 2000})
	require.ErrorContains(t, err, "more than the charge")
}
