package admin_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	stripewebhook "github.com/stripe/stripe-go/v76/webhook"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/mail"
	"github.com/quickscale/quickscale/webhook"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

var schema = dbtest.Of(admin.Migrations(), auth.Migrations(), credits.Migrations(), webhook.Migrations())

// office is the back office over real accounts, ledger and events.
type office struct {
	*admin.Admin

	t       *testing.T
	db      *database.DB
	users   *auth.Auth
	ledger  *credits.Ledger
	inbox   *webhook.Processor
	staff   *admin.Staff // nil: not staff
	handler http.Handler
	cfg     admin.Config
}

type noMail struct{}

func (noMail) EnqueueTx(context.Context, *sqlx.Tx, mail.Message) error { return nil }

type noJobs struct{}

func (noJobs) InsertTx(context.Context, *sql.Tx, river.JobArgs, *river.InsertOpts) (*rivertype.JobInsertResult, error) {
	return &rivertype.JobInsertResult{}, nil
}

func (noJobs) InsertManyFastTx(_ context.Context, _ *sql.Tx, params []river.InsertManyParams) (int, error) {
	return len(params), nil
}

// till has payments that no Stripe was needed for.
type till []billing.Payment

func (s till) Payments(_ context.Context, p billing.PaymentsParams) (page []billing.Payment, more bool, err error) {
	for _, payment := range s {
		if p.Find == "" || payment.Account == p.Find {
			page = append(page, payment)
		}
	}
	return page, false, nil
}

const secret = "whsec_1"

func newOffice(t *testing.T, db *database.DB, change ...func(*admin.Config)) *office {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	o := &office{t: t, db: db, staff: &admin.Staff{ID: "s1", Email: "ada@example.com"}}
	var err error
	o.users, err = auth.New(auth.Config{DB: db.Writer(), ReadDB: db.Reader(), Mail: noMail{}, BaseURL: "https://x.example", Logger: quiet})
	require.NoError(t, err)
	o.ledger, err = credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
	require.NoError(t, err)
	o.inbox, err = webhook.New(webhook.Config{DB: db.Writer(), ReadDB: db.Reader(), Jobs: noJobs{}, Secrets: []string{secret}, Logger: quiet})
	require.NoError(t, err)
	cfg := admin.Config{
		DB: db.Writer(), ReadDB: db.Reader(), Users: o.users, Ledger: o.ledger, Verifier: o.ledger, Payments: till{}, Events: o.inbox, Logger: quiet,
		Staff: func(*http.Request) (admin.Staff, bool) {
			if o.staff == nil {
				return admin.Staff{}, false
			}
			return *o.staff, true
		},
	}
	o.cfg = cfg
	o.reset(change...)
	return o
}

// reset makes it anew, with more or other sources.
func (o *office) reset(change ...func(*admin.Config)) {
	o.t.Helper()
	for _, f := range change {
		f(&o.cfg)
	}
	var err error
	o.Admin, err = admin.New(o.cfg)
	require.NoError(o.t, err)
	o.handler = o.Handler()
}

func run(t *testing.T, fn func(t *testing.T, o *office)) {
	t.Helper()
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) { fn(t, newOffice(t, db)) })
}

func (o *office) get(path string, header ...string) (int, string) {
	o.t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = "192.0.2.7:4711"
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	o.handler.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(o.t, err)
	return w.Code, string(body)
}

func (o *office) user(email, name string) auth.User {
	o.t.Helper()
	u, err := o.users.CreateUser(o.t.Context(), auth.CreateUserParams{Email: email, Name: name, Password: "correct horse battery", Verified: true, Role: auth.RoleUser})
	require.NoError(o.t, err)
	return u
}

// event sends one as Stripe would.
func (o *office) event(id, kind string) {
	o.t.Helper()
	body := fmt.Appendf(nil, `{"id":%q,"object":"event","type":%q,"api_version":"2023-10-16","created":%d,"livemode":false,"data":{"object":{"id":"cs_1"}}}`, id, kind, time.Now().Unix())
	now := time.Now()
	r := httptest.NewRequest(http.MethodPost, "/webhooks/stripe", bytes.NewReader(body))
	r.Header.Set("Stripe-Signature", fmt.Sprintf("t=%d,v1=%s", now.Unix(), hex.EncodeToString(stripewebhook.ComputeSignature(now, body, secret))))
	w := httptest.NewRecorder()
	o.inbox.Handler().ServeHTTP(w, r)
	require.Equal(o.t, http.StatusOK, w.Code, w.Body)
}

