// Package web is what the library's HTTP handlers share: the page layout and its components, vendored assets, the
// answer in HTML or JSON, one mapping of errors to statuses, form decoding, flash messages, and the protection that
// wraps every handler.
//
// A package with pages asks the [Site] for its [Views] once, wraps its routes in [Site.Protect], and answers with
// [Views.Render], [JSON], [Site.Redirect] or [Site.Fail]:
//
//	views := site.Views("billing", templates) // embed.FS with templates/*.html
//	mux.HandleFunc("GET /billing/{$}", func(w http.ResponseWriter, r *http.Request) {
//		packs, err := b.Packs(r.Context())
//		if err != nil {
//			site.Fail(w, r, err)
//			return
//		}
//		views.Respond(w, r, http.StatusOK, "packs", packs) // JSON when the request asks for it, else packs.html
//	})
//
// A page's file defines the templates "title" and "content" and is executed with a [Page]; its own data is .Data.
package web
