package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/internal/servicegen"
)

// newServices are the commands about a project's services. They read and write source code, and no database.
func newServices() []*cobra.Command {
	commands := []*cobra.Command{generateService(), validateService(), listServices(), showServiceExamples()}
	for _, c := range commands {
		addJSON(c)
	}
	return commands
}

// generated is what generate-service prints.
type generated struct {
	Service string            `json:"service"`
	DryRun  bool              `json:"dry_run"`
	Files   []servicegen.File `json:"files"`
	// Registered is the file that registers the service, empty where that is left to the developer.
	Registered string `json:"registered,omitempty"`
	Statement  string `json:"statement"`
	Import     string `json:"import"`
	// Registration is how that file will read, in a dry run.
	Registration string `json:"registration,omitempty"`
}

func generateService() *cobra.Command {
	var p servicegen.Params
	var dir string
	var free, skipConfig, dryRun bool
	cmd := &cobra.Command{
		Use: "generate-service NAME", Args: args(cobra.ExactArgs(1)), Short: "Write a new service, its test and its registration",
		Long: "Write a new service into the project of the working directory: a package with the service, its test, and its\n" +
			"registration beside those of the project's other services. It works at once, and is yours to change. Nothing is\n" +
			"overwritten.\n\n" +
			"A service needs no row in the database: its price and state are in its code, and the database holds only what the\n" +
			"staff overrides. --skip-db-config therefore leaves out the registration, which is what makes a service known.",
		Example: "  quickscale generate-service word-stats --type text_processing --credit-cost 0.5\n" +
			"  quickscale generate-service ask --type llm --credit-cost 2 --dry-run",
	}
	flags := cmd.Flags()
	flags.StringVar(&p.Kind, "type", servicegen.KindNames()[0], "what it begins as: "+strings.Join(servicegen.KindNames(), ", "))
	flags.StringVar(&dir, "output-dir", "services", "the folder of services, below the module's folder or absolute")
	flags.StringVar(&p.Cost, "credit-cost", "1", "credits for a call, or for 1,000 tokens with --type llm")
	flags.BoolVar(&free, "free", false, "let calls cost nothing")
	flags.StringVar(&p.Description, "description", "", "a sentence that says what it does")
	flags.BoolVar(&skipConfig, "skip-db-config", false, "write the service and its test, and do not register it")
	flags.BoolVar(&dryRun, "dry-run", false, "print what would be written, and write nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if free && flags.Changed("credit-cost") {
			return usageError{errors.New("choose --free or --credit-cost")}
		}
		if free {
			p.Cost = ""
		} else if p.Cost == "" {
			return usageError{errors.New("--credit-cost needs an amount; --free makes calls cost nothing")}
		}
		p.Name = args[0]
		out, err := newOutput(cmd)
		if err != nil {
			return err
		}
		if !filepath.IsAbs(dir) {
			m, err := servicegen.FindModule(".")
			if err != nil {
				return err
			}
			dir = filepath.Join(m.Dir, dir)
		}
		plan, err := servicegen.Generate(dir, p, !skipConfig)
		if _, wrong := errors.AsType[servicegen.InputError](err); wrong {
			return usageError{err}
		}
		if err != nil {
			return err
		}
		if !dryRun {
			if err := plan.Write(); err != nil {
				return err
			}
		}
		return out.print(asGenerated(strings.ReplaceAll(p.Name, "_", "-"), plan, dryRun), func(t table) { printPlan(t, plan, dryRun) })
	}
	return cmd
}

// near is a path from the working directory, where that is shorter.
func near(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(here, path); err == nil && len(rel) < len(path) {
		return rel
	}
	return path
}

func asGenerated(name string, plan *servicegen.Plan, dryRun bool) generated {
	g := generated{Service: name, DryRun: dryRun, Statement: plan.Statement, Import: plan.Import}
	for _, f := range plan.Files {
		g.Files = append(g.Files, servicegen.File{Name: near(f.Name), Content: f.Content})
	}
	if plan.Registration != nil {
		g.Registered = near(plan.Registration.Name)
		if dryRun {
			g.Registration = plan.Registration.Content
		}
	}
	return g
}

func printPlan(t table, plan *servicegen.Plan, dryRun bool) {
	wrote, changed := "wrote", "registered in"
	if dryRun {
		wrote, changed = "would write", "would register in"
	}
	for _, f := range plan.Files {
		t.linef("%s %s", wrote, near(f.Name))
	}
	if plan.Registration != nil {
		t.linef("%s %s: %s", changed, near(plan.Registration.Name), plan.Statement)
	} else {
		t.linef("not registered; where the program starts, import %q and add", plan.Import)
		t.linef("    %s", plan.Statement)
	}
	if dryRun {
		for _, f := range plan.Files {
			t.linef("\n-- %s --\n%s", near(f.Name), strings.ReplaceAll(f.Content, "\t", "    ")) // tabs are columns here
		}
		return
	}
	t.linef("next: go test %s", "./"+filepath.ToSlash(near(filepath.Dir(plan.Files[0].Name))))
}

