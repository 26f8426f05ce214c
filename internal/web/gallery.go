package web

import (
	"bytes"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/quickscale/quickscale/internal/problem"
)

// GalleryPage is the data of gallery.html.
type GalleryPage struct {
	// Path is the gallery's own.
	Path       string
	Components []Component
	// Statuses are those of the error pages that can be looked at.
	Statuses []int
}

// Component is one of the gallery's sections.
type Component struct {
	Name string
	// About says what it is for and which parameters it takes; it is the comment of the component's file.
	About    string
	Examples []Example
}

// Example is a component in one of its states.
type Example struct {
	Title string
	// Source is what a template says, and Output what comes of it.
	Source string
	Output template.HTML

	data any // what . is in Source
}

// galleryErrors are the errors whose pages the gallery shows, as the packages make them.
func galleryErrors() map[int]error {
	return map[int]error{
		http.StatusForbidden:             problem.New(problem.CodeForbidden, "Your role does not allow this. Ask an owner of the organisation."),
		http.StatusNotFound:              errNothingHere,
		http.StatusMethodNotAllowed:      errMethod,
		http.StatusRequestEntityTooLarge: ErrTooLarge,
		http.StatusUnprocessableEntity:   problem.Invalid(map[string]string{"email": "Enter an address such as grace@example.com."}),
		http.StatusTooManyRequests:       problem.New(problem.CodeTooMany, "There were too many attempts from your network. Try again later."),
		http.StatusInternalServerError:   errInternal,
		http.StatusServiceUnavailable:    problem.New(problem.CodeUnavailable, "Payments cannot be made right now."),
	}
}

// Gallery serves at at the page that shows every component in all its states, with its parameters and the source of each
// example, and below at/error/ the error page of each status. It is for development: ?scheme=dark and ?scheme=light show
// it in one scheme. A component that the host replaced or added is shown as the host's.
func (s *Site) Gallery(at string) (http.Handler, error) {
	views, err := s.views("web", builtin, "templates/gallery.html", map[string]any{"gallery": GalleryPage{}})
	if err != nil {
		return nil, err
	}
	page := GalleryPage{Path: at, Statuses: []int{403, 404, 405, 413, 422, 429, 500, 503}}
	if page.Components, err = s.components(); err != nil {
		return nil, err
	}
	failures := galleryErrors()
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+at, func(w http.ResponseWriter, r *http.Request) {
		p := Page{Data: page}
		switch scheme := Scheme(r.URL.Query().Get("scheme")); scheme {
		case SchemeDark, SchemeLight:
			p.Scheme = scheme
		}
		views.render(w, r, http.StatusOK, "gallery", p)
	})
	mux.HandleFunc("GET "+at+"/error/{status}", func(w http.ResponseWriter, r *http.Request) {
		status, err := strconv.Atoi(r.PathValue("status"))
		failure := failures[status]
		if err != nil || failure == nil {
			s.NotFound(w, r)
			return
		}
		s.Fail(w, r, failure)
	})
	mux.HandleFunc("/", s.Missing(mux))
	return s.Protect(mux), nil
}

// components draws the examples.
func (s *Site) components() ([]Component, error) {
	names, err := fs.Glob(builtin, "templates/components/*.html")
	if err != nil {
		return nil, err
	}
	examples := componentExamples()
	all := make([]Component, len(names))
	for i, name := range names {
		text, err := fs.ReadFile(builtin, name)
		if err != nil {
			return nil, err
		}
		c := Component{Name: strings.TrimSuffix(path.Base(name), ".html"), About: about(string(text))}
		c.Examples = examples[c.Name]
		for j := range c.Examples {
			if err := s.draw(&c.Examples[j]); err != nil {
				return nil, fmt.Errorf("web: the example %q of %s: %w", c.Examples[j].Title, c.Name, err)
			}
		}
		all[i] = c
	}
	return all, nil
}

// about is the comment with which a component's file begins, without the component's name.
func about(text string) string {
	_, text, _ = strings.Cut(text, ": ")
	text, _, _ = strings.Cut(text, "*/")
	text = strings.Join(strings.Fields(text), " ")
	return strings.ToUpper(text[:1]) + text[1:]
}

func (s *Site) draw(e *Example) error {
	t, err := s.base.Clone()
	if err != nil {
		return err
	}
	if t, err = t.New("example").Parse(e.Source); err != nil {
		return err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, e.data); err != nil {
		return err
	}
	// A field at fault takes the focus on a page of its own, not among the others.
	still := strings.ReplaceAll(out.String(), " autofocus", "")
	e.Output = template.HTML(still) //nolint:gosec // html/template made it, of our own examples
	return nil
}
