package services_test

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/services"
)

// register tries to register a service with the input In and the output Out.
func register[In, Out any](s *services.Services, info services.Info, opts ...services.Option) error {
	return services.Register(s, services.Func(info, services.Free(),
		func(context.Context, *services.Call, In) (out Out, err error) { return out, nil }), opts...)
}

// everything has a field of each kind that an input can have.
type everything struct {
	Text    string   `description:"Say it." format:"textarea"                          json:"text"         title:"Your <text>" validate:"required,min=2,max=10"`
	Line    string   `json:"line"`
	Mail    string   `json:"mail"           validate:"omitempty,email"`
	Site    string   `json:"site"           validate:"omitempty,url"`
	Mode    string   `enum:"fast,slow"      json:"mode"                                validate:"required"`
	Quality string   `json:"quality"        validate:"omitempty,oneof=low 'very high'"`
	Count   int8     `json:"count"          validate:"min=-1,max=100"`
	Size    uint     `json:"size"`
	Ratio   float64  `json:"ratio"          validate:"gt=-1,lt=2"`
	Agree   bool     `json:"agree"`
	Maybe   *int     `json:"maybe"`
	Tags    []string `json:"tags"           validate:"max=2,unique,dive,max=5"`
	Numbers []int    `json:"numbers"`
	Options struct {
		Depth int    `json:"depth" validate:"max=3"`
		Name  string `json:"name"  validate:"required_with=Depth"`
	} `json:"options"`
	Hidden string `json:"-"`
}

func TestRegister_FindsAllFaults(t *testing.T) {
	t.Parallel()
	s := newShop(t, dbtest.SQLite(t, schema)).Services
	ok := services.Info{Name: "taken", Title: "T"}
	require.NoError(t, register[everything, done](s, ok))
	require.ErrorContains(t, register[everything, done](s, ok), `register "taken": the name is taken`)
	for _, name := range []string{"", "Upper", "a_b", "-a", "a-", "a--b", "a/b", "ä", strings.Repeat("a", 64)} {
		require.ErrorContains(t, register[job, done](s, services.Info{Name: name, Title: "T"}), "the name must be", name)
	}
	err := register[struct {
		A chan int          `json:"a"`
		B func()            `json:"b"`
		C map[string]string `json:"c"`
		D any               `json:"d"`
		E [3]int            `json:"e"`
		F [][]string        `json:"f"`
		G []struct{}        `json:"g"`
		H *[]int            `json:"h"`
		I time.Time         `json:"i"`
		J credits.Amount    `json:"j"`
		K []byte            `json:"k"`
		L string            ``
		m string
		N string                `json:"n.n"`
		O int                   `json:"o,string"`
		P int                   `enum:"1,2"      json:"p"`
		Q string                `format:"date"   json:"q"`
		S []*int                `json:"s"`
		T struct{ U complex64 } `json:"t"`
		job
	}, chan int](s, services.Info{Name: "faulty"}, services.Timeout(0))
	for _, want := range []string{
		"Title is required", "timeout must be above zero and at most 24h", "field a: chan int", "field b: func()", "field c: map[string]string", "field d: interface", "field e: [3]int",
		"field f: a list holds", "field g: a list holds", "field h: a pointer", "field i: time.Time decodes itself", "field j: credits.Amount decodes itself",
		"field k: bytes", "field L: it needs a json name", "field m: it is not exported", "field N: it needs a json name", "field O: the json setting string", "field p: an enum",
		`field q: the format "date"`, "field s: a list holds", "field t.U: it needs a json name", "field job: embedded",
		"the output chan int is neither",
	} {
		require.ErrorContains(t, err, want)
	}
	// For good would be longer than any hold can last, and each call be refused.
	err = register[job, done](s, services.Info{Name: "endless", Title: "T"}, services.Timeout(math.MaxInt64))
	require.ErrorContains(t, err, "timeout must be above zero and at most 24h")
	require.ErrorContains(t, register[string, done](s, services.Info{Name: "text", Title: "T"}), "string is not a struct")
	require.ErrorContains(t, register[struct {
		A string `json:"a" validate:"nosuch"`
	}, done](s, services.Info{Name: "rule", Title: "T"}), "nosuch")
	require.ErrorContains(t, register[struct {
		A bool `json:"a" validate:"omitempty,max=3"`
	}, done](s, services.Info{Name: "rule", Title: "T"}), "a validate tag of")
	require.ErrorContains(t, register[job, struct{ C chan int }](s, services.Info{Name: "out", Title: "T"}), "chan")
	require.NoError(t, register[struct{}, map[string]any](s, services.Info{Name: "empty", Title: "T"}))
	names := []string{}
	for _, d := range s.List(t.Context()) {
		names = append(names, d.Name)
	}
	assert.Equal(t, []string{"taken", "empty"}, names, "in order, and none of the faulty ones")
}

