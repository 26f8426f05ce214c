package auth

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/quickscale/quickscale/internal/problem"
)

// Permission is something that staff may do. Hosts have permissions of their own beside these, and give them to roles by
// Config.Permissions.
type Permission string

// The permissions of the library.
const (
	// PermitBackOffice: see the back office, which shows people, their ledgers, payments and events.
	PermitBackOffice Permission = "backoffice.view"
	// PermitAdjustCredits: give and take credits.
	PermitAdjustCredits Permission = "credits.adjust"
	// PermitRefund: pay money back.
	PermitRefund Permission = "payments.refund"
	// PermitEvents: retry, skip and replay Stripe's events.
	PermitEvents Permission = "webhooks.act"
	// PermitServices: turn services on and off.
	PermitServices Permission = "services.toggle"
	// PermitProducts: order, show and sync products.
	PermitProducts Permission = "products.manage"
	// PermitImpersonate: see the pages as a person who is not staff sees them.
	PermitImpersonate Permission = "users.impersonate"
	// PermitDisable: close accounts and open them again.
	PermitDisable Permission = "users.disable"
	// PermitRoles: give and take roles.
	PermitRoles Permission = "users.roles"
	// PermitFactors: take the second step off the account of who has lost it. Off that of staff only together with
	// PermitRoles.
	PermitFactors Permission = "users.second_step"
	// PermitReveal: see personal data in the payload of an event.
	PermitReveal Permission = "webhooks.reveal"
	// PermitApprove: let a large change of credits, which somebody else asked for, happen.
	PermitApprove Permission = "credits.approve"
	// PermitExport: take lists away as files.
	PermitExport Permission = "backoffice.export"
)

// The permissions of each role. What is hard to take back is the administrators'.
var (
	staffPermissions = []Permission{PermitBackOffice, PermitAdjustCredits, PermitEvents, PermitServices, PermitImpersonate, PermitExport}
	adminPermissions = append(slices.Clone(staffPermissions), PermitRefund, PermitProducts, PermitDisable, PermitRoles, PermitReveal, PermitApprove, PermitFactors)
)

// LibraryPermissions are all of the library's own, which an administrator has.
func LibraryPermissions() []Permission { return slices.Clone(adminPermissions) }

// ErrPermission says that there is nothing here for whom it is not permitted, as for everybody else.
var ErrPermission error = problem.New(problem.CodeNotFound, "There is nothing at this address. Check it, or start again from the home page.")

// Permissions are what a role may do: the library's, then the host's. A user has the host's only.
func (a *Auth) Permissions(role Role) []Permission {
	var own []Permission
	switch role {
	case RoleStaff:
		own = staffPermissions
	case RoleAdmin:
		own = adminPermissions
	case RoleUser:
	}
	all := slices.Clone(own)
	for _, p := range a.cfg.Permissions[role] {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// Can tells that a user has a permission. Nobody has one while their account is closed.
func (a *Auth) Can(u User, p Permission) bool {
	return u.DisabledAt == nil && slices.Contains(a.Permissions(u.Role), p)
}

// RequirePermission lets only those through who have the permission. To everybody else, signed in or not, there is
// nothing at the address. Staff who act as somebody else have that person's permissions.
func (a *Auth) RequirePermission(p Permission) func(next http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return a.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if u, ok := UserFrom(r.Context()); !ok || !a.Can(u, p) {
				a.cfg.Site.Fail(w, r, ErrPermission)
				return
			}
			next.ServeHTTP(w, r)
		}))
	}
}

// checkPermissions returns what is wrong with Config.Permissions.
func (a *Auth) checkPermissions() (faults []error) {
	for role, permissions := range a.cfg.Permissions {
		if !role.valid() {
			faults = append(faults, fmt.Errorf("auth: Config.Permissions has the role %q; use user, staff or admin", role))
		}
		for _, p := range permissions {
			if !isScope(string(p)) {
				faults = append(faults, fmt.Errorf("auth: Config.Permissions has the permission %q; use lower-case letters, digits and the signs : . _ -", p))
			}
		}
	}
	return faults
}
