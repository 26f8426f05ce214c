package stripetest

import (
	"bytes"
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
		"amount": func(minor any, currency string) string { return amount(number(minor), currency) },
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

// loadForPage reads an object outside of the API.
func (s *Server) loadForPage(r *http.Request, kind string) (o object, err error) {
	err = s.do(r.Context(), func(tx storeTx) error {
		if err := s.expireDue(tx); err != nil {
			return err
		}
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
		if details, ok := o["customer_details"].(map[string]any); ok {
			entered.Email = text(details["email"])
		}
	}
	if o["status"] != "open" {
		s.render(w, r, http.StatusGone, "closed.html", map[string]any{"Status": o["status"], "Cancel": text(o["cancel_url"])})
		return
	}
	items, _ := o["_line_items"].([]any)
	s.render(w, r, status, "checkout.html", map[string]any{"Session": o["id"], "Items": items, "Total": number(o["amount_total"]), "Currency": text(o["currency"]),
		"Cancel": text(o["cancel_url"]), "Entered": entered, "Problem": problem, "Delayed": Delayed})
}

func (s *Server) missingPage(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := errors.AsType[*apiError](err); ok && e.status == http.StatusNotFound {
		s.render(w, r, http.StatusNotFound, "closed.html", map[string]any{"Status": "not here", "Cancel": ""})
		return
	}
	s.fail(w, r, err)
}

func (s *Server) payCheckout(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form does not parse", http.StatusBadRequest)
		return
	}
	f := func(name string) string { return strings.TrimSpace(r.PostForm.Get(name)) }
	card := Card{Number: f("number"), Email: f("email"), Name: f("name")}
	if f("method") == Delayed {
		card.Number = Delayed
	} else if problem := checkCard(card.Number, f("expiry"), f("cvc"), s.now()); len(problem) > 0 {
		s.checkoutPage(w, r, http.StatusUnprocessableEntity, card, problem)
		return
	}
	next, err := s.Pay(r.Context(), r.PathValue("id"), card)
	if err == nil {
		w.Header().Set("Location", next)
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	e, ok := errors.AsType[*apiError](err)
	switch {
	case ok && e.Type == "card_error":
		s.checkoutPage(w, r, http.StatusPaymentRequired, card, map[string]string{"number": e.Message})
	case ok:
		s.checkoutPage(w, r, http.StatusConflict, card, nil) // paid or expired meanwhile: the page says so
	default:
		s.fail(w, r, err)
	}
}

func checkCard(number, expiry, cvc string, now time.Time) map[string]string {
	problem := map[string]string{}
	if !luhn(strings.NewReplacer(" ", "", "-", "").Replace(number)) {
		problem["number"] = "Your card number is invalid."
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
	return problem
}

func (s *Server) showReceipt(w http.ResponseWriter, r *http.Request) {
	o, err := s.loadForPage(r, "charge")
	if err != nil {
		s.missingPage(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, "receipt.html", map[string]any{"ID": o["id"], "Amount": number(o["amount"]), "Currency": text(o["currency"]), "Status": o["status"]})
}

// showIndex lists what the double holds, for the developer.
func (s *Server) showIndex(w http.ResponseWriter, r *http.Request) {
	const rows = 50
	data := map[string]any{}
	err := s.do(r.Context(), func(tx storeTx) error {
		for name, kind := range map[string]string{"Sessions": "checkout.session", "Events": "event", "Open": deliveryOpen, "Dead": deliveryDead} {
			docs, err := tx.list(kind)
			if err != nil {
				return err
			}
			var objects []object
			for i := len(docs) - 1; i >= 0 && len(objects) < rows; i-- {
				o, err := docs[i].object()
				if err != nil {
					return err
				}
				objects = append(objects, o)
			}
			data[name] = objects
		}
		return nil
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, "index.html", data)
}

func (s *Server) settleDelayedPage(w http.ResponseWriter, r *http.Request) {
	if err := s.SettleDelayed(r.Context(), r.PathValue("id"), r.FormValue("outcome") == "succeeded"); err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Location", s.cfg.BaseURL+"/")
	w.WriteHeader(http.StatusSeeOther)
}
