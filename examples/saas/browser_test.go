package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/browsertest"
)

var update = flag.Bool("update", false, "write the screenshot that README.md shows")

// The main job as a person does it, in Chromium, with a picture of each page.
func TestBrowser_SignUpBuySpend(t *testing.T) {
	t.Parallel()
	p := start(t, sqlite(t))
	b := browsertest.Open(t)
	b.Expect("402") // the console reports the statuses of the declined card and of too few credits
	b.Expect("404")

	b.Go(p.base + "/")
	b.See("Know your text")
	b.Screenshot("home")
	b.ClickText("Sign up")
	b.Screenshot("signup")
	b.Type("#f-email", "grace@example.com")
	b.Type("#f-name", "Grace Hopper")
	b.Type("#f-password", password)
	b.Click("main form button")
	b.See("Check your mail")
	b.Screenshot("signup-sent")

	links := visit(t, p).mailTo("grace@example.com", "(?i)confirm")
	b.Go(p.base + "/dev/mail")
	b.See("grace@example.com")
	b.Screenshot("mail")
	b.Click(`main table a[href^="/dev/mail/"]`)
	b.See("/auth/verify?token=")
	b.Screenshot("mail-message")
	b.Click(`main a[href*="/auth/verify?token="]`)
	// The link of a mail may open in a new tab; this is the same page.
	b.Go(links[0])
	b.Screenshot("verify")
	b.Click("main form button")
	if strings.Contains(b.Location(), "/auth/login") {
		b.Screenshot("login")
		b.Type("#f-email", "grace@example.com")
		b.Type("#f-password", password)
		b.Click("main form button")
	}
	b.See("0 credits")
	b.Screenshot("dashboard")

	b.Go(p.base + "/billing/")
	b.See("Starter")
	b.Screenshot("packs")
	b.ClickText("Buy Starter")
	b.See("Pay with card")
	b.Screenshot("checkout")
	fill := func(card string) {
		b.Type("#email", "grace@example.com")
		b.Type("#number", card)
		b.Type("#expiry", "12/40")
		b.Type("#cvc", "123")
		b.Type("#name", "Grace Hopper")
		b.Click("#pay")
	}
	fill("4000000000000002")
	b.See("declined")
	b.Screenshot("checkout-declined")
	b.Click("#cancel")
	b.See("Nothing was charged")
	b.Screenshot("cancel")
	b.ClickText("Back to the prices")
	b.ClickText("Buy Starter")
	fill("4242424242424242")
	b.See("Thank you")
	b.Screenshot("success")
	assert.Equal(t, "100 credits", b.Text("#balance"))
	b.Go(p.base + "/billing/payments")
	b.Screenshot("payments")
	b.Click(`main a[href$="/receipt"]`)
	b.See("RCP-")
	b.Screenshot("receipt")

	b.Go(p.base + "/services/")
	b.Screenshot("services")
	b.Go(p.base + "/services/text-analysis")
	b.Type(`textarea[name="text"]`, text)
	b.Choose(`select[name="operation"]`, "analyze")
	b.Click("main form button")
	b.See("98")
	assert.Equal(t, "98 credits", b.Text("#balance"))
	b.Screenshot("service-result")
	if *update {
		keepPicture(t, "service-result-1280.png")
	}
	b.Go(p.base + "/credits/")
	b.Screenshot("credits")
	b.Go(p.base + "/account/api-keys")
	b.Type("#f-name", "laptop")
	b.Click("main form button")
	b.See("qs_")
	b.Screenshot("api-key")
	b.Go(p.base + "/account/security")
	b.Screenshot("security")
	b.Go(p.base + "/account/profile")
	b.Screenshot("profile")
	b.Go(p.base + "/admin/")
	b.See("nothing at this address")
	b.Screenshot("not-found")
	// A question is asked in place where scripts run; without them its link leads to the page that asks it.
	b.Go(p.base + "/dev/ui")
	assert.Equal(t, 0, b.Count("dialog[open]"))
	b.Press("a[data-dialog]")
	b.See("Delete the key?")
	assert.Equal(t, 1, b.Count("dialog[open]"))
	b.CheckConsole()
}

