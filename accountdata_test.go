package quickscale_test

import (
	"archive/zip"
	"bytes"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// A person's export has a file of each package, and their end leaves a ledger that adds up and names nobody.
func TestAccountData_IsExportedAndErased(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		var later atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		app, err := quickscale.New(quickscale.Config{DB: db.Writer(), ReadDB: db.Reader(), Mode: quickscale.Development, BaseURL: "http://127.0.0.1:1",
			Clock: now, Logger: slog.New(slog.DiscardHandler), AccountData: []auth.AccountData{{Name: "host"}}})
		require.NoError(t, err)
		require.NoError(t, app.Migrate(ctx))
		u, err := app.Auth.CreateUser(ctx, auth.CreateUserParams{Email: "ada@example.com", Password: "correct horse battery", Verified: true})
		require.NoError(t, err)
		_, err = app.Credits.Grant(ctx, credits.GrantParams{Account: u.AccountID, Amount: 3 * credits.Credit, Source: credits.Purchase, Reason: "For Ada herself"})
		require.NoError(t, err)
		const customer = `INSERT INTO qs_billing_customers (account_id, intent_id, email, created_at) VALUES (?, ?, ?, ?)`
		_, err = db.Writer().ExecContext(ctx, db.Rebind(customer), u.AccountID, u.ID, u.Email, database.At(now()))
		require.NoError(t, err)
		var file bytes.Buffer
		require.NoError(t, app.Auth.Export(ctx, &file, u.ID, auth.Client{}))
		z, err := zip.NewReader(bytes.NewReader(file.Bytes()), int64(file.Len()))
		require.NoError(t, err)
		var names []string
		for _, f := range z.File {
			names = append(names, f.Name)
		}
		assert.ElementsMatch(t, []string{"account.json", "credits.json", "payments.json", "usage.json", "webhooks.json"}, names)

		_, err = app.Auth.AskForDeletion(ctx, u.ID, "", auth.Client{})
		require.NoError(t, err)
		later.Store(int64(auth.DefaultDeletionGrace + time.Minute))
		n, err := app.Auth.EraseDue(ctx)
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		entries, _, err := app.Credits.History(ctx, credits.HistoryParams{Account: u.AccountID})
		require.NoError(t, err)
		require.Len(t, entries, 2, "the grant, and that its credits are gone")
		for _, e := range entries {
			assert.Equal(t, credits.ErasedReason, e.Reason)
		}
		var address string
		require.NoError(t, db.Get(ctx, &address, `SELECT email FROM qs_billing_customers WHERE account_id = ?`, u.AccountID))
		assert.Empty(t, address)
		report, err := app.Credits.Verify(ctx, credits.VerifyParams{})
		require.NoError(t, err)
		assert.Empty(t, report.Discrepancies)
	})
}
