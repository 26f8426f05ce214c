package outbound

import (
	"embed"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

//go:embed all:templates
var pageTemplates embed.FS

// DefaultPath is where the pages are unless the host says otherwise.
const DefaultPath = "/account/webhooks"

// errSignedOut: nobody is signed in.
var errSignedOut = problem.New(problem.CodeUnauthenticated, "Log in first.")

// PagesConfig is what [NewPages] takes.
type PagesConfig struct {
	// Outbound sends. Required.
	Outbound *Outbound
	// Account tells whose endpoints a request may see and change; false for nobody. Required.
	Account func(r *http.Request) (string, bool)
	// Path is where the host mounts the handler. Empty: /account/webhooks.
	Path string
	// LoginURL is where who is signed out is sent, with ?next=. Empty: they are told so instead.
	LoginURL string
	// BackURL is the page above these, such as that of the account. Empty: no link.
	BackURL string
	// Site draws the pages. Nil: a plain one.
	Site *web.Site
}

// Pages let people keep their own endpoints.
type Pages struct {
	cfg   PagesConfig
	o     *Outbound
	views *web.Views
}

// NewPages checks cfg.
func NewPages(cfg PagesConfig) (*Pages, error) {
	switch {
	case cfg.Outbound == nil:
		return nil, errors.New("outbound: PagesConfig.Outbound is required")
	case cfg.Account == nil:
		return nil, errors.New("outbound: PagesConfig.Account is required")
	}
	if cfg.Path == "" {
		cfg.Path = DefaultPath
	}
	var err error
	if cfg.Site == nil {
		if cfg.Site, err = web.Alone(cfg.Path, web.Config{Logger: cfg.Outbound.cfg.Logger}); err != nil {
			return nil, err
		}
	}
	p := &Pages{cfg: cfg, o: cfg.Outbound}
	if p.views, err = cfg.Site.Views("outbound", pageTemplates, pageData()); err != nil {
		return nil, err
	}
	return p, nil
}

// Handler serves the pages below PagesConfig.Path, which the host mounts without stripping it. They answer JSON too.
func (p *Pages) Handler() http.Handler {
	mux := http.NewServeMux()
	at := p.cfg.Path
	mux.HandleFunc("GET "+at+"/{$}", p.signedIn(p.listEndpoints))
	mux.HandleFunc("POST "+at+"/{$}", p.signedIn(p.createEndpoint))
	mux.HandleFunc("GET "+at+"/{id}", p.signedIn(p.showEndpoint))
	mux.HandleFunc("POST "+at+"/{id}", p.signedIn(p.updateEndpoint))
	mux.HandleFunc("POST "+at+"/{id}/enable", p.signedIn(p.enableEndpoint))
	mux.HandleFunc("POST "+at+"/{id}/disable", p.signedIn(p.disableEndpoint))
	mux.HandleFunc("POST "+at+"/{id}/roll", p.signedIn(p.rollSecret))
	mux.HandleFunc("POST "+at+"/{id}/test", p.signedIn(p.sendTest))
	mux.HandleFunc("GET "+at+"/{id}/delete", p.signedIn(p.askDelete))
	mux.HandleFunc("POST "+at+"/{id}/delete", p.signedIn(p.deleteEndpoint))
	mux.HandleFunc("GET "+at+"/{id}/deliveries/{delivery}", p.signedIn(p.showDelivery))
	mux.HandleFunc("POST "+at+"/{id}/deliveries/{delivery}/resend", p.signedIn(p.resend))
	mux.HandleFunc(at+"/", p.cfg.Site.Missing(mux))
	return p.cfg.Site.Protect(mux)
}

// signedIn lets only those through who are, and tells what goes wrong.
func (p *Pages) signedIn(next func(w http.ResponseWriter, r *http.Request, account string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		account, ok := p.cfg.Account(r)
		switch {
		case ok:
			if err := next(w, r, account); err != nil {
				p.cfg.Site.Fail(w, r, err)
			}
		case p.cfg.LoginURL != "" && !web.WantsJSON(r):
			p.cfg.Site.Redirect(w, r, p.cfg.LoginURL+"?next="+url.QueryEscape(r.URL.RequestURI()))
		default:
			p.cfg.Site.Fail(w, r, errSignedOut)
		}
	}
}

// pathID reads the id of the address; what is none leads to nothing.
func pathID(r *http.Request) (uuid.UUID, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return uuid.Nil, ErrNotFound
	}
	return id, nil
}

// endpointForm is what people send about an endpoint.
type endpointForm struct {
	URL         string   `json:"url"`
	Description string   `json:"description"`
	Types       []string `json:"types"`
}

func (f endpointForm) params(account string) EndpointParams {
	return EndpointParams{Account: account, URL: f.URL, Description: f.Description, Types: f.Types}
}

// choice is a type of events with whether it is ticked.
type choice struct {
	Type    string
	Checked bool
}

