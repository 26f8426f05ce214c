package quickscale

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/mail"
)

//go:embed mails
var mailFiles embed.FS

// The kinds of mails, by which mails/*.txt and the host's own texts are named.
const (
	kindLow      = "credits.low"
	kindExpiring = "credits.expiring"
)

func (a *App) wireMails() error {
	files, err := fs.Sub(mailFiles, "mails")
	if err != nil {
		return fmt.Errorf("quickscale: texts of mails: %w", err)
	}
	a.mails, err = mail.NewTemplates(mail.TemplatesConfig{Files: files, Overrides: a.cfg.MailTemplates, Site: a.site.Name()})
	return err
}

// onLow mails the person whose credits run low.
func (a *App) onLow(ctx context.Context, low credits.LowBalance) error {
	return a.mailTo(ctx, low.Account, kindLow, struct {
		credits.LowBalance

		Buy string
	}{low, a.cfg.BaseURL + billingPath + "/"})
}

// onExpiring mails the person whose credits expire soon.
func (a *App) onExpiring(ctx context.Context, soon credits.ExpiringSoon) error {
	return a.mailTo(ctx, soon.Account, kindExpiring, struct {
		credits.ExpiringSoon

		Credits string
	}{soon, a.cfg.BaseURL + creditsPath + "/"})
}

// mailTo queues a mail to each of the people who look after an account's money. Accounts that the host keeps for others
// than users have nobody to mail, nor has one that is closed.
func (a *App) mailTo(ctx context.Context, id, kind string, data any) error {
	people, err := a.Auth.AccountContacts(ctx, id)
	if err != nil || len(people) == 0 {
		return err
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		for _, u := range people {
			m, err := a.mails.Compose(kind, u.Email, u.Name, data)
			if err != nil {
				return fmt.Errorf("quickscale: compose %s: %w", kind, err)
			}
			if err := a.Mail.EnqueueTx(ctx, tx, m); err != nil {
				return err
			}
		}
		return nil
	})
}
