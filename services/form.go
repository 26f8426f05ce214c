package services

import (
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// formField is one control of the form of a service, made from the schema of its input.
type formField struct {
	// Name is the field's path, such as options.lines.
	Name, Label, Hint, Error string
	// Prefix tells the forms of a page apart in the ids of their controls. Empty where there is but one.
	Prefix string
	// Control is text, email, url, textarea, number, checkbox, select or file.
	Control  string
	Required bool
	Value    string
	Checked  bool
	Options  []string
	// Min, Max and Step are those of a number, empty where there is none.
	Min, Max, Step string
	// Accept are the types of a file.
	Accept string
}

// formatFile is the format of the schema of a [File].
const formatFile = "file"

// typeOf is the type of a schema besides null.
func typeOf(s *jsonschema.Schema) string {
	for _, t := range s.Types {
		if t != "null" {
			return t
		}
	}
	return s.Type
}

// formFields makes the controls for the properties of a schema, filled with what was typed and with the sentences
// about fields at fault.
func formFields(s *jsonschema.Schema, path string, typed url.Values, wrong map[string]string) []formField {
	var fields []formField
	for _, name := range s.PropertyOrder {
		at, prop := joinPath(path, name), s.Properties[name]
		if typeOf(prop) == "object" && prop.Format != formatFile {
			fields = append(fields, formFields(prop, at, typed, wrong)...)
			continue
		}
		f := formField{Name: at, Label: prop.Title, Hint: prop.Description, Required: slices.Contains(s.Required, name), Value: typed.Get(at)}
		f.Error = faultOf(at, wrong)
		f.control(prop)
		fields = append(fields, f)
	}
	return fields
}

// faultOf finds the sentence about a control, of which each entry of a list may have one: lines[3].
func faultOf(path string, wrong map[string]string) string {
	if message := wrong[path]; message != "" {
		return message
	}
	for at, message := range wrong {
		if entry, ok := strings.CutPrefix(at, path+"["); ok {
			if n, err := strconv.Atoi(strings.TrimSuffix(entry, "]")); err == nil {
				return "Line " + strconv.Itoa(n+1) + ": " + message
			}
		}
	}
	return ""
}

func (f *formField) control(s *jsonschema.Schema) {
	switch kind := typeOf(s); {
	case s.Format == formatFile:
		f.Control, f.Accept = "file", s.Properties["data"].ContentMediaType
	case kind == "boolean":
		f.Control, f.Checked = "checkbox", f.Value != "" && f.Value != "false"
	case kind == "integer" || kind == "number":
		f.Control, f.Step = "number", "any"
		if kind == "integer" {
			f.Step = "1"
		}
		f.Min, f.Max = bound(s.Minimum), bound(s.Maximum)
	case kind == "array":
		f.Control, f.Hint = "textarea", strings.TrimSpace(f.Hint+" One entry per line.")
	case s.Enum != nil:
		f.Control = "select"
		for _, v := range s.Enum {
			f.Options = append(f.Options, v.(string))
		}
	case s.Format == "textarea":
		f.Control = "textarea"
	case s.Format == "email":
		f.Control = "email"
	case s.Format == "uri":
		f.Control = "url"
	default:
		f.Control = "text"
	}
}

func bound(b *float64) string {
	if b == nil {
		return ""
	}
	return strconv.FormatFloat(*b, 'f', -1, 64)
}

// formInput makes JSON of a form. A control that was left empty is left out; what is no number where one is needed
// goes on as text, so that its field is named. The form's other fields are ignored, as buttons add some.
func formInput(s *jsonschema.Schema, form url.Values, files map[string]*File) (json.RawMessage, error) {
	return json.Marshal(formObject(s, "", form, files))
}

func formObject(s *jsonschema.Schema, path string, form url.Values, files map[string]*File) map[string]any {
	object := map[string]any{}
	for _, name := range s.PropertyOrder {
		at, prop := joinPath(path, name), s.Properties[name]
		// A browser ends lines with CR LF (HTML standard, form submission), and a limit of characters counts one.
		text := strings.ReplaceAll(form.Get(at), "\r\n", "\n")
		if prop.Format == formatFile {
			if file := files[at]; file != nil {
				object[name] = file
			}
			continue
		}
		switch typeOf(prop) {
		case "object":
			object[name] = formObject(prop, at, form, files)
		case "boolean":
			object[name] = text != "" && text != "false"
		case "array":
			if list := formList(prop.Items, text); list != nil {
				object[name] = list
			}
		default:
			if text != "" {
				object[name] = formScalar(prop, text)
			}
		}
	}
	return object
}

func formList(items *jsonschema.Schema, text string) []any {
	var list []any
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, formScalar(items, line))
		}
	}
	return list
}

func formScalar(s *jsonschema.Schema, text string) any {
	switch typeOf(s) {
	case "integer", "number":
		if trimmed := strings.TrimSpace(text); json.Valid([]byte(trimmed)) && strings.Trim(trimmed, "+-.0123456789eE") == "" {
			return json.Number(trimmed)
		}
	case "boolean":
		if b, err := strconv.ParseBool(text); err == nil {
			return b
		}
	}
	return text
}
