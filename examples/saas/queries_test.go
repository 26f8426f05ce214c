package main

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// counted opens a page in this process and returns what it cost.
func (s *site) counted(tb testing.TB, handler http.Handler, v *visitor, path string) (int, *dbtest.Count) {
	tb.Helper()
	here, err := url.Parse(s.base)
	require.NoError(tb, err)
	ctx, count := dbtest.Counted(tb.Context())
	r := httptest.NewRequest(http.MethodGet, s.base+path, nil).WithContext(ctx)
	for _, c := range v.client.Jar.Cookies(here) {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Code, count
}

// No page asks the database more often because there is more to show.
func TestPages_AskNoMoreOftenForAThousandRowsThanForTen(t *testing.T) {
	t.Parallel()
	db := dbtest.CountingSQLite(t, dbtest.Empty)
	s := serveSite(t, func(c *quickscale.Config) { c.DB, c.ReadDB = db.Writer(), db.Reader() })
	filled := s.fill(t)
	u, err := s.app.Auth.FindUserByEmail(t.Context(), longEmail)
	require.NoError(t, err)
	handler := routes(s.app)
	pages := map[string]map[string]int64{}
	var order []string
	for _, stop := range stops(filled) {
		if stop.form != nil || stop.status != 0 && stop.status != http.StatusOK || strings.HasPrefix(stop.path, "/dev/stripe") || stop.who == "acting" || stop.path == "" {
			continue
		}
		order = append(order, stop.name)
		pages[stop.name] = map[string]int64{}
	}
	raw, err := sqlx.Open("sqlite", "file:"+fileOf(t, db.Writer())+"?_pragma=busy_timeout(10000)&_pragma=ignore_check_constraints(1)&_pragma=foreign_keys(0)&_txlock=immediate")
	require.NoError(t, err)
	defer raw.Close()
	for _, rows := range []int{10, 1000} {
		for _, table := range copied {
			multiply(t, raw, table, u.ID, rows)
		}
		// For a second after a person has changed nobody is remembered, and each request asks who is signed in.
		time.Sleep(2 * auth.DefaultSessionCache)
		for _, stop := range stops(filled) {
			if pages[stop.name] == nil {
				continue
			}
			// What is remembered for a moment, such as who is signed in, is asked for at the first time.
			least := int64(math.MaxInt64)
			for range 4 {
				status, count := s.counted(t, handler, filled.who[stop.who], stop.path)
				require.Less(t, status, http.StatusInternalServerError, "%s with %d rows", stop.name, rows)
				least = min(least, count.Statements())
			}
			pages[stop.name][fmt.Sprint(rows)] = least
		}
	}
	for _, name := range order {
		if name == "admin-refund-figures" {
			continue // looks into the ledger for each refund of the span, up to a bound of its own
		}
		assert.Equal(t, pages[name]["10"], pages[name]["1000"], "statements for %s with 10 and with 1,000 rows", name)
	}
}

func fileOf(t *testing.T, db *sqlx.DB) (file string) {
	t.Helper()
	require.NoError(t, db.GetContext(t.Context(), &file, "SELECT file FROM pragma_database_list WHERE name = 'main'"))
	return file
}

// copied are the tables that pages list.
var copied = []string{
	"qs_auth_users", "qs_auth_api_keys", "qs_auth_sessions", "qs_auth_events", "qs_auth_invitations", "qs_billing_payments", "qs_billing_refunds", "qs_billing_disputes",
	"qs_credit_entries", "qs_credit_lots", "qs_webhook_events", "qs_admin_audit", "qs_mail_outbox", "qs_outbound_deliveries", "qs_outbound_attempts", "qs_service_calls",
	"qs_billing_reconciliations", "river_job",
}

// multiply copies a row of the table, the person's where some are, until there are so many, with values of its own wherever
// they must be.
func multiply(t *testing.T, db *sqlx.DB, table, user string, rows int) {
	t.Helper()
	ctx := t.Context()
	var have int
	require.NoError(t, db.GetContext(ctx, &have, "SELECT COUNT(*) FROM "+table), table)
	require.Positive(t, have, "%s has a row to copy", table)
	unique, where := map[string]bool{}, "1"
	var columns []struct {
		Name string `db:"name"`
		PK   int    `db:"pk"`
	}
	require.NoError(t, db.SelectContext(ctx, &columns, "SELECT name, pk FROM pragma_table_info(?)", table))
	var indexed []string
	require.NoError(t, db.SelectContext(ctx, &indexed, `SELECT i.name FROM pragma_index_list(?) AS l, pragma_index_info(l.name) AS i WHERE l."unique" = 1 AND i.name IS NOT NULL`, table))
	for _, name := range indexed {
		unique[name] = true
	}
	for _, column := range columns {
		unique[column.Name] = unique[column.Name] || column.PK > 0
		switch column.Name {
		case "account", "account_id", "user_id":
			where = column.Name + " = '" + user + "'"
		}
	}
	for _, kept := range []string{"account", "account_id", "user_id", "organisation_id", "endpoint", "delivery", "product", "payment"} {
		delete(unique, kept)
	}
	row := map[string]any{}
	require.NoError(t, db.QueryRowxContext(ctx, "SELECT * FROM "+table+" ORDER BY ("+where+") DESC LIMIT 1").MapScan(row))
	tx, err := db.BeginTxx(ctx, nil)
	require.NoError(t, err)
	for ; have < rows; have++ {
		names, marks, values := []string{}, []string{}, []any{}
		for _, column := range columns {
			value := row[column.Name]
			if unique[column.Name] {
				value = another(value, have)
			}
			names, marks, values = append(names, `"`+column.Name+`"`), append(marks, "?"), append(values, value)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO "+table+" ("+strings.Join(names, ", ")+") VALUES ("+strings.Join(marks, ", ")+")", values...)
		require.NoError(t, err, table)
	}
	require.NoError(t, tx.Commit())
}

// another is a value like it that no other row has.
func another(value any, n int) any {
	switch v := value.(type) {
	case int64:
		return v + 1_000_000 + int64(n)
	case string:
		if _, err := uuid.Parse(v); err == nil {
			return uuid.Must(uuid.NewV7()).String()
		}
		return fmt.Sprintf("%s-%d", v, n)
	case []byte:
		if len(v) == len(uuid.UUID{}) {
			id := uuid.Must(uuid.NewV7())
			return id[:]
		}
		return fmt.Appendf(nil, "%s-%d", v, n)
	}
	return value
}

// The dashboard costs less than a millisecond beside its statements. What else the machine does only adds to that, so that
// the fastest tenth of all loads tells.
func BenchmarkDashboard(b *testing.B) {
	db := dbtest.CountingSQLite(b, dbtest.Empty)
	s := serveSite(b, func(c *quickscale.Config) { c.DB, c.ReadDB = db.Writer(), db.Reader() })
	v := visit(b, s.process)
	v.login(userEmail, seedPassword)
	handler := routes(s.app)
	var own, asked []time.Duration
	for b.Loop() {
		began := time.Now()
		status, count := s.counted(b, handler, v, "/account/")
		own, asked = append(own, time.Since(began)-count.Time()), append(asked, count.Time())
		require.Equal(b, http.StatusOK, status)
	}
	slices.Sort(own)
	slices.Sort(asked)
	fastest := own[len(own)/10]
	b.ReportMetric(float64(fastest.Microseconds()), "µs-own/op")
	b.ReportMetric(float64(asked[len(asked)/10].Microseconds()), "µs-database/op")
	if fastest > time.Millisecond {
		b.Errorf("a dashboard costs %s beside its statements; it should be less than a millisecond", fastest)
	}
}
