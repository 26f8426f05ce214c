package quickscale_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// Two people of an organisation see and spend one balance, only who may pay sees payments, and the money stays with the
// organisation when who began it leaves.
func TestOrganisation_HasOneCreditAccountAndOnePlan(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		app, err := quickscale.New(quickscale.Config{DB: db.Writer(), ReadDB: db.Reader(), Mode: quickscale.Development, BaseURL: "http://127.0.0.1:1",
			Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		require.NoError(t, app.Migrate(ctx))
		person := func(address string) auth.User {
			u, err := app.Auth.CreateUser(ctx, auth.CreateUserParams{Email: address, Password: "correct horse battery", Verified: true})
			require.NoError(t, err)
			return u
		}
		ada, ben := person("ada@example.com"), person("ben@example.com")
		grant := credits.GrantParams{Account: ada.AccountID, Amount: 10 * credits.Credit, Source: credits.Purchase, Reason: "Pack"}
		_, err = app.Credits.Grant(ctx, grant)
		require.NoError(t, err)
		o, err := app.Auth.CreateOrganisation(ctx, auth.CreateOrganisationParams{UserID: ada.ID, Name: "Acme", Share: true})
		require.NoError(t, err)
		_, err = app.Auth.Invite(ctx, auth.InviteParams{ActorID: ada.ID, OrganisationID: o.ID, Email: ben.Email, Role: auth.OrgMember})
		require.NoError(t, err)
		var text string
		work, cancel := context.WithCancel(ctx)
		defer cancel()
		require.NoError(t, app.Start(work))
		t.Cleanup(func() { assert.NoError(t, app.Stop(context.Background())) })
		require.Eventually(t, func() bool {
			err := db.Get(ctx, &text, `SELECT body_text FROM qs_mail_outbox WHERE to_address = ?`, ben.Email)
			return err == nil && text != ""
		}, 20*time.Second, 20*time.Millisecond)
		_, link, _ := strings.Cut(text, "/auth/invitation?token=")
		token, err := url.QueryUnescape(strings.Fields(link)[0])
		require.NoError(t, err)
		_, err = app.Auth.AcceptInvitation(ctx, auth.AcceptParams{Token: token, UserID: ben.ID})
		require.NoError(t, err)

		see := func(address, path string) (int, string) {
			s, err := app.Auth.LogIn(ctx, auth.LogInParams{Email: address, Password: "correct horse battery"})
			require.NoError(t, err)
			w := httptest.NewRecorder()
			app.Auth.SetSession(w, s)
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Header.Set("Accept", "application/json")
			for _, c := range w.Result().Cookies() {
				r.AddCookie(c)
			}
			w = httptest.NewRecorder()
			app.Handler().ServeHTTP(w, r)
			return w.Code, w.Body.String()
		}
		for _, address := range []string{ada.Email, ben.Email} {
			status, body := see(address, "/credits/")
			assert.Equal(t, http.StatusOK, status)
			assert.Contains(t, body, `"available":"10"`, address)
		}
		status, _ := see(ada.Email, "/billing/payments")
		assert.Equal(t, http.StatusOK, status)
		status, _ = see(ben.Email, "/billing/payments")
		assert.Equal(t, http.StatusForbidden, status)

		var wg sync.WaitGroup
		var keys []string
		for _, u := range []auth.User{ada, ben} {
			_, key, err := app.Auth.CreateAPIKey(ctx, auth.CreateAPIKeyParams{UserID: u.ID, AccountID: o.ID, Name: "k"})
			require.NoError(t, err)
			keys = append(keys, key)
		}
		for i := range 20 {
			wg.Go(func() {
				_, key, err := app.Auth.AuthenticateKey(ctx, keys[i%2])
				if assert.NoError(t, err) {
					_, err = app.Credits.Debit(ctx, credits.DebitParams{Account: key.AccountID, Amount: credits.Credit, Reason: "Call"})
				}
				if err != nil {
					assert.ErrorIs(t, err, credits.ErrInsufficient)
				}
			})
		}
		wg.Wait()
		b, err := app.Credits.Balance(ctx, o.ID)
		require.NoError(t, err)
		assert.Zero(t, b.Available, "20 calls of two people for 10 credits: 10 are paid")

		_, err = app.Billing.Portal(ctx, billing.Customer{Account: o.ID, Email: ada.Email, Verified: true}) // makes the customer
		require.NoError(t, err)
		customers := func() (addresses []string) {
			list := app.Stripe().Customers.List(&stripe.CustomerListParams{})
			for list.Next() {
				addresses = append(addresses, list.Customer().Email)
			}
			return addresses
		}
		require.Equal(t, []string{ada.Email}, customers())
		require.NoError(t, app.Auth.TransferOwnership(ctx, auth.MemberParams{ActorID: ada.ID, OrganisationID: o.ID, UserID: ben.ID}))
		require.NoError(t, app.Auth.RemoveMember(ctx, auth.MemberParams{ActorID: ada.ID, OrganisationID: o.ID, UserID: ada.ID}))
		require.Eventually(t, func() bool { return slices.Equal(customers(), []string{ben.Email}) }, 20*time.Second, 20*time.Millisecond,
			"Stripe writes to who owns it now, as the same customer")
		grant.Account = o.ID
		_, err = app.Credits.Grant(ctx, grant)
		require.NoError(t, err)
		_, body := see(ada.Email, "/credits/")
		assert.Contains(t, body, `"available":"0"`, "who began it has nothing of it any more")
		_, body = see(ben.Email, "/credits/")
		assert.Contains(t, body, `"available":"10"`)
		people, err := app.Auth.AccountContacts(ctx, o.ID)
		require.NoError(t, err)
		require.Len(t, people, 1)
		assert.Equal(t, ben.ID, people[0].ID)
	})
}
