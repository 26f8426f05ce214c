package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/browsertest"
)

func jsonOf(v any) (json.RawMessage, error) { return json.Marshal(v) }

// stop is a page of the walk.
type stop struct {
	who, name, path string
	// status of the answer. 0: 200.
	status int
	// form is sent by POST, names and values in turn. Nil: the page is opened.
	form []string
}

// stops are all pages, each in the states that it has.
func stops(s shown) []stop {
	at := func(name string) string { return s.paths[name] }
	reject := func(who, name, path string, form ...string) stop {
		return stop{who, name, path, http.StatusUnprocessableEntity, form}
	}
	return []stop{
		{who: "guest", name: "home", path: "/"}, {who: "guest", name: "about", path: "/about"}, {who: "user", name: "home-user", path: "/"},
		{who: "guest", name: "terms", path: "/terms"}, {who: "guest", name: "privacy", path: "/privacy"}, {who: "guest", name: "contact", path: "/contact"},
		reject("guest", "contact-wrong", "/contact", "name", attack, "email", attack, "message", ""),
		{who: "guest", name: "gallery", path: "/dev/ui"}, {who: "guest", name: "error-403", path: "/dev/ui/error/403", status: 403}, {who: "guest", name: "error-413", path: "/dev/ui/error/413", status: 413},
		{who: "guest", name: "error-429", path: "/dev/ui/error/429", status: 429}, {who: "guest", name: "error-500", path: "/dev/ui/error/500", status: 500}, {who: "guest", name: "error-503", path: "/dev/ui/error/503", status: 503},
		{who: "guest", name: "unsubscribe-none", path: "/auth/unsubscribe", status: 409},
		{who: "guest", name: "nowhere", path: "/nowhere", status: 404}, {who: "guest", name: "method", path: "/auth/signup/", status: 404},
		{who: "guest", name: "method-not-allowed", path: "/auth/password/strength", status: 405},
		{who: "guest", name: "signup", path: "/auth/signup"}, reject("guest", "signup-wrong", "/auth/signup", "email", attack, "password", "short", "name", hostile(120)),
		{who: "guest", name: "signup-sent", path: "/auth/signup", form: []string{"email", "ada@example.com", "password", password, "name", attack}},
		{who: "guest", name: "login", path: "/auth/login"}, {who: "guest", name: "login-wrong", path: "/auth/login", status: 401, form: []string{"email", longEmail, "password", "wrong words here"}},
		{who: "guest", name: "strength", path: "/auth/password/strength", form: []string{"password", "short"}},
		{who: "guest", name: "verify", path: at("verify")}, {who: "guest", name: "verify-none", path: "/auth/verify?token=x", status: 409},
		{who: "guest", name: "resend", path: "/auth/verify/resend"}, {who: "guest", name: "forgot", path: "/auth/password/forgot"},
		reject("guest", "forgot-wrong", "/auth/password/forgot", "email", attack),
		{who: "guest", name: "reset", path: at("reset")}, {who: "guest", name: "reset-none", path: "/auth/password/reset", status: 409},
		{who: "guest", name: "magic", path: "/auth/magic"}, {who: "magic", name: "magic-code", path: "/auth/magic/code"}, {who: "magic", name: "magic-link", path: at("magic-link")},
		reject("magic", "magic-code-wrong", "/auth/magic/code", "code", attack),
		{who: "guest", name: "email-confirm", path: at("email-confirm")}, {who: "guest", name: "email-undo", path: at("email-undo")},
		{who: "guest", name: "email-confirm-none", path: "/auth/email/confirm", status: 409}, {who: "guest", name: "email-undo-none", path: "/auth/email/undo", status: 409},
		{who: "second", name: "second-step", path: "/auth/2fa"}, reject("second", "second-step-wrong", "/auth/2fa", "code", attack),
		{who: "guest", name: "oauth-callback", path: "/auth/oauth/acme/callback", status: 409}, {who: "user", name: "oauth-link", path: "/auth/oauth/link", status: 409},
		{who: "guest", name: "oauth-down", path: "/auth/oauth/acme", status: 503, form: []string{"next", "/"}},
		{who: "guest", name: "invitation-guest", path: at("invitation")}, {who: "user", name: "invitation", path: at("invitation")}, {who: "guest", name: "invitation-none", path: "/auth/invitation", status: 409},
		{who: "user", name: "confirm", path: "/auth/confirm"}, {who: "user", name: "confirm-wrong", path: "/auth/confirm", status: 422, form: []string{"password", "wrong words here"}},

		{who: "new", name: "dashboard-new", path: "/account/"}, {who: "user", name: "dashboard", path: "/account/"}, {who: "acting", name: "dashboard-acting", path: "/account/"},
		{who: "user", name: "profile", path: "/account/profile"}, reject("user", "profile-wrong", "/account/profile", "name", hostile(120), "website", "javascript:window.hacked=1", "phone", attack, "bio", hostile(400)),
		{who: "user", name: "security", path: "/account/security"}, {who: "new", name: "security-new", path: "/account/security"},
		reject("user", "security-wrong", "/account/security/password", "current", "wrong words here", "password", "short"),
		reject("user", "email-wrong", "/account/security/email", "email", attack),
		{who: "user", name: "api-keys", path: "/account/api-keys"}, {who: "new", name: "api-keys-none", path: "/account/api-keys"},
		reject("user", "api-keys-wrong", "/account/api-keys", "name", "", "expires_at", "1999-01-01", "networks", attack),
		{who: "user", name: "api-key", path: "/account/api-keys", status: 201, form: []string{"name", hostile(100)}},
		{who: "user", name: "totp", path: "/account/security/totp"}, reject("user", "totp-wrong", "/account/security/totp", "code", "000"),
		{who: "user", name: "passkeys", path: "/account/security/passkeys"}, {who: "user", name: "passkey-new", path: "/account/security/passkeys/new"},
		{who: "user", name: "passkey", path: at("passkey")},
		{who: "user", name: "export", path: "/account/export"}, {who: "user", name: "delete", path: "/account/delete"}, reject("user", "delete-wrong", "/account/delete", "email", attack),
		{who: "new", name: "organisation-none", path: "/account/organisation"}, reject("new", "organisation-wrong", "/account/organisation", "name", ""),
		{who: "owner", name: "organisation", path: "/account/organisation"}, reject("owner", "invite-wrong", "/account/organisation/invitations", "email", attack, "role", "member"),
		{who: "owner", name: "organisation-delete", path: "/account/organisation/delete"}, {who: "owner", name: "member-keys", path: "/account/organisation/api-keys"},
		{who: "owner", name: "credits-organisation", path: "/credits/"},

		{who: "guest", name: "offers-guest", path: "/billing/"}, {who: "user", name: "offers", path: "/billing/"}, {who: "user", name: "cancel", path: "/billing/cancel"},
		{who: "user", name: "success", path: at("success")}, {who: "new", name: "subscription-none", path: "/billing/subscription"}, {who: "user", name: "subscription", path: "/billing/subscription"},
		{who: "user", name: "change", path: at("change")}, {who: "new", name: "auto-topup-none", path: "/billing/auto-topup"}, {who: "user", name: "auto-topup", path: "/billing/auto-topup"},
		reject("user", "auto-topup-wrong", "/billing/auto-topup", "threshold", attack, "monthly_cap", attack),
		{who: "user", name: "cards", path: "/billing/payment-methods"}, {who: "new", name: "cards-none", path: "/billing/payment-methods"},
		{who: "user", name: "payments", path: "/billing/payments"}, {who: "new", name: "payments-none", path: "/billing/payments"}, {who: "user", name: "payments-empty", path: "/billing/payments?type=plan_change"},
		reject("user", "pause-wrong", "/billing/subscription/pause", "until", "1999-01-01"),
		{who: "user", name: "payment", path: at("payment")}, {who: "user", name: "receipt", path: at("payment") + "/receipt"},
		{who: "user", name: "credits", path: "/credits/"}, {who: "new", name: "credits-none", path: "/credits/"},

		{who: "guest", name: "services-guest", path: "/services/"}, {who: "user", name: "services", path: "/services/"}, {who: "guest", name: "service-guest", path: "/services/text-analysis"},
		{who: "user", name: "service", path: "/services/text-analysis"}, reject("user", "service-wrong", "/services/text-analysis", "text", "", "operation", attack),
		{who: "user", name: "service-result", path: "/services/echo", form: []string{"text", hostile(400), "attempt", "walk-attempt-0001"}},
		{who: "user", name: "service-failed", path: "/services/echo", status: 502, form: []string{"text", "fail", "attempt", "walk-attempt-0002"}},
		{who: "new", name: "too-few-credits", path: "/services/text-analysis", status: 402, form: []string{"text", attack, "operation", "summarize", "attempt", "walk-attempt-0003"}},
		{who: "user", name: "call", path: at("call")}, {who: "guest", name: "api-docs", path: "/api/v1/docs"},
		{who: "user", name: "api-tried", path: "/api/v1/docs/echo", form: []string{"text", hostile(200), "[attempt]", "walk-attempt-0004"}},
		{who: "user", name: "endpoints", path: "/account/webhooks/"}, {who: "new", name: "endpoints-none", path: "/account/webhooks/"}, reject("new", "endpoints-wrong", "/account/webhooks/", "url", "javascript:window.hacked=1", "description", attack, "types", attack),
		{who: "user", name: "endpoint", path: at("endpoint")}, {who: "user", name: "endpoint-delete", path: at("endpoint") + "/delete"}, {who: "user", name: "delivery", path: at("delivery")},
		{who: "user", name: "endpoint-secret", path: at("endpoint") + "/roll", form: []string{}},

		{who: "user", name: "admin-hidden", path: "/admin/", status: 404}, {who: "staff", name: "admin", path: "/admin/"}, {who: "staff", name: "admin-users", path: "/admin/users"},
		{who: "staff", name: "admin-users-none", path: "/admin/users?q=" + url.QueryEscape(attack)}, {who: "staff", name: "admin-user", path: at("admin-user")},
		reject("staff", "admin-adjust-wrong", at("admin-user")+"/credits/preview", "amount", attack, "reason", hostile(300)),
		{who: "staff", name: "admin-adjust", path: at("admin-user") + "/credits/preview", form: []string{"amount", "-2.5", "reason", hostile(200)}},
		{who: "staff", name: "admin-ledger", path: "/admin/ledger"}, {who: "staff", name: "admin-ledger-verified", path: "/admin/ledger/verify", form: []string{}},
		{who: "staff", name: "admin-payments", path: "/admin/payments"}, {who: "staff", name: "admin-payments-none", path: "/admin/payments?q=" + url.QueryEscape(attack)}, {who: "staff", name: "admin-payment", path: at("admin-payment")},
		reject("staff", "admin-payments-wrong", "/admin/payments?least="+url.QueryEscape(attack)+"&from="+url.QueryEscape(attack)+"&currency="+url.QueryEscape(attack)),
		{who: "staff", name: "admin-investigation", path: at("admin-payment") + "/stripe"},
		reject("staff", "admin-refund-wrong", at("admin-payment")+"/refund/preview", "amount", attack, "reason", "", "note", ""),
		{who: "staff", name: "admin-refund-preview", path: at("admin-payment") + "/refund/preview", form: []string{"amount", "1.00", "reason", "duplicate", "note", hostile(200)}},
		{who: "staff", name: "admin-refunds", path: "/admin/refunds"}, {who: "staff", name: "admin-refund", path: at("refund")}, {who: "staff", name: "admin-refund-figures", path: "/admin/refunds/stats"},
		{who: "staff", name: "admin-disputes", path: "/admin/disputes"}, {who: "staff", name: "admin-disputes-none", path: "/admin/disputes?account=" + url.QueryEscape(attack)}, {who: "staff", name: "admin-dispute", path: at("dispute")},
		{who: "staff", name: "admin-webhooks", path: "/admin/webhooks"}, {who: "staff", name: "admin-webhook", path: at("event")}, {who: "staff", name: "admin-webhook-figures", path: "/admin/webhooks/stats"},
		{who: "staff", name: "admin-webhooks-none", path: "/admin/webhooks?type=" + url.QueryEscape(attack)}, {who: "staff", name: "admin-span", path: "/admin/webhooks/span"},
		reject("staff", "admin-span-wrong", "/admin/webhooks/span", "from", attack, "to", "", "types", attack, "reason", attack),
		{who: "staff", name: "admin-acted", path: "/admin/webhooks/replay", form: []string{"status", "done", "dry_run", "true", "reason", attack}},
		{who: "staff", name: "admin-reconcile", path: "/admin/reconcile"}, {who: "staff", name: "admin-jobs", path: "/admin/jobs"}, {who: "staff", name: "admin-products", path: "/admin/products"},
		{who: "staff", name: "admin-services", path: "/admin/services"}, {who: "staff", name: "admin-service", path: "/admin/services/text-analysis"},
		reject("staff", "admin-service-wrong", "/admin/services/text-analysis/price", "rate", attack, "amount", attack, "from", attack, "reason", ""),
		{who: "staff", name: "admin-approvals-none", path: "/admin/approvals"},
		{who: "staff", name: "admin-approval", path: at("admin-user") + "/credits", form: []string{"amount", "2000", "reason", hostile(200), "key", "0198c0de-0000-7000-8000-00000000000a"}},
		{who: "staff", name: "admin-approvals", path: "/admin/approvals"}, {who: "staff", name: "admin-audit-verified", path: "/admin/audit/verify", form: []string{}},
		{who: "staff", name: "admin-account", path: at("admin-account")}, {who: "staff", name: "admin-service-hostile", path: "/admin/services/echo"},
		{who: "staff", name: "admin-security", path: "/admin/security"}, reject("staff", "admin-security-wrong", "/admin/security?from="+url.QueryEscape(attack)+"&user="+url.QueryEscape(attack)),
		{who: "staff", name: "admin-audit", path: "/admin/audit"}, reject("staff", "admin-audit-wrong", "/admin/audit?from="+url.QueryEscape(attack)+"&staff="+url.QueryEscape(attack)),

		{who: "guest", name: "mail", path: "/dev/mail/"}, {who: "guest", name: "mail-preview", path: "/dev/mail/preview"}, {who: "guest", name: "mail-none", path: "/dev/mail/?to=" + url.QueryEscape(attack)}, {who: "guest", name: "mail-message", path: at("mail")},
		{who: "user", name: "checkout", path: at("checkout")}, reject("user", "checkout-wrong", at("checkout"), "email", attack, "number", attack, "expiry", attack, "cvc", attack, "name", attack),
		{who: "guest", name: "stripe", path: "/dev/stripe/"}, {who: "guest", name: "stripe-objects", path: "/dev/stripe/objects/customer"}, {who: "guest", name: "stripe-object", path: at("stripe-object")},
	}
}

