package auth

import (
	"archive/zip"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// exported is account.json of an export.
type exported struct {
	User          User                   `json:"user"`
	Profile       Profile                `json:"profile"`
	Accounts      []Account              `json:"accounts"`
	Organisations []exportedMembership   `json:"organisations"`
	Invitations   []exportedInvitation   `json:"invitations"`
	Sessions      []exportedSession      `json:"sessions"`
	Devices       []exportedDevice       `json:"devices"`
	LinkedSites   []exportedIdentity     `json:"linked_sites"`
	Passkeys      []Passkey              `json:"passkeys"`
	Authenticator *exportedAuthenticator `json:"authenticator_app"`
	BackupCodes   []exportedBackupCode   `json:"backup_codes"`
	EmailChanges  []exportedEmailChange  `json:"email_changes"`
	APIKeys       []APIKey               `json:"api_keys"`
	Events        []Event                `json:"security_events"`
}

// exportedMembership is an organisation that the person is in.
type exportedMembership struct {
	ID       string        `db:"id"        json:"id"`
	Name     string        `db:"name"      json:"name"`
	Role     OrgRole       `db:"role"      json:"role"`
	JoinedAt database.Time `db:"joined_at" json:"joined_at"`
}

// exportedInvitation is one that was sent to the person's address.
type exportedInvitation struct {
	Organisation string         `db:"organisation" json:"organisation"`
	Email        string         `db:"email"        json:"email"`
	Role         OrgRole        `db:"role"         json:"role"`
	CreatedAt    database.Time  `db:"created_at"   json:"created_at"`
	ExpiresAt    database.Time  `db:"expires_at"   json:"expires_at"`
	EndedAt      *database.Time `db:"ended_at"     json:"ended_at"`
}

// exportedSession is a session, ended or not. From where staff looked is not the person's.
type exportedSession struct {
	IP         string         `db:"ip"           json:"ip"`
	Agent      string         `db:"agent"        json:"agent"`
	Remember   bool           `db:"remember"     json:"remember"`
	CreatedAt  database.Time  `db:"created_at"   json:"created_at"`
	LastSeenAt database.Time  `db:"last_seen_at" json:"last_seen_at"`
	ExpiresAt  database.Time  `db:"expires_at"   json:"expires_at"`
	EndedAt    *database.Time `db:"revoked_at"   json:"ended_at"`
	ByStaff    bool           `db:"by_staff"     json:"by_staff"`
}

// exportedDevice is a browser that is known again.
type exportedDevice struct {
	LastUsedAt database.Time `db:"last_used_at" json:"last_used_at"`
}

type exportedIdentity struct {
	Provider   string         `db:"provider"     json:"provider"`
	Issuer     string         `db:"issuer"       json:"issuer,omitempty"`
	Subject    string         `db:"subject"      json:"subject"`
	Email      string         `db:"email"        json:"email"`
	CreatedAt  database.Time  `db:"created_at"   json:"created_at"`
	LastUsedAt *database.Time `db:"last_used_at" json:"last_used_at"`
}

type exportedAuthenticator struct {
	CreatedAt   database.Time  `db:"created_at"   json:"created_at"`
	ConfirmedAt *database.Time `db:"confirmed_at" json:"confirmed_at"`
}

type exportedBackupCode struct {
	CreatedAt database.Time  `db:"created_at" json:"created_at"`
	UsedAt    *database.Time `db:"used_at"    json:"used_at"`
}

type exportedEmailChange struct {
	From        string         `db:"old_email"    json:"from"`
	To          string         `db:"new_email"    json:"to"`
	CreatedAt   database.Time  `db:"created_at"   json:"created_at"`
	ConfirmedAt *database.Time `db:"confirmed_at" json:"confirmed_at"`
	EndedAt     *database.Time `db:"ended_at"     json:"ended_at"`
}

// Export writes a zip file of everything that is kept about a person and their own account: account.json, picture.png,
// and NAME.json of each Config.AccountData. No secret is in it, nor the hash of one. What belongs to an organisation is the
// organisation's. [ErrNotFound].
func (a *Auth) Export(ctx context.Context, w io.Writer, userID string, c Client) error {
	all, err := a.gather(ctx, userID)
	if err != nil {
		return err
	}
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.record(ctx, tx, userID, EventExported, "", c) })
	if err != nil {
		return err
	}
	z := zip.NewWriter(w)
	file, err := z.Create("account.json")
	if err == nil {
		encoder := json.NewEncoder(file)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(all)
	}
	if err == nil {
		err = a.exportPicture(ctx, z, userID)
	}
	for _, d := range a.cfg.AccountData {
		if err == nil && d.Export != nil {
			if file, err = z.Create(d.Name + ".json"); err == nil {
				err = d.Export(ctx, file, all.User.AccountID)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("auth: export user %s: %w", userID, err)
	}
	return z.Close()
}

func (a *Auth) exportPicture(ctx context.Context, z *zip.Writer, userID string) error {
	id, err := a.PictureID(ctx, userID)
	if err != nil || id == "" {
		return err
	}
	data, err := a.Picture(ctx, id)
	if err != nil {
		return err
	}
	file, err := z.Create("picture.png")
	if err == nil {
		_, err = file.Write(data)
	}
	return err
}

// gather reads what this package keeps about a person.
func (a *Auth) gather(ctx context.Context, userID string) (all exported, err error) {
	if all.User, err = a.FindUser(ctx, userID); err != nil {
		return all, err
	}
	if all.Profile, err = a.Profile(ctx, userID); err != nil {
		return all, err
	}
	if all.Accounts, err = a.Accounts(ctx, userID); err != nil {
		return all, err
	}
	if all.Passkeys, err = a.Passkeys(ctx, userID); err != nil {
		return all, err
	}
	if err := a.gatherRows(ctx, userID, &all); err != nil {
		return all, err
	}
	all.APIKeys, err = pages(func(before string) ([]APIKey, bool, error) {
		return a.APIKeys(ctx, APIKeysParams{UserID: userID, Before: before, Limit: MaxPage})
	}, func(k APIKey) string { return k.ID })
	if err != nil {
		return all, err
	}
	all.Events, err = pages(func(before string) ([]Event, bool, error) {
		return a.SecurityEvents(ctx, EventsParams{UserID: userID, Before: before, Limit: MaxPage})
	}, func(e Event) string { return e.ID })
	return all, err
}

// gatherRows reads the lists that have no page of their own. The sweep and the limits keep each of them short.
func (a *Auth) gatherRows(ctx context.Context, userID string, all *exported) error {
	authenticators := []exportedAuthenticator{}
	all.Organisations, all.Invitations, all.Sessions, all.Devices = []exportedMembership{}, []exportedInvitation{}, []exportedSession{}, []exportedDevice{}
	all.LinkedSites, all.BackupCodes, all.EmailChanges = []exportedIdentity{}, []exportedBackupCode{}, []exportedEmailChange{}
	for _, list := range []struct {
		rows  any
		query string
	}{
		{&all.Organisations, `SELECT o.id, o.name, m.role, m.joined_at FROM qs_auth_members m JOIN qs_auth_organisations o ON o.id = m.organisation_id
			WHERE m.user_id = ? ORDER BY o.name, o.id`},
		{&all.Invitations, `SELECT o.name AS organisation, i.email, i.role, i.created_at, i.expires_at, i.ended_at FROM qs_auth_users u
			JOIN qs_auth_invitations i ON i.email_key = u.email_key JOIN qs_auth_organisations o ON o.id = i.organisation_id WHERE u.id = ? ORDER BY i.id`},
		{&all.Sessions, `SELECT CASE WHEN impersonator_id IS NULL THEN ip ELSE '' END AS ip, CASE WHEN impersonator_id IS NULL THEN agent ELSE '' END AS agent,
			remember, created_at, last_seen_at, expires_at, revoked_at, impersonator_id IS NOT NULL AS by_staff FROM qs_auth_sessions WHERE user_id = ? ORDER BY id`},
		{&all.Devices, `SELECT last_used_at FROM qs_auth_devices WHERE user_id = ? ORDER BY last_used_at`},
		{&all.LinkedSites, `SELECT provider, issuer, subject, email, created_at, last_used_at FROM qs_auth_identities WHERE user_id = ? ORDER BY id`},
		{&authenticators, `SELECT created_at, confirmed_at FROM qs_auth_totp WHERE user_id = ?`},
		{&all.BackupCodes, `SELECT created_at, used_at FROM qs_auth_backup_codes WHERE user_id = ? ORDER BY n`},
		{&all.EmailChanges, `SELECT old_email, new_email, created_at, confirmed_at, ended_at FROM qs_auth_email_changes WHERE user_id = ? ORDER BY id`},
	} {
		if err := a.db.Select(ctx, list.rows, list.query, userID); err != nil {
			return fmt.Errorf("auth: gather the data of user %s: %w", userID, err)
		}
	}
	if len(authenticators) > 0 {
		all.Authenticator = &authenticators[0]
	}
	return nil
}

// pages reads a whole list.
func pages[T any](page func(before string) ([]T, bool, error), id func(T) string) (all []T, err error) {
	before := ""
	for {
		some, more, err := page(before)
		if err != nil {
			return nil, err
		}
		if all = append(all, some...); !more {
			return all, nil
		}
		before = id(some[len(some)-1])
	}
}
