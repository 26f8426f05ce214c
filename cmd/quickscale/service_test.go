package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/modtest"
)

const servicesMain = `package main

import (
	"errors"
	"log"

	"github.com/quickscale/quickscale/services"
)

// setUp registers what the program sells.
func setUp(shop *services.Services) error {
	return errors.Join(
		services.Register(shop, services.Func(services.Info{Name: "first", Title: "First", Version: "1", Summary: "The first."}, services.Fixed(1), first)),
	)
}

func main() {
	if err := setUp(nil); err != nil {
		log.Fatal(err)
	}
}
`

const servicesFirst = `package main

import (
	"context"

	"github.com/quickscale/quickscale/services"
)

// Input is what a caller sends.
type Input struct {
	Text string ` + "`json:\"text\" title:\"Text\" validate:\"required,max=100\"`" + `
}

func first(_ context.Context, _ *services.Call, in Input) (map[string]string, error) {
	return map[string]string{"text": in.Text}, nil
}
`

// serviceProject is a host's module that requires this library.
func serviceProject(t *testing.T) string {
	t.Helper()
	return modtest.New(t, "-- main.go --\n"+servicesMain+"-- first.go --\n"+servicesFirst+"-- first_test.go --\npackage main\n")
}

// in runs the program in a folder.
func in(t *testing.T, dir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	file, err := binary()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), file, args...)
	cmd.Dir = dir
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		require.ErrorAs(t, err, new(*exec.ExitError))
	}
	return cmd.ProcessState.ExitCode(), out.String(), problems.String()
}

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	var value map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &value), text)
	return value
}

// Every type compiles, passes its own tests, is registered and has nothing to mend, as it comes.
func TestGenerateService_EveryTypeCompilesAndPassesAtOnce(t *testing.T) {
	t.Parallel()
	dir := serviceProject(t)
	for _, kind := range []string{"basic", "text_processing", "image_processing", "data_validation", "llm"} {
		code, out, problems := in(t, dir, "generate-service", "my_"+kind, "--type", kind, "--credit-cost", "0.50", "--description", `It's "mine": 100% & <new>`)
		require.Zero(t, code, problems)
		assert.Contains(t, out, "registered in main.go: services.Register(shop, my")
		code, _, problems = in(t, dir, "generate-service", "free-"+strings.ReplaceAll(kind, "_", "-"), "--type", kind, "--free", "--output-dir", "internal/free", "--json")
		require.Zero(t, code, problems)
	}
	for _, args := range [][]string{{"vet", "./..."}, {"test", "./..."}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "go %v: %s", args, out)
		if args[0] == "test" {
			assert.Equal(t, 10, strings.Count(string(out), "ok  \texample.com/acme/"), "%s", out)
		}
	}
	formatted, err := exec.CommandContext(t.Context(), "gofmt", "-l", dir).CombinedOutput()
	require.NoError(t, err)
	assert.Empty(t, string(formatted))

	code, out, problems := in(t, dir, "validate-service", "--json", "--tips")
	require.Zero(t, code, "%s%s", out, problems)
	result := decode(t, out)
	assert.Len(t, result["services"], 11)
	assert.EqualValues(t, 0, result["warnings"], out)
	for _, f := range result["findings"].([]any) {
		assert.Contains(t, f.(map[string]any)["message"], "is free", "the only tip there is")
	}

	code, out, _ = in(t, dir, "list-services")
	require.Zero(t, code)
	assert.Regexp(t, `my-llm +1\.0\.0 +metered +services/myllm/myllm\.go:\d+ +main\.go:\d+`, out)
	assert.Regexp(t, `free-basic +1\.0\.0 +free +internal/free/freebasic/`, out)
	code, out, _ = in(t, filepath.Join(dir, "services"), "list-services", "--json")
	require.Zero(t, code)
	assert.Len(t, decode(t, out)["services"], 11)
}

func TestGenerateService_DryRunWritesNothing(t *testing.T) {
	t.Parallel()
	dir := serviceProject(t)
	code, out, problems := in(t, dir, "generate-service", "word-stats", "--dry-run")
	require.Zero(t, code, problems)
	assert.Contains(t, out, "would write services/wordstats/wordstats.go")
	assert.Contains(t, out, "would register in main.go")
	assert.Contains(t, out, "package wordstats")
	code, out, problems = in(t, dir, "generate-service", "word-stats", "--dry-run", "--json")
	require.Zero(t, code, problems)
	plan := decode(t, out)
	assert.Equal(t, true, plan["dry_run"])
	assert.Equal(t, "word-stats", plan["service"])
	assert.Contains(t, plan["registration"], "wordstats.Service{}")
	assert.Len(t, plan["files"], 2)
	assert.NoDirExists(t, filepath.Join(dir, "services"))
	text, err := os.ReadFile(filepath.Join(dir, "main.go"))
	require.NoError(t, err)
	assert.Equal(t, servicesMain, string(text))
}

