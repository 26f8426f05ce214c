package stripetest

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"strings"
	"time"
)

//go:embed templates static
var pageFiles embed.FS

type pages struct {
	templates *template.Template
	css       []byte
}

func loadPages() (*pages, error) {
	t, err := template.New("").Funcs(template.FuncMap{
		"amount": func(minor any, currency any) string { return amount(number(minor), text(currency)) },
		"date":   func(at any) string { return unixTime(number(at)).Format("2 Jan 2006 15:04 UTC") },
		"items":  itemsOf,
		"pair":   func(base string, s shelf) map[string]any { return map[string]any{"Base": base, "Shelf": s} },
		"kind": func(o object) string {
			kind, _, _ := strings.Cut(text(o["id"]), "_")
			return map[bool]string{true: "delivery"}[kind == "whd"]
		},
		"show": func(o object, field string) any {
			switch v := o[field]; {
			case v == nil:
				return ""
			case field == "created" || field == "current_period_end" || field == "next_payment_attempt" || field == "frozen_time":
				return unixTime(number(v)).Format("2 Jan 2006 15:04")
			default:
				return v
			}
		},
	}).ParseFS(pageFiles, "templates/*.html")
	if err != nil {
		return nil, err
	}
	css, err := pageFiles.ReadFile("static/style.css")
	if err != nil {
		return nil, err
	}
	return &pages{t, css}, nil
}

func (p *pages) style(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	http.ServeContent(w, r, "style.css", time.Time{}, bytes.NewReader(p.css))
}

// render answers with a page. base is the path of the double's mount point.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, name string, data map[string]any) {
	data["Base"] = s.cfg.BaseURL
	var buf bytes.Buffer
	if err := s.pages.templates.ExecuteTemplate(&buf, name, data); err != nil {
		s.fail(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	// Form targets are not bound: paying redirects to the shop, whose origin the double cannot know.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = buf.WriteTo(w) // the client is gone; there is nobody to tell
}

func (s *Server) pageRoutes() {
	// The forms change things, so that no other site's page may send them.
	guard := http.NewCrossOriginProtection()
	post := func(pattern string, h http.HandlerFunc) { s.mux.Handle("POST "+pattern, guard.Handler(h)) }
	s.mux.HandleFunc("GET /checkout/{id}", s.showCheckout)
	post("/checkout/{id}", s.payCheckout)
	post("/checkout/{id}/promotion", s.promoteCheckout)
	s.mux.HandleFunc("GET /authenticate/{id}", s.showAuthenticate)
	post("/authenticate/{id}", s.postAuthenticate)
	s.mux.HandleFunc("GET /invoices/{id}", s.showInvoice)
	post("/invoices/{id}", s.payInvoicePage)
	s.mux.HandleFunc("GET /receipts/{id}", s.showReceipt)
	s.mux.HandleFunc("GET /portal/{id}", s.showPortal)
	post("/portal/{id}/{action}", s.postPortal)
	s.mux.HandleFunc("GET /static/style.css", s.pages.style)
	s.mux.HandleFunc("GET /{$}", s.showIndex)
	s.mux.HandleFunc("GET /objects/{kind}", s.showObjects)
	s.mux.HandleFunc("GET /object/{id}", s.showObject)
	post("/delayed/{id}", s.settleDelayedPage)
	post("/do/{action}", s.postAction)
}

// loadForPage reads an object outside of the API.
func (s *Server) loadForPage(r *http.Request, kind string) (o object, err error) {
	err = s.do(r.Context(), func(tx *work) error {
		o, err = load(tx, kind, r.PathValue("id"), "id")
		return err
	})
	return o, err
}

func (s *Server) showCheckout(w http.ResponseWriter, r *http.Request) {
	s.checkoutPage(w, r, http.StatusOK, Card{}, nil)
}

func (s *Server) checkoutPage(w http.ResponseWriter, r *http.Request, status int, entered Card, problem map[string]string) {
	o, err := s.loadForPage(r, "checkout.session")
	if err != nil {
		s.missingPage(w, r, err)
		return
	}
	if entered.Email == "" {
		entered.Email = text(fields(o["customer_details"])["email"])
	}
	if o["status"] != "open" {
		s.render(w, r, http.StatusGone, "closed.html", map[string]any{"Status": o["status"], "Cancel": text(o["cancel_url"])})
		return
	}
	total := number(o["amount_total"])
	action := map[any]string{"setup": "Save the card", "subscription": "Subscribe"}[o["mode"]]
	switch {
	case action == "" && total > 0:
		action = "Pay " + amount(total, text(o["currency"]))
	case action == "":
		action = "Complete"
	}
	data := fields(o["_subscription"])
	s.render(w, r, status, "checkout.html", map[string]any{"Session": o["id"], "Mode": o["mode"], "Items": elements(o["_line_items"]), "Total": total,
		"Currency": text(o["currency"]), "Cancel": text(o["cancel_url"]), "Entered": entered, "Problem": problem, "Delayed": Delayed, "Action": action,
		"NeedsCard": needsCard(o), "Promotions": o["allow_promotion_codes"] == true, "Promotion": len(fields(o["_discount"])) > 0,
		"Off": number(fields(o["total_details"])["amount_discount"]), "Trial": number(data["trial_days"]) > 0 || number(data["trial_end"]) > 0, "Cards": cardsShown})
}

// cardsShown are the test cards that the pages explain.
var cardsShown = []struct{ Number, Does string }{
	{"4242 4242 4242 4242", "succeeds"},
	{"4000 0000 0000 0002", "is declined"},
	{"4000 0000 0000 9995", "has insufficient funds"},
	{"4000 0027 6000 3184", "asks for 3-D Secure"},
	{"4000 0000 0000 0341", "can be saved, and is declined when it pays"},
	{"4000 0000 0000 5126", "pays; a refund fails a day later"},
	{"4000 0000 0000 0259", "pays, and is disputed"},
}

func (s *Server) missingPage(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := errors.AsType[*apiError](err); ok && (e.status == http.StatusNotFound || e.Code == "resource_missing") {
		s.render(w, r, http.StatusNotFound, "closed.html", map[string]any{"Status": "not here", "Cancel": ""})
		return
	}
	s.fail(w, r, err)
}

// form parses a page's form and returns its fields without blanks around them.
func form(w http.ResponseWriter, r *http.Request) (func(name string) string, bool) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form does not parse", http.StatusBadRequest)
		return nil, false
	}
	return func(name string) string { return strings.TrimSpace(r.PostForm.Get(name)) }, true
}

