package quickscale

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/mail"
)

// billingNotice mails what billing has to say: to the customer about a payment that did not go through, and to the
// administrator of the configuration about disputes.
func (a *App) billingNotice(ctx context.Context, tx *sqlx.Tx, n billing.Notice) error {
	m := mail.Message{Kind: "billing." + string(n.Kind), To: a.cfg.AdminEmail}
	switch n.Kind {
	case billing.NoticePaymentFailed:
		m.To, m.Subject = "", "Your payment did not go through"
		m.Text = fmt.Sprintf("Hello,\n\nthe payment of %s for %s did not go through. It is tried again in the next days.\n\nPay it now, with this card or another: %s\n",
			n.Price, n.Description, n.URL)
	case billing.NoticeDisputeOpened:
		m.Subject = "A payment is disputed"
		m.Text = fmt.Sprintf("The customer's bank takes back %s: %s.\nIts credits are taken back meanwhile. Answer in Stripe's Dashboard before the deadline.\n", n.Price, n.Description)
	case billing.NoticeDisputeWon:
		m.Subject = "A dispute is won"
		m.Text = fmt.Sprintf("The money is back: %s for %s.\nThe credits have been given back.\n", n.Price, n.Description)
	case billing.NoticeDisputeLost:
		m.Subject = "A dispute is lost"
		m.Text = fmt.Sprintf("The money is gone: %s for %s.\nIts credits stay taken back.\n", n.Price, n.Description)
	case billing.NoticeInquiry:
		m.Subject = "A bank asks about a payment"
		m.Text = fmt.Sprintf("The customer's bank asks about %s: %s.\nNo money has moved. A refund or an answer in Stripe's Dashboard may avoid a dispute.\n", n.Price, n.Description)
	}
	if n.Kind == billing.NoticePaymentFailed {
		return a.tellPayers(ctx, tx, n.Account, m)
	}
	if m.To == "" || m.Subject == "" {
		return nil
	}
	return a.Mail.EnqueueTx(ctx, tx, m)
}

// tellPayers queues a mail to each of the people who look after an account's money. An account that was deleted since
// has nobody.
func (a *App) tellPayers(ctx context.Context, tx *sqlx.Tx, account string, m mail.Message) error {
	people, err := a.Auth.AccountContactsTx(ctx, tx, account)
	if err != nil {
		return err
	}
	for _, u := range people {
		m.To, m.ToName = u.Email, u.Name
		if err := a.Mail.EnqueueTx(ctx, tx, m); err != nil {
			return err
		}
	}
	return nil
}