// Every page, on a phone and at a desk, light and dark, and with text twice as large, holding the worst that people can
// enter: nothing of it is executed or becomes markup, WCAG 2.2 AA holds as far as axe-core sees, the console is silent,
// nothing is asked of other hosts, no page is wider than its window, and every page carries the headers that protect it.
// A page that is declared in the program and not visited here fails the test.
func TestBrowser_EveryPage(t *testing.T) {
	t.Parallel()
	s := serveSite(t)
	filled := s.fill(t)
	b := browsertest.Open(t)
	here, err := url.Parse(s.base)
	require.NoError(t, err)
	s.addPasskey(t, b, here, filled)
	for _, status := range []string{"4", "5"} {
		b.Expect("status of " + status) // the console tells the statuses of refusals
	}
	routes := declared(t)
	mux := patterns(t, routes)
	visited := map[string]bool{}
	who := ""
	for _, stop := range stops(filled) {
		if stop.who != who {
			who = stop.who
			require.NotNil(t, filled.who[who], who)
			b.Be(s.base, filled.who[who].client.Jar.Cookies(here))
		}
		answer := open(b, s.base, stop)
		if want := max(stop.status, http.StatusOK); answer.Status != want && (stop.status != 0 || answer.Status != http.StatusOK) {
			assert.Equal(t, want, answer.Status, "%s: %s", stop.name, b.Text("body"))
		}
		at, err := url.Parse(b.Location())
		require.NoError(t, err)
		if stop.form == nil || at.RequestURI() != stop.path { // opened, by itself or by a redirect after a form
			_, pattern := mux.Handler(&http.Request{Method: http.MethodGet, URL: at, Host: at.Host})
			visited[strings.TrimPrefix(pattern, "GET ")] = true
		}
		checkHeaders(t, stop.name, at.Path, answer.Header)
		checkPage(t, b, stop.name)
		for _, address := range b.Foreign(s.base) {
			t.Errorf("%s asks for %s", stop.name, address)
		}
	}
	b.CheckConsole()
	for _, path := range routes {
		_, known := notPages[path]
		assert.False(t, known && visited[path], "%s is visited: take it off notPages", path)
		assert.True(t, known || visited[path], "%s is declared and not visited: add it to stops, or to notPages with a reason", path)
	}
	for path := range notPages {
		assert.Contains(t, routes, path, "it is gone: take it off notPages")
	}
}

