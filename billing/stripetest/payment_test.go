package stripetest_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing/stripetest"
)

func TestPaymentMethods_AreSavedChangedAndTakenAway(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		c := customer(t, s, "")
		pm := saveCard(t, s, c.ID, stripetest.CardSucceeds)
		assert.Equal(t, "4242", pm.Card.Last4)
		assert.Equal(t, c.ID, pm.Customer.ID)

		get := &stripe.CustomerParams{}
		get.AddExpand("invoice_settings.default_payment_method")
		again := must(s.Stripe.Customers.Get(c.ID, get))(t)
		assert.Equal(t, "4242", again.InvoiceSettings.DefaultPaymentMethod.Card.Last4)

		pm = must(s.Stripe.PaymentMethods.Update(pm.ID, &stripe.PaymentMethodParams{Card: &stripe.PaymentMethodCardParams{ExpMonth: stripe.Int64(1), ExpYear: stripe.Int64(2051)},
			Metadata: map[string]string{"k": "v"}}))(t)
		assert.Equal(t, int64(2051), pm.Card.ExpYear)
		require.NoError(t, s.RenewCard(t.Context(), pm.ID, 5, 2055))
		second := must(s.Stripe.PaymentMethods.Attach("pm_card_mastercard", &stripe.PaymentMethodAttachParams{Customer: &c.ID}))(t)
		assert.Equal(t, stripe.PaymentMethodCardBrandMastercard, second.Card.Brand)

		it := s.Stripe.PaymentMethods.List(&stripe.PaymentMethodListParams{Customer: &c.ID, Type: stripe.String("card")})
		var found []string
		for it.Next() {
			found = append(found, it.PaymentMethod().ID)
		}
		require.NoError(t, it.Err())
		assert.Equal(t, []string{second.ID, pm.ID}, found)
		own := s.Stripe.Customers.ListPaymentMethods(&stripe.CustomerListPaymentMethodsParams{Customer: &c.ID})
		require.True(t, own.Next())
		one := must(s.Stripe.Customers.RetrievePaymentMethod(pm.ID, &stripe.CustomerRetrievePaymentMethodParams{Customer: &c.ID}))(t)
		assert.Equal(t, int64(2055), one.Card.ExpYear)

		gone := must(s.Stripe.PaymentMethods.Detach(pm.ID, nil))(t)
		assert.Nil(t, gone.Customer)
		assert.Nil(t, must(s.Stripe.Customers.Get(c.ID, nil))(t).InvoiceSettings.DefaultPaymentMethod)
		_, err := s.Stripe.PaymentMethods.Attach(pm.ID, &stripe.PaymentMethodAttachParams{Customer: &c.ID})
		requireError(t, err, 400, "parameter_invalid", "")
		assert.Equal(t, map[string]int{"payment_method.attached": 2, "payment_method.updated": 1, "payment_method.automatically_updated": 1, "payment_method.detached": 1},
			events(t, s, "payment_method."))

		other := customer(t, s, "")
		_, err = s.Stripe.PaymentMethods.Attach(second.ID, &stripe.PaymentMethodAttachParams{Customer: &other.ID})
		requireError(t, err, 400, "payment_method_unexpected_state", "")
		_, err = s.Stripe.Customers.Update(other.ID, &stripe.CustomerParams{InvoiceSettings: &stripe.CustomerInvoiceSettingsParams{DefaultPaymentMethod: &second.ID}})
		requireError(t, err, 400, "parameter_invalid", "invoice_settings[default_payment_method]")
		_, err = s.Stripe.PaymentMethods.Attach("pm_card_chargeDeclined", &stripe.PaymentMethodAttachParams{Customer: &other.ID})
		requireError(t, err, 402, "card_declined", "")
	})
}

func intent(t *testing.T, s *stripetest.Test, change func(*stripe.PaymentIntentParams)) (*stripe.PaymentIntent, error) {
	t.Helper()
	p := &stripe.PaymentIntentParams{Amount: stripe.Int64(1500), Currency: stripe.String("usd"), Metadata: map[string]string{"order": "1"}}
	change(p)
	return s.Stripe.PaymentIntents.New(p)
}

