package admin

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
	"github.com/quickscale/quickscale/webhook"
)

// spanForm chooses a span of Stripe's list of events.
type spanForm struct {
	// From and To are moments in UTC, as a browser writes them or with a zone (RFC 3339). An empty To is now.
	From string `json:"from"`
	To   string `json:"to"`
	// Types are separated by commas or white space; empty: all.
	Types       string `json:"types"`
	Undelivered bool   `json:"undelivered"`
	Again       bool   `json:"again"`
	Reason      string `json:"reason"`
	DryRun      bool   `json:"dry_run"`
}

// moments are the forms in which a time may be written.
var moments = []string{"2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339}

func parseMoment(text string) (at time.Time, ok bool) {
	for _, layout := range moments {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true
		}
	}
	return at, text == ""
}

// String is what was chosen, as the audit log keeps it.
func (f spanForm) String() string {
	return fmt.Sprintf("from=%s to=%s types=%s undelivered=%t again=%t dry_run=%t", f.From, f.To, f.Types, f.Undelivered, f.Again, f.DryRun)
}

func (f spanForm) params(by string) (p webhook.SpanParams, err error) {
	p = webhook.SpanParams{Undelivered: f.Undelivered, Again: f.Again, By: by, Reason: f.Reason, DryRun: f.DryRun}
	p.Types = strings.FieldsFunc(f.Types, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' })
	wrong := map[string]string{}
	var ok bool
	if p.From, ok = parseMoment(f.From); !ok {
		wrong["from"] = "Give a day and a time."
	}
	if p.To, ok = parseMoment(f.To); !ok {
		wrong["to"] = "Give a day and a time, or nothing for now."
	}
	if len(wrong) > 0 {
		return p, problem.Invalid(wrong)
	}
	return p, nil
}

// spanPage is the data of webhook_span.html. Span is nil until something was asked for.
type spanPage struct {
	frame

	Form spanForm      `json:"-"`
	Span *webhook.Span `json:"span,omitempty"`
}

func (a *Admin) showSpan(w http.ResponseWriter, r *http.Request) error {
	now := a.now()
	form := spanForm{From: now.Add(-24 * time.Hour).Format(moments[0]), DryRun: true}
	a.views.Respond(w, r, http.StatusOK, "webhook_span", spanPage{frame: a.frame(sectionEvents), Form: form})
	return nil
}

func (a *Admin) replaySpan(w http.ResponseWriter, r *http.Request) error {
	page := spanPage{frame: a.frame(sectionEvents)}
	err := web.Decode(w, r, &page.Form)
	if err == nil {
		var params webhook.SpanParams
		if params, err = page.Form.params(a.actor(r)); err == nil {
			if err := a.recordWhy(r, ActionEventSpan, page.Form.String(), page.Form.Reason); err != nil {
				return err
			}
			var span webhook.Span
			if span, err = a.cfg.ReplaySpan(r.Context(), params); err == nil {
				page.Span = &span
				a.views.Respond(w, r, http.StatusOK, "webhook_span", page)
				return nil
			}
		}
	}
	a.views.Reject(w, r, "webhook_span", page, err)
	return nil
}
