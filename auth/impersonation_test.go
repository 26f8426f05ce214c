package auth_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

func (k *kit) withRole(address string, role auth.Role) auth.User {
	k.t.Helper()
	u := k.user(address)
	require.NoError(k.t, k.SetRole(k.t.Context(), u.ID, role))
	u.Role = role
	return u
}

func TestImpersonation_SeesAndChangesNothingAndComesBack(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u, staff := k.user(email), k.withRole("staff@example.com", auth.RoleStaff)
		b := k.browser()
		b.logIn(staff.Email, password)
		before := b.copy()
		assert.Equal(t, http.StatusUnprocessableEntity, b.post("/account/impersonation/"+u.ID).StatusCode, "a reason is needed")
		b.post("/account/impersonation/"+u.ID, "reason", "ticket 7").leadsTo(t, "/account/")
		assert.False(t, before.in(), "the token until now has stopped working")
		body := b.copy().json().get("/account/").body
		assert.Contains(t, body, u.ID)
		for _, path := range []string{"/account/profile", "/account/security/password", "/account/api-keys", "/account/organisation", "/account/delete", "/account/export",
			"/account/security/sessions/revoke-others", "/auth/login", "/auth/confirm", "/auth/password/forgot", "/account/impersonation/" + u.ID} {
			assert.Equal(t, http.StatusForbidden, b.post(path, "name", "x").StatusCode, path)
		}
		assert.Equal(t, http.StatusForbidden, b.get("/account/export").StatusCode)
		acted := b.copy()
		b.post("/account/impersonation/stop").leadsTo(t, "/account/")
		assert.Contains(t, b.copy().json().get("/account/").body, staff.ID)
		assert.False(t, acted.in(), "nor does the session as somebody else go on")
		assert.Equal(t, http.StatusConflict, b.post("/account/impersonation/stop").StatusCode)
		for _, id := range []string{u.ID, staff.ID} {
			assert.Subset(t, k.events(id), []auth.EventKind{auth.EventImpersonateStart, auth.EventImpersonateStop})
		}
	})
}

func TestImpersonation_EndsByTimeAndWithTheStaff(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u, staff := k.user(email), k.withRole("staff@example.com", auth.RoleStaff)
		b := k.browser()
		b.logIn(staff.Email, password)
		b.post("/account/impersonation/"+u.ID, "reason", "ticket 7").leadsTo(t, "/account/")
		k.clock.Advance(30 * time.Minute)
		b.post("/account/profile", "name", "Changed").leadsTo(t, "/account/")
		assert.Contains(t, b.copy().json().get("/account/").body, staff.ID, "back as the staff")
		for _, id := range []string{u.ID, staff.ID} {
			got, err := k.FindUser(t.Context(), id)
			require.NoError(t, err)
			assert.Equal(t, "Ada", got.Name, "a form sent meanwhile is not carried out for anybody")
		}
		b.logIn(staff.Email, password)
		c := k.browser()
		c.logIn(staff.Email, password)
		c.post("/account/impersonation/"+u.ID, "reason", "ticket 8").leadsTo(t, "/account/")
		require.NoError(t, k.SetRole(t.Context(), staff.ID, auth.RoleUser))
		assert.False(t, c.copyWithout("__Host-qs_staff").in(), "whose role is taken acts as nobody")
	})
}

func (b *browser) copyWithout(name string) *browser {
	other := b.k.browser()
	for _, c := range secure(b.jar.Cookies(site)) {
		if c.Name != name {
			other.jar.SetCookies(site, []*http.Cookie{c})
		}
	}
	return other
}

func TestImpersonation_IsForStaffOnlyAndNeverOfStaff(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u, staff, admin := k.user(email), k.withRole("staff@example.com", auth.RoleStaff), k.withRole("admin@example.com", auth.RoleAdmin)
		closed := k.user("closed@example.com")
		require.NoError(t, k.SetDisabled(t.Context(), closed.ID, true))
		b := k.browser()
		b.logIn(u.Email, password)
		assert.Equal(t, http.StatusNotFound, b.post("/account/impersonation/"+staff.ID, "reason", "x").StatusCode)
		assert.Equal(t, http.StatusNotFound, k.browser().post("/account/impersonation/"+u.ID, "reason", "x").StatusCode)
		for _, from := range []auth.User{staff, admin} {
			b := k.browser()
			b.logIn(from.Email, password)
			for _, to := range []string{staff.ID, admin.ID, closed.ID} {
				assert.Equal(t, http.StatusForbidden, b.post("/account/impersonation/"+to, "reason", "x").StatusCode)
			}
		}
		stale := k.browser()
		stale.logIn(staff.Email, password)
		k.clock.Advance(11 * time.Minute)
		res := stale.post("/account/impersonation/"+u.ID, "reason", "x")
		assert.Contains(t, res.Header.Get("Location"), "/auth/confirm", "a recent proof is needed")
	})
}

func TestPermissions_AreTheRolesAndTheHosts(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		user, staff, admin := k.user(email), k.withRole("staff@example.com", auth.RoleStaff), k.withRole("admin@example.com", auth.RoleAdmin)
		for p, want := range map[auth.Permission][3]bool{
			auth.PermitBackOffice: {false, true, true}, auth.PermitAdjustCredits: {false, true, true}, auth.PermitImpersonate: {false, true, true},
			auth.PermitRoles: {false, false, true}, auth.PermitRefund: {false, false, true}, auth.PermitDisable: {false, false, true},
			"reports.read": {false, true, false}, "nothing.known": {false, false, false},
		} {
			page := k.RequirePermission(p)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
			for i, u := range []auth.User{user, staff, admin} {
				assert.Equal(t, want[i], k.Can(u, p), "%s %s", u.Role, p)
				b := k.browser()
				b.logIn(u.Email, password)
				b.h = page
				status := http.StatusNotFound
				if want[i] {
					status = http.StatusNoContent
				}
				assert.Equal(t, status, b.get("/x").StatusCode, "%s %s", u.Role, p)
			}
			out := k.browser()
			out.h = page
			assert.Equal(t, http.StatusNotFound, out.get("/x").StatusCode)
		}
		require.ErrorIs(t, k.SetRole(t.Context(), user.ID, "boss"), auth.ErrRole)
	}, func(c *auth.Config) {
		c.Permissions = map[auth.Role][]auth.Permission{auth.RoleStaff: {"reports.read"}}
	})
	_, err := auth.New(auth.Config{Permissions: map[auth.Role][]auth.Permission{"boss": {"x"}, auth.RoleStaff: {"No Good"}}})
	require.ErrorContains(t, err, `"boss"`)
	require.ErrorContains(t, err, `"No Good"`)
}
