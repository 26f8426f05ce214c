package admin_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/webhook"
)

// Who may do what beside looking: v(iew), s(upport), f(inance), d(eveloper), a(dmin), and r, who has the role of staff and no
// duties. What is not here is for everybody in the back office.
var permitted = map[admin.Action]string{
	admin.ActionEventRetry: "dar", admin.ActionEventSkip: "dar", admin.ActionEventReplay: "dar", admin.ActionEventSpan: "dar", admin.ActionEventReveal: "da",
	admin.ActionJobRetry: "dar", admin.ActionJobCancel: "dar", admin.ActionReconcile: "dar",
	admin.ActionRefundPreview: "fa", admin.ActionRefund: "fa",
	admin.ActionAdjustPreview: "sfar", admin.ActionAdjust: "sfar",
	admin.ActionProductArrange: "fa", admin.ActionProductSync: "fa", admin.ActionProductsSync: "fa",
	admin.ActionRoleChange: "a", admin.ActionDutiesChange: "a", admin.ActionAuditExport: "far", admin.ActionPaymentsExport: "far",
	admin.ActionServiceSwitch: "dar", admin.ActionServicePrice: "dar", admin.ActionServicePriceCancel: "dar",
	admin.ActionApprove: "fa", admin.ActionRefuse: "fa",
}

// looks are the actions that everybody in the back office may do.
var looks = []admin.Action{
	admin.ActionOverview, admin.ActionAuditView, admin.ActionAuditVerify, admin.ActionUserSearch, admin.ActionUserView, admin.ActionLedgerView, admin.ActionLedgerVerify,
	admin.ActionPaymentsView, admin.ActionPaymentView, admin.ActionRefundsView, admin.ActionRefundStats, admin.ActionRefundView, admin.ActionDisputesView,
	admin.ActionDisputeView, admin.ActionReconcileView, admin.ActionJobsView, admin.ActionProductsView, admin.ActionEventsView, admin.ActionEventStats,
	admin.ActionEventView, admin.ActionApprovalsView, admin.ActionServicesView, admin.ActionAccountView, admin.ActionInvestigate,
}

// refunds has a name of its own, since one of its methods has that of the type.
type refunds interface{ admin.Refunds }

func TestPermissions_OfEveryRouteForEveryDuty(t *testing.T) {
	t.Parallel()
	// No page is asked for anything, so that the sources need not answer.
	c := newOffice(t, dbtest.SQLite(t, schema), func(cfg *admin.Config) {
		cfg.Refunds, cfg.Catalogue, cfg.Reconciler, cfg.Jobs = struct{ refunds }{}, struct{ admin.Catalogue }{}, struct{ admin.Reconciler }{}, struct{ admin.Jobs }{}
		cfg.Services, cfg.Adjuster, cfg.Roles, cfg.ApproveAbove = struct{ admin.Services }{}, struct{ admin.Adjuster }{}, struct{ admin.Roles }{}, credits.Credit
		cfg.Accounts, cfg.Investigator = struct{ admin.Accounts }{}, struct{ admin.Investigator }{}
		cfg.RunTask = func(context.Context, *sqlx.Tx, admin.Task) (bool, error) { return false, nil }
		cfg.ReplaySpan = func(context.Context, webhook.SpanParams) (webhook.Span, error) { return webhook.Span{}, nil }
	})
	roles := c.users
	people := map[string]*admin.Staff{"": nil, "r": {ID: "r", Role: auth.RoleStaff, Permissions: roles.Permissions(auth.RoleStaff)},
		"A": {ID: "A", Role: auth.RoleAdmin, Permissions: roles.Permissions(auth.RoleAdmin)}}
	for _, d := range []admin.Duty{admin.DutyView, admin.DutySupport, admin.DutyFinance, admin.DutyDeveloper, admin.DutyAdmin} {
		who := &admin.Staff{ID: string(d), Role: auth.RoleStaff, Permissions: roles.Permissions(auth.RoleStaff)}
		people[string(d)[:1]] = who
		tx, err := c.db.Writer().Beginx()
		require.NoError(t, err)
		_, err = c.SetDutiesTx(t.Context(), tx, who.ID, []admin.Duty{d})
		require.NoError(t, err)
		require.NoError(t, tx.Commit())
	}
	walked := map[admin.Action]bool{}
	const reached = 299
	type address struct {
		method, path string
		action       admin.Action
	}
	var all []address
	handler := c.Walk(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(reached) }, func(method, path string, action admin.Action) {
		all = append(all, address{method, strings.NewReplacer("{id}", "x", "{change}", "y", "{$}", "").Replace(path), action})
		walked[action] = true
	})
	for _, at := range all {
		allowed, listed := permitted[at.action]
		require.True(t, listed || slices.Contains(looks, at.action), "%s is in no table of this test", at.action)
		for name, who := range people {
			c.staff = who
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(at.method, at.path, nil))
			want := http.StatusNotFound
			if who != nil && (name == "A" || !listed || strings.Contains(allowed, name)) {
				want = reached
			}
			assert.Equal(t, want, w.Code, "%s %s as %q", at.method, at.path, name)
		}
	}
	for action := range permitted {
		assert.True(t, walked[action], "no route does %s", action)
	}
}

