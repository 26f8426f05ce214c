package quickscale

import (
	"context"
	"errors"
	"net/http"
	netmail "net/mail"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
	"github.com/quickscale/quickscale/mail"
)

// kindContact names the mail of the contact form.
const kindContact = "contact.message"

// Limits of the contact form: in characters, and how long messages count.
const (
	maxContactName    = 100
	maxContactMessage = 5000
	contactWindow     = time.Hour
)

// contactLimit is how many messages one network address may send.
var contactLimit = auth.Limit{Max: 5, Per: contactWindow}

// contactForm is what a visitor writes.
type contactForm struct {
	Name    string `json:"name"`
	Email   string `json:"email"`
	Message string `json:"message"`
	// Website is hidden from people. Programs that fill in whatever there is give themselves away.
	Website string `json:"website"`
}

// contactPage is the data of contact.html.
type contactPage struct {
	Path       string
	Form       contactForm
	MaxName    int
	MaxMessage int
}

func newContactPage(in contactForm) contactPage {
	return contactPage{contactPath, in, maxContactName, maxContactMessage}
}

func (a *App) showContact(w http.ResponseWriter, r *http.Request) {
	u, _ := auth.UserFrom(r.Context())
	a.public.Render(w, r, http.StatusOK, "contact", newContactPage(contactForm{Name: u.Name, Email: u.Email}))
}

// postContact queues the message as a mail. Who filled in the hidden field is told the same and nothing is sent.
func (a *App) postContact(w http.ResponseWriter, r *http.Request) {
	var in contactForm
	err := web.Decode(w, r, &in)
	if err == nil {
		err = in.check()
	}
	if err == nil {
		err = a.Auth.Throttle(r.Context(), "contact", contactLimit, auth.ClientOf(r))
	}
	if err == nil && in.Website == "" {
		err = a.sendContact(r, in)
	}
	if err != nil {
		if retry, ok := errors.AsType[*auth.RetryError](err); ok {
			w.Header().Set("Retry-After", strconv.Itoa(int(retry.After/time.Second)+1))
		}
		a.public.Reject(w, r, "contact", newContactPage(in), err)
		return
	}
	a.site.Flash(w, web.FlashSuccess, "Your message is on its way. We answer to "+in.Email+".")
	a.site.Redirect(w, r, contactPath)
}

// sendContact mails a message to Config.Public.Contact. The answer to it goes to whoever wrote it.
func (a *App) sendContact(r *http.Request, in contactForm) error {
	return a.db.InTx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		m, err := a.compose(ctx, tx, kindContact, a.cfg.Public.Contact, "", in)
		if err != nil {
			return err
		}
		m.ReplyTo = in.Email
		return a.Mail.EnqueueTx(ctx, tx, m)
	})
}

// check finds what cannot be sent. What becomes a header has no line of its own (RFC 5322, 2.2).
func (in contactForm) check() error {
	wrong := map[string]string{}
	if utf8.RuneCountInString(in.Name) > maxContactName || strings.ContainsFunc(in.Name, unicode.IsControl) {
		wrong["name"] = "Enter a name of one line, at most 100 characters."
	}
	if address, err := netmail.ParseAddress(in.Email); err != nil || address.Address != in.Email || len(in.Email) > mail.MaxAddress || strings.ContainsFunc(in.Email, unicode.IsControl) {
		wrong["email"] = "Enter an address such as grace@example.com, so that we can answer."
	}
	if n := utf8.RuneCountInString(in.Message); n == 0 || n > maxContactMessage {
		wrong["message"] = "Write what it is about, in at most 5,000 characters."
	}
	if len(wrong) > 0 {
		return problem.Invalid(wrong)
	}
	return nil
}
