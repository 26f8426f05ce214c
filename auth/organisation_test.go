package auth_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

// team is an organisation with one person of each role, and a stranger.
type team struct {
	*kit

	org    auth.Organisation
	people map[auth.OrgRole]auth.User
	other  auth.User
}

func newTeam(t *testing.T, k *kit) team {
	t.Helper()
	owner := k.user("owner@example.com")
	o, err := k.CreateOrganisation(t.Context(), auth.CreateOrganisationParams{UserID: owner.ID, Name: "Acme"})
	require.NoError(t, err)
	tm := team{kit: k, org: o, people: map[auth.OrgRole]auth.User{auth.OrgOwner: owner}, other: k.user("stranger@example.com")}
	for _, role := range []auth.OrgRole{auth.OrgAdmin, auth.OrgMember, auth.OrgBilling} {
		tm.people[role] = tm.join(t, string(role)+"@example.com", role)
	}
	return tm
}

// join makes an account that accepts an invitation.
func (tm team) join(t *testing.T, address string, role auth.OrgRole) auth.User {
	t.Helper()
	u := tm.user(address)
	_, err := tm.Invite(t.Context(), auth.InviteParams{ActorID: tm.people[auth.OrgOwner].ID, OrganisationID: tm.org.ID, Email: address, Role: role})
	require.NoError(t, err)
	_, token := tm.link("auth.invitation")
	_, err = tm.AcceptInvitation(t.Context(), auth.AcceptParams{Token: token, UserID: u.ID})
	require.NoError(t, err)
	return u
}

func (tm team) role(t *testing.T, userID string) auth.OrgRole {
	t.Helper()
	var role auth.OrgRole
	err := tm.db.Writer().Get(&role, tm.db.Rebind(`SELECT role FROM qs_auth_members WHERE organisation_id = ? AND user_id = ?`), tm.org.ID, userID)
	if err != nil {
		return ""
	}
	return role
}

