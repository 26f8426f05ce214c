package servicegen_test

import (
	"flag"
	"go/format"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"github.com/quickscale/quickscale/internal/modtest"
	"github.com/quickscale/quickscale/internal/servicegen"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestFiles_AreTheGoldenOnes(t *testing.T) {
	t.Parallel()
	cases := map[string]servicegen.Params{"free": {Name: "tidy-up"}, "described": {Name: "tidy_up", Cost: "1.50", Description: `Says "hi" & more.`}}
	for _, kind := range servicegen.KindNames() {
		cases[kind] = servicegen.Params{Name: "my-" + strings.ReplaceAll(kind, "_", "-"), Kind: kind, Cost: "0.5"}
	}
	for name, p := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := servicegen.Files(p)
			require.NoError(t, err)
			var got txtar.Archive
			for _, f := range files {
				got.Files = append(got.Files, txtar.File{Name: f.Name, Data: []byte(f.Content)})
				assert.NotContains(t, f.Content, "[[", f.Name)
				formatted, err := format.Source([]byte(f.Content))
				require.NoError(t, err)
				assert.Equal(t, string(formatted), f.Content)
			}
			golden := filepath.Join("testdata", name+".txtar")
			if *update {
				require.NoError(t, os.WriteFile(golden, txtar.Format(&got), 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			assert.Equal(t, string(want), string(txtar.Format(&got)), "go test ./internal/servicegen -update writes it anew")
		})
	}
}

func TestFiles_TellsAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := servicegen.Files(servicegen.Params{Name: "Bad Name", Kind: "poem", Cost: "-1", Description: "two\nlines"})
	for _, said := range []string{`"Bad Name"`, `no type "poem": there is basic, text_processing`, `"-1"`, "one line"} {
		require.ErrorContains(t, err, said)
	}
	require.ErrorAs(t, err, new(servicegen.InputError))
	for _, name := range []string{"", "-a", "a-", "1a", "a--b", "ä", "a/b", "../a", "func", "main", "go-to", "internal", strings.Repeat("a", 64)} {
		_, err := servicegen.Files(servicegen.Params{Name: name})
		if name == "go-to" {
			require.ErrorContains(t, err, "Go package", "goto is a word of Go")
			continue
		}
		require.Error(t, err, name)
	}
	for _, cost := range []string{"0", "0.00", "1e3", "01", ".5", "1.1234567", "x"} {
		_, err := servicegen.Files(servicegen.Params{Name: "a", Cost: cost})
		require.ErrorContains(t, err, "credit cost", cost)
	}
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(parts...))
	require.NoError(t, err)
	return string(text)
}

func generate(t *testing.T, dir, name string) *servicegen.Plan {
	t.Helper()
	plan, err := servicegen.Generate(filepath.Join(dir, "services"), servicegen.Params{Name: name, Cost: "2"}, true)
	require.NoError(t, err)
	return plan
}

const inStatement = `-- main.go --
package main

import (
	"github.com/quickscale/quickscale/services"

	"example.com/acme/services/old"
)

func setUp(shop *services.Services) error {
	// The first.
	if err := services.Register(shop, old.Service{}, services.Timeout(5)); err != nil {
		return err // at once
	}
	return nil
}
`

