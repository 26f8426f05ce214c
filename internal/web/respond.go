package web

import (
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// WantsJSON tells that the request prefers JSON to HTML: its Accept header names application/json and not text/html.
func WantsJSON(r *http.Request) bool { return wants(r, "application/json") }

// WantsCSV tells that the request prefers CSV to HTML: its Accept header names text/csv and not text/html.
func WantsCSV(r *http.Request) bool { return wants(r, "text/csv") }

func wants(r *http.Request, wanted string) bool {
	wants := false
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		switch kind, _, _ := mime.ParseMediaType(part); kind {
		case wanted:
			wants = true
		case "text/html":
			return false
		}
	}
	return wants
}

// JSONOnly makes next see requests that want JSON, so that every answer of an API is, errors too, whatever the request
// accepts.
func JSONOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The rest of the request is not changed, so that it need not be copied.
		r = r.WithContext(r.Context())
		r.Header = maps.Clone(r.Header)
		r.Header["Accept"] = []string{"application/json"}
		next.ServeHTTP(w, r)
	})
}

// isHTMX tells that HTMX made the request.
func isHTMX(r *http.Request) bool { return r.Header.Get("HX-Request") == "true" }

// JSON answers {"success":true,"data":…}.
func JSON(w http.ResponseWriter, status int, data any) {
	writeJSON(w, status, struct {
		Success bool `json:"success"`
		Data    any  `json:"data"`
	}{true, data})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	out, err := json.Marshal(body)
	if err != nil {
		// A type that cannot be encoded is a programmer's mistake; the recoverer of Protect logs and answers it.
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Add("Vary", "Accept")
	w.WriteHeader(status)
	_, _ = w.Write(append(out, '\n')) // the client is gone; there is nobody to tell
}

// Redirect sends the person on after a form: 303, or HTMX's own header, or {"redirect":url} to who wants JSON. target
// is ours or a URL that we made, never the request's own word; see [LocalPath].
func (s *Site) Redirect(w http.ResponseWriter, r *http.Request, target string) {
	switch {
	case WantsJSON(r):
		JSON(w, http.StatusOK, map[string]string{"redirect": target})
	case isHTMX(r):
		w.Header().Set("HX-Redirect", target)
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Location", target)
		w.WriteHeader(http.StatusSeeOther)
	}
}

// LocalPath returns next when it is a path on this site, which a redirect may follow, and fallback otherwise. What a
// browser would read as another host (//host, /\host, a scheme, control characters) is not.
func LocalPath(next, fallback string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\") {
		return fallback
	}
	for _, c := range next {
		if c < 0x20 || c == 0x7f {
			return fallback
		}
	}
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || strings.HasPrefix(u.Path, "//") || strings.ContainsAny(u.Path, "\\\t\r\n") {
		return fallback
	}
	return next
}
