package scaffold

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/module"
)

// The databases.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// What a project can do without.
const (
	Outbound      = "outbound"      // webhooks to people's own programs
	Organisations = "organisations" // accounts that several people share
)

// Optional are all that a project can do without.
func Optional() []string { return []string{Outbound, Organisations} }

// The versions of Go that a project asks for, and that its image is built with.
const (
	goVersion = "1.26.8"
	goImage   = "1.26"
)

// Params are what [Files] generates from.
type Params struct {
	// Name is that of the program, its folder and its image: lower-case letters, digits and hyphens, a letter first, at
	// most 40. Required.
	Name string
	// Module is the module's path. Empty: example.com/ and the name.
	Module string
	// Database is where development keeps its data: [SQLite] or [Postgres]. Empty: SQLite.
	Database string
	// Samples are services to begin with, from [Samples]; the first one is in the project's test. Empty: the first of them.
	Samples []string
	// OAuth are sites by which people can log in, from [Sites]; the project has the settings for them.
	OAuth []string
	// Without is what to leave out, of [Optional].
	Without []string
	// Version is the version of QuickScale that go.mod requires. Required.
	Version string
	// Replace is the path of a checkout of QuickScale that go.mod replaces it with. Empty: none.
	Replace string
}

// Sample is a service that a project can begin with.
type Sample struct {
	Name string // its package
	Slug string // its name in URLs
	// Field and Value are an input; Left is what 100 credits are after it.
	Field, Value, Left string
}

// Samples are the services that a project can begin with.
func Samples() []Sample {
	return []Sample{
		{"wordcount", "word-count", "text", "one two three", "99.5"},
		{"jsoncheck", "json-check", "document", `{"a": 1}`, "99.9"},
	}
}

// Site is another site by which people can log in.
type Site struct {
	Name     string
	Variable string // its part of the names of the settings
	Label    string
	Where    string // where its owner makes a client
}

// Sites are those that a project can be prepared for.
func Sites() []Site {
	return []Site{
		{"google", "GOOGLE", "Google", "https://console.cloud.google.com/apis/credentials"},
		{"github", "GITHUB", "GitHub", "https://github.com/settings/developers"},
		{"microsoft", "MICROSOFT", "Microsoft", "https://entra.microsoft.com (app registrations)"},
		{"apple", "APPLE", "Apple", "https://developer.apple.com/account/resources"},
		{"oidc", "OIDC", "any site that speaks OpenID Connect", "the site's own pages"},
	}
}

// Names are the names of samples or sites.
func Names[T Sample | Site](all []T) []string {
	names := make([]string, len(all))
	for i, one := range all {
		switch one := any(one).(type) {
		case Sample:
			names[i] = one.Name
		case Site:
			names[i] = one.Name
		}
	}
	return names
}

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// ValidName tells whether a project can have the name; see [Params.Name].
func ValidName(name string) bool { return validName.MatchString(name) && !strings.HasSuffix(name, "-") }

// complete fills in the defaults. Its error tells all faults.
func (p Params) complete() (Params, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !ValidName(p.Name) {
		fault("the name %q: use lower-case letters, digits and hyphens, a letter first, at most 40", p.Name)
	}
	if p.Module == "" {
		p.Module = "example.com/" + p.Name
	}
	if module.CheckImportPath(p.Module) != nil {
		fault("the module path %q cannot be imported; use one such as example.com/%s", p.Module, p.Name)
	}
	if p.Database == "" {
		p.Database = SQLite
	}
	if p.Database != SQLite && p.Database != Postgres {
		fault("the database %q: it is %s or %s", p.Database, SQLite, Postgres)
	}
	samples, sites := Names(Samples()), Names(Sites())
	if len(p.Samples) == 0 {
		p.Samples = samples[:1]
	}
	for what, of := range map[string][2][]string{"sample": {p.Samples, samples}, "OAuth provider": {p.OAuth, sites}, "part to leave out": {p.Without, Optional()}} {
		seen := map[string]bool{}
		for _, name := range of[0] {
			if !slices.Contains(of[1], name) {
				fault("there is no %s %q: there is %s", what, name, strings.Join(of[1], ", "))
			}
			if seen[name] {
				fault("the %s %q is given twice", what, name)
			}
			seen[name] = true
		}
	}
	if p.Version == "" {
		fault("the version of QuickScale is missing")
	}
	if strings.ContainsAny(p.Replace, "\n\"`") {
		fault("the path %q cannot stand in go.mod", p.Replace)
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return p, errors.Join(faults...)
}

// view is what the templates see.
type view struct {
	Params
	Title, Go, GoImage string
	Postgres           bool
	First              Sample
	Imports            []string // the samples in the order of an import declaration
	Sites              []Site
}

func (p Params) view() view {
	words := strings.Split(p.Name, "-")
	for i, w := range words {
		if w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	v := view{Params: p, Title: strings.Join(words, " "), Go: goVersion, GoImage: goImage, Postgres: p.Database == Postgres, Imports: slices.Sorted(slices.Values(p.Samples))}
	if strings.ContainsAny(v.Replace, " \t()[]{},") {
		v.Replace = `"` + v.Replace + `"`
	}
	for _, s := range Samples() {
		if s.Name == p.Samples[0] {
			v.First = s
		}
	}
	for _, s := range Sites() {
		if slices.Contains(p.OAuth, s.Name) {
			v.Sites = append(v.Sites, s)
		}
	}
	return v
}

// Leaves tells whether a part is left out.
func (v view) Leaves(part string) bool { return slices.Contains(v.Without, part) }

// wants tells whether a file belongs to the project.
func (v view) wants(file string) bool {
	dir, ok := strings.CutPrefix(path.Dir(file), "services/")
	return !ok || slices.Contains(v.Samples, dir)
}
