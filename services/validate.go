package services

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/go-playground/validator/v10"

	"github.com/quickscale/quickscale/internal/problem"
)

// FieldsOf returns the sentences about the fields of an input that was refused, by path, or nil for any other error.
func FieldsOf(err error) map[string]string { return problem.FieldsOf(err) }

func newValidator() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		return name
	})
	return v
}

// probe finds validate rules that do not exist or do not fit their field, at which the validator panics. It reads the
// rules of a field only when it meets the field, so an empty value and a filled one are both tried.
func (in *input) probe() (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("a validate tag of %s: %v", in.goType, cause)
		}
	}()
	for _, fill := range []bool{false, true} {
		v := reflect.New(in.goType).Elem()
		if fill {
			fillValue(v)
		}
		// Whether the value is valid does not matter here.
		_ = in.validate.Struct(v.Interface())
	}
	return nil
}

// fillValue gives each field of v a value that is not zero.
func fillValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range v.Fields() {
			if f.CanSet() {
				fillValue(f)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillValue(v.Index(0))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(v.Elem())
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	default:
		switch {
		case v.CanInt():
			v.SetInt(1)
		case v.CanUint():
			v.SetUint(1)
		case v.CanFloat():
			v.SetFloat(1)
		}
	}
}

// sentence says how to mend a broken rule.
func sentence(e validator.FieldError) string {
	amount := e.Param() // of what min and its like count
	switch e.Kind() {
	case reflect.String:
		amount += plural(" character", " characters", amount) + " long"
	case reflect.Slice:
		amount += plural(" entry", " entries", amount) + " long"
	default:
	}
	switch rule := e.Tag(); {
	case strings.HasPrefix(rule, "required"):
		return "This is required."
	case rule == "len":
		return "This must be exactly " + amount + "."
	case rule == "min" || rule == "gte":
		return "This must be at least " + amount + "."
	case rule == "max" || rule == "lte":
		return "This must be at most " + amount + "."
	case rule == "gt":
		return "This must be more than " + amount + "."
	case rule == "lt":
		return "This must be less than " + amount + "."
	case rule == "oneof":
		return "Choose one of: " + e.Param() + "."
	case rule == "email":
		return "Enter an e-mail address, such as name@example.com."
	case rule == "url" || rule == "http_url" || rule == "uri":
		return "Enter an address that begins with https://."
	case rule == "unique":
		return "No entry may stand twice."
	case e.Param() != "":
		return "This must satisfy the rule " + rule + " " + e.Param() + "."
	default:
		return "This must satisfy the rule " + rule + "."
	}
}

func plural(one, many, count string) string {
	if count == "1" {
		return one
	}
	return many
}