// Each role may do what the table says, and whoever is no member learns not even that there is an organisation.
func TestOrganisation_EachRoleMayDoItsShare(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		tm := newTeam(t, k)
		ctx := t.Context()
		n := 0
		fresh := func(role auth.OrgRole) auth.User {
			n++
			return tm.join(t, fmt.Sprintf("fresh%d@example.com", n), role)
		}
		params := func(actor, user string, role auth.OrgRole) auth.MemberParams {
			return auth.MemberParams{ActorID: actor, OrganisationID: tm.org.ID, UserID: user, Role: role}
		}
		invitation := func() auth.Invitation {
			n++
			i, err := k.Invite(ctx, auth.InviteParams{ActorID: tm.people[auth.OrgOwner].ID, OrganisationID: tm.org.ID, Email: fmt.Sprintf("guest%d@example.com", n), Role: auth.OrgMember})
			require.NoError(t, err)
			return i
		}
		for _, action := range []struct {
			name                          string
			owner, admin, member, billing bool
			do                            func(actor string) error
		}{
			{"see the members", true, true, true, true, func(actor string) error { _, err := k.Members(ctx, actor, tm.org.ID); return err }},
			{"see invitations", true, true, false, false, func(actor string) error { _, err := k.Invitations(ctx, actor, tm.org.ID); return err }},
			{"rename", true, true, false, false, func(actor string) error { return k.RenameOrganisation(ctx, actor, tm.org.ID, "Acme 2", auth.Client{}) }},
			{"invite", true, true, false, false, func(actor string) error {
				n++
				_, err := k.Invite(ctx, auth.InviteParams{ActorID: actor, OrganisationID: tm.org.ID, Email: fmt.Sprintf("new%d@example.com", n), Role: auth.OrgAdmin})
				return err
			}},
			{"send again", true, true, false, false, func(actor string) error {
				return k.ResendInvitation(ctx, auth.InvitationParams{ActorID: actor, OrganisationID: tm.org.ID, ID: invitation().ID})
			}},
			{"take an invitation back", true, true, false, false, func(actor string) error {
				return k.RevokeInvitation(ctx, auth.InvitationParams{ActorID: actor, OrganisationID: tm.org.ID, ID: invitation().ID})
			}},
			{"make an administrator", true, true, false, false, func(actor string) error {
				return k.SetMemberRole(ctx, params(actor, fresh(auth.OrgMember).ID, auth.OrgAdmin))
			}},
			{"make an owner", true, false, false, false, func(actor string) error {
				return k.SetMemberRole(ctx, params(actor, fresh(auth.OrgMember).ID, auth.OrgOwner))
			}},
			{"take a role from an owner", true, false, false, false, func(actor string) error {
				u := fresh(auth.OrgMember)
				require.NoError(t, k.SetMemberRole(ctx, params(tm.people[auth.OrgOwner].ID, u.ID, auth.OrgOwner)))
				return k.SetMemberRole(ctx, params(actor, u.ID, auth.OrgMember))
			}},
			{"remove an administrator", true, true, false, false, func(actor string) error { return k.RemoveMember(ctx, params(actor, fresh(auth.OrgAdmin).ID, "")) }},
			{"remove an owner", true, false, false, false, func(actor string) error {
				u := fresh(auth.OrgMember)
				require.NoError(t, k.SetMemberRole(ctx, params(tm.people[auth.OrgOwner].ID, u.ID, auth.OrgOwner)))
				return k.RemoveMember(ctx, params(actor, u.ID, ""))
			}},
			{"make a key", true, true, true, false, func(actor string) error {
				_, _, err := k.CreateAPIKey(ctx, auth.CreateAPIKeyParams{UserID: actor, AccountID: tm.org.ID, Name: "k"})
				return err
			}},
		} {
			for role, may := range map[auth.OrgRole]bool{auth.OrgOwner: action.owner, auth.OrgAdmin: action.admin, auth.OrgMember: action.member, auth.OrgBilling: action.billing} {
				err := action.do(tm.people[role].ID)
				if may {
					require.NoError(t, err, "%s: %s", role, action.name)
				} else {
					require.ErrorIs(t, err, auth.ErrOrgRole, "%s: %s", role, action.name)
				}
			}
			require.ErrorIs(t, action.do(tm.other.ID), auth.ErrNoOrganisation, action.name)
		}
		for _, role := range []auth.OrgRole{auth.OrgAdmin, auth.OrgMember, auth.OrgBilling} {
			require.ErrorIs(t, k.TransferOwnership(ctx, params(tm.people[role].ID, tm.people[auth.OrgMember].ID, "")), auth.ErrOrgRole, role)
		}
		require.ErrorIs(t, k.TransferOwnership(ctx, params(tm.other.ID, tm.people[auth.OrgMember].ID, "")), auth.ErrNoOrganisation)
		require.ErrorIs(t, k.TransferOwnership(ctx, params(tm.people[auth.OrgOwner].ID, tm.other.ID, "")), auth.ErrNoMember)
		require.NoError(t, k.TransferOwnership(ctx, params(tm.people[auth.OrgOwner].ID, tm.people[auth.OrgBilling].ID, "")))
		assert.Equal(t, auth.OrgOwner, tm.role(t, tm.people[auth.OrgBilling].ID))
		assert.Equal(t, auth.OrgAdmin, tm.role(t, tm.people[auth.OrgOwner].ID))
		for _, role := range []auth.OrgRole{auth.OrgMember, auth.OrgAdmin} {
			require.NoError(t, k.RemoveMember(ctx, params(tm.people[role].ID, tm.people[role].ID, "")), "everybody may leave")
		}
	})
}

func TestOrganisation_TakesOverTheAccountOfWhoShares(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		assert.Equal(t, u.ID, u.AccountID, "a person alone has the account that they always had")
		_, before, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "old"})
		require.NoError(t, err)
		phone, desk := k.browser(), k.browser()
		phone.logIn(email, password)
		desk.logIn(email, password)
		desk.post("/account/organisation", "name", "Acme", "share", "on").leadsTo(t, "/account/organisation")
		u, err = k.FindUser(t.Context(), u.ID)
		require.NoError(t, err)
		assert.NotEqual(t, u.ID, u.AccountID)
		for name, b := range map[string]*browser{"desk": desk, "phone": phone} {
			body := b.copy().json().get("/account/organisation").body
			assert.Contains(t, body, `"account":{"id":"`+u.ID+`","name":"Acme","role":"owner"}`, name)
		}
		_, key, err := k.AuthenticateKey(t.Context(), before)
		require.NoError(t, err)
		assert.Equal(t, u.ID, key.AccountID, "a key goes on to act as the account that it was made for")
		desk.post("/account/organisation/switch", "account", u.AccountID).leadsTo(t, "/account/")
		assert.Contains(t, desk.copy().json().get("/account/organisation").body, `"account":{"id":"`+u.AccountID+`","name":""`)
		people, err := k.AccountContacts(t.Context(), u.AccountID)
		require.NoError(t, err)
		assert.Len(t, people, 1)
		people, err = k.AccountContacts(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Len(t, people, 1)
	})
}

