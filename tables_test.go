package quickscale_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// notExported are the tables with rows of a person that their export leaves out, and why.
var notExported = map[string]string{
	"qs_auth_tokens":               "secrets of links, which live for days",
	"qs_auth_magic":                "secrets of log-ins, which live for minutes",
	"qs_auth_ceremonies":           "secrets of log-ins, which live for minutes",
	"qs_auth_oauth_flows":          "secrets of log-ins, which live for minutes",
	"qs_auth_oauth_offers":         "secrets of log-ins, which live for minutes",
	"qs_auth_pending":              "secrets of log-ins, which live for minutes",
	"qs_auth_notices":              "mails that wait for minutes, about security events that are exported",
	"qs_billing_card_checks":       "when we looked at a card's expiry",
	"qs_billing_customer_erasures": "is written when the account ends",
	"qs_credit_seal_spans":         "which entries a seal is over: says nothing about the person that the entries do not",
	"qs_service_quotas":            "how much of a minute's quota is used",
	"qs_outbound_messages":         "copies of what the other files hold",
	"qs_outbound_deliveries":       "which of those copies went where",
	"qs_webhook_events":            "copies of Stripe's objects, whose payload is dropped after a while; the payments are what came of them",
	"qs_admin_audit":               "what staff did; the person's security events say what concerns them",
	"qs_credit_faults":             "what verification has found at the ledger, which is a fault of ours",
	"qs_billing_mrr":               "what the subscription comes to in a month",
	"qs_billing_mrr_due":           "that the subscription has changed, for moments",
	"qs_admin_approvals":           "what staff asked each other; the ledger has what came of it",
	"qs_mail_outbox":               "is for development only",
}

// notErased are the tables in which rows that point to a person outlive them, and why.
var notErased = map[string]string{
	"qs_auth_events":               "security events are append-only; the id is nobody's any more",
	"qs_billing_customers":         "late events of Stripe find the account by its customer; the address is gone",
	"qs_billing_customer_erasures": "the proof that Stripe was asked to forget",
	"qs_billing_checkouts":         "the books",
	"qs_billing_payments":          "the books",
	"qs_billing_subscriptions":     "the books",
	"qs_billing_changes":           "the books",
	"qs_billing_refunds":           "the books",
	"qs_billing_disputes":          "the books",
	"qs_billing_topups":            "the books",
	"qs_billing_auto_topups":       "the consent to charges that can still be disputed",
	"qs_billing_card_checks":       "a date",
	"qs_credit_accounts":           "the ledger",
	"qs_credit_lots":               "the ledger",
	"qs_credit_entries":            "the ledger; the texts are gone",
	"qs_credit_holds":              "the ledger; the texts are gone",
	"qs_credit_seal_spans":         "the ledger",
	"qs_service_calls":             "what was charged for, without what was written and got",
	"qs_webhook_events":            "what Stripe has sent is recognised by it; webhook.Prune drops the payload",
	"qs_admin_audit":               "append-only: what staff did, by ids",
	"qs_credit_faults":             "the ledger",
	"qs_billing_mrr":               "the books",
	"qs_billing_mrr_due":           "the books, for moments",
	"qs_admin_approvals":           "who decided about credits, and why",
	"qs_mail_outbox":               "is for development only",
}

// personColumns are the names of columns that point to a person or an account.
var personColumns = []string{"user_id", "account_id", "account", "owner", "customer_account", "email", "email_key", "to_address", "subject", "impersonator_id", "invited_by", "member_id", "person_id", "actor_id"}

