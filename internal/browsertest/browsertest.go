// Package browsertest drives headless Chromium in tests: it clicks and types as a person does, takes screenshots into
// an artefact folder, and fails the test when a page breaks its Content-Security-Policy or throws in a script.
package browsertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// ArtifactsVariable names the folder for screenshots. Empty: artifacts at the top of the repository.
const ArtifactsVariable = "QUICKSCALE_ARTIFACTS"

// How long one step may take, and the widths at which pages are looked at: a desk and a phone.
const (
	stepTimeout = 30 * time.Second
	deskWidth   = 1280
	phoneWidth  = 390
	height      = 900
)

// Browser is a window of its own, with cookies of its own.
type Browser struct {
	tb  testing.TB
	ctx context.Context //nolint:containedctx // chromedp keeps the browser in it

	mu     sync.Mutex
	faults []string
	// expected are parts of console messages that a test provokes on purpose.
	expected []string
	// asked are the addresses of all requests since the last call of Foreign.
	asked []string
}

// Open starts Chromium. Where there is none the test fails in CI and is skipped, with a message, elsewhere.
func Open(tb testing.TB) *Browser {
	tb.Helper()
	program, err := Find()
	if err != nil {
		if os.Getenv("CI") != "" {
			tb.Fatal(err)
		}
		tb.Skip(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.UserDataDir(tb.TempDir()), chromedp.WindowSize(deskWidth, height),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.DisableGPU)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox does not run as root
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	b := &Browser{tb: tb}
	ctx, closeBrowser := chromedp.NewContext(allocator, chromedp.WithListener(b.listen))
	b.ctx = ctx
	tb.Cleanup(func() {
		err := chromedp.Cancel(ctx) // waits for the process, which may still write into its folder
		closeBrowser()
		stop()
		if err != nil {
			tb.Errorf("browsertest: close Chromium: %v", err)
		}
	})
	enable := chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, log.Enable, cdp.Empty{})
		return err
	})
	if err := chromedp.Do(ctx, enable); err != nil {
		tb.Fatalf("browsertest: start %s: %v", program, err)
	}
	return b
}

// Find is the Chromium on PATH.
func Find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if program, err := exec.LookPath(name); err == nil {
			return program, nil
		}
	}
	return "", errors.New("browsertest: no Chromium on PATH; install it (Debian: apt-get install chromium) to run this test")
}

// Expect tells that a part of a console message is provoked on purpose, such as the status of a refusal.
func (b *Browser) Expect(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, part)
}

// listen gathers what the console complains about: broken policies, missing files, scripts that throw.
func (b *Browser) listen(event any) {
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			b.fault(e.Entry.Text + " " + e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		b.fault(text)
	case *network.EventRequestWillBeSent:
		b.mu.Lock()
		defer b.mu.Unlock()
		b.asked = append(b.asked, e.Request.URL)
	}
}

func (b *Browser) fault(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, part := range b.expected {
		if strings.Contains(text, part) {
			return
		}
	}
	b.faults = append(b.faults, text)
}

// CheckConsole fails the test for each complaint since the last call.
func (b *Browser) CheckConsole() {
	b.tb.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.faults {
		b.tb.Errorf("browsertest: the console says: %s", f)
	}
	b.faults = nil
}

// run takes steps, all within the time of one.
func (b *Browser) run(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.tb.Helper()
	read(b, what, chromedp.Steps(steps...))
}

// read takes a step and returns what it found.
func read[T any](b *Browser, what string, step chromedp.Action[T]) T {
	b.tb.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	value, err := chromedp.Run(ctx, step)
	if err != nil {
		b.tb.Fatalf("browsertest: %s: %v\n%s", what, err, b.describe())
	}
	return value
}

// describe is where the browser is and what it shows, as far as it can tell.
func (b *Browser) describe() string {
	ctx, cancel := context.WithTimeout(b.ctx, time.Second)
	defer cancel()
	where, _ := chromedp.Run(ctx, chromedp.Location())
	body, _ := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
	return "at " + where + ":\n" + body
}

// Go opens an address.
func (b *Browser) Go(address string) {
	b.tb.Helper()
	b.run("open "+address, chromedp.Navigate(address))
}

// Type writes over what the field holds that the CSS selector names.
func (b *Browser) Type(selector, text string) {
	b.tb.Helper()
	field := chromedp.CSS(selector)
	b.run("find "+selector, chromedp.WaitVisible(field))
	read(b, "select all of "+selector, chromedp.Evaluate[bool](fmt.Sprintf(`document.querySelector(%q).select() === undefined`, selector)))
	b.run("type into "+selector, chromedp.SendKeys(field, text))
}

// Choose selects an option by its value.
func (b *Browser) Choose(selector, value string) {
	b.tb.Helper()
	field := chromedp.CSS(selector)
	b.run("choose "+value+" in "+selector, chromedp.WaitVisible(field), chromedp.SetValue(field, value))
}

