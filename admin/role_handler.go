package admin

import (
	"context"
	"net/http"
	"slices"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/web"
)

// Roles gives people roles; *auth.Auth is one.
type Roles interface {
	SetRole(ctx context.Context, userID string, role auth.Role) error
}

// needed is the permission that an action asks for beside [auth.PermitBackOffice].
var needed = map[Action]auth.Permission{
	ActionEventRetry: auth.PermitEvents, ActionEventSkip: auth.PermitEvents, ActionEventReplay: auth.PermitEvents,
	ActionEventSpan: auth.PermitEvents, ActionEventReveal: auth.PermitReveal, ActionRoleChange: auth.PermitRoles,
	ActionJobRetry: auth.PermitEvents, ActionJobCancel: auth.PermitEvents, ActionReconcile: auth.PermitEvents,
	ActionRefundPreview: auth.PermitRefund, ActionRefund: auth.PermitRefund,
	ActionAdjustPreview: auth.PermitAdjustCredits, ActionAdjust: auth.PermitAdjustCredits,
	ActionProductArrange: auth.PermitProducts, ActionProductSync: auth.PermitProducts, ActionProductsSync: auth.PermitProducts,
}

// can tells that they have a permission.
func (s Staff) can(p auth.Permission) bool {
	return s.Permissions == nil || slices.Contains(s.Permissions, p)
}

// may tells that they may do an action.
func (s Staff) may(action Action) bool {
	p, ok := needed[action]
	return !ok || s.can(p)
}

// mayDo tells that who asks may do an action, so that a page offers it.
func (a *Admin) mayDo(r *http.Request, action Action) bool {
	who, ok := a.cfg.Staff(r)
	return ok && who.may(action)
}

// setRole gives a person another role. Nobody gives one to themselves, so that there always is an administrator.
func (a *Admin) setRole(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Role string `json:"role"`
	}
	if err := web.Decode(w, r, &in); err != nil {
		return err
	}
	who, _ := a.cfg.Staff(r)
	id := r.PathValue("id")
	if id == who.ID {
		return auth.ErrForbidden
	}
	if err := a.cfg.Roles.SetRole(r.Context(), id, auth.Role(in.Role)); err != nil {
		return err
	}
	a.cfg.Site.Flash(w, web.FlashSuccess, "The role is changed.")
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/users/"+id)
	return nil
}
