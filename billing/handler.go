package billing

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/web"
)

// Handler serves the pages below Config.Path, which the host mounts without stripping it. Every page answers JSON too.
func (b *Billing) Handler() http.Handler {
	mux := http.NewServeMux()
	at := b.cfg.Path
	mux.HandleFunc("GET "+at+"/{$}", b.showOffers)
	mux.HandleFunc("POST "+at+"/checkout", b.signedIn(b.postCheckout))
	mux.HandleFunc("GET "+at+"/success", b.signedIn(b.showSuccess))
	mux.HandleFunc("GET "+at+"/cancel", b.showCancel)
	mux.HandleFunc("GET "+at+"/subscription", b.signedIn(b.showSubscription))
	mux.HandleFunc("GET "+at+"/subscription/change", b.signedIn(b.showChange))
	mux.HandleFunc("POST "+at+"/subscription/change", b.signedIn(b.postChange))
	mux.HandleFunc("POST "+at+"/subscription/cancel", b.signedIn(b.postCancel))
	mux.HandleFunc("POST "+at+"/subscription/resume", b.signedIn(b.postResume))
	mux.HandleFunc("POST "+at+"/subscription/pause", b.signedIn(b.postPause))
	mux.HandleFunc("GET "+at+"/auto-topup", b.signedIn(b.showTopUp))
	mux.HandleFunc("POST "+at+"/auto-topup", b.signedIn(b.postTopUp))
	mux.HandleFunc("POST "+at+"/auto-topup/stop", b.signedIn(b.postStopTopUp))
	mux.HandleFunc("GET "+at+"/payment-methods", b.signedIn(b.showMethods))
	mux.HandleFunc("POST "+at+"/payment-methods/add", b.signedIn(b.postAddMethod))
	mux.HandleFunc("POST "+at+"/payment-methods/{id}/default", b.signedIn(b.postDefaultMethod))
	mux.HandleFunc("POST "+at+"/payment-methods/{id}/remove", b.signedIn(b.postRemoveMethod))
	mux.HandleFunc("POST "+at+"/portal", b.signedIn(b.postPortal))
	mux.HandleFunc("GET "+at+"/payments", b.signedIn(b.listPayments))
	mux.HandleFunc("GET "+at+"/payments/{id}", b.signedIn(b.showPayment))
	mux.HandleFunc("GET "+at+"/payments/{id}/receipt", b.signedIn(b.showReceipt))
	mux.HandleFunc("GET "+at+"/payments/{id}/receipt.pdf", b.signedIn(b.showReceiptPDF))
	mux.HandleFunc(at+"/", b.cfg.Site.Missing(mux))
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

// offersPage is the data of offers.html.
type offersPage struct {
	Path     string  `json:"-"`
	SignedIn bool    `json:"-"`
	Packs    []Offer `json:"packs"`
	Plans    []Offer `json:"plans"`
	// Subscription is the one that lives. Nil: none, and plans can be bought.
	Subscription *Subscription `json:"subscription,omitempty"`
}

func (b *Billing) showOffers(w http.ResponseWriter, r *http.Request) {
	page := offersPage{Path: b.cfg.Path}
	err := b.loadOffers(r, &page)
	if err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	b.views.Respond(w, r, http.StatusOK, "offers", page)
}

func (b *Billing) loadOffers(r *http.Request, page *offersPage) (err error) {
	if page.Packs, err = b.Packs(r.Context()); err != nil {
		return err
	}
	if page.Plans, err = b.Plans(r.Context()); err != nil {
		return err
	}
	who, signedIn := b.cfg.Customer(r)
	if page.SignedIn = signedIn; !signedIn {
		return nil
	}
	s, err := b.living(r.Context(), who.Account)
	if errors.Is(err, ErrNoSubscription) || errors.Is(err, ErrEnded) {
		return nil
	}
	page.Subscription = &s
	return err
}

func (b *Billing) postCheckout(w http.ResponseWriter, r *http.Request, who Customer) {
	var in struct {
		Price    string `json:"price"`
		Quantity int64  `json:"quantity"`
	}
	if err := web.Decode(w, r, &in); err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	c, err := b.Checkout(r.Context(), CheckoutParams{Customer: who, Price: in.Price, Quantity: in.Quantity, IdempotencyKey: r.Header.Get("Idempotency-Key")})
	switch {
	case errors.Is(err, ErrSubscribed) && !web.WantsJSON(r):
		b.cfg.Site.Flash(w, web.FlashInfo, "You have a subscription already. Here you can change it.")
		b.cfg.Site.Redirect(w, r, b.cfg.Path+"/subscription")
	case err != nil:
		b.cfg.Site.Fail(w, r, err)
	case web.WantsJSON(r):
		web.JSON(w, http.StatusCreated, c)
	case c.URL == "": // a repetition, after the page has done its work
		b.cfg.Site.Redirect(w, r, b.cfg.Path+"/success?"+url.Values{"session_id": {c.SessionID}}.Encode())
	default:
		b.cfg.Site.Redirect(w, r, c.URL)
	}
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

// showSuccess leaves the first look to the webhook, which mostly is faster than the person, and from the second on asks
// Stripe itself, so that a webhook that does not come is not missed.
func (b *Billing) showSuccess(w http.ResponseWriter, r *http.Request, who Customer) {
	session, looks := r.URL.Query().Get("session_id"), r.URL.Query()["look"]
	look := b.FindCheckout
	if len(looks) > 0 {
		look = b.SyncCheckout
	}
	c, err := look(r.Context(), who.Account, session)
	switch {
	case err != nil && c.ID == uuid.Nil:
		b.cfg.Site.Fail(w, r, err)
		return
	case err != nil:
		// The webhook does the same, so that the page can show what is known and look again.
		b.cfg.Logger.WarnContext(r.Context(), "checkout not synced by its page", slog.String("session", session), slog.Any("error", err))
	}
	page := successPage{Path: b.cfg.Path, CreditsURL: b.cfg.CreditsURL, Checkout: c}
	if (c.Status == CheckoutOpen || c.Status == CheckoutCreated) && len(looks) < maxLooks {
		page.Refresh = b.cfg.Path + "/success?" + url.Values{"session_id": {session}, "look": append(looks, "1")}.Encode()
	}
	b.views.Respond(w, r, http.StatusOK, "success", page)
}

func (b *Billing) showCancel(w http.ResponseWriter, r *http.Request) {
	b.views.Respond(w, r, http.StatusOK, "cancel", cancelPage{b.cfg.Path})
}

func (b *Billing) showPayment(w http.ResponseWriter, r *http.Request, who Customer) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		b.cfg.Site.Fail(w, r, ErrNotFound)
		return
	}
	p, err := b.FindPayment(r.Context(), who.Account, id)
	b.paymentPage(w, r, who, "payment", p, err)
}

func (b *Billing) showReceipt(w http.ResponseWriter, r *http.Request, who Customer) {
	p, err := b.receiptOf(r, who)
	b.paymentPage(w, r, who, "receipt", p, err)
}

// cancelPage is the data of cancel.html.
type cancelPage struct {
	Path string `json:"path"`
}

// paymentPage is the data of payment.html and receipt.html.
type paymentPage struct {
	Path     string
	Payment  Payment
	Customer Customer
	Site     string
}

func (b *Billing) paymentPage(w http.ResponseWriter, r *http.Request, who Customer, page string, p Payment, err error) {
	switch {
	case err != nil:
		b.cfg.Site.Fail(w, r, err)
	case web.WantsJSON(r):
		web.JSON(w, http.StatusOK, p)
	default:
		b.views.Render(w, r, http.StatusOK, page, paymentPage{b.cfg.Path, p, who, b.cfg.Site.Name()})
	}
}
