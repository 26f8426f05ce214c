package auth

import "net/http"

func (a *Auth) recent(next func(w http.ResponseWriter, r *http.Request, u User)) http.Handler {
	return a.signedIn(next)
}
