package services

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// sampleInput is an input that documentation shows: every required field, and where none is, the first one. It follows
// the schema as far as that goes; a rule that has no word in a schema may refuse it.
func sampleInput(s *jsonschema.Schema) json.RawMessage {
	var b bytes.Buffer
	writeSample(&b, s, true)
	return b.Bytes()
}

func writeSample(b *bytes.Buffer, s *jsonschema.Schema, whole bool) {
	switch kind := typeOf(s); {
	case s.Format == formatFile:
		b.WriteString(`{"name":"example.txt","data":"aGVsbG8="}`)
	case kind == "object":
		writeSampleObject(b, s, whole)
	case kind == "array":
		b.WriteByte('[')
		for i := range max(1, value(s.MinItems)) {
			if i > 0 {
				b.WriteByte(',')
			}
			writeSample(b, s.Items, false)
		}
		b.WriteByte(']')
	case kind == "boolean":
		b.WriteString("true")
	case kind == "integer" || kind == "number":
		fmt.Fprint(b, sampleNumber(s))
	default:
		b.Write(quoteText(sampleText(s)))
	}
}

func writeSampleObject(b *bytes.Buffer, s *jsonschema.Schema, whole bool) {
	names := slices.DeleteFunc(slices.Clone(s.PropertyOrder), func(name string) bool { return !slices.Contains(s.Required, name) })
	if len(names) == 0 && whole && len(s.PropertyOrder) > 0 {
		names = s.PropertyOrder[:1]
	}
	b.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(quoteText(name))
		b.WriteByte(':')
		writeSample(b, s.Properties[name], false)
	}
	b.WriteByte('}')
}

// quoteText writes text as JSON without the escapes that only HTML needs.
func quoteText(text string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		panic(err) // text can always be written, and a buffer takes it
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func sampleNumber(s *jsonschema.Schema) float64 {
	n := 1.0
	switch {
	case s.Minimum != nil:
		n = max(n, *s.Minimum)
	case s.ExclusiveMinimum != nil:
		n = max(n, *s.ExclusiveMinimum+1)
	}
	if s.Maximum != nil {
		n = min(n, *s.Maximum)
	}
	return n
}

func sampleText(s *jsonschema.Schema) string {
	switch {
	case len(s.Enum) > 0:
		return fmt.Sprint(s.Enum[0])
	case s.Format == "email":
		return "name@example.com"
	case s.Format == "uri":
		return "https://example.com/"
	}
	text := "hello"
	if least := value(s.MinLength); len(text) < least {
		text = strings.Repeat(text, least/len(text)+1)[:least]
	}
	if s.MaxLength != nil && len(text) > *s.MaxLength {
		text = text[:*s.MaxLength]
	}
	return text
}
