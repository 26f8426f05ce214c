package billing

import (
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/web"
)

// Handler serves the pages below Config.Path, which the host mounts without stripping it. Every page answers JSON too.
func (b *Billing) Handler() http.Handler {
	mux := http.NewServeMux()
	at := b.cfg.Path
	mux.HandleFunc("GET "+at+"/{$}", b.showPacks)
	mux.HandleFunc("POST "+at+"/checkout", b.signedIn(b.postCheckout))
	mux.HandleFunc("GET "+at+"/success", b.signedIn(b.showSuccess))
	mux.HandleFunc("GET "+at+"/cancel", b.showCancel)
	mux.HandleFunc("GET "+at+"/payments", b.signedIn(b.listPayments))
	mux.HandleFunc("GET "+at+"/payments/{id}", b.signedIn(b.showPayment))
	mux.HandleFunc("GET "+at+"/payments/{id}/receipt", b.signedIn(b.showReceipt))
	mux.HandleFunc(at+"/", b.cfg.Site.NotFound)
	return b.cfg.Site.Protect(mux)
}

// signedIn lets only those through who are.
func (b *Billing) signedIn(next func(w http.ResponseWriter, r *http.Request, who Customer)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, ok := b.cfg.Customer(r)
		switch {
		case ok:
			next(w, r, who)
		case b.cfg.LoginURL != "" && !web.WantsJSON(r):
			target := b.cfg.Path + "/"
			if r.Method == http.MethodGet {
				target = r.URL.RequestURI()
			}
			b.cfg.Site.Redirect(w, r, b.cfg.LoginURL+"?next="+url.QueryEscape(target))
		default:
			b.cfg.Site.Fail(w, r, ErrSignedOut)
		}
	}
}

// packsPage is the data of packs.html.
type packsPage struct {
	Path     string `json:"-"`
	SignedIn bool   `json:"-"`
	Packs    []Pack `json:"packs"`
}

func (b *Billing) showPacks(w http.ResponseWriter, r *http.Request) {
	packs, err := b.Packs(r.Context())
	if err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	_, signedIn := b.cfg.Customer(r)
	b.views.Respond(w, r, http.StatusOK, "packs", packsPage{b.cfg.Path, signedIn, packs})
}

func (b *Billing) postCheckout(w http.ResponseWriter, r *http.Request, who Customer) {
	var in struct {
		Price string `json:"price"`
	}
	if err := web.Decode(w, r, &in); err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	c, err := b.Checkout(r.Context(), who, in.Price)
	if err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	if web.WantsJSON(r) {
		web.JSON(w, http.StatusCreated, c)
		return
	}
	b.cfg.Site.Redirect(w, r, c.URL)
}

// successPage is the data of success.html.
type successPage struct {
	Path       string   `json:"-"`
	CreditsURL string   `json:"-"`
	Checkout   Checkout `json:"checkout"`
	// Refresh is where the page looks again while the webhook is on its way. Empty: no more.
	Refresh string `json:"-"`
}

// maxLooks bounds how often the success page reloads itself, every two seconds.
const maxLooks = 30

func (b *Billing) showSuccess(w http.ResponseWriter, r *http.Request, who Customer) {
	session := r.URL.Query().Get("session_id")
	c, err := b.FindCheckout(r.Context(), who.Account, session)
	if err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	page := successPage{Path: b.cfg.Path, CreditsURL: b.cfg.CreditsURL, Checkout: c}
	looks := r.URL.Query()["look"]
	if (c.Status == CheckoutOpen || c.Status == CheckoutCreated) && len(looks) < maxLooks {
		page.Refresh = b.cfg.Path + "/success?" + url.Values{"session_id": {session}, "look": append(looks, "1")}.Encode()
	}
	b.views.Respond(w, r, http.StatusOK, "success", page)
}

func (b *Billing) showCancel(w http.ResponseWriter, r *http.Request) {
	b.views.Respond(w, r, http.StatusOK, "cancel", map[string]string{"path": b.cfg.Path})
}

// paymentsPage is the data of payments.html.
type paymentsPage struct {
	Path     string    `json:"-"`
	Payments []Payment `json:"payments"`
	// Next is the URL of the page with older payments, empty on the last one.
	Next string `json:"next,omitempty"`
}

func (b *Billing) listPayments(w http.ResponseWriter, r *http.Request, who Customer) {
	before, err := uuid.Parse(r.URL.Query().Get("before"))
	if err != nil {
		before = uuid.Nil
	}
	payments, more, err := b.Payments(r.Context(), PaymentsParams{Account: who.Account, Before: before})
	if err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	page := paymentsPage{Path: b.cfg.Path, Payments: payments}
	if more {
		page.Next = b.cfg.Path + "/payments?before=" + payments[len(payments)-1].ID.String()
	}
	b.views.Respond(w, r, http.StatusOK, "payments", page)
}

func (b *Billing) showPayment(w http.ResponseWriter, r *http.Request, who Customer) {
	b.paymentPage(w, r, who, "payment")
}

func (b *Billing) showReceipt(w http.ResponseWriter, r *http.Request, who Customer) {
	b.paymentPage(w, r, who, "receipt")
}

// paymentPage is the data of payment.html and receipt.html.
type paymentPage struct {
	Path     string
	Payment  Payment
	Customer Customer
	Site     string
}

func (b *Billing) paymentPage(w http.ResponseWriter, r *http.Request, who Customer, page string) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		b.cfg.Site.Fail(w, r, ErrNotFound)
		return
	}
	p, err := b.FindPayment(r.Context(), who.Account, id)
	switch {
	case err != nil:
		b.cfg.Site.Fail(w, r, err)
	case web.WantsJSON(r):
		web.JSON(w, http.StatusOK, p)
	default:
		b.views.Render(w, r, http.StatusOK, page, paymentPage{b.cfg.Path, p, who, b.cfg.Site.Name()})
	}
}
