package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/examples/services/textanalysis"
	"github.com/quickscale/quickscale/internal/browsertest"
	"github.com/quickscale/quickscale/services"
)

// The phone and the network of Lighthouse's default: a processor four times slower, 150 ms for a round trip and 1.6 Mbit/s.
const (
	phoneWidth, phoneHeight = 390, 844
	slowProcessor           = 4
	slowLatency             = 150 // milliseconds
	slowBytes               = 1_638_400 / 8
)

// quiet is how long after its load event a page is watched for what still moves or blocks.
const quiet = 1500 * time.Millisecond

// watch runs in each new document, before its own scripts, and gathers what the browser measures.
const watch = `window.vitals = {lcp: 0, cls: 0, tbt: 0};
new PerformanceObserver((l) => { for (const e of l.getEntries()) vitals.lcp = e.startTime; }).observe({type: "largest-contentful-paint", buffered: true});
new PerformanceObserver((l) => { for (const e of l.getEntries()) if (!e.hadRecentInput) vitals.cls += e.value; }).observe({type: "layout-shift", buffered: true});
new PerformanceObserver((l) => { for (const e of l.getEntries()) vitals.tbt += Math.max(0, e.duration - 50); }).observe({type: "longtask", buffered: true});`

// tell reads it, with the bytes that were transferred.
const tell = `({...vitals, bytes: [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")].reduce((n, e) => n + e.transferSize, 0)})`

// vitals are the figures of one load: milliseconds until the largest content is painted, the sum of layout shifts,
// milliseconds in which scripts block longer than 50, and bytes over the network.
type vitals struct {
	LCP   float64 `json:"lcp"`
	CLS   float64 `json:"cls"`
	TBT   float64 `json:"tbt"`
	Bytes float64 `json:"bytes"`
}

// benchPages measures pages in Chromium as a person with a phone has them who has never been here: nothing is kept from
// before.
func benchPages(ctx context.Context, o options, r *report) (err error) {
	base, session, stop, err := servePages(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	program, err := browsertest.Find()
	if err != nil {
		return err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.DisableGPU)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(ctx, options...)
	defer stopAllocator()
	browser, stopBrowser := chromedp.NewContext(allocator)
	defer stopBrowser()
	if _, err := chromedp.Run(browser, setUp(base, session)); err != nil {
		return err
	}
	for _, path := range []string{"/", "/billing/", "/auth/signup", "/account/", "/services/text-analysis"} {
		var lcp, cls, tbt, bytes []float64
		for range pick(o, 3, 9) {
			v, err := chromedp.Run(browser, load(base+path))
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			lcp, cls, tbt, bytes = append(lcp, v.LCP), append(cls, v.CLS), append(tbt, v.TBT), append(bytes, v.Bytes)
		}
		r.linef(path, "LCP %.0f ms, CLS %.3f, total blocking time %.0f ms, %.1f KiB", median(lcp), median(cls), median(tbt), median(bytes)/1024)
	}
	return nil
}

// setUp makes the browser a slow phone with a session and without a cache.
func setUp(base string, session []*http.Cookie) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		cookies := network.SetCookiesParams{}
		for _, c := range session {
			cookies.Cookies = append(cookies.Cookies, &network.CookieParam{Name: c.Name, Value: c.Value, URL: base, HTTPOnly: true})
		}
		_, err := cdp.Call(ctx, t, network.SetCookies, cookies)
		return errors.Join(err,
			ignore(cdp.Call(ctx, t, network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: true})),
			ignore(cdp.Call(ctx, t, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watch})),
			ignore(cdp.Call(ctx, t, emulation.SetCPUThrottlingRate, emulation.SetCPUThrottlingRateParams{Rate: slowProcessor})),
			ignore(cdp.Call(ctx, t, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: phoneWidth, Height: phoneHeight, DeviceScaleFactor: 2, Mobile: true})),
			ignore(cdp.Call(ctx, t, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
				MatchedNetworkConditions: []*network.Conditions{{Latency: slowLatency, DownloadThroughput: slowBytes, UploadThroughput: slowBytes}},
			})))
	})
}

// ignore drops the result of a call that has none to look at.
func ignore[T any](_ T, err error) error { return err }

// load opens an address, waits until it is quiet, and reads what was measured.
func load(address string) chromedp.Action[vitals] {
	return func(ctx context.Context, t *chromedp.Target) (v vitals, err error) {
		if _, err := chromedp.Navigate(address)(ctx, t); err != nil {
			return v, err
		}
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-time.After(quiet):
		}
		return chromedp.Evaluate[vitals](tell)(ctx, t)
	}
}

// servePages serves an application in development with something for sale, and returns the cookies of a person in it.
func servePages(ctx context.Context) (base string, session []*http.Cookie, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "pages")
	if err != nil {
		return "", nil, nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed by the server
	if err != nil {
		return "", nil, nil, err
	}
	pools, err := quickscale.Open(ctx, "sqlite:"+filepath.Join(dir, "pages.db"))
	if err != nil {
		return "", nil, nil, err
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	number, err := strconv.Atoi(port)
	if err != nil {
		return "", nil, nil, err
	}
	// By this name browsers take brotli as they do over https.
	base = fmt.Sprintf("http://localhost:%d", number)
	app, err := quickscale.New(quickscale.Config{DB: pools.DB, ReadDB: pools.ReadDB, Mode: quickscale.Development, BaseURL: base, Name: "Acme Text", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return "", nil, nil, err
	}
	if err := errors.Join(services.Register(app.Services, textanalysis.Service{}), app.Migrate(ctx)); err != nil {
		return "", nil, nil, err
	}
	const email, password = "grace@example.com", "correct horse battery"
	if _, err := app.Auth.CreateUser(ctx, auth.CreateUserParams{Email: email, Name: "Grace", Password: password, Verified: true}); err != nil {
		return "", nil, nil, err
	}
	in, err := app.Auth.LogIn(ctx, auth.LogInParams{Email: email, Password: password})
	if err != nil {
		return "", nil, nil, err
	}
	w := httptest.NewRecorder()
	app.Auth.SetSession(w, in)
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: app.Handler(), ReadHeaderTimeout: time.Minute}}
	server.Start()
	return base, w.Result().Cookies(), func() error {
		server.Close()
		return errors.Join(pools.Close(), os.RemoveAll(dir))
	}, nil
}