func TestPaymentIntent_OffSessionPaysOrSaysWhy(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		pay := func(number string) (*stripe.PaymentIntent, error) {
			c := customer(t, s, "")
			pm := saveCard(t, s, c.ID, number)
			return intent(t, s, func(p *stripe.PaymentIntentParams) {
				p.Customer, p.PaymentMethod, p.Confirm, p.OffSession = &c.ID, &pm.ID, stripe.Bool(true), stripe.Bool(true)
			})
		}
		pi, err := pay(stripetest.CardSucceeds)
		require.NoError(t, err)
		assert.Equal(t, stripe.PaymentIntentStatusSucceeded, pi.Status)
		assert.Equal(t, int64(1500), pi.AmountReceived)

		_, err = pay(stripetest.CardFailsLater)
		requireError(t, err, 402, "card_declined", "")
		_, err = pay(stripetest.CardAuthenticate)
		requireError(t, err, 402, "authentication_required", "")
		var e *stripe.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, stripe.DeclineCode("authentication_required"), e.DeclineCode)
		require.NotNil(t, e.PaymentIntent)
		require.NotNil(t, e.PaymentMethod)

		// The attempt is kept, and the person can pay on session.
		pi = must(s.Stripe.PaymentIntents.Get(e.PaymentIntent.ID, nil))(t)
		assert.Equal(t, stripe.PaymentIntentStatusRequiresPaymentMethod, pi.Status)
		assert.Equal(t, stripe.ErrorCodeAuthenticationRequired, pi.LastPaymentError.Code)
		pi = must(s.Stripe.PaymentIntents.Confirm(pi.ID, &stripe.PaymentIntentConfirmParams{PaymentMethod: &e.PaymentMethod.ID, ReturnURL: stripe.String("https://shop.example/back")}))(t)
		assert.Equal(t, stripe.PaymentIntentStatusRequiresAction, pi.Status)
		b := newBrowser(t)
		status, body, _ := b.visit(pi.NextAction.RedirectToURL.URL, nil)
		assert.Equal(t, 200, status)
		assert.Contains(t, body, "3-D Secure")
		status, _, location := b.visit(pi.NextAction.RedirectToURL.URL, url.Values{"outcome": {"fail"}})
		assert.Equal(t, 303, status)
		assert.Equal(t, "https://shop.example/back", location)
		pi = must(s.Stripe.PaymentIntents.Get(pi.ID, nil))(t)
		assert.Equal(t, stripe.PaymentIntentStatusRequiresPaymentMethod, pi.Status)
		assert.Equal(t, stripe.ErrorCode("payment_intent_authentication_failure"), pi.LastPaymentError.Code)

		pi = must(s.Stripe.PaymentIntents.Confirm(pi.ID, &stripe.PaymentIntentConfirmParams{PaymentMethod: &e.PaymentMethod.ID}))(t)
		assert.Equal(t, stripe.PaymentIntentNextActionType("use_stripe_sdk"), pi.NextAction.Type)
		next, err := s.Authenticate(t.Context(), pi.ID, true)
		require.NoError(t, err)
		assert.Empty(t, next)
		assert.Equal(t, stripe.PaymentIntentStatusSucceeded, must(s.Stripe.PaymentIntents.Get(pi.ID, nil))(t).Status)
		_, err = s.Authenticate(t.Context(), pi.ID, true)
		require.ErrorContains(t, err, "asks for no authentication")
	})
}

