package quickscale

import (
	"context"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/billing"
)

// billingMail is the data of mails/billing.*.txt.
type billingMail struct {
	billing.Notice

	// Name is the person's, empty for staff.
	Name string
	// Settings is where auto top-up is changed.
	Settings string
}

// toStaff are the notices that go to the administrator of the configuration; all others go to the customer.
var toStaff = map[billing.NoticeKind]bool{
	billing.NoticeDisputeOpened: true, billing.NoticeDisputeWon: true, billing.NoticeDisputeLost: true, billing.NoticeInquiry: true,
}

// billingNotice mails what billing has to say.
func (a *App) billingNotice(ctx context.Context, tx *sqlx.Tx, n billing.Notice) error {
	data := billingMail{Notice: n, Settings: a.cfg.BaseURL + billingPath + "/auto-topup"}
	if !toStaff[n.Kind] {
		people, err := a.Auth.AccountContactsTx(ctx, tx, n.Account) // nobody where it was deleted or closed since, or is no user's
		if err != nil {
			return err
		}
		for _, u := range people {
			data.Name = u.Name
			if err := a.mailBilling(ctx, tx, u.Email, data); err != nil {
				return err
			}
		}
		return nil
	}
	if a.cfg.AdminEmail == "" {
		return nil
	}
	return a.mailBilling(ctx, tx, a.cfg.AdminEmail, data)
}

func (a *App) mailBilling(ctx context.Context, tx *sqlx.Tx, to string, data billingMail) error {
	kind := "billing." + string(data.Kind)
	m, err := a.compose(ctx, tx, kind, to, data.Name, data)
	if err != nil {
		return err
	}
	return a.Mail.EnqueueTx(ctx, tx, m)
}
