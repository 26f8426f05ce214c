package auth

import (
	"context"
	"fmt"
	"net/url"

	"github.com/jmoiron/sqlx"
)

// The kinds of mails, by which mails/*.txt and the host's own texts are named.
const (
	kindVerify    = "auth.verify"       // the link that confirms an address
	kindExists    = "auth.exists"       // somebody signed up with an address that has an account
	kindReset     = "auth.reset"        // the link for a new password
	kindNoAccount = "auth.noaccount"    // somebody asked for a link for an address that has no account
	kindMagic     = "auth.magic"        // a code and a link that log in
	kindChangeTo  = "auth.emailchange"  // to the new address: the link that confirms it
	kindAsked     = "auth.emailasked"   // to the old address: a change waits to be confirmed
	kindChanged   = "auth.emailchanged" // to the old address: it was changed
)

// The mails about organisations and accounts.
const (
	kindInvitation = "auth.invitation" // the link that makes a member
	kindDeletion   = "auth.deletion"   // an account is to be erased, and how to keep it
	kindErased     = "auth.erased"     // it was

	// To all members of an organisation.
	kindOrgDeletion = "auth.orgdeletion" // it is to be erased, and how an owner keeps it
	kindOrgKept     = "auth.orgkept"     // it is not to be erased any more
	kindOrgErased   = "auth.orgerased"   // it was
)

// Mail is what the texts of mails are executed with. All links begin with Config.BaseURL.
type Mail struct {
	// Name is what the person is called: empty before the address is confirmed, as anyone could have written it.
	Name string
	// Link is the one with the token, empty where there is none.
	Link string
	// LogIn, SignUp and Forgot are the pages.
	LogIn, SignUp, Forgot string
	// Code is that of a log-in by mail, in two groups.
	Code string
	// Address is the new one of an account.
	Address string
}

// send has a mail of a kind sent to a user's address once tx is committed.
func (a *Auth) send(ctx context.Context, tx *sqlx.Tx, u userRow, kind, token string) error {
	data := Mail{LogIn: a.url("/login"), SignUp: a.url("/signup"), Forgot: a.url("/password/forgot")}
	if u.VerifiedAt != nil {
		data.Name = u.Name
	}
	switch kind {
	case kindVerify:
		data.Link = a.url("/verify?token=" + url.QueryEscape(token))
	case kindReset:
		data.Link = a.url("/password/reset?token=" + url.QueryEscape(token))
	}
	return a.mail(ctx, tx, u, kind, data)
}

// sendMagic has the code and the link of a log-in by mail sent.
func (a *Auth) sendMagic(ctx context.Context, tx *sqlx.Tx, u userRow, code, link string) error {
	return a.mail(ctx, tx, u, kindMagic, Mail{Name: u.Name, Code: code[:magicDigits/2] + " " + code[magicDigits/2:], Link: a.url("/magic/link?token=" + url.QueryEscape(link))})
}

// mail has a mail of a kind sent to a user's address.
func (a *Auth) mail(ctx context.Context, tx *sqlx.Tx, u userRow, kind string, data Mail) error {
	return a.sendIn(ctx, tx, u.Language, kind, u.Email, data.Name, data)
}

// InvitationMail is what the text of auth.invitation is executed with.
type InvitationMail struct {
	// Organisation is its name, and Role what the person is to be there.
	Organisation, Role string
	Link               string
}

// sendTo has a mail of a kind sent to an address once tx is committed, in the language of the account with that address.
func (a *Auth) sendTo(ctx context.Context, tx *sqlx.Tx, kind, address, name string, data any) error {
	language, err := a.MailLanguageTx(ctx, tx, address)
	if err != nil {
		return err
	}
	return a.compose(ctx, tx, language, kind, address, name, data)
}

// sendIn is sendTo in a language that is known, unless the host knows better.
func (a *Auth) sendIn(ctx context.Context, tx *sqlx.Tx, language, kind, address, name string, data any) error {
	if a.cfg.MailLanguage != nil {
		language = a.cfg.MailLanguage(ctx, address)
	}
	return a.compose(ctx, tx, language, kind, address, name, data)
}

func (a *Auth) compose(ctx context.Context, tx *sqlx.Tx, language, kind, address, name string, data any) error {
	m, err := a.mails.ComposeIn(language, kind, address, name, data)
	if err != nil {
		return fmt.Errorf("auth: compose %s: %w", kind, err)
	}
	if err := a.cfg.Mail.EnqueueTx(ctx, tx, m); err != nil {
		return fmt.Errorf("auth: enqueue %s: %w", kind, err)
	}
	return nil
}

func (a *Auth) url(path string) string { return a.cfg.BaseURL + a.cfg.Path + path }