func (o *office) audit() []admin.Record {
	o.t.Helper()
	records, _, err := o.Audit(o.t.Context(), admin.AuditParams{})
	require.NoError(o.t, err)
	return records
}

func TestAdmin_IsNotThereForOthers(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		u := o.user("grace@example.com", "Grace")
		o.event("evt_1", "checkout.session.completed")
		o.staff = nil
		paths := []string{"/admin/", "/admin/users", "/admin/users/" + u.ID, "/admin/payments", "/admin/webhooks", "/admin/webhooks/evt_1", "/admin/audit", "/admin/ledger", "/admin/nothing"}
		_, nowhere := o.get("/admin/nothing", "Accept", "application/json")
		for _, path := range paths {
			status, body := o.get(path)
			assert.Equal(t, http.StatusNotFound, status, path)
			assert.NotContains(t, body, "grace@example.com", path)
			status, body = o.get(path, "Accept", "application/json")
			assert.Equal(t, http.StatusNotFound, status, path)
			assert.Equal(t, nowhere, body, "%s looks like an address that there is not", path)
		}
		assert.Empty(t, o.audit())
	})
}

func TestUsers_AreFoundAndShownWithTheirLedger(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		grace := o.user("grace@example.com", `<script>alert("x")</script>`)
		o.user("ada@example.com", "Ada")
		_, err := o.ledger.Grant(t.Context(), credits.GrantParams{Account: grace.ID, Amount: 7 * credits.Credit, Source: credits.Purchase, Reason: `Pack "<b>"`})
		require.NoError(t, err)
		for i := range credits.DefaultPage + 5 {
			_, err := o.ledger.Debit(t.Context(), credits.DebitParams{Account: grace.ID, Amount: credits.MustAmount("0.1"), Reason: fmt.Sprintf("use %d", i)})
			require.NoError(t, err)
		}

		status, body := o.get("/admin/users?q=GRA")
		assert.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, "grace@example.com")
		assert.NotContains(t, body, "ada@example.com")
		_, body = o.get("/admin/users?q=nobody")
		assert.Contains(t, body, "Nobody found")

		status, body = o.get("/admin/users/" + grace.ID)
		assert.Equal(t, http.StatusOK, status)
		assert.NotContains(t, body, "<script>alert")
		assert.Contains(t, body, "&lt;script&gt;")
		assert.Contains(t, body, "1.5", "7 less 55 tenths")
		assert.Contains(t, body, "use 54")
		assert.NotContains(t, body, "Pack", "the grant is on the next page")
		_, next, found := strings.Cut(body, `?before=`)
		require.True(t, found)
		before, _, _ := strings.Cut(next, `"`)
		_, body = o.get("/admin/users/" + grace.ID + "?before=" + before)
		assert.Contains(t, body, "Pack &#34;&lt;b&gt;&#34;")

		var page struct {
			Data struct {
				User    auth.User
				Balance credits.Balance
				Entries []credits.Entry
			}
		}
		_, body = o.get("/admin/users/"+grace.ID, "Accept", "application/json")
		require.NoError(t, json.Unmarshal([]byte(body), &page))
		assert.Equal(t, "grace@example.com", page.Data.User.Email)
		assert.Equal(t, credits.MustAmount("1.5"), page.Data.Balance.Available)
		assert.Len(t, page.Data.Entries, credits.DefaultPage)
	})
}

func TestUsers_PageThroughAll(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		const count = auth.DefaultPage + 3
		for i := range count {
			o.user(fmt.Sprintf("u%d@example.com", i), "")
		}
		path, seen := "/admin/users?q=u", map[string]bool{}
		for path != "" {
			var page struct {
				Data struct {
					Users []auth.User
					Next  string
				}
			}
			_, body := o.get(path, "Accept", "application/json")
			require.NoError(t, json.Unmarshal([]byte(body), &page))
			for _, u := range page.Data.Users {
				assert.False(t, seen[u.ID], "%s is shown twice", u.Email)
				seen[u.ID] = true
			}
			path = page.Data.Next
		}
		assert.Len(t, seen, count)
	})
}

