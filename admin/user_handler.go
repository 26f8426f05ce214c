package admin

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
)

// usersPage is the data of users.html.
type usersPage struct {
	frame

	Query string      `json:"query"`
	Users []auth.User `json:"users"`
	Next  string      `json:"next,omitempty"`
}

func (a *Admin) listUsers(w http.ResponseWriter, r *http.Request) error {
	query := strings.TrimSpace(r.URL.Query().Get("q"))
	users, more, err := a.cfg.Users.Users(r.Context(), auth.UsersParams{Query: query, Before: r.URL.Query().Get("before")})
	if err != nil {
		return err
	}
	page := usersPage{frame: a.frame(sectionUsers), Query: query, Users: users}
	if more {
		page.Next = a.next(r, more, users[len(users)-1].ID)
	}
	a.views.Respond(w, r, http.StatusOK, "users", page)
	return nil
}

// userPage is the data of user.html. What the back office has no source for is nil.
type userPage struct {
	frame

	User     auth.User         `json:"user"`
	Balance  *credits.Balance  `json:"balance,omitempty"`
	Lots     []credits.Lot     `json:"lots,omitempty"`
	Entries  []credits.Entry   `json:"entries,omitempty"`
	Next     string            `json:"next,omitempty"`
	Payments []billing.Payment `json:"payments,omitempty"`
	// Subscription is nil where there never was one.
	Subscription *billing.Subscription `json:"subscription,omitempty"`
	Refunds      []billing.Refund      `json:"refunds,omitempty"`
	CanAdjust    bool                  `json:"-"`
	Form         adjustForm            `json:"-"`
	// Roles are what the person can be given by who looks, and Impersonate takes the reason to act as them. Empty: not by them.
	Roles []auth.Role `json:"-"`
	// Duties are the boxes for what a member of staff does here. Nil: not for who looks.
	Duties      []dutyChoice `json:"-"`
	Impersonate string       `json:"-"`
}

func (a *Admin) showUser(w http.ResponseWriter, r *http.Request) error {
	page, err := a.userPage(r)
	if err != nil {
		return err
	}
	a.views.Respond(w, r, http.StatusOK, "user", page)
	return nil
}

func (a *Admin) userPage(r *http.Request) (page userPage, err error) {
	ctx := r.Context()
	user, err := a.cfg.Users.FindUser(ctx, r.PathValue("id"))
	if err != nil {
		return page, err
	}
	page = userPage{frame: a.frame(sectionUsers), User: user, CanAdjust: a.cfg.Adjuster != nil && a.cfg.Ledger != nil}
	who := whoAsks(r)
	page.CanAdjust = page.CanAdjust && who.can(auth.PermitAdjustCredits)
	if a.cfg.Roles != nil && who.can(auth.PermitRoles) && who.ID != user.ID {
		page.Roles = []auth.Role{auth.RoleUser, auth.RoleStaff, auth.RoleAdmin}
		if user.Role == auth.RoleStaff {
			if page.Duties, err = a.dutyChoices(ctx, user.ID); err != nil {
				return page, err
			}
		}
	}
	if a.cfg.ImpersonatePath != "" && who.can(auth.PermitImpersonate) && !user.IsStaff() && user.Verified() && user.DisabledAt == nil {
		page.Impersonate = a.cfg.ImpersonatePath + "/" + user.ID
	}
	if a.cfg.Ledger != nil {
		if err := a.fillLedger(r, &page); err != nil {
			return page, err
		}
	}
	if page.Subscription, err = a.subscription(ctx, user.AccountID); err != nil {
		return page, err
	}
	if a.cfg.Refunds != nil {
		if page.Refunds, _, err = a.cfg.Refunds.Refunds(ctx, billing.RefundsParams{Account: user.AccountID, Limit: overviewRows}); err != nil {
			return page, err
		}
	}
	if a.cfg.Payments != nil {
		page.Payments, _, err = a.cfg.Payments.Payments(ctx, billing.PaymentsParams{Account: user.AccountID, Limit: overviewRows})
	}
	return page, err
}

func (a *Admin) fillLedger(r *http.Request, page *userPage) error {
	ctx, account := r.Context(), page.User.AccountID
	balance, err := a.cfg.Ledger.Balance(ctx, account)
	if err != nil {
		return err
	}
	page.Balance = &balance
	if page.Lots, err = a.cfg.Ledger.Lots(ctx, account); err != nil {
		return err
	}
	before, err := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64)
	if err != nil {
		before = 0 // no number: begin with the newest
	}
	entries, more, err := a.cfg.Ledger.History(ctx, credits.HistoryParams{Account: account, Before: before})
	if err != nil {
		return err
	}
	if page.Entries = entries; more {
		page.Next = a.next(r, more, strconv.FormatInt(entries[len(entries)-1].Seq, 10))
	}
	return nil
}