func TestBrowser_TooFewCreditsAndBackOffice(t *testing.T) {
	t.Parallel()
	p := start(t, sqlite(t))
	v := visit(t, p)
	v.join("grace@example.com")
	v.buy()
	b := browsertest.Open(t)
	b.Expect("402")

	login := func(email string) {
		b.Go(p.base + "/auth/login")
		b.Type("#f-email", email)
		b.Type("#f-password", seedPassword)
		b.Click("main form button")
		b.See("Log out")
	}
	login(userEmail)
	b.Go(p.base + "/services/text-analysis")
	b.Type(`textarea[name="text"]`, text)
	b.Choose(`select[name="operation"]`, "summarize")
	b.Click("main form button")
	b.See("5 more are needed")
	b.Screenshot("too-few-credits")
	b.Click(`main a[href="/billing/"]`)
	b.See("Starter")
	b.Click(`header form button`)
	b.See("Log in")

	login(adminEmail)
	b.Go(p.base + "/admin/")
	b.See("Latest payments")
	b.Screenshot("admin")
	b.ClickText("Users")
	b.Type("#q", "grace")
	b.ClickText("Search")
	b.See("grace@example.com")
	b.Screenshot("admin-users")
	b.ClickText("grace@example.com")
	b.See("Purchase: Starter")
	b.Screenshot("admin-user")
	b.ClickText("Payments")
	b.See("10.00 USD")
	b.Screenshot("admin-payments")
	b.ClickText("Webhooks")
	b.See("checkout.session.completed")
	b.Screenshot("admin-webhooks")
	b.Click(`main a[href^="/admin/webhooks/evt_"]`)
	b.See("API version")
	b.Screenshot("admin-webhook")
	b.ClickText("Audit log")
	b.See("user_view")
	b.Screenshot("admin-audit")
	b.CheckConsole()
}

// A plan, from the page of prices to the cards behind it, and what staff see of it.
func TestBrowser_Subscription(t *testing.T) {
	t.Parallel()
	p := start(t, sqlite(t))
	b := browsertest.Open(t)
	login := func(email string) {
		b.Go(p.base + "/auth/login")
		b.Type("#f-email", email)
		b.Type("#f-password", seedPassword)
		b.Click("main form button")
		b.See("Log out")
	}
	login(userEmail)
	b.Go(p.base + "/billing/subscription")
	b.See("No subscription yet")
	b.Screenshot("subscription-none")
	b.ClickText("See the plans")
	b.ClickText("Subscribe to Hobby")
	b.See("Pay with card")
	b.Type("#number", "4242424242424242")
	b.Type("#expiry", "12/40")
	b.Type("#cvc", "123")
	b.Type("#name", "Uma User")
	b.Click("#pay")
	b.See("You are subscribed to Hobby")
	b.Screenshot("subscription-success")
	assert.Equal(t, "200 credits", b.Text("#balance"))
	b.ClickText("Your subscription")
	b.See("Renews")
	b.Screenshot("subscription")
	b.ClickText("Your cards")
	b.See("4242")
	b.Screenshot("payment-methods")
	b.Click("header form button")

	login(adminEmail)
	b.Go(p.base + "/admin/ledger")
	for range 2 { // the accounts, and then the seals
		b.Click("main form button")
	}
	b.See("That is all.")
	b.Screenshot("admin-ledger")
	b.Go(p.base + "/admin/webhooks")
	b.ClickText("Figures")
	b.See("invoice.paid")
	b.Screenshot("admin-webhook-figures")
	b.CheckConsole()
}

// keepPicture copies a screenshot to where README.md shows it.
func keepPicture(t *testing.T, name string) {
	t.Helper()
	picture, err := os.ReadFile(filepath.Join("..", "..", "artifacts", name))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join("..", "..", "docs", "images", "service.png"), picture, 0o600))
}
