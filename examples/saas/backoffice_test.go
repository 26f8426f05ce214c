package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/browsertest"
)

// Money goes back from the back office, at a desk and on a phone, and every step is seen.
func TestBrowser_StaffRefundAndAdjust(t *testing.T) {
	t.Parallel()
	p := start(t, sqlite(t))
	v := visit(t, p)
	v.join("grace@example.com")
	v.buy()
	b := browsertest.Open(t)
	b.Go(p.base + "/auth/login")
	b.Type("#f-email", adminEmail)
	b.Type("#f-password", seedPassword)
	b.Click("main form button")
	b.See("Log out")
	b.Go(p.base + "/admin/payments")
	b.Click(`main a[href^="/admin/payments/"]`)
	b.See("Left of the money")
	b.Screenshot("admin-payment")
	b.Type("#f-amount", "2.50")
	b.Type("#f-note", "asked by mail")
	b.ClickText("Preview")
	b.See("Nothing has happened yet")
	b.Screenshot("admin-refund-preview")
	b.Click("main form button")
	b.See("The refund is made.")
	b.See("asked by mail")
	b.Screenshot("admin-refund")
	b.ClickText("Refunds")
	b.See("2.50 USD")
	b.Screenshot("admin-refunds")
	b.ClickText("Figures")
	b.See("25.0 %")
	b.Screenshot("admin-refund-figures")
	b.ClickText("Disputes")
	b.See("No disputes")
	b.Screenshot("admin-disputes")
	b.ClickText("Products")
	b.See("Starter")
	b.Screenshot("admin-products")
	b.Go(p.base + "/admin/reconcile")
	b.ClickText("Run now")
	require.Eventually(t, func() bool {
		b.Go(p.base + "/admin/reconcile")
		return b.Count("#runs") > 0
	}, time.Minute, 100*time.Millisecond)
	b.Screenshot("admin-reconcile")
	b.Go(p.base + "/admin/users?q=grace")
	b.ClickText("grace@example.com")
	b.Type("#f-amount", "5")
	b.Type("#f-reason", "sorry")
	b.ClickText("Preview")
	b.See("Nothing is changed yet")
	b.Screenshot("admin-adjust")
	b.Click("main form button")
	b.See("The balance is")
	b.Screenshot("admin-user-adjusted")
	b.Go(p.base + "/admin/audit?action=credits_adjust")
	b.See("sorry")
	b.Screenshot("admin-audit-filtered")

	b.ClickText("Verify the log")
	b.See("Nothing was changed, removed or inserted")
	b.Screenshot("admin-audit-verified")
	b.Go(p.base + "/admin/")
	b.See("Revenue this month")
	b.Screenshot("admin-overview")

	b.Go(p.base + "/admin/services")
	b.Screenshot("admin-services")
	b.Press("#service-text-analysis button")
	require.Eventually(t, func() bool { return b.Count(`#service-text-analysis [aria-checked="false"]`) == 1 }, 10*time.Second, 50*time.Millisecond)
	b.Press("#service-text-analysis button")
	require.Eventually(t, func() bool { return b.Count(`#service-text-analysis [aria-checked="true"]`) == 1 }, 10*time.Second, 50*time.Millisecond)
	b.ClickText("Text analysis")
	b.See("Override the price")
	b.Screenshot("admin-service")
	b.Go(p.base + "/admin/users?q=grace")
	b.ClickText("grace@example.com")
	b.Type("#f-amount", "1000.5")
	b.Type("#f-reason", "a large gift")
	b.ClickText("Preview")
	b.See("needs a second person")
	b.Click("main form button")
	b.See("You asked for this")
	b.Screenshot("admin-approval")
	b.Go(p.base + "/admin/approvals")
	b.See("a large gift")
	b.Screenshot("admin-approvals")

	// A bank takes the next payment back.
	v.thanked(v.pay(v.checkout(), "4000000000000259"))
	export := v.get("/billing/payments?format=csv")
	assert.Contains(t, export.text(), ",-2.50,")
	assert.Equal(t, 3, strings.Count(export.text(), ",USD,"), "two payments and a refund: %s", export.text())
	require.Eventually(t, func() bool {
		b.Go(p.base + "/admin/disputes")
		return b.Count(`main a[href^="/admin/disputes/"]`) > 0
	}, time.Minute, 100*time.Millisecond)
	b.Screenshot("admin-disputes-open")
	b.Click(`main a[href^="/admin/disputes/"]`)
	b.See("frozen until it decides")
	b.See("What happened")
	b.Screenshot("admin-dispute")
	b.CheckConsole()
}
