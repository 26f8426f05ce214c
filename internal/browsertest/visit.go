package browsertest

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Be makes the browser one that holds these cookies at the address, and no others.
func (b *Browser) Be(address string, cookies []*http.Cookie) {
	b.tb.Helper()
	params := make([]*network.CookieParam, 0, len(cookies))
	for _, c := range cookies {
		params = append(params, &network.CookieParam{Name: c.Name, Value: c.Value, URL: address, HTTPOnly: true})
	}
	read(b, "change the cookies", func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
		if _, err := cdp.Call(ctx, t, network.ClearBrowserCookies, cdp.Empty{}); err != nil || len(params) == 0 {
			return cdp.Empty{}, err
		}
		return cdp.Call(ctx, t, network.SetCookies, network.SetCookiesParams{Cookies: params})
	})
}

// Answer is the answer of a page's document.
type Answer struct {
	Status int
	Header http.Header
}

// Visit opens an address and returns its answer.
func (b *Browser) Visit(address string) Answer {
	b.tb.Helper()
	return answerOf(read(b, "open "+address, chromedp.NavigateResponse(address)))
}

// Post sends a form from the page to a path of its site as a browser without scripts would, and returns the answer.
// The names and values come in turn.
func (b *Browser) Post(path string, fields ...string) Answer {
	b.tb.Helper()
	args, err := json.Marshal(append([]string{path}, fields...))
	if err != nil {
		b.tb.Fatal(err)
	}
	send := chromedp.Evaluate[chromedp.Void](`((path, ...fields) => {
		const form = document.createElement("form");
		form.method = "post";
		form.action = path;
		for (let i = 0; i < fields.length; i += 2) {
			const input = document.createElement("input");
			[input.type, input.name, input.value] = ["hidden", fields[i], fields[i + 1]];
			form.append(input);
		}
		document.body.append(form);
		form.submit();
	})(...` + string(args) + `)`)
	return answerOf(read(b, "send a form to "+path, follow(send)))
}

func answerOf(r *network.Response) Answer {
	a := Answer{Status: int(r.Status), Header: http.Header{}}
	for name, value := range r.Headers {
		if text, ok := any(value).(string); ok {
			a.Header.Set(name, text)
		}
	}
	return a
}

// Back goes one page back, as the browser's button does.
func (b *Browser) Back() {
	b.tb.Helper()
	b.run("go back", chromedp.NavigateBack())
}

// Reload loads the page again, as the browser's button does.
func (b *Browser) Reload() {
	b.tb.Helper()
	b.run("load again", chromedp.Reload())
}

// Foreign returns the addresses that were asked for since the last call and do not begin with base.
func (b *Browser) Foreign(base string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	asked := b.asked
	b.asked = nil
	return slices.DeleteFunc(asked, func(address string) bool {
		return strings.HasPrefix(address, base) || strings.HasPrefix(address, "data:") || strings.HasPrefix(address, "about:")
	})
}

// Capture keeps a picture of the whole page as it is looked at, under its name in the artefact folder.
func (b *Browser) Capture(name string) {
	b.tb.Helper()
	b.Keep(name+".jpg", read(b, "take a picture of "+name, chromedp.FullScreenshot(pictureQuality)))
}

// Picture is what the window shows, as WebP.
func (b *Browser) Picture() []byte {
	b.tb.Helper()
	quality := int64(pictureQuality)
	return read(b, "take a picture", func(ctx context.Context, t *chromedp.Target) ([]byte, error) {
		taken, err := cdp.Call(ctx, t, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatWebp, Quality: &quality})
		return taken.Data, err
	})
}

// Keep writes a file into the artefact folder.
func (b *Browser) Keep(name string, content []byte) {
	b.tb.Helper()
	if err := os.WriteFile(filepath.Join(artifacts(b.tb), name), content, 0o600); err != nil {
		b.tb.Fatal(err)
	}
}

// pictureQuality keeps hundreds of pictures small and quickly made.
const pictureQuality = 70

// Block has requests fail whose address fits the pattern, such as *://*:*/auth/signup; "" lets all through again.
func (b *Browser) Block(pattern string) {
	b.tb.Helper()
	var patterns []*network.BlockPattern
	if pattern != "" {
		patterns = append(patterns, &network.BlockPattern{URLPattern: pattern, Block: true})
	}
	read(b, "block "+pattern, func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
		return cdp.Call(ctx, t, network.SetBlockedURLs, network.SetBlockedURLsParams{URLPatterns: patterns})
	})
}
