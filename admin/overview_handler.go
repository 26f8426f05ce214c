package admin

import (
	"net/http"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/webhook"
)

// overviewRows is how many of each list the overview shows.
const overviewRows = 5

// overviewPage is the data of overview.html.
type overviewPage struct {
	frame

	Users    []auth.User       `json:"users"`
	Payments []billing.Payment `json:"payments"`
	// Dead are events that were given up and need a person; Waiting are those on their way.
	Dead    []webhook.Record `json:"dead_events"`
	Waiting []webhook.Record `json:"waiting_events"`
}

func (a *Admin) showOverview(w http.ResponseWriter, r *http.Request) (err error) {
	page := overviewPage{frame: a.frame(sectionOverview)}
	ctx := r.Context()
	if a.cfg.Users != nil {
		if page.Users, _, err = a.cfg.Users.Users(ctx, auth.UsersParams{Limit: overviewRows}); err != nil {
			return err
		}
	}
	if a.cfg.Payments != nil {
		if page.Payments, _, err = a.cfg.Payments.Payments(ctx, billing.PaymentsParams{Limit: overviewRows}); err != nil {
			return err
		}
	}
	if a.cfg.Events != nil {
		if page.Dead, _, err = a.cfg.Events.List(ctx, webhook.ListParams{Status: webhook.StatusDead, Limit: overviewRows}); err != nil {
			return err
		}
		if page.Waiting, _, err = a.cfg.Events.List(ctx, webhook.ListParams{Status: webhook.StatusReceived, Limit: overviewRows}); err != nil {
			return err
		}
	}
	a.views.Respond(w, r, http.StatusOK, "overview", page)
	return nil
}
