package auth_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// fill gives the organisation open invitations until it has n members and invitations.
func (tm team) fill(t *testing.T, n int) {
	t.Helper()
	tx, err := tm.db.Writer().Beginx()
	require.NoError(t, err)
	var have int
	const count = `SELECT (SELECT COUNT(*) FROM qs_auth_members WHERE organisation_id = ?) + (SELECT COUNT(*) FROM qs_auth_invitations WHERE organisation_id = ? AND ended_at IS NULL)`
	require.NoError(t, tx.Get(&have, tm.db.Rebind(count), tm.org.ID, tm.org.ID))
	const insert = `INSERT INTO qs_auth_invitations (id, organisation_id, token_hash, email, email_key, role, created_at, expires_at) VALUES (?, ?, ?, ?, ?, 'member', ?, ?)`
	for ; have < n; have++ {
		address := fmt.Sprintf("guest%d@example.com", have)
		_, err := tx.Exec(tm.db.Rebind(insert), uuid.Must(uuid.NewV7()).String(), tm.org.ID, hashed(address), address, address, database.At(start), database.At(start.Add(time.Hour)))
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
}

// Members and open invitations together are 500 at most, however many are sent at once; one in the place of another of the
// same address is no new one.
func TestInvitation_AnOrganisationHasABound(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		tm := newTeam(t, k)
		tm.fill(t, 497)
		owner := tm.people[auth.OrgOwner]
		invite := func(address string) error {
			_, err := k.Invite(t.Context(), auth.InviteParams{ActorID: owner.ID, OrganisationID: tm.org.ID, Email: address, Role: auth.OrgMember})
			return err
		}
		n := 0
		results := make(chan error, 6)
		for range cap(results) {
			n++
			address := fmt.Sprintf("new%d@example.com", n)
			go func() { results <- invite(address) }()
		}
		made := 0
		for range cap(results) {
			err := <-results
			if err == nil {
				made++
				continue
			}
			require.ErrorIs(t, err, auth.ErrOrganisationFull)
		}
		assert.Equal(t, 3, made)
		require.NoError(t, invite("guest10@example.com"), "it replaces the one that is open")
		require.ErrorIs(t, invite("late@example.com"), auth.ErrOrganisationFull)
		b := k.browser()
		b.logIn(owner.Email, password)
		assert.Equal(t, "organisation_full", code(t, b.json().post("/account/organisation/invitations", "email", "late@example.com", "role", "member")))
		all, err := k.Invitations(t.Context(), owner.ID, tm.org.ID)
		require.NoError(t, err)
		require.Len(t, all, 496)
		require.NoError(t, k.RevokeInvitation(t.Context(), auth.InvitationParams{ActorID: owner.ID, OrganisationID: tm.org.ID, ID: all[0].ID}))
		require.NoError(t, invite("late@example.com"), "what is taken back makes room")
	})
}

// An organisation sends 100 invitations in an hour, sent again ones included.
func TestInvitation_AnHourHasABound(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		tm := newTeam(t, k) // has sent three
		p := auth.InviteParams{ActorID: tm.people[auth.OrgOwner].ID, OrganisationID: tm.org.ID, Email: "guest@example.com", Role: auth.OrgMember}
		var last auth.Invitation
		for n := range 97 {
			var err error
			last, err = k.Invite(t.Context(), p)
			require.NoError(t, err, n)
		}
		_, err := k.Invite(t.Context(), p)
		var retry *auth.RetryError
		require.ErrorAs(t, err, &retry)
		assert.LessOrEqual(t, retry.After, time.Hour)
		require.ErrorAs(t, k.ResendInvitation(t.Context(), auth.InvitationParams{ActorID: p.ActorID, OrganisationID: p.OrganisationID, ID: last.ID}), &retry)
		b := k.browser()
		b.logIn(tm.people[auth.OrgOwner].Email, password)
		res := b.post("/account/organisation/invitations", "email", "guest@example.com", "role", "member")
		assert.Equal(t, http.StatusTooManyRequests, res.StatusCode)
		assert.NotEmpty(t, res.Header.Get("Retry-After"))
		k.clock.Advance(time.Hour)
		_, err = k.Invite(t.Context(), p)
		require.NoError(t, err)
	})
}

// A person is in 50 organisations at most, made or joined.
func TestOrganisation_APersonHasABound(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		tm := newTeam(t, k)
		u := tm.other
		for n := range 50 {
			_, err := k.CreateOrganisation(t.Context(), auth.CreateOrganisationParams{UserID: u.ID, Name: fmt.Sprintf("Number %d", n)})
			require.NoError(t, err)
		}
		_, err := k.CreateOrganisation(t.Context(), auth.CreateOrganisationParams{UserID: u.ID, Name: "One more"})
		require.ErrorIs(t, err, auth.ErrTooManyOrganisations)
		_, err = k.Invite(t.Context(), auth.InviteParams{ActorID: tm.people[auth.OrgOwner].ID, OrganisationID: tm.org.ID, Email: u.Email, Role: auth.OrgMember})
		require.NoError(t, err)
		_, token := k.link("auth.invitation")
		_, err = k.AcceptInvitation(t.Context(), auth.AcceptParams{Token: token, UserID: u.ID})
		require.ErrorIs(t, err, auth.ErrTooManyOrganisations)
		accounts, err := k.Accounts(t.Context(), u.ID)
		require.NoError(t, err)
		require.Len(t, accounts, 51)
		require.NoError(t, k.SwitchAccount(t.Context(), u.ID, sessionOf(t, k, u), accounts[1].ID))
		last := auth.MemberParams{ActorID: u.ID, OrganisationID: accounts[1].ID, UserID: u.ID}
		require.ErrorIs(t, k.RemoveMember(t.Context(), last), auth.ErrLastOwner)
		_, err = k.AskForOrganisationDeletion(t.Context(), u.ID, accounts[1].ID, auth.Client{})
		require.NoError(t, err)
		k.clock.Advance(auth.DefaultDeletionGrace)
		_, err = k.EraseDue(t.Context())
		require.NoError(t, err)
		_, err = k.CreateOrganisation(t.Context(), auth.CreateOrganisationParams{UserID: u.ID, Name: "One more"})
		require.NoError(t, err, "one that ends makes room")
	})
}

