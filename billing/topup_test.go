package billing_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
)

// defaultCard saves a card and makes it the default.
func (s *shop) defaultCard(number string) {
	s.t.Helper()
	known := map[string]bool{}
	for _, c := range s.cards() {
		known[c.ID] = true
	}
	s.addCard(number)
	for _, c := range s.cards() {
		if !known[c.ID] {
			require.NoError(s.t, s.SetDefaultPaymentMethod(s.t.Context(), s.me.Account, c.ID))
		}
	}
	s.quiet()
}

func (s *shop) give(amount string) {
	s.t.Helper()
	_, err := s.ledger.Grant(s.t.Context(), credits.GrantParams{Account: s.me.Account, Amount: credits.MustAmount(amount), Source: credits.Bonus, Reason: "gift"})
	require.NoError(s.t, err)
}

// autoTopUp turns auto top-up on: below 50 credits the pack of 100.5 for 10.00 is bought.
func (s *shop) autoTopUp(monthly int64) {
	s.t.Helper()
	_, err := s.SetAutoTopUp(s.t.Context(), billing.AutoTopUpParams{Customer: s.me, Threshold: credits.MustAmount("50"), Price: s.pack.ID, MonthlyCap: monthly, Consent: true})
	require.NoError(s.t, err)
}

func (s *shop) topUp() billing.TopUp {
	s.t.Helper()
	made, err := s.TopUp(s.t.Context(), s.me.Account)
	require.NoError(s.t, err)
	return made
}

// charged is what Stripe has really taken, in minor units.
func (s *shop) charged() (sum int64) {
	s.t.Helper()
	it := s.double.Stripe.PaymentIntents.List(&stripe.PaymentIntentListParams{})
	for it.Next() {
		sum += it.PaymentIntent().AmountReceived
	}
	require.NoError(s.t, it.Err())
	return sum
}

func TestTopUp_BelowTheThresholdBuysOnePackAndGrantsItOnce(t *testing.T) {
	n := newNotes()
	run(t, func(t *testing.T, s *shop) {
		_, err := s.TopUp(t.Context(), ada.Account)
		require.ErrorIs(t, err, billing.ErrTopUpOff, "off until somebody turns it on")
		s.defaultCard(stripetest.CardSucceeds)
		s.autoTopUp(5000)
		s.give("50")
		assert.Zero(t, s.topUp(), "at the threshold nothing is due")
		s.use("0.000001")
		var group errgroup.Group
		for range 8 {
			group.Go(func() error {
				_, err := s.TopUp(t.Context(), ada.Account)
				return err
			})
		}
		require.NoError(t, group.Wait())
		payments := s.payments()
		require.Len(t, payments, 1)
		p := payments[0]
		for range 5 { // our own answer has granted; so do its events, however often
			require.NoError(t, s.deliver("evt_again_"+p.IntentID, "payment_intent.succeeded", p.IntentID))
		}
		s.quiet()
		assert.Equal(t, "150.499999", s.balance())
		assert.Equal(t, int64(1000), s.charged())
		assert.Equal(t, billing.TypePurchase, p.Type)
		assert.Equal(t, "Auto top-up: Starter", p.Description)
		assert.NotEmpty(t, p.ReceiptURL)
		require.Equal(t, []billing.NoticeKind{billing.NoticeTopUpSucceeded}, n.kinds(s))
		assert.Equal(t, "https://shop.example/billing/payments/"+p.ID.String(), n.of(s)[0].URL)
		list, more, err := s.TopUps(t.Context(), ada.Account, [16]byte{}, 0)
		require.NoError(t, err)
		assert.False(t, more)
		require.Len(t, list, 1)
		assert.Equal(t, &p.ID, list[0].Payment)
		setting, err := s.FindAutoTopUp(t.Context(), ada.Account)
		require.NoError(t, err)
		assert.Equal(t, int64(1000), setting.Spent.Amount)

		_, err = s.refund(p.ID, 0)
		require.NoError(t, err)
		s.quiet()
		assert.Equal(t, "49.999999", s.balance(), "refunded like any other purchase")
	}, n.watch)
}