func TestGenerateService_SkipDBConfigLeavesTheRegistrationOut(t *testing.T) {
	t.Parallel()
	dir := serviceProject(t)
	below := filepath.Join(dir, "deeper")
	require.NoError(t, os.Mkdir(below, 0o750))
	code, out, problems := in(t, below, "generate-service", "quiet", "--skip-db-config")
	require.Zero(t, code, problems)
	assert.Contains(t, out, `not registered; where the program starts, import "example.com/acme/services/quiet" and add`)
	assert.Contains(t, out, "services.Register(app.Services, quiet.Service{})")
	assert.FileExists(t, filepath.Join(dir, "services", "quiet", "quiet.go"), "the folder of services is the project's, wherever one stands in it")
	text, err := os.ReadFile(filepath.Join(dir, "main.go"))
	require.NoError(t, err)
	assert.Equal(t, servicesMain, string(text))

	code, out, _ = in(t, dir, "validate-service", "quiet")
	assert.Zero(t, code, "a warning does not fail it")
	assert.Contains(t, out, "services/quiet/quiet.go:")
	assert.Contains(t, out, "warning: The service quiet is registered nowhere")
	assert.Contains(t, out, "1 services checked: 0 errors, 1 warnings")
}

func TestServiceCommands_ExitCodes(t *testing.T) {
	t.Parallel()
	dir := serviceProject(t)
	code, _, problems := in(t, dir, "generate-service", "taken", "--skip-db-config")
	require.Zero(t, code, problems)
	for _, c := range []struct {
		want int
		says string
		args []string
	}{
		{2, "accepts 1 arg", []string{"generate-service"}},
		{2, "lower-case letters", []string{"generate-service", "Bad Name"}},
		{2, "there is no type", []string{"generate-service", "fine", "--type", "poem"}},
		{2, "choose --free or --credit-cost", []string{"generate-service", "fine", "--free", "--credit-cost", "1"}},
		{2, "make the service free", []string{"generate-service", "fine", "--credit-cost", "0"}},
		{2, "needs an amount", []string{"generate-service", "fine", "--credit-cost", ""}},
		{2, "unknown flag", []string{"generate-service", "fine", "--price", "1"}},
		{1, "nothing is overwritten", []string{"generate-service", "taken"}},
		{1, "in no Go module", []string{"generate-service", "fine", "--output-dir", t.TempDir()}},
		{3, "no service \"nobody\"", []string{"validate-service", "nobody"}},
		{3, "no folder", []string{"list-services", "nowhere"}},
		{2, "there is no type", []string{"show-service-examples", "--type", "poem"}},
	} {
		code, _, problems := in(t, dir, c.args...)
		assert.Equal(t, c.want, code, "%v: %s", c.args, problems)
		assert.Contains(t, problems, c.says, "%v", c.args)
	}
	code, _, problems = in(t, t.TempDir(), "validate-service")
	assert.Equal(t, 1, code)
	assert.Contains(t, problems, "in no Go module")

	file := filepath.Join(dir, "services", "taken", "taken.go")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, bytes.Replace(text, []byte(`json:"text" title`), []byte(`title`), 1), 0o600))
	for _, what := range []string{"taken", file, filepath.Dir(file)} {
		code, out, problems := in(t, dir, "validate-service", what)
		assert.Equal(t, 1, code, what)
		assert.Contains(t, problems, "there are errors")
		assert.Contains(t, out, "services/taken/taken.go:14:2: error: The input's field Text: it needs a json name")
		assert.Contains(t, out, "Add the tag `json:\"text\"`.")
	}
	code, out, _ := in(t, t.TempDir(), "validate-service", dir, "--json")
	assert.Equal(t, 1, code, "a path may lead to another project")
	assert.EqualValues(t, 1, decode(t, out)["errors"])
}

func TestShowServiceExamples_LeadToWhatThereIs(t *testing.T) {
	t.Parallel()
	code, out, problems := in(t, t.TempDir(), "show-service-examples", "--json")
	require.Zero(t, code, problems)
	kinds := decode(t, out)["types"].([]any)
	require.Len(t, kinds, 5)
	for _, k := range kinds {
		for _, e := range k.(map[string]any)["examples"].([]any) {
			path := e.(map[string]any)["path"].(string)
			_, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(path)))
			require.NoError(t, err)
		}
	}
	code, out, _ = in(t, t.TempDir(), "show-service-examples", "--type", "data_validation")
	require.Zero(t, code)
	assert.Contains(t, out, "examples/services/datavalidation")
	assert.NotContains(t, out, "llmgateway")
}
