package quickscale

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	netmail "net/mail"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/internal/web"
)

// Where the public pages are.
const (
	pricingPath = "/pricing"
	aboutPath   = "/about"
	contactPath = "/contact"
	termsPath   = "/terms"
	privacyPath = "/privacy"
)

// Section is a heading and what is said below it, as text without markup.
type Section struct{ Title, Text string }

// Public is what the pages say that strangers see first: home, about, contact, terms and privacy. The zero value has words
// that are true of every application of the library; a founder writes their own, part by part. Their look is in
// templates, public/_hero.html, public/_features.html and so on; see [Config.Templates].
type Public struct {
	// Headline is the first line of the home page, and Lead the sentence below it. Empty: Name, and a general one.
	Headline, Lead string
	// Features are the home page's cards. Nil: how buying and using works.
	Features []Section
	// Questions are the home page's questions with their answers. Nil: those about credits and payments. Empty: none.
	Questions []Section
	// About are the paragraphs of the about page. Nil: one that names the product.
	About []string
	// Contact is the address that the contact form sends to. Empty: AdminEmail; without either there is no such page.
	Contact string
	// Terms and Privacy are the legal pages. Nil: placeholders that say of themselves that they are.
	Terms, Privacy []Section
}

// complete fills in the general words.
func (p Public) complete(name, adminEmail string) (Public, error) {
	p.Headline = cmp.Or(p.Headline, name)
	p.Lead = cmp.Or(p.Lead, "Use it in the browser or from your own programs, and pay for what you use.")
	p.Contact = cmp.Or(p.Contact, adminEmail)
	if p.Contact != "" {
		if a, err := netmail.ParseAddress(p.Contact); err != nil || a.Address != p.Contact {
			return p, errors.New("quickscale: Config.Public.Contact must be one bare address, such as hello@example.com")
		}
	}
	if p.Features == nil {
		p.Features = []Section{
			{"Buy credits", "One payment, no subscription needed. The credits are there as soon as the payment is confirmed."},
			{"Use the services", "Every run shows its price before and its cost after. A run that fails costs nothing."},
			{"Automate it", "Make an API key and call the same services from your own programs."},
		}
	}
	if p.Questions == nil {
		p.Questions = []Section{
			{"Do credits expire?", "Credits from packs do not. A plan's credits are for its period; what is left at its end expires."},
			{"What does a run cost that fails?", "Nothing. What was set aside for it comes back."},
			{"How do I pay?", "By card, on Stripe's page. We never see the number of your card."},
			{"Can I leave?", "At any time. A plan can be cancelled to the end of its period, and your account's page gives you all your data and deletes it."},
		}
	}
	if p.About == nil {
		p.About = []string{name + " is a service that you pay for by what you use."}
	}
	return p, nil
}

// The general legal pages say what the library does, which is where a founder's own begin.
func (p Public) terms(name string) (sections []Section, placeholder bool) {
	if p.Terms != nil {
		return p.Terms, false
	}
	return []Section{
		{"What this is about", "These terms are between you and whoever runs " + name + "."},
		{"Your account", "Keep your password and your API keys to yourself. What is done with them counts as done by you."},
		{"Credits and payments", "Services are paid with credits, which are bought in packs or with a plan. Credits from packs do not expire; those of a plan expire at the end of its period. A service says its price before you use it."},
		{"Ending", "You can delete your account at any time. What the law has us keep, such as invoices, is kept as long as it says."},
	}, true
}

func (p Public) privacy(name string) (sections []Section, placeholder bool) {
	if p.Privacy != nil {
		return p.Privacy, false
	}
	return []Section{
		{"What is kept", name + " keeps your name and e-mail address, what you bought and used, and when and from where you logged in, so that you see what happens to your account."},
		{"Who else sees it", "Payments are made on the pages of Stripe, which gets your name, your address and your card. Nobody else is given your data, and these pages load nothing from other sites."},
		{"Cookies", "One cookie keeps you logged in, one lets a browser be known again after a log-in, so that we can tell you of others, and short-lived ones carry what a form began to the page that ends it. There are none for advertising."},
		{"Your rights", "Your account's page gives you everything that is kept about you as a file, and deletes your account."},
	}, true
}

