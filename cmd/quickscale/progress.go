package main

import (
	"io"
	"os"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

// progress shows a person at a terminal how far long work has come, and shows nothing elsewhere. Its errors are not told:
// the work goes on without it.
type progress struct{ bar *progressbar.ProgressBar }

// newProgress begins a bar on standard error; a total below zero is one that nobody knows.
func newProgress(cmd *cobra.Command, total int64, what string) progress {
	w := cmd.ErrOrStderr()
	if !onTerminal(w) {
		return progress{}
	}
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(barWidth),
	)
	_ = bar.RenderBlank()
	return progress{bar}
}

// barWidth is in columns.
const barWidth = 30

func onTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

// shown tells whether there is a bar.
func (p progress) shown() bool { return p.bar != nil }

// add tells that so much more is done.
func (p progress) add(n int) {
	if p.bar != nil {
		_ = p.bar.Add(n)
	}
}

// end takes the bar away.
func (p progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
		_ = p.bar.Exit()
	}
}
