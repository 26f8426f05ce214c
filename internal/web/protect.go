package web

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"unicode/utf8"

	"github.com/quickscale/quickscale/internal/problem"
)

var errCrossSite = problem.New(problem.CodeForbidden, "This request came from another site and was not carried out. Open the page here and try again.")

type protectedKey struct{}

// RequestID is the id under which Protect logs the request, or "" outside of it.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(protectedKey{}).(string)
	return id
}

// Protect wraps the handler of a package: security headers, refusal of state changes that another site asks for
// (net/http's CrossOriginProtection) and of addresses that are no text, recovery from panics, and a request id. Wrapping twice does the work once. It
// must not wrap webhooks, which other sites are meant to call.
func (s *Site) Protect(next http.Handler) http.Handler {
	csrf := http.NewCrossOriginProtection()
	headers := http.Header{}
	s.setHeaders(headers, s.policy())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.alone && strings.HasPrefix(r.URL.Path, s.cfg.AssetPath) {
			s.assets.ServeHTTP(w, r)
			return
		}
		if RequestID(r.Context()) != "" {
			next.ServeHTTP(w, r)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), protectedKey{}, rand.Text()))
		maps.Copy(w.Header(), headers) // setting or adding to one makes a new value, so that they can be shared
		w.Header().Set("X-Request-Id", RequestID(r.Context()))
		defer func() {
			switch cause := recover(); cause {
			case nil:
			case http.ErrAbortHandler:
				panic(cause)
			default:
				s.cfg.Logger.ErrorContext(r.Context(), "handler panicked", slog.String("stack", string(debug.Stack())))
				s.Fail(w, r, fmt.Errorf("panic: %v", cause))
			}
		}()
		if err := csrf.Check(r); err != nil {
			s.Fail(w, r, errCrossSite)
			return
		}
		if !isText(r.URL.Path) || !isTextQuery(r.URL.RawQuery) {
			s.Fail(w, r, ErrMalformed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isText tells that s can be kept in a database: valid UTF-8 without NUL, which PostgreSQL's text does not hold.
func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// isTextQuery is isText for a query as it stands in an address. What does not parse reads as absent.
func isTextQuery(raw string) bool {
	if raw == "" {
		return true
	}
	values, _ := url.ParseQuery(raw)
	for name, list := range values {
		if !isText(name) || !isText(strings.Join(list, "")) {
			return false
		}
	}
	return true
}

func (s *Site) policy() string {
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src 'self' data:",
		"font-src 'self'",
		"connect-src 'self'",
		"frame-src 'self'",
		"manifest-src 'self'",
		"form-action " + strings.Join(append([]string{"'self'"}, s.cfg.FormActions...), " "),
		"base-uri 'none'",
		"object-src 'none'",
		"frame-ancestors 'none'",
		// app.js has the policies, and tells what they let through.
		"require-trusted-types-for 'script'",
		"trusted-types default quickscale",
	}, "; ")
}

func (s *Site) setHeaders(h http.Header, policy string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()")
	// Every page shows who is signed in; none may stay in a shared cache or behind the back button after log-out.
	h.Set("Cache-Control", "no-store")
	if s.cfg.Secure {
		h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	}
}
