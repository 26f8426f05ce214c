package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// adjustForm is how many credits are added or taken, and why.
type adjustForm struct {
	// Amount is decimal; below zero it is taken.
	Amount string `json:"amount"`
	Reason string `json:"reason"`
	// Key is the preview's, so that a form that is sent twice changes the balance once.
	Key string `json:"key"`
}

// adjustPage is the data of adjust.html.
type adjustPage struct {
	frame

	User   auth.User      `json:"user"`
	Amount credits.Amount `json:"amount"`
	Reason string         `json:"reason"`
	Before credits.Amount `json:"before"`
	After  credits.Amount `json:"after"`
	Key    string         `json:"key"`
	// Asks says that a second person has to approve it.
	Asks bool `json:"needs_approval"`
}

var (
	errAdjustAmount = problem.Invalid(map[string]string{"amount": "This must be a number of credits that is not zero, such as 10 or -2.5."})
	errAdjustReason = problem.Invalid(map[string]string{"reason": "Say why; the person sees it in their history."})
	errAdjustKey    = problem.Invalid(map[string]string{"key": "Look at the preview first; it makes the key."})
	errAdjustTaken  = problem.Invalid(map[string]string{"amount": "The account has not so many credits to take."})
)

func readAdjust(w http.ResponseWriter, r *http.Request) (form adjustForm, amount credits.Amount, err error) {
	if err := web.Decode(w, r, &form); err != nil {
		return form, 0, err
	}
	amount, err = credits.ParseAmount(form.Amount)
	if err != nil || amount == 0 {
		return form, 0, errAdjustAmount
	}
	if form.Reason == "" {
		return form, 0, errAdjustReason
	}
	return form, amount, nil
}

// rejectAdjust shows the person's page again with what is wrong.
func (a *Admin) rejectAdjust(w http.ResponseWriter, r *http.Request, form adjustForm, err error) error {
	page, failed := a.userPage(r)
	if failed != nil {
		return failed
	}
	page.Form = form
	a.views.Reject(w, r, "user", page, err)
	return nil
}

// previewAdjust tells the balance after an adjustment, without making it.
func (a *Admin) previewAdjust(w http.ResponseWriter, r *http.Request) error {
	form, amount, err := readAdjust(w, r)
	if err != nil {
		return a.rejectAdjust(w, r, form, err)
	}
	user, err := a.cfg.Users.FindUser(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := a.recordWhy(r, ActionAdjustPreview, "amount="+amount.String(), form.Reason); err != nil {
		return err
	}
	balance, err := a.cfg.Ledger.Balance(r.Context(), user.AccountID)
	if err != nil {
		return err
	}
	if balance.Available+amount < 0 {
		return a.rejectAdjust(w, r, form, errAdjustTaken)
	}
	key, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("admin: make an id: %w", err)
	}
	after := balance.Available + amount
	if amount > 0 { // debt is paid first
		after = balance.Available + max(0, amount-balance.Debt)
	}
	a.views.Respond(w, r, http.StatusOK, "adjust", adjustPage{a.frame(sectionUsers), user, amount, form.Reason, balance.Available, after, key.String(), a.needsApproval(amount)})
	return nil
}

// postAdjust changes the balance and writes the line of the audit log, in one transaction.
func (a *Admin) postAdjust(w http.ResponseWriter, r *http.Request) error {
	form, amount, err := readAdjust(w, r)
	if err == nil {
		if _, bad := uuid.Parse(form.Key); bad != nil {
			err = errAdjustKey
		}
	}
	if err != nil {
		return a.rejectAdjust(w, r, form, err)
	}
	user, err := a.cfg.Users.FindUser(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if a.needsApproval(amount) {
		return a.ask(w, r, user, amount, form)
	}
	var entry credits.Entry
	err = a.db.InTx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) (err error) {
		entry, err = a.cfg.Adjuster.AdjustTx(ctx, tx, credits.AdjustParams{Account: user.AccountID, Amount: amount, By: a.actor(r), Reason: form.Reason,
			IdempotencyKey: "admin:" + form.Key})
		if err != nil {
			return err
		}
		line := a.line(r, ActionAdjust, user.ID, "amount="+amount.String())
		line.Reason, line.Before, line.After = form.Reason, (entry.Balance - entry.Amount).String(), entry.Balance.String()
		return a.recordTx(ctx, tx, line)
	})
	switch {
	case errors.Is(err, credits.ErrInsufficient):
		return a.rejectAdjust(w, r, form, errAdjustTaken)
	case err != nil:
		return err
	case web.WantsJSON(r):
		web.JSON(w, http.StatusCreated, entry)
		return nil
	}
	a.cfg.Site.Flash(w, web.FlashSuccess, "The balance is "+entry.Balance.String()+" now.")
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/users/"+user.ID)
	return nil
}
