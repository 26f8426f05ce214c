package main

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/browsertest"
)

// typist uses the browser by keyboard alone.
type typist struct {
	*browsertest.Browser

	t *testing.T
}

// tabTo presses Tab until what has the focus has this id, or is named so, and expects to see the focus at every step.
func (k typist) tabTo(what string) {
	k.t.Helper()
	const most = 80
	var passed []string
	for range most {
		k.Key(browsertest.Tab)
		f := k.Focus()
		if f.Tag == "BODY" {
			continue // the end of the page; the next Tab begins it again
		}
		assert.True(k.t, f.Visible, "the focus is not to be seen on %s #%s %q at %s", f.Tag, f.ID, f.Text, k.Location())
		if f.ID == what || strings.HasPrefix(f.Text, what) {
			return
		}
		passed = append(passed, f.Tag+"#"+f.ID+" "+f.Text)
	}
	k.t.Fatalf("%q is not reached by Tab at %s: %s", what, k.Location(), strings.Join(passed, ", "))
}

// fill types into the field that Tab comes to.
func (k typist) fill(id, text string) {
	k.t.Helper()
	k.tabTo(id)
	k.Key(text)
}

// signIn gives the browser the session of a visitor.
func (k typist) signIn(s *site, v *visitor) {
	k.t.Helper()
	here, err := url.Parse(s.base)
	require.NoError(k.t, err)
	k.Be(s.base, v.client.Jar.Cookies(here))
}

// leaves expects that Tab goes through the page and out of it again, in the order of the page.
func (k typist) leaves(page string) {
	k.t.Helper()
	assert.Equal(k.t, 0, k.Count(`[tabindex]:not([tabindex="0"], [tabindex="-1"])`), "%s changes the order of Tab", page)
	const most = 400
	for range most {
		k.Key(browsertest.Tab)
		if browsertest.Evaluate[bool](k.Browser, `document.activeElement === document.body`) {
			return
		}
	}
	k.t.Errorf("%s keeps the focus", page)
}

// From signing up to a key for programs, without a mouse.
func TestBrowser_KeyboardAlone(t *testing.T) {
	t.Parallel()
	s := serveSite(t)
	k := typist{browsertest.Open(t), t}
	k.Look(browsertest.Look{Width: 1280})
	k.Go(s.base + "/")

	// The first stop leads past the navigation.
	k.Key(browsertest.Tab)
	f := k.Focus()
	assert.Equal(t, "Skip to the content", f.Text)
	assert.True(t, f.Visible)
	k.Key(browsertest.Enter)
	assert.Equal(t, "main", browsertest.Evaluate[string](k.Browser, `document.activeElement.id`))
	k.tabTo("Sign up")
	k.KeyLeads(browsertest.Enter)

	k.fill("f-email", "grace@example.com")
	k.fill("f-password", "short")
	k.Key(browsertest.Tab)
	assert.Equal(t, "f-name", k.Focus().ID, "the fields follow each other")
	k.tabTo("Sign up")
	// The browser itself refuses what is too short, and says so at the field.
	k.Key(browsertest.Enter)
	assert.Equal(t, "f-password", browsertest.Evaluate[string](k.Browser, `document.activeElement.id`))
	k.Key(" but then some more words")
	k.Expect("status of 4")
	k.KeyLeads(browsertest.Enter)
	k.See("Check your mail")
	link := visit(t, s.process).mailTo("grace@example.com", "(?i)confirm")[0]
	k.Go(link)
	k.tabTo("Confirm my address")
	k.KeyLeads(browsertest.Enter)
	if strings.Contains(k.Location(), "/auth/login") {
		k.fill("f-email", "grace@example.com")
		k.fill("f-password", "short but then some more words")
		k.tabTo("Log in")
		k.KeyLeads(browsertest.Enter)
	}
	k.See("0 credits")

	// To log out and in again.
	k.tabTo("Log out")
	k.KeyLeads(browsertest.Enter)
	k.See("You are logged out")
	k.fill("f-email", "grace@example.com")
	k.fill("f-password", "short but then some more words")
	k.tabTo("Keep me logged in")
	k.Key(browsertest.Space)
	assert.True(t, browsertest.Evaluate[bool](k.Browser, `document.activeElement.checked`))
	k.tabTo("Log in")
	k.KeyLeads(browsertest.Enter)
	k.See("0 credits")

	k.tabTo("Pricing")
	k.KeyLeads(browsertest.Enter)
	k.See("Credit packs")
	k.tabTo("Buy Starter")
	k.KeyLeads(browsertest.Enter)
	k.See("Pay with card")
	for _, field := range [][2]string{{"email", ""}, {"number", "4242424242424242"}, {"expiry", "12/40"}, {"cvc", "123"}, {"name", "Grace Hopper"}} {
		k.fill(field[0], field[1])
	}
	k.tabTo("pay")
	k.KeyLeads(browsertest.Enter)
	k.See("Thank you")

	k.tabTo("Services")
	k.KeyLeads(browsertest.Enter)
	k.tabTo("Use Text analysis")
	k.KeyLeads(browsertest.Enter)
	k.fill("f-text", text)
	k.fill("f-operation", browsertest.Down+browsertest.Down+browsertest.Down)
	k.tabTo("Run")
	k.KeyLeads(browsertest.Enter)
	k.See("This cost 2 credits")
	// The focus is on the result, and goes on from there.
	assert.Equal(t, "status", browsertest.Evaluate[string](k.Browser, `document.activeElement.getAttribute("role")`))
	k.tabTo("f-text")

	k.tabTo("Account")
	k.KeyLeads(browsertest.Enter)
	k.tabTo("API keys")
	k.KeyLeads(browsertest.Enter)
	k.fill("f-name", "laptop")
	k.tabTo("Create the key")
	k.KeyLeads(browsertest.Enter)
	k.See("Copy it now")
	k.CheckConsole()
}