func (p *Pages) choices(ticked []string) []choice {
	list := make([]choice, len(p.o.cfg.Types))
	for i, t := range p.o.cfg.Types {
		list[i] = choice{t, slices.Contains(ticked, t)}
	}
	return list
}

// endpointsPage is the data of endpoints.html.
type endpointsPage struct {
	Path      string       `json:"-"`
	BackURL   string       `json:"-"`
	Endpoints []Endpoint   `json:"endpoints"`
	Types     []string     `json:"types"`
	Choices   []choice     `json:"-"`
	Form      endpointForm `json:"-"`
}

func (p *Pages) endpointsPage(r *http.Request, account string, form endpointForm) (page endpointsPage, err error) {
	page = endpointsPage{Path: p.cfg.Path, BackURL: p.cfg.BackURL, Types: p.o.cfg.Types, Choices: p.choices(form.Types), Form: form}
	page.Endpoints, err = p.o.ListEndpoints(r.Context(), account)
	return page, err
}

func (p *Pages) listEndpoints(w http.ResponseWriter, r *http.Request, account string) error {
	page, err := p.endpointsPage(r, account, endpointForm{})
	if err != nil {
		return err
	}
	p.views.Respond(w, r, http.StatusOK, "endpoints", page)
	return nil
}

func (p *Pages) createEndpoint(w http.ResponseWriter, r *http.Request, account string) error {
	var form endpointForm
	err := web.Decode(w, r, &form)
	if err == nil {
		var e Endpoint
		var secret string
		if e, secret, err = p.o.CreateEndpoint(r.Context(), form.params(account)); err == nil {
			p.respondSecret(w, r, http.StatusCreated, e, secret)
			return nil
		}
	}
	page, listErr := p.endpointsPage(r, account, form)
	if listErr != nil {
		return listErr
	}
	p.views.Reject(w, r, "endpoints", page, err)
	return nil
}

// secretPage is the data of secret.html, the only place where a secret is shown.
type secretPage struct {
	Path     string   `json:"-"`
	Endpoint Endpoint `json:"endpoint"`
	Secret   string   `json:"secret"`
}

func (p *Pages) respondSecret(w http.ResponseWriter, r *http.Request, status int, e Endpoint, secret string) {
	w.Header().Set("Cache-Control", "no-store")
	p.views.Respond(w, r, status, "secret", secretPage{p.cfg.Path, e, secret})
}

// endpointPage is the data of endpoint.html.
type endpointPage struct {
	Path       string       `json:"-"`
	Endpoint   Endpoint     `json:"endpoint"`
	Choices    []choice     `json:"-"`
	Form       endpointForm `json:"-"`
	Status     Status       `json:"-"`
	Statuses   []Status     `json:"-"`
	Deliveries []Delivery   `json:"deliveries"`
	// Next is the URL of the page with older deliveries, empty on the last one.
	Next string `json:"next,omitempty"`
}

func (p *Pages) endpointPage(r *http.Request, e Endpoint, form endpointForm) (page endpointPage, err error) {
	page = endpointPage{Path: p.cfg.Path, Endpoint: e, Choices: p.choices(form.Types), Form: form,
		Status: Status(r.URL.Query().Get("status")), Statuses: []Status{StatusWaiting, StatusDelivered, StatusFailed}}
	before, err := uuid.Parse(r.URL.Query().Get("before"))
	if err != nil {
		before = uuid.Nil // a place that is none begins with the newest
	}
	var more bool
	page.Deliveries, more, err = p.o.Deliveries(r.Context(), DeliveriesParams{Account: e.Account, Endpoint: e.ID, Status: page.Status, Before: before})
	if err == nil && more {
		query := url.Values{"before": {page.Deliveries[len(page.Deliveries)-1].ID.String()}}
		if page.Status != "" {
			query.Set("status", string(page.Status))
		}
		page.Next = p.cfg.Path + "/" + e.ID.String() + "?" + query.Encode()
	}
	return page, err
}

// endpoint finds the account's endpoint that the address names.
func (p *Pages) endpoint(r *http.Request, account string) (Endpoint, error) {
	id, err := pathID(r)
	if err != nil {
		return Endpoint{}, err
	}
	return p.o.FindEndpoint(r.Context(), account, id)
}

func (p *Pages) showEndpoint(w http.ResponseWriter, r *http.Request, account string) error {
	e, err := p.endpoint(r, account)
	if err != nil {
		return err
	}
	page, err := p.endpointPage(r, e, endpointForm{e.URL, e.Description, e.Types})
	if err != nil {
		return err
	}
	p.views.Respond(w, r, http.StatusOK, "endpoint", page)
	return nil
}