func open(b *browsertest.Browser, base string, s stop) browsertest.Answer {
	if s.form == nil {
		return b.Visit(base + s.path)
	}
	return b.Post(s.path, s.form...)
}

// checkPage looks at the page in every way.
func checkPage(t *testing.T, b *browsertest.Browser, name string) {
	t.Helper()
	// What is folded is looked at too.
	browsertest.Evaluate[bool](b, `document.querySelectorAll("details").forEach((d) => { d.open = true; }) === undefined`)
	assert.False(t, browsertest.Evaluate[bool](b, `"`+sentinel+`" in window`), "%s executed what somebody entered", name)
	assert.Empty(t, browsertest.Evaluate[[]string](b, `[...document.querySelectorAll("img[src='x'], [onerror], script:not([src]), a[href^='javascript:' i], form[action^='javascript:' i]")].map((e) => e.outerHTML)`),
		"%s has markup that somebody entered", name)
	assert.Equal(t, 1, b.Count("h1"), "%s: headings of the first level", name)
	for i, look := range browsertest.Looks() {
		b.Look(look)
		audit := b.Audit
		if i > 0 && browsertest.Looks()[i-1].Width == look.Width {
			audit = b.AuditColours // all else is as it was
		}
		for _, fault := range audit() {
			t.Errorf("%s at %s: %s", name, look, fault)
		}
		if pixels, what := b.Overflow(); pixels > 0 {
			t.Errorf("%s is %d pixels wider than a window of %d: %s", name, pixels, look.Width, what)
		}
		b.Capture(fmt.Sprintf("walk-%s-%s", name, look))
	}
	// Zoomed in to twice its size, a page of 1280 pixels has 640 left; WCAG's reflow asks for 320.
	for _, width := range []int64{640, 320} {
		b.Look(browsertest.Look{Width: width})
		if pixels, what := b.Overflow(); pixels > 0 {
			t.Errorf("%s is %d pixels wider than a window of %d: %s", name, pixels, width, what)
		}
	}
}

