package billing

import (
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// topUpPage is the data of auto-topup.html.
type topUpPage struct {
	Path      string    `json:"-"`
	AutoTopUp AutoTopUp `json:"auto_topup"`
	// Packs are what can be chosen, and Card is what pays. Nil: there is no default card.
	Packs []Offer        `json:"packs"`
	Card  *PaymentMethod `json:"card"`
	// CardUnknown says that the cards could not be read.
	CardUnknown bool    `json:"card_unknown,omitempty"`
	TopUps      []TopUp `json:"topups"`
	// Next is the URL of the page with older purchases, empty on the last one.
	Next string `json:"next,omitempty"`
	// Consent is the text to agree to.
	Consent string     `json:"consent"`
	Form    topUpInput `json:"-"`

	older bool // a page that does not begin with the newest purchase
}

// topUpInput is the form, and the JSON. Amounts are decimals: credits, and money in the pack's currency.
type topUpInput struct {
	Threshold  string `json:"threshold"`
	Price      string `json:"price"`
	MonthlyCap string `json:"monthly_cap"`
	Consent    bool   `json:"consent"`
}

// Unpaid is the newest purchase where it was refused, for the person to pay themselves.
func (p topUpPage) Unpaid() *TopUp {
	if len(p.TopUps) == 0 || p.older || p.TopUps[0].Status != TopUpFailed || p.TopUps[0].Code == codeStopped || p.TopUps[0].Code == codeNoAnswer {
		return nil
	}
	return &p.TopUps[0]
}

func (b *Billing) topUpPage(r *http.Request, who Customer) (page topUpPage, err error) {
	page = topUpPage{Path: b.cfg.Path, Consent: TopUpConsent, Packs: []Offer{}}
	if page.AutoTopUp, err = b.FindAutoTopUp(r.Context(), who.Account); err != nil {
		return page, err
	}
	packs, err := b.Packs(r.Context())
	if err != nil {
		return page, err
	}
	for _, p := range packs {
		if p.Price.Amount > 0 {
			page.Packs = append(page.Packs, p)
		}
	}
	before, err := uuid.Parse(r.URL.Query().Get("before"))
	if err != nil {
		before = uuid.Nil
	}
	page.older = before != uuid.Nil
	var more bool
	if page.TopUps, more, err = b.TopUps(r.Context(), who.Account, before, 0); err != nil {
		return page, err
	}
	if more {
		page.Next = b.cfg.Path + "/auto-topup?before=" + page.TopUps[len(page.TopUps)-1].ID.String()
	}
	cards, err := b.PaymentMethods(r.Context(), who.Account)
	if err != nil {
		// What was bought, and the way to turn it off, are worth showing without the card.
		b.cfg.Logger.WarnContext(r.Context(), "cards for the page of auto top-up", "error", err)
		page.CardUnknown = true
	}
	for _, c := range cards {
		if c.Default {
			page.Card = &c
		}
	}
	if a := page.AutoTopUp; a.ConsentedAt != nil {
		page.Form = topUpInput{Threshold: a.Threshold.String(), Price: a.Pack.PriceID, MonthlyCap: a.MonthlyCap.decimal()}
	}
	return page, nil
}

func (b *Billing) showTopUp(w http.ResponseWriter, r *http.Request, who Customer) {
	page, err := b.topUpPage(r, who)
	if err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	b.views.Respond(w, r, http.StatusOK, "auto-topup", page)
}

func (b *Billing) postTopUp(w http.ResponseWriter, r *http.Request, who Customer) {
	var in topUpInput
	if err := web.Decode(w, r, &in); err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	set, err := b.setTopUp(r, who, in)
	switch {
	case err != nil && web.WantsJSON(r):
		b.cfg.Site.Fail(w, r, err)
	case err != nil:
		page, pageErr := b.topUpPage(r, who)
		if pageErr != nil {
			b.cfg.Site.Fail(w, r, pageErr)
			return
		}
		page.Form = in
		b.views.Reject(w, r, "auto-topup", page, err)
	case web.WantsJSON(r):
		web.JSON(w, http.StatusOK, set)
	default:
		b.cfg.Site.Flash(w, web.FlashSuccess, "Auto top-up is on: "+set.Pack.Name+" is bought whenever you have fewer than "+set.Threshold.String()+" credits.")
		b.cfg.Site.Redirect(w, r, b.cfg.Path+"/auto-topup")
	}
}

// setTopUp reads the amounts and sets auto top-up.
func (b *Billing) setTopUp(r *http.Request, who Customer, in topUpInput) (AutoTopUp, error) {
	threshold, err := credits.ParseAmount(in.Threshold)
	if err != nil {
		return AutoTopUp{}, problem.Invalid(map[string]string{"threshold": "This must be an amount of credits, such as 100 or 12.5."})
	}
	currency := "usd" // for a pack that is not there, which SetAutoTopUp says
	packs, err := b.Packs(r.Context())
	if err != nil {
		return AutoTopUp{}, err
	}
	for _, p := range packs {
		if p.PriceID == in.Price {
			currency = p.Price.Currency
		}
	}
	monthly, err := parseMoney(in.MonthlyCap + " " + currency)
	if err != nil {
		return AutoTopUp{}, problem.Invalid(map[string]string{"monthly_cap": "This must be an amount of money in the pack's currency, such as 50 or 49.90."})
	}
	return b.SetAutoTopUp(r.Context(), AutoTopUpParams{Customer: who, Threshold: threshold, Price: in.Price, MonthlyCap: monthly.Amount, Consent: in.Consent})
}

func (b *Billing) postStopTopUp(w http.ResponseWriter, r *http.Request, who Customer) {
	err := b.StopAutoTopUp(r.Context(), who.Account)
	switch {
	case err != nil:
		b.cfg.Site.Fail(w, r, err)
	case web.WantsJSON(r):
		web.JSON(w, http.StatusOK, map[string]bool{"done": true})
	default:
		b.cfg.Site.Flash(w, web.FlashSuccess, "Auto top-up is off. Nothing more is bought without you.")
		b.cfg.Site.Redirect(w, r, b.cfg.Path+"/auto-topup")
	}
}

// decimal writes the amount without its currency's code, as a form shows it.
func (m Money) decimal() string {
	text, _, _ := strings.Cut(m.String(), " ")
	return text
}
