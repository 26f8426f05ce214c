package quickscale_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/packages"
)

const module = "github.com/quickscale/quickscale"

// allowed are the public packages that each public package may import. The root wires all of them; examples and
// commands may import anything.
var allowed = map[string][]string{
	"auth":                  {"mail"},
	"billing":               {"credits", "webhook"},
	"billing/stripetest":    {},
	"credits":               {},
	"services":              {"credits"},
	"services/client":       {},
	"services/servicestest": {"credits", "services"},
	"webhook":               {},
	"webhook/outbound":      {},
	"admin":                 {"auth", "billing", "credits", "mail", "services", "webhook"},
	"mail":                  {},
	"telemetry":             {},
}

func TestImports_FollowTheRule(t *testing.T) {
	t.Parallel()
	found, err := packages.Load(&packages.Config{Mode: packages.NeedName | packages.NeedImports, Dir: "."}, "./...")
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, p := range found {
		name := strings.TrimPrefix(strings.TrimPrefix(p.PkgPath, module), "/")
		seen[name] = true
		if name == "" || name == "deploy" || strings.HasPrefix(name, "examples/") || strings.HasPrefix(name, "cmd/") {
			continue
		}
		internal := strings.HasPrefix(name, "internal/") || strings.Contains(name, "/internal/")
		may, known := allowed[name]
		if !assert.True(t, internal || known, "%s is new: say here what it may import", name) {
			continue
		}
		for path := range p.Imports {
			other, ours := strings.CutPrefix(path, module)
			if !ours || strings.HasPrefix(other, "/internal/") {
				continue
			}
			// The benchmarks measure public packages; nothing imports them.
			if name == "internal/bench" {
				continue
			}
			assert.True(t, !internal && slices.Contains(may, strings.TrimPrefix(other, "/")), "%s must not import %s", name, path)
		}
	}
	for name := range allowed {
		assert.True(t, seen[name], "%s is gone: take it off the list", name)
	}
}