// Click presses what the CSS selector names and waits for the page that follows, or for the content that takes the old
// one's place.
func (b *Browser) Click(selector string) {
	b.tb.Helper()
	read(b, "click "+selector, answered(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible)))
}

// Press clicks what leads to no other page, such as a box to tick.
func (b *Browser) Press(selector string) {
	b.tb.Helper()
	b.run("press "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// ClickText presses the link or button of the content whose text begins so, and waits for the page that follows.
func (b *Browser) ClickText(text string) {
	b.tb.Helper()
	path := fmt.Sprintf(`//main//*[self::a or self::button][starts-with(normalize-space(.), %q)]`, text)
	read(b, "click "+text, answered(chromedp.Click(chromedp.Search(path), chromedp.NodeVisible)))
}

// follow takes a step that leads to another page and waits until that is loaded.
func follow(step chromedp.Action[chromedp.Void]) chromedp.Action[*network.Response] {
	return func(ctx context.Context, _ *chromedp.Target) (*network.Response, error) {
		return chromedp.RunResponse(ctx, step)
	}
}

// answered takes a step and waits until it is answered: by another page, which does not know the mark, or in place, when
// HTMX has settled what came.
func answered(step chromedp.Action[chromedp.Void]) chromedp.Action[chromedp.Void] {
	mark := chromedp.Evaluate[bool](`(() => {
		document.marked = true;
		document.settled = false;
		document.addEventListener("htmx:afterSettle", (e) => { if (e.detail.boosted) document.settled = true; });
		return true;
	})()`)
	done := chromedp.Evaluate[bool](`document.marked ? document.settled === true : document.readyState === "complete" && location.href !== "about:blank"`)
	return func(ctx context.Context, t *chromedp.Target) (v chromedp.Void, err error) {
		if _, err := mark(ctx, t); err != nil {
			return v, err
		}
		if _, err := step(ctx, t); err != nil {
			return v, err
		}
		return v, poll(ctx, t, done)
	}
}

// poll waits until a condition holds. An error of it means that the page is being replaced.
func poll(ctx context.Context, t *chromedp.Target, holds chromedp.Action[bool]) error {
	for {
		if ok, err := holds(ctx, t); err == nil && ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

// pollInterval is how often See looks.
const pollInterval = 20 * time.Millisecond

// See waits until the page shows a text.
func (b *Browser) See(text string) {
	b.tb.Helper()
	// Evaluated by the debugger, which the page's policy does not bind, unlike a script that polls inside the page.
	shows := chromedp.Evaluate[bool](fmt.Sprintf(`document.body !== null && document.body.innerText.includes(%q)`, text))
	read(b, fmt.Sprintf("see %q", text), func(ctx context.Context, t *chromedp.Target) (bool, error) {
		return true, poll(ctx, t, shows)
	})
}

// Text is what an element shows.
func (b *Browser) Text(selector string) string {
	b.tb.Helper()
	return strings.TrimSpace(read(b, "read "+selector, chromedp.Text(chromedp.CSS(selector))))
}

// Count is how many elements the CSS selector names.
func (b *Browser) Count(selector string) int {
	b.tb.Helper()
	return read(b, "count "+selector, chromedp.Evaluate[int](fmt.Sprintf(`document.querySelectorAll(%q).length`, selector)))
}

// Location is the page's address.
func (b *Browser) Location() string {
	b.tb.Helper()
	return read(b, "where are we", chromedp.Location())
}

// Screenshot keeps the whole page as name-1280.png and name-390.png, and fails the test when the page is wider than
// its window.
func (b *Browser) Screenshot(name string) {
	b.tb.Helper()
	dir := artifacts(b.tb)
	for _, width := range []int64{phoneWidth, deskWidth} {
		b.run("resize the window", chromedp.EmulateViewport(width, height))
		overflow := read(b, "measure", chromedp.Evaluate[int64](`document.documentElement.scrollWidth - document.documentElement.clientWidth`))
		if overflow > 0 {
			b.tb.Errorf("browsertest: %s is %d pixels wider than a window of %d", name, overflow, width)
		}
		picture := read(b, "take a picture of "+name, chromedp.FullScreenshot(100))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d.png", name, width)), picture, 0o600); err != nil {
			b.tb.Fatal(err)
		}
	}
}

// top is the top of the repository.
var top = sync.OnceValues(func() (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output() //nolint:noctx // once for all tests
	return strings.TrimSpace(string(root)), err
})

// artifacts is the folder for screenshots.
func artifacts(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv(ArtifactsVariable)
	if dir == "" {
		root, err := top()
		if err != nil {
			tb.Fatalf("browsertest: find the top of the repository: %v", err)
		}
		dir = filepath.Join(root, "artifacts")
	}
	if err := os.MkdirAll(dir, 0o750); err != nil { //nolint:gosec // the folder is the developer's choice
		tb.Fatal(err)
	}
	return dir
}