func TestList_ShowsTheSchema(t *testing.T) {
	t.Parallel()
	s := newShop(t, dbtest.SQLite(t, schema)).Services
	require.NoError(t, register[everything, done](s, services.Info{Name: "all", Title: "T", Tags: []string{"x"}}, services.Inactive()))
	d := s.List(t.Context())[0]
	assert.False(t, d.Active)
	assert.JSONEq(t, `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","additionalProperties":false,"required":["text","mode"],"properties":{
		"text":{"type":"string","title":"Your <text>","description":"Say it.","format":"textarea","minLength":2,"maxLength":10},
		"line":{"type":"string","title":"Line"},
		"mail":{"type":"string","title":"Mail","format":"email"},
		"site":{"type":"string","title":"Site","format":"uri"},
		"mode":{"type":"string","title":"Mode","enum":["fast","slow"]},
		"quality":{"type":"string","title":"Quality","enum":["low","very high"]},
		"count":{"type":"integer","title":"Count","minimum":-1,"maximum":100},
		"size":{"type":"integer","title":"Size","minimum":0},
		"ratio":{"type":"number","title":"Ratio","exclusiveMinimum":-1,"exclusiveMaximum":2},
		"agree":{"type":"boolean","title":"Agree"},
		"maybe":{"type":["null","integer"],"title":"Maybe"},
		"tags":{"type":"array","title":"Tags","maxItems":2,"items":{"type":"string","maxLength":5}},
		"numbers":{"type":"array","title":"Numbers","items":{"type":"integer"}},
		"options":{"type":"object","title":"Options","additionalProperties":false,"properties":{
			"depth":{"type":"integer","title":"Depth","maximum":3},"name":{"type":"string","title":"Name"}}}}}`, string(d.InputSchema))
	assert.JSONEq(t, `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","additionalProperties":false,"required":["echo"],
		"properties":{"echo":{"type":"string"}}}`, string(d.OutputSchema))
}

