package admin_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// people is one person.
type people struct{ user auth.User }

func (p *people) Users(context.Context, auth.UsersParams) ([]auth.User, bool, error) {
	return []auth.User{p.user}, false, nil
}
func (p *people) FindUser(context.Context, string) (auth.User, error) { return p.user, nil }
func (p *people) SetRoleTx(_ context.Context, _ *sqlx.Tx, _ string, role auth.Role) error {
	p.user.Role = role
	return nil
}

func TestRoles_OnlyWhoIsPermittedAndNeverTheirOwn(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Of(admin.Migrations()), func(t *testing.T, db *database.DB) {
		for _, who := range []struct {
			staff   admin.Staff
			role    int
			offered bool
		}{
			{admin.Staff{ID: "boss", Permissions: []auth.Permission{auth.PermitBackOffice, auth.PermitRoles}}, http.StatusSeeOther, true},
			{admin.Staff{ID: "helper", Permissions: []auth.Permission{auth.PermitBackOffice, auth.PermitImpersonate}}, http.StatusNotFound, false},
			{admin.Staff{ID: "person", Permissions: []auth.Permission{auth.PermitRoles}}, http.StatusForbidden, false},
		} {
			p := &people{auth.User{ID: "person", Role: auth.RoleUser}}
			a, err := admin.New(admin.Config{DB: db.Writer(), Users: p, Roles: p, Staff: func(*http.Request) (admin.Staff, bool) { return who.staff, true }})
			require.NoError(t, err)
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, "/admin/users/person/role", strings.NewReader("role=staff"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			a.Handler().ServeHTTP(w, r)
			assert.Equal(t, who.role, w.Code, who.staff.ID)
			want := auth.RoleUser
			if who.role == http.StatusSeeOther {
				want = auth.RoleStaff
			}
			assert.Equal(t, want, p.user.Role)
			w = httptest.NewRecorder()
			a.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/admin/users/person", nil))
			assert.Equal(t, http.StatusOK, w.Code)
			assert.Equal(t, who.offered, strings.Contains(w.Body.String(), "Set the role"), who.staff.ID)
		}
		n := 0
		require.NoError(t, db.Writer().Get(&n, `SELECT COUNT(*) FROM qs_admin_audit WHERE action = 'role_change'`))
		assert.Equal(t, 2, n, "a refused attempt for oneself is kept too")
	})
}