// No page keeps the focus, the menu of a phone opens and closes by keys, and who wants less motion sees none.
func TestBrowser_KeyboardIsNeverTrapped(t *testing.T) {
	t.Parallel()
	s := serveSite(t)
	_, v := s.person(t, "grace@example.com", "Grace", "admin")
	k := typist{browsertest.Open(t), t}
	k.signIn(s, v)
	for _, path := range []string{"/", "/account/", "/account/security", "/account/webhooks/", "/billing/", "/services/text-analysis", "/api/v1/docs", "/admin/", "/admin/audit", "/dev/mail/"} {
		k.Go(s.base + path)
		k.leaves(path)
	}

	k.Look(browsertest.Look{Width: 390})
	k.Go(s.base + "/")
	assert.False(t, browsertest.Evaluate[bool](k.Browser, `document.getElementById("menu").checkVisibility()`), "the menu is closed")
	k.tabTo("Menu")
	k.Key(browsertest.Enter)
	assert.True(t, browsertest.Evaluate[bool](k.Browser, `document.getElementById("menu").checkVisibility()`))
	assert.Equal(t, "true", find(t, k.Tree(), "button", "Menu").Properties["expanded"])
	k.tabTo("Services")
	k.Key(browsertest.Escape)
	assert.False(t, browsertest.Evaluate[bool](k.Browser, `document.getElementById("menu").checkVisibility()`))
	assert.Equal(t, "Menu", k.Focus().Text, "the focus is where it came from")

	const moves = `[...document.querySelectorAll("*")].some((e) => { const s = getComputedStyle(e); return [s.transitionDuration, s.animationDuration].join(",").split(",").some((d) => parseFloat(d) > 0.001); })`
	k.Look(browsertest.Look{Width: 1280})
	require.True(t, browsertest.Evaluate[bool](k.Browser, moves), "something moves")
	k.Look(browsertest.Look{Width: 1280, Still: true})
	assert.False(t, browsertest.Evaluate[bool](k.Browser, moves))
	k.CheckConsole()
}

// What assistive software is told of the pages that matter most.
func TestBrowser_AssistiveSoftwareIsToldWhatIsWhat(t *testing.T) {
	t.Parallel()
	s := serveSite(t)
	_, v := s.person(t, "grace@example.com", "Grace", "user")
	k := typist{browsertest.Open(t), t}
	type told struct{ role, name string }
	expect := func(path string, nodes ...told) []browsertest.Node {
		t.Helper()
		k.Go(s.base + path)
		tree := k.Tree()
		for _, landmark := range []told{{"banner", ""}, {"navigation", "Main"}, {"main", ""}, {"contentinfo", ""}} {
			find(t, tree, landmark.role, landmark.name)
		}
		for _, n := range nodes {
			find(t, tree, n.role, n.name)
		}
		for _, n := range tree {
			switch n.Role {
			case "textbox", "button", "link", "combobox", "checkbox", "searchbox", "image", "region":
				assert.NotEmpty(t, n.Name, "a %s of %s has no name", n.Role, path)
			}
		}
		return tree
	}
	tree := expect("/auth/signup", told{"heading", "Sign up"}, told{"textbox", "E-mail"}, told{"textbox", "Password"}, told{"button", "Sign up"}, told{"status", ""})
	email := find(t, tree, "textbox", "E-mail")
	assert.Equal(t, "true", email.Properties["required"])
	assert.Contains(t, email.Description, "We send a link", "the hint describes the field")
	expect("/auth/login", told{"textbox", "E-mail"}, told{"textbox", "Password"}, told{"checkbox", "Keep me logged in"}, told{"button", "Log in"})
	k.signIn(s, v)
	expect("/account/", told{"navigation", "Account"}, told{"heading", "Hello, Grace"}, told{"region", "Credits"}, told{"link", "0 credits"})
	expect("/services/text-analysis", told{"textbox", "Text"}, told{"combobox", "Operation"}, told{"button", "Run"})
	expect("/billing/", told{"article", "Starter"}, told{"button", "Buy Starter"}, told{"region", "Plans"})
	assert.Equal(t, "polite", browsertest.Evaluate[string](k.Browser, `document.getElementById("balance").closest("[aria-live]").getAttribute("aria-live")`), "the balance is told when it changes")
	k.CheckConsole()
}
