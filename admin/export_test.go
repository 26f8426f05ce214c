package admin

import "net/http"

// Walk tells of every route that the back office has, and serves them with a page that only says that it was reached, so
// that a test sees who is let through.
func (a *Admin) Walk(reached http.HandlerFunc, each func(method, path string, action Action)) http.Handler {
	routes := a.routes()
	for i := range routes {
		each(routes[i].method, a.cfg.Path+routes[i].path, routes[i].action)
		routes[i].page = func(w http.ResponseWriter, r *http.Request) error {
			reached(w, r)
			return nil
		}
	}
	return a.serve(routes)
}
