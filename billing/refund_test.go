package billing_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
)

// buy buys the pack of 100.5 credits for 10.00 with a card and returns the payment.
func (s *shop) buy(card string) billing.Payment {
	s.t.Helper()
	c, err := s.Checkout(s.t.Context(), billing.CheckoutParams{Customer: s.me, Price: s.pack.ID})
	require.NoError(s.t, err)
	_, err = s.double.Pay(s.t.Context(), c.SessionID, stripetest.Card{Number: card})
	require.NoError(s.t, err)
	s.quiet()
	return s.payments()[0]
}

func (s *shop) refund(payment uuid.UUID, amount int64) (billing.Refund, error) {
	return s.Refund(s.t.Context(), billing.RefundParams{Payment: payment, Amount: amount, Reason: billing.ReasonRequested, Note: "asked by mail", Staff: "sue"})
}

func (s *shop) payment(id uuid.UUID) billing.Payment {
	s.t.Helper()
	p, err := s.FindPayment(s.t.Context(), s.me.Account, id)
	require.NoError(s.t, err)
	return p
}

func (s *shop) debt() string {
	s.t.Helper()
	b, err := s.ledger.Balance(s.t.Context(), s.me.Account)
	require.NoError(s.t, err)
	return b.Debt.String()
}

func TestRefund_TakesBackInProportionAndNeverMoreThanIsLeft(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		p := s.buy(stripetest.CardSucceeds)
		preview, err := s.PreviewRefund(t.Context(), p.ID, 333)
		require.NoError(t, err)
		assert.Equal(t, "33.4665", preview.Credits)
		assert.Equal(t, int64(1000), preview.Left.Amount)
		r, err := s.refund(p.ID, 333)
		require.NoError(t, err)
		assert.Equal(t, billing.RefundSucceeded, r.Status)
		assert.Equal(t, "sue", r.Staff)
		assert.Equal(t, "67.0335", s.balance())
		assert.Equal(t, billing.PaymentPartiallyRefunded, s.payment(p.ID).Status)
		for _, amount := range []int64{668, -1} {
			_, err = s.refund(p.ID, amount)
			require.ErrorIs(t, err, billing.ErrRefundAmount)
		}
		_, err = s.refund(p.ID, 333) // the same amount again is another refund
		require.NoError(t, err)
		assert.Equal(t, "33.567", s.balance())
		s.use("20")
		_, err = s.refund(p.ID, 0)
		require.NoError(t, err)
		s.quiet()
		assert.Equal(t, "0", s.balance())
		assert.Equal(t, "20", s.debt(), "what was used is owed")
		got := s.payment(p.ID)
		assert.Equal(t, billing.PaymentRefunded, got.Status)
		assert.Equal(t, int64(1000), got.Refunded)
		assert.Equal(t, got.Credits, got.Clawed)
		_, err = s.refund(p.ID, 0)
		require.ErrorIs(t, err, billing.ErrNotRefundable)
		_, err = s.PreviewRefund(t.Context(), p.ID, 0)
		require.ErrorIs(t, err, billing.ErrNotRefundable)
		refunds, more, err := s.Refunds(t.Context(), billing.RefundsParams{Payment: p.ID, Account: s.me.Account, Limit: 2})
		require.NoError(t, err)
		assert.True(t, more)
		assert.Len(t, refunds, 2)
		lines, _, err := s.Payments(t.Context(), billing.PaymentsParams{Account: s.me.Account, Type: billing.TypeRefund})
		require.NoError(t, err)
		require.Len(t, lines, 3)
		assert.Equal(t, int64(-334), lines[0].Price.Amount)
		assert.Equal(t, "Refund of "+p.Receipt, lines[0].Description)
		assert.Equal(t, billing.PaymentSucceeded, lines[0].Status)
		_, body := s.request("GET", "/billing/payments", nil)
		assert.Contains(t, body, "-3.34 USD")
		_, body = s.request("GET", "/billing/payments/"+p.ID.String(), nil)
		assert.Contains(t, body, "10.00 USD")
		charge, err := s.double.Stripe.Charges.Get(p.ChargeID, nil)
		require.NoError(t, err)
		assert.Equal(t, int64(1000), charge.AmountRefunded)
	})
}

func TestRefund_AsksForReasonNoteAndStaff(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		p := s.buy(stripetest.CardSucceeds)
		for want, change := range map[error]func(*billing.RefundParams){
			billing.ErrRefundReason: func(p *billing.RefundParams) { p.Reason = "mood" },
			billing.ErrRefundNote:   func(p *billing.RefundParams) { p.Note = " " },
			billing.ErrRefundStaff:  func(p *billing.RefundParams) { p.Staff = "" },
			billing.ErrNotFound:     func(p *billing.RefundParams) { p.Payment = uuid.New() },
		} {
			params := billing.RefundParams{Payment: p.ID, Reason: billing.ReasonDuplicate, Note: "twice", Staff: "sue"}
			change(&params)
			_, err := s.Refund(t.Context(), params)
			require.ErrorIs(t, err, want)
		}
		assert.Equal(t, "100.5", s.balance())
	})
}

