package main

import (
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// development is the version of a program that was built from a checkout.
const development = "(devel)"

// built is what version prints.
type built struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	System  string `json:"system"`
}

// build tells what this program was built from.
func build() built {
	b := built{Version: development, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Commit = s.Value
		}
	}
	// A build from a checkout with changes, or in a work tree, is nothing that others could fetch.
	if v := info.Main.Version; v != "" && b.Commit == "" && !strings.Contains(v, "+") {
		b.Version = v
	}
	return b
}

func newVersion() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Args: args(cobra.NoArgs), Short: "Print the version of this program"}
	addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		out, err := newOutput(cmd)
		if err != nil {
			return err
		}
		b := build()
		return out.print(b, func(t table) {
			t.linef("quickscale %s (%s, %s)", b.Version, b.Go, b.System)
			if b.Commit != "" {
				t.linef("commit %s", b.Commit)
			}
		})
	}
	return cmd
}
