package servicegen_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/modtest"
	"github.com/quickscale/quickscale/internal/servicegen"
)

// lineOf is where a text stands first in a file of a project.
func lineOf(t *testing.T, dir, file, text string) int {
	t.Helper()
	before, _, ok := strings.Cut(read(t, dir, file), text)
	require.True(t, ok, "%s is not in %s", text, file)
	return strings.Count(before, "\n") + 1
}

func TestLoad_SaysWhatIsWrongWhereAndHowToMendIt(t *testing.T) {
	t.Parallel()
	dir := modtest.New(t, read(t, "testdata", "faulty.project"))
	p, err := servicegen.Load(t.Context(), dir)
	require.NoError(t, err)

	for _, c := range []struct {
		severity                  servicegen.Severity
		file, at, message, remedy string
	}{
		{servicegen.Error, "inputs/inputs.go", "\tBase\n", "field Base: embedded fields are not supported.", "Write its fields out"},
		{servicegen.Error, "inputs/inputs.go", "hidden", "field hidden: it is not exported", "capital letter"},
		{servicegen.Error, "inputs/inputs.go", "NoName", "field NoName: it needs a json name", "`json:\"no_name\"`"},
		{servicegen.Error, "inputs/inputs.go", "Second", "field Second: its json name first stands twice.", "another"},
		{servicegen.Error, "inputs/inputs.go", "Quoted", "field Quoted: the json setting string", "Leave ,string out"},
		{servicegen.Error, "inputs/inputs.go", "When ", "field When: time.Time decodes itself", "Use text"},
		{servicegen.Error, "inputs/inputs.go", "Bytes", "field Bytes: bytes are not supported.", "services.File"},
		{servicegen.Error, "inputs/inputs.go", "Objects", "field Objects: a list holds text", "text of JSON"},
		{servicegen.Error, "inputs/inputs.go", "Map ", "field Map: map[string]string is not supported.", "Use text"},
		{servicegen.Error, "inputs/inputs.go", "Deep", "field Deep: a pointer may lead to", "the value itself"},
		{servicegen.Error, "inputs/inputs.go", "Rule ", `rule validate:"max=1,oneoff=a b" cannot be read`, "go-playground/validator"},
		{servicegen.Error, "inputs/inputs.go", "Length", `rule validate:"min=few" cannot be read`, "fit a int"},
		{servicegen.Error, "inputs/inputs.go", "Nested", "field Nested.X: any is not supported.", "Use text"},
		{servicegen.Error, "inputs/inputs.go", `"Word Count"`, `The name "Word Count" cannot stand in a URL.`, `"word-count"`},
		{servicegen.Error, "inputs/inputs.go", `services.Info{Name`, "has no title", "Info.Title"},
		{servicegen.Error, "inputs/inputs.go", "type Service", "The output int of Word Count is not a JSON object.", "Return a struct"},
		{servicegen.Error, "half/half.go", "type Half", "Half has no method Pricing.", "Add func (Half) Pricing() services.Pricing."},
		{servicegen.Error, "half/half.go", "func (Half) Execute", "Execute of Half has another signature", "in Input) (Output, error)"},
		{servicegen.Error, "broken/broken.go", `"strings"`, "imported and not used", "Remove the import"},
		{servicegen.Error, "broken/broken.go", "return undeclared", "undefined: undeclared", "Declare the name"},
		{servicegen.Error, "broken/broken.go", "type Service", "Service has no method Info.", "Add func (Service) Info() services.Info."},
		{servicegen.Error, "main.go", `services.Func(`, `The name "good" is taken in version "1" by good/good.go`, "another version"},
		{servicegen.Warning, "unwise/unwise.go", "time.Sleep(", "time.Sleep does not end", "ctx.Done()"},
		{servicegen.Warning, "unwise/unwise.go", "context.Background", "context of its own", "Pass on the ctx"},
		{servicegen.Warning, "unwise/unwise.go", "http.Get", "This request does not end", "NewRequestWithContext"},
		{servicegen.Warning, "unwise/unwise.go", "log.Fatal", "ends the whole program", "Return an error"},
		{servicegen.Tip, "unwise/unwise.go", "panic(", "Execute panics", "services.Failure"},
		{servicegen.Tip, "unwise/unwise.go", "Text string", "field Text has no bound", "max="},
		{servicegen.Tip, "unwise/unwise.go", "Text string", "explains itself by its name only", "title"},
		{servicegen.Tip, "unwise/unwise.go", "services.Info{", "has no summary", "Info.Summary"},
		{servicegen.Tip, "unwise/unwise.go", "services.Info{", "has no version", "Info.Version"},
		{servicegen.Tip, "unwise/unwise.go", "type Service", "is free", "services.Fixed"},
		{servicegen.Tip, "unwise/unwise.go", "type Service", "has no test", "NewCall"},
	} {
		line := lineOf(t, dir, c.file, c.at)
		assert.True(t, slices.ContainsFunc(p.Findings, func(f servicegen.Finding) bool {
			return f.Severity == c.severity && f.File == c.file && f.Line == line && strings.Contains(f.Message, c.message) && strings.Contains(f.Fix, c.remedy)
		}), "%s:%d %s", c.file, line, c.message)
	}
	// Go says where it noticed, which is the end of the file here.
	assert.True(t, slices.ContainsFunc(p.Findings, func(f servicegen.Finding) bool {
		return f.File == "syntax/syntax.go" && f.Severity == servicegen.Error && f.Line > 0 && strings.Contains(f.Fix, "bracket")
	}))
	for _, f := range p.Findings {
		assert.NotContains(t, f.File, "good", "%+v: nothing is wrong there", f)
		assert.NotEmpty(t, f.Fix, "%+v", f)
		assert.False(t, filepath.IsAbs(f.File), "%+v", f)
	}
	if t.Failed() {
		for _, f := range p.Findings {
			t.Logf("%+v", f)
		}
	}

	var list []string
	for _, s := range p.Services {
		list = append(list, fmt.Sprintf("%s %s %s %v", s.Name, s.Price, s.File, s.Registered != ""))
	}
	assert.ElementsMatch(t, []string{
		"good fixed good/good.go true", "good free main.go true", "Word Count free inputs/inputs.go true", "half  half/half.go false",
		"  broken/broken.go false", "unwise free unwise/unwise.go true",
	}, list)
}

func TestSelect_TakesANameAFolderOrAFile(t *testing.T) {
	t.Parallel()
	dir := modtest.New(t, read(t, "testdata", "faulty.project"))
	whole, err := servicegen.Load(t.Context(), filepath.Join(dir, "good"))
	require.NoError(t, err)
	for what, want := range map[string]struct {
		found    bool
		services int
		clean    bool
	}{
		"good":                                   {true, 2, false}, // a type, and the function of the same name
		filepath.Join(dir, "good"):               {true, 1, true},
		filepath.Join(dir, "good", "good.go"):    {true, 1, true},
		"unwise":                                 {true, 1, false},
		"Half":                                   {true, 1, false},
		filepath.Join(dir, "syntax"):             {true, 0, false}, // no service was read, and that is the finding
		dir:                                      {true, 6, false},
		"nobody":                                 {false, 0, false},
		filepath.Join(dir, "services", "nobody"): {false, 0, false},
		t.TempDir():                              {false, 0, false},
	} {
		p := *whole
		assert.Equal(t, want.found, p.Select(what), what)
		if want.found {
			assert.Len(t, p.Services, want.services, what)
			assert.Equal(t, want.clean, len(p.Findings) == 0, "%s: %+v", what, p.Findings)
		}
	}
}