func TestPayments_OfAllAndOfOne(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		o := newOffice(t, db, func(c *admin.Config) {
			c.Payments = till{
				{ID: uuid.New(), Account: "a1", Price: billing.Money{Amount: 1000, Currency: "usd"}, Credits: 100 * credits.Credit, Description: "Starter", Receipt: "RCP-1"},
				{ID: uuid.New(), Account: "a2", Price: billing.Money{Amount: 500, Currency: "jpy"}, Description: "Yen pack", Receipt: "RCP-2"},
			}
		})
		_, body := o.get("/admin/payments")
		for _, said := range []string{"10.00 USD", "500 JPY", "RCP-1", "RCP-2", `href="/admin/users/a1"`} {
			assert.Contains(t, body, said)
		}
		_, body = o.get("/admin/payments?q=a2")
		assert.NotContains(t, body, "RCP-1")
		_, body = o.get("/admin/payments?q=a2", "Accept", "application/json")
		assert.Contains(t, body, `"account":"a2"`, "staff are told whose it is")
	})
}

func TestWebhooks_ByStatusAndPage(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		for i := range webhook.DefaultPage + 2 {
			o.event(fmt.Sprintf("evt_%02d", i), "customer.created")
		}
		status, body := o.get("/admin/webhooks")
		assert.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, "evt_51")
		assert.NotContains(t, body, "evt_01<")
		_, next, found := strings.Cut(body, `/admin/webhooks?before=`)
		require.True(t, found)
		last, _, _ := strings.Cut(next, `"`)
		_, body = o.get("/admin/webhooks?before=" + last)
		assert.Contains(t, body, "evt_01<")
		_, body = o.get("/admin/webhooks?status=done")
		assert.Contains(t, body, "No events")
		status, body = o.get("/admin/webhooks/evt_07")
		assert.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, "customer.created")
		assert.Contains(t, body, "2023-10-16")
		_, body = o.get("/admin/")
		assert.Contains(t, body, "Events on their way")
	})
}

func TestAudit_EveryPageLeavesALineBeforeItIsShown(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		u := o.user("grace@example.com", "Grace")
		o.event("evt_1", "customer.created")
		for _, path := range []string{"/admin/", "/admin/users?q=grace", "/admin/users/" + u.ID, "/admin/payments", "/admin/webhooks", "/admin/webhooks/evt_1", "/admin/audit"} {
			status, body := o.get(path)
			require.Equal(t, http.StatusOK, status, body)
		}
		records := o.audit()
		var actions []admin.Action
		for _, r := range records {
			actions = append(actions, r.Action)
			assert.Equal(t, "s1", r.StaffID)
			assert.Equal(t, "ada@example.com", r.StaffEmail)
			assert.Equal(t, "192.0.2.7", r.Address)
			assert.NotEmpty(t, r.RequestID)
		}
		assert.Equal(t, []admin.Action{
			admin.ActionAuditView, admin.ActionEventView, admin.ActionEventsView, admin.ActionPaymentsView, admin.ActionUserView, admin.ActionUserSearch, admin.ActionOverview,
		}, actions)
		assert.Equal(t, u.ID, records[4].Subject)
		assert.Equal(t, "q=grace", records[5].Detail)

		_, body := o.get("/admin/audit?action=user_search")
		assert.Contains(t, body, "q=grace")
		assert.NotContains(t, body, u.ID)
		page, _, err := o.Audit(t.Context(), admin.AuditParams{StaffID: "somebody else"})
		require.NoError(t, err)
		assert.Empty(t, page)
	})
}

func TestAudit_CannotBeChanged(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		o.get("/admin/")
		for _, statement := range []string{"UPDATE qs_admin_audit SET action = 'nothing'", "DELETE FROM qs_admin_audit"} {
			_, err := o.db.Writer().ExecContext(t.Context(), statement)
			require.ErrorContains(t, err, "append-only", statement)
		}
		assert.Len(t, o.audit(), 1)
	})
}

