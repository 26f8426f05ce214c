// Command bench measures what the library promises about speed, as ratios to baselines of the same run: machines
// differ, and what runs beside the benchmark slows both sides.
//
//	go run ./internal/bench credits [-quick] [-only many,hot]
//	go run ./internal/bench webhook|billing|services|pages [-quick]
//
// It prints a table, and for each target a line such as "RATIO credits.A 3.41". PostgreSQL is found as the tests find
// theirs; it must sync its commits, and one is started where it does not. See docs/performance-credits.md, docs/performance-billing.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// options are what the command line says.
type options struct {
	// quick takes short measurements: under 50 seconds for a subject.
	quick bool
	// only are the steps to measure; empty: all.
	only string
}

// wants tells whether a step is to be measured.
func (o options) wants(step string) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), step)
}

// check refuses steps that there are not.
func (o options) check(steps []step) error {
	if o.only == "" {
		return nil
	}
	for name := range strings.SplitSeq(o.only, ",") {
		if !slices.ContainsFunc(steps, func(s step) bool { return s.name == name }) {
			return fmt.Errorf("-only: there is no step %q", name)
		}
	}
	return nil
}

// step is a part of a subject that can be measured by itself.
type step struct {
	name    string
	measure func(ctx context.Context, o options, r *report) error
}

// pick returns one of two values.
func pick[T any](o options, quick, full T) T {
	if o.quick {
		return quick
	}
	return full
}

// subjects are what can be measured; each has a file of its own.
var subjects = map[string]func(ctx context.Context, o options, r *report) error{
	"billing":  benchBilling,
	"credits":  benchCredits,
	"pages":    benchPages,
	"services": benchServices,
	"webhook":  benchWebhook,
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	names := make([]string, 0, len(subjects))
	for name := range subjects {
		names = append(names, name)
	}
	slices.Sort(names)
	usage := errors.New("usage: bench SUBJECT [-quick], where SUBJECT is one of: " + strings.Join(names, ", "))
	if len(args) == 0 {
		return usage
	}
	subject := subjects[args[0]]
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	var o options
	flags.BoolVar(&o.quick, "quick", false, "short measurements")
	flags.StringVar(&o.only, "only", "", "of credits, measure these steps alone: many, hot, lone, long, waiting, sqlite (separated by commas)")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if subject == nil || flags.NArg() > 0 {
		return usage
	}
	began := time.Now()
	r := &report{}
	err := errors.Join(subject(ctx, o, r), r.print())
	fmt.Printf("took %s\n", time.Since(began).Round(time.Second))
	return err
}

// report collects what was measured.
type report struct {
	lines  [][2]string
	ratios []string
}

// linef adds a line to the table.
func (r *report) linef(what, format string, args ...any) {
	r.lines = append(r.lines, [2]string{what, fmt.Sprintf(format, args...)})
}

// ratio adds a target's line: reached tells what was asked for.
func (r *report) ratio(name string, value float64, target string) {
	r.ratios = append(r.ratios, fmt.Sprintf("RATIO %s %.2f", name, value))
	r.linef(name, "%.2f (target %s)", value, target)
}

func (r *report) print() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	for _, l := range r.lines {
		if _, err := fmt.Fprintf(w, "%s\t%s\n", l[0], l[1]); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, line := range r.ratios {
		fmt.Println(line)
	}
	return nil
}
