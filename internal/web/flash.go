package web

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
)

// The kinds of flash messages, which are also Bulma's colours.
const (
	FlashSuccess = "success"
	FlashInfo    = "info"
	FlashWarning = "warning"
	FlashDanger  = "danger"
)

// Flash is a message for the page after a redirect.
type Flash struct {
	Kind string `json:"k"`
	Text string `json:"t"`
}

// flashSeconds is how long a message waits for its page.
const flashSeconds = 60

func (s *Site) flashCookie() *http.Cookie {
	c := &http.Cookie{Name: "qs_flash", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: s.cfg.Secure}
	if s.cfg.Secure {
		c.Name = "__Host-" + c.Name
	}
	return c
}

// Flash keeps a message in a cookie for the page that comes next. It is called before the redirect. The text is shown
// escaped, and is a sentence of ours.
func (s *Site) Flash(w http.ResponseWriter, kind, text string) {
	body, err := json.Marshal(Flash{kind, text})
	if err != nil {
		panic(err) // two strings
	}
	c := s.flashCookie()
	c.Value, c.MaxAge = base64.RawURLEncoding.EncodeToString(body), flashSeconds
	http.SetCookie(w, c)
}

func (s *Site) takeFlash(w http.ResponseWriter, r *http.Request) *Flash {
	c := s.flashCookie()
	got, err := r.Cookie(c.Name)
	if err != nil {
		return nil
	}
	c.MaxAge = -1
	http.SetCookie(w, c)
	body, err := base64.RawURLEncoding.DecodeString(got.Value)
	if err != nil {
		return nil
	}
	var f Flash
	if err := json.Unmarshal(body, &f); err != nil || f.Text == "" {
		return nil
	}
	switch f.Kind {
	case FlashSuccess, FlashInfo, FlashWarning, FlashDanger:
		return &f
	}
	return nil
}
