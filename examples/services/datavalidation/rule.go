package datavalidation

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// rule is one demand on a field.
type rule struct {
	name  string
	text  string // as it was given
	bound float64
	oneOf []string
}

// fieldRules are those of one field.
type fieldRules struct {
	field string
	rules []rule
}

// parseRules reads rules of the form field:rule,rule. Its error is a sentence for the caller.
func parseRules(given []string) (all []fieldRules, err error) {
	for _, text := range given {
		field, list, ok := strings.Cut(text, ":")
		if field = strings.TrimSpace(field); !ok || field == "" {
			return nil, fmt.Errorf("The rule %q is not of the form field:rule,rule.", text) //nolint:revive,staticcheck // a sentence for the caller
		}
		f := fieldRules{field: field}
		for word := range strings.SplitSeq(list, ",") {
			r, err := parseRule(strings.TrimSpace(word))
			if err != nil {
				return nil, err
			}
			f.rules = append(f.rules, r)
		}
		all = append(all, f)
	}
	return all, nil
}

var plain = []string{"required", "unique", "integer", "number", "boolean", "date", "email"}

func parseRule(word string) (rule, error) {
	name, param, has := strings.Cut(word, "=")
	r := rule{name: name, text: word}
	switch {
	case slices.Contains(plain, name) && !has:
		return r, nil
	case name == "min" || name == "max" || name == "length":
		var err error
		if r.bound, err = strconv.ParseFloat(param, 64); err == nil && !math.IsNaN(r.bound) && !math.IsInf(r.bound, 0) {
			return r, nil
		}
	case !has && strings.Contains(word, "|"):
		r.name, r.oneOf = "one of", strings.Split(word, "|")
		return r, nil
	}
	return r, errors.New("There is no rule " + strconv.Quote(word) + "; they are " + strings.Join(plain, ", ") + ", min=N, max=N, length=N and one of a|b.")
}

// checker applies rules to records.
type checker struct {
	rules  []fieldRules
	strict bool
	report *report
	seen   map[string]map[string]int // values of unique fields, with the line where they stand
}

func (c *checker) check(rec record) {
	before := c.report.FaultCount
	fault := func(field, rule, message string) {
		c.report.fault(Fault{Line: rec.line, Record: rec.number, Field: field, Rule: rule, Message: message})
	}
	for _, f := range c.rules {
		value, ok := rec.fields[f.field]
		empty := !ok || value == nil || value == ""
		for _, r := range f.rules {
			switch {
			case empty && r.name == "required":
				fault(f.field, r.text, "This is required.")
			case empty || r.name == "required":
			case r.name == "unique":
				if line, twice := c.remember(f.field, text(value), rec.line); twice {
					fault(f.field, r.text, fmt.Sprintf("This stands on line %d already.", line))
				}
			default:
				if message := r.broken(value); message != "" {
					fault(f.field, r.text, message)
				}
			}
		}
	}
	if c.strict {
		c.unknown(rec, fault)
	}
	if c.report.FaultCount > before {
		c.report.Invalid++
	}
}

func (c *checker) unknown(rec record, fault func(field, rule, message string)) {
	var names []string
	for name := range rec.fields {
		if !slices.ContainsFunc(c.rules, func(f fieldRules) bool { return f.field == name }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		fault(name, "strict", "No rule names this field.")
	}
}

func (c *checker) remember(field, value string, line int) (first int, twice bool) {
	if c.seen[field] == nil {
		c.seen[field] = map[string]int{}
	}
	if first, twice = c.seen[field][value]; !twice {
		c.seen[field][value] = line
	}
	return first, twice
}

// text is a value as CSV would have it.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	default:
		written, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(written)
	}
}

// broken says how a value breaks the rule; empty: it does not.
func (r rule) broken(v any) string {
	t := text(v)
	number, err := strconv.ParseFloat(t, 64)
	numeric := err == nil && !math.IsNaN(number) && !math.IsInf(number, 0)
	switch r.name {
	case "integer":
		if _, err := strconv.ParseInt(t, 10, 64); err != nil {
			return "This must be a whole number."
		}
	case "number":
		if !numeric {
			return "This must be a number."
		}
	case "boolean":
		if t != "true" && t != "false" {
			return "This must be true or false."
		}
	case "date":
		if _, err := time.Parse(time.DateOnly, t); err != nil {
			return "This must be a date such as 2026-03-01."
		}
	case "email":
		if a, err := mail.ParseAddress(t); err != nil || a.Address != t {
			return "This must be an e-mail address."
		}
	case "min":
		if !numeric || number < r.bound {
			return fmt.Sprintf("This must be at least %v.", r.bound)
		}
	case "max":
		if !numeric || number > r.bound {
			return fmt.Sprintf("This must be at most %v.", r.bound)
		}
	case "length":
		if float64(utf8.RuneCountInString(t)) > r.bound {
			return fmt.Sprintf("This must be at most %v characters long.", r.bound)
		}
	case "one of":
		if !slices.Contains(r.oneOf, t) {
			return "This must be one of " + strings.Join(r.oneOf, ", ") + "."
		}
	}
	return ""
}
