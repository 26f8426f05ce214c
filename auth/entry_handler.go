package auth

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/quickscale/quickscale/internal/web"
)

// entryPage is the data of the pages for who is not signed in.
type entryPage struct {
	Path string `json:"-"`
	// Email and Name are what was entered, Next is where the log-in leads.
	Email       string `json:"-"`
	Name        string `json:"-"`
	Next        string `json:"next,omitempty"`
	MinPassword int    `json:"min_password"`
	// Token is that of the link, empty when the link does not work.
	Token string `json:"-"`
	// OAuth are the other sites, and Passkeys tells that a passkey lets in.
	OAuth    []OAuthLink `json:"oauth"`
	Passkeys bool        `json:"passkeys"`
}

func (a *Auth) entryPage(r *http.Request) entryPage {
	return entryPage{Path: a.cfg.Path, Next: web.LocalPath(r.URL.Query().Get("next"), ""), MinPassword: a.cfg.MinPassword,
		OAuth: a.OAuthLinks(), Passkeys: a.party != nil}
}

// sentPage is the data of sent.html: the same answer whatever was found.
type sentPage struct {
	Path  string `json:"-"`
	Title string `json:"-"`
	Email string `json:"email"`
	Text  string `json:"message"`
	// Resend offers another link.
	Resend bool `json:"-"`
}

// showForm shows a page for entering, or leads home who is signed in.
func (a *Auth) showForm(w http.ResponseWriter, r *http.Request, page string) {
	data := a.entryPage(r)
	if _, ok := UserFrom(r.Context()); ok && !web.WantsJSON(r) {
		a.cfg.Site.Redirect(w, r, web.LocalPath(data.Next, a.cfg.Home))
		return
	}
	a.views.Respond(w, r, http.StatusOK, page, data)
}

func (a *Auth) showSignUp(w http.ResponseWriter, r *http.Request) { a.showForm(w, r, "signup") }

func (a *Auth) postSignUp(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Email    string `json:"email"`
		Password string `json:"password" trim:"no"`
		Name     string `json:"name"`
	}
	page := a.entryPage(r)
	if err := web.Decode(w, r, &in); err != nil {
		a.reject(w, r, "signup", page, err)
		return
	}
	page.Email, page.Name = in.Email, in.Name
	ticket, err := a.SignUp(r.Context(), SignUpParams{Email: in.Email, Password: in.Password, Name: in.Name, Client: ClientOf(r)})
	if err != nil {
		a.reject(w, r, "signup", page, err)
		return
	}
	a.setCookie(w, ticketCookie, ticket, verifyLifetime)
	a.views.Respond(w, r, http.StatusOK, "sent", sentPage{a.cfg.Path, "Check your mail", in.Email,
		"We have sent you a mail. Open the link in it in this browser within 3 days to confirm your address and get in.", true})
}

func (a *Auth) showLogIn(w http.ResponseWriter, r *http.Request) { a.showForm(w, r, "login") }

func (a *Auth) postLogIn(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Email    string `json:"email"`
		Password string `json:"password" trim:"no"`
		Remember bool   `json:"remember"`
		Next     string `json:"next"`
	}
	page := a.entryPage(r)
	if err := web.Decode(w, r, &in); err != nil {
		a.reject(w, r, "login", page, err)
		return
	}
	page.Email, page.Next = in.Email, web.LocalPath(in.Next, "")
	s, err := a.LogIn(r.Context(), LogInParams{Email: in.Email, Password: in.Password, Remember: in.Remember, VerifyToken: a.readCookie(r, confirmCookie),
		Replaces: a.readCookie(r, sessionCookie), Client: ClientOf(r)})
	if !a.goOn(w, r, s, err, in.Next) {
		a.reject(w, r, "login", page, err)
	}
}

// welcome lets the browser in and leads on.
func (a *Auth) welcome(w http.ResponseWriter, r *http.Request, s SignedIn, next string) {
	a.admit(w, r, s)
	a.cfg.Site.Redirect(w, r, web.LocalPath(next, a.cfg.Home))
}

// admit gives the browser its session and forgets what it kept on the way.
func (a *Auth) admit(w http.ResponseWriter, r *http.Request, s SignedIn) {
	a.SetSession(w, s)
	for _, name := range []string{ticketCookie, confirmCookie, pendingCookie, passkeyCookie, magicCookie} {
		if a.readCookie(r, name) != "" {
			a.dropCookie(w, name)
		}
	}
}

func (a *Auth) postLogOut(w http.ResponseWriter, r *http.Request) {
	if err := a.LogOut(r.Context(), a.readCookie(r, sessionCookie), ClientOf(r)); err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.dropCookie(w, sessionCookie)
	a.dropCookie(w, pendingCookie)
	if err := a.logOutStaff(w, r); err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	// What the browser kept of the pages goes too (W3C Clear Site Data).
	w.Header().Set("Clear-Site-Data", `"cache"`)
	a.cfg.Site.Flash(w, web.FlashSuccess, "You are logged out.")
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/login")
}

