package services

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-playground/validator/v10"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/quickscale/quickscale/internal/problem"
)

// input is the type of a service's input, in the terms that its schema, its form and its validation share.
type input struct {
	goType   reflect.Type
	validate *validator.Validate
	root     *field
	schema   *jsonschema.Schema
	files    bool // there is a file among the fields
}

// field is one place in an input: the whole, a field of a struct, or the elements of a list.
type field struct {
	name  string // as JSON has it
	path  string // from the root, joined by points
	label string
	hint  string
	kind  kind
	bits  int // of numbers
	// nullable says that null is taken, as for a pointer.
	nullable bool
	required bool
	textarea bool
	enum     []string
	accept   []string // of a file, types of content
	fields   []*field // of an object
	elem     *field   // of a list
	rules    []rule
}

type kind int

const (
	kindText kind = iota
	kindInt
	kindUint
	kindFloat
	kindBool
	kindList
	kindObject
	kindFile
)

// rule is one word of a validate tag.
type rule struct{ name, param string }

// describe finds out what a Go type takes. Faults name the field by its path.
func describe(t reflect.Type, f *field) []error {
	if t.Kind() == reflect.Pointer {
		f.nullable = true
		if t = t.Elem(); t.Kind() == reflect.Pointer || t.Kind() == reflect.Struct || t.Kind() == reflect.Slice {
			return []error{fmt.Errorf("field %s: a pointer may lead to text, a number or a boolean only", f.path)}
		}
	}
	if t == reflect.TypeFor[File]() {
		f.kind = kindFile
		return nil
	}
	for _, special := range []reflect.Type{reflect.TypeFor[json.Unmarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()} {
		if reflect.PointerTo(t).Implements(special) {
			return []error{fmt.Errorf("field %s: %s decodes itself, which a form cannot; use text or a number", f.path, t)}
		}
	}
	switch t.Kind() {
	case reflect.String:
		f.kind = kindText
	case reflect.Bool:
		f.kind = kindBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		f.kind, f.bits = kindInt, t.Bits()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		f.kind, f.bits = kindUint, t.Bits()
	case reflect.Float32, reflect.Float64:
		f.kind, f.bits = kindFloat, t.Bits()
	case reflect.Slice:
		return describeList(t, f)
	case reflect.Struct:
		return describeStruct(t, f)
	default:
		return []error{fmt.Errorf("field %s: %s is not supported", f.path, t)}
	}
	return nil
}

func describeList(t reflect.Type, f *field) []error {
	f.kind, f.elem = kindList, &field{path: f.path + "[]"}
	faults := describe(t.Elem(), f.elem)
	switch {
	case t.Elem().Kind() == reflect.Uint8:
		// JSON has bytes in base64.
		faults = append(faults, fmt.Errorf("field %s: bytes are not supported", f.path))
	case f.elem.kind == kindObject || f.elem.kind == kindFile || f.elem.kind == kindList || f.elem.nullable:
		faults = append(faults, fmt.Errorf("field %s: a list holds text, numbers or booleans", f.path))
	}
	return faults
}

func describeStruct(t reflect.Type, f *field) []error {
	f.kind = kindObject
	var faults []error
	for sf := range t.Fields() {
		child := &field{path: joinPath(f.path, sf.Name)}
		fault := func(message string) { faults = append(faults, fmt.Errorf("field %s: %s", child.path, message)) }
		tag, settings, _ := strings.Cut(sf.Tag.Get("json"), ",")
		switch {
		case tag == "-" && settings == "":
			continue
		case sf.Anonymous:
			fault("embedded fields are not supported")
			continue
		case !sf.IsExported():
			fault("it is not exported, so JSON cannot fill it")
			continue
		case tag == "" || strings.ContainsAny(tag, ".[]"):
			fault("it needs a json name without points and brackets")
			continue
		case strings.Contains(settings, "string"):
			fault("the json setting string is not supported")
			continue
		case slices.ContainsFunc(f.fields, func(o *field) bool { return o.name == tag }):
			fault("its json name stands twice")
			continue
		}
		child.name, child.path = tag, joinPath(f.path, tag)
		faults = append(faults, describe(sf.Type, child)...)
		faults = append(faults, child.read(sf.Tag)...)
		f.fields = append(f.fields, child)
	}
	return faults
}

func joinPath(parent, name string) string {
	if parent == "" {
		return name
	}
	return parent + "." + name
}

// quoted are the values of validator's oneof, of which those with spaces stand in quotes.
var quoted = regexp.MustCompile(`'[^']*'|\S+`)

// read takes what the tags say about a field.
func (f *field) read(tag reflect.StructTag) (faults []error) {
	f.label, f.hint = tag.Get("title"), tag.Get("description")
	if f.label == "" {
		f.label = humanize(f.name)
	}
	at := f
	for word := range strings.SplitSeq(tag.Get("validate"), ",") {
		name, param, _ := strings.Cut(word, "=")
		switch {
		case name == "dive" && f.elem != nil:
			at = f.elem
		case name == "required":
			at.required = true
		case name == "oneof" && at.kind == kindText:
			for _, v := range quoted.FindAllString(param, -1) {
				at.enum = append(at.enum, strings.Trim(v, "'"))
			}
		}
		if !strings.Contains(word, "|") {
			at.rules = append(at.rules, rule{name, param})
		}
	}
	if enum, ok := tag.Lookup("enum"); ok {
		at := f
		if f.kind == kindList {
			at = f.elem
		}
		if at.kind != kindText || enum == "" {
			faults = append(faults, fmt.Errorf("field %s: an enum lists the values of text", f.path))
		}
		at.enum = strings.Split(enum, ",")
	}
	if accept, ok := tag.Lookup("accept"); ok {
		if f.accept = strings.Split(accept, ","); f.kind != kindFile {
			faults = append(faults, fmt.Errorf("field %s: accept names the types of a file", f.path))
		}
	}
	switch format := tag.Get("format"); {
	case format == "":
	case format == "textarea" && f.kind == kindText && f.enum == nil:
		f.textarea = true
	default:
		faults = append(faults, fmt.Errorf("field %s: the format %q is not textarea on text without an enum", f.path, format))
	}
	return faults
}

// humanize makes a label of a JSON name: word_count becomes Word count.
func humanize(name string) string {
	words := strings.Join(strings.FieldsFunc(name, func(r rune) bool { return r == '_' || r == '-' }), " ")
	if words == "" {
		return name
	}
	return strings.ToUpper(words[:1]) + words[1:]
}

// decode makes a valid value of In from JSON. The errors are [web.ErrMalformed] and one of code invalid that has all
// fields at fault.
func (in *input) decode(raw []byte) (any, error) {
	tree, err := treeOf(raw)
	if err != nil {
		return nil, err
	}
	wrong := map[string]string{}
	in.root.check(tree, "", wrong)
	if len(wrong) > 0 {
		return nil, problem.Invalid(wrong)
	}
	clean := raw
	if in.files || members(raw) != membersOf(tree) {
		// Written anew, the tree has no key twice, of which encoding/json would take a part each, and what is known of its files.
		if clean, err = json.Marshal(tree); err != nil {
			return nil, fmt.Errorf("services: write the input anew: %w", err)
		}
	}
	v := reflect.New(in.goType)
	if err := json.Unmarshal(clean, v.Interface()); err != nil {
		return nil, fmt.Errorf("services: decode the checked input: %w", err)
	}
	return in.valid(v.Elem().Interface())
}

// members counts the members of all objects in a JSON text, and membersOf those in what it was decoded into: fewer where a
// key stands twice.
func members(raw []byte) (n int) {
	text := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			text = !text
		case c == '\\':
			i++ // stands in texts alone
		case c == ':' && !text:
			n++
		}
	}
	return n
}

