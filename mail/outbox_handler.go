package mail

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/web"
)

// Handler serves the outbox below OutboxConfig.Path, which the host mounts without stripping it, in development only.
// The list takes ?to=, ?before= and, like a message's page, answers JSON when it is asked for. Below it at /preview are the
// messages of OutboxConfig.Previews in each of their languages.
func (o *Outbox) Handler() http.Handler {
	mux := http.NewServeMux()
	at := o.cfg.Path
	mux.HandleFunc("GET "+at, o.list)
	mux.HandleFunc("GET "+at+"/{$}", o.list)
	mux.HandleFunc("GET "+at+"/preview", o.preview)
	mux.HandleFunc("GET "+at+"/preview/html", o.previewFrame)
	mux.HandleFunc("GET "+at+"/{id}", o.show)
	mux.HandleFunc("GET "+at+"/{id}/html", o.frame)
	mux.HandleFunc(at+"/", o.cfg.Site.Missing(mux))
	return o.cfg.Site.Protect(mux)
}

// outboxPage is the data of outbox.html.
type outboxPage struct {
	Path     string   `json:"-"`
	To       string   `json:"-"`
	Messages []Caught `json:"messages"`
	// Next is the URL of the page with older messages, empty on the last one.
	Next string `json:"next,omitempty"`
}

func (o *Outbox) list(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	before, err := uuid.Parse(query.Get("before"))
	if err != nil {
		before = uuid.Nil
	}
	to := strings.TrimSpace(query.Get("to"))
	messages, more, err := o.List(r.Context(), ListParams{To: to, Before: before})
	if err != nil {
		o.cfg.Site.Fail(w, r, err)
		return
	}
	page := outboxPage{Path: o.cfg.Path, To: to, Messages: messages}
	if more {
		next := url.Values{"before": {messages[len(messages)-1].ID.String()}}
		if to != "" {
			next.Set("to", to)
		}
		page.Next = o.cfg.Path + "?" + next.Encode()
	}
	o.views.Respond(w, r, http.StatusOK, "outbox", page)
}

// messagePage is the data of message.html.
type messagePage struct {
	Path    string
	Message Caught
	// Text is the message's, cut where a link begins or ends.
	Text []run
}

func (o *Outbox) show(w http.ResponseWriter, r *http.Request) {
	m, err := o.find(r)
	switch {
	case err != nil:
		o.cfg.Site.Fail(w, r, err)
	case web.WantsJSON(r):
		web.JSON(w, http.StatusOK, m)
	default:
		o.views.Render(w, r, http.StatusOK, "message", messagePage{o.cfg.Path, m, linkify(m.Text)})
	}
}

// framePolicy lets a message's own styles and embedded pictures show, loads nothing, runs nothing, sends nothing, and
// gives the document an origin of its own. Links open in a new window, which the sandbox does not follow.
const framePolicy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none';" +
	" frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox"

// frame answers with the HTML part as it is, for the frame of the message's page.
func (o *Outbox) frame(w http.ResponseWriter, r *http.Request) {
	m, err := o.find(r)
	if err == nil && m.HTML == "" {
		err = ErrNotFound
	}
	if err != nil {
		o.cfg.Site.Fail(w, r, err)
		return
	}
	o.writeFrame(w, m.Message)
}

func (o *Outbox) writeFrame(w http.ResponseWriter, m Message) {
	h := w.Header()
	h.Set("Content-Security-Policy", framePolicy)
	h.Set("X-Frame-Options", "SAMEORIGIN")
	h.Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(m.HTML)) // the client is gone; there is nobody to tell
}

// find reads the message that the path names.
func (o *Outbox) find(r *http.Request) (Caught, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return Caught{}, ErrNotFound
	}
	return o.Find(r.Context(), id)
}
