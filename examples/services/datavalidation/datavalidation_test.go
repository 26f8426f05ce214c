package datavalidation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/examples/services/datavalidation"
	"github.com/quickscale/quickscale/services"
)

func execute(t *testing.T, in datavalidation.Input) (datavalidation.Output, services.Units, error) {
	t.Helper()
	call := services.NewCall("data-validation", "ada")
	out, err := datavalidation.Service{}.Execute(t.Context(), call, in)
	units, _ := call.Used()
	return out, units, err
}

// said are the faults in short.
func said(out datavalidation.Output) []string {
	list := []string{}
	for _, f := range out.Faults {
		list = append(list, fmt.Sprintf("%d:%d:%s:%s", f.Line, f.Record, f.Field, f.Rule))
	}
	return list
}

func TestCSV_ReportsEachFaultWithItsLine(t *testing.T) {
	t.Parallel()
	data := "\ufeffid,email,age\n1,ada@example.com,36\n\"2\",\"multi\nline\",x\n1,,200,extra\n3,grace@example.com,\n"
	out, units, err := execute(t, datavalidation.Input{Data: data, Rules: []string{"id: required, unique, integer", "email:required,email", "age:integer,max=150"}})
	require.NoError(t, err)
	assert.Equal(t, "csv", out.Format)
	assert.Equal(t, []string{"id", "email", "age"}, out.Fields)
	assert.Equal(t, []string{"3:2:email:email", "3:2:age:integer", "3:2:age:max=150", "5:3::columns", "5:3:id:unique", "5:3:email:required", "5:3:age:max=150"}, said(out))
	assert.Equal(t, "This stands on line 2 already.", out.Faults[4].Message)
	assert.Equal(t, 4, out.Checked)
	assert.Equal(t, 2, out.Invalid)
	assert.False(t, out.Valid)
	assert.Equal(t, services.Units{"records": 4}, units)
}

func TestJSON_ReportsEachFaultWithItsLine(t *testing.T) {
	t.Parallel()
	data := `[
  {"id": 1, "plan": "pro", "on": true, "born": "1815-12-10"},
  {"id": 1.5, "plan": "gold", "on": "yes", "born": "tomorrow", "note": "abc"},
  7,

  {"plan": null, "score": "NaN"}
]`
	out, units, err := execute(t, datavalidation.Input{Data: data, Strict: true,
		Rules: []string{"id:required,integer", "plan:free|pro", "on:boolean", "born:date", "score:number,min=0", "none:length=2"}})
	require.NoError(t, err)
	assert.Equal(t, []string{
		"3:2:id:integer", "3:2:plan:free|pro", "3:2:on:boolean", "3:2:born:date", "3:2:note:strict", "4:3::object", "6:4:id:required", "6:4:score:number", "6:4:score:min=0",
	}, said(out))
	assert.Equal(t, 4, out.Checked)
	assert.Equal(t, 3, out.Invalid)
	assert.Equal(t, []string{"born", "id", "note", "on", "plan", "score"}, out.Fields)
	assert.Equal(t, services.Units{"records": 3}, units, "what is no record is not charged")
}

func TestData_ThatBreaksOffIsCheckedSoFar(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"[{\"id\":1},\n{\"id\":2},\n{\"id\"": "3:0::syntax",
		"[{\"id\":1},\n\n oops]":             "3:0::syntax",
		"[{\"id\":1}\n":                      "2:0::syntax",
		"[{\"id\":1}]\n\n[]":                 "3:0::syntax",
		"id\n1\n\"open":                      "3:0::syntax",
		"id,id\n1,2":                         "1:0:id:header",
		"  ":                                 "1:0::header",
	} {
		out, _, err := execute(t, datavalidation.Input{Data: data, Rules: []string{"id:required"}})
		require.NoError(t, err, data)
		assert.False(t, out.Valid, data)
		assert.Contains(t, said(out), want, data)
	}
	out, _, err := execute(t, datavalidation.Input{Data: "[]"})
	require.NoError(t, err)
	assert.True(t, out.Valid)
	out, _, err = execute(t, datavalidation.Input{Data: "{\"id\":1}\n{\"id\":2}", Rules: []string{"id:integer"}})
	require.NoError(t, err)
	assert.True(t, out.Valid, "objects one after the other")
	assert.Equal(t, 2, out.Checked)
}

func TestFaults_AreBoundedAndCounted(t *testing.T) {
	t.Parallel()
	out, _, err := execute(t, datavalidation.Input{Data: "id,x\n" + strings.Repeat(",\n", 1500), Rules: []string{"id:required"}})
	require.NoError(t, err)
	assert.Len(t, out.Faults, 1000)
	assert.Equal(t, 1500, out.FaultCount)
}

func TestRules_ThatCannotBeReadAreRefused(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{"id", ":required", "id:", "id:requird", "id:min=x", "id:max=", "id:min=NaN", "id:required=1"} {
		_, units, err := execute(t, datavalidation.Input{Data: "[{}]", Rules: []string{rule}})
		require.Error(t, err, rule)
		assert.Empty(t, units)
	}
}

// What is set aside suffices for every record that there can be.
func TestPrice_CoversEveryRecord(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"id\n1\n2\n3", "id\r1\r2\n\n3\r\n", "[{},{},{}]", "{}{}{}", "[1,2,3]", "x"} {
		in := datavalidation.Input{Data: data}
		most, err := datavalidation.Service{}.Pricing().Of(in)
		require.NoError(t, err)
		_, units, err := execute(t, in)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, int64(most), units["records"]*10_000, data)
	}
}
