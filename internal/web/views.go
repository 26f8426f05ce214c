package web

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"reflect"
	"strings"
)

// Page is what a template is executed with.
type Page struct {
	// Data is the page's own.
	Data any
	// Fields are the sentences about fields at fault, by name; Alert says what is wrong with the whole form.
	Fields map[string]string
	Alert  string
	// Flash is a message from the request before, shown once.
	Flash *Flash
	// Chrome surrounds the page.
	Chrome Chrome
	// Site is the product's name, Path the request's path, Query its query.
	Site  string
	Path  string
	Query string
	// Scheme is light or dark, or empty where it is as the person's system is.
	Scheme Scheme
}

// Views are the pages of one package.
type Views struct {
	site  *Site
	area  string
	pages map[string]*template.Template
	data  map[string]any // for each page a value of the type that it is drawn with
}

// Views parses the pages templates/*.html of files. area is the package's name, below which a host's own templates
// replace them. A file whose name begins with an underscore holds parts that all pages of the package share. data has for
// each page a value of the type that it is drawn with, by which a host's templates are checked: a page that uses a field
// which the type lacks is an error that names file and field. Pages that are missing from data are drawn with anything.
func (s *Site) Views(area string, files fs.FS, data ...map[string]any) (*Views, error) {
	return s.views(area, files, "templates/*.html", data...)
}

func (s *Site) views(area string, files fs.FS, pattern string, data ...map[string]any) (*Views, error) {
	names, err := fs.Glob(files, pattern)
	if err != nil {
		return nil, fmt.Errorf("web: templates of %s: %w", area, err)
	}
	v := &Views{site: s, area: area, pages: map[string]*template.Template{}, data: map[string]any{}}
	for _, some := range data {
		maps.Copy(v.data, some)
	}
	for _, name := range names {
		if isPart(name) {
			continue
		}
		t, err := s.base.Clone()
		if err != nil {
			return nil, fmt.Errorf("web: clone the layout: %w", err)
		}
		for _, part := range names {
			if isPart(part) {
				if err := s.parse(t, files, part, area); err != nil {
					return nil, err
				}
			}
		}
		if err := s.parse(t, files, name, area); err != nil {
			return nil, err
		}
		for _, needed := range []string{"title", "content"} {
			if t.Lookup(needed) == nil {
				return nil, fmt.Errorf("web: the page %s/%s defines no template %q", area, path.Base(name), needed)
			}
		}
		page := strings.TrimSuffix(path.Base(name), ".html")
		if err := s.checkPage(t, v.data[page]); err != nil {
			return nil, err
		}
		v.pages[page] = t
	}
	for page := range v.data {
		if v.pages[page] == nil {
			return nil, fmt.Errorf("web: %s has data for the page %q and no such page", area, page)
		}
	}
	if len(v.pages) == 0 {
		return nil, fmt.Errorf("web: no page of %s matches %s", area, pattern)
	}
	return v, nil
}

func isPart(name string) bool { return strings.HasPrefix(path.Base(name), "_") }

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Respond answers with data as JSON when the request asks for JSON and as the page otherwise.
func (v *Views) Respond(w http.ResponseWriter, r *http.Request, status int, page string, data any) {
	if WantsJSON(r) {
		JSON(w, status, data)
		return
	}
	v.Render(w, r, status, page, data)
}

// Render answers with the page.
func (v *Views) Render(w http.ResponseWriter, r *http.Request, status int, page string, data any) {
	v.render(w, r, status, page, Page{Data: data})
}

// Reject answers to a form that cannot be taken: the page again with err told beside its fields, or err as JSON. What
// has no message for the person is logged and answered as an internal error.
func (v *Views) Reject(w http.ResponseWriter, r *http.Request, page string, data any, err error) {
	told := v.site.explain(r, err)
	if WantsJSON(r) {
		writeError(w, told)
		return
	}
	p := Page{Data: data, Fields: told.fields}
	p.Alert = told.message
	v.render(w, r, told.status, page, p)
}

func (v *Views) render(w http.ResponseWriter, r *http.Request, status int, page string, p Page) {
	t, ok := v.pages[page]
	if !ok {
		v.site.internal(w, r, fmt.Errorf("web: %s has no page %q", v.area, page))
		return
	}
	if declared := v.data[page]; declared != nil && reflect.TypeOf(declared) != reflect.TypeOf(p.Data) {
		v.site.internal(w, r, fmt.Errorf("web: the page %s/%s is drawn with %T and was checked with %T", v.area, page, p.Data, declared))
		return
	}
	p.Site, p.Path, p.Query = v.site.cfg.Name, r.URL.Path, r.URL.RawQuery
	if p.Scheme == "" {
		p.Scheme = v.site.cfg.Theme.Scheme
	}
	if v.site.cfg.Chrome != nil {
		p.Chrome = v.site.cfg.Chrome(r)
	}
	p.Flash = v.site.takeFlash(w, r)
	var buf bytes.Buffer
	if err := t.ExecuteTemplate(&buf, "web/layout.html", p); err != nil {
		v.site.internal(w, r, fmt.Errorf("web: page %s/%s: %w", v.area, page, err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Add("Vary", "Accept")
	w.WriteHeader(status)
	_, _ = buf.WriteTo(w) // the client is gone; there is nobody to tell
}
