package services

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-playground/validator/v10"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/quickscale/quickscale/credits"
)

const draft = "https://json-schema.org/draft/2020-12/schema"

// describeInput reads In once: what its fields take, and the JSON Schema that says so.
func describeInput(v *validator.Validate, t reflect.Type) (*input, json.RawMessage, error) {
	if t.Kind() != reflect.Struct {
		return nil, nil, fmt.Errorf("the input %s is not a struct", t)
	}
	in := &input{goType: t, validate: v, root: &field{}}
	if faults := describe(t, in.root); len(faults) > 0 {
		return nil, nil, fmt.Errorf("the input %s: %w", t, errors.Join(faults...))
	}
	if err := in.probe(); err != nil {
		return nil, nil, err
	}
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{reflect.TypeFor[File](): fileSchema()}})
	if err != nil {
		return nil, nil, fmt.Errorf("the schema of %s: %w", t, err)
	}
	in.root.decorate(s)
	in.schema, in.files = s, in.root.hasFile()
	text, err := marshalSchema(s)
	return in, text, err
}

// describeOutput makes the JSON Schema of Out, which must encode as an object.
func describeOutput(t reflect.Type) (json.RawMessage, error) {
	if t.Kind() != reflect.Struct && (t.Kind() != reflect.Map || t.Key().Kind() != reflect.String) {
		return nil, fmt.Errorf("the output %s is neither a struct nor a map with text keys", t)
	}
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[credits.Amount](): {Type: "string"},
	}})
	if err != nil {
		return nil, fmt.Errorf("the schema of %s: %w", t, err)
	}
	return marshalSchema(s)
}

func marshalSchema(s *jsonschema.Schema) (json.RawMessage, error) {
	s.Schema = draft
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return text, nil
}

// fileSchema is a [File] in JSON.
func fileSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type: "object", Format: "file", Required: []string{"data"}, PropertyOrder: []string{"name", "type", "data"}, AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}},
		Properties: map[string]*jsonschema.Schema{
			"name": {Type: "string"}, "type": {Type: "string", ReadOnly: true}, "data": {Type: "string", ContentEncoding: "base64"},
		},
	}
}

// decorate adds to the schema of a type what the field's tags say. What is required is what has that rule.
func (f *field) decorate(s *jsonschema.Schema) {
	s.Title, s.Description = f.label, f.hint
	if f.textarea {
		s.Format = "textarea"
	}
	for _, v := range f.enum {
		s.Enum = append(s.Enum, v)
	}
	for _, r := range f.rules {
		f.constrain(s, r)
	}
	if f.required && f.kind == kindText && s.Enum == nil && s.MinLength == nil {
		s.MinLength = new(1) // required text is not empty
	}
	switch f.kind {
	case kindObject:
		s.Required = nil
		for _, child := range f.fields {
			if child.required {
				s.Required = append(s.Required, child.name)
			}
			child.decorate(s.Properties[child.name])
		}
	case kindList:
		// Null is refused, though encoding/json would take it.
		s.Type, s.Types = "array", nil
		f.elem.decorate(s.Items)
	case kindFile:
		if len(f.accept) > 0 {
			s.Properties["data"].ContentMediaType = strings.Join(f.accept, ",")
		}
	case kindText, kindInt, kindUint, kindFloat, kindBool:
	}
}

// constrain says a validate rule in JSON Schema, where that has a word for it.
func (f *field) constrain(s *jsonschema.Schema, r rule) {
	switch r.name {
	case "email":
		s.Format = "email"
		return
	case "url", "http_url", "uri":
		s.Format = "uri"
		return
	}
	bound, err := strconv.ParseFloat(r.param, 64)
	if err != nil {
		return
	}
	count := int(bound)
	lower, upper, low, high := &s.Minimum, &s.Maximum, &s.MinLength, &s.MaxLength
	if f.kind == kindList {
		low, high = &s.MinItems, &s.MaxItems
	}
	counted := f.kind == kindText || f.kind == kindList
	switch r.name {
	case "min", "gte":
		setBound(counted, low, &count, lower, &bound)
	case "max", "lte":
		setBound(counted, high, &count, upper, &bound)
	case "gt":
		count++
		setBound(counted, low, &count, &s.ExclusiveMinimum, &bound)
	case "lt":
		count--
		setBound(counted, high, &count, &s.ExclusiveMaximum, &bound)
	case "len":
		setBound(counted, low, &count, lower, &bound)
		setBound(counted, high, &count, upper, &bound)
	}
}

func setBound(counted bool, length **int, count *int, number **float64, bound *float64) {
	if counted {
		*length = count
	} else {
		*number = bound
	}
}