// The webhook alone grants, when our own answer is lost.
func TestTopUp_TheWebhookFulfilsToo(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.defaultCard(stripetest.CardSucceeds)
		s.autoTopUp(5000)
		s.losePost("/payment_intents")
		made, err := s.TopUp(t.Context(), ada.Account)
		require.ErrorIs(t, err, billing.ErrStripe)
		assert.Equal(t, billing.TopUpRequested, made.Status)
		s.breaks.Store(nil)
		s.quiet()
		assert.Equal(t, "100.5", s.balance())
		assert.Len(t, s.payments(), 1)
	})
}

func TestTopUp_SettingsAreChecked(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		good := billing.AutoTopUpParams{Customer: ada, Threshold: credits.MustAmount("50"), Price: s.pack.ID, MonthlyCap: 5000, Consent: true}
		_, err := s.SetAutoTopUp(t.Context(), good)
		require.ErrorIs(t, err, billing.ErrNoDefaultCard)
		s.addCard(stripetest.CardSucceeds)
		_, err = s.SetAutoTopUp(t.Context(), good)
		require.ErrorIs(t, err, billing.ErrNoDefaultCard, "saved, and not the default")
		s.defaultCard(stripetest.CardSucceeds)
		plan := s.plan("Pro", "1000", 2900, "month")
		for field, change := range map[string]func(*billing.AutoTopUpParams){
			"threshold":   func(p *billing.AutoTopUpParams) { p.Threshold = credits.MustAmount("100.6") },
			"price":       func(p *billing.AutoTopUpParams) { p.Price = plan.ID },
			"monthly_cap": func(p *billing.AutoTopUpParams) { p.MonthlyCap = 999 },
			"consent":     func(p *billing.AutoTopUpParams) { p.Consent = false },
		} {
			p := good
			change(&p)
			_, err := s.SetAutoTopUp(t.Context(), p)
			require.ErrorIs(t, err, billing.ErrTopUpSettings, field)
			assert.Len(t, problem.FieldsOf(err), 1, "%s: %v", field, problem.FieldsOf(err))
			assert.NotEmpty(t, problem.FieldsOf(err)[field], field)
		}
		_, err = s.SetAutoTopUp(t.Context(), billing.AutoTopUpParams{Customer: ada})
		require.ErrorIs(t, err, billing.ErrTopUpSettings)
		assert.Len(t, problem.FieldsOf(err), 4, "all at once")
		unverified := good
		unverified.Customer.Verified = false
		_, err = s.SetAutoTopUp(t.Context(), unverified)
		require.ErrorIs(t, err, billing.ErrUnverified)
		off, err := s.FindAutoTopUp(t.Context(), ada.Account)
		require.NoError(t, err)
		assert.Equal(t, billing.AutoTopUp{Account: ada.Account}, off, "nothing of that was kept")

		on, err := s.SetAutoTopUp(t.Context(), good)
		require.NoError(t, err)
		assert.True(t, on.On)
		assert.Equal(t, "Starter", on.Pack.Name)
		assert.Contains(t, on.Consent, billing.TopUpConsent)
		assert.Contains(t, on.Consent, "100.5 credits for 10.00 USD; threshold: 50 credits; cap: 50.00 USD a month")
		assert.WithinDuration(t, s.now(), *on.ConsentedAt, time.Minute)
	})
}

func TestTopUp_TheHostIsToldWhatToWatch(t *testing.T) {
	var told sync.Map // by database
	run(t, func(t *testing.T, s *shop) {
		watched := func() any {
			below, _ := told.Load(s.db.Writer())
			return below
		}
		s.defaultCard(stripetest.CardSucceeds)
		s.autoTopUp(5000)
		assert.Equal(t, "50", watched())
		require.NoError(t, s.StopAutoTopUp(t.Context(), ada.Account))
		assert.Equal(t, "nothing", watched())
	}, func(c *billing.Config) {
		db := c.DB
		c.Watch = func(_ context.Context, _ *sqlx.Tx, _ string, below *credits.Amount) error {
			if below == nil {
				told.Store(db, "nothing")
			} else {
				told.Store(db, below.String())
			}
			return nil
		}
	})
}

