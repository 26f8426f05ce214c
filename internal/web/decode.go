package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/quickscale/quickscale/internal/problem"
)

// MaxForm is the largest body that [Decode] takes, in bytes.
const MaxForm = 64 << 10

// Errors that [Decode] returns, besides [problem.Invalid] with the fields at fault.
var (
	ErrMalformed   = problem.New(problem.CodeMalformed, "The request does not parse. Send a form or a JSON object with the documented fields.")
	ErrTooLarge    = problem.New(problem.CodeTooLarge, "The request is larger than this address takes.")
	ErrUnsupported = problem.New("unsupported_media_type", "Send application/json or application/x-www-form-urlencoded.")
)

// Decode reads a form or a JSON object, told apart by the Content-Type, into the struct that dst points to. Its
// fields are named by their json tags and are strings, booleans, integers or lists of strings. A form's other fields are ignored, as
// browsers and buttons add some; a JSON object's are refused. Text is trimmed of white space around it except in
// fields tagged `trim:"no"`, such as passwords. Text that is not valid UTF-8, or holds NUL, is refused.
func Decode(w http.ResponseWriter, r *http.Request, dst any) error {
	r.Body = http.MaxBytesReader(w, r.Body, MaxForm)
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && r.Header.Get("Content-Type") != "" {
		return ErrUnsupported
	}
	switch kind {
	case "application/json":
		err = decodeJSON(r.Body, dst)
	case "application/x-www-form-urlencoded", "":
		if err = r.ParseForm(); err == nil {
			err = decodeForm(r.PostForm, dst)
		}
	default:
		return ErrUnsupported
	}
	if err != nil {
		return decodeError(err)
	}
	return clean(reflect.ValueOf(dst).Elem())
}

func decodeJSON(body io.Reader, dst any) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(dst); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return ErrMalformed
	}
	return nil
}

func decodeError(err error) error {
	var tooLarge *http.MaxBytesError
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &tooLarge):
		return ErrTooLarge
	case errors.As(err, &wrongType) && wrongType.Field != "":
		return problem.Invalid(map[string]string{wrongType.Field: "This must be a " + wrongType.Type.String() + "."})
	case problem.From(err) != nil:
		return err
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return problem.Invalid(map[string]string{strings.Trim(field, `"`): "There is no such field."})
	}
	return fmt.Errorf("%w (%w)", ErrMalformed, err)
}

func decodeForm(form map[string][]string, dst any) error {
	v := reflect.ValueOf(dst).Elem()
	wrong := map[string]string{}
	for f := range v.Type().Fields() {
		name := fieldName(f)
		values := form[name]
		if name == "" || len(values) == 0 {
			continue
		}
		if list, ok := reflect.TypeAssert[*[]string](v.FieldByIndex(f.Index).Addr()); ok {
			*list = values
			continue
		}
		if message := setField(v.FieldByIndex(f.Index), values[0]); message != "" {
			wrong[name] = message
		}
	}
	if len(wrong) > 0 {
		return problem.Invalid(wrong)
	}
	return nil
}

func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" {
		return ""
	}
	return name
}

// setField returns the sentence about a text that the field does not take.
func setField(v reflect.Value, text string) string {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		// A ticked box without a value sends "on".
		switch strings.ToLower(strings.TrimSpace(text)) {
		case "on", "true", "1", "yes":
			v.SetBool(true)
		case "", "off", "false", "0", "no":
			v.SetBool(false)
		default:
			return "This must be true or false."
		}
	case reflect.Int, reflect.Int64:
		if strings.TrimSpace(text) == "" {
			return ""
		}
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, v.Type().Bits())
		if err != nil {
			return "This must be a whole number."
		}
		v.SetInt(n)
	default:
		panic(fmt.Sprintf("web: Decode cannot fill a field of kind %s", v.Kind()))
	}
	return ""
}

// clean trims the texts, and refuses what a database could not keep.
func clean(v reflect.Value) error {
	wrong := map[string]string{}
	for f := range v.Type().Fields() {
		field := v.FieldByIndex(f.Index)
		if list, ok := reflect.TypeAssert[[]string](field); ok && !isText(strings.Join(list, "")) {
			wrong[fieldName(f)] = "This holds characters that are no text."
		}
		if field.Kind() != reflect.String {
			continue
		}
		if !isText(field.String()) {
			wrong[fieldName(f)] = "This holds characters that are no text."
		}
		if f.Tag.Get("trim") != "no" {
			field.SetString(strings.TrimSpace(field.String()))
		}
	}
	if len(wrong) > 0 {
		return problem.Invalid(wrong)
	}
	return nil
}
