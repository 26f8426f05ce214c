package browsertest

import "github.com/chromedp/chromedp"

// Phone makes the window as wide as a phone, until the next screenshot.
func (b *Browser) Phone() {
	b.tb.Helper()
	b.run("make the window a phone's", chromedp.EmulateViewport(phoneWidth, height))
}
