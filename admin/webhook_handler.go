package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/quickscale/quickscale/internal/web"
	"github.com/quickscale/quickscale/webhook"
)

// eventsPage is the data of webhooks.html.
type eventsPage struct {
	frame

	Status   webhook.Status   `json:"status"`
	Type     string           `json:"type,omitempty"`
	Statuses []webhook.Status `json:"-"`
	Events   []webhook.Record `json:"events"`
	// Spans says that events can be taken from Stripe's list.
	Spans bool   `json:"-"`
	Next  string `json:"next,omitempty"`
}

var statuses = []webhook.Status{webhook.StatusReceived, webhook.StatusDone, webhook.StatusIgnored, webhook.StatusSkipped, webhook.StatusDead}

func (a *Admin) listEvents(w http.ResponseWriter, r *http.Request) error {
	params := webhook.ListParams{Status: webhook.Status(r.URL.Query().Get("status")), Type: r.URL.Query().Get("type")}
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
	page := eventsPage{frame: a.frame(sectionEvents), Status: params.Status, Type: params.Type, Statuses: statuses, Events: events, Spans: a.cfg.ReplaySpan != nil}
	if more {
		page.Next = a.next(r, more, events[len(events)-1].ID)
	}
	a.views.Respond(w, r, http.StatusOK, "webhooks", page)
	return nil
}

// eventPage is the data of webhook.html.
type eventPage struct {
	frame

	Event   webhook.Record   `json:"event"`
	Actions []webhook.Action `json:"actions"`
	// Payload has the personal data masked unless Revealed; empty when it was pruned.
	Payload  string `json:"payload,omitempty"`
	Revealed bool   `json:"revealed"`
}

func (a *Admin) showEvent(w http.ResponseWriter, r *http.Request) error {
	return a.respondEvent(w, r, webhook.PayloadParams{ID: r.PathValue("id")})
}

// why is the form of everything that is done with events.
type why struct {
	Reason string `json:"reason"`
	// The rest chooses events where the address names none.
	Status  string `json:"status"`
	Type    string `json:"type"`
	Failure string `json:"failure"`
	DryRun  bool   `json:"dry_run"`
}

// String is what was chosen, as the audit log keeps it.
func (f why) String() string {
	return fmt.Sprintf("status=%s type=%s failure=%s dry_run=%t", f.Status, f.Type, f.Failure, f.DryRun)
}

// recordWhy writes one line about an act on what the address names, before it is done.
func (a *Admin) recordWhy(r *http.Request, action Action, detail, reason string) error {
	line := a.line(r, action, r.PathValue("id"), detail)
	line.Reason = reason
	return a.record(r.Context(), line)
}

func (a *Admin) revealEvent(w http.ResponseWriter, r *http.Request) error {
	var form why
	if err := web.Decode(w, r, &form); err != nil {
		return err
	}
	if err := a.recordWhy(r, ActionEventReveal, "", form.Reason); err != nil {
		return err
	}
	return a.respondEvent(w, r, webhook.PayloadParams{ID: r.PathValue("id"), Reveal: true, By: a.actor(r), Reason: form.Reason})
}

// actor names who asks to other packages. The gate has let them through.
func (a *Admin) actor(r *http.Request) string {
	who := whoAsks(r)
	return "staff:" + who.ID + " " + who.Email
}

func (a *Admin) respondEvent(w http.ResponseWriter, r *http.Request, p webhook.PayloadParams) error {
	event, err := a.cfg.Events.Find(r.Context(), p.ID)
	if err != nil {
		return err
	}
	page := eventPage{frame: a.frame(sectionEvents), Event: event, Revealed: p.Reveal}
	payload, err := a.cfg.Events.Payload(r.Context(), p)
	if err != nil && !errors.Is(err, webhook.ErrPruned) {
		return err
	}
	page.Payload = string(payload)
	if page.Actions, _, err = a.cfg.Events.Actions(r.Context(), webhook.ActionsParams{Event: p.ID}); err != nil {
		return err
	}
	a.views.Respond(w, r, http.StatusOK, "webhook", page)
	return nil
}

// actedPage is the data of acted.html.
type actedPage struct {
	frame
	webhook.Acted

	Verb webhook.Verb `json:"action"`
}

