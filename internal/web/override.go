package web

import (
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template/parse"
)

// layoutName is the template with which every page begins.
const layoutName = "web/layout.html"

// componentFolder is where each component has a file of its name, and where a host can add its own.
const componentFolder = "web/components"

// replacement returns the host's file at label. ok is false where it has none.
func (s *Site) replacement(label string) (text []byte, ok bool, err error) {
	if s.cfg.Templates == nil {
		return nil, false, nil
	}
	text, err = fs.ReadFile(s.cfg.Templates, label)
	switch {
	case err == nil:
		return text, true, nil
	case isNotExist(err):
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("web: read the host's template %s: %w", label, err)
}

// keepsDefinitions fails when a replacement leaves out a template that other files use of the built-in one.
func (s *Site) keepsDefinitions(label string, builtin, replacement []byte) error {
	had, err := s.definitions(label, builtin)
	if err != nil {
		return err
	}
	has, err := s.definitions(label, replacement)
	if err != nil {
		return err
	}
	for _, name := range had {
		if name != label && !slices.Contains(has, name) {
			return fmt.Errorf("web: the template %s defines no template %q, which other pages use", label, name)
		}
	}
	return nil
}

// definitions are the names of the templates that a file defines, sorted.
func (s *Site) definitions(label string, text []byte) ([]string, error) {
	t, err := template.New(label).Funcs(s.funcs()).Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("web: parse the template %s: %w", label, err)
	}
	var names []string
	for _, one := range t.Templates() {
		names = append(names, one.Name())
	}
	slices.Sort(names)
	return names, nil
}

// addComponents parses the components that the host adds to the built-in ones.
func (s *Site) addComponents(t *template.Template) error {
	if s.cfg.Templates == nil {
		return nil
	}
	names, err := fs.Glob(s.cfg.Templates, componentFolder+"/*.html")
	if err != nil {
		return fmt.Errorf("web: the host's components: %w", err)
	}
	for _, name := range names {
		if t.Lookup(name) != nil { // in the place of a built-in one
			continue
		}
		text, _, err := s.replacement(name)
		if err != nil {
			return err
		}
		if _, err := t.New(name).Parse(string(text)); err != nil {
			return fmt.Errorf("web: parse the template %s: %w", name, err)
		}
	}
	return nil
}

// checkLayout fails when a layout of the host's leaves out what is the page's own: its title, what it adds to the head, and
// its content.
func checkLayout(t *template.Template) error {
	layout := t.Lookup(layoutName)
	for _, needed := range []string{"title", "head", "content"} {
		if !slices.Contains(invoked(layout.Tree.Root), needed) {
			return fmt.Errorf("web: the template %s uses no template %q, which is the page's own", layoutName, needed)
		}
	}
	return nil
}

// invoked are the names of the templates that a node calls itself.
func invoked(node parse.Node) (names []string) {
	lists := func(all ...*parse.ListNode) {
		for _, list := range all {
			if list != nil {
				for _, n := range list.Nodes {
					names = append(names, invoked(n)...)
				}
			}
		}
	}
	switch n := node.(type) {
	case *parse.ListNode:
		lists(n)
	case *parse.TemplateNode:
		names = append(names, n.Name)
	case *parse.IfNode:
		lists(n.List, n.ElseList)
	case *parse.WithNode:
		lists(n.List, n.ElseList)
	case *parse.RangeNode:
		lists(n.List, n.ElseList)
	}
	return names
}

// checkPage checks a page that the host may have changed a part of: against the type of its data, and that html/template
// can escape it. What is wrong is told by [Site.CheckTemplates], and at once for pages that come after it.
func (s *Site) checkPage(t *template.Template, data any) error {
	if s.cfg.Templates == nil {
		return nil // the tests of the library check what it brings
	}
	err := check(t, layoutName, pageType(data))
	if err == nil {
		err = checkEscaping(t)
	}
	if !s.checked && err != nil {
		s.faults = append(s.faults, err)
		return nil
	}
	return err
}

func checkEscaping(t *template.Template) error {
	copied, err := t.Clone()
	if err != nil {
		return fmt.Errorf("web: clone a page: %w", err)
	}
	// What is wrong with the escaping is found before the first word is written; the empty data may end it after that.
	var unsafe *template.Error
	if err := copied.ExecuteTemplate(io.Discard, layoutName, Page{}); errors.As(err, &unsafe) {
		return fmt.Errorf("web: %w", err)
	}
	return nil
}

// CheckTemplates tells all that is wrong with the host's templates, once all packages have their views: pages that do not
// fit their data, and files that replace nothing. builtin are the paths of all templates of all packages, wired or not.
func (s *Site) CheckTemplates(builtin []string) error {
	s.checked = true
	if s.cfg.Templates == nil {
		return nil
	}
	faults := s.faults
	err := fs.WalkDir(s.cfg.Templates, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".html" || path.Dir(name) == componentFolder {
			return err
		}
		if !slices.Contains(builtin, name) {
			faults = append(faults, fmt.Errorf("web: the template %s replaces nothing: no built-in template has this path", name))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("web: read the host's templates: %w", err)
	}
	// A part that many pages share is wrong once.
	slices.SortStableFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(slices.CompactFunc(faults, func(a, b error) bool { return a.Error() == b.Error() })...)
}

// Templates are the layout, its components and the pages of this package, by the paths at which a host's own replace
// them, below web/.
func Templates() fs.FS { return SubTemplates(builtin) }

// SubTemplates is the folder templates of a package's embedded files.
func SubTemplates(files fs.FS) fs.FS {
	sub, err := fs.Sub(files, "templates")
	if err != nil {
		panic(err) // the name is a valid one
	}
	return sub
}

// labelOf is the path at which a host's file replaces the template name of an area.
func labelOf(area, name string) string {
	return path.Join(area, strings.TrimPrefix(name, "templates/"))
}
