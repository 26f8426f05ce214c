package auth

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/mail"
)

// changes are the events that auth.change tells of, each in a sentence of its own.
var changes = []EventKind{
	EventTOTPEnabled, EventTOTPDisabled, EventBackupCodes, EventBackupUsed, EventPasskeyAdded, EventPasskeyRemoved, EventPasskeyCloned, EventFactorsReset,
	EventLinked, EventUnlinked, EventPasswordSet,
}

// MailPreview are all mails of this package with made-up data, in the words of the host where it has its own.
func (a *Auth) MailPreview() mail.Preview {
	const name, device, ip = "Ada", "Firefox on Linux", "192.0.2.1"
	link := func(path string) string { return a.url(path + "?token=made-up") }
	all := Mail{Name: name, LogIn: a.url("/login"), SignUp: a.url("/signup"), Forgot: a.url("/password/forgot"), Code: "1234 5678", Address: "ada@new.example"}
	with := func(link string) Mail {
		m := all
		m.Link = link
		return m
	}
	notice := func(e EventKind, about string) Notice {
		return a.linked(Notice{Name: name, Event: e, About: about, Device: device, IP: ip})
	}
	p := mail.Preview{Templates: a.mails, Samples: []mail.Sample{
		{Kind: kindVerify, Data: with(link("/verify"))},
		{Kind: kindExists, Data: all},
		{Kind: kindNoAccount, Data: all},
		{Kind: kindReset, Data: with(link("/password/reset"))},
		{Kind: kindMagic, Data: with(link("/magic/link"))},
		{Kind: kindAsked, Data: with(link("/email/undo"))},
		{Kind: kindChangeTo, Data: with(link("/email/confirm"))},
		{Kind: kindChanged, Data: with(link("/email/undo"))},
		{Kind: kindDevice, Data: notice(EventNewDevice, "")},
		{Kind: kindPassword, Data: notice(EventPasswordChanged, "")},
		{Kind: kindDeletion, Data: DeletionMail{name, a.now().Add(a.cfg.DeletionGrace), a.cfg.BaseURL + a.cfg.AccountPath + "/delete"}},
		{Kind: kindErased, Data: struct{}{}},
		{Kind: kindOrgDeletion, Name: "owner", Data: OrganisationMail{Name: name, Organisation: "Acme", At: a.now().Add(a.cfg.DeletionGrace), Owner: true, Link: a.cfg.BaseURL + a.cfg.AccountPath + "/organisation"}},
		{Kind: kindOrgDeletion, Name: "member", Data: OrganisationMail{Name: name, Organisation: "Acme", At: a.now().Add(a.cfg.DeletionGrace)}},
		{Kind: kindOrgKept, Data: OrganisationMail{Name: name, Organisation: "Acme"}},
		{Kind: kindOrgErased, Data: OrganisationMail{Name: name, Organisation: "Acme"}},
	}}
	for _, role := range []OrgRole{OrgOwner, OrgAdmin, OrgMember, OrgBilling} {
		p.Samples = append(p.Samples, mail.Sample{Kind: kindInvitation, Name: string(role), Data: InvitationMail{Organisation: "Acme", Role: role.Label(), Link: link("/invitation")}})
	}
	for _, change := range changes {
		about := ""
		switch change {
		case EventBackupUsed:
			about = strconv.Itoa(backupCodes - 1)
		case EventPasskeyAdded, EventPasskeyRemoved, EventPasskeyCloned:
			about = "My phone"
		case EventLinked, EventUnlinked:
			about = "Google"
		}
		p.Samples = append(p.Samples, mail.Sample{Kind: kindChange, Name: string(change), Data: notice(change, about)})
	}
	return p
}

// MailLanguageTx is the language of mails to an address, as Config.MailLanguage or else the profile of the account with it
// says, for mails of others in tx. Empty: nobody has said.
func (a *Auth) MailLanguageTx(ctx context.Context, tx *sqlx.Tx, address string) (string, error) {
	if a.cfg.MailLanguage != nil {
		return a.cfg.MailLanguage(ctx, address), nil
	}
	e, err := parseEmail(address)
	if err != nil {
		return "", nil //nolint:nilerr // nobody's: no account has such an address
	}
	language := ""
	err = a.db.GetTx(ctx, tx, &language, `SELECT language FROM qs_auth_users WHERE email_key = ?`, e.key)
	if err != nil && !database.IsNoRows(err) {
		return "", fmt.Errorf("auth: the language of a mail: %w", err)
	}
	return language, nil
}