func TestAudit_WithoutALineThereIsNoPage(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		o.user("grace@example.com", "Grace")
		_, err := o.db.Writer().ExecContext(t.Context(), "DROP TABLE qs_admin_audit")
		require.NoError(t, err)
		status, body := o.get("/admin/users")
		assert.Equal(t, http.StatusInternalServerError, status)
		assert.NotContains(t, body, "grace@example.com")
	})
}

func TestAdmin_StrangeAddressesAreNoFault(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		for path, want := range map[string]int{
			"/admin/users/%00":                            http.StatusBadRequest,
			"/admin/users/%ff%fe":                         http.StatusBadRequest,
			"/admin/users/nobody":                         http.StatusNotFound,
			"/admin/users/" + strings.Repeat("a", 5000):   http.StatusNotFound,
			"/admin/users?q=%00":                          http.StatusBadRequest,
			"/admin/users?q=%25_&before=x":                http.StatusOK,
			"/admin/users?q=" + strings.Repeat("ä", 3000): http.StatusOK,
			"/admin/payments?before=x":                    http.StatusOK,
			"/admin/webhooks?status=nothing":              http.StatusOK,
			"/admin/webhooks?before=nothing":              http.StatusNotFound,
			"/admin/webhooks/nothing":                     http.StatusNotFound,
			"/admin/audit?action=nothing&before=x":        http.StatusOK,
		} {
			status, body := o.get(path)
			assert.Equal(t, want, status, "%.60s: %s", path, body)
		}
	})
}

func TestAdmin_SectionsWithoutASourceAreAbsent(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, schema)
	o := newOffice(t, db, func(c *admin.Config) {
		c.Users, c.Ledger, c.Verifier, c.Payments, c.Events, c.Path = nil, nil, nil, nil, nil, "/back/office"
	})
	status, body := o.get("/back/office/")
	assert.Equal(t, http.StatusOK, status)
	for _, absent := range []string{"users", "ledger", "payments", "webhooks"} {
		assert.NotContains(t, body, `href="/back/office/`+absent)
		status, _ := o.get("/back/office/" + absent)
		assert.Equal(t, http.StatusNotFound, status, absent)
	}
	assert.Contains(t, body, `href="/back/office/audit"`)
	u, err := url.Parse(strings.Split(strings.Split(body, `<link rel="stylesheet" href="`)[1], `"`)[0])
	require.NoError(t, err)
	status, _ = o.get(u.Path)
	assert.Equal(t, http.StatusOK, status, "mounted alone it serves its own style sheet")
}

// Where accounts have no pages of their own, nothing leads to one.
func TestPayments_LeadToTheirOwnersPageWhereThereIsOne(t *testing.T) {
	t.Parallel()
	paid := till{{Account: "acct-7", Description: "Starter", Receipt: "RCP-1"}}
	for _, users := range []bool{true, false} {
		o := newOffice(t, dbtest.SQLite(t, schema), func(c *admin.Config) {
			if c.Payments = paid; !users {
				c.Users = nil
			}
		})
		status, body := o.get("/admin/payments")
		assert.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, "<code>acct-7</code>")
		assert.Equal(t, users, strings.Contains(body, `href="/admin/users/acct-7"`))
	}
}

func TestNew_SaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := admin.New(admin.Config{})
	require.ErrorContains(t, err, "Config.DB")
	_, err = admin.New(admin.Config{DB: dbtest.SQLite(t, dbtest.Empty).Writer()})
	require.ErrorContains(t, err, "Config.Staff")
}

// failing is a source that does not answer.
type failing struct{}

func (failing) Payments(context.Context, billing.PaymentsParams) ([]billing.Payment, bool, error) {
	return nil, false, errors.New("secret detail")
}

func TestAdmin_FailuresAreToldWithoutDetails(t *testing.T) {
	t.Parallel()
	o := newOffice(t, dbtest.SQLite(t, schema), func(c *admin.Config) { c.Payments = failing{} })
	for _, path := range []string{"/admin/", "/admin/payments"} {
		status, body := o.get(path)
		assert.Equal(t, http.StatusInternalServerError, status)
		assert.NotContains(t, body, "secret detail")
	}
}