func TestPaymentIntent_IsMadeChangedConfirmedAndCanceled(t *testing.T) {
	t.Parallel()
	s := double(t)
	pi := must(intent(t, s, func(p *stripe.PaymentIntentParams) {
		p.ReceiptEmail, p.Description = stripe.String("a@example.com"), stripe.String("one")
	}))(t)
	assert.Equal(t, stripe.PaymentIntentStatusRequiresPaymentMethod, pi.Status)
	pm := newCard(t, s, stripetest.CardSucceeds)
	pi = must(s.Stripe.PaymentIntents.Update(pi.ID, &stripe.PaymentIntentParams{Amount: stripe.Int64(1700), PaymentMethod: &pm.ID}))(t)
	assert.Equal(t, stripe.PaymentIntentStatusRequiresConfirmation, pi.Status)
	key := &stripe.PaymentIntentConfirmParams{}
	key.SetIdempotencyKey("confirm-1")
	pi = must(s.Stripe.PaymentIntents.Confirm(pi.ID, key))(t)
	assert.Equal(t, int64(1700), pi.AmountReceived)
	again := must(s.Stripe.PaymentIntents.Confirm(pi.ID, key))(t)
	assert.Equal(t, pi.LatestCharge.ID, again.LatestCharge.ID, "the first answer again")
	_, err := s.Stripe.PaymentIntents.Confirm(pi.ID, nil)
	requireError(t, err, 400, "payment_intent_unexpected_state", "")
	_, err = s.Stripe.PaymentIntents.Cancel(pi.ID, nil)
	requireError(t, err, 400, "payment_intent_unexpected_state", "")

	other := must(intent(t, s, func(*stripe.PaymentIntentParams) {}))(t)
	other = must(s.Stripe.PaymentIntents.Cancel(other.ID, &stripe.PaymentIntentCancelParams{CancellationReason: stripe.String("abandoned")}))(t)
	assert.Equal(t, stripe.PaymentIntentStatusCanceled, other.Status)
	assert.Equal(t, 1, events(t, s, "payment_intent.")["payment_intent.canceled"])

	// An answer that refuses is answered again under its key, too.
	declined := &stripe.PaymentIntentParams{Amount: stripe.Int64(1000), Currency: stripe.String("usd"), PaymentMethod: stripe.String("pm_card_chargeDeclined"), Confirm: stripe.Bool(true)}
	declined.SetIdempotencyKey("declined-1")
	for range 2 {
		_, err = s.Stripe.PaymentIntents.New(declined)
		requireError(t, err, 402, "card_declined", "")
	}
	assert.Equal(t, 1, events(t, s, "charge.")["charge.failed"])
}

func TestSetupIntent_SavesACardForLater(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		c := customer(t, s, "")
		si := must(s.Stripe.SetupIntents.New(&stripe.SetupIntentParams{Customer: &c.ID, PaymentMethodTypes: []*string{stripe.String("card")}, Usage: stripe.String("off_session")}))(t)
		assert.Equal(t, stripe.SetupIntentStatusRequiresPaymentMethod, si.Status)
		_, err := s.Stripe.SetupIntents.Confirm(si.ID, &stripe.SetupIntentConfirmParams{PaymentMethod: stripe.String("pm_card_chargeDeclined")})
		requireError(t, err, 402, "card_declined", "")
		si = must(s.Stripe.SetupIntents.Confirm(si.ID, &stripe.SetupIntentConfirmParams{PaymentMethod: stripe.String("pm_card_authenticationRequired"), ReturnURL: stripe.String("https://shop.example/back")}))(t)
		assert.Equal(t, stripe.SetupIntentStatusRequiresAction, si.Status)
		next, err := s.Authenticate(t.Context(), si.ID, false)
		require.NoError(t, err)
		assert.Equal(t, "https://shop.example/back", next)
		si = must(s.Stripe.SetupIntents.Get(si.ID, nil))(t)
		assert.Equal(t, stripe.ErrorCode("setup_intent_authentication_failure"), si.LastSetupError.Code)
		si = must(s.Stripe.SetupIntents.Confirm(si.ID, &stripe.SetupIntentConfirmParams{PaymentMethod: stripe.String("pm_card_visa")}))(t)
		assert.Equal(t, stripe.SetupIntentStatusSucceeded, si.Status)
		pm := must(s.Stripe.PaymentMethods.Get(si.PaymentMethod.ID, nil))(t)
		assert.Equal(t, c.ID, pm.Customer.ID)
		_, err = s.Stripe.SetupIntents.Cancel(si.ID, nil)
		requireError(t, err, 400, "setup_intent_unexpected_state", "")
		other := must(s.Stripe.SetupIntents.New(&stripe.SetupIntentParams{Customer: &c.ID}))(t)
		must(s.Stripe.SetupIntents.Update(other.ID, &stripe.SetupIntentParams{Description: stripe.String("x")}))(t)
		assert.Equal(t, stripe.SetupIntentStatusCanceled, must(s.Stripe.SetupIntents.Cancel(other.ID, nil))(t).Status)
		assert.Equal(t, map[string]int{"setup_intent.created": 2, "setup_intent.setup_failed": 2, "setup_intent.requires_action": 1, "setup_intent.succeeded": 1,
			"setup_intent.canceled": 1}, events(t, s, "setup_intent."))
	})
}