// errFaulty says that a project's services have errors.
var errFaulty = errors.New("there are errors")

// validated is what validate-service prints.
type validated struct {
	Services []*servicegen.Service `json:"services"`
	Findings []servicegen.Finding  `json:"findings"`
	Errors   int                   `json:"errors"`
	Warnings int                   `json:"warnings"`
}

func validateService() *cobra.Command {
	var tips bool
	cmd := &cobra.Command{
		Use: "validate-service [NAME|PATH]", Args: args(cobra.MaximumNArgs(1)), Short: "Check the project's services and say how to mend them",
		Long: "Read and type-check the project of the working directory, and say what is wrong with its services: where, and how\n" +
			"to mend it. A name or a path, which may be in another project, checks one. It fails with 1 when there are errors;\n" +
			"warnings do not fail it.",
	}
	cmd.Flags().BoolVar(&tips, "tips", false, "also say what would make the services better")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		out, err := newOutput(cmd)
		if err != nil {
			return err
		}
		what := ""
		if len(args) > 0 {
			what = args[0]
		}
		project, err := servicegen.Load(cmd.Context(), folderOf(what))
		if err != nil {
			return err
		}
		if !project.Select(what) {
			return fmt.Errorf("there is no service %q in %s; list-services lists those that there are: %w", what, project.Module.Path, errNothing)
		}
		result := validated{Services: project.Services, Findings: []servicegen.Finding{}}
		for _, f := range project.Findings {
			switch {
			case f.Severity == servicegen.Error:
				result.Errors++
			case f.Severity == servicegen.Warning:
				result.Warnings++
			case !tips:
				continue
			}
			result.Findings = append(result.Findings, f)
		}
		if err := out.print(result, func(t table) { printFindings(t, result) }); err != nil {
			return err
		}
		if result.Errors > 0 {
			return errFaulty
		}
		return nil
	}
	return cmd
}

// folderOf is where the project of a path lies; what is no path is a name in the project of the working directory.
func folderOf(what string) string {
	info, err := os.Stat(what)
	switch {
	case err != nil:
		return "."
	case info.IsDir():
		return what
	default:
		return filepath.Dir(what)
	}
}

func printFindings(t table, result validated) {
	for _, f := range result.Findings {
		t.linef("%s:%d:%d: %s: %s", f.File, f.Line, f.Column, f.Severity, f.Message)
		t.linef("    %s", f.Fix)
	}
	t.linef("%d services checked: %d errors, %d warnings", len(result.Services), result.Errors, result.Warnings)
}

func listServices() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list-services [PATH]", Args: args(cobra.MaximumNArgs(1)), Short: "List the services of the project, and whether they are registered",
		Long: "List the services that the source code of the project has, of the working directory or of a path. It fails with 3\n" +
			"when there is none.",
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		out, err := newOutput(cmd)
		if err != nil {
			return err
		}
		dir := "."
		if len(args) > 0 {
			dir = args[0]
		}
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no folder %s: %w", dir, errNothing)
		}
		project, err := servicegen.Load(cmd.Context(), dir)
		if err != nil {
			return err
		}
		if len(project.Services) == 0 {
			return fmt.Errorf("the project %s has no services; generate-service makes one: %w", project.Module.Path, errNothing)
		}
		return out.print(map[string]any{"module": project.Module.Path, "services": project.Services}, func(t table) {
			t.linef("NAME\tVERSION\tPRICE\tWHERE\tREGISTERED")
			for _, s := range project.Services {
				t.linef("%s\t%s\t%s\t%s:%d\t%s", or(s.Name, s.Type), or(s.Version, "-"), or(s.Price, "-"), s.File, s.Line, or(s.Registered, "no"))
			}
		})
	}
	return cmd
}

func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func showServiceExamples() *cobra.Command {
	var kind string
	cmd := &cobra.Command{Use: "show-service-examples", Args: args(cobra.NoArgs), Short: "Show the types of services, with complete examples of each"}
	cmd.Flags().StringVar(&kind, "type", "", "only this type: "+strings.Join(servicegen.KindNames(), ", "))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		out, err := newOutput(cmd)
		if err != nil {
			return err
		}
		kinds := servicegen.Kinds()
		if kind != "" {
			if _, ok := servicegen.FindKind(kind); !ok {
				return usageError{fmt.Errorf("there is no type %q: there is %s", kind, strings.Join(servicegen.KindNames(), ", "))}
			}
			kinds = slices.DeleteFunc(kinds, func(k servicegen.Kind) bool { return k.Name != kind })
		}
		return out.print(map[string]any{"types": kinds}, func(t table) {
			for i, k := range kinds {
				if i > 0 {
					t.linef("")
				}
				t.linef("%s: %s", k.Name, k.Summary)
				t.linef("    quickscale generate-service NAME --type %s --credit-cost 0.5   (for %s)", k.Name, k.Price)
				for _, e := range k.Examples {
					t.linef("  %s (%s)", e.Name, e.Path)
					t.linef("    %s", e.Summary)
					t.linef("    credits: %s", e.Price)
					t.linef("    %s", e.Run)
				}
			}
		})
	}
	return cmd
}
