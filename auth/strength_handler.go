package auth

import (
	"net/http"

	"github.com/quickscale/quickscale/internal/web"
)

// postStrength tells how strong a password is, to a script while it is typed or to who presses the button for it. Nothing
// of it is kept.
func (a *Auth) postStrength(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Password string `json:"password" trim:"no"`
		Email    string `json:"email"`
	}
	if err := web.Decode(w, r, &in); err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	if len(in.Password) > maxPasswordBytes {
		in.Password = in.Password[:maxPasswordBytes]
	}
	a.views.Respond(w, r, http.StatusOK, "strength", a.PasswordStrength(in.Password, localPart(in.Email)))
}
