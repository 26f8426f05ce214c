package main

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/browsertest"
)

// marked tells that the page is the document that was marked, and not a new one.
const mark, marked = `(window.marked = true)`, `window.marked === true`

// Forms are answered in place: the fault is told where it is and has the focus, a result and the balance appear without
// another page, and neither loading again nor going back sends anything twice.
func TestBrowser_FormsAnswerInPlace(t *testing.T) {
	t.Parallel()
	s := serveSite(t)
	u, v := s.person(t, "grace@example.com", "Grace", "user")
	_, err := s.app.Credits.Grant(t.Context(), credits.GrantParams{Account: u.ID, Amount: 100 * credits.Credit, Source: credits.Bonus, Reason: "test"})
	require.NoError(t, err)
	here, err := url.Parse(s.base)
	require.NoError(t, err)
	b := browsertest.Open(t)
	b.Expect("status of 422")
	b.Expect("status of 401")
	is := func(expression, why string) {
		t.Helper()
		require.Eventually(t, func() bool { return browsertest.Evaluate[bool](b, expression) }, 30*time.Second, 20*time.Millisecond, why)
	}

	// A fault: in place, announced with its field, the focus on the first one, and what was typed is kept.
	b.Go(s.base + "/auth/signup")
	browsertest.Evaluate[bool](b, mark)
	b.Type("#f-email", "ada@example.com")
	b.Type("#f-password", "password1")
	b.Press("main form button.is-primary")
	is(`document.activeElement.id === "f-password" && document.activeElement.getAttribute("aria-invalid") === "true"`, "the focus is on the field at fault")
	assert.True(t, browsertest.Evaluate[bool](b, marked), "in place")
	assert.Equal(t, "ada@example.com", browsertest.Evaluate[string](b, `document.querySelector("#f-email").value`))
	node := find(t, b.Tree(), "textbox", "Password")
	assert.Contains(t, node.Description, "one of the first that attackers try", "the sentence about the fault describes the field")
	assert.NotEqual(t, "false", node.Properties["invalid"])
	find(t, b.Tree(), "alert", "")
	assert.Equal(t, s.base+"/auth/signup", b.Location())
	// Mended, it goes on, and the page that follows is in place too: its message has the focus.
	b.Type("#f-password", password)
	b.Press("main form button.is-primary")
	b.See("Check your mail")
	assert.True(t, browsertest.Evaluate[bool](b, marked), "in place")
	is(`["status", "alert"].includes(document.activeElement.getAttribute("role")) || document.activeElement.tagName === "H1"`, "the focus is on the message")
	assert.Contains(t, browsertest.Evaluate[string](b, `document.title`), "Check your mail")
	b.Reload()
	b.See("Sign up")
	assert.Equal(t, 1, b.Count("#f-email"), "loading again shows the form and sends nothing")

	// A service runs once however often its button is pressed, and the balance in the header is that after it.
	b.Be(s.base, v.client.Jar.Cookies(here))
	b.Go(s.base + "/services/text-analysis")
	browsertest.Evaluate[bool](b, mark)
	b.Type(`textarea[name="text"]`, text)
	b.Choose(`select[name="operation"]`, "analyze")
	assert.True(t, browsertest.Evaluate[bool](b, `(() => {
		const button = document.querySelector("main form button");
		for (let i = 0; i < 3; i++) button.form.requestSubmit(button);
		return true;
	})()`))
	is(`document.querySelector("#cost") !== null`, "the result is there")
	assert.True(t, browsertest.Evaluate[bool](b, marked), "in place")
	assert.Equal(t, "98 credits", b.Text("#balance"), "live, in the header")
	assert.Equal(t, "98", v.balance(), "charged once")
	find(t, b.Tree(), "status", "")
	assert.Equal(t, 0, b.Count("main button[disabled]"), "the button can be pressed again")
	b.Reload()
	assert.Equal(t, 0, b.Count("#cost"), "loading again runs nothing")
	assert.Equal(t, "98", v.balance())

	// After a form that leads on, going back and loading again show pages and send nothing.
	b.Go(s.base + "/account/profile")
	b.Type("#f-name", "Grace Hopper")
	b.Click(`form[action$="/account/profile"] button`)
	b.See("Grace Hopper")
	find(t, b.Tree(), "status", "")
	b.Reload()
	assert.Equal(t, 0, b.Count("main .notification"), "the message is shown once")
	b.Back()
	b.See("Text analysis")
	assert.Equal(t, "98", v.balance())

	// While the answer is on its way the button says so and cannot be pressed; where it leads elsewhere, until it is there.
	b.Go(s.base + "/account/api-keys")
	b.Type("#f-name", "laptop")
	assert.True(t, browsertest.Evaluate[bool](b, `(() => {
		const button = document.querySelector("main form button");
		button.click();
		setTimeout(() => { window.waited = button.disabled && button.getAttribute("aria-busy") === "true"; }, 0);
		return true;
	})()`))
	b.See("Copy it now")
	assert.True(t, browsertest.Evaluate[bool](b, `window.waited`), "the button waited")
	b.CheckConsole()
}

// What is no page of ours does not take the content's place, and nothing that was typed is lost.
func TestBrowser_NoAnswerKeepsWhatWasTyped(t *testing.T) {
	t.Parallel()
	s := serveSite(t)
	b := browsertest.Open(t)
	b.Expect("ERR_BLOCKED_BY_CLIENT")
	b.Go(s.base + "/auth/signup")
	b.Type("#f-email", "ada@example.com")
	b.Type("#f-password", password)
	b.Block("*://*:*/auth/signup")
	b.Press("main form button.is-primary")
	b.See("There was no answer")
	assert.Equal(t, "ada@example.com", browsertest.Evaluate[string](b, `document.querySelector("#f-email").value`))
	assert.Equal(t, 0, b.Count("main button[disabled]"), "it can be sent again")
	b.Block("")
	b.Press("main form button.is-primary")
	b.See("Check your mail")
	// A text becomes markup by our policy only, which lets nothing through that runs.
	for _, markup := range []string{`<img src=x onerror=\"1\">`, `<script>1</script>`, `<a href=\" javascript:1\">x</a>`, `<iframe srcdoc=\"x\"></iframe>`} {
		assert.True(t, browsertest.Evaluate[bool](b, `(() => { try { document.createElement("div").innerHTML = "`+markup+`"; return false; } catch { return true; } })()`), markup)
	}
	assert.True(t, browsertest.Evaluate[bool](b, `(() => { try { document.createElement("script").text = "1"; return false; } catch { return true; } })()`), "no script is made of a text")
	assert.True(t, browsertest.Evaluate[bool](b, `(() => { try { trustedTypes.createPolicy("other", {}); return false; } catch { return true; } })()`), "no other policy is made")
}

// find is the first node of a role whose name begins so.
func find(t *testing.T, tree []browsertest.Node, role, name string) browsertest.Node {
	t.Helper()
	for _, n := range tree {
		if n.Role == role && len(n.Name) >= len(name) && n.Name[:len(name)] == name {
			return n
		}
	}
	t.Errorf("assistive software is told of no %s %q", role, name)
	return browsertest.Node{}
}
