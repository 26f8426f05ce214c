package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/browsertest"
)

// maxPicture is what a picture of docs/gallery.md may weigh, in bytes.
const maxPicture = 60_000

// The pictures of docs/gallery.md, of a person who has used the product for a month. With -update they are kept there.
func TestBrowser_Gallery(t *testing.T) {
	t.Parallel()
	var ago atomic.Int64
	clock := func() time.Time { return time.Now().Add(-time.Duration(ago.Load())) }
	s := serveSite(t, func(c *quickscale.Config) { c.Clock = clock })
	const day = 24 * time.Hour
	ago.Store(int64(28 * day))
	u, _ := s.person(t, "grace@example.com", "Grace Hopper", "user")
	_, err := s.app.Credits.Grant(t.Context(), credits.GrantParams{Account: u.ID, Amount: 50 * credits.Credit, Source: credits.Bonus, Reason: "Welcome", ExpiresAt: new(time.Now().Add(5 * day))})
	require.NoError(t, err)
	for i, words := range []int{12, 30, 9, 41, 22, 5, 18, 36, 28, 44, 15, 25, 33, 20} {
		ago.Store(int64(time.Duration(27-2*i) * day))
		_, err := s.app.Credits.Debit(t.Context(), credits.DebitParams{Account: u.ID, Amount: credits.Amount(words) * credits.Credit / 10, Service: "text-analysis", Reason: "Text analysis"})
		require.NoError(t, err)
	}
	ago.Store(0)
	v := visit(t, s.process)
	v.login("grace@example.com", password)
	v.buy()
	staff := visit(t, s.process)
	staff.login(adminEmail, seedPassword)
	here, err := url.Parse(s.base)
	require.NoError(t, err)
	user := staff.find(staff.get("/admin/users?q=grace"), `href="(/admin/users/[^"]+)"`)
	b := browsertest.Open(t)
	b.Expect("status of 4")
	desk, phone := browsertest.Look{Width: 1280}, browsertest.Look{Width: 390}
	dark := func(l browsertest.Look) browsertest.Look { l.Dark = true; return l }
	for _, p := range []struct {
		who        *visitor
		name, path string
		form       []string
		looks      []browsertest.Look
	}{
		{nil, "home", "/", nil, []browsertest.Look{desk, dark(phone)}},
		{nil, "pricing", "/billing/", nil, []browsertest.Look{desk, phone}},
		{nil, "signup", "/auth/signup", []string{"email", "grace", "password", "password1", "name", "Grace Hopper"}, []browsertest.Look{phone}},
		{nil, "components", "/dev/ui", nil, []browsertest.Look{dark(desk)}},
		{nil, "not-found", "/nowhere", nil, []browsertest.Look{phone}},
		{v, "dashboard", "/account/", nil, []browsertest.Look{desk, dark(desk), phone}},
		{v, "service", "/services/text-analysis", []string{"text", text, "operation", "analyze", "attempt", "gallery-attempt-1"}, []browsertest.Look{desk, dark(phone)}},
		{v, "credits", "/credits/", nil, []browsertest.Look{desk}},
		{v, "payments", "/billing/payments", nil, []browsertest.Look{phone}},
		{staff, "back-office", "/admin/", nil, []browsertest.Look{desk, dark(desk)}},
		{staff, "back-office-user", user, nil, []browsertest.Look{desk}},
	} {
		b.Be(s.base, nil)
		if p.who != nil {
			b.Be(s.base, p.who.client.Jar.Cookies(here))
		}
		b.Visit(s.base + "/about") // a page to send the form from
		open(b, s.base, stop{path: p.path, form: p.form})
		for _, look := range p.looks {
			b.Look(look)
			name := fmt.Sprintf("%s-%s.webp", p.name, look)
			picture := b.Picture()
			assert.LessOrEqual(t, len(picture), maxPicture, name)
			b.Keep("gallery-"+name, picture)
			if *update {
				require.NoError(t, os.WriteFile(filepath.Join("..", "..", "docs", "images", "gallery", name), picture, 0o600))
			}
		}
	}
	b.CheckConsole()
}