// actOnEvents does it to the event that the address names, or to those that the form chooses.
func (a *Admin) actOnEvents(verb webhook.Verb, action Action) page {
	act := map[webhook.Verb]func(context.Context, webhook.ActParams) (webhook.Acted, error){
		webhook.VerbRetry: a.cfg.Events.Retry, webhook.VerbSkip: a.cfg.Events.Skip, webhook.VerbReplay: a.cfg.Events.Replay,
	}[verb]
	return func(w http.ResponseWriter, r *http.Request) error {
		var form why
		if err := web.Decode(w, r, &form); err != nil {
			return err
		}
		if err := a.recordWhy(r, action, form.String(), form.Reason); err != nil {
			return err
		}
		params := webhook.ActParams{Status: webhook.Status(form.Status), Type: form.Type, Failure: webhook.Class(form.Failure), DryRun: form.DryRun,
			By: a.actor(r), Reason: form.Reason}
		if verb != webhook.VerbReplay && params.Status == "" {
			params.Status = webhook.StatusDead
		}
		back := a.cfg.Path + "/webhooks"
		if id := r.PathValue("id"); id != "" {
			params, back = webhook.ActParams{IDs: []string{id}, DryRun: form.DryRun, By: a.actor(r), Reason: form.Reason}, back+"/"+url.PathEscape(id)
			if _, err := a.cfg.Events.Find(r.Context(), id); err != nil {
				return err
			}
		}
		acted, err := act(r.Context(), params)
		if err != nil {
			return err
		}
		if form.DryRun || web.WantsJSON(r) {
			a.views.Respond(w, r, http.StatusOK, "acted", actedPage{a.frame(sectionEvents), acted, verb})
			return nil
		}
		kind, text := web.FlashSuccess, fmt.Sprintf("%s: %d events.", verb, len(acted.Events))
		switch {
		case len(acted.Events) == 0:
			kind, text = web.FlashWarning, "No event was in a status that allows it. Nothing was done."
		case acted.More:
			text += " There are more; do it again for those."
		}
		a.cfg.Site.Flash(w, kind, text)
		a.cfg.Site.Redirect(w, r, back)
		return nil
	}
}

// statsPage is the data of webhook_stats.html.
type statsPage struct {
	frame

	Stats webhook.Stats `json:"stats"`
	Spans []span        `json:"-"`
	Chart web.Chart     `json:"-"`
}

// span is a choice of how far back the figures go.
type span struct {
	Label   string
	Hours   int
	Current bool
}

func (a *Admin) showEventStats(w http.ResponseWriter, r *http.Request) error {
	page := statsPage{frame: a.frame(sectionEvents), Spans: []span{{"1 day", 24, false}, {"7 days", 7 * 24, false}, {"30 days", 30 * 24, false}}}
	chosen := &page.Spans[0]
	for i := range page.Spans {
		if r.URL.Query().Get("hours") == strconv.Itoa(page.Spans[i].Hours) {
			chosen = &page.Spans[i]
		}
	}
	chosen.Current = true
	now := a.now()
	var err error
	page.Stats, err = a.cfg.Events.Stats(r.Context(), webhook.StatsParams{From: now.Add(-time.Duration(chosen.Hours) * time.Hour), To: now.Add(time.Second)})
	if err != nil {
		return err
	}
	page.Chart = newChart(page.Stats.Hours)
	a.views.Respond(w, r, http.StatusOK, "webhook_stats", page)
	return nil
}

// newChart shows the events received by hour. Its table says how many of them ended, too.
func newChart(hours []webhook.Hour) web.Chart {
	points := make([]web.Point, len(hours))
	var rows [][]any
	for i, h := range hours {
		points[i] = web.Point{Label: h.Hour.UTC().Format("2 Jan 2006, 15:04 UTC"), Value: h.Received}
		if h.Received+h.Ended > 0 {
			rows = append(rows, []any{points[i].Label, h.Received, h.Ended})
		}
	}
	c := web.NewChart("Events received by hour", "Hour", "Received", points)
	c.Table.Columns = append(c.Table.Columns, web.Column{Label: "Ended", Number: true})
	c.Table.Rows = rows
	return c
}