// publicPage is the data of the public pages.
type publicPage struct {
	Public
	SignedIn bool `json:"-"`
	// Where the buttons of the home page lead.
	SignupURL, PricingURL, ServicesURL, AccountURL string
	// Packs and Plans are for sale right now.
	Packs, Plans []billing.Offer
}

// legalPage is the data of legal.html.
type legalPage struct {
	Title    string
	Sections []Section
	// Placeholder says that nobody has put their own words here yet.
	Placeholder bool
}

// publicData are the types of the pages' data.
func publicData() map[string]any {
	return map[string]any{"home": publicPage{}, "about": publicPage{}, "contact": contactPage{}, "legal": legalPage{}}
}

func (a *App) wirePublic() (err error) {
	if a.cfg.WithoutPublicPages {
		return nil
	}
	a.public, err = a.site.Views("public", publicFiles, publicData())
	return err
}

// addPublic adds the public pages to the routes.
func (a *App) addPublic(pages *http.ServeMux) {
	if a.public == nil {
		return
	}
	pages.HandleFunc("GET /{$}", a.showHome)
	pages.HandleFunc("GET "+pricingPath, func(w http.ResponseWriter, r *http.Request) { a.site.Redirect(w, r, billingPath+"/") })
	pages.HandleFunc("GET "+aboutPath, func(w http.ResponseWriter, r *http.Request) {
		a.public.Render(w, r, http.StatusOK, "about", a.publicPage(r))
	})
	pages.HandleFunc("GET "+termsPath, func(w http.ResponseWriter, r *http.Request) {
		sections, placeholder := a.cfg.Public.terms(a.site.Name())
		a.public.Render(w, r, http.StatusOK, "legal", legalPage{"Terms", sections, placeholder})
	})
	pages.HandleFunc("GET "+privacyPath, func(w http.ResponseWriter, r *http.Request) {
		sections, placeholder := a.cfg.Public.privacy(a.site.Name())
		a.public.Render(w, r, http.StatusOK, "legal", legalPage{"Privacy", sections, placeholder})
	})
	if a.cfg.Public.Contact != "" {
		pages.HandleFunc("GET "+contactPath, a.showContact)
		pages.Handle("POST "+contactPath, a.Auth.RefuseImpersonation(http.HandlerFunc(a.postContact)))
	}
}

// publicLinks are those in the footer of every page.
func (a *App) publicLinks() []web.Link {
	if a.public == nil {
		return nil
	}
	links := []web.Link{{Label: "About", URL: aboutPath}}
	if a.cfg.Public.Contact != "" {
		links = append(links, web.Link{Label: "Contact", URL: contactPath})
	}
	return append(links, web.Link{Label: "Terms", URL: termsPath}, web.Link{Label: "Privacy", URL: privacyPath})
}

func (a *App) publicPage(r *http.Request) publicPage {
	_, signedIn := auth.UserFrom(r.Context())
	return publicPage{Public: a.cfg.Public, SignedIn: signedIn, SignupURL: authPath + "/signup", PricingURL: billingPath + "/", ServicesURL: servicesPath + "/", AccountURL: accountPath + "/"}
}

func (a *App) showHome(w http.ResponseWriter, r *http.Request) {
	page := a.publicPage(r)
	var packsErr, plansErr error
	page.Packs, packsErr = a.Billing.Packs(r.Context())
	page.Plans, plansErr = a.Billing.Plans(r.Context())
	if err := errors.Join(packsErr, plansErr); err != nil {
		// The page is worth showing without its prices, which are one click away.
		a.cfg.Logger.ErrorContext(r.Context(), "prices for the home page", slog.Any("error", err))
	}
	a.public.Render(w, r, http.StatusOK, "home", page)
}
