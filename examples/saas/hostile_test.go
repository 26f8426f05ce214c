package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/browsertest"
)

// What a stranger enters is shown as text on every page, their own and those of staff, and pushes none out of shape.
func TestBrowser_HostileTextStaysText(t *testing.T) {
	t.Parallel()
	p := start(t, sqlite(t))
	const address = "a.very.long.address.of.one.person@some.subdomain.of.an.example.com"
	attack := `"><img src=x onerror=alert(1)><script>alert(1)</script>{{.}}`
	long := attack + strings.Repeat("W", 100-len(attack))
	v := visit(t, p)
	v.join(address)
	v.buy()
	a := v.post("/account/profile", "name", long)
	require.Equal(t, http.StatusOK, a.status, a.text())
	a = v.post("/account/api-keys", "name", long)
	require.Equal(t, http.StatusCreated, a.status, a.text())
	a = v.post("/services/text-analysis", "text", attack+strings.Repeat("W", 500), "operation", "summarize")
	require.Equal(t, http.StatusOK, a.status, a.text())

	b := browsertest.Open(t)
	look := func(name, path string) {
		b.Go(p.base + path)
		b.Screenshot("hostile-" + name)
		assert.Equal(t, 0, b.Count(`main img, main script, main [onerror]`), path)
	}
	login := func(email, secret string) {
		b.Go(p.base + "/auth/login")
		b.Type("#f-email", email)
		b.Type("#f-password", secret)
		b.Click("main form button")
		b.See("Log out")
	}
	login(address, password)
	payment := v.find(v.get("/billing/payments"), `href="(/billing/payments/[^"/]+)"`)
	for name, path := range map[string]string{
		"dashboard": "/account/", "profile": "/account/profile", "security": "/account/security", "api-keys": "/account/api-keys",
		"payments": "/billing/payments", "payment": payment, "receipt": payment + "/receipt", "credits": "/credits/",
	} {
		look(name, path)
	}
	b.Go(p.base + "/account/")
	b.Click("header form button")
	b.See("You are logged out")
	login(adminEmail, seedPassword)
	staff := visit(t, p)
	staff.login(adminEmail, seedPassword)
	user := staff.find(staff.get("/admin/users?q=a.very"), `href="(/admin/users/[^"]+)"`)
	for name, path := range map[string]string{
		"admin": "/admin/", "admin-users": "/admin/users", "admin-user": user, "admin-payments": "/admin/payments", "admin-audit": "/admin/audit",
	} {
		look(name, path)
	}
	b.CheckConsole()
}
