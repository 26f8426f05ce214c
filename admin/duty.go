package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// Duty is what a member of staff does in the back office: a set of permissions.
type Duty string

// The duties.
const (
	// DutyView looks at everything and changes nothing.
	DutyView Duty = "view"
	// DutySupport helps people: credits, accounts, acting as a person.
	DutySupport Duty = "support"
	// DutyFinance moves money: refunds, credits and their approval, products, exports.
	DutyFinance Duty = "finance"
	// DutyDeveloper keeps it running: events, jobs, services.
	DutyDeveloper Duty = "developer"
	// DutyAdmin may do everything, also give roles and duties.
	DutyAdmin Duty = "admin"
)

// duties are all, in the order in which pages show them.
var duties = []Duty{DutyView, DutySupport, DutyFinance, DutyDeveloper, DutyAdmin}

var dutyPermissions = map[Duty][]auth.Permission{
	DutyView:      {auth.PermitBackOffice},
	DutySupport:   {auth.PermitBackOffice, auth.PermitAdjustCredits, auth.PermitImpersonate, auth.PermitDisable, auth.PermitFactors},
	DutyFinance:   {auth.PermitBackOffice, auth.PermitAdjustCredits, auth.PermitApprove, auth.PermitRefund, auth.PermitProducts, auth.PermitExport},
	DutyDeveloper: {auth.PermitBackOffice, auth.PermitEvents, auth.PermitServices, auth.PermitReveal},
	DutyAdmin:     auth.LibraryPermissions(),
}

// Permissions are what the duty allows. An unknown one allows nothing.
func (d Duty) Permissions() []auth.Permission { return slices.Clone(dutyPermissions[d]) }

// permissionsOf are those of the duties, and the host's own among held.
func permissionsOf(duties []Duty, held []auth.Permission) []auth.Permission {
	all := []auth.Permission{}
	for _, d := range duties {
		for _, p := range dutyPermissions[d] {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	library := auth.LibraryPermissions()
	for _, p := range held {
		if !slices.Contains(library, p) {
			all = append(all, p)
		}
	}
	return all
}

// Duties are those that a member of staff was given. None: their role says what they may do.
func (a *Admin) Duties(ctx context.Context, staffID string) ([]Duty, error) {
	var text string
	// By the writer: what was taken from somebody is taken at once.
	err := a.db.Writer().GetContext(ctx, &text, a.db.Rebind(`SELECT duties FROM qs_admin_duties WHERE staff_id = ?`), staffID)
	return parseDuties(text, err)
}

func (a *Admin) dutiesTx(ctx context.Context, tx *sqlx.Tx, staffID string) ([]Duty, error) {
	var text string
	err := a.db.GetTx(ctx, tx, &text, `SELECT duties FROM qs_admin_duties WHERE staff_id = ?`+a.db.Dialect().ForUpdate(), staffID)
	return parseDuties(text, err)
}

func parseDuties(text string, err error) (found []Duty, _ error) {
	if database.IsNoRows(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("admin: read duties: %w", err)
	}
	for name := range strings.SplitSeq(strings.Trim(text, ","), ",") {
		found = append(found, Duty(name))
	}
	return found, nil
}

var errDuty = problem.Invalid(map[string]string{"duty": "Choose among view, support, finance, developer and admin."})

// SetDutiesTx gives a member of staff duties instead of those they had, inside tx. None: their role says again what they
// may do. It holds from their next request. A problem of code "invalid" names the field "duty" when one is unknown.
func (a *Admin) SetDutiesTx(ctx context.Context, tx *sqlx.Tx, staffID string, given []Duty) (before []Duty, err error) {
	var names []string
	for _, d := range duties {
		if slices.Contains(given, d) {
			names = append(names, string(d))
		}
	}
	for _, d := range given {
		if !slices.Contains(duties, d) {
			return nil, errDuty
		}
	}
	if before, err = a.dutiesTx(ctx, tx, staffID); err != nil {
		return nil, err
	}
	if len(names) == 0 {
		_, err = a.db.ExecTx(ctx, tx, `DELETE FROM qs_admin_duties WHERE staff_id = ?`, staffID)
	} else {
		_, err = a.db.ExecTx(ctx, tx, `INSERT INTO qs_admin_duties (staff_id, duties, updated_at) VALUES (?, ?, ?)
			ON CONFLICT (staff_id) DO UPDATE SET duties = excluded.duties, updated_at = excluded.updated_at`,
			staffID, ","+strings.Join(names, ",")+",", database.At(a.now()))
	}
	if err != nil {
		return nil, fmt.Errorf("admin: set duties of %s: %w", staffID, err)
	}
	return before, nil
}

// dutyNames are the names in the order of duties.
func dutyNames(given []Duty) string {
	var names []string
	for _, d := range duties {
		if slices.Contains(given, d) {
			names = append(names, string(d))
		}
	}
	return strings.Join(names, ", ")
}

// dutyChoice is one box of the form.
type dutyChoice struct {
	Duty  Duty
	Given bool
}

// dutyChoices are the boxes for a person.
func (a *Admin) dutyChoices(ctx context.Context, id string) ([]dutyChoice, error) {
	given, err := a.Duties(ctx, id)
	if err != nil {
		return nil, err
	}
	choices := make([]dutyChoice, len(duties))
	for i, d := range duties {
		choices[i] = dutyChoice{d, slices.Contains(given, d)}
	}
	return choices, nil
}

// postDuties gives a member of staff duties. Nobody gives them to themselves.
func (a *Admin) postDuties(w http.ResponseWriter, r *http.Request) error {
	var form struct {
		Duties []string `json:"duty"`
	}
	if err := web.Decode(w, r, &form); err != nil {
		return err
	}
	user, err := a.cfg.Users.FindUser(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if user.ID == whoAsks(r).ID || user.Role != auth.RoleStaff {
		return auth.ErrForbidden
	}
	given := make([]Duty, len(form.Duties))
	for i, name := range form.Duties {
		given[i] = Duty(name)
	}
	line := a.line(r, ActionDutiesChange, user.ID, "")
	err = a.db.InTx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		before, err := a.SetDutiesTx(ctx, tx, user.ID, given)
		if err != nil {
			return err
		}
		line.Before, line.After = dutyNames(before), dutyNames(given)
		return a.recordTx(ctx, tx, line)
	})
	if err != nil {
		return err
	}
	a.cfg.Site.Flash(w, web.FlashSuccess, "The duties are changed.")
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/users/"+user.ID)
	return nil
}
