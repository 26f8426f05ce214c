package main

import (
	"embed"
	"net/http"
	"net/url"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
)

//go:embed templates
var templates embed.FS

// routes are the product's own pages beside everything that QuickScale serves.
func routes(app *quickscale.App, metrics http.Handler) (http.Handler, error) {
	pages, err := app.Pages(templates)
	if err != nil {
		return nil, err
	}
	page := func(name string) http.Handler {
		return app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, signedIn := auth.UserFrom(r.Context())
			pages.Render(w, r, http.StatusOK, name, map[string]any{"SignedIn": signedIn})
		}))
	}
	mux := http.NewServeMux()
	mux.Handle("/", app.Handler())
	mux.Handle("GET /{$}", page("home"))
	mux.Handle("GET /about", page("about"))
	mux.Handle("GET /healthz", app.Health())
	mux.Handle("GET /readyz", app.Health())
	mux.Handle("GET /metrics", metrics)
	return mux, nil
}

// describe names a database without its password.
func describe(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return "database"
	}
	return u.Redacted()
}
