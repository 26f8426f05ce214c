package mail

import (
	"fmt"
	"net/http"
	"net/url"
)

// Sample is made-up data by which a kind of message is shown and checked.
type Sample struct {
	Kind string
	// Name tells the samples of one kind apart. Empty: there is one.
	Name string
	Data any
}

// Preview are all the messages that a package composes.
type Preview struct {
	Templates *Templates
	Samples   []Sample
}

// previewAddress is whom samples are to; nothing is sent.
const (
	previewAddress = "ada@example.com"
	previewName    = "Ada"
)

// Check composes every sample in every language: a text of the host's that does not fit its data is found at the start
// and not when somebody waits for the message. The error names the kind and the language.
func (p Preview) Check() error {
	for _, s := range p.Samples {
		for _, language := range p.Templates.Languages() {
			if _, err := p.Templates.ComposeIn(language, s.Kind, previewAddress, previewName, s.Data); err != nil {
				return fmt.Errorf("%w (in %s)", err, language)
			}
		}
	}
	return nil
}

// previewPage is the data of preview.html: the list of kinds, or one of them.
type previewPage struct {
	Path  string         `json:"-"`
	Kinds []previewEntry `json:"kinds"`
	// Message is the one that was chosen. Nil: none.
	Message *Message `json:"message,omitempty"`
	Entry   previewEntry
	// Text is the message's, cut where a link begins or ends, and Frame the address of its HTML.
	Text  []run  `json:"-"`
	Frame string `json:"-"`
}

// previewEntry is a sample and where it is shown in each language.
type previewEntry struct {
	Kind  string        `json:"kind"`
	Name  string        `json:"name,omitempty"`
	Links []previewLink `json:"links"`
}

type previewLink struct {
	Language string `json:"language"`
	URL      string `json:"url"`
}

func (o *Outbox) preview(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	page := previewPage{Path: o.cfg.Path}
	for _, p := range o.previews() {
		for _, s := range p.Samples {
			e := previewEntry{Kind: s.Kind, Name: s.Name}
			for _, language := range p.Templates.Languages() {
				at := url.Values{"kind": {s.Kind}, "sample": {s.Name}, "language": {language}}
				e.Links = append(e.Links, previewLink{language, o.cfg.Path + "/preview?" + at.Encode()})
			}
			if s.Kind == q.Get("kind") && s.Name == q.Get("sample") {
				page.Entry = e
			}
			page.Kinds = append(page.Kinds, e)
		}
	}
	if q.Get("kind") != "" {
		m, err := o.sample(q)
		if err != nil {
			o.cfg.Site.Fail(w, r, err)
			return
		}
		page.Message, page.Text, page.Frame = &m, linkify(m.Text), o.cfg.Path+"/preview/html?"+q.Encode()
	}
	o.views.Respond(w, r, http.StatusOK, "preview", page)
}

// previewFrame answers with the HTML part of a sample, for the frame of its page.
func (o *Outbox) previewFrame(w http.ResponseWriter, r *http.Request) {
	m, err := o.sample(r.URL.Query())
	if err != nil {
		o.cfg.Site.Fail(w, r, err)
		return
	}
	o.writeFrame(w, m)
}

func (o *Outbox) previews() []Preview {
	if o.cfg.Previews == nil {
		return nil
	}
	return o.cfg.Previews()
}

// sample composes the one that an address names; [ErrNotFound].
func (o *Outbox) sample(q url.Values) (Message, error) {
	for _, p := range o.previews() {
		for _, s := range p.Samples {
			if s.Kind == q.Get("kind") && s.Name == q.Get("sample") {
				return p.Templates.ComposeIn(q.Get("language"), s.Kind, previewAddress, previewName, s.Data)
			}
		}
	}
	return Message{}, ErrNotFound
}
