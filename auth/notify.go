package auth

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// MailChoice is what a person has decided about mails beside those about security, payments and organisations, which
// always come.
type MailChoice struct {
	// Wanted says that they may be sent; see [Profile.Notify].
	Wanted bool
	// Stop is the page where they are ended, for the mail's footer. With Config.Secret it works without a log-in, by one
	// click too (RFC 8058); else it is the profile.
	Stop string
	// OneClick says that Stop is what [mail.Message.Unsubscribe] takes.
	OneClick bool
}

// MailChoiceTx returns what a person has decided, inside tx. Ask it before each such mail. Who has decided nothing, and who
// is not known, wants them.
func (a *Auth) MailChoiceTx(ctx context.Context, tx *sqlx.Tx, userID string) (MailChoice, error) {
	c := MailChoice{Wanted: true, Stop: a.cfg.BaseURL + a.cfg.AccountPath + "/profile"}
	if !isID(userID) {
		return c, nil
	}
	if a.stops != nil {
		token := base64.RawURLEncoding.EncodeToString(a.stops.Seal([]byte(userID)))
		c.Stop, c.OneClick = a.url("/unsubscribe?token="+url.QueryEscape(token)), true
	}
	err := a.db.GetTx(ctx, tx, &c.Wanted, `SELECT notify FROM qs_auth_profiles WHERE user_id = ?`, userID)
	if err != nil && !database.IsNoRows(err) {
		return c, fmt.Errorf("auth: what mails user %s wants: %w", userID, err)
	}
	return c, nil
}

// SetNotify notes whether a person wants mails beside those that always come. [ErrNotFound].
func (a *Auth) SetNotify(ctx context.Context, userID string, wanted bool) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if err != nil {
			return err
		}
		const write = `INSERT INTO qs_auth_profiles (user_id, bio, phone, job_title, company, website, location, twitter, linkedin, github, notify, updated_at)
			VALUES (?, '', '', '', '', '', '', '', '', '', ?, ?) ON CONFLICT (user_id) DO UPDATE SET notify = excluded.notify, updated_at = excluded.updated_at`
		if _, err := a.db.ExecTx(ctx, tx, write, u.ID, wanted, database.At(a.now())); err != nil {
			return fmt.Errorf("auth: note what mails user %s wants: %w", u.ID, err)
		}
		return nil
	})
}

// stopper is whose mails a link ends; [ErrLink].
func (a *Auth) stopper(token string) (userID string, err error) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || a.stops == nil {
		return "", ErrLink
	}
	id, err := a.stops.Open(sealed)
	if err != nil {
		return "", ErrLink
	}
	return string(id), nil
}
