package browsertest

import (
	"context"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// WithoutScripts has pages that are opened from now on run none, as in a browser of somebody who turned them off.
func (b *Browser) WithoutScripts() {
	b.tb.Helper()
	read(b, "turn scripts off", func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
		return cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	})
}
