package admin

import (
	"context"
	"net/http"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// Roles gives people roles, in a transaction of Config.DB; *auth.Auth is one.
type Roles interface {
	SetRoleTx(ctx context.Context, tx *sqlx.Tx, userID string, role auth.Role) error
}

// needed is the permission that an action asks for beside [auth.PermitBackOffice].
var needed = map[Action]auth.Permission{
	ActionEventRetry: auth.PermitEvents, ActionEventSkip: auth.PermitEvents, ActionEventReplay: auth.PermitEvents,
	ActionEventSpan: auth.PermitEvents, ActionEventReveal: auth.PermitReveal, ActionRoleChange: auth.PermitRoles, ActionDutiesChange: auth.PermitRoles,
	ActionJobRetry: auth.PermitEvents, ActionJobCancel: auth.PermitEvents, ActionReconcile: auth.PermitEvents,
	ActionRefundPreview: auth.PermitRefund, ActionRefund: auth.PermitRefund,
	ActionAdjustPreview: auth.PermitAdjustCredits, ActionAdjust: auth.PermitAdjustCredits,
	ActionProductArrange: auth.PermitProducts, ActionProductSync: auth.PermitProducts, ActionProductsSync: auth.PermitProducts,
	ActionAuditExport: auth.PermitExport, ActionPaymentsExport: auth.PermitExport, ActionApprove: auth.PermitApprove, ActionRefuse: auth.PermitApprove,
	ActionServiceSwitch: auth.PermitServices, ActionServicePrice: auth.PermitServices, ActionServicePriceCancel: auth.PermitServices,
}

// guarded are the actions that move money or credits, or give power: who does them has proved lately who they are. The
// previews are among them, so that nobody is asked between a preview and what it shows.
var guarded = map[Action]bool{
	ActionRefundPreview: true, ActionRefund: true, ActionAdjustPreview: true, ActionAdjust: true, ActionRoleChange: true, ActionDutiesChange: true,
	ActionApprove: true, ActionServicePrice: true,
}

var errSecondFactor = problem.New(problem.CodeForbidden, "This needs a second step at your log-in. Set one up under Account, Security, and come back.")

// can tells that they have a permission.
func (s Staff) can(p auth.Permission) bool {
	return s.Permissions == nil || slices.Contains(s.Permissions, p)
}

// may tells that they may do an action.
func (s Staff) may(action Action) bool {
	p, ok := needed[action]
	return !ok || s.can(p)
}

type staffKey struct{}

// whoAsks is the member of staff whom the gate let through.
func whoAsks(r *http.Request) Staff {
	who, _ := r.Context().Value(staffKey{}).(Staff)
	return who
}

// staff tells which member of staff a request is from, with the permissions of their duties.
func (a *Admin) staff(r *http.Request) (who Staff, ok bool, err error) {
	if who, ok = a.cfg.Staff(r); !ok || who.Permissions == nil || who.Role == auth.RoleAdmin {
		return who, ok, nil
	}
	duties, err := a.Duties(r.Context(), who.ID)
	if err != nil {
		return who, false, err
	}
	if len(duties) > 0 {
		who.Permissions = permissionsOf(duties, who.Permissions)
	}
	return who, true, nil
}

// Can tells that a request is from a member of staff who has a permission, for what the host has outside the back
// office and is for staff, such as acting as somebody else.
func (a *Admin) Can(r *http.Request, p auth.Permission) (bool, error) {
	who, ok, err := a.staff(r)
	return ok && err == nil && who.can(p), err
}

// mayDo tells that who asks may do an action, so that a page offers it.
func (a *Admin) mayDo(r *http.Request, action Action) bool { return whoAsks(r).may(action) }

// setRole gives a person another role. Nobody gives one to themselves, so that there always is an administrator.
func (a *Admin) setRole(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Role string `json:"role"`
	}
	if err := web.Decode(w, r, &in); err != nil {
		return err
	}
	id := r.PathValue("id")
	if id == whoAsks(r).ID {
		// Kept too: it is an attempt at more power.
		if err := a.record(r.Context(), a.line(r, ActionRoleChange, id, "refused: their own role")); err != nil {
			return err
		}
		return auth.ErrForbidden
	}
	before, err := a.cfg.Users.FindUser(r.Context(), id)
	if err != nil {
		return err
	}
	line := a.line(r, ActionRoleChange, id, "")
	line.Before, line.After = string(before.Role), in.Role
	err = a.db.InTx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if err := a.cfg.Roles.SetRoleTx(ctx, tx, id, auth.Role(in.Role)); err != nil {
			return err
		}
		return a.recordTx(ctx, tx, line)
	})
	if err != nil {
		return err
	}
	a.cfg.Site.Flash(w, web.FlashSuccess, "The role is changed.")
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/users/"+id)
	return nil
}
