package scaffold

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the templates make of a project comes from their parts, one after the other, and gofmt changes none of it: else
// no change of a project could be carried back.
func TestTrace_IsTheWholeFile(t *testing.T) {
	t.Parallel()
	for _, p := range []Params{
		{Name: "acme", Version: "v1.0.0"},
		{Name: "acme-two", Version: "v1.0.0", Module: "git.example.com/a/b", Database: Postgres, Samples: []string{"wordcount", "jsoncheck"}, OAuth: []string{"google", "oidc"}, Without: Optional(), Replace: "../a b"},
	} {
		p, err := p.complete()
		require.NoError(t, err)
		v := p.view()
		require.NoError(t, BuiltIn().walk(v, func(name, file string) error {
			want, err := BuiltIn().render(name, v)
			require.NoError(t, err)
			text, err := embedded.ReadFile("template/" + name)
			require.NoError(t, err)
			got, pieces, err := trace(name, string(text), v)
			require.NoError(t, err)
			assert.Equal(t, string(want), got, file)
			at := 0
			for _, part := range pieces {
				assert.Equal(t, at, part.from, file)
				at = part.to
				if part.verbatim {
					assert.Equal(t, got[part.from:part.to], string(text[part.source:part.ending]), file)
				} else {
					assert.Regexp(t, `^\[\[.*\]\]$`, string(text[part.source:part.ending]), file)
				}
			}
			assert.Len(t, got, at, file)
			return nil
		}))
	}
}
