package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

const flagJSON = "json"

// addJSON gives a group the flag that [newOutput] reads.
func addJSON(cmd *cobra.Command) { cmd.PersistentFlags().Bool(flagJSON, false, "print JSON") }

func newOutput(cmd *cobra.Command) (output, error) {
	asJSON, err := cmd.Flags().GetBool(flagJSON)
	return output{cmd.OutOrStdout(), asJSON}, err
}

// output prints a result as JSON or as text.
type output struct {
	w    io.Writer
	json bool
}

func (o output) print(value any, text func(t table)) error {
	if o.json {
		encoder := json.NewEncoder(o.w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(value)
	}
	t := table{tabwriter.NewWriter(o.w, 0, 4, 2, ' ', 0)}
	text(t)
	return t.Flush()
}

// table is text in columns, which tabs end.
type table struct{ *tabwriter.Writer }

// linef adds a line. What goes wrong is told when the table is flushed.
func (t table) linef(format string, args ...any) {
	_, _ = fmt.Fprintf(t, format+"\n", args...)
}
