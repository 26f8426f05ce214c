package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/browsertest"
)

// From the account's menu to a pack that was bought while nobody looked, and a plan that pauses.
func TestBrowser_AutoTopUpAndPause(t *testing.T) {
	t.Parallel()
	p := start(t, sqlite(t))
	b := browsertest.Open(t)
	b.Go(p.base + "/auth/login")
	b.Type("#f-email", userEmail)
	b.Type("#f-password", seedPassword)
	b.Click("main form button")
	b.See("Log out")
	b.Go(p.base + "/account/")
	b.See("Have a pack bought by itself")
	b.ClickText("Set up")
	b.See("No default card")
	b.Screenshot("auto-topup-none")
	b.ClickText("Your cards")
	b.ClickText("Add a card")
	b.See("Save a card")
	b.Type("#number", "4242424242424242")
	b.Type("#expiry", "12/40")
	b.Type("#cvc", "123")
	b.Type("#name", "Uma User")
	b.Click("#pay")
	b.See("Your card is saved")
	b.Click(`main form[action$="/default"] button`)
	b.See("Renewals are paid with this card")
	b.ClickText("Auto top-up")
	b.See("Turn it on")
	b.Type("#f-threshold", "500")
	b.Type("#f-monthly_cap", "5")
	b.Press("#f-consent")
	b.Expect("422")
	b.Click(`form[action$="/auto-topup"] button`)
	b.See("This must be at least 10.00 USD")
	b.Screenshot("auto-topup-wrong")
	b.Type("#f-threshold", "50")
	b.Type("#f-monthly_cap", "30.00")
	b.Click(`form[action$="/auto-topup"] button`)
	b.See("Auto top-up is on")
	require.Eventually(t, func() bool {
		b.Go(p.base + "/billing/auto-topup")
		// The money counts towards the cap as soon as Stripe was asked; the credits come with Stripe's webhook.
		return strings.Contains(b.Text("main"), "10.00 USD of at most 30.00 USD") && b.Text("#balance") == "100 credits"
	}, time.Minute, 100*time.Millisecond, "the balance was below the threshold all along")
	b.Screenshot("auto-topup")
	b.Go(p.base + "/billing/payments")
	b.See("Auto top-up: Starter")
	b.Screenshot("payments")
	b.Go(p.base + "/dev/mail")
	b.See("We topped up your credits")

	b.Go(p.base + "/billing/")
	b.ClickText("Subscribe to Hobby")
	b.See("Pay with card")
	b.Type("#number", "4242424242424242")
	b.Type("#expiry", "12/40")
	b.Type("#cvc", "123")
	b.Type("#name", "Uma User")
	b.Click("#pay")
	b.See("You are subscribed to Hobby")
	b.ClickText("Your subscription")
	b.Press("details summary")
	b.Screenshot("subscription-pausing")
	b.Click(`form[action$="/pause"] button`)
	b.See("Your subscription is paused")
	b.Screenshot("subscription-paused")
	b.Click(`form[action$="/resume"] button`)
	b.See("Your subscription goes on")

	b.Go(p.base + "/billing/")
	b.See("16 % less per credit")
	b.Screenshot("plans")
	b.ClickText("Change to Pro")
	b.See("75.00 USD")
	b.Screenshot("change-preview")
	b.Click("main form button")
	b.See("Your plan is Pro now.")
	b.Screenshot("subscription-changed")
	b.Go(p.base + "/billing/payments?type=plan_change")
	b.See("Change to Pro")
	b.Screenshot("payments-filtered")
	b.CheckConsole()
}