func TestInput_FaultsAreNamedByTheirPath(t *testing.T) {
	t.Parallel()
	s := newShop(t, dbtest.SQLite(t, schema)).Services
	require.NoError(t, services.Register(s, services.Func(services.Info{Name: "all", Title: "T"}, services.Free(),
		func(_ context.Context, _ *services.Call, in everything) (everything, error) { return in, nil })))
	call := func(input string) (services.Result, error) {
		return s.Run(t.Context(), services.RunParams{Account: ada, Service: "all", Input: json.RawMessage(input)})
	}
	for _, c := range []struct {
		input string
		want  map[string]string
	}{
		{`{}`, map[string]string{"text": "This is required.", "mode": "This is required."}},
		{`{"text":"ok","mode":"fast","TEXT":"x","Hidden":"x","-":1,"options":{"depht":1},"tags":["a",1,"b"],"numbers":[1.5]}`, map[string]string{
			"TEXT": "There is no such field.", "Hidden": "There is no such field.", "-": "There is no such field.", "options.depht": "There is no such field.",
			"tags[1]": "This must be text.", "numbers[0]": "This must be a whole number of 64 bits.",
		}},
		{`{"text":5,"line":true,"mode":"quick","quality":"high","count":128,"size":-1,"ratio":"1","agree":"yes","maybe":1e2,"tags":{},"options":[]}`, map[string]string{
			"text": "This must be text.", "line": "This must be text.", "mode": "Choose one of: fast, slow.", "quality": "Choose one of: low, very high.",
			"count": "This must be a whole number of 8 bits.", "size": "This must be a whole number of 64 bits, zero or more.", "ratio": "This must be a number.",
			"agree": "This must be true or false.", "maybe": "This must be a whole number of 64 bits.", "tags": "This must be a list.",
			"options": "This must be an object with fields.",
		}},
		{`{"text":null,"mode":"fast","line":null,"tags":null,"options":null,"ratio":1e999}`, map[string]string{
			"text": "This is required.", "line": "This must be text.", "tags": "This must be a list.", "options": "This must be an object with fields.",
			"ratio": "This must be a number.",
		}},
		{`{"text":"a","mode":"fast","mail":"x","site":"x","count":-2,"ratio":2,"tags":["a","b","c"],"options":{"depth":4}}`, map[string]string{
			"text": "This must be at least 2 characters long.", "mail": "Enter an e-mail address, such as name@example.com.",
			"site": "Enter an address that begins with https://.", "count": "This must be at least -1.", "ratio": "This must be less than 2.",
			"tags": "This must be at most 2 entries long.", "options.depth": "This must be at most 3.", "options.name": "This is required.",
		}},
		{`{"text":"","mode":"fast","count":101,"ratio":-1,"tags":["a","a"]}`, map[string]string{
			"text": "This is required.", "count": "This must be at most 100.", "ratio": "This must be more than -1.", "tags": "No entry may stand twice.",
		}},
		{`{"text":"abcdefghijk","mode":"fast","tags":["abcdef"]}`, map[string]string{
			"text": "This must be at most 10 characters long.", "tags[0]": "This must be at most 5 characters long.",
		}},
	} {
		_, err := call(c.input)
		assert.Equal(t, "invalid", code(err), c.input)
		assert.Equal(t, c.want, problem.FieldsOf(err), c.input)
	}
	for _, malformed := range []string{``, ` `, `{`, `[]`, `"x"`, `null`, `5`, `{} {}`, `{"text":"a"}x`, `{"text":"a"} {`, `{text:"a"}`, `text=a&mode=fast`} {
		_, err := call(malformed)
		assert.Equal(t, "malformed", code(err), malformed)
		// What one text leaves behind is not read with the next.
		for _, good := range []string{"{\"text\":\"ab\",\"mode\":\"slow\"} \n\t ", ` {"text":"cd","mode":"slow"}`} {
			res, err := call(good)
			require.NoError(t, err)
			assert.Equal(t, strings.Contains(good, "ab"), strings.Contains(string(res.Output), `"text":"ab"`), good)
		}
	}
	res, err := call(`{"text":"first","text":"üöäüöäüöäü","mode":"slow","quality":"very high","count":-1,"size":18446744073709551615,"ratio":1.5e0,"agree":true,
		"maybe":null,"tags":["a","b"],"numbers":[9223372036854775807],"options":{"depth":9,"name":"x"},"options":{"name":"y"}}`)
	require.NoError(t, err)
	assert.JSONEq(t, `{"text":"üöäüöäüöäü","line":"","mail":"","site":"","mode":"slow","quality":"very high","count":-1,"size":18446744073709551615,"ratio":1.5,"agree":true,
		"maybe":null,"tags":["a","b"],"numbers":[9223372036854775807],"options":{"depth":0,"name":"y"}}`, string(res.Output), "of a key that stands twice the last counts, whole")
}

func FuzzInput(f *testing.F) {
	for _, seed := range []string{`{"text":"ok","times":1}`, `{"text":"ok","TEXT":"x"}`, `{`, `{"text":"\u0000\ud800"}`, `{"times":1e400}`} {
		f.Add([]byte(seed))
	}
	s := newShop(f, dbtest.SQLite(f, schema)).Services
	addTo(f, s, "echo", "0", echo)
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, err := s.Run(t.Context(), services.RunParams{Account: ada, Service: "echo", Input: raw})
		if c := code(err); c != "" && c != "invalid" && c != "malformed" {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}
