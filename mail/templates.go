package mail

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"strings"
	texttemplate "text/template"
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
	// Overrides replaces files of the same name. A message whose text is replaced loses the HTML of Files too, which
	// would say something else. Nil: none.
	Overrides fs.FS
	// Site is the product's name, which templates call as {{site}}. Required.
	Site string
}

// Templates compose messages. They are safe for concurrent use.
type Templates struct {
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
	Data    any
}

// NewTemplates reads and parses all files. An error names the file.
func NewTemplates(cfg TemplatesConfig) (*Templates, error) {
	switch {
	case cfg.Files == nil:
		return nil, errors.New("mail: TemplatesConfig.Files is required")
	case cfg.Site == "":
		return nil, errors.New("mail: TemplatesConfig.Site is required")
	}
	layout, err := parseLayout(cfg)
	if err != nil {
		return nil, err
	}
	t := &Templates{kinds: map[string]kindTemplates{}}
	if t.plain, err = parseContent(layout, "_text.html", textContent); err != nil {
		return nil, err
	}
	names, err := fs.Glob(cfg.Files, "*.txt")
	if err != nil {
		return nil, fmt.Errorf("mail: list the templates: %w", err)
	}
	for _, name := range names {
		kind := strings.TrimSuffix(path.Base(name), ".txt")
		if err := checkKind(kind); err != nil {
			return nil, fmt.Errorf("mail: the template %s is not named after a kind: %w", name, err)
		}
		if t.kinds[kind], err = parseKind(cfg, layout, kind); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		return nil, errors.New("mail: TemplatesConfig.Files holds no *.txt at its root")
	}
	return t, nil
}

// Compose makes the message of a kind, executed with data. The subject's line breaks become spaces. A kind without
// templates, and a template that data does not fit, are errors; what was composed is validated, [ErrInvalid].
func (t *Templates) Compose(kind, to, toName string, data any) (Message, error) {
	k, ok := t.kinds[kind]
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
		page, content = t.plain, paragraphs(m.Text)
	}
	if err := page.ExecuteTemplate(&html, layoutFile, layoutData{m.Subject, content}); err != nil {
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
	layout := template.New("").Funcs(template.FuncMap{"site": func() string { return cfg.Site }}).Option("missingkey=error")
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
	content, textReplaced, err := read(cfg, name)
	if err != nil {
		return k, fmt.Errorf("mail: read %s: %w", name, err)
	}
	head, body, ok := strings.Cut(strings.ReplaceAll(string(content), "\r\n", "\n"), "\n\n")
	subject, isSubject := strings.CutPrefix(head, "Subject: ")
	if !ok || !isSubject || strings.Contains(subject, "\n") {
		return k, fmt.Errorf("mail: %s does not begin with a line \"Subject: …\" and an empty one", name)
	}
	parse := func(part, text string) (*texttemplate.Template, error) {
		t, err := texttemplate.New(name + " " + part).Funcs(texttemplate.FuncMap{"site": func() string { return cfg.Site }}).
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
	html, htmlReplaced, err := read(cfg, name)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && textReplaced && !htmlReplaced:
		return k, nil
	case err != nil:
		return k, fmt.Errorf("mail: read %s: %w", name, err)
	}
	k.html, err = parseContent(layout, name, html)
	return k, err
}

// read returns a file, and whether it is the host's in place of one.
func read(cfg TemplatesConfig, name string) (content []byte, replaced bool, err error) {
	if cfg.Overrides != nil {
		content, err = fs.ReadFile(cfg.Overrides, name)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return content, true, err
		}
	}
	content, err = fs.ReadFile(cfg.Files, name)
	return content, false, err
}
