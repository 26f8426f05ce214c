package admin

import (
	"errors"
	"net/http"

	"github.com/quickscale/quickscale/webhook"
)

// eventsPage is the data of webhooks.html.
type eventsPage struct {
	frame

	Status   webhook.Status   `json:"status"`
	Statuses []webhook.Status `json:"-"`
	Events   []webhook.Record `json:"events"`
	Next     string           `json:"next,omitempty"`
}

var statuses = []webhook.Status{webhook.StatusReceived, webhook.StatusDone, webhook.StatusIgnored, webhook.StatusDead}

func (a *Admin) listEvents(w http.ResponseWriter, r *http.Request) error {
	params := webhook.ListParams{Status: webhook.Status(r.URL.Query().Get("status"))}
	if id := r.URL.Query().Get("before"); id != "" {
		last, err := a.cfg.Events.Find(r.Context(), id)
		switch {
		case errors.Is(err, webhook.ErrNotFound):
			return errNoEvent
		case err != nil:
			return err
		}
		params.After = &last
	}
	events, more, err := a.cfg.Events.List(r.Context(), params)
	if err != nil {
		return err
	}
	page := eventsPage{frame: a.frame(sectionEvents), Status: params.Status, Statuses: statuses, Events: events}
	if more {
		page.Next = a.next(r, more, events[len(events)-1].ID)
	}
	a.views.Respond(w, r, http.StatusOK, "webhooks", page)
	return nil
}

// eventPage is the data of webhook.html. Payloads hold personal data and are not shown.
type eventPage struct {
	frame

	Event webhook.Record `json:"event"`
}

func (a *Admin) showEvent(w http.ResponseWriter, r *http.Request) error {
	event, err := a.cfg.Events.Find(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	a.views.Respond(w, r, http.StatusOK, "webhook", eventPage{a.frame(sectionEvents), event})
	return nil
}
