package mail

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"slices"
	"strings"
	texttemplate "text/template"

	"golang.org/x/text/language"
)

const layoutFile = "_layout.html"

// TemplatesConfig is what [NewTemplates] takes.
type TemplatesConfig struct {
	// Files hold the messages at their root. NAME.txt, where NAME is a message's kind, is a text/template: a first line
	// "Subject: …", an empty line, and the text. NAME.html is an html/template for the content of the HTML part; where it is
	// missing, that part is made of the text. _layout.html is what surrounds the content: it is executed with
	// .Subject and .Data, and places the content by {{template "content" .Data}}; where it is missing there is a plain
	// one. Required.
	Files fs.FS
	//
	// A folder that is named after a language (BCP 47), such as de or pt-BR, holds the messages in that language: any of
	// the files, the rest being those of the root. [Templates.ComposeIn] chooses among them.
	// Overrides replaces files of the same name, also in such folders. A message whose text is replaced loses the HTML of Files too, which
	// would say something else. Nil: none.
	Overrides fs.FS
	// Site is the product's name, which templates call as {{site}}. Beside it they have {{comma .Price}}, which writes a value
	// with a comma for its decimal point. Required.
	Site string
	// Language is that of the files at the root (BCP 47). Empty: en.
	Language string

	folder string // the language that is being read; empty: the root
}

// Templates compose messages. They are safe for concurrent use.
type Templates struct {
	// languages are those of the sets, the one of the root first.
	languages []language.Tag
	matcher   language.Matcher
	sets      []templateSet
}

// templateSet are the messages in one language.
type templateSet struct {
	kinds map[string]kindTemplates
	plain *template.Template
}

type kindTemplates struct {
	subject, text *texttemplate.Template
	html          *template.Template // nil: made of the text
}

// layoutData is what _layout.html is executed with.
type layoutData struct {
	Subject string
	// Language is the message's, as HTML has it.
	Language string
	Data     any
}

// NewTemplates reads and parses all files. An error names the file.
func NewTemplates(cfg TemplatesConfig) (*Templates, error) {
	switch {
	case cfg.Files == nil:
		return nil, errors.New("mail: TemplatesConfig.Files is required")
	case cfg.Site == "":
		return nil, errors.New("mail: TemplatesConfig.Site is required")
	}
	root, err := language.Parse(cmp.Or(cfg.Language, "en"))
	if err != nil {
		return nil, fmt.Errorf("mail: TemplatesConfig.Language %q is no language: %w", cfg.Language, err)
	}
	names, err := fs.Glob(cfg.Files, "*.txt")
	if err != nil {
		return nil, fmt.Errorf("mail: list the templates: %w", err)
	}
	if len(names) == 0 {
		return nil, errors.New("mail: TemplatesConfig.Files holds no *.txt at its root")
	}
	set, err := newSet(cfg, names)
	if err != nil {
		return nil, err
	}
	t := &Templates{languages: []language.Tag{root}, sets: []templateSet{set}}
	for _, folder := range folders(cfg) {
		tag, err := language.Parse(folder)
		if err != nil {
			return nil, fmt.Errorf("mail: the folder %s of the templates is not named after a language: %w", folder, err)
		}
		cfg.folder = folder
		if set, err = newSet(cfg, names); err != nil {
			return nil, fmt.Errorf("%w (in %s)", err, folder)
		}
		t.languages, t.sets = append(t.languages, tag), append(t.sets, set)
	}
	t.matcher = language.NewMatcher(t.languages)
	return t, nil
}

// functions are those that templates can call.
func functions(site string) map[string]any {
	return map[string]any{
		"site":  func() string { return site },
		"comma": func(v any) string { return strings.ReplaceAll(fmt.Sprint(v), ".", ",") },
	}
}

// Languages are those that there are texts in (BCP 47), that of the root first.
func (t *Templates) Languages() []string {
	names := make([]string, len(t.languages))
	for i, tag := range t.languages {
		names[i] = tag.String()
	}
	return names
}

