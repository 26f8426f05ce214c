package browsertest

import (
	"github.com/chromedp/chromedp"
)

// Keys for [Browser.Key].
const (
	Tab    = "\t"
	Enter  = "\r"
	Space  = " "
	Escape = "\u001b"
	Down   = "\u0301"
)

// Key presses keys one after the other, wherever the focus is.
func (b *Browser) Key(keys string) {
	b.tb.Helper()
	b.run("press a key", chromedp.KeyEvent(keys))
}

// KeyLeads presses a key that leads to another page or content, and waits for that.
func (b *Browser) KeyLeads(key string) {
	b.tb.Helper()
	read(b, "press a key that leads on", answered(chromedp.KeyEvent(key)))
}

// Focus is what has the focus.
type Focus struct {
	// Tag, ID and Text name the element; Text is its label, or what it shows.
	Tag, ID, Text string
	// Visible says that it has a ring around it and is inside the window.
	Visible bool
}

// focusScript reads the active element. A ring is an outline, or a shadow as Bulma's fields have.
const focusScript = `(() => {
  const e = document.activeElement;
  if (!e || e === document.body) return {Tag: "BODY", ID: "", Text: "", Visible: false};
  for (const a of document.getAnimations()) a.finish();
  const s = getComputedStyle(e);
  const ringed = (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 1) || s.boxShadow !== "none";
  const box = e.getBoundingClientRect();
  const seen = box.width > 0 && box.height > 0 && box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight;
  const label = e.labels && e.labels.length ? e.labels[0].innerText : e.getAttribute("aria-label") || e.innerText || "";
  return {Tag: e.tagName, ID: e.id, Text: label.trim().replace(/\s+/g, " "), Visible: seen && ringed};
})()`

// Focus tells what has the focus, and whether one sees it.
func (b *Browser) Focus() Focus {
	b.tb.Helper()
	return Evaluate[Focus](b, focusScript)
}
