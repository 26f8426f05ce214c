package quickscale

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/quickscale/quickscale/auth"
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
	return a.checkBillingMails()
}

// onLow tops up an account that asks for it, and otherwise mails the person whose credits run low. How a top-up ends
// billing tells them.
func (a *App) onLow(ctx context.Context, low credits.LowBalance) error {
	if _, err := a.Billing.TopUp(ctx, low.Account); !errors.Is(err, billing.ErrTopUpOff) {
		return err // the job tries again
	}
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

// mailTo queues a mail to an account's person. Accounts that the host keeps for others than users have nobody to mail,
// nor has one that is closed.
func (a *App) mailTo(ctx context.Context, id, kind string, data any) error {
	u, err := a.Auth.FindUser(ctx, id)
	switch {
	case errors.Is(err, auth.ErrNotFound), err == nil && u.DisabledAt != nil:
		return nil
	case err != nil:
		return err
	}
	m, err := a.mails.Compose(kind, u.Email, u.Name, data)
	if err != nil {
		return fmt.Errorf("quickscale: compose %s: %w", kind, err)
	}
	return a.Mail.Enqueue(ctx, m)
}