// folders are the names of the folders of cfg, each once.
func folders(cfg TemplatesConfig) (names []string) {
	for _, files := range []fs.FS{cfg.Files, cfg.Overrides} {
		if files == nil {
			continue
		}
		entries, _ := fs.ReadDir(files, ".") // what cannot be listed, such as a file system of single files, has none
		for _, e := range entries {
			if e.IsDir() {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// newSet parses the messages of the kinds that the files are named after.
func newSet(cfg TemplatesConfig, names []string) (t templateSet, err error) {
	layout, err := parseLayout(cfg)
	if err != nil {
		return t, err
	}
	t.kinds = map[string]kindTemplates{}
	if t.plain, err = parseContent(layout, "_text.html", textContent); err != nil {
		return t, err
	}
	for _, name := range names {
		kind := strings.TrimSuffix(path.Base(name), ".txt")
		if err := checkKind(kind); err != nil {
			return t, fmt.Errorf("mail: the template %s is not named after a kind: %w", name, err)
		}
		if t.kinds[kind], err = parseKind(cfg, layout, kind); err != nil {
			return t, err
		}
	}
	return t, nil
}

// Compose is [Templates.ComposeIn] in the language of the root.
func (t *Templates) Compose(kind, to, toName string, data any) (Message, error) {
	return t.compose(0, kind, to, toName, data)
}

// ComposeIn makes the message of a kind in the language that fits best what a person reads: a language (BCP 47) or a list
// of them with weights, as the header Accept-Language has it (RFC 9110, 12.5.4). Where none fits, and where languages
// cannot be read, it is that of the root.
//
// The message is executed with data. The subject's line breaks become spaces. A kind without
// templates, and a template that data does not fit, are errors; what was composed is validated, [ErrInvalid].
func (t *Templates) ComposeIn(languages, kind, to, toName string, data any) (Message, error) {
	set := 0
	if wanted, _, err := language.ParseAcceptLanguage(languages); err == nil && len(wanted) > 0 {
		if _, best, confidence := t.matcher.Match(wanted...); confidence > language.No {
			set = best
		}
	}
	return t.compose(set, kind, to, toName, data)
}

func (t *Templates) compose(n int, kind, to, toName string, data any) (Message, error) {
	set := t.sets[n]
	k, ok := set.kinds[kind]
	if !ok {
		return Message{}, fmt.Errorf("mail: there is no template %s.txt", kind)
	}
	var subject, text, html bytes.Buffer
	if err := k.subject.Execute(&subject, data); err != nil {
		return Message{}, fmt.Errorf("mail: the subject of %s: %w", kind, err)
	}
	if err := k.text.Execute(&text, data); err != nil {
		return Message{}, fmt.Errorf("mail: the text of %s: %w", kind, err)
	}
	m := Message{Kind: kind, To: to, ToName: toName, Subject: oneLine(subject.String()), Text: strings.TrimSpace(text.String()) + "\n"}
	page, content := k.html, data
	if page == nil {
		page, content = set.plain, paragraphs(m.Text)
	}
	if err := page.ExecuteTemplate(&html, layoutFile, layoutData{m.Subject, t.languages[n].String(), content}); err != nil {
		return Message{}, fmt.Errorf("mail: the HTML of %s: %w", kind, err)
	}
	m.HTML = html.String()
	if err := m.Validate(); err != nil {
		return Message{}, err
	}
	return m, nil
}

// paragraphs cuts text at empty lines, each paragraph into lines, and each line into runs.
func paragraphs(text string) (cut [][][]run) {
	var lines [][]run
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, linkify(line))
		} else if len(lines) > 0 {
			cut, lines = append(cut, lines), nil
		}
	}
	if len(lines) > 0 {
		cut = append(cut, lines)
	}
	return cut
}

// parseLayout parses _layout.html: the host's, the package's or the plain one.
func parseLayout(cfg TemplatesConfig) (*template.Template, error) {
	layout := template.New("").Funcs(functions(cfg.Site)).Option("missingkey=error")
	text, _, err := read(cfg, layoutFile)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = plainLayout, nil
	}
	if err != nil {
		return nil, fmt.Errorf("mail: read %s: %w", layoutFile, err)
	}
	if _, err := layout.New(layoutFile).Parse(string(text)); err != nil {
		return nil, fmt.Errorf("mail: parse %s: %w", layoutFile, err)
	}
	return layout, nil
}

// parseContent adds a file to a copy of layout as its content.
func parseContent(layout *template.Template, name string, text []byte) (*template.Template, error) {
	t, err := layout.Clone()
	if err != nil {
		return nil, fmt.Errorf("mail: clone %s: %w", layoutFile, err)
	}
	if _, err := t.New("content").Parse(string(text)); err != nil {
		return nil, fmt.Errorf("mail: parse %s: %w", name, err)
	}
	return t, nil
}

func parseKind(cfg TemplatesConfig, layout *template.Template, kind string) (k kindTemplates, err error) {
	name := kind + ".txt"
	content, textPlace, err := read(cfg, name)
	if err != nil {
		return k, fmt.Errorf("mail: read %s: %w", name, err)
	}
	head, body, ok := strings.Cut(strings.ReplaceAll(string(content), "\r\n", "\n"), "\n\n")
	subject, isSubject := strings.CutPrefix(head, "Subject: ")
	if !ok || !isSubject || strings.Contains(subject, "\n") {
		return k, fmt.Errorf("mail: %s does not begin with a line \"Subject: …\" and an empty one", name)
	}
	parse := func(part, text string) (*texttemplate.Template, error) {
		t, err := texttemplate.New(name + " " + part).Funcs(functions(cfg.Site)).
			Option("missingkey=error").Parse(text)
		if err != nil {
			return nil, fmt.Errorf("mail: parse the %s of %s: %w", part, name, err)
		}
		return t, nil
	}
	if k.subject, err = parse("subject", subject); err != nil {
		return k, err
	}
	if k.text, err = parse("text", body); err != nil {
		return k, err
	}
	name = kind + ".html"
	html, htmlPlace, err := read(cfg, name)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && htmlPlace > textPlace: // it would say something else than the text
		return k, nil
	case err != nil:
		return k, fmt.Errorf("mail: read %s: %w", name, err)
	}
	k.html, err = parseContent(layout, name, html)
	return k, err
}

// read returns a file and where it is from: the lower, the more it has been made for this host and language.
func read(cfg TemplatesConfig, name string) (content []byte, place int, err error) {
	names := []string{name}
	if cfg.folder != "" {
		names = []string{cfg.folder + "/" + name, name}
	}
	for _, name := range names {
		for _, files := range []fs.FS{cfg.Overrides, cfg.Files} {
			if files == nil {
				continue
			}
			content, err = fs.ReadFile(files, name)
			if err == nil || !errors.Is(err, fs.ErrNotExist) {
				return content, place, err
			}
			place++
		}
	}
	return nil, place, err
}