// Ten callers at a time, again and again within a month: never more than the cap.
func TestTopUp_TheMonthsCapHoldsWhoeverAsks(t *testing.T) {
	n := newNotes()
	run(t, func(t *testing.T, s *shop) {
		s.defaultCard(stripetest.CardSucceeds)
		s.startOfMonth()
		s.autoTopUp(2999) // two packs
		for range 4 {
			var group errgroup.Group
			for range 10 {
				group.Go(func() error {
					_, err := s.TopUp(t.Context(), ada.Account)
					return err
				})
			}
			require.NoError(t, group.Wait())
			s.drain()
			s.advance(2 * time.Minute)
		}
		assert.Equal(t, int64(2000), s.charged())
		assert.Len(t, s.payments(), 2)
		assert.Equal(t, []billing.NoticeKind{billing.NoticeTopUpSucceeded, billing.NoticeTopUpSucceeded, billing.NoticeTopUpCapped}, n.kinds(s), "told once a month")
		s.startOfMonth()
		assert.Equal(t, billing.TopUpSucceeded, s.topUp().Status, "a new month")
		assert.Equal(t, int64(3000), s.charged())
	}, n.watch)
}

// startOfMonth lets time pass until the first day of the next month.
func (s *shop) startOfMonth() {
	s.t.Helper()
	now := s.now().UTC()
	s.advance(time.Date(now.Year(), now.Month()+1, 1, 1, 0, 0, 0, time.UTC).Sub(now))
}

// drain uses all credits.
func (s *shop) drain() {
	s.t.Helper()
	if left := s.balance(); left != "0" {
		s.use(left)
	}
}

func TestTopUp_RefusalsAreToldWaitAndPause(t *testing.T) {
	n := newNotes()
	run(t, func(t *testing.T, s *shop) {
		s.defaultCard(stripetest.CardFailsLater)
		s.autoTopUp(5000)
		made := s.topUp()
		assert.Equal(t, billing.TopUpFailed, made.Status)
		assert.Equal(t, "card_declined", made.Code)
		assert.Zero(t, s.topUp(), "not again at once")
		s.quiet() // its events change nothing
		require.Equal(t, []billing.NoticeKind{billing.NoticeTopUpFailed}, n.kinds(s))
		assert.Equal(t, "https://shop.example/billing/auto-topup", n.of(s)[0].URL)
		assert.Equal(t, "Your bank declined the card.", n.of(s)[0].Reason)
		s.advance(time.Hour + time.Minute)
		assert.Equal(t, billing.TopUpFailed, s.topUp().Status)
		s.advance(2 * time.Hour)
		assert.Zero(t, s.topUp(), "the second wait is a day")
		s.advance(day)
		assert.Equal(t, billing.TopUpFailed, s.topUp().Status)
		_, err := s.TopUp(t.Context(), ada.Account)
		require.ErrorIs(t, err, billing.ErrTopUpOff)
		setting, err := s.FindAutoTopUp(t.Context(), ada.Account)
		require.NoError(t, err)
		assert.False(t, setting.On)
		require.NotNil(t, setting.PausedAt)
		assert.Contains(t, setting.PauseReason, "3 payments were refused")
		kinds := n.kinds(s)
		assert.Equal(t, billing.NoticeTopUpPaused, kinds[len(kinds)-1])
		assert.Len(t, kinds, 3, "the last one says both")
		_, body := s.request("GET", "/billing/auto-topup", nil)
		assert.Contains(t, body, "3 payments were refused one after the other. The last time: Your bank declined the card.")
		assert.Zero(t, s.charged())
		assert.Equal(t, "0", s.balance())

		s.defaultCard(stripetest.CardSucceeds)
		s.autoTopUp(5000)
		assert.Equal(t, billing.TopUpSucceeded, s.topUp().Status)
		assert.Equal(t, "100.5", s.balance())
	}, n.watch)
}

// The mail's link leads to a page where the person pays on session, with the bank's question.
func TestTopUp_TheBankWantsThePerson(t *testing.T) {
	n := newNotes()
	run(t, func(t *testing.T, s *shop) {
		s.defaultCard(stripetest.CardAuthenticate)
		s.autoTopUp(5000)
		made := s.topUp()
		assert.Equal(t, billing.TopUpFailed, made.Status)
		assert.Equal(t, "authentication_required", made.Code)
		require.Equal(t, []billing.NoticeKind{billing.NoticeTopUpAuthentication}, n.kinds(s))
		link := strings.TrimPrefix(n.of(s)[0].URL, "https://shop.example")
		_, body := s.request("GET", link, nil)
		assert.Contains(t, body, "Your bank wants you to confirm the payment yourself.")
		assert.Contains(t, body, "Pay 10.00 USD for 100.5 credits")
		res, _ := s.request("POST", "/billing/checkout", url.Values{"price": {s.pack.ID}})
		require.Equal(t, 303, res.StatusCode)
		location := res.Header.Get("Location")
		_, err := s.double.Pay(t.Context(), location[strings.LastIndex(location, "/")+1:], stripetest.Card{Number: stripetest.CardAuthenticate})
		require.NoError(t, err)
		s.quiet()
		assert.Equal(t, "100.5", s.balance())
		assert.Equal(t, int64(1000), s.charged())
	}, n.watch)
}

