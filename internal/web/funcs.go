package web

import (
	"errors"
	"fmt"
	"html/template"
	"time"
)

// funcs are what templates can call besides html/template's own.
func (s *Site) funcs() template.FuncMap {
	return template.FuncMap{
		"asset":    s.assets.url,
		"theme":    func() string { return s.theme },
		"dict":     dict,
		"datetime": func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 UTC") },
		"date":     func(t time.Time) string { return t.UTC().Format("2 Jan 2006") },
		"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	}
}

// dict makes the argument of a component: {{template "field" (dict "Name" "email" "Label" "E-mail")}}.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("dict takes names and values in turn")
	}
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is not a name", pairs[i])
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}