func TestDuties_AreGivenByWhoMayAndHoldAtOnce(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		o.reset(func(c *admin.Config) { c.Roles = o.users })
		helper := o.user("helper@example.com", "Helper")
		status, _, _ := o.post("/admin/users/"+helper.ID+"/duties", "duty", "finance")
		assert.Equal(t, http.StatusForbidden, status, "to staff only")
		require.NoError(t, o.users.SetRole(t.Context(), helper.ID, auth.RoleStaff))
		_, body := o.get("/admin/users/" + helper.ID)
		assert.Contains(t, body, "Duties in the back office")
		status, _, _ = o.post("/admin/users/"+helper.ID+"/duties", "duty", "finance", "duty", "support")
		assert.Equal(t, http.StatusSeeOther, status)
		status, body, _ = o.post("/admin/users/"+helper.ID+"/duties", "duty", "everything")
		assert.Equal(t, http.StatusUnprocessableEntity, status, body)
		given, err := o.Duties(t.Context(), helper.ID)
		require.NoError(t, err)
		assert.Equal(t, []admin.Duty{admin.DutySupport, admin.DutyFinance}, given)
		record := o.audit()[0]
		assert.Equal(t, admin.ActionDutiesChange, record.Action)
		assert.Equal(t, "support, finance", record.After)
		assert.Empty(t, record.Before)

		o.staff = &admin.Staff{ID: helper.ID, Role: auth.RoleStaff, Permissions: []auth.Permission{auth.PermitBackOffice, auth.PermitRoles, "host.own"}}
		may := func(p auth.Permission) bool {
			can, err := o.Can(httptest.NewRequest(http.MethodGet, "/", nil), p)
			require.NoError(t, err)
			return can
		}
		assert.True(t, may(auth.PermitRefund), "finance has it")
		assert.False(t, may(auth.PermitRoles), "a duty goes before the role")
		assert.True(t, may("host.own"), "the host's own stays")
		status, _, _ = o.post("/admin/users/"+helper.ID+"/duties", "duty", "admin")
		assert.Equal(t, http.StatusNotFound, status, "not by whom it is not permitted")
		o.staff = &admin.Staff{ID: "s1", Email: "ada@example.com"}
		status, _, _ = o.post("/admin/users/" + helper.ID + "/duties")
		assert.Equal(t, http.StatusSeeOther, status)
		given, err = o.Duties(t.Context(), helper.ID)
		require.NoError(t, err)
		assert.Empty(t, given)
	})
}

// Money, credits and roles ask who one is; the rest does not.
func TestGate_AsksForARecentProofAndASecondStep(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, moneySchema, func(t *testing.T, db *database.DB) {
		proved, second := false, true
		o := newOffice(t, db, func(c *admin.Config) {
			c.Recent = func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if !proved {
						http.Redirect(w, r, "/auth/confirm", http.StatusSeeOther)
						return
					}
					next.ServeHTTP(w, r)
				})
			}
			c.SecondFactor = func(*http.Request) bool { return second }
		})
		o.reset(func(c *admin.Config) { c.Roles, c.Adjuster = o.users, o.ledger })
		u := o.user("grace@example.com", "Grace")
		guarded := []string{"/admin/users/" + u.ID + "/role", "/admin/users/" + u.ID + "/duties", "/admin/users/" + u.ID + "/credits/preview", "/admin/users/" + u.ID + "/credits"}
		for _, path := range guarded {
			_, _, header := o.post(path, "role", "staff", "amount", "1", "reason", "x")
			assert.Equal(t, "/auth/confirm", header.Get("Location"), path)
		}
		proved, second = true, false
		for _, path := range guarded {
			status, _, _ := o.post(path, "role", "staff", "amount", "1", "reason", "x")
			assert.Equal(t, http.StatusForbidden, status, path)
		}
		proved = false
		status, _ := o.get("/admin/users/" + u.ID)
		assert.Equal(t, http.StatusOK, status, "looking needs neither")
		o.staff = nil
		status, _, _ = o.post(guarded[0], "role", "staff")
		assert.Equal(t, http.StatusNotFound, status, "and others learn of nothing")
		proved, second, o.staff = true, true, &admin.Staff{ID: "s1"}
		_, _, header := o.post(guarded[0], "role", "staff")
		assert.Equal(t, "/admin/users/"+u.ID, header.Get("Location"))
		// The proof leads back to the preview by its address.
		r := httptest.NewRequest(http.MethodGet, guarded[2], nil)
		w := httptest.NewRecorder()
		o.handler.ServeHTTP(w, r)
		assert.Equal(t, "/admin/users/"+u.ID, w.Header().Get("Location"))
	})
}
