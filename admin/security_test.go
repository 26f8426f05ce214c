package admin_test

import (
	"bytes"
	"encoding/csv"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
)

// Security events of all are listed by event, person, network address and day, page by page, and taken along as CSV, for
// staff only; both are written down.
func TestSecurity_StaffLookUpWhatHappenedToWhom(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		o.reset(func(c *admin.Config) { c.Security = o.users })
		grace, eve := o.user("grace@example.com", "Grace"), o.user("eve@example.com", "Eve")
		try := func(address, ip, agent string) {
			_, err := o.users.LogIn(t.Context(), auth.LogInParams{Email: address, Password: "wrong password", Client: auth.Client{IP: ip, Agent: agent}})
			require.ErrorIs(t, err, auth.ErrCredentials)
		}
		try(grace.Email, "192.0.2.1", "=cmd|' /C calc'!A0")
		try("nobody@example.com", "2001:db8::1", "Test")
		today, tomorrow := time.Now().UTC().Format(time.DateOnly), time.Now().UTC().AddDate(0, 0, 1).Format(time.DateOnly)
		for query, want := range map[string]int{
			"": 6, "kind=login_failed": 2, "user=" + grace.ID: 3, "user=GRACE@example.com": 3, "user=" + eve.ID + "&kind=login_failed": 0,
			"address=192.0.2.1": 1, "address=2001:DB8:0:0::1": 1, "address=::ffff:192.0.2.1": 1, "from=" + today: 6, "until=" + today: 6, "from=" + tomorrow: 0,
			"user=" + grace.ID + "&kind=signup&from=" + today + "&until=" + tomorrow: 1, "kind=' OR 1=1 --": 0,
		} {
			status, body := o.get("/admin/security?"+strings.ReplaceAll(query, " ", "%20"), "Accept", "application/json")
			require.Equal(t, http.StatusOK, status, body)
			assert.Equal(t, want, strings.Count(body, `"created_at"`), "%s: %s", query, body)
		}
		for query, field := range map[string]string{"user=nobody@example.com": "user", "address=here": "address", "from=yesterday": "from", "until=2026-13-01": "until"} {
			status, body := o.get("/admin/security?"+query, "Accept", "application/json")
			assert.Equal(t, http.StatusUnprocessableEntity, status, query)
			assert.Contains(t, body, `"`+field+`"`)
			status, body = o.get("/admin/security?"+query, "Accept", "text/html")
			assert.Equal(t, http.StatusUnprocessableEntity, status, query)
			assert.Contains(t, body, "Security events")
		}
		_, body := o.get("/admin/security?user="+grace.ID, "Accept", "text/html")
		assert.Contains(t, body, "grace@example.com")
		assert.Contains(t, body, "Wrong password")
		assert.NotContains(t, body, "eve@example.com")
		_, body = o.get("/admin/users/"+grace.ID, "Accept", "text/html")
		assert.Contains(t, body, "/admin/security?user="+grace.ID)

		for range 60 {
			try("nobody@example.com", "192.0.2.9", "Test")
		}
		_, body = o.get("/admin/security?kind=login_failed", "Accept", "application/json")
		assert.Equal(t, 50, strings.Count(body, `"created_at"`))
		assert.Contains(t, body, `"next":"/admin/security?before=`)

		status, body := o.get("/admin/security.csv?kind=login_failed")
		require.Equal(t, http.StatusOK, status)
		lines, err := csv.NewReader(strings.NewReader(body)).ReadAll()
		require.NoError(t, err)
		require.Len(t, lines, 63)
		assert.Equal(t, []string{"when", "id", "event", "user_id", "email", "detail", "address", "agent"}, lines[0])
		assert.Equal(t, []string{grace.ID, "grace@example.com", "", "192.0.2.1", "'=cmd|' /C calc'!A0"}, lines[62][3:])
		record := o.audit()[0]
		assert.Equal(t, admin.ActionSecurityExport, record.Action)
		assert.Equal(t, "kind=login_failed", record.Detail)

		o.staff = &admin.Staff{ID: "s2", Permissions: []auth.Permission{auth.PermitBackOffice}}
		status, _ = o.get("/admin/security.csv")
		assert.Equal(t, http.StatusNotFound, status)
		_, body = o.get("/admin/security", "Accept", "text/html")
		assert.NotContains(t, body, "security.csv")
		o.staff = nil
		status, _ = o.get("/admin/security")
		assert.Equal(t, http.StatusNotFound, status)
	})
}

