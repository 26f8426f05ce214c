package quickscale

import (
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/mail"
	"github.com/quickscale/quickscale/webhook"
	"github.com/quickscale/quickscale/webhook/outbound"
)

// mailPreviews are all mails of the application with made-up data, for the outbox of development.
func (a *App) mailPreviews() []mail.Preview {
	return []mail.Preview{a.Auth.MailPreview(), a.mailPreview()}
}

// refusals are the codes of payments whose reason has words of its own, and one for all others.
var refusals = []string{"authentication_required", "insufficient_funds", "expired_card", "generic_decline"}

// mailPreview are the mails about credits, payments and webhooks.
func (a *App) mailPreview() mail.Preview {
	at := time.Date(2026, time.March, 31, 12, 0, 0, 0, time.UTC)
	page, stop := a.cfg.BaseURL+billingPath, a.cfg.BaseURL+authPath+"/unsubscribe?made-up"
	p := mail.Preview{Templates: a.mails, Samples: []mail.Sample{
		{Kind: kindLow, Data: lowMail{credits.LowBalance{Available: credits.MustAmount("7.5"), LowAt: credits.MustAmount("10")}, page + "/", stop}},
		{Kind: kindExpiring, Data: expiringMail{credits.ExpiringSoon{Amount: credits.MustAmount("12.5"), First: at}, a.cfg.BaseURL + creditsPath + "/", stop}},
		{Kind: kindEndpoint, Name: "gone", Data: endpointMail{outbound.Endpoint{URL: "https://example.com/hook", DisabledWhy: "the endpoint answered 410: it is gone"}, a.cfg.BaseURL + hooksPath + "/" + uuid.Nil.String()}},
		{Kind: kindEndpoint, Name: "failing", Data: endpointMail{outbound.Endpoint{URL: "https://example.com/hook", DisabledWhy: "every try since 2026-03-31T12:00:00Z failed", FailingSince: &at}, a.cfg.BaseURL + hooksPath + "/" + uuid.Nil.String()}},
		{Kind: kindContact, Data: contactForm{Name: "Ada", Email: "ada@example.com", Message: "Good morning."}},
		{Kind: kindDead, Data: deadMail{webhook.Record{ID: "evt_1", Type: "invoice.paid", Attempts: 10, Failure: webhook.ClassRetry}, a.cfg.BaseURL + adminPath + "/webhooks/evt_1"}},
	}}
	for _, kind := range billing.NoticeKinds() {
		n := billing.Notice{Kind: kind, Price: billing.Money{Amount: 1050, Currency: "eur"}, Description: "Starter", Credits: 100 * credits.Credit, URL: page + "/payments"}
		codes := []string{""}
		switch kind {
		case billing.NoticeTopUpFailed:
			codes = refusals[1:]
		case billing.NoticeTopUpPaused:
			codes = append([]string{billing.PauseNotForSale, billing.PauseNoCard, billing.PauseCurrency}, refusals...)
		case billing.NoticeCardExpiring:
			n.Card = &billing.PaymentMethod{Brand: "visa", Last4: "4242", ExpMonth: int64(at.Month()), ExpYear: int64(at.Year())}
			n.Description, n.Reason = "visa ending in 4242", "It is good through 03/2026."
		}
		for _, code := range codes {
			n := n
			if n.Code = code; code != "" {
				n.Reason = "Because of: " + code + "."
			}
			if kind == billing.NoticeTopUpPaused {
				n.Failures = billing.MaxTopUpFailures
			}
			data := billingMail{Notice: n, Settings: page + "/auto-topup"}
			if !toStaff[kind] {
				data.Name = "Ada"
			}
			p.Samples = append(p.Samples, mail.Sample{Kind: "billing." + string(kind), Name: code, Data: data})
		}
	}
	return p
}
