package admin_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// meddle changes the database as its owner can, behind the triggers.
func (o *office) meddle(statements ...string) {
	o.t.Helper()
	triggers := []string{"ALTER TABLE qs_admin_audit DISABLE TRIGGER USER", "ALTER TABLE qs_admin_audit_head DISABLE TRIGGER USER"}
	if o.db.Dialect() == database.SQLite {
		triggers = []string{"DROP TRIGGER IF EXISTS qs_admin_audit_no_update", "DROP TRIGGER IF EXISTS qs_admin_audit_no_delete", "DROP TRIGGER IF EXISTS qs_admin_audit_head_grows"}
	}
	for _, s := range append(triggers, statements...) {
		_, err := o.db.Writer().ExecContext(o.t.Context(), s)
		require.NoError(o.t, err, s)
	}
}

// faults verifies the whole log, a few lines at once.
func (o *office) faults() (faults []admin.AuditFault, lines int64, end admin.AuditReport) {
	o.t.Helper()
	for after := int64(0); ; {
		report, err := o.VerifyAudit(o.t.Context(), after, 3)
		require.NoError(o.t, err)
		faults, lines = append(faults, report.Faults...), lines+report.Lines
		if report.Next == 0 {
			return faults, lines, report
		}
		after = report.Next
	}
}

const forged = `INSERT INTO qs_admin_audit (id, staff_id, staff_email, action, created_at, n, hash) VALUES
	('01900000-0000-7000-8000-000000000000', 's1', 'ada@example.com', 'refund', '2026-01-02 03:04:05.000000+00:00', %s)`

func TestAuditChain_TellsWhatWasChangedRemovedOrInserted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meddle string
		n      int64
		rule   string
	}{
		"changed":              {"UPDATE qs_admin_audit SET detail = 'q=somebody' WHERE n = 5", 5, "as it was written"},
		"time changed":         {"UPDATE qs_admin_audit SET created_at = '2020-01-02 03:04:05.000000+00:00' WHERE n = 7", 7, "as it was written"},
		"removed":              {"DELETE FROM qs_admin_audit WHERE n = 4", 4, "some were removed"},
		"the first removed":    {"DELETE FROM qs_admin_audit WHERE n = 1", 1, "some were removed"},
		"the last removed":     {"DELETE FROM qs_admin_audit WHERE n = 8", 8, "lines were removed"},
		"inserted":             {fmt.Sprintf(forged, "NULL, NULL"), 0, "there were 0 and are 1"},
		"inserted at the end":  {fmt.Sprintf(forged, "9, 'x'"), 9, "as it was written"},
		"the end was moved on": {"UPDATE qs_admin_audit_head SET n = 9, hash = 'x'", 9, "lines were removed"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, o *office) {
				for i := range 8 {
					o.get(fmt.Sprintf("/admin/users?q=%d", i))
				}
				found, lines, end := o.faults()
				require.Empty(t, found)
				assert.EqualValues(t, 8, lines)
				assert.EqualValues(t, 8, end.N)
				same, err := o.CheckAuditEnd(t.Context(), end.N, end.Hash)
				require.NoError(t, err)
				assert.True(t, same)

				o.meddle(c.meddle)
				found, _, _ = o.faults()
				require.NotEmpty(t, found)
				assert.True(t, slices.ContainsFunc(found, func(f admin.AuditFault) bool { return f.N == c.n && strings.Contains(f.Rule, c.rule) }), "%v", found)
			})
		})
	}
}

// Who rewrites everything cannot rewrite what was kept elsewhere.
func TestAuditChain_AnEndThatWasKeptShowsARewrittenLog(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		for i := range 4 {
			o.get(fmt.Sprintf("/admin/users?q=%d", i))
		}
		_, _, kept := o.faults()
		o.meddle("DELETE FROM qs_admin_audit WHERE n > 2", "UPDATE qs_admin_audit_head SET n = 2, hash = (SELECT hash FROM qs_admin_audit WHERE n = 2)")
		found, _, _ := o.faults()
		require.Empty(t, found, "the chain alone does not show it")
		same, err := o.CheckAuditEnd(t.Context(), kept.N, kept.Hash)
		require.NoError(t, err)
		assert.False(t, same)
	})
}

func TestAuditChain_OfManyAtOnceIsWhole(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		var all sync.WaitGroup
		for i := range 24 {
			all.Go(func() { o.get(fmt.Sprintf("/admin/users?q=%d", i)) })
		}
		all.Wait()
		found, lines, _ := o.faults()
		assert.Empty(t, found)
		assert.EqualValues(t, 24, lines)
	})
}

func TestAuditChain_TheEndOnlyGrows(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		o.get("/admin/")
		for _, s := range []string{"UPDATE qs_admin_audit_head SET n = 0", "UPDATE qs_admin_audit_head SET n = 2, unlinked = 1", "DELETE FROM qs_admin_audit_head"} {
			_, err := o.db.Writer().ExecContext(t.Context(), s)
			require.ErrorContains(t, err, "append-only", s)
		}
	})
}

func TestAudit_ThePageVerifiesBatchByBatch(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		for i := range 3 {
			o.get(fmt.Sprintf("/admin/users?q=%d", i))
		}
		status, body, _ := o.post("/admin/audit/verify")
		assert.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, "Lines recomputed so far: 4. That is all.", "with the line of the verification itself")
		assert.Contains(t, body, "Nothing was changed")
		o.meddle("DELETE FROM qs_admin_audit WHERE n = 2")
		_, body, _ = o.post("/admin/audit/verify")
		assert.Contains(t, body, "some were removed")
	})
}

func TestAudit_APageOpenedAgainLeavesNoFurtherLine(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		o := newOffice(t, db, func(c *admin.Config) { c.Clock = func() time.Time { return now } })
		count := func() int { return len(o.audit()) }
		u := o.user("grace@example.com", "Grace")
		for range 3 {
			o.get("/admin/users/" + u.ID)
		}
		assert.Equal(t, 1, count())
		o.get("/admin/users/" + u.ID + "?before=7")
		assert.Equal(t, 2, count(), "another page of it")
		now = now.Add(10 * time.Minute)
		o.get("/admin/users/" + u.ID)
		assert.Equal(t, 3, count(), "later")
		o.staff = &admin.Staff{ID: "s2", Email: "eve@example.com"}
		o.get("/admin/users/" + u.ID)
		assert.Equal(t, 4, count(), "by another person")
		for range 2 {
			o.get("/admin/audit.csv")
		}
		assert.Equal(t, 6, count(), "each time that data is taken away")
	})
}