func (p *Pages) updateEndpoint(w http.ResponseWriter, r *http.Request, account string) error {
	e, err := p.endpoint(r, account)
	if err != nil {
		return err
	}
	var form endpointForm
	if err = web.Decode(w, r, &form); err == nil {
		var changed Endpoint
		if changed, err = p.o.UpdateEndpoint(r.Context(), e.ID, form.params(account)); err == nil {
			p.done(w, r, changed, "The endpoint is changed.")
			return nil
		}
	}
	page, listErr := p.endpointPage(r, e, form)
	if listErr != nil {
		return listErr
	}
	p.views.Reject(w, r, "endpoint", page, err)
	return nil
}

// done answers with the endpoint as JSON, or leads back to its page with a sentence.
func (p *Pages) done(w http.ResponseWriter, r *http.Request, e Endpoint, text string) {
	if web.WantsJSON(r) {
		web.JSON(w, http.StatusOK, e)
		return
	}
	p.cfg.Site.Flash(w, web.FlashSuccess, text)
	p.cfg.Site.Redirect(w, r, p.cfg.Path+"/"+e.ID.String())
}

func (p *Pages) enableEndpoint(w http.ResponseWriter, r *http.Request, account string) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	e, err := p.o.EnableEndpoint(r.Context(), account, id)
	if err == nil {
		p.done(w, r, e, "The endpoint is enabled.")
	}
	return err
}

func (p *Pages) disableEndpoint(w http.ResponseWriter, r *http.Request, account string) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	e, err := p.o.DisableEndpoint(r.Context(), account, id)
	if err == nil {
		p.done(w, r, e, "The endpoint is disabled. Nothing is sent to it.")
	}
	return err
}

func (p *Pages) rollSecret(w http.ResponseWriter, r *http.Request, account string) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	e, secret, err := p.o.RollSecret(r.Context(), account, id, 0)
	if err == nil {
		p.respondSecret(w, r, http.StatusOK, e, secret)
	}
	return err
}

func (p *Pages) sendTest(w http.ResponseWriter, r *http.Request, account string) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	delivery, err := p.o.SendTest(r.Context(), account, id)
	if err == nil {
		p.sent(w, r, id, delivery, "A test event is on its way.")
	}
	return err
}

// sent leads to a delivery that is on its way.
func (p *Pages) sent(w http.ResponseWriter, r *http.Request, endpoint, delivery uuid.UUID, text string) {
	if web.WantsJSON(r) {
		web.JSON(w, http.StatusAccepted, map[string]uuid.UUID{"delivery": delivery})
		return
	}
	p.cfg.Site.Flash(w, web.FlashSuccess, text)
	p.cfg.Site.Redirect(w, r, p.cfg.Path+"/"+endpoint.String()+"/deliveries/"+delivery.String())
}

// deletePage is the data of delete.html.
type deletePage struct {
	Path     string   `json:"-"`
	Endpoint Endpoint `json:"endpoint"`
}

func (p *Pages) askDelete(w http.ResponseWriter, r *http.Request, account string) error {
	e, err := p.endpoint(r, account)
	if err == nil {
		p.views.Respond(w, r, http.StatusOK, "delete", deletePage{p.cfg.Path, e})
	}
	return err
}

func (p *Pages) deleteEndpoint(w http.ResponseWriter, r *http.Request, account string) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	if err := p.o.DeleteEndpoint(r.Context(), account, id); err != nil {
		return err
	}
	p.cfg.Site.Flash(w, web.FlashSuccess, "The endpoint is deleted.")
	p.cfg.Site.Redirect(w, r, p.cfg.Path+"/")
	return nil
}

// deliveryPage is the data of delivery.html.
type deliveryPage struct {
	Path     string    `json:"-"`
	Delivery Delivery  `json:"delivery"`
	Payload  string    `json:"payload"`
	Attempts []Attempt `json:"attempts"`
}

// delivery finds the delivery that the address names.
func (p *Pages) delivery(r *http.Request, account string) (Delivery, []byte, error) {
	endpoint, err := pathID(r)
	if err != nil {
		return Delivery{}, nil, err
	}
	id, err := uuid.Parse(r.PathValue("delivery"))
	if err != nil {
		return Delivery{}, nil, ErrNotFound
	}
	d, payload, err := p.o.FindDelivery(r.Context(), account, id)
	if err == nil && d.Endpoint != endpoint {
		err = ErrNotFound
	}
	return d, payload, err
}

func (p *Pages) showDelivery(w http.ResponseWriter, r *http.Request, account string) error {
	d, payload, err := p.delivery(r, account)
	if err != nil {
		return err
	}
	attempts, err := p.o.Attempts(r.Context(), account, d.ID)
	if err != nil {
		return err
	}
	p.views.Respond(w, r, http.StatusOK, "delivery", deliveryPage{p.cfg.Path, d, string(payload), attempts})
	return nil
}

func (p *Pages) resend(w http.ResponseWriter, r *http.Request, account string) error {
	d, _, err := p.delivery(r, account)
	if err != nil {
		return err
	}
	if err := p.o.Redeliver(r.Context(), account, d.ID); err != nil {
		return err
	}
	p.sent(w, r, d.Endpoint, d.ID, "It is being sent again.")
	return nil
}