func TestRefund_ManyAtOnceGiveTheMoneyBackOnce(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		p := s.buy(stripetest.CardSucceeds)
		var group errgroup.Group
		var done atomic.Int64
		for range 8 {
			group.Go(func() error {
				_, err := s.refund(p.ID, 600)
				if err == nil {
					done.Add(1)
					return nil
				}
				if errors.Is(err, billing.ErrRefundAmount) || errors.Is(err, billing.ErrNotRefundable) {
					return nil
				}
				return err
			})
		}
		require.NoError(t, group.Wait())
		s.quiet()
		assert.Equal(t, int64(1), done.Load())
		assert.Equal(t, "40.2", s.balance())
	})
}

// Whether Stripe refunded before the connection was cut or not, going on refunds once.
func TestRefund_InterruptedIsResumedAndRefundsOnce(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"after the effect": true, "before the effect": false} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, s *shop) {
				p := s.buy(stripetest.CardSucceeds)
				s.losePost("/refunds")
				if !after {
					cut := func(r *http.Request) error {
						if strings.HasSuffix(r.URL.Path, "/refunds") {
							return errors.New("connection cut before the effect")
						}
						return nil
					}
					s.breaks.Store(&cut)
				}
				r, err := s.refund(p.ID, 400)
				require.ErrorIs(t, err, billing.ErrStripe)
				_, err = s.refund(p.ID, 700)
				require.ErrorIs(t, err, billing.ErrRefundAmount, "what is asked for counts, whatever became of it")
				s.breaks.Store(nil)
				n, err := s.ResumeRefunds(t.Context())
				require.NoError(t, err)
				assert.Zero(t, n, "it may still be under way elsewhere")
				s.advance(2 * day) // Stripe has forgotten the key by then
				_, err = s.ResumeRefunds(t.Context())
				require.NoError(t, err)
				s.quiet()
				r, err = s.FindRefund(t.Context(), r.ID)
				require.NoError(t, err)
				assert.Equal(t, billing.RefundSucceeded, r.Status)
				assert.Equal(t, "60.3", s.balance())
				charge, err := s.double.Stripe.Charges.Get(p.ChargeID, nil)
				require.NoError(t, err)
				assert.Equal(t, int64(400), charge.AmountRefunded)
				trail, err := s.RefundTrail(t.Context(), r.ID)
				require.NoError(t, err)
				require.Len(t, trail, 2)
				assert.Equal(t, billing.RefundStep{Status: billing.RefundRequested, Note: "asked by mail", At: r.CreatedAt}, trail[0])
				assert.Equal(t, billing.RefundSucceeded, trail[1].Status)
			})
		})
	}
}

// Stripe repeats an error of its own under the same key for a day. Staff need not wait that long, and see what is going on.
func TestRefund_AnErrorOfStripesIsGotPastInAnHour(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]stripetest.FaultKind{"before the effect": stripetest.FaultErrorBefore, "after the effect": stripetest.FaultErrorAfter} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, s *shop) {
				p := s.buy(stripetest.CardSucceeds)
				s.lose(1, 1)
				_, err := s.double.Inject(t.Context(), stripetest.Fault{Kind: kind, Route: "POST /v1/refunds", Times: 2})
				require.NoError(t, err)
				r, err := s.refund(p.ID, 400)
				require.ErrorIs(t, err, billing.ErrStripe)
				trail, err := s.RefundTrail(t.Context(), r.ID)
				require.NoError(t, err)
				require.Len(t, trail, 2)
				assert.Equal(t, billing.RefundRequested, trail[1].Status)
				assert.Contains(t, trail[1].Note, "asked again in an hour")
				s.pass(2 * time.Minute)
				n, err := s.ResumeRefunds(t.Context())
				require.NoError(t, err)
				if kind == stripetest.FaultErrorAfter {
					assert.Equal(t, 1, n, "Stripe has it")
				} else {
					assert.Zero(t, n, "it is in doubt")
					for _, outcome := range []error{billing.ErrStripe, nil} { // the second error is told, too
						s.pass(time.Hour + time.Minute)
						_, err = s.ResumeRefunds(t.Context())
						require.ErrorIs(t, err, outcome)
					}
				}
				r, err = s.FindRefund(t.Context(), r.ID)
				require.NoError(t, err)
				assert.Equal(t, billing.RefundSucceeded, r.Status)
				assert.Equal(t, "60.3", s.balance())
				charge, err := s.double.Stripe.Charges.Get(p.ChargeID, nil)
				require.NoError(t, err)
				assert.Equal(t, int64(400), charge.AmountRefunded)
			})
		})
	}
}

