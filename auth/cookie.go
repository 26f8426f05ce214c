package auth

import (
	"net/http"
	"time"
)

// The cookies. Where people come over https their names begin with __Host-, which ties them to this very host.
const (
	sessionCookie = "qs_session"
	// ticketCookie holds what the browser that signed up shows when it confirms the address.
	ticketCookie = "qs_signup"
	// confirmCookie holds the link's token in another browser until the log-in there.
	confirmCookie = "qs_confirm"
	// staffCookie holds the token of a member of staff's own session while they act as somebody else.
	staffCookie = "qs_staff"
	// pendingCookie holds the token of a log-in that waits for its second step.
	pendingCookie = "qs_pending"
	// magicCookie holds what ties a log-in by mail to the browser that asked for it.
	magicCookie = "qs_magic"
	// deviceCookie holds what a browser in which somebody has logged in is known again by.
	deviceCookie = "qs_device"
	// passkeyCookie and oauthCookie hold what ties a challenge, or a log-in at another site, to this browser.
	passkeyCookie = "qs_passkey"
	oauthCookie   = "qs_oauth"
)

const confirmLifetime = 30 * time.Minute

func (a *Auth) cookie(name string) *http.Cookie {
	c := &http.Cookie{Name: name, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: a.cfg.Site.Secure()}
	if c.Secure {
		c.Name = "__Host-" + name
	}
	return c
}

// setCookie sets a cookie for lifetime, or until the browser closes when that is 0.
func (a *Auth) setCookie(w http.ResponseWriter, name, value string, lifetime time.Duration) {
	c := a.cookie(name)
	c.Value, c.MaxAge = value, int(lifetime/time.Second)
	http.SetCookie(w, c)
}

func (a *Auth) dropCookie(w http.ResponseWriter, name string) {
	c := a.cookie(name)
	c.MaxAge = -1
	http.SetCookie(w, c)
}

// readCookie returns a cookie that has the form of our secrets, or "".
func (a *Auth) readCookie(r *http.Request, name string) string {
	c, err := r.Cookie(a.cookie(name).Name)
	if err != nil || !isSecret(c.Value) {
		return ""
	}
	return c.Value
}

// SetSession gives a browser its session, for a host that calls [Auth.LogIn] itself.
func (a *Auth) SetSession(w http.ResponseWriter, s SignedIn) {
	lifetime := time.Duration(0)
	if s.Session.Remember {
		lifetime = s.Session.ExpiresAt.Sub(s.Session.CreatedAt)
	}
	a.setCookie(w, sessionCookie, s.Token, lifetime)
	if s.Device != "" {
		a.setCookie(w, deviceCookie, s.Device, deviceLifetime)
	}
}