func membersOf(tree any) (n int) {
	switch v := tree.(type) {
	case map[string]any:
		n = len(v)
		for _, part := range v {
			n += membersOf(part)
		}
	case []any:
		for _, part := range v {
			n += membersOf(part)
		}
	}
	return n
}

// valid checks a value of In by its validate rules.
func (in *input) valid(v any) (any, error) {
	err := in.validate.Struct(v)
	if broken, ok := errors.AsType[validator.ValidationErrors](err); ok {
		wrong := map[string]string{}
		for _, b := range broken {
			// The namespace begins with the name of the type.
			_, path, _ := strings.Cut(b.Namespace(), ".")
			wrong[path] = sentence(b)
		}
		return nil, problem.Invalid(wrong)
	}
	if err != nil {
		return nil, fmt.Errorf("services: validate: %w", err)
	}
	return v, nil
}

// fingerprint condenses a value of In for comparison under one idempotency key. Fields without a value are left out, so
// that a repetition is known again by a version of the program whose input has one field more.
func fingerprint(service string, v any) (string, error) {
	text, err := json.Marshal([]any{service, filled(reflect.ValueOf(v))})
	if err != nil {
		return "", fmt.Errorf("services: fingerprint: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// filled is a struct as a map of the fields that have a value, and everything else as it is. A pointer to zero is a value.
func filled(v reflect.Value) any {
	if v.Kind() != reflect.Struct {
		return v.Interface()
	}
	m := map[string]any{}
	for f, value := range v.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "-" && !value.IsZero() {
			m[name] = filled(value)
		}
	}
	return m
}

// check compares a decoded JSON value with what the field takes, and puts a sentence for each fault under its path.
func (f *field) check(v any, path string, wrong map[string]string) {
	if v == nil {
		switch {
		case f.nullable && !f.required:
		case f.required:
			wrong[path] = "This is required."
		default:
			wrong[path] = f.wants()
		}
		return
	}
	ok := false
	switch f.kind {
	case kindText:
		var text string
		if text, ok = v.(string); ok && f.enum != nil && !slices.Contains(f.enum, text) {
			wrong[path] = "Choose one of: " + strings.Join(f.enum, ", ") + "."
			return
		}
	case kindBool:
		_, ok = v.(bool)
	case kindInt, kindUint, kindFloat:
		var n json.Number
		if n, ok = v.(json.Number); ok {
			ok = f.holds(n.String())
		}
	case kindList:
		var list []any
		if list, ok = v.([]any); ok {
			for i, item := range list {
				f.elem.check(item, fmt.Sprintf("%s[%d]", path, i), wrong)
			}
		}
	case kindFile:
		var object map[string]any
		if object, ok = v.(map[string]any); ok {
			f.checkFile(object, path, wrong)
		}
	case kindObject:
		var object map[string]any
		if object, ok = v.(map[string]any); ok {
			f.checkObject(object, path, wrong)
		}
	}
	if !ok {
		wrong[path] = f.wants()
	}
}

func (f *field) checkObject(object map[string]any, path string, wrong map[string]string) {
	for name, v := range object {
		at := joinPath(path, name)
		i := slices.IndexFunc(f.fields, func(c *field) bool { return c.name == name })
		if i < 0 {
			wrong[at] = "There is no such field."
			continue
		}
		f.fields[i].check(v, at, wrong)
	}
	for _, child := range f.fields {
		if _, ok := object[child.name]; !ok && child.required {
			wrong[joinPath(path, child.name)] = "This is required."
		}
	}
}

// holds tells that a JSON number fits the field's Go type.
func (f *field) holds(literal string) bool {
	var err error
	switch f.kind {
	case kindInt:
		_, err = strconv.ParseInt(literal, 10, f.bits)
	case kindUint:
		_, err = strconv.ParseUint(literal, 10, f.bits)
	case kindFloat:
		_, err = strconv.ParseFloat(literal, f.bits)
	case kindText, kindBool, kindList, kindObject, kindFile:
		return false
	}
	return err == nil
}

// wants is the sentence about a value of the wrong kind.
func (f *field) wants() string {
	switch f.kind {
	case kindText:
		return "This must be text."
	case kindInt:
		return fmt.Sprintf("This must be a whole number of %d bits.", f.bits)
	case kindUint:
		return fmt.Sprintf("This must be a whole number of %d bits, zero or more.", f.bits)
	case kindFloat:
		return "This must be a number."
	case kindBool:
		return "This must be true or false."
	case kindList:
		return "This must be a list."
	case kindFile:
		return "This must be a file; in JSON an object with name and data, the latter in base64."
	case kindObject:
	}
	return "This must be an object with fields."
}
