package auth_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// recipients are who got a mail of a kind, in order of their addresses.
func (k *kit) recipients(kind string) (addresses []string) {
	for _, m := range k.mails() {
		if m.Kind == kind {
			addresses = append(addresses, m.Recipient)
		}
	}
	slices.Sort(addresses)
	return addresses
}

var everyone = []string{"admin@example.com", "billing@example.com", "member@example.com", "owner@example.com"}

// An owner deletes an organisation that others are in: they are told, its keys stop at once, and after the grace it is
// gone for all of them while their own accounts go on.
func TestOrganisationDeletion_EndsItForAllMembersAfterTheGrace(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		var h hooks
		data := h.data()
		data[0].Left = func(_ context.Context, account string) (string, error) { return "7 credits of " + account + ".", nil }
		k := newKit(t, db, func(c *auth.Config) { c.AccountData = data })
		tm := newTeam(t, k)
		ctx := t.Context()
		member := tm.people[auth.OrgMember]
		key := func(account string) string {
			_, token, err := k.CreateAPIKey(ctx, auth.CreateAPIKeyParams{UserID: member.ID, AccountID: account, Name: "k"})
			require.NoError(t, err)
			return token
		}
		shared, own := key(tm.org.ID), key(member.AccountID)
		invited, err := k.Invite(ctx, auth.InviteParams{ActorID: tm.people[auth.OrgOwner].ID, OrganisationID: tm.org.ID, Email: tm.other.Email, Role: auth.OrgMember})
		require.NoError(t, err)
		in := func(b *browser, account string) {
			b.logIn(member.Email, password)
			b.post("/account/organisation/switch", "account", account).leadsTo(t, "/account/")
		}
		_, invitation := k.link("auth.invitation")
		owner, acting, apart := k.browser(), k.browser(), k.browser()
		owner.logIn("owner@example.com", password)
		in(apart, member.AccountID)
		in(acting, tm.org.ID)

		for role, u := range tm.people {
			if role == auth.OrgOwner {
				continue
			}
			b := k.browser()
			b.logIn(u.Email, password)
			assert.Equal(t, http.StatusForbidden, b.get("/account/organisation/delete").StatusCode, role)
			assert.Equal(t, http.StatusForbidden, b.post("/account/organisation/delete", "name", "Acme").StatusCode, role)
			assert.NotContains(t, b.get("/account/organisation").body, "/organisation/delete", role)
		}
		page := owner.get("/account/organisation/delete").body
		assert.Contains(t, page, "7 credits of "+tm.org.ID+".", "what is lost is said before")
		assert.Contains(t, page, "4 members")
		res := owner.post("/account/organisation/delete", "name", "acme")
		assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)
		assert.Contains(t, res.body, `id="f-name-error"`)
		assert.Zero(t, h.closing.Load())
		for range 2 {
			owner.post("/account/organisation/delete", "name", " Acme ").leadsTo(t, "/account/organisation/delete")
		}
		assert.EqualValues(t, 1, h.closing.Load(), "asked for twice, told once")
		assert.Equal(t, everyone, k.recipients("auth.orgdeletion"))
		assert.Contains(t, owner.copy().json().get("/account/organisation/delete").body, `"delete_at":"2026-03-15T12:00:00Z"`)

		_, _, err = k.AuthenticateKey(ctx, shared)
		require.ErrorIs(t, err, auth.ErrKey)
		_, _, err = k.AuthenticateKey(ctx, own)
		require.NoError(t, err)
		_, err = k.AcceptInvitation(ctx, auth.AcceptParams{Token: invitation, UserID: tm.other.ID})
		require.ErrorIs(t, err, auth.ErrLink, invited.ID)
		_, err = k.Invite(ctx, auth.InviteParams{ActorID: tm.people[auth.OrgAdmin].ID, OrganisationID: tm.org.ID, Email: tm.other.Email, Role: auth.OrgMember})
		require.ErrorIs(t, err, auth.ErrOrganisationEnds)
		_, _, err = k.CreateAPIKey(ctx, auth.CreateAPIKeyParams{UserID: member.ID, AccountID: tm.org.ID, Name: "k"})
		require.ErrorIs(t, err, auth.ErrOrganisationEnds)
		assert.Contains(t, acting.get("/account/organisation").body, "is erased on", "who works on is told where they see it")

		k.clock.Advance(14*24*time.Hour - time.Second)
		n, err := k.EraseDue(ctx)
		require.NoError(t, err)
		require.Zero(t, n, "not before its time")
		in(apart, member.AccountID)
		in(acting, tm.org.ID)
		h.fail.Store(true)
		k.clock.Advance(time.Second)
		_, err = k.EraseDue(ctx)
		require.ErrorContains(t, err, "Stripe is away")
		assert.Equal(t, auth.OrgMember, tm.role(t, member.ID), "nothing is erased while a subscription may go on")
		h.fail.Store(false)
		n, err = k.EraseDue(ctx)
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		assert.Equal(t, []string{tm.org.ID}, h.accounts)
		assert.Equal(t, everyone, k.recipients("auth.orgerased"))
		for _, table := range []string{"organisations", "members", "invitations"} {
			assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_`+table), table)
		}
		assert.False(t, acting.in(), "a form that is open there must not be carried out for another account")
		assert.True(t, apart.in())
		acting.logIn(member.Email, password)
		assert.Contains(t, acting.copy().json().get("/account/organisation").body, `"account":{"id":"`+member.AccountID+`","name":""`, "they go on with their own account")
		for _, u := range tm.people {
			assert.Contains(t, k.events(u.ID), auth.EventOrgErased)
			_, err := k.FindUser(ctx, u.ID)
			require.NoError(t, err)
		}
		assert.Contains(t, k.events(tm.people[auth.OrgOwner].ID), auth.EventOrgDeletionAsked)
		n, err = k.EraseDue(ctx)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestOrganisationDeletion_CanBeCancelledByAnyOwner(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		tm := newTeam(t, k)
		ctx := t.Context()
		owner, second := tm.people[auth.OrgOwner], tm.people[auth.OrgAdmin]
		require.ErrorIs(t, k.KeepOrganisation(ctx, owner.ID, tm.org.ID, auth.Client{}), auth.ErrNoDeletion)
		_, err := k.AskForOrganisationDeletion(ctx, tm.other.ID, tm.org.ID, auth.Client{})
		require.ErrorIs(t, err, auth.ErrNoOrganisation)
		_, err = k.AskForOrganisationDeletion(ctx, second.ID, tm.org.ID, auth.Client{})
		require.ErrorIs(t, err, auth.ErrOrgRole)
		at, err := k.AskForOrganisationDeletion(ctx, owner.ID, tm.org.ID, auth.Client{})
		require.NoError(t, err)
		assert.Equal(t, start.Add(auth.DefaultDeletionGrace), at)
		require.ErrorIs(t, k.KeepOrganisation(ctx, second.ID, tm.org.ID, auth.Client{}), auth.ErrOrgRole)
		require.NoError(t, k.SetMemberRole(ctx, auth.MemberParams{ActorID: owner.ID, OrganisationID: tm.org.ID, UserID: second.ID, Role: auth.OrgOwner}))
		b := k.browser()
		b.logIn(second.Email, password)
		b.post("/account/organisation/delete/cancel").leadsTo(t, "/account/organisation")
		assert.Equal(t, http.StatusConflict, b.post("/account/organisation/delete/cancel").StatusCode)
		assert.Equal(t, everyone, k.recipients("auth.orgkept"))
		k.clock.Advance(auth.DefaultDeletionGrace)
		n, err := k.EraseDue(ctx)
		require.NoError(t, err)
		require.Zero(t, n)
		assert.Equal(t, auth.OrgMember, tm.role(t, tm.people[auth.OrgMember].ID))
		_, _, err = k.CreateAPIKey(ctx, auth.CreateAPIKeyParams{UserID: second.ID, AccountID: tm.org.ID, Name: "again"})
		require.NoError(t, err)
	})
}

// The last owner waits with their own deletion until the organisation is gone.
func TestOrganisationDeletion_LetsTheLastOwnerGoAfterwards(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		tm := newTeam(t, k)
		owner := tm.people[auth.OrgOwner]
		_, err := k.AskForDeletion(t.Context(), owner.ID, "", auth.Client{})
		require.ErrorIs(t, err, auth.ErrLastOwner)
		_, err = k.AskForOrganisationDeletion(t.Context(), owner.ID, tm.org.ID, auth.Client{})
		require.NoError(t, err)
		k.clock.Advance(auth.DefaultDeletionGrace)
		_, err = k.EraseDue(t.Context())
		require.NoError(t, err)
		_, err = k.AskForDeletion(t.Context(), owner.ID, "", auth.Client{})
		require.NoError(t, err)
	})
}
