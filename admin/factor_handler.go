package admin

import (
	"context"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// Factors looks at and takes off what people log in with beside the password, in a transaction of Config.DB; *auth.Auth
// is one.
type Factors interface {
	Factors(ctx context.Context, userID string) (auth.Factors, error)
	ResetFactorsTx(ctx context.Context, tx *sqlx.Tx, userID string, c auth.Client) error
}

// maxFactorsReason bounds why a second step was taken off, in characters.
const maxFactorsReason = 300

var errFactorsReason = problem.Invalid(map[string]string{"reason": "Say in at most 300 characters how you made sure that it is the owner who asks."})

func hasFactors(f auth.Factors) bool { return f.Second() || f.BackupCodes > 0 }

// mayReset tells that a member of staff may take the second step off a person's account: not off their own, for which
// they have their own pages, and off that of staff only if they may also give roles, as it would give them theirs.
func mayReset(who Staff, u auth.User) bool {
	return who.may(ActionFactorsReset) && who.ID != u.ID && (!u.IsStaff() || who.can(auth.PermitRoles))
}

// postResetFactors takes a lost second step off, together with the line of the audit log that says why.
func (a *Admin) postResetFactors(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Reason string `json:"reason"`
	}
	if err := web.Decode(w, r, &in); err != nil {
		return err
	}
	user, err := a.cfg.Users.FindUser(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	in.Reason = strings.TrimSpace(in.Reason)
	line := a.line(r, ActionFactorsReset, user.ID, "")
	line.Reason = in.Reason
	if !mayReset(whoAsks(r), user) {
		// Kept too: it is an attempt at an account with more power.
		line.Detail = "refused"
		if err := a.record(r.Context(), line); err != nil {
			return err
		}
		return auth.ErrForbidden
	}
	if in.Reason == "" || utf8.RuneCountInString(in.Reason) > maxFactorsReason {
		page, err := a.userPage(r)
		if err != nil {
			return err
		}
		a.views.Reject(w, r, "user", page, errFactorsReason)
		return nil
	}
	err = a.db.InTx(r.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		// Where staff sit is for the audit log alone: the person sees the event.
		if err := a.cfg.Factors.ResetFactorsTx(ctx, tx, user.ID, auth.Client{}); err != nil {
			return err
		}
		return a.recordTx(ctx, tx, line)
	})
	if err != nil {
		return err
	}
	a.cfg.Site.Flash(w, web.FlashSuccess, "The second step is off, and the person is told by mail.")
	a.cfg.Site.Redirect(w, r, a.cfg.Path+"/users/"+user.ID)
	return nil
}
