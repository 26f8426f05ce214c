package auth

import "net/http"

// Handler serves the pages below Config.Path and Config.AccountPath, which the host mounts without stripping them.
// Every page answers JSON too.
func (a *Auth) Handler() http.Handler {
	mux := http.NewServeMux()
	return a.cfg.Site.Protect(a.Load(mux))
}