// Wherever a process ends, the next one goes on with the same purchase, and there is one charge.
func TestTopUp_InterruptedIsResumedAndChargesOnce(t *testing.T) {
	t.Parallel()
	cut := func(before bool) func(s *shop) {
		return func(s *shop) {
			s.losePost("/payment_intents")
			if before {
				f := func(r *http.Request) error {
					if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/payment_intents") {
						return errors.New("connection cut before the effect")
					}
					return nil
				}
				s.breaks.Store(&f)
			}
		}
	}
	fault := func(kind stripetest.FaultKind) func(s *shop) {
		return func(s *shop) {
			_, err := s.double.Inject(s.t.Context(), stripetest.Fault{Kind: kind, Route: "POST /v1/payment_intents", Times: 1})
			require.NoError(s.t, err)
		}
	}
	for name, breaks := range map[string]func(s *shop){
		"before the call":       cut(true),
		"after the effect":      cut(false),
		"an error after it":     fault(stripetest.FaultErrorAfter),
		"a dropped connection":  fault(stripetest.FaultDropAfter),
		"too many calls":        fault(stripetest.FaultRateLimit),
		"while it is recorded":  func(*shop) {},
		"an error before it":    fault(stripetest.FaultErrorBefore),
		"dropped before it all": fault(stripetest.FaultDropBefore),
	} {
		t.Run(name, func(t *testing.T) {
			var broken atomic.Bool
			run(t, func(t *testing.T, s *shop) {
				s.defaultCard(stripetest.CardSucceeds)
				s.autoTopUp(5000)
				s.lose(1, 1) // no webhook helps
				breaks(s)
				broken.Store(name == "while it is recorded")
				made, err := s.TopUp(t.Context(), ada.Account)
				require.Error(t, err)
				assert.Equal(t, billing.TopUpRequested, made.Status)
				assert.Equal(t, "0", s.balance())
				again, err := s.TopUp(t.Context(), ada.Account)
				require.NoError(t, err)
				assert.Zero(t, again, "it is in flight")
				s.breaks.Store(nil)
				broken.Store(false)
				resumed, err := s.ResumeTopUps(t.Context())
				require.NoError(t, err)
				assert.Zero(t, resumed, "it may still be under way elsewhere")
				s.pass(2 * time.Minute)
				_, err = s.ResumeTopUps(t.Context())
				if name == "an error before it" {
					// Stripe repeats the error under this key. An hour later it is clear that nothing was made.
					require.ErrorIs(t, err, billing.ErrStripe)
					s.pass(time.Hour)
					resumed, err = s.ResumeTopUps(t.Context())
					require.NoError(t, err)
					assert.Equal(t, 1, resumed)
					assert.Equal(t, billing.TopUpSucceeded, s.topUp().Status, "a new one, with a new key")
				} else {
					require.NoError(t, err)
				}
				assert.Equal(t, "100.5", s.balance())
				assert.Equal(t, int64(1000), s.charged())
				assert.Len(t, s.payments(), 1)
				s.pass(2 * day) // Stripe has forgotten the key by then
				_, err = s.ResumeTopUps(t.Context())
				require.NoError(t, err)
				_, err = s.Reconcile(t.Context())
				require.NoError(t, err)
				assert.Equal(t, "100.5", s.balance())
				assert.Len(t, s.payments(), 1)
			}, func(c *billing.Config) {
				c.Notify = func(context.Context, *sqlx.Tx, billing.Notice) error {
					if broken.Load() {
						return errors.New("the process ends here")
					}
					return nil
				}
			})
		})
	}
}

