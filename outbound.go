package quickscale

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/webhook"
	"github.com/quickscale/quickscale/webhook/outbound"
)

func (a *App) wireOutbound() (err error) {
	if a.cfg.WithoutOutbound {
		return nil
	}
	a.Outbound, err = outbound.New(outbound.Config{
		DB: a.db.Writer(), ReadDB: a.db.Reader(), Jobs: a.jobs.Client(), Key: []byte(a.cfg.SecretKey), Types: append(append(outbound.DefaultTypes(), TypeCallEnded), a.cfg.OutboundTypes...),
		OnDisabled: a.onDisabled, Metrics: a.cfg.Metrics, AllowLoopback: a.cfg.OutboundLoopback, Clock: a.cfg.Clock, Logger: a.cfg.Logger,
	})
	if err != nil {
		return err
	}
	if err := a.Outbound.AddWorkers(a.jobs.Workers()); err != nil {
		return err
	}
	a.hooks, err = outbound.NewPages(outbound.PagesConfig{
		Outbound: a.Outbound, Account: accountOf, LoginURL: authPath + "/login", BackURL: accountPath + "/", Site: a.site,
	})
	return err
}

// send writes a message to an account's programs, in the transaction of its cause.
func (a *App) send(ctx context.Context, tx *sqlx.Tx, m outbound.Message) error {
	if a.Outbound == nil {
		return nil
	}
	_, err := a.Outbound.SendTx(ctx, tx, m)
	return err
}

func (a *App) sendLow(ctx context.Context, tx *sqlx.Tx, low credits.LowBalance) error {
	return a.send(ctx, tx, outbound.Message{
		Account: low.Account, Type: outbound.TypeCreditsLow, Key: "low/" + strconv.FormatInt(low.At.UnixMicro(), 10), At: low.At,
		Data: outbound.CreditsLow{Account: low.Account, Available: low.Available.String(), Threshold: low.LowAt.String()},
	})
}

func (a *App) sendExpiring(ctx context.Context, tx *sqlx.Tx, soon credits.ExpiringSoon) error {
	return a.send(ctx, tx, outbound.Message{
		Account: soon.Account, Type: outbound.TypeCreditsExpiring, Key: "expiring/" + strconv.FormatInt(soon.At.UnixMicro(), 10), At: soon.At,
		Data: outbound.CreditsExpiring{Account: soon.Account, Amount: soon.Amount.String(), First: soon.First},
	})
}

// subscriptionTypes are the types of messages by what happened.
var subscriptionTypes = map[billing.EventKind]string{
	billing.EventSubscriptionCreated:   outbound.TypeSubscriptionCreated,
	billing.EventSubscriptionRenewed:   outbound.TypeSubscriptionRenewed,
	billing.EventSubscriptionChanged:   outbound.TypeSubscriptionChanged,
	billing.EventSubscriptionCanceled:  outbound.TypeSubscriptionCanceled,
	billing.EventSubscriptionResumed:   outbound.TypeSubscriptionResumed,
	billing.EventSubscriptionPaused:    outbound.TypeSubscriptionPaused,
	billing.EventSubscriptionPastDue:   outbound.TypeSubscriptionPastDue,
	billing.EventSubscriptionRecovered: outbound.TypeSubscriptionRecovered,
	billing.EventSubscriptionEnded:     outbound.TypeSubscriptionEnded,
}

// onBilling tells an account's programs what happened to its payments and its subscription.
func (a *App) onBilling(ctx context.Context, tx *sqlx.Tx, e billing.Event) error {
	m := outbound.Message{Account: e.Account, Key: e.Key}
	switch e.Kind {
	case billing.EventPaid:
		m.Type = outbound.TypePurchaseCompleted
		m.Data = outbound.PurchaseCompleted{Account: e.Account, Payment: e.Payment.ID.String(), Type: string(e.Payment.Type),
			Amount: e.Payment.Price.Amount, Currency: e.Payment.Price.Currency, Credits: e.Payment.Credits.String()}
	case billing.EventRefunded:
		m.Type = outbound.TypePaymentRefunded
		m.Data = outbound.PaymentRefunded{Account: e.Account, Payment: e.Refund.Payment.String(), Refund: e.Refund.ID.String(),
			Amount: e.Refund.Price.Amount, Currency: e.Refund.Price.Currency}
	default:
		s := e.Subscription
		data := outbound.SubscriptionChanged{Account: e.Account, Subscription: s.ID, Status: string(s.Status), Price: s.Plan.PriceID,
			Quantity: s.Quantity, PeriodEnd: &s.PeriodEnd, CancelAtPeriodEnd: s.CancelAtPeriodEnd}
		if s.Next != nil {
			data.NextPrice = s.Next.PriceID
		}
		m.Type, m.Data = subscriptionTypes[e.Kind], data
	}
	return a.send(ctx, tx, m)
}

// onDisabled mails the owner of an endpoint that was disabled because it fails.
func (a *App) onDisabled(ctx context.Context, tx *sqlx.Tx, e outbound.Endpoint) error {
	return a.mailTo(ctx, tx, e.Account, kindEndpoint, endpointMail{e, a.cfg.BaseURL + hooksPath + "/" + e.ID.String()})
}

// endpointMail is the data of mails/webhook.disabled.txt.
type endpointMail struct {
	outbound.Endpoint

	// Page is where the endpoint is enabled.
	Page string
}

// deadMail is the data of mails/webhook.dead.txt.
type deadMail struct {
	webhook.Record

	// Page is where the event is retried.
	Page string
}

// onDead mails the administrator of the configuration about an event of Stripe's that was given up. The event is told by
// the back office and by the metrics too, so a mail that cannot be queued is logged.
func (a *App) onDead(ctx context.Context, ev webhook.Record, _ error) {
	if a.cfg.AdminEmail == "" {
		return
	}
	err := a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		m, err := a.compose(ctx, tx, kindDead, a.cfg.AdminEmail, "", deadMail{ev, a.cfg.BaseURL + adminPath + "/webhooks/" + url.PathEscape(ev.ID)})
		if err != nil {
			return err
		}
		return a.Mail.EnqueueTx(ctx, tx, m)
	})
	if err != nil {
		a.cfg.Logger.ErrorContext(ctx, "mail about a dead webhook event", slog.String("event", ev.ID), slog.Any("error", err))
	}
}

func (a *App) pruneOutbound(ctx context.Context) error {
	if a.Outbound == nil {
		return nil
	}
	_, err := a.Outbound.Prune(ctx, 0)
	return err
}

// hooksPanel is the card of the dashboard that leads to the endpoints.
func (a *App) hooksPanel(ctx context.Context, id string) (auth.Panel, error) {
	endpoints, err := a.Outbound.ListEndpoints(ctx, id)
	if err != nil {
		return auth.Panel{}, err
	}
	p := auth.Panel{Label: "Webhook endpoints", Value: strconv.Itoa(len(endpoints)), Note: "Your programs are told what happens to your account.",
		URL: hooksPath + "/", Action: "Manage endpoints"}
	off := 0
	for _, e := range endpoints {
		if !e.Enabled {
			off++
		}
	}
	if off > 0 {
		p.Note = fmt.Sprintf("Disabled: %d of them.", off)
	}
	return p, nil
}
