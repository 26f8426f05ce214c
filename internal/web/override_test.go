package web_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/web"
)

type address struct{ Street string }

func (address) Line() string { return "a line" }

type person struct {
	Name    string
	Home    *address
	Friends []person
	Ages    map[string]int
	Any     any
	hidden  string
}

// drawn makes a site with the host's files, and a package with one page that the host replaces by content.
func drawn(t *testing.T, content string, files map[string]string) (string, error) {
	t.Helper()
	host := fstest.MapFS{"test/page.html": {Data: []byte(content)}}
	for name, text := range files {
		host[name] = &fstest.MapFile{Data: []byte(text)}
	}
	site, err := web.New(web.Config{Name: "Acme", Templates: host})
	if err != nil {
		return "", err
	}
	views, err := site.Views("test", fstest.MapFS{"templates/page.html": {Data: []byte(`{{define "title"}}{{end}}{{define "content"}}built in{{end}}`)}},
		map[string]any{"page": person{}})
	if err != nil {
		return "", err
	}
	if err := site.CheckTemplates([]string{"test/page.html", "web/layout.html", "web/header.html", "web/components/field.html"}); err != nil {
		return "", err
	}
	w := httptest.NewRecorder()
	grace := person{Name: "Grace", Home: &address{"Main"}, hidden: "h", Any: map[string]int{"one": 1}}
	views.Render(w, httptest.NewRequest(http.MethodGet, "/", nil), 200, "page", grace)
	require.Equal(t, 200, w.Code, w.Body.String())
	return w.Body.String(), nil
}

const titled = `{{define "title"}}T{{end}}`

func TestOverride_OneThingAndTheRestStays(t *testing.T) {
	t.Parallel()
	const page = titled + `{{define "content"}}mine: {{.Data.Name}} {{template "field" (dict "Name" "n" "Label" "L")}}{{end}}`
	for name, c := range map[string]struct {
		files  map[string]string
		has    []string
		hasNot []string
	}{
		"a page":        {nil, []string{"mine: Grace", `class="input"`, "<header>"}, []string{"built in"}},
		"one component": {map[string]string{"web/components/field.html": `{{define "field"}}my field {{.Label}}{{end}}`}, []string{"my field L", "<header>"}, []string{`class="input"`}},
		"the header":    {map[string]string{"web/header.html": `{{define "header"}}my header{{end}}`}, []string{"my header", `class="input"`}, []string{"<header>"}},
		"the layout":    {map[string]string{"web/layout.html": `{{template "title" .}}|{{block "head" .}}{{end}}{{template "content" .}}`}, []string{"T|mine: Grace", `class="input"`}, []string{"<html"}},
		"a new one":     {map[string]string{"web/components/shout.html": `{{define "shout"}}{{.}}!{{end}}`, "web/header.html": `{{define "header"}}{{template "shout" "HEY"}}{{end}}`}, []string{"HEY!"}, nil},
		"a block":       {map[string]string{"web/layout.html": `{{block "head" .}}my head{{end}}{{template "title" .}}{{template "content" .}}`}, []string{"my head"}, nil},
	} {
		body, err := drawn(t, page, c.files)
		require.NoError(t, err, name)
		for _, text := range c.has {
			assert.Contains(t, body, text, name)
		}
		for _, text := range c.hasNot {
			assert.NotContains(t, body, text, name)
		}
	}
}

