package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// approvalsPage is the data of approvals.html.
type approvalsPage struct {
	frame

	Waiting   bool       `json:"-"`
	Approvals []Approval `json:"approvals"`
	Next      string     `json:"next,omitempty"`
}

func (a *Admin) listApprovals(w http.ResponseWriter, r *http.Request) error {
	waiting := r.URL.Query().Get("status") != "all"
	found, more, err := a.Approvals(r.Context(), ApprovalsParams{Waiting: waiting, Before: cursor(r)})
	if err != nil {
		return err
	}
	page := approvalsPage{frame: a.frame(sectionApprovals), Waiting: waiting, Approvals: found}
	if more {
		page.Next = a.next(r, more, found[len(found)-1].ID.String())
	}
	a.views.Respond(w, r, http.StatusOK, "approvals", page)
	return nil
}

// approvalPage is the data of approval.html.
type approvalPage struct {
	frame

	Approval Approval `json:"approval"`
	// Balance is the account's now; nil where the back office has no ledger.
	Balance *credits.Balance `json:"balance,omitempty"`
	// CanDecide tells that who asks may decide, and is not who asked for it.
	CanDecide bool `json:"can_decide"`
	// Own says that who looks asked for it.
	Own bool `json:"-"`
}

func (a *Admin) approvalPage(r *http.Request) (page approvalPage, err error) {
	id, err := pathID(r)
	if err != nil {
		return page, err
	}
	page = approvalPage{frame: a.frame(sectionApprovals)}
	if page.Approval, err = a.FindApproval(r.Context(), id); err != nil {
		return page, err
	}
	page.Own = page.Approval.AskedBy == whoAsks(r).ID
	page.CanDecide = page.Approval.Status == ApprovalWaiting && !page.Own && a.mayDo(r, ActionApprove)
	balance, err := a.cfg.Ledger.Balance(r.Context(), page.Approval.Account)
	page.Balance = &balance
	return page, err
}

func (a *Admin) showApproval(w http.ResponseWriter, r *http.Request) error {
	page, err := a.approvalPage(r)
	if err != nil {
		return err
	}
	a.views.Respond(w, r, http.StatusOK, "approval", page)
	return nil
}

// ask writes a request instead of a change of credits, with its line of the audit log.
func (a *Admin) ask(w http.ResponseWriter, r *http.Request, user auth.User, amount credits.Amount, form adjustForm) error {
	who := whoAsks(r)
	key, err := uuid.Parse(form.Key)
	if err != nil {
		return errAdjustKey
	}
	var asked Approval
	err = a.db.InTx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		found, made, err := a.askTx(ctx, tx, approvalRow{Key: key, User: user.ID, Account: user.AccountID, Amount: amount, Reason: form.Reason, AskedBy: who.ID, AskedEmail: who.Email})
		if asked = found; err != nil || !made {
			return err
		}
		line := a.line(r, ActionApprovalAsk, user.ID, "request="+asked.ID.String()+" amount="+amount.String())
		line.Reason = form.Reason
		return a.recordTx(ctx, tx, line)
	})
	if err != nil {
		return err
	}
	if web.WantsJSON(r) {
		web.JSON(w, http.StatusAccepted, asked)
		return nil
	}
	a.cfg.Site.Flash(w, web.FlashInfo, "Nothing is changed yet: a second person has to approve this.")
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/approvals/"+asked.ID.String())
	return nil
}

// postApprove lets the change happen and writes both lines, of the ledger and of the audit log, in one transaction.
func (a *Admin) postApprove(w http.ResponseWriter, r *http.Request) error {
	return a.decide(w, r, func(ctx context.Context, tx *sqlx.Tx, row approvalRow, note string) error {
		who := whoAsks(r)
		entry, err := a.cfg.Adjuster.AdjustTx(ctx, tx, credits.AdjustParams{Account: row.Account, Amount: row.Amount, By: "staff:" + row.AskedBy + " " + row.AskedEmail,
			Reason: row.Reason, Metadata: map[string]string{"approved_by": a.actor(r)}, IdempotencyKey: "admin:approval:" + row.ID.String()})
		if err != nil {
			return err
		}
		line := a.line(r, ActionApprove, row.User, "request="+row.ID.String()+" amount="+row.Amount.String()+" asked by "+row.AskedEmail)
		line.Reason, line.Before, line.After = row.Reason, (entry.Balance - entry.Amount).String(), entry.Balance.String()
		if err := a.recordTx(ctx, tx, line); err != nil {
			return err
		}
		return a.decideTx(ctx, tx, row.ID, ApprovalApproved, who, note, &entry.ID)
	}, "The credits are changed.")
}

func (a *Admin) postRefuse(w http.ResponseWriter, r *http.Request) error {
	return a.decide(w, r, func(ctx context.Context, tx *sqlx.Tx, row approvalRow, note string) error {
		if note == "" {
			return problem.Invalid(map[string]string{"note": "Say why, for who asked."})
		}
		line := a.line(r, ActionRefuse, row.User, "request="+row.ID.String()+" amount="+row.Amount.String()+" asked by "+row.AskedEmail)
		line.Reason = note
		if err := a.recordTx(ctx, tx, line); err != nil {
			return err
		}
		return a.decideTx(ctx, tx, row.ID, ApprovalRefused, whoAsks(r), note, nil)
	}, "It is refused. Nothing was changed.")
}

// decide locks the request and does what was decided, in one transaction.
func (a *Admin) decide(w http.ResponseWriter, r *http.Request, do func(ctx context.Context, tx *sqlx.Tx, row approvalRow, note string) error, said string) error {
	var form struct {
		Note string `json:"note"`
	}
	err := web.Decode(w, r, &form)
	if err == nil {
		var id uuid.UUID
		if id, err = pathID(r); err != nil {
			return err
		}
		err = a.db.InTx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			row, err := a.lockApproval(ctx, tx, id, whoAsks(r))
			if err != nil {
				return err
			}
			return do(ctx, tx, row, bounded(form.Note))
		})
	}
	if errors.Is(err, credits.ErrInsufficient) {
		err = problem.New(problem.CodeConflict, "The account has not so many credits to take. Refuse this, or wait.")
	}
	page, failed := a.approvalPage(r)
	switch {
	case err != nil && (failed != nil || web.WantsJSON(r)):
		return err
	case failed != nil:
		return failed
	case err != nil:
		a.views.Reject(w, r, "approval", page, err)
	case web.WantsJSON(r):
		web.JSON(w, http.StatusOK, page.Approval)
	default:
		a.cfg.Site.Flash(w, web.FlashSuccess, said)
		a.cfg.Site.Redirect(w, r, a.cfg.Path+"/approvals/"+page.Approval.ID.String())
	}
	return nil
}