// A lost second step is taken off with a reason, once, and never where that would give staff more power than they have.
func TestFactors_ALostSecondStepIsTakenOff(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		o.reset(func(c *admin.Config) { c.Factors = o.users })
		second := func(u auth.User) {
			now := database.At(time.Now())
			_, err := o.db.Writer().Exec(o.db.Rebind(`INSERT INTO qs_auth_totp (user_id, secret, confirmed_at, created_at) VALUES (?, ?, ?, ?)`), u.ID, bytes.Repeat([]byte("x"), 40), now, now)
			require.NoError(t, err)
		}
		has := func(u auth.User) bool {
			f, err := o.users.Factors(t.Context(), u.ID)
			require.NoError(t, err)
			return f.Second()
		}
		grace, boss := o.user("grace@example.com", "Grace"), o.user("boss@example.com", "Boss")
		require.NoError(t, o.users.SetRole(t.Context(), boss.ID, auth.RoleAdmin))
		_, body := o.get("/admin/users/"+grace.ID, "Accept", "text/html")
		assert.NotContains(t, body, "Take the second step off", "there is none")
		second(grace)
		second(boss)

		o.staff = &admin.Staff{ID: "s1", Email: "ada@example.com", Permissions: []auth.Permission{auth.PermitBackOffice, auth.PermitFactors}}
		_, body = o.get("/admin/users/"+grace.ID, "Accept", "text/html")
		assert.Contains(t, body, "Take the second step off")
		_, body = o.get("/admin/users/"+boss.ID, "Accept", "text/html")
		assert.NotContains(t, body, "Take the second step off")
		status, body, _ := o.post("/admin/users/"+grace.ID+"/second-step", "reason", " ")
		assert.Equal(t, http.StatusUnprocessableEntity, status)
		assert.Contains(t, body, "how you made sure")
		status, _, _ = o.post("/admin/users/"+boss.ID+"/second-step", "reason", "asked me")
		assert.Equal(t, http.StatusForbidden, status, "of staff only by who may give roles")
		assert.Equal(t, "refused", o.audit()[0].Detail)
		require.True(t, has(grace) && has(boss))

		status, body, _ = o.post("/admin/users/"+grace.ID+"/second-step", "reason", "showed her passport")
		require.Equal(t, http.StatusSeeOther, status, body)
		assert.False(t, has(grace))
		record := o.audit()[0]
		assert.Equal(t, admin.ActionFactorsReset, record.Action)
		assert.Equal(t, grace.ID, record.Subject)
		assert.Equal(t, "showed her passport", record.Reason)
		events, _, err := o.users.SecurityEvents(t.Context(), auth.EventsParams{UserID: grace.ID})
		require.NoError(t, err)
		assert.Equal(t, auth.EventFactorsReset, events[0].Kind)
		assert.Empty(t, events[0].IP, "the person sees the event, and not where staff sit")
		status, body, _ = o.post("/admin/users/"+grace.ID+"/second-step", "reason", "again")
		assert.NotEqual(t, http.StatusSeeOther, status)
		assert.Contains(t, body, "nothing to take off")

		o.staff = &admin.Staff{ID: boss.ID}
		status, _, _ = o.post("/admin/users/"+boss.ID+"/second-step", "reason", "mine")
		assert.Equal(t, http.StatusForbidden, status, "nobody's own")
		o.staff = &admin.Staff{ID: "s2", Permissions: []auth.Permission{auth.PermitBackOffice}}
		status, _, _ = o.post("/admin/users/"+grace.ID+"/second-step", "reason", "x")
		assert.Equal(t, http.StatusNotFound, status)
	})
}