// checkHeaders expects what protects a page. The double's pages stand for Stripe's, and have a policy of their own.
func checkHeaders(t *testing.T, name, path string, h http.Header) {
	t.Helper()
	policy := h.Get("Content-Security-Policy")
	assert.Contains(t, policy, "default-src 'none'", name)
	assert.Contains(t, policy, "base-uri 'none'", name)
	assert.Contains(t, policy, "frame-ancestors 'none'", name)
	assert.NotContains(t, policy, "unsafe", name)
	assert.NotContains(t, policy, "nonce", name)
	assert.NotContains(t, policy, "http:", name)
	assert.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), name)
	assert.NotEmpty(t, h.Get("Referrer-Policy"), name)
	assert.Equal(t, "no-store", h.Get("Cache-Control"), name)
	if strings.HasPrefix(path, "/dev/stripe/") {
		return
	}
	assert.Contains(t, policy, "script-src 'self';", name)
	assert.Contains(t, policy, "style-src 'self';", name)
	assert.Contains(t, policy, "object-src 'none'", name)
	assert.Contains(t, policy, "form-action 'self'", name)
	assert.Equal(t, "DENY", h.Get("X-Frame-Options"), name)
	assert.Equal(t, "same-origin", h.Get("Cross-Origin-Opener-Policy"), name)
	assert.Equal(t, "same-origin", h.Get("Cross-Origin-Resource-Policy"), name)
	for _, feature := range []string{"camera", "geolocation", "microphone", "payment"} {
		assert.Contains(t, h.Get("Permissions-Policy"), feature+"=()", name)
	}
}

// addPasskey gives the person a passkey with a hostile name, in the browser, as there is no other way to one.
func (s *site) addPasskey(t *testing.T, b *browsertest.Browser, here *url.URL, out shown) {
	t.Helper()
	b.Authenticator()
	b.Be(s.base, out.who["user"].client.Jar.Cookies(here))
	b.Go(s.base + "/account/security/passkeys/new")
	b.Type("#f-name", "Key "+attack)
	b.Click("main form[data-passkey] button")
	b.See("backup codes")
	u, err := s.app.Auth.FindUserByEmail(t.Context(), longEmail)
	require.NoError(t, err)
	keys, err := s.app.Auth.Passkeys(t.Context(), u.ID)
	require.NoError(t, err)
	require.NotEmpty(t, keys)
	out.paths["passkey"] = "/account/security/passkeys/" + keys[0].ID
}