func seeOther(w http.ResponseWriter, target string) {
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusSeeOther)
}

func (s *Server) payCheckout(w http.ResponseWriter, r *http.Request) {
	f, ok := form(w, r)
	if !ok {
		return
	}
	card := Card{Number: f("number"), Email: f("email"), Name: f("name")}
	switch {
	case f("method") == Delayed:
		card.Number = Delayed
	case f("method") == "none":
		card.Number = ""
	default:
		problem, err := s.checkCard(r.Context(), card.Number, f("expiry"), f("cvc"))
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if len(problem) > 0 {
			s.checkoutPage(w, r, http.StatusUnprocessableEntity, card, problem)
			return
		}
	}
	var next string
	var refused *apiError
	err := s.do(r.Context(), func(tx *work) error {
		o, err := load(tx, "checkout.session", r.PathValue("id"), "id")
		if err == nil {
			next, _, refused, err = s.paySession(tx, o, card)
		}
		return err
	})
	if err == nil && refused != nil {
		err = refused
	}
	if err == nil {
		seeOther(w, next)
		return
	}
	e, isAPI := errors.AsType[*apiError](err)
	switch {
	case isAPI && e.Type == "card_error":
		s.checkoutPage(w, r, http.StatusPaymentRequired, card, map[string]string{"number": e.Message})
	case isAPI:
		s.checkoutPage(w, r, http.StatusConflict, card, nil) // paid or expired meanwhile: the page says so
	default:
		s.fail(w, r, err)
	}
}

func (s *Server) promoteCheckout(w http.ResponseWriter, r *http.Request) {
	f, ok := form(w, r)
	if !ok {
		return
	}
	err := s.ApplyPromotionCode(r.Context(), r.PathValue("id"), f("code"))
	e, isAPI := errors.AsType[*apiError](err)
	switch {
	case err == nil:
		seeOther(w, s.cfg.BaseURL+"/checkout/"+r.PathValue("id"))
	case isAPI:
		s.checkoutPage(w, r, http.StatusUnprocessableEntity, Card{}, map[string]string{"code": e.Message})
	default:
		s.fail(w, r, err)
	}
}

// checkCard says what of the form is wrong, by field.
func (s *Server) checkCard(ctx context.Context, number, expiry, cvc string) (map[string]string, error) {
	problem := map[string]string{}
	if !luhn(digits(number)) {
		problem["number"] = "Your card number is invalid."
	}
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	at, err := time.Parse("01/06", strings.ReplaceAll(expiry, " ", ""))
	switch {
	case err != nil:
		problem["expiry"] = "Enter the expiry as MM/YY."
	case !at.AddDate(0, 1, 0).After(now):
		problem["expiry"] = "Your card has expired."
	}
	if len(cvc) < 3 || len(cvc) > 4 || strings.Trim(cvc, "0123456789") != "" {
		problem["cvc"] = "Enter the 3 or 4 digits of the security code."
	}
	return problem, nil
}

// showAuthenticate is the page of 3-D Secure.
func (s *Server) showAuthenticate(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, http.StatusOK, "authenticate.html", map[string]any{"ID": r.PathValue("id")})
}

func (s *Server) postAuthenticate(w http.ResponseWriter, r *http.Request) {
	f, ok := form(w, r)
	if !ok {
		return
	}
	next, err := s.Authenticate(r.Context(), r.PathValue("id"), f("outcome") == "complete")
	e, isAPI := errors.AsType[*apiError](err)
	switch {
	case err == nil && next == "":
		s.render(w, r, http.StatusOK, "closed.html", map[string]any{"Status": "complete", "Cancel": ""})
	case err == nil:
		seeOther(w, next)
	case isAPI && e.status == http.StatusNotFound:
		s.missingPage(w, r, err)
	case isAPI:
		s.render(w, r, http.StatusGone, "closed.html", map[string]any{"Status": "over", "Cancel": ""})
	default:
		s.fail(w, r, err)
	}
}