// seeds make a row of each table about a person with the id U, the account A and the address E; M is the table's mark, a
// text that the export shows and the erasure removes, N a fresh id, B 32 bytes, and T the time. Tables that are not here
// have rows by what the test does.
var seeds = []struct {
	table string
	row   map[string]any
}{
	{"qs_auth_tokens", row("token_hash", "B", "user_id", "U", "purpose", "reset", "email_key", "E", "created_at", "T", "expires_at", "L")},
	{"qs_auth_magic", row("browser_hash", "B", "user_id", "U", "email_key", "E", "code_hash", "B", "link_hash", "B", "remember", false, "next", "M", "expires_at", "L")},
	{"qs_auth_email_changes", row("id", "N", "user_id", "U", "old_email", "M", "old_email_key", "M", "new_email", "E", "new_email_key", "E", "confirm_hash", "B", "undo_hash", "B", "created_at", "T", "expires_at", "L", "confirmed_at", "T")},
	{"qs_auth_totp", row("user_id", "U", "secret", "B", "created_at", "T", "confirmed_at", "D")},
	{"qs_auth_backup_codes", row("user_id", "U", "n", 1, "hash", "$argon2id$", "created_at", "T", "used_at", "D")},
	{"qs_auth_passkeys", row("id", "N", "user_id", "U", "credential_id", "B", "name", "M", "credential", "{}", "created_at", "T")},
	{"qs_auth_ceremonies", row("browser_hash", "B", "kind", "confirm", "user_id", "U", "data", "M", "expires_at", "L")},
	{"qs_auth_identities", row("id", "N", "user_id", "U", "provider", "google", "issuer", "", "subject", "M", "email", "E", "created_at", "T")},
	{"qs_auth_oauth_flows", row("state_hash", "B", "browser_hash", "B", "provider", "google", "user_id", "U", "next", "M", "remember", false, "expires_at", "L")},
	{"qs_auth_oauth_offers", row("browser_hash", "B", "user_id", "U", "provider", "google", "issuer", "", "subject", "M", "email", "E", "next", "", "expires_at", "L")},
	{"qs_auth_pending", row("token_hash", "B", "user_id", "U", "method", "M", "remember", false, "enrol", false, "expires_at", "L")},
	{"qs_auth_notices", row("id", "N", "user_id", "U", "kind", "auth.password", "address", "E", "language", "", "data", `{"name":"mark-notice"}`, "created_at", "T")},
	{"qs_auth_invitations", row("id", "N", "organisation_id", "O", "token_hash", "B", "email", "M", "email_key", "E", "role", "member", "created_at", "T", "expires_at", "L")},
	{"qs_billing_customers", row("account_id", "A", "intent_id", "N", "customer_id", "cus_gone", "email", "M", "created_at", "T")},
	{"qs_billing_checkouts", row("id", "N", "account_id", "A", "mode", "payment", "price_id", "price_1", "quantity", 1, "credits", 1, "amount", 1, "currency", "usd", "description", "Pack", "status", "expired", "session_id", "cs_1", "url", "M", "created_at", "T", "updated_at", "T")},
	{"qs_billing_payments", row("id", "P", "account_id", "A", "type", "credit_purchase", "status", "succeeded", "amount", 1, "currency", "usd", "credits", 1, "description", "Pack", "receipt_number", "RCP-1", "receipt_url", "M", "created_at", "T", "updated_at", "T")},
	{"qs_billing_subscriptions", row("account_id", "A", "subscription_id", "sub_1", "customer_id", "cus_gone", "item_id", "si_1", "status", "canceled", "price_id", "price_1", "quantity", 1, "currency", "usd", "period_start", "T", "period_end", "T", "cancel_at_period_end", false, "pay_url", "M", "version", 1, "created_at", "T", "updated_at", "T")},
	{"qs_billing_changes", row("id", "N", "account_id", "A", "subscription_id", "sub_1", "from_price", "price_from", "to_price", "price_2", "at_once", true, "proration_at", 1, "status", "done", "created_at", "T", "updated_at", "T")},
	{"qs_billing_refunds", row("id", "N", "payment_id", "P", "account_id", "A", "amount", 1, "currency", "usd", "reason", "duplicate", "note", "N", "staff", "", "status", "failed", "refund_id", "re_1", "created_at", "T", "updated_at", "T")},
	{"qs_billing_disputes", row("id", "N", "dispute_id", "dp_1", "payment_id", "P", "account_id", "A", "amount", 1, "currency", "usd", "reason", "general", "status", "lost", "created_at", "T", "updated_at", "T")},
	{"qs_billing_auto_topups", row("account_id", "A", "enabled", false, "threshold", 1, "price_id", "price_1", "monthly_cap", 1, "currency", "usd", "consent", "I agree to it.", "consented_at", "T", "not_before", "T", "created_at", "T", "updated_at", "T")},
	{"qs_billing_topups", row("id", "N", "account_id", "A", "price_id", "price_topup", "credits", 1, "amount", 1, "currency", "usd", "description", "Pack", "customer_id", "cus_gone", "method_id", "pm_1", "month", "2026-01", "status", "failed", "created_at", "T", "updated_at", "T")},
	{"qs_billing_card_checks", row("account_id", "A", "checked_at", "T")},
	{"qs_service_calls", row("id", "C", "account_id", "A", "service", "echo", "status", "succeeded", "price", 0, "entry_id", "N", "fingerprint", "M", "output", `"M"`, "tags", `{"about":"mark-tag"}`, "created_at", "T", "expires_at", "T", "finished_at", "T")},
	{"qs_service_call_tags", row("account_id", "A", "name", "about", "value", "M", "call_id", "C")},
	{"qs_service_quotas", row("account_id", "A", "full_at", 1)},
	{"qs_outbound_endpoints", row("id", "W", "account", "A", "url", "https://example.com", "description", "M", "types", "[]", "secret", "B", "created_at", "T", "updated_at", "T")},
	{"qs_outbound_messages", row("id", "X", "account", "A", "type", "test", "key", "k", "payload", "{}", "created_at", "T")},
	{"qs_outbound_deliveries", row("id", "N", "account", "A", "message_id", "X", "endpoint_id", "W", "status", "failed", "last_error", "M", "created_at", "T", "ended_at", "T", "next_at", "T")},
	{"qs_webhook_events", row("id", "evt_1", "type", "ping", "object_id", "A", "livemode", false, "payload", "", "status", "done", "created_at", "T", "received_at", "T", "processed_at", "T", "next_at", "T")},
	{"qs_credit_faults", row("account_id", "A", "object_id", "N", "rule", "balance", "want", 1, "got", 2, "seen_at", "T")},
	{"qs_billing_mrr", row("account_id", "A", "currency", "usd", "amount", 1)},
	{"qs_billing_mrr_due", row("account_id", "A")},
	{"qs_admin_approvals", row("id", "N", "key", "N", "user_id", "U", "account_id", "A", "amount", 1, "reason", "Goodwill", "asked_by", "sue", "asked_email", "sue@example.com", "status", "waiting", "created_at", "T", "expires_at", "L")},
	{"qs_admin_audit", row("id", "N", "staff_id", "sue", "staff_email", "sue@example.com", "action", "view", "subject", "U", "created_at", "T")},
}