func TestRefund_FailingDaysLaterGivesTheCreditsBack(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		p := s.buy(stripetest.CardRefundPends)
		r, err := s.refund(p.ID, 500)
		require.NoError(t, err)
		assert.Equal(t, billing.RefundPending, r.Status)
		assert.Equal(t, "50.25", s.balance(), "the money is as good as gone")
		s.use("50.25")
		require.NoError(t, s.double.FailRefund(t.Context(), r.RefundID, "lost_or_stolen_card"))
		s.quiet()
		r, err = s.FindRefund(t.Context(), r.ID)
		require.NoError(t, err)
		assert.Equal(t, billing.RefundFailed, r.Status)
		assert.Equal(t, "lost_or_stolen_card", r.Error)
		assert.Equal(t, "50.25", s.balance())
		assert.Equal(t, billing.PaymentSucceeded, s.payment(p.ID).Status)
		again, err := s.refund(p.ID, 500)
		require.NoError(t, err, "the same amount again, after the first failed")
		require.NoError(t, s.double.SettleRefund(t.Context(), again.RefundID))
		s.quiet()
		again, err = s.FindRefund(t.Context(), again.ID)
		require.NoError(t, err)
		assert.Equal(t, billing.RefundSucceeded, again.Status)
		assert.Equal(t, "0", s.balance())
		for i, id := range []string{r.RefundID, again.RefundID, r.RefundID, again.RefundID} {
			require.NoError(t, s.deliver(fmt.Sprintf("evt_refund_%d", i), "charge.refund.updated", id))
			require.NoError(t, s.deliver(fmt.Sprintf("evt_charge_%d", i), "charge.refunded", p.ChargeID))
		}
		s.quiet()
		assert.Equal(t, "0", s.balance())
		assert.Equal(t, "0", s.debt())

		late := s.buy(stripetest.CardRefundFails)
		_, err = s.refund(late.ID, 0)
		require.NoError(t, err)
		s.quiet()
		assert.Equal(t, "0", s.balance())
		s.advance(2 * day)
		assert.Equal(t, "100.5", s.balance(), "it succeeded, and failed after all")
	})
}

func TestRefund_MadeInTheDashboardIsPickedUp(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		p := s.buy(stripetest.CardSucceeds)
		for range 2 {
			_, err := s.double.Stripe.Refunds.New(&stripe.RefundParams{Charge: &p.ChargeID, Amount: stripe.Int64(250)})
			require.NoError(t, err)
		}
		s.quiet()
		assert.Equal(t, "50.25", s.balance())
		refunds, _, err := s.Refunds(t.Context(), billing.RefundsParams{Payment: p.ID})
		require.NoError(t, err)
		require.Len(t, refunds, 2)
		assert.Empty(t, refunds[0].Staff)
		_, err = s.refund(p.ID, 501)
		require.ErrorIs(t, err, billing.ErrRefundAmount)
	})
}

// Stripe knows of a refund that we do not know of yet.
func TestRefund_RefusedByStripeChangesNothing(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		p := s.buy(stripetest.CardSucceeds)
		_, err := s.double.Inject(t.Context(), stripetest.Fault{Kind: stripetest.FaultLose})
		require.NoError(t, err)
		_, err = s.double.Stripe.Refunds.New(&stripe.RefundParams{Charge: &p.ChargeID, Amount: stripe.Int64(900)})
		require.NoError(t, err)
		r, err := s.refund(p.ID, 500)
		require.ErrorIs(t, err, billing.ErrRefundRefused)
		assert.Equal(t, billing.RefundFailed, r.Status)
		assert.Equal(t, "100.5", s.balance())
	})
}

func TestRefund_OfASubscriptionTakesItsPlanCredits(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.buy(stripetest.CardSucceeds)
		plan := s.plan("Pro", "1000", 2900, "month")
		s.subscribe(plan.ID, stripetest.CardRefundPends)
		p := s.payments()[0]
		require.Equal(t, billing.TypeSubscription, p.Type)
		r, err := s.refund(p.ID, 1450)
		require.NoError(t, err)
		assert.Equal(t, map[credits.Source]string{credits.Purchase: "100.5", credits.Subscription: "500"}, s.bySource())
		require.NoError(t, s.double.FailRefund(t.Context(), r.RefundID, "expired_or_canceled_card"))
		s.quiet()
		assert.Equal(t, "1000", s.bySource()[credits.Subscription])
		b, err := s.ledger.Balance(t.Context(), ada.Account)
		require.NoError(t, err)
		require.NotNil(t, b.NextExpiry)
		assert.WithinDuration(t, s.subscription().PeriodEnd, *b.NextExpiry, time.Second, "they expire as they would have")
	})
}
