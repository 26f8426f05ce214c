package main

import (
	"net/http"
	"net/url"

	"github.com/quickscale/quickscale"
)

// routes are the probes beside everything that QuickScale serves; a product's own pages join them here.
func routes(app *quickscale.App) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", app.Handler())
	mux.Handle("GET /healthz", app.Health())
	mux.Handle("GET /readyz", app.Health())
	return mux
}

// words are what the public pages say. What is left out has general words.
func words() quickscale.Public {
	return quickscale.Public{
		Headline: "Know your text",
		Lead:     "Count, measure and summarise any text, in the browser or from your own programs. You pay for what you use, with credits that do not expire.",
		Features: []quickscale.Section{
			{Title: "Buy a pack", Text: "One payment, no subscription. The credits are there as soon as the payment is confirmed."},
			{Title: "Use a service", Text: "Every run shows its price before and its cost after. A run that fails costs nothing."},
			{Title: "Automate it", Text: "Make an API key and call the same services from your own programs."},
		},
		About: []string{
			"Acme Text is the example of QuickScale, a Go library for products that people pay for. Its pages, its billing and its ledger are the library's; its own are these words, and one service of some hundred lines.",
			"Where nothing is configured, payments and mails are simulated: no money moves and no mail is sent.",
		},
		Contact: adminEmail,
	}
}

// describe names a database without its password.
func describe(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return "database"
	}
	return u.Redacted()
}
