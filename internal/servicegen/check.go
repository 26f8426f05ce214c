package servicegen

import (
	"fmt"
	"go/ast"
	"go/types"
	"path/filepath"
	"regexp"
	"strings"
)

// slug is what services.Register asks of a name.
var slug = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// check finds what services.Register would refuse, and what is unwise.
func (p *Project) check(s *Service) {
	p.checkInfo(s)
	if s.in != nil {
		p.checkInput(s)
	}
	if s.out != nil {
		p.checkOutput(s)
	}
	p.checkWork(s)
	if s.Registered == "" && s.complete {
		what := s.Type + "{}"
		if s.Type == "" {
			what = "…"
		} else if s.pkg.Name != "main" {
			what = s.pkg.Name + "." + what
		}
		p.add(Warning, s.pkg, s.pos, "The service "+s.label()+" is registered nowhere, so nobody can call it.",
			"Where the program starts, add services.Register(app.Services, "+what+").")
	}
	tests, err := filepath.Glob(filepath.Join(p.Module.Dir, filepath.Dir(s.File), "*_test.go"))
	if s.tested = err == nil && len(tests) > 0; !s.tested {
		p.add(Tip, s.pkg, s.pos, "The service "+s.label()+" has no test beside it.", "Test Execute with services.NewCall, and the price with Pricing().Of.")
	}
}

func (p *Project) checkInfo(s *Service) {
	if s.info == nil {
		return // put together at run time
	}
	given := map[string]ast.Expr{}
	for _, e := range s.info.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok {
				given[key.Name] = kv.Value
			}
		}
	}
	literal := func(name string) bool {
		e, ok := given[name]
		return !ok || s.pkg.TypesInfo.Types[e].Value != nil
	}
	if literal("Name") && (len(s.Name) > maxName || !slug.MatchString(s.Name)) {
		p.fault(s.pkg, s.nameAt, fmt.Sprintf("The name %q cannot stand in a URL.", s.Name),
			fmt.Sprintf("Use lower-case letters and digits, in words joined by hyphens, at most %d bytes, such as %q.", maxName, suggest(s.Name, s.pkg.Name)))
	}
	if literal("Title") && s.Title == "" {
		p.fault(s.pkg, s.info.Pos(), "The service "+s.label()+" has no title.", "Set Info.Title, which people see.")
	}
	if literal("Summary") && s.summary == "" {
		p.add(Tip, s.pkg, s.info.Pos(), "The service "+s.label()+" has no summary.", "Set Info.Summary: a sentence that the list, the API's description and AI agents show.")
	}
	if literal("Version") && s.Version == "" {
		p.add(Tip, s.pkg, s.info.Pos(), "The service "+s.label()+" has no version.", "Set Info.Version, which is recorded with each call and lets a second version stand beside it.")
	}
	if s.Price == "free" {
		p.add(Tip, s.pkg, s.pos, "The service "+s.label()+" is free.", "If it should earn credits, let Pricing return services.Fixed, PerUnit, Table or Metered.")
	}
}

// suggest makes a valid name of one that is not.
func suggest(name, fallback string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	if made := strings.Join(words, "-"); made != "" && len(made) <= maxName {
		return made
	}
	return fallback
}

// checkNames finds names that stand twice in one version.
func (p *Project) checkNames() {
	first := map[[2]string]*Service{}
	for _, s := range p.Services {
		key := [2]string{s.Name, s.Version}
		o, twice := first[key]
		switch {
		case s.Name == "" || (s.Registered == "" && s.Type != ""):
		case twice:
			p.fault(s.pkg, s.nameAt, fmt.Sprintf("The name %q is taken in version %q by %s:%d.", s.Name, s.Version, o.File, o.Line), "Choose another name, or another version.")
		default:
			first[key] = s
		}
	}
}

// checkOutput finds outputs that are no JSON object.
func (p *Project) checkOutput(s *Service) {
	if _, param := s.out.(*types.TypeParam); param {
		return
	}
	ok := false
	switch u := s.out.Underlying().(type) {
	case *types.Struct:
		ok = true
	case *types.Map:
		key, isBasic := u.Key().Underlying().(*types.Basic)
		ok = isBasic && key.Info()&types.IsString != 0
	}
	if !ok {
		p.fault(s.pkg, s.pos, "The output "+types.TypeString(s.out, types.RelativeTo(s.pkg.Types))+" of "+s.label()+" is not a JSON object.",
			"Return a struct with json names, or a map whose keys are strings.")
	}
}

// checkWork looks for what makes Execute hard to stop or to trust.
func (p *Project) checkWork(s *Service) {
	if s.execute == nil {
		return
	}
	ast.Inspect(s.execute, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "panic" && s.pkg.TypesInfo.Uses[id] == types.Universe.Lookup("panic") {
			p.add(Tip, s.pkg, call.Pos(), "Execute panics; the caller is told that the service failed, and no more.", "Return an error, or services.Failure with a sentence for the caller.")
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		f, ok := s.pkg.TypesInfo.Uses[sel.Sel].(*types.Func)
		if !ok || f.Pkg() == nil || f.Signature().Recv() != nil {
			return true
		}
		switch f.Pkg().Path() + "." + f.Name() {
		case "context.Background", "context.TODO":
			p.add(Warning, s.pkg, call.Pos(), "Execute works under a context of its own, which does not end when the caller is gone or the time is up.", "Pass on the ctx that Execute is given.")
		case "time.Sleep":
			p.add(Warning, s.pkg, call.Pos(), "time.Sleep does not end when the caller is gone or the time is up.", "Wait with a select on ctx.Done() and time.After.")
		case "net/http.Get", "net/http.Post", "net/http.Head", "net/http.PostForm", "net/http.NewRequest":
			p.add(Warning, s.pkg, call.Pos(), "This request does not end when the caller is gone or the time is up.", "Make it with http.NewRequestWithContext(ctx, …).")
		case "os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln":
			p.add(Warning, s.pkg, call.Pos(), "This ends the whole program, with everybody's calls.", "Return an error.")
		}
		return true
	})
}