func TestTopUp_TurnedOffBeforeStripeKnewChargesNothing(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.defaultCard(stripetest.CardSucceeds)
		s.autoTopUp(5000)
		down := func(r *http.Request) error {
			if strings.HasSuffix(r.URL.Path, "/payment_intents") {
				return errors.New("no route to host")
			}
			return nil
		}
		s.breaks.Store(&down)
		_, err := s.TopUp(t.Context(), ada.Account)
		require.ErrorIs(t, err, billing.ErrStripe)
		require.NoError(t, s.StopAutoTopUp(t.Context(), ada.Account))
		require.NoError(t, s.StopAutoTopUp(t.Context(), "nobody"))
		s.breaks.Store(nil)
		s.advance(2 * time.Minute)
		n, err := s.ResumeTopUps(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		assert.Zero(t, s.charged())
		list, _, err := s.TopUps(t.Context(), ada.Account, [16]byte{}, 0)
		require.NoError(t, err)
		assert.Equal(t, "Auto top-up was turned off before anything was charged.", list[0].Reason)
	})
}

func TestTopUp_PausesWhereThereIsNothingToBuyOrToPayWith(t *testing.T) {
	n := newNotes()
	run(t, func(t *testing.T, s *shop) {
		s.defaultCard(stripetest.CardSucceeds)
		s.autoTopUp(5000)
		require.NoError(t, s.RemovePaymentMethod(t.Context(), ada.Account, s.cards()[0].ID))
		assert.Zero(t, s.topUp())
		setting, err := s.FindAutoTopUp(t.Context(), ada.Account)
		require.NoError(t, err)
		assert.Contains(t, setting.PauseReason, "no default card")
		s.defaultCard(stripetest.CardSucceeds)
		s.autoTopUp(5000)
		_, err = s.double.Stripe.Products.Update(s.pack.Product.ID, &stripe.ProductParams{Active: stripe.Bool(false)})
		require.NoError(t, err)
		s.quiet()
		assert.Zero(t, s.topUp())
		setting, err = s.FindAutoTopUp(t.Context(), ada.Account)
		require.NoError(t, err)
		assert.Contains(t, setting.PauseReason, "not for sale")
		assert.Equal(t, []billing.NoticeKind{billing.NoticeTopUpPaused, billing.NoticeTopUpPaused}, n.kinds(s))
		assert.Zero(t, s.charged())
	}, n.watch)
}

func TestTopUp_FrozenAccountsBuyNothing(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.defaultCard(stripetest.CardSucceeds)
		s.autoTopUp(5000)
		s.give("1")
		require.NoError(t, s.ledger.Freeze(t.Context(), ada.Account, "fraud"))
		assert.Zero(t, s.topUp())
		require.NoError(t, s.ledger.Unfreeze(t.Context(), ada.Account))
		assert.Equal(t, billing.TopUpSucceeded, s.topUp().Status)
	})
}

// Nobody told of the low balance, and no webhook arrives.
func TestTopUp_SweepAndReconcileFindWhatWasMissed(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.defaultCard(stripetest.CardSucceeds)
		s.autoTopUp(5000)
		s.me = billing.Customer{Account: "bob", Email: "bob@example.com", Verified: true}
		s.defaultCard(stripetest.CardFailsLater)
		s.autoTopUp(5000)
		n, err := s.SweepTopUps(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, n, "one who cannot pay does not keep the others waiting")
		assert.Equal(t, "0", s.balance())
		s.me = ada
		assert.Equal(t, "100.5", s.balance())

		s.drain()
		s.quiet()
		_, err = s.Reconcile(t.Context())
		require.NoError(t, err)
		s.lose(1, 1)
		s.pass(2 * time.Minute)
		s.losePost("/payment_intents")
		_, err = s.TopUp(t.Context(), ada.Account)
		require.ErrorIs(t, err, billing.ErrStripe)
		s.breaks.Store(nil)
		report, err := s.Reconcile(t.Context())
		require.NoError(t, err)
		require.Len(t, report.Repaired, 1, "%v", report.Repaired)
		assert.Equal(t, "payment_intent", report.Repaired[0].Kind)
		assert.Equal(t, "succeeded", report.Repaired[0].After)
		assert.Equal(t, "100.5", s.balance())
		assert.Len(t, s.payments(), 2)
	})
}
