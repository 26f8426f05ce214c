package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The example is started as its reader starts it, twice on the same file.
func TestSmoke_RunsAndAddsUp(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ledger.db")
	for range 2 {
		var out, errs bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "go", "run", ".", file)
		cmd.Stdout, cmd.Stderr = &out, &errs
		require.NoError(t, cmd.Run(), errs.String())
		for _, want := range []string{
			"sold: 105 credits available",
			"debited: -5 of bonus",
			"debited: -2.5 of purchase",
			"902.5 more are needed",
			"streamed: 91.25 credits available",
			"balance: 91.25 available, 0 held, 0 owed",
			"verified: 0 discrepancies, receipt checked",
		} {
			assert.Contains(t, out.String(), want)
		}
		assert.Equal(t, 7, strings.Count(out.String(), "->"), "entries of the history")
	}
}
