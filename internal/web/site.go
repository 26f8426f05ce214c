package web

import (
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"
)

// DefaultName is the product's name where the host gives none.
const DefaultName = "QuickScale"

// DefaultAssetPath is where pages look for style sheets and scripts.
const DefaultAssetPath = "/static/"

// Config is what [New] takes. The zero value is a site with the built-in look and no navigation.
type Config struct {
	// Name is the product's name, in the header and in every title. Empty: QuickScale.
	Name string
	// Templates replaces built-in templates by path: "web/layout.html", "auth/login.html". Nil: none.
	Templates fs.FS
	// Theme changes the look. The zero value: the built-in one.
	Theme Theme
	// AssetPath is the prefix under which [Site.Assets] is mounted. Empty: /static/.
	AssetPath string
	// Chrome tells what surrounds the page of a request. Nil: nothing.
	Chrome func(r *http.Request) Chrome
	// Secure says that people come over https: cookies are marked so and browsers told to insist (HSTS).
	Secure bool
	// FormActions are origins besides our own to which a form may lead, such as https://checkout.stripe.com.
	FormActions []string
	// Logger gets what goes wrong inside. Nil: slog.Default.
	Logger *slog.Logger
}

// Chrome is what surrounds a page: navigation, and who is signed in.
type Chrome struct {
	Nav []Link
	// Person is nil when nobody is signed in.
	Person *Person
	// LoginURL and SignupURL are offered to who is signed out; LogoutURL takes a POST. Empty ones are left out.
	LoginURL, SignupURL, LogoutURL string
	// Balance is the account's credits as text, with the page that explains them. Empty: not shown.
	Balance, BalanceURL string
	// OrganisationURL is the page of the account that the person acts for. Empty: there are no organisations.
	OrganisationURL string
	// Accounts are what the person can act for, and SwitchURL takes the choice by a POST. Fewer than two: nothing to choose.
	Accounts  []AccountLink
	SwitchURL string
	// Footer are links at the end of every page.
	Footer []Link
	// Banner stands on every page while staff act as somebody else. Nil: the person is themselves.
	Banner *Banner
}

// AccountLink is an account in the header's menu.
type AccountLink struct {
	ID, Name string
	Current  bool
}

// Banner tells staff as whom they act, and until when. StopURL takes a POST.
type Banner struct {
	Email   string
	Until   time.Time
	StopURL string
}

// Link is one entry of the navigation.
type Link struct{ Label, URL string }

// Current tells that the link leads to the page at p or to one above it.
func (l Link) Current(p string) bool {
	if l.URL == "/" {
		return p == "/"
	}
	return p == l.URL || strings.HasPrefix(p, strings.TrimSuffix(l.URL, "/")+"/")
}

// Person is who is signed in, as the header shows them.
type Person struct {
	Name, Email string
	AccountURL  string
	// Links are further pages of theirs, which the account's own navigation ends with.
	Links []Link
}

//go:embed templates
var builtin embed.FS

// Site draws the pages of all packages alike. It is safe for concurrent use.
type Site struct {
	cfg    Config
	assets *assets
	base   *template.Template
	errors *Views
	theme  string // the address of its style sheet, empty without one
	alone  bool   // serves its own assets

	faults  []error // of the host's templates, until CheckTemplates tells them
	checked bool
}

// New checks cfg, parses the layout and its components, and hashes the assets.
func New(cfg Config) (*Site, error) {
	if cfg.Name == "" {
		cfg.Name = DefaultName
	}
	if cfg.AssetPath == "" {
		cfg.AssetPath = DefaultAssetPath
	}
	if !strings.HasPrefix(cfg.AssetPath, "/") || !strings.HasSuffix(cfg.AssetPath, "/") {
		return nil, fmt.Errorf("web: AssetPath %q must begin and end with a slash", cfg.AssetPath)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Site{cfg: cfg}
	var err error
	if s.assets, err = loadAssets(cfg.AssetPath); err != nil {
		return nil, err
	}
	if s.theme, err = cfg.Theme.apply(s.assets); err != nil {
		return nil, err
	}
	s.base = template.New("base").Funcs(s.funcs())
	for _, pattern := range []string{"templates/*.html", "templates/components/*.html"} {
		names, err := fs.Glob(builtin, pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if isPage(name) {
				continue
			}
			if err := s.parse(s.base, builtin, name, "web"); err != nil {
				return nil, err
			}
		}
	}
	if err := s.addComponents(s.base); err != nil {
		return nil, err
	}
	if err := checkLayout(s.base); err != nil {
		return nil, err
	}
	s.errors, err = s.views("web", builtin, "templates/error.html", map[string]any{"error": ErrorPage{}})
	return s, err
}

// isPage tells the pages of this package from the parts of the layout.
func isPage(name string) bool {
	return path.Base(name) == "error.html" || path.Base(name) == "gallery.html"
}

// Alone makes a site with the built-in look for a package that the host mounts at path by itself, without the root
// package. What [Site.Protect] wraps then serves the assets too, below the path.
func Alone(path string, cfg Config) (*Site, error) {
	cfg.AssetPath = path + DefaultAssetPath
	s, err := New(cfg)
	if err != nil {
		return nil, err
	}
	s.alone = true
	return s, nil
}

// parse adds a template file to t, or the host's file of the same path below area in its place.
func (s *Site) parse(t *template.Template, files fs.FS, name, area string) error {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return fmt.Errorf("web: read the template %s: %w", name, err)
	}
	label := labelOf(area, name)
	override, ok, err := s.replacement(label)
	if err != nil {
		return err
	}
	if ok {
		// Of a page others use nothing, and what the layout must have is checked when it is whole.
		if path.Dir(label) == componentFolder || isPart(name) || area == "web" && label != layoutName && !isPage(name) {
			if err := s.keepsDefinitions(label, text, override); err != nil {
				return err
			}
		}
		text = override
	}
	if _, err := t.New(label).Parse(string(text)); err != nil {
		return fmt.Errorf("web: parse the template %s: %w", label, err)
	}
	return nil
}

// Assets serves style sheets and scripts below the asset path. Their names carry a hash, so they may be kept forever.
func (s *Site) Assets() http.Handler { return s.assets }

// AssetPath is where [Site.Assets] must be mounted.
func (s *Site) AssetPath() string { return s.cfg.AssetPath }

// Name is the product's name.
func (s *Site) Name() string { return s.cfg.Name }

// Secure tells whether people come over https, and so whether cookies are marked Secure.
func (s *Site) Secure() bool { return s.cfg.Secure }
