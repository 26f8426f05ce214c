package auth_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

// Managers see all keys of the organisation and end them, members see their own, and nobody sees those of other accounts.
func TestOrganisationKeys_AreTheManagersToSeeAndRevoke(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		tm := newTeam(t, k)
		ctx := t.Context()
		owner, admin, member := tm.people[auth.OrgOwner], tm.people[auth.OrgAdmin], tm.people[auth.OrgMember]
		made := map[string]auth.APIKey{}
		tokens := map[string]string{}
		mint := func(name string, u auth.User, account string) {
			key, token, err := k.CreateAPIKey(ctx, auth.CreateAPIKeyParams{UserID: u.ID, AccountID: account, Name: name})
			require.NoError(t, err)
			made[name], tokens[name] = key, token
		}
		mint("of the owner", owner, tm.org.ID)
		mint("of the admin", admin, tm.org.ID)
		mint("of the member", member, tm.org.ID)
		mint("the member's alone", member, member.AccountID)
		mint("a stranger's", tm.other, tm.other.AccountID)

		for role, u := range tm.people {
			b := k.browser()
			b.logIn(u.Email, password)
			res := b.get("/account/organisation/api-keys")
			if !role.MayManage() {
				assert.Equal(t, http.StatusForbidden, res.StatusCode, role)
				assert.Equal(t, http.StatusForbidden, b.post("/account/organisation/api-keys/"+made["of the member"].ID+"/revoke").StatusCode, role)
				continue
			}
			for _, name := range []string{"of the owner", "of the admin", "of the member"} {
				assert.Contains(t, res.body, name, role)
				assert.Equal(t, role == auth.OrgOwner || name != "of the owner", containsRevoke(res.body, made[name].ID), "%s %s", role, name)
			}
			for _, name := range []string{"the member's alone", "a stranger's"} {
				assert.NotContains(t, res.body, name, role)
				assert.NotContains(t, res.body, made[name].Prefix, role)
				assert.Equal(t, http.StatusNotFound, b.post("/account/organisation/api-keys/"+made[name].ID+"/revoke").StatusCode, "%s %s", role, name)
			}
			assert.NotContains(t, res.body, tokens["of the member"])
		}
		_, _, err := k.OrganisationKeys(ctx, auth.OrganisationKeysParams{ActorID: tm.other.ID, OrganisationID: tm.org.ID})
		require.ErrorIs(t, err, auth.ErrNoOrganisation)
		own := k.browser()
		own.logIn(member.Email, password)
		page := own.get("/account/api-keys").body
		assert.Contains(t, page, "of the member")
		assert.NotContains(t, page, "of the owner")

		b := k.browser()
		b.logIn(admin.Email, password)
		assert.Equal(t, http.StatusForbidden, b.post("/account/organisation/api-keys/"+made["of the owner"].ID+"/revoke").StatusCode, "an owner's is the owners'")
		b.post("/account/organisation/api-keys/"+made["of the member"].ID+"/revoke").leadsTo(t, "/account/organisation/api-keys")
		assert.Equal(t, http.StatusNotFound, b.post("/account/organisation/api-keys/"+made["of the member"].ID+"/revoke").StatusCode)
		_, _, err = k.AuthenticateKey(ctx, tokens["of the member"])
		require.ErrorIs(t, err, auth.ErrKey, "from the next call on")
		for _, name := range []string{"of the owner", "the member's alone"} {
			_, _, err = k.AuthenticateKey(ctx, tokens[name])
			require.NoError(t, err)
		}
		for id, detail := range map[string]string{member.ID: made["of the member"].Prefix + " by " + admin.ID, admin.ID: made["of the member"].Prefix + " of " + member.ID} {
			events, _, err := k.SecurityEvents(ctx, auth.EventsParams{UserID: id, Limit: 1})
			require.NoError(t, err)
			assert.Equal(t, auth.EventKeyRevoked, events[0].Kind)
			assert.Equal(t, detail, events[0].Detail)
		}
		first, more, err := k.OrganisationKeys(ctx, auth.OrganisationKeysParams{ActorID: owner.ID, OrganisationID: tm.org.ID, Limit: 2})
		require.NoError(t, err)
		require.True(t, more)
		rest, more, err := k.OrganisationKeys(ctx, auth.OrganisationKeysParams{ActorID: owner.ID, OrganisationID: tm.org.ID, Limit: 2, Before: first[1].ID})
		require.NoError(t, err)
		assert.False(t, more)
		require.Len(t, rest, 1)
		assert.Equal(t, []string{"of the member", "of the admin", "of the owner"}, []string{first[0].Name, first[1].Name, rest[0].Name})
		assert.Equal(t, auth.OrgAdmin, first[1].Role)
		assert.Contains(t, b.json().get("/account/organisation/api-keys").body, `"email":"member@example.com"`)
	})
}

func containsRevoke(body, id string) bool {
	return strings.Contains(body, `action="/account/organisation/api-keys/`+id+`/revoke"`)
}