// A template that does not fit is told at the start, with its file, its line and what does not fit.
func TestOverride_MistakesAreToldAtTheStart(t *testing.T) {
	t.Parallel()
	content := func(text string) string { return titled + `{{define "content"}}` + text + `{{end}}` }
	const fine = titled + `{{define "content"}}{{end}}`
	for name, c := range map[string]struct {
		page  string
		files map[string]string
		want  []string
	}{
		"a field":                {content("\n{{.Data.Titel}}"), nil, []string{"test/page.html:2:", "web_test.person has no field or method Titel"}},
		"behind a pointer":       {content(`{{.Data.Home.Steret}}`), nil, []string{"test/page.html:1:", "address has no field or method Steret"}},
		"of the page":            {content(`{{.Titel}}`), nil, []string{"a page has no field or method Titel"}},
		"not exported":           {content(`{{.Data.hidden}}`), nil, []string{"hidden"}},
		"in with":                {content(`{{with .Data.Home}}{{.Nope}}{{end}}`), nil, []string{"Nope"}},
		"in else":                {content(`{{with .Data.Home}}{{else}}{{.Data.Nope}}{{end}}`), nil, []string{"Nope"}},
		"in range":               {content(`{{range $i, $f := .Data.Friends}}{{$i}}{{$f.Name}}{{.Nope}}{{end}}`), nil, []string{"Nope"}},
		"of a variable":          {content(`{{$d := .Data}}{{$d.Nope}}`), nil, []string{"$d.Nope"}},
		"of $":                   {content(`{{range .Data.Friends}}{{$.Nope}}{{end}}`), nil, []string{"$.Nope"}},
		"of an argument":         {content(`{{if and .Data.Name (not .Data.Nope)}}{{end}}`), nil, []string{"Nope"}},
		"of a parenthesis":       {content(`{{(index .Data.Friends 0).Nope}}`), nil, []string{"Nope"}},
		"handed to a template":   {content(`{{template "x" .Data.Home}}{{end}}{{define "x"}}{{.Nope}}`), nil, []string{"Nope"}},
		"handed in a dict":       {content(`{{template "x" (dict "A" .Data)}}{{end}}{{define "x"}}{{.A.Nope}}`), nil, []string{"Nope"}},
		"a range over one":       {content(`{{range .Data.Home}}{{end}}`), nil, []string{"*web_test.address has no elements"}},
		"an undefined template":  {content(`{{if .Data.Name}}{{template "nowhere" .}}{{end}}`), nil, []string{"test/page.html:1:", `no file defines this template`, "nowhere"}},
		"an undefined function":  {content(`{{shout .}}`), nil, []string{"test/page.html", `"shout" not defined`}},
		"that does not parse":    {content(`{{if}}`), nil, []string{"test/page.html"}},
		"that cannot be escaped": {content(`<a {{if .Alert}}href="{{end}}>`), nil, []string{"test/page.html"}},
		"no content":             {titled, nil, []string{"test/page.html", `no template "content"`}},
		"no title":               {`{{define "content"}}{{end}}`, nil, []string{"test/page.html", `no template "title"`}},
		"a component renamed":    {fine, map[string]string{"web/components/field.html": `{{define "feild"}}{{end}}`}, []string{"web/components/field.html", `"field"`}},
		"a component's mistake":  {content(`{{template "field" (dict "Name" .Data)}}`), map[string]string{"web/components/field.html": `{{define "field"}}{{.Name.Nope}}{{end}}`}, []string{"web/components/field.html:1:", "Nope"}},
		"the header's mistake":   {fine, map[string]string{"web/header.html": `{{define "header"}}{{.Chrome.Persn}}{{end}}`}, []string{"web/header.html:1:", "Persn"}},
		"a layout without pages": {fine, map[string]string{"web/layout.html": `{{template "title" .}}{{block "head" .}}{{end}}`}, []string{"web/layout.html", `no template "content"`}},
		"a layout without head":  {fine, map[string]string{"web/layout.html": `{{template "title" .}}{{template "content" .}}`}, []string{"web/layout.html", `no template "head"`}},
		"a file that is none":    {fine, map[string]string{"test/pgae.html": ``}, []string{"test/pgae.html", "replaces nothing"}},
	} {
		_, err := drawn(t, c.page, c.files)
		require.Error(t, err, name)
		for _, said := range c.want {
			assert.ErrorContains(t, err, said, name)
		}
	}
}

// What is not known before there are values is let through, and so is all that text/template takes.
func TestOverride_WhatMayBeRightPasses(t *testing.T) {
	t.Parallel()
	body, err := drawn(t, titled+`{{define "content"}}{{.Data.Any.one}} {{.Data.Home.Line}} {{.Data.Ages.some}} {{index .Fields "x"}}
{{range .Data.Any}}{{.}}{{end}}{{range 3}}{{.}}{{end}}{{with $x := .Data.Home}}{{$x.Street}}{{end}}{{with .Data.Friends}}{{len .}}{{else with .Data.Name}}{{.}}{{end}}
{{$v := 1}}{{if .Data.Name}}{{$v = .Data.Name}}{{end}}{{$v}}{{(or .Data.Home .Data.Name).Street}}{{template "down" .Data}}
{{range .Data.Friends}}{{if .Name}}{{continue}}{{end}}{{break}}{{else}}none{{end}}{{/* a comment */}}{{printf "%s" .Data.Name | len}}{{end}}{{define "down"}}{{range .Friends}}{{template "down" .}}{{end}}{{end}}`, nil)
	require.NoError(t, err)
	assert.Contains(t, body, "a line")
}

func TestRender_RefusesDataThatWasNotChecked(t *testing.T) {
	t.Parallel()
	site := newSite(t, web.Config{})
	views, err := site.Views("test", hello, map[string]any{"hello": ""})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	views.Render(w, httptest.NewRequest(http.MethodGet, "/", nil), 200, "hello", 1)
	assert.Equal(t, 500, w.Code)
	_, err = site.Views("test", hello, map[string]any{"helo": ""})
	require.ErrorContains(t, err, `"helo"`)
}
