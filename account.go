package quickscale

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
)

// accountOf is the ledger account that who is signed in acts for: their own, or that of an organisation.
func accountOf(r *http.Request) (string, bool) {
	account, ok := auth.AccountFrom(r.Context())
	return account.ID, ok
}

// customerOf is who pays. An organisation is one customer, whoever of its members pays.
func (a *App) customerOf(r *http.Request) (billing.Customer, bool) {
	u, ok := auth.UserFrom(r.Context())
	account, _ := auth.AccountFrom(r.Context())
	c := billing.Customer{Account: account.ID, Email: u.Email, Name: u.Name, Verified: u.Verified()}
	if !ok || account.Personal() {
		return c, ok
	}
	c.Name = account.Name
	address, err := a.addressOf(r.Context(), account.ID)
	if err != nil {
		// Who pays is right about the account, and the address follows with the next payment.
		a.cfg.Logger.ErrorContext(r.Context(), "address of an organisation", slog.Any("error", err))
	}
	if address != "" {
		c.Email = address
	}
	return c, true
}

// addressOf is the e-mail address of a ledger account, an organisation's being that of its first owner, as the last
// committed change has it; a replica may be behind.
func (a *App) addressOf(ctx context.Context, account string) (address string, err error) {
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		people, err := a.Auth.AccountContactsTx(ctx, tx, account)
		if address = ""; err == nil && len(people) > 0 {
			address = people[0].Email
		}
		return err
	})
	return address, err
}

// members keeps pages from those members of an organisation whose role does not allow them. Who is signed out gets what
// the pages have for them, such as prices.
func (a *App) members(allowed func(auth.OrgRole) bool, next http.Handler) http.Handler {
	checked := a.Auth.RequireAccount(allowed)(next)
	return a.Auth.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, signedIn := auth.UserFrom(r.Context()); !signedIn {
			next.ServeHTTP(w, r)
			return
		}
		checked.ServeHTTP(w, r)
	}))
}