func TestSession_SetupModeSavesACard(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		c := customer(t, s, "")
		open := func() *stripe.CheckoutSession {
			return must(s.Stripe.CheckoutSessions.New(&stripe.CheckoutSessionParams{Mode: stripe.String("setup"), Customer: &c.ID, Currency: stripe.String("usd"),
				SuccessURL: stripe.String("https://shop.example/ok?id={CHECKOUT_SESSION_ID}"), CancelURL: stripe.String("https://shop.example/no"),
				SetupIntentData: &stripe.CheckoutSessionSetupIntentDataParams{Metadata: map[string]string{"account": "a1"}}}))(t)
		}
		o := open()
		_, err := s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.CardDeclined})
		require.ErrorContains(t, err, "declined")
		next := must(s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.CardFailsLater}))(t)
		assert.Equal(t, "https://shop.example/ok?id="+o.ID, next)
		get := &stripe.CheckoutSessionParams{}
		get.AddExpand("setup_intent.payment_method")
		o = must(s.Stripe.CheckoutSessions.Get(o.ID, get))(t)
		assert.Equal(t, stripe.CheckoutSessionPaymentStatusNoPaymentRequired, o.PaymentStatus)
		assert.Equal(t, "0341", o.SetupIntent.PaymentMethod.Card.Last4)
		assert.Equal(t, c.ID, o.SetupIntent.PaymentMethod.Customer.ID)
		assert.Equal(t, "a1", o.SetupIntent.Metadata["account"])

		o = open()
		_, err = s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.CardAuthenticate, FailAuthentication: true})
		require.ErrorContains(t, err, "unable to authenticate")
		o = must(s.Stripe.CheckoutSessions.Get(o.ID, nil))(t)
		assert.Equal(t, stripe.CheckoutSessionStatusOpen, o.Status)
		must(s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.CardAuthenticate}))(t)
		assert.Equal(t, 2, events(t, s, "payment_method.")["payment_method.attached"])
	})
}

func TestHostedPage_ThreeDSecureIsConfirmedOrFailed(t *testing.T) {
	t.Parallel()
	s := double(t)
	_, price := pack(t, s)
	o := session(t, s, price, nil)
	b := newBrowser(t)
	card := url.Values{"email": {"a@example.com"}, "number": {stripetest.CardAuthenticate}, "expiry": {"12/49"}, "cvc": {"123"}}
	status, _, page := b.visit(o.URL, card)
	assert.Equal(t, http.StatusSeeOther, status)
	assert.Equal(t, s.URL+"/authenticate/"+o.ID, page)
	_, body, _ := b.visit(page, nil)
	assert.Contains(t, body, "Your bank asks")
	_, _, back := b.visit(page, url.Values{"outcome": {"fail"}})
	assert.Equal(t, o.URL, back)
	_, _, page = b.visit(o.URL, card)
	_, _, next := b.visit(page, url.Values{"outcome": {"complete"}})
	assert.Equal(t, "https://shop.example/ok?id="+o.ID, next)
	status, _, _ = b.visit(page, url.Values{"outcome": {"complete"}})
	assert.Equal(t, http.StatusNotFound, status)
	o = must(s.Stripe.CheckoutSessions.Get(o.ID, nil))(t)
	assert.Equal(t, stripe.CheckoutSessionPaymentStatusPaid, o.PaymentStatus)

	// A session that ended meanwhile is not completed.
	late := session(t, s, price, nil)
	_, _, page = b.visit(late.URL, card)
	must(s.Stripe.CheckoutSessions.Expire(late.ID, nil))(t)
	status, _, _ = b.visit(page, url.Values{"outcome": {"complete"}})
	assert.Equal(t, http.StatusGone, status)
	assert.Equal(t, stripe.CheckoutSessionStatusExpired, must(s.Stripe.CheckoutSessions.Get(late.ID, nil))(t).Status)

	// The form of another site is refused.
	req, err := http.NewRequest(http.MethodPost, session(t, s, price, nil).URL, nil)
	require.NoError(t, err)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	res := must(http.DefaultClient.Do(req))(t)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusForbidden, res.StatusCode)
}

