package services

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/quickscale/quickscale/internal/web"
)

// The fields of the form that are none of the input's; a JSON name of an input has no brackets.
const (
	tryKey     = "[key]"
	tryAttempt = "[attempt]"
)

// docsData is the data of docs.html.
type docsData struct {
	API      string
	Base     string
	SignedIn bool
	LoginURL string
	Services []docsService
}

// docsService is a section of docs.html.
type docsService struct {
	Description

	Inputs   []docsField
	Fields   []formField
	Attempt  string
	Sample   string
	Curl, Go string
	In, Out  string
	// Open says that the section is shown unfolded. Answer is that of the request that was just sent. Nil: none was.
	Open   bool
	Answer *docsAnswer
}

// docsField is a field of an input in words.
type docsField struct {
	Path, Type, Text string
	Required         bool
}

// docsAnswer is what the API has answered.
type docsAnswer struct {
	Status  int
	Title   string
	Headers []string
	Body    string
}

func (s *Services) docsPage(w http.ResponseWriter, r *http.Request) { s.showDocs(w, r, "", nil, nil) }

// showDocs draws the page, with a section unfolded that was tried.
func (s *Services) showDocs(w http.ResponseWriter, r *http.Request, tried string, typed url.Values, answer *docsAnswer) {
	d := docsData{API: s.cfg.APIPath, Base: s.origin(r)}
	if _, d.SignedIn = s.cfg.User(r); !d.SignedIn && s.cfg.LoginURL != "" {
		d.LoginURL = s.loginURL(s.cfg.APIPath + "/docs")
	}
	for _, about := range s.List(r.Context()) {
		svc, err := s.find(about.Name, "")
		if err != nil {
			s.cfg.Site.Fail(w, r, err)
			return
		}
		one := s.docsService(d.Base, svc, about)
		if about.Name == tried {
			one.Open, one.Answer = true, answer
			one.Fields = formFields(svc.input.schema, "", typed, nil)
		}
		for i := range one.Fields {
			one.Fields[i].Prefix = about.Name + "-"
		}
		d.Services = append(d.Services, one)
	}
	s.views.Render(w, r, http.StatusOK, "docs", d)
}

func (s *Services) docsService(base string, svc *registered, about Description) docsService {
	sample := sampleInput(svc.input.schema)
	path := s.cfg.APIPath + "/services/" + about.Name
	return docsService{
		Description: about, Inputs: docsFields(svc.input.schema, ""), Fields: formFields(svc.input.schema, "", nil, nil), Attempt: rand.Text(),
		Sample: indent(sample), Curl: curlSnippet(base, path, sample), Go: goSnippet(base, s.cfg.APIPath, about.Name, sample),
		In: indent(about.InputSchema), Out: indent(about.OutputSchema),
	}
}

// origin is where the reader has found the page, for the snippets.
func (s *Services) origin(r *http.Request) string {
	if s.cfg.Site.Secure() || r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// indent lays JSON out over lines; what is no JSON stays as it is.
func indent(raw []byte) string {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return string(raw)
	}
	return strings.TrimSpace(b.String())
}

func docsFields(s *jsonschema.Schema, parent string) (fields []docsField) {
	for _, name := range s.PropertyOrder {
		prop := s.Properties[name]
		f := docsField{Path: joinPath(parent, name), Type: typeOf(prop), Text: prop.Description, Required: slices.Contains(s.Required, name)}
		switch {
		case prop.Format == formatFile:
			f.Type = "file"
		case f.Type == "object":
			fields = append(fields, docsFields(prop, f.Path)...)
			continue
		case f.Type == "array":
			f.Type = "list of " + typeOf(prop.Items)
		}
		fields = append(fields, f)
	}
	return fields
}

// tryPage sends what was typed to the API, as any caller would, and shows the answer. The key is used and not kept.
func (s *Services) tryPage(w http.ResponseWriter, r *http.Request) {
	svc, err := s.find(r.PathValue("name"), "")
	if err != nil {
		s.cfg.Site.Fail(w, r, err)
		return
	}
	in, err := s.readInput(w, r, svc, true)
	switch {
	case err != nil:
		s.cfg.Site.Fail(w, r, err)
		return
	case in.typed == nil:
		s.cfg.Site.Fail(w, r, web.ErrUnsupported)
		return
	}
	key := strings.TrimSpace(in.typed.Get(tryKey))
	in.typed.Del(tryKey)
	sum := sha256.Sum256(append([]byte(in.typed.Get(tryAttempt)+"\x00"), in.raw...))
	idempotency := "docs:" + hex.EncodeToString(sum[:])
	got := &recorded{header: http.Header{}, status: http.StatusOK}
	s.called(s.apiCall)(got, s.tryRequest(r, key, idempotency, in.raw))
	s.showDocs(w, r, svc.info.Name, in.typed, got.answer(idempotency))
}

// tryRequest is the request to the API: with the key, or else with what the browser is known by.
func (s *Services) tryRequest(r *http.Request, key, idempotency string, input json.RawMessage) *http.Request {
	// A stream cannot be shown on a page.
	call := r.Clone(context.WithValue(r.Context(), streamKey{}, nil))
	call.URL = &url.URL{Path: s.cfg.APIPath + "/services/" + r.PathValue("name")}
	call.Header.Set("Content-Type", "application/json")
	call.Header.Set("Idempotency-Key", idempotency)
	if key != "" {
		call.Header.Set("Authorization", "Bearer "+key)
	}
	call.Body, call.ContentLength = io.NopCloser(bytes.NewReader(input)), int64(len(input))
	call.Form, call.PostForm, call.MultipartForm = nil, nil, nil
	return call
}

// recorded is an answer that is kept to be shown.
type recorded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *recorded) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *recorded) WriteHeader(status int) { a.status = status }

// Write implements http.ResponseWriter.
func (a *recorded) Write(p []byte) (int, error) { return a.body.Write(p) }

func (a *recorded) answer(idempotency string) *docsAnswer {
	shown := &docsAnswer{Status: a.status, Title: http.StatusText(a.status), Body: indent(a.body.Bytes()), Headers: []string{"Idempotency-Key: " + idempotency + " (sent)"}}
	for _, name := range slices.Sorted(maps.Keys(a.header)) {
		if name != "Vary" && name != "Content-Type" {
			shown.Headers = append(shown.Headers, name+": "+a.header.Get(name))
		}
	}
	return shown
}