func row(pairs ...any) map[string]any {
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}

// sown are marks of tables that show otherwise in the export than by their own.
var sown = map[string]string{
	"qs_auth_users": "Ada of the users", "qs_auth_sessions": "192.0.2.77", "qs_auth_api_keys": "key of the person", "qs_auth_events": `"kind": "signup"`,
	"qs_auth_devices": `"devices": [` + "\n    {", "qs_auth_totp": "2026-02-03T04:05:06Z", "qs_auth_backup_codes": `"used_at": "2026-02-03T04:05:06Z"`, "qs_auth_profiles": "Company of the person",
	"qs_auth_pictures": "\x89PNG", "qs_auth_members": `"name": "Acme of the person"`, "qs_billing_changes": "price_from", "qs_billing_refunds": "re_1", "qs_billing_disputes": "dp_1",
	"qs_billing_auto_topups": "I agree to it.", "qs_billing_topups": "price_topup", "qs_credit_accounts": `"available":"1"`, "qs_credit_lots": `"lots":[{`,
	"qs_credit_entries": "entry of the person", "qs_credit_holds": "hold of the person", "qs_service_call_tags": "mark-tag", "qs_billing_subscriptions": "sub_1",
}

// A table with something about a person is in their export and ends with them, or stands above with the reason why not.
// Who adds a table finds out here.
func TestAccountData_WalksAllTables(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		var later atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		app, err := quickscale.New(quickscale.Config{DB: db.Writer(), ReadDB: db.Reader(), Mode: quickscale.Development, BaseURL: "http://127.0.0.1:1",
			Clock: now, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		require.NoError(t, app.Migrate(t.Context()))
		p := sow(t, app, db)
		tables := personTables(t, db)
		require.Greater(t, len(tables), 35)
		for name := range maps.Keys(notExported) {
			assert.Contains(t, tables, name, "an exception for no table")
		}
		for name := range maps.Keys(notErased) {
			assert.Contains(t, tables, name, "an exception for no table")
		}

		var file bytes.Buffer
		require.NoError(t, app.Auth.Export(t.Context(), &file, p.user.ID, auth.Client{}))
		export := unzip(t, file.Bytes())
		before := map[string]string{}
		for _, table := range tables {
			before[table] = dump(t, db, table)
			if table == "qs_billing_customer_erasures" || table == "qs_mail_outbox" || table == "qs_credit_seal_spans" {
				continue // have their rows later, or none
			}
			require.True(t, p.in(before[table]), "%s has no row of the person: seed one", table)
			if _, exempt := notExported[table]; !exempt {
				assert.Contains(t, export, p.mark(table), "%s is not in the export", table)
			}
		}
		for _, secret := range []string{"argon2id", `"credential"`, "secret_hash", "token_hash"} {
			assert.NotContains(t, export, secret)
		}

		_, err = app.Auth.AskForDeletion(t.Context(), p.user.ID, "", auth.Client{})
		require.NoError(t, err)
		later.Store(int64(auth.DefaultDeletionGrace + time.Minute))
		n, err := app.Auth.EraseDue(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		for _, table := range tables {
			after := dump(t, db, table)
			if table != "qs_mail_outbox" {
				assert.NotContains(t, strings.ToLower(after), strings.ToLower(p.user.Email), "%s names the person", table)
			}
			assert.NotContains(t, after, "mark-", "%s keeps what the person wrote", table)
			if _, exempt := notErased[table]; !exempt {
				assert.False(t, p.in(after), "%s keeps a row of the person: %s", table, after)
			}
		}
	})
}

// sownPerson is somebody about whom each table has a row.
type sownPerson struct {
	user         auth.User
	organisation string
}

// in tells that rows are about the person.
func (p sownPerson) in(rows string) bool {
	for _, s := range []string{p.user.ID, p.user.AccountID, p.user.Email} {
		if strings.Contains(rows, s) {
			return true
		}
	}
	return false
}

// mark is what the export shows of a table.
func (p sownPerson) mark(table string) string {
	if m, ok := sown[table]; ok {
		return m
	}
	return "mark-" + table
}

func sow(t *testing.T, app *quickscale.App, db *database.DB) sownPerson {
	t.Helper()
	ctx := t.Context()
	person := func(address, name string) auth.User {
		u, err := app.Auth.CreateUser(ctx, auth.CreateUserParams{Email: address, Password: "correct horse battery", Name: name, Verified: true})
		require.NoError(t, err)
		return u
	}
	p := sownPerson{user: person("ada@example.com", "Ada of the users")}
	other := person("ben@example.com", "")
	_, err := app.Auth.CreateOrganisation(ctx, auth.CreateOrganisationParams{UserID: p.user.ID, Name: "Acme of the person"})
	require.NoError(t, err)
	foreign, err := app.Auth.CreateOrganisation(ctx, auth.CreateOrganisationParams{UserID: other.ID, Name: "Others"})
	require.NoError(t, err)
	p.organisation = foreign.ID
	_, err = app.Auth.LogIn(ctx, auth.LogInParams{Email: p.user.Email, Password: "correct horse battery", Client: auth.Client{IP: "192.0.2.77", Agent: "Test/1.0"}})
	require.NoError(t, err)
	_, _, err = app.Auth.CreateAPIKey(ctx, auth.CreateAPIKeyParams{UserID: p.user.ID, Name: "key of the person"})
	require.NoError(t, err)
	require.NoError(t, app.Auth.SetProfile(ctx, p.user.ID, auth.Profile{Name: p.user.Name, Company: "Company of the person"}))
	require.NoError(t, app.Auth.SetPicture(ctx, p.user.ID, onePixel))
	_, err = app.Credits.Grant(ctx, credits.GrantParams{Account: p.user.AccountID, Amount: 2 * credits.Credit, Source: credits.Purchase, Reason: "entry of the person"})
	require.NoError(t, err)
	_, err = app.Credits.Reserve(ctx, credits.ReserveParams{Account: p.user.AccountID, Amount: credits.Credit, Reason: "hold of the person", TTL: time.Hour})
	require.NoError(t, err)

	ids, day := map[any]string{}, time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, s := range seeds {
		columns, args := slices.Sorted(maps.Keys(s.row)), []any{}
		for _, c := range columns {
			v := s.row[c]
			switch v {
			case "U":
				v = p.user.ID
			case "A":
				v = p.user.AccountID
			case "E":
				v = p.user.Email
			case "O":
				v = p.organisation
			case "M":
				v = "mark-" + s.table
			case `"M"`:
				v = `"mark-` + s.table + `"`
			case "B":
				v = []byte(strings.ReplaceAll(uuid.NewString(), "-", ""))
			case "T":
				v = database.At(time.Now())
			case "L":
				v = database.At(time.Now().Add(time.Hour))
			case "D":
				v = database.At(day)
			case "N":
				v = uuid.Must(uuid.NewV7()).String()
			case "P", "C", "W", "X":
				if ids[v] == "" {
					ids[v] = uuid.Must(uuid.NewV7()).String()
				}
				v = ids[v]
			}
			args = append(args, v)
		}
		insert := fmt.Sprintf(`INSERT INTO %s (%s) VALUES (?%s)`, s.table, strings.Join(columns, ", "), strings.Repeat(", ?", len(columns)-1))
		_, err := db.Writer().ExecContext(ctx, db.Rebind(insert), args...)
		require.NoError(t, err, s.table)
	}
	return p
}

// onePixel is a GIF of one pixel.
var onePixel = []byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;")

// personTables are the tables with a column that points to a person or an account, and those that are one.
func personTables(t *testing.T, db *database.DB) []string {
	t.Helper()
	query := database.Query{
		Postgres: `SELECT table_name AS name, column_name AS col FROM information_schema.columns c JOIN information_schema.tables USING (table_schema, table_name)
			WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'`,
		SQLite: `SELECT m.name AS name, p.name AS col FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'`,
	}
	var columns []struct {
		Table  string `db:"name"`
		Column string `db:"col"`
	}
	require.NoError(t, db.Writer().Select(&columns, query.For(db.Dialect())))
	found := map[string]bool{"qs_auth_users": true, "qs_credit_accounts": true}
	for _, c := range columns {
		// The double of Stripe stands for another system.
		if strings.HasPrefix(c.Table, "qs_") && !strings.HasPrefix(c.Table, "qs_stripetest_") && slices.Contains(personColumns, c.Column) {
			found[c.Table] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// dump is a table as text.
func dump(t *testing.T, db *database.DB, table string) string {
	t.Helper()
	rows, err := db.Writer().QueryxContext(t.Context(), `SELECT * FROM `+table) //nolint:sqlclosecheck // closed below, with its error
	require.NoError(t, err)
	defer func() { assert.NoError(t, rows.Close()) }()
	var text strings.Builder
	for rows.Next() {
		values, err := rows.SliceScan()
		require.NoError(t, err)
		for _, v := range values {
			if b, ok := v.([]byte); ok {
				v = string(b)
			}
			fmt.Fprintln(&text, v)
		}
	}
	require.NoError(t, rows.Err())
	return text.String()
}

// unzip is the text of all files of an export.
func unzip(t *testing.T, data []byte) string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	var text strings.Builder
	for _, f := range z.File {
		r, err := f.Open()
		require.NoError(t, err)
		_, err = io.Copy(&text, r)
		require.NoError(t, err)
	}
	return text.String()
}