// hideToken keeps the address of a page, which holds a token, from all that the page leads to, and not only from other
// sites as all pages do. Over http to another machine it does not: browsers then send the form with neither an origin
// nor Sec-Fetch-Site, and it would be taken for another site's.
func (a *Auth) hideToken(w http.ResponseWriter, r *http.Request) {
	if a.cfg.Site.Secure() || isLoopback(r.Host) {
		w.Header().Set("Referrer-Policy", "no-referrer")
	}
}

// isLoopback tells that browsers trust the host as they do https (W3C Secure Contexts, 3.1).
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// showVerify shows a button and changes nothing: mail scanners open links too.
func (a *Auth) showVerify(w http.ResponseWriter, r *http.Request) {
	a.showLink(w, r, "verify", purposeVerify)
}

func (a *Auth) showLink(w http.ResponseWriter, r *http.Request, page string, p purpose) {
	a.hideToken(w, r)
	data := a.entryPage(r)
	token := r.URL.Query().Get("token")
	if _, err := a.tokenOwner(r.Context(), token, p); err != nil {
		a.reject(w, r, page, data, err)
		return
	}
	data.Token = token
	a.views.Respond(w, r, http.StatusOK, page, data)
}

func (a *Auth) postVerify(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Token string `json:"token"`
	}
	a.hideToken(w, r)
	if err := web.Decode(w, r, &in); err != nil {
		a.reject(w, r, "verify", a.entryPage(r), err)
		return
	}
	s, err := a.VerifyEmail(r.Context(), VerifyParams{Token: in.Token, Ticket: a.readCookie(r, ticketCookie), Replaces: a.readCookie(r, sessionCookie), Client: ClientOf(r)})
	switch {
	case errors.Is(err, ErrOtherBrowser):
		a.setCookie(w, confirmCookie, in.Token, confirmLifetime)
		if web.WantsJSON(r) {
			a.cfg.Site.Fail(w, r, err)
			return
		}
		a.cfg.Site.Flash(w, web.FlashInfo, "One step is left: log in here with the password that you chose at sign-up, and your address is confirmed.")
		a.cfg.Site.Redirect(w, r, a.cfg.Path+"/login")
	default:
		if err == nil {
			a.cfg.Site.Flash(w, web.FlashSuccess, "Your address is confirmed. Welcome!")
		}
		if !a.goOn(w, r, s, err, "") {
			a.reject(w, r, "verify", a.entryPage(r), err)
		}
	}
}

func (a *Auth) showResend(w http.ResponseWriter, r *http.Request) { a.showForm(w, r, "resend") }

func (a *Auth) postResend(w http.ResponseWriter, r *http.Request) {
	a.postAddress(w, r, "resend", func(email string) error { return a.ResendVerification(r.Context(), email, ClientOf(r)) },
		sentPage{Title: "Check your mail", Text: "If an account waits for this address, a new link is on its way. Older ones do not work any more.", Resend: true})
}

func (a *Auth) showForgot(w http.ResponseWriter, r *http.Request) { a.showForm(w, r, "forgot") }

func (a *Auth) postForgot(w http.ResponseWriter, r *http.Request) {
	a.postAddress(w, r, "forgot", func(email string) error { return a.ForgotPassword(r.Context(), email, ClientOf(r)) },
		sentPage{Title: "Check your mail", Text: "If there is an account with this address, a link for a new password is on its way. It works once, within 30 minutes."})
}

// postAddress takes a form of an address alone and answers the same whatever do found.
func (a *Auth) postAddress(w http.ResponseWriter, r *http.Request, page string, do func(email string) error, sent sentPage) {
	var in struct {
		Email string `json:"email"`
	}
	data := a.entryPage(r)
	if err := web.Decode(w, r, &in); err != nil {
		a.reject(w, r, page, data, err)
		return
	}
	data.Email = in.Email
	if err := do(in.Email); err != nil {
		a.reject(w, r, page, data, err)
		return
	}
	sent.Path, sent.Email = a.cfg.Path, in.Email
	a.views.Respond(w, r, http.StatusOK, "sent", sent)
}

func (a *Auth) showReset(w http.ResponseWriter, r *http.Request) {
	a.showLink(w, r, "reset", purposeReset)
}

func (a *Auth) postReset(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Token    string `json:"token"`
		Password string `json:"password"      trim:"no"`
		KeepKeys bool   `json:"keep_api_keys"`
	}
	a.hideToken(w, r)
	page := a.entryPage(r)
	if err := web.Decode(w, r, &in); err != nil {
		a.reject(w, r, "reset", page, err)
		return
	}
	err := a.ResetPassword(r.Context(), ResetParams{Token: in.Token, Password: in.Password, KeepKeys: in.KeepKeys, Client: ClientOf(r)})
	if err != nil {
		if !errors.Is(err, ErrLink) {
			page.Token = in.Token
		}
		a.reject(w, r, "reset", page, err)
		return
	}
	a.dropCookie(w, sessionCookie)
	a.cfg.Site.Flash(w, web.FlashSuccess, "Your password is changed and all devices are logged out. Log in with the new one.")
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/login")
}

// older is the URL of the next page of a list.
func older(path, parameter, last string) string {
	return path + "?" + url.Values{parameter: {last}}.Encode()
}
