package browsertest

import (
	"context"
	_ "embed" // the rules
	"fmt"
	"strings"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// axe is Deque's axe-core. The debugger runs it, so that the page's policy stays as it is.
//
//go:embed testdata/axe-core-4.14.1/axe.min.js
var axe string

// axeRun makes of axe-core's violations a text each: the rule, the element and why.
const axeRun = `axe.run(document, %s).then((r) => r.violations.flatMap((v) => v.nodes.map((n) =>
  v.id + " at " + n.target.join(" ") + ": " + n.html.slice(0, 200) + " (" + n.failureSummary.replace(/\s+/g, " ") + ")")))`

// What is asked of it: all that WCAG 2.2 demands at the levels A and AA, or of that what a change of colours can change.
const (
	axeAll = `{runOnly: {type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]},
  rules: {"target-size": {enabled: true}}, resultTypes: ["violations"]}`
	axeColours = `{runOnly: {type: "rule", values: ["color-contrast", "link-in-text-block"]}, resultTypes: ["violations"]}`
)

// Audit returns what of the page breaks WCAG 2.2 at the levels A and AA, as far as axe-core can tell.
func (b *Browser) Audit() []string {
	b.tb.Helper()
	return b.audit(axeAll)
}

// AuditColours is Audit for a page that was audited and has only changed its colours since.
func (b *Browser) AuditColours() []string {
	b.tb.Helper()
	return b.audit(axeColours)
}

func (b *Browser) audit(what string) []string {
	b.tb.Helper()
	if !Evaluate[bool](b, `typeof axe === "object"`) {
		read(b, "load axe-core", chromedp.Evaluate[chromedp.Void](axe+";undefined"))
	}
	return read(b, "audit", chromedp.Evaluate[[]string](fmt.Sprintf(axeRun, what), chromedp.EvalAwaitPromise))
}

// Look is how a page is looked at.
type Look struct {
	// Width is that of the window in CSS pixels.
	Width int64
	// Dark says that the person prefers dark colours.
	Dark bool
	// Still says that the person prefers less motion.
	Still bool
}

// String names the look for files and messages, such as 390-dark.
func (l Look) String() string {
	if l.Dark {
		return fmt.Sprintf("%d-dark", l.Width)
	}
	return fmt.Sprintf("%d-light", l.Width)
}

// Looks are those in which pages are judged: on a phone and at a desk, light and dark.
func Looks() []Look {
	return []Look{{Width: phoneWidth}, {Width: phoneWidth, Dark: true}, {Width: deskWidth, Dark: true}, {Width: deskWidth}}
}

// Look resizes the window and sets what the person prefers; the page stays.
func (b *Browser) Look(l Look) {
	b.tb.Helper()
	scheme, motion := "light", "no-preference"
	if l.Dark {
		scheme = "dark"
	}
	if l.Still {
		motion = "reduce"
	}
	b.run("resize the window", chromedp.EmulateViewport(l.Width, height))
	read(b, "set what the person prefers", func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
		return cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: motion},
		}})
	})
	// Colours that change slowly would be judged half-way; two frames later they are those of the look.
	read(b, "wait for the colours", chromedp.Evaluate[bool](`(async () => {
		for (const a of document.getAnimations()) a.finish();
		await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
		return true;
	})()`, chromedp.EvalAwaitPromise))
}

// Overflow is by how many pixels the page is wider than its window, and what sticks out.
func (b *Browser) Overflow() (pixels int64, what string) {
	b.tb.Helper()
	pixels = Evaluate[int64](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`)
	if pixels <= 0 {
		return 0, ""
	}
	return pixels, strings.Join(Evaluate[[]string](b, `[...document.querySelectorAll("body *")]
		.filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5 && !e.closest(".qs-table, .tabs, pre"))
		.slice(0, 3).map((e) => e.outerHTML.slice(0, 120))`), " | ")
}

// Evaluate returns the value of an expression, which the debugger computes.
func Evaluate[T any](b *Browser, expression string) T {
	b.tb.Helper()
	return read(b, "evaluate "+expression, chromedp.Evaluate[T](expression))
}