func TestOrganisation_WhoIsRemovedLosesAccessAtOnce(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		tm := newTeam(t, k)
		member := tm.people[auth.OrgMember]
		one, two, own := k.browser(), k.browser(), k.browser()
		for _, b := range []*browser{one, two, own} {
			b.logIn(member.Email, password)
		}
		own.post("/account/organisation/switch", "account", member.AccountID)
		_, token, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: member.ID, AccountID: tm.org.ID, Name: "k"})
		require.NoError(t, err)
		_, mine, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: member.ID, Name: "mine"})
		require.NoError(t, err)
		_, key, err := k.AuthenticateKey(t.Context(), token)
		require.NoError(t, err)
		assert.Equal(t, tm.org.ID, key.AccountID)

		admin := k.browser()
		admin.logIn(tm.people[auth.OrgAdmin].Email, password)
		admin.post("/account/organisation/members/"+member.ID+"/remove").leadsTo(t, "/account/organisation")
		assert.False(t, one.in())
		assert.False(t, two.in())
		assert.True(t, own.in(), "what acts for the person's own account goes on")
		_, _, err = k.AuthenticateKey(t.Context(), token)
		require.ErrorIs(t, err, auth.ErrKey)
		_, _, err = k.AuthenticateKey(t.Context(), mine)
		require.NoError(t, err)
		require.ErrorIs(t, k.SwitchAccount(t.Context(), member.ID, tm.org.ID, tm.org.ID), auth.ErrNoOrganisation)
		one.logIn(member.Email, password)
		assert.Contains(t, one.json().get("/account/organisation").body, `"account":{"id":"`+member.AccountID+`"`)
	})
}

func TestOrganisation_IsNeverWithoutAnOwner(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		tm := newTeam(t, k)
		owner, admin := tm.people[auth.OrgOwner], tm.people[auth.OrgAdmin]
		leave := func(id string) error {
			return k.RemoveMember(t.Context(), auth.MemberParams{ActorID: id, OrganisationID: tm.org.ID, UserID: id})
		}
		require.ErrorIs(t, leave(owner.ID), auth.ErrLastOwner)
		require.ErrorIs(t, k.SetMemberRole(t.Context(), auth.MemberParams{ActorID: owner.ID, OrganisationID: tm.org.ID, UserID: owner.ID, Role: auth.OrgMember}), auth.ErrLastOwner)
		_, err := k.AskForDeletion(t.Context(), owner.ID, "", auth.Client{})
		require.ErrorIs(t, err, auth.ErrLastOwner)
		require.NoError(t, k.SetMemberRole(t.Context(), auth.MemberParams{ActorID: owner.ID, OrganisationID: tm.org.ID, UserID: admin.ID, Role: auth.OrgOwner}))
		var wg sync.WaitGroup
		results := make([]error, 2)
		for i, id := range []string{owner.ID, admin.ID} {
			wg.Go(func() { results[i] = leave(id) })
		}
		wg.Wait()
		assert.Len(t, errorsOf(results, auth.ErrLastOwner), 1, "both leave at once, and one stays: %v", results)
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_members WHERE organisation_id = ? AND role = 'owner'`, tm.org.ID))
	})
}

func errorsOf(results []error, target error) (found []error) {
	for _, err := range results {
		if errors.Is(err, target) {
			found = append(found, err)
		}
	}
	return found
}

func TestInvitation_IsForOneAddressAndWorksOnce(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		tm := newTeam(t, k)
		owner := tm.people[auth.OrgOwner]
		guest := k.user("guest@example.com")
		admin := k.browser()
		admin.logIn(tm.people[auth.OrgAdmin].Email, password)
		known := admin.post("/account/organisation/invitations", "email", "GUEST@example.com", "role", "member")
		unknown := admin.post("/account/organisation/invitations", "email", "nobody@example.com", "role", "member")
		assert.Equal(t, known.StatusCode, unknown.StatusCode)
		assert.Equal(t, known.body, unknown.body)
		assert.Equal(t, http.StatusUnprocessableEntity, admin.post("/account/organisation/invitations", "email", "x@example.com", "role", "owner").StatusCode)
		k.t = t
		var path string
		for _, m := range k.mails() {
			if m.Kind == "auth.invitation" && m.Recipient == "GUEST@example.com" {
				path = regexp.MustCompile(`/auth/invitation\?token=\S+`).FindString(m.Text)
			}
		}
		u, err := url.Parse(path)
		require.NoError(t, err)
		token := u.Query().Get("token")
		require.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_invitations WHERE token_hash = ?`, []byte(token)), "only the hash is kept")

		out := k.browser()
		for range 3 {
			assert.Contains(t, out.get(path).body, "Acme", "opening the link changes nothing")
		}
		out.post("/auth/invitation", "token", token).leadsTo(t, "/auth/login?next=%2Faccount%2F")
		other := k.browser()
		other.logIn(tm.other.Email, password)
		assert.Equal(t, "other_address", code(t, other.json().post("/auth/invitation", "token", token)))
		assert.Empty(t, tm.role(t, tm.other.ID))

		var wg sync.WaitGroup
		results := make([]error, 8)
		for i := range results {
			wg.Go(func() {
				_, results[i] = k.AcceptInvitation(t.Context(), auth.AcceptParams{Token: token, UserID: guest.ID})
			})
		}
		wg.Wait()
		assert.Len(t, errorsOf(results, auth.ErrLink), 7, "%v", results)
		assert.Equal(t, auth.OrgMember, tm.role(t, guest.ID))

		i, err := k.Invite(t.Context(), auth.InviteParams{ActorID: owner.ID, OrganisationID: tm.org.ID, Email: tm.other.Email, Role: auth.OrgAdmin})
		require.NoError(t, err)
		_, first := k.link("auth.invitation")
		require.NoError(t, k.ResendInvitation(t.Context(), auth.InvitationParams{ActorID: owner.ID, OrganisationID: tm.org.ID, ID: i.ID}))
		_, second := k.link("auth.invitation")
		_, err = k.AcceptInvitation(t.Context(), auth.AcceptParams{Token: first, UserID: tm.other.ID})
		require.ErrorIs(t, err, auth.ErrLink, "the latest link only")
		k.clock.Advance(7*24*time.Hour + time.Second)
		_, err = k.AcceptInvitation(t.Context(), auth.AcceptParams{Token: second, UserID: tm.other.ID})
		require.ErrorIs(t, err, auth.ErrLink, "not after 7 days")
		require.NoError(t, k.ResendInvitation(t.Context(), auth.InvitationParams{ActorID: owner.ID, OrganisationID: tm.org.ID, ID: i.ID}))
		_, third := k.link("auth.invitation")
		require.NoError(t, k.RevokeInvitation(t.Context(), auth.InvitationParams{ActorID: owner.ID, OrganisationID: tm.org.ID, ID: i.ID}))
		_, err = k.AcceptInvitation(t.Context(), auth.AcceptParams{Token: third, UserID: tm.other.ID})
		require.ErrorIs(t, err, auth.ErrLink, "nor when it was taken back")
		_, err = k.Invite(t.Context(), auth.InviteParams{ActorID: owner.ID, OrganisationID: tm.org.ID, Email: guest.Email, Role: auth.OrgAdmin})
		require.ErrorIs(t, err, auth.ErrIsMember)
	})
}