// showInvoice is hosted_invoice_url.
func (s *Server) showInvoice(w http.ResponseWriter, r *http.Request) {
	s.invoicePage(w, r, http.StatusOK, Card{}, nil)
}

func (s *Server) invoicePage(w http.ResponseWriter, r *http.Request, status int, entered Card, problem map[string]string) {
	o, err := s.loadForPage(r, "invoice")
	if err != nil {
		s.missingPage(w, r, err)
		return
	}
	s.render(w, r, status, "invoice.html", map[string]any{"Invoice": o, "Lines": elements(fields(o["lines"])["data"]), "Open": o["status"] == "open",
		"Entered": entered, "Problem": problem, "Cards": cardsShown, "Action": "Pay " + amount(number(o["amount_due"]), text(o["currency"]))})
}

func (s *Server) payInvoicePage(w http.ResponseWriter, r *http.Request) {
	f, ok := form(w, r)
	if !ok {
		return
	}
	card := Card{Number: f("number"), Name: f("name")}
	problem, err := s.checkCard(r.Context(), card.Number, f("expiry"), f("cvc"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if len(problem) > 0 {
		s.invoicePage(w, r, http.StatusUnprocessableEntity, card, problem)
		return
	}
	err = s.PayInvoice(r.Context(), r.PathValue("id"), card)
	e, isAPI := errors.AsType[*apiError](err)
	switch {
	case err == nil:
		seeOther(w, s.cfg.BaseURL+"/invoices/"+r.PathValue("id"))
	case isAPI && e.Type == "card_error":
		s.invoicePage(w, r, http.StatusPaymentRequired, card, map[string]string{"number": e.Message})
	case isAPI:
		s.invoicePage(w, r, http.StatusConflict, card, nil)
	default:
		s.fail(w, r, err)
	}
}

func (s *Server) showReceipt(w http.ResponseWriter, r *http.Request) {
	o, err := s.loadForPage(r, "charge")
	if err != nil {
		s.missingPage(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, "receipt.html", map[string]any{"ID": o["id"], "Amount": number(o["amount"]), "Currency": text(o["currency"]), "Status": o["status"],
		"Refunded": number(o["amount_refunded"])})
}

func (s *Server) showPortal(w http.ResponseWriter, r *http.Request) {
	s.portalPage(w, r, http.StatusOK, "")
}

// portalPage shows what the customer has, and what the portal lets them do about it.
func (s *Server) portalPage(w http.ResponseWriter, r *http.Request, status int, problem string) {
	data := map[string]any{"Session": r.PathValue("id"), "Problem": problem, "Cards": cardsShown}
	err := s.do(r.Context(), func(tx *work) error {
		p, err := s.openPortal(tx, r.PathValue("id"))
		if err != nil {
			return err
		}
		id := text(p.customer["id"])
		data["Return"], data["Email"], data["Default"] = text(p.session["return_url"]), text(p.customer["email"]), fields(p.customer["invoice_settings"])["default_payment_method"]
		data["CanCard"], data["CanCancel"], data["CanHistory"] = p.allows("payment_method_update"), p.allows("subscription_cancel"), p.allows("invoice_history")
		for name, kind := range map[string]string{"Methods": "payment_method", "Subscriptions": "subscription", "Invoices": "invoice"} {
			if data[name], err = all(tx, query{kind: kind, field: "customer", value: id, limit: 20}); err != nil {
				return err
			}
		}
		var plans []object
		for _, priceID := range p.prices() {
			price, err := load(tx, "price", priceID, "price")
			if err != nil {
				return err
			}
			name, err := s.nameOf(tx, price)
			if err != nil {
				return err
			}
			plans = append(plans, object{"id": priceID, "name": name, "amount": price["unit_amount"], "currency": price["currency"], "interval": fields(price["recurring"])["interval"]})
		}
		data["Plans"] = plans
		return nil
	})
	if err != nil {
		s.missingPage(w, r, err)
		return
	}
	s.render(w, r, status, "portal.html", data)
}

func (s *Server) postPortal(w http.ResponseWriter, r *http.Request) {
	f, ok := form(w, r)
	if !ok {
		return
	}
	var refused *apiError
	err := s.do(r.Context(), func(tx *work) (err error) {
		refused, err = s.portalAction(tx, r.PathValue("id"), r.PathValue("action"), f)
		if err == nil && refused != nil && !refused.kept {
			err = refused // nothing stays of what it was for
		}
		return err
	})
	if err == nil && refused != nil {
		err = refused
	}
	e, isAPI := errors.AsType[*apiError](err)
	switch {
	case err == nil:
		seeOther(w, s.cfg.BaseURL+"/portal/"+r.PathValue("id"))
	case isAPI && e.status == http.StatusNotFound:
		s.missingPage(w, r, err)
	case isAPI:
		s.portalPage(w, r, http.StatusUnprocessableEntity, e.Message)
	default:
		s.fail(w, r, err)
	}
}
