package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
)

// Accounts tells whose an account of the ledger and billing is; *auth.Auth is one.
type Accounts interface {
	LookUpAccount(ctx context.Context, accountID string) (auth.AccountOwner, error)
}

// accountPage is the data of account.html: an account that is no person's own.
type accountPage struct {
	frame

	Account string `json:"account"`
	// Organisation is nil for an account of the host's own.
	Organisation *auth.Organisation    `json:"organisation,omitempty"`
	Members      []auth.Member         `json:"members,omitempty"`
	Balance      *credits.Balance      `json:"balance,omitempty"`
	Entries      []credits.Entry       `json:"entries,omitempty"`
	Subscription *billing.Subscription `json:"subscription,omitempty"`
	Payments     []billing.Payment     `json:"payments,omitempty"`
	Refunds      []billing.Refund      `json:"refunds,omitempty"`
}

// showAccount leads to the person whose own account it is, and shows every other.
func (a *Admin) showAccount(w http.ResponseWriter, r *http.Request) error {
	ctx, account := r.Context(), r.PathValue("id")
	owner, err := a.cfg.Accounts.LookUpAccount(ctx, account)
	if err != nil && !errors.Is(err, auth.ErrNotFound) {
		return err
	}
	if owner.UserID != "" && a.cfg.Users != nil {
		a.cfg.Site.Redirect(w, r, a.cfg.Path+"/users/"+url.PathEscape(owner.UserID))
		return nil
	}
	page := accountPage{frame: a.frame(sectionPayments), Account: account, Organisation: owner.Organisation, Members: owner.Members}
	if a.cfg.Ledger != nil {
		balance, err := a.cfg.Ledger.Balance(ctx, account)
		if err != nil {
			return err
		}
		page.Balance = &balance
		if page.Entries, _, err = a.cfg.Ledger.History(ctx, credits.HistoryParams{Account: account}); err != nil {
			return err
		}
	}
	if page.Subscription, err = a.subscription(ctx, account); err != nil {
		return err
	}
	if a.cfg.Payments != nil {
		if page.Payments, _, err = a.cfg.Payments.Payments(ctx, billing.PaymentsParams{Account: account, Limit: overviewRows}); err != nil {
			return err
		}
	}
	if a.cfg.Refunds != nil {
		if page.Refunds, _, err = a.cfg.Refunds.Refunds(ctx, billing.RefundsParams{Account: account, Limit: overviewRows}); err != nil {
			return err
		}
	}
	if page.Organisation == nil && len(page.Payments) == 0 && len(page.Entries) == 0 && page.Subscription == nil {
		return errNoPage // nobody's, and nothing is known of it
	}
	a.views.Respond(w, r, http.StatusOK, "account", page)
	return nil
}

// subscription is an account's plan. Nil: it never had one.
func (a *Admin) subscription(ctx context.Context, account string) (*billing.Subscription, error) {
	if a.cfg.Subscriptions == nil {
		return nil, nil
	}
	s, err := a.cfg.Subscriptions.FindSubscription(ctx, account)
	if errors.Is(err, billing.ErrNoSubscription) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &s, nil
}