func TestGenerate_RegistersAsTheProjectDoes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ before, after string }{
		"a statement": {inStatement, `package main

import (
	"github.com/quickscale/quickscale/services"

	"example.com/acme/services/fresh"
	"example.com/acme/services/old"
)

func setUp(shop *services.Services) error {
	// The first.
	if err := services.Register(shop, old.Service{}, services.Timeout(5)); err != nil {
		return err // at once
	}
	if err := services.Register(shop, fresh.Service{}); err != nil {
		return err // at once
	}
	return nil
}
`},
		"an argument": {`-- main.go --
package main

import "errors"
import qs "github.com/quickscale/quickscale/services"

func setUp(shop *qs.Services) error {
	return errors.Join(
		qs.Register(shop, a),
		qs.Register[In, Out](shop, b),
	)
}
`, `package main

import "errors"
import qs "github.com/quickscale/quickscale/services"
import "example.com/acme/services/fresh"

func setUp(shop *qs.Services) error {
	return errors.Join(
		qs.Register(shop, a),
		qs.Register[In, Out](shop, b),
		qs.Register(shop, fresh.Service{}),
	)
}
`},
		"a name that is taken": {strings.Replace(inStatement, "shop *", "fresh *", 1), `import (
	"github.com/quickscale/quickscale/services"

	freshservice "example.com/acme/services/fresh"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := modtest.New(t, c.before+"-- a_test.go --\npackage main\n")
			plan := generate(t, dir, "fresh")
			require.NotNil(t, plan.Registration)
			assert.Contains(t, plan.Registration.Content, c.after)
			assert.NoFileExists(t, filepath.Join(dir, "services", "fresh", "fresh.go"), "a plan writes nothing")
			require.NoError(t, plan.Write())
			assert.Equal(t, plan.Registration.Content, read(t, dir, "main.go"))
			assert.Contains(t, read(t, dir, "services", "fresh", "fresh.go"), `"fresh"`)
		})
	}
}

func TestGenerate_LeavesTheRegistrationWhereItCannotBeFollowed(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]string{
		"none":           "-- main.go --\npackage main\n",
		"only in a test": strings.Replace(inStatement, "main.go", "main_test.go", 1),
		"another shape":  strings.Replace(inStatement, "if err := services.Register(shop, old.Service{}, services.Timeout(5)); err != nil {", "err := services.Register(shop, old.Service{})\n\tif err != nil {", 1),
		"another module": strings.Replace(inStatement, "main.go", "nested/main.go", 1) + "-- nested/go.mod --\nmodule nested\n",
	} {
		plan := generate(t, modtest.New(t, files), "fresh")
		assert.Nil(t, plan.Registration, name)
		assert.Equal(t, "services.Register(app.Services, fresh.Service{})", plan.Statement)
		assert.Equal(t, "example.com/acme/services/fresh", plan.Import)
	}
	plan, err := servicegen.Generate(filepath.Join(modtest.New(t, inStatement), "services"), servicegen.Params{Name: "fresh"}, false)
	require.NoError(t, err)
	assert.Nil(t, plan.Registration, "it was not asked for")
}

func TestGenerate_OverwritesNothing(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"fresh.go", "fresh_test.go"} {
		dir := modtest.New(t, inStatement+"-- services/fresh/"+file+" --\npackage fresh // mine\n")
		_, err := servicegen.Generate(filepath.Join(dir, "services"), servicegen.Params{Name: "fresh"}, true)
		require.ErrorIs(t, err, servicegen.ErrExists)
		assert.Equal(t, "package fresh // mine\n", read(t, dir, "services", "fresh", file))
	}
	// What comes between plan and writing is kept too, and nothing is left half done.
	dir := modtest.New(t, inStatement)
	plan := generate(t, dir, "fresh")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "services", "fresh"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "services", "fresh", "fresh_test.go"), []byte("mine"), 0o600))
	require.ErrorIs(t, plan.Write(), servicegen.ErrExists)
	assert.Equal(t, "mine", read(t, dir, "services", "fresh", "fresh_test.go"))
	assert.NoFileExists(t, filepath.Join(dir, "services", "fresh", "fresh.go"))
	assert.NotContains(t, read(t, dir, "main.go"), "fresh")

	dir = modtest.New(t, inStatement)
	plan = generate(t, dir, "fresh")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n"), 0o600))
	require.ErrorContains(t, plan.Write(), "changed meanwhile")
	assert.Equal(t, "package main\n", read(t, dir, "main.go"))
	assert.NoFileExists(t, filepath.Join(dir, "services", "fresh", "fresh.go"))
}

func TestFindModule_SaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := servicegen.FindModule(dir)
	require.ErrorContains(t, err, "in no Go module")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/other\n"), 0o600))
	_, err = servicegen.FindModule(dir)
	require.ErrorContains(t, err, "go get github.com/quickscale/quickscale")
	m, err := servicegen.FindModule(".")
	require.NoError(t, err)
	assert.Equal(t, "github.com/quickscale/quickscale", m.Path)
}
