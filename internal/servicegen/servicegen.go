// Package servicegen writes new services into a host's project, and finds and checks those that a project has.
package servicegen

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"
)

// Kind is what a generated service begins as.
type Kind struct {
	// Name is how it is chosen.
	Name string `json:"type"`
	// Summary says what the generated service does before it is changed.
	Summary string `json:"summary"`
	// Price says what the credit cost is of.
	Price string `json:"price"`
	// Examples are complete services of this kind.
	Examples []Example `json:"examples"`

	expression string // that is registered
}

// Example is a complete service in the repository.
type Example struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Summary string `json:"summary"`
	Price   string `json:"price"`
	// Run tries it out.
	Run string `json:"run"`
}

const llm = "llm"

// Kinds are all kinds.
func Kinds() []Kind {
	return []Kind{
		{"basic", "Tidies the white space of a text.", "each call", []Example{
			{"Shout", "services/example_test.go", "A product in a page of Go: registered, called over HTTP and from Go.", "0.5", "go test ./services -run Example"},
		}, "Service{}"},
		{"text_processing", "Counts the words, sentences and characters of a text.", "each call", []Example{
			{"Text analysis", "examples/services/textanalysis", "Counts, measures and summarizes text.", "count_words 0.5, count_characters 0.1, analyze 2, summarize 5", "go test ./examples/services/textanalysis"},
			{"Sentiment", "examples/services/sentiment", "Tells whether a text is positive, with a small classifier that is trained at the start.", "0.05 per 1,000 characters begun", "go test ./examples/services/sentiment"},
		}, "Service{}"},
		{"image_processing", "Reads a picture's format and size and its average colour.", "each call", []Example{
			{"Image processing", "examples/services/imageprocessing", "Reads metadata and resizes pictures, within bounds that are checked before a pixel is decoded.", "metadata 0.2, resize 1", "go test ./examples/services/imageprocessing"},
		}, "Service{}"},
		{"data_validation", "Checks JSON records for fields that are missing.", "each call", []Example{
			{"Data validation", "examples/services/datavalidation", "Checks CSV and JSON records by rules and reports each fault with its line.", "0.01 per record checked, by use", "go test ./examples/services/datavalidation"},
		}, "Service{}"},
		{llm, "Asks a language model at any address that speaks OpenAI's API.", "1,000 tokens", []Example{
			{"LLM gateway", "examples/llmgateway", "A proxy in front of a language model that sells it by the token, streams too.", "by model and token", "LLMGATEWAY_UPSTREAM=https://api.openai.com/v1 go run ./examples/llmgateway"},
		}, "New()"},
	}
}

// KindNames are the names of all kinds.
func KindNames() []string {
	kinds := Kinds()
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.Name
	}
	return names
}

// FindKind returns a kind by its name.
func FindKind(name string) (Kind, bool) {
	kinds := Kinds()
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{}, false
	}
	return kinds[i], true
}

// Params are what [Files] generates from.
type Params struct {
	// Name is the service's name in URLs: lower-case words joined by hyphens or underscores, a letter first, at most 63
	// bytes. Required.
	Name string
	// Kind is one of [KindNames]. Empty: basic.
	Kind string
	// Cost is the price as a decimal, of a call or, for llm, of 1,000 tokens. Empty: free.
	Cost string
	// Description is the service's summary, one line. Empty: the kind's.
	Description string
}

// File is a generated file.
type File struct {
	// Name is below the folder for services, with slashes.
	Name    string `json:"name"`
	Content string `json:"content"`
}

//go:embed template
var templates embed.FS

var (
	validName = regexp.MustCompile(`^[a-z][a-z0-9]*([-_][a-z0-9]+)*$`)
	validCost = regexp.MustCompile(`^(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})?$`)
)

const (
	maxName        = 63
	maxDescription = 200
)

// InputError is a fault of what was asked for.
type InputError struct{ error }

// Unwrap returns the faults.
func (e InputError) Unwrap() error { return e.error }

// complete fills in the defaults. Its error, an [InputError], tells all faults.
func (p Params) complete() (Params, error) {
	var faults []error
	if !validName.MatchString(p.Name) || len(p.Name) > maxName {
		faults = append(faults, fmt.Errorf("the name %q: use lower-case letters and digits, in words joined by hyphens, a letter first, at most %d", p.Name, maxName))
	}
	p.Name = strings.ReplaceAll(p.Name, "_", "-")
	if word := p.pkg(); token.IsKeyword(word) || word == "main" || word == "internal" || word == "vendor" || word == "testdata" {
		faults = append(faults, fmt.Errorf("the name %q cannot be that of a Go package; add a word", p.Name))
	}
	if p.Kind == "" {
		p.Kind = Kinds()[0].Name
	}
	kind, ok := FindKind(p.Kind)
	if !ok {
		faults = append(faults, fmt.Errorf("there is no type %q: there is %s", p.Kind, strings.Join(KindNames(), ", ")))
	}
	if strings.Contains(p.Cost, ".") {
		p.Cost = strings.TrimRight(strings.TrimRight(p.Cost, "0"), ".") // as credits are printed
	}
	if p.Cost == "0" || (p.Cost != "" && !validCost.MatchString(p.Cost)) {
		faults = append(faults, fmt.Errorf("the credit cost %q: use a decimal above zero such as 0.5, with at most 6 decimals, or make the service free", p.Cost))
	}
	if p.Description == "" {
		p.Description = kind.Summary
	}
	if !utf8.ValidString(p.Description) || utf8.RuneCountInString(p.Description) > maxDescription || strings.ContainsFunc(p.Description, unicode.IsControl) {
		faults = append(faults, fmt.Errorf("the description must be one line of at most %d characters", maxDescription))
	}
	if len(faults) > 0 {
		return p, InputError{errors.Join(faults...)}
	}
	return p, nil
}

func (p Params) pkg() string { return strings.ReplaceAll(p.Name, "-", "") }

// view is what the templates see.
type view struct {
	Params
	Package, Title string
	Free           bool
}

// Files are the service and its test.
func Files(p Params) ([]File, error) {
	p, err := p.complete()
	if err != nil {
		return nil, err
	}
	title := strings.ReplaceAll(p.Name, "-", " ")
	v := view{p, p.pkg(), strings.ToUpper(title[:1]) + title[1:], p.Cost == ""}
	var files []File
	for _, ending := range []string{".go", "_test.go"} {
		text, err := render("template/"+p.Kind+ending+".tmpl", v)
		if err != nil {
			return nil, err
		}
		files = append(files, File{v.Package + "/" + v.Package + ending, text})
	}
	return files, nil
}

func render(name string, v view) (string, error) {
	t, err := template.New(name[len("template/"):]).Delims("[[", "]]").ParseFS(templates, name)
	if err != nil {
		return "", fmt.Errorf("servicegen: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, v); err != nil {
		return "", fmt.Errorf("servicegen: %w", err)
	}
	text, err := format.Source(out.Bytes())
	if err != nil {
		return "", fmt.Errorf("servicegen: %s: %w", name, err)
	}
	return string(text), nil
}