func TestOrganisation_PagesAndSwitch(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		tm := newTeam(t, k)
		for role, u := range tm.people {
			b := k.browser()
			b.logIn(u.Email, password)
			res := b.get("/account/organisation")
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.Equal(t, role == auth.OrgOwner || role == auth.OrgAdmin, regexp.MustCompile(`Invite somebody`).MatchString(res.body), role)
			assert.NotContains(t, res.body, "<script>")
		}
		b := k.browser()
		b.logIn(tm.other.Email, password)
		assert.Equal(t, http.StatusNotFound, b.post("/account/organisation/switch", "account", tm.org.ID).StatusCode)
		assert.Equal(t, http.StatusNotFound, b.post("/account/organisation/members/"+tm.other.ID+"/role", "role", "owner").StatusCode, "their own account has no members")
		owner := k.browser()
		owner.logIn(tm.people[auth.OrgOwner].Email, password)
		assert.Equal(t, http.StatusConflict, owner.post("/account/organisation/leave").StatusCode)
		assert.True(t, owner.in(), "who may not leave stays where they are")
		assert.Contains(t, owner.get("/account/organisation").body, "Acme")
		member := k.browser()
		member.logIn(tm.people[auth.OrgMember].Email, password)
		member.post("/account/organisation/leave").leadsTo(t, "/account/")
		assert.True(t, member.in(), "the session goes on for the person's own account")
	})
}

func TestOrganisation_CanBeTurnedOff(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		_, err := k.CreateOrganisation(t.Context(), auth.CreateOrganisationParams{UserID: u.ID, Name: "Acme"})
		require.ErrorIs(t, err, auth.ErrNoOrganisations)
		b := k.browser()
		b.logIn(email, password)
		assert.Equal(t, http.StatusNotFound, b.get("/account/organisation").StatusCode)
		assert.Equal(t, http.StatusNotFound, b.get("/auth/invitation?token=x").StatusCode)
		accounts, err := k.Accounts(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Equal(t, []auth.Account{{ID: u.ID, Role: auth.OrgOwner}}, accounts)
	}, func(c *auth.Config) { c.WithoutOrganisations = true })
}