func sessionOf(t *testing.T, k *kit, u auth.User) string {
	t.Helper()
	s, err := k.LogIn(t.Context(), auth.LogInParams{Email: u.Email, Password: password})
	require.NoError(t, err)
	return s.Session.ID
}

// A role that is given or taken while somebody is logged in holds from their next request on in the process that gave it,
// and after Config.SessionCache at the latest in all others.
func TestOrganisation_ARoleChangesUnderWhoIsLoggedIn(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		tm := newTeam(t, k)
		owner, member := tm.people[auth.OrgOwner], tm.people[auth.OrgMember]
		elsewhere := newKit(t, k.db, func(c *auth.Config) { c.Clock = k.clock.Now })
		paid := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		here := k.browser()
		here.logIn(member.Email, password).leadsTo(t, "/account/")
		there := here.copy()
		here.h, there.h = k.RequireAccount(auth.OrgRole.MayPay)(paid), elsewhere.RequireAccount(auth.OrgRole.MayPay)(paid)
		step := func(name string, want int, change func() error) {
			t.Helper()
			k.clock.Advance(10 * time.Second)
			before := there.get("/x").StatusCode
			require.Equal(t, before, here.get("/x").StatusCode, name)
			require.NotEqual(t, want, before, name)
			require.NoError(t, change(), name)
			assert.Equal(t, want, here.get("/x").StatusCode, "%s: at once here", name)
			k.clock.Advance(auth.DefaultSessionCache)
			assert.Equal(t, want, there.get("/x").StatusCode, "%s: after a second everywhere", name)
		}
		set := func(role auth.OrgRole) func() error {
			return func() error {
				return k.SetMemberRole(t.Context(), auth.MemberParams{ActorID: owner.ID, OrganisationID: tm.org.ID, UserID: member.ID, Role: role})
			}
		}
		step("may pay", http.StatusNoContent, set(auth.OrgBilling))
		step("may not pay", http.StatusForbidden, set(auth.OrgMember))
		step("owns it", http.StatusNoContent, func() error {
			return k.TransferOwnership(t.Context(), auth.MemberParams{ActorID: owner.ID, OrganisationID: tm.org.ID, UserID: member.ID})
		})
		step("is a member again", http.StatusForbidden, func() error {
			if err := k.SetMemberRole(t.Context(), auth.MemberParams{ActorID: member.ID, OrganisationID: tm.org.ID, UserID: owner.ID, Role: auth.OrgOwner}); err != nil {
				return err
			}
			return set(auth.OrgMember)()
		})
		step("is out", http.StatusSeeOther, func() error {
			return k.RemoveMember(t.Context(), auth.MemberParams{ActorID: owner.ID, OrganisationID: tm.org.ID, UserID: member.ID})
		})
	})
}

// Whoever follows an organisation's address is told when others look after its money, and not else.
func TestHooks_AreToldWhenOthersLookAfterTheMoney(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		told := 0
		k := newKit(t, db, func(c *auth.Config) {
			c.Hooks.OnContactsChange = func(ctx context.Context, tx *sqlx.Tx, account string) error {
				told++
				_, err := db.ExecTx(ctx, tx, `UPDATE qs_auth_organisations SET name = name WHERE id = ?`, account)
				return err
			}
		})
		tm := newTeam(t, k)
		owner, admin, member := tm.people[auth.OrgOwner], tm.people[auth.OrgAdmin], tm.people[auth.OrgMember]
		assert.Equal(t, 1, told, "who does the billing has joined")
		p := func(user auth.User, role auth.OrgRole) auth.MemberParams {
			return auth.MemberParams{ActorID: owner.ID, OrganisationID: tm.org.ID, UserID: user.ID, Role: role}
		}
		for _, step := range []struct {
			name string
			by   int
			do   func() error
		}{
			{"a member becomes an administrator", 0, func() error { return k.SetMemberRole(t.Context(), p(member, auth.OrgAdmin)) }},
			{"an administrator leaves", 0, func() error { return k.RemoveMember(t.Context(), p(member, "")) }},
			{"another owner", 1, func() error { return k.SetMemberRole(t.Context(), p(admin, auth.OrgOwner)) }},
			{"who does the billing leaves", 1, func() error { return k.RemoveMember(t.Context(), p(tm.people[auth.OrgBilling], "")) }},
			{"an owner is erased", 1, func() error {
				if _, err := k.AskForDeletion(t.Context(), admin.ID, "", auth.Client{}); err != nil {
					return err
				}
				k.clock.Advance(auth.DefaultDeletionGrace)
				_, err := k.EraseDue(t.Context())
				return err
			}},
		} {
			before := told
			require.NoError(t, step.do(), step.name)
			assert.Equal(t, before+step.by, told, step.name)
		}
	})
}