func TestCharges_SavedCardOfASession(t *testing.T) {
	t.Parallel()
	s := double(t)
	_, price := pack(t, s)
	c := customer(t, s, "")
	o := session(t, s, price, func(p *stripe.CheckoutSessionParams) {
		p.Customer, p.PaymentIntentData.SetupFutureUsage = &c.ID, stripe.String("off_session")
	})
	must(s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.CardSucceeds}))(t)
	it := s.Stripe.PaymentMethods.List(&stripe.PaymentMethodListParams{Customer: &c.ID})
	require.True(t, it.Next(), "the card is saved")
	list := s.Stripe.Charges.List(&stripe.ChargeListParams{Customer: &c.ID})
	require.True(t, list.Next())
	assert.Equal(t, it.PaymentMethod().ID, list.Charge().PaymentMethod)
	sessions := s.Stripe.CheckoutSessions.List(&stripe.CheckoutSessionListParams{Customer: &c.ID})
	require.True(t, sessions.Next())
	always := session(t, s, price, func(p *stripe.CheckoutSessionParams) { p.CustomerCreation = stripe.String("always") })
	must(s.Pay(t.Context(), always.ID, stripetest.Card{Number: stripetest.CardSucceeds, Email: "new@example.com"}))(t)
	get := &stripe.CheckoutSessionParams{}
	get.AddExpand("customer")
	assert.Equal(t, "new@example.com", must(s.Stripe.CheckoutSessions.Get(always.ID, get))(t).Customer.Email)
}

func TestPaymentIntent_BankDebitIsSettledLater(t *testing.T) {
	t.Parallel()
	s := double(t)
	pay := func() *stripe.PaymentIntent {
		pm := must(s.Stripe.PaymentMethods.New(&stripe.PaymentMethodParams{Type: stripe.String("us_bank_account"), BillingDetails: &stripe.PaymentMethodBillingDetailsParams{Name: stripe.String("Ada")},
			USBankAccount: &stripe.PaymentMethodUSBankAccountParams{AccountNumber: stripe.String("000123456789"), RoutingNumber: stripe.String("110000000"), AccountHolderType: stripe.String("individual")}}))(t)
		return must(intent(t, s, func(p *stripe.PaymentIntentParams) {
			p.PaymentMethod, p.Confirm, p.PaymentMethodTypes = &pm.ID, stripe.Bool(true), []*string{stripe.String("us_bank_account")}
		}))(t)
	}
	pi := pay()
	assert.Equal(t, stripe.PaymentIntentStatusProcessing, pi.Status)
	require.NoError(t, s.SettleDelayed(t.Context(), pi.ID, true))
	assert.Equal(t, stripe.PaymentIntentStatusSucceeded, must(s.Stripe.PaymentIntents.Get(pi.ID, nil))(t).Status)
	require.ErrorContains(t, s.SettleDelayed(t.Context(), pi.ID, true), "waits for nothing")
	pi = pay()
	require.NoError(t, s.SettleDelayed(t.Context(), pi.ID, false))
	assert.Equal(t, stripe.PaymentIntentStatusRequiresPaymentMethod, must(s.Stripe.PaymentIntents.Get(pi.ID, nil))(t).Status)
}
