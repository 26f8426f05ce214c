package quickscale

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/mail"
)

//go:embed mails
var mailFiles embed.FS

// The kinds of mails, by which mails/*.txt and the host's own texts are named.
const (
	kindLow      = "credits.low"
	kindExpiring = "credits.expiring"
	kindEndpoint = "webhook.disabled"
	kindDead     = "webhook.dead"
)

func (a *App) wireMails() error {
	files, err := fs.Sub(mailFiles, "mails")
	if err != nil {
		return fmt.Errorf("quickscale: texts of mails: %w", err)
	}
	a.mails, err = mail.NewTemplates(mail.TemplatesConfig{Files: files, Overrides: a.cfg.MailTemplates, Site: a.site.Name()})
	if err != nil {
		return err
	}
	return a.mailPreview().Check()
}

// compose makes a mail in the language of its reader.
func (a *App) compose(ctx context.Context, tx *sqlx.Tx, kind, to, name string, data any) (mail.Message, error) {
	language, err := a.Auth.MailLanguageTx(ctx, tx, to)
	if err != nil {
		return mail.Message{}, err
	}
	m, err := a.mails.ComposeIn(language, kind, to, name, data)
	if err != nil {
		return m, fmt.Errorf("quickscale: compose %s: %w", kind, err)
	}
	return m, nil
}

// lowMail is the data of mails/credits.low.txt.
type lowMail struct {
	credits.LowBalance

	// Buy is where packs are bought, and Stop where such mails are ended.
	Buy, Stop string
}

// expiringMail is the data of mails/credits.expiring.txt.
type expiringMail struct {
	credits.ExpiringSoon

	// Credits is the page of the credits, and Stop where such mails are ended.
	Credits, Stop string
}

// onLow tops up an account that asks for it, and otherwise mails the person whose credits run low. How a top-up ends
// billing tells them. Their programs are told in both cases.
func (a *App) onLow(ctx context.Context, low credits.LowBalance) error {
	_, err := a.Billing.TopUp(ctx, low.Account)
	off := errors.Is(err, billing.ErrTopUpOff)
	if err != nil && !off {
		return err // the job tries again
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if off {
			err := a.offerTo(ctx, tx, low.Account, kindLow, func(stop string) any {
				return lowMail{low, a.cfg.BaseURL + billingPath + "/", stop}
			})
			if err != nil {
				return err
			}
		}
		return a.sendLow(ctx, tx, low)
	})
}

// onExpiring mails the person whose credits expire soon, and tells their programs.
func (a *App) onExpiring(ctx context.Context, soon credits.ExpiringSoon) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		err := a.offerTo(ctx, tx, soon.Account, kindExpiring, func(stop string) any {
			return expiringMail{soon, a.cfg.BaseURL + creditsPath + "/", stop}
		})
		if err != nil {
			return err
		}
		return a.sendExpiring(ctx, tx, soon)
	})
}

// mailTo queues a mail to each of the people who look after an account's money, in tx. Accounts that the host keeps for
// others than users have nobody to mail, nor has one that is closed.
func (a *App) mailTo(ctx context.Context, tx *sqlx.Tx, id, kind string, data any) error {
	people, err := a.Auth.AccountContactsTx(ctx, tx, id)
	if err != nil {
		return err
	}
	for _, u := range people {
		m, err := a.compose(ctx, tx, kind, u.Email, u.Name, data)
		if err != nil {
			return err
		}
		if err := a.Mail.EnqueueTx(ctx, tx, m); err != nil {
			return err
		}
	}
	return nil
}

// offerTo is mailTo for mails that people can do without: those who want none get none, and the others the link that ends
// them, for the text and the header.
func (a *App) offerTo(ctx context.Context, tx *sqlx.Tx, id, kind string, data func(stop string) any) error {
	people, err := a.Auth.AccountContactsTx(ctx, tx, id)
	if err != nil {
		return err
	}
	for _, u := range people {
		choice, err := a.Auth.MailChoiceTx(ctx, tx, u.ID)
		if err != nil {
			return err
		}
		if !choice.Wanted {
			continue
		}
		m, err := a.compose(ctx, tx, kind, u.Email, u.Name, data(choice.Stop))
		if err != nil {
			return err
		}
		if choice.OneClick {
			m.Unsubscribe = choice.Stop
		}
		if err := a.Mail.EnqueueTx(ctx, tx, m); err != nil {
			return err
		}
	}
	return nil
}
