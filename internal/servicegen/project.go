package servicegen

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// Project is a host's module as it was read and type-checked.
type Project struct {
	Module   Module
	Services []*Service
	// Findings are what is wrong, in the order of files and lines.
	Findings []Finding

	packages []*packages.Package
}

// Service is one that a project has.
type Service struct {
	// Name, Title and Version are what its Info says, empty where they are not written out there.
	Name    string `json:"name"`
	Title   string `json:"title"`
	Version string `json:"version,omitempty"`
	// Price is its kind, such as fixed or metered, empty where Pricing is not written out.
	Price string `json:"price,omitempty"`
	// Package is its import path, and Type its Go type; empty for a function.
	Package string `json:"package"`
	Type    string `json:"type,omitempty"`
	// File and Line are where it is, the file below the module's folder.
	File string `json:"file"`
	Line int    `json:"line"`
	// Registered is where it is registered, as file:line; empty: nowhere.
	Registered string `json:"registered,omitempty"`

	summary  string
	info     *ast.CompositeLit
	pos      token.Pos
	pkg      *packages.Package
	in, out  types.Type
	execute  *ast.BlockStmt
	tested   bool
	nameAt   token.Pos
	complete bool // that it has all methods
}

// label is how messages call a service.
func (s *Service) label() string {
	if s.Name != "" {
		return s.Name
	}
	return s.Type
}

const loadMode = packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo

// Load reads the project that a folder lies in, and finds its services and what is wrong with them.
func Load(ctx context.Context, dir string) (*Project, error) {
	m, err := FindModule(dir)
	if err != nil {
		return nil, err
	}
	p := &Project{Module: m}
	p.packages, err = packages.Load(&packages.Config{Context: ctx, Mode: loadMode, Dir: m.Dir}, "./...")
	if err != nil {
		return nil, fmt.Errorf("read the module %s: %w", m.Path, err)
	}
	if len(p.packages) == 0 {
		return nil, errors.New("the module " + m.Path + " has no packages")
	}
	for _, pkg := range p.packages {
		p.broken(pkg)
		if pkg.Types == nil || pkg.TypesInfo == nil || pkg.PkgPath == servicesPath {
			continue
		}
		p.findTypes(pkg)
		p.findFuncs(pkg)
	}
	for _, pkg := range p.packages {
		p.findRegistrations(pkg)
	}
	for _, s := range p.Services {
		p.check(s)
	}
	p.checkNames()
	p.sort()
	return p, nil
}

func (p *Project) sort() {
	slices.SortStableFunc(p.Services, func(a, b *Service) int { return strings.Compare(a.label(), b.label()) })
	slices.SortStableFunc(p.Findings, func(a, b Finding) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	p.Findings = slices.CompactFunc(p.Findings, func(a, b Finding) bool { return a == b })
}

// Select keeps the services that a name means, or that lie in a folder or file; "" keeps all. It returns false when there
// is none.
func (p *Project) Select(what string) bool {
	if what == "" {
		return true
	}
	name := strings.ReplaceAll(what, "_", "-")
	var kept []*Service
	dirs := map[string]bool{}
	for _, s := range p.Services {
		if s.Name == name || s.Type == what || (s.pkg != nil && s.pkg.Name == strings.ReplaceAll(name, "-", "")) {
			kept = append(kept, s)
			dirs[filepath.Dir(s.File)] = true
		}
	}
	if len(kept) == 0 {
		below, ok := p.below(what)
		if !ok {
			return false
		}
		for _, s := range p.Services {
			if s.File == below || under(s.File, below) {
				kept = append(kept, s)
			}
		}
		found := len(kept) > 0
		dirs[below] = true
		for _, f := range p.Findings {
			found = found || f.File == below || under(f.File, below)
		}
		if !found {
			return false
		}
	}
	p.Services = kept
	p.Findings = slices.DeleteFunc(slices.Clone(p.Findings), func(f Finding) bool {
		for dir := range dirs {
			if f.File == dir || under(f.File, dir) {
				return false
			}
		}
		return true
	})
	return true
}

func under(file, dir string) bool {
	return dir == "." || strings.HasPrefix(file, dir+string(filepath.Separator))
}

// below is a path as it is from the module's folder.
func (p *Project) below(path string) (string, bool) {
	at, err := filepath.Abs(path)
	if err != nil {
		return "", false
	}
	if followed, err := filepath.EvalSymlinks(at); err == nil {
		at = followed
	}
	root := p.Module.Dir
	if followed, err := filepath.EvalSymlinks(root); err == nil {
		root = followed
	}
	rel, err := filepath.Rel(root, at)
	return rel, err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// where is a position with its file below the module's folder.
func (p *Project) where(pkg *packages.Package, pos token.Pos) token.Position {
	at := pkg.Fset.Position(pos)
	if rel, err := filepath.Rel(p.Module.Dir, at.Filename); err == nil {
		at.Filename = rel
	}
	return at
}

// isNamed tells that a type is a named one of the services package.
func isNamed(t types.Type, path, name string) bool {
	n, ok := types.Unalias(t).(*types.Named)
	return ok && n.Obj().Name() == name && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == path
}

// method finds a method of a type or a pointer to it.
func method(n *types.Named, name string) *types.Func {
	for m := range n.Methods() {
		if m.Name() == name {
			return m
		}
	}
	return nil
}

// findTypes finds the types that are services, or begin to be.
func (p *Project) findTypes(pkg *packages.Package) {
	scope := pkg.Types.Scope()
	for _, name := range scope.Names() {
		object, ok := scope.Lookup(name).(*types.TypeName)
		if !ok || object.IsAlias() {
			continue
		}
		named, ok := object.Type().(*types.Named)
		if !ok || types.IsInterface(named) || !looksLikeService(named) {
			continue
		}
		p.addType(pkg, object, named)
	}
}

// looksLikeService tells that a type has a method that only services have.
func looksLikeService(n *types.Named) bool {
	for m := range n.Methods() {
		sig := m.Signature()
		for v := range sig.Results().Variables() {
			if isNamed(v.Type(), servicesPath, "Info") || isNamed(v.Type(), servicesPath, "Pricing") {
				return true
			}
		}
		for v := range sig.Params().Variables() {
			if ptr, ok := v.Type().(*types.Pointer); ok && m.Name() == "Execute" && isNamed(ptr.Elem(), servicesPath, "Call") {
				return true
			}
		}
	}
	return false
}

func (p *Project) addType(pkg *packages.Package, object *types.TypeName, named *types.Named) {
	at := p.where(pkg, object.Pos())
	s := &Service{Package: pkg.PkgPath, Type: object.Name(), File: at.Filename, Line: at.Line, pos: object.Pos(), pkg: pkg, nameAt: object.Pos(), complete: true}
	p.Services = append(p.Services, s)
	for _, want := range []struct {
		name, signature string
		fits            func(sig *types.Signature) bool
	}{
		{"Info", "Info() services.Info", func(sig *types.Signature) bool { return returns(sig, "Info") }},
		{"Pricing", "Pricing() services.Pricing", func(sig *types.Signature) bool { return returns(sig, "Pricing") }},
		{"Execute", "Execute(ctx context.Context, call *services.Call, in Input) (Output, error)", func(sig *types.Signature) bool {
			s.in, s.out = executes(sig)
			return s.in != nil
		}},
	} {
		m := method(named, want.name)
		switch {
		case m == nil:
			s.complete = false
			p.fault(pkg, object.Pos(), s.Type+" has no method "+want.name+".", "Add func ("+s.Type+") "+want.signature+".")
		case !want.fits(m.Signature()):
			s.complete = false
			p.fault(pkg, m.Pos(), "The method "+want.name+" of "+s.Type+" has another signature than services.Service asks for.", "Write func ("+s.Type+") "+want.signature+".")
		}
	}
	s.info = returned(pkg, method(named, "Info"), func(e ast.Expr) *ast.CompositeLit { return infoLiteral(pkg, e) })
	s.Price = priceOf(pkg, returned(pkg, method(named, "Pricing"), func(e ast.Expr) *ast.CallExpr { c, _ := ast.Unparen(e).(*ast.CallExpr); return c }))
	s.execute = bodyOf(pkg, method(named, "Execute"))
	p.readInfo(s)
}

func returns(sig *types.Signature, name string) bool {
	return sig.Params().Len() == 0 && sig.Results().Len() == 1 && isNamed(sig.Results().At(0).Type(), servicesPath, name)
}

// executes returns the types of a function that does a service's work, or nil.
func executes(sig *types.Signature) (in, out types.Type) {
	if sig.Params().Len() != 3 || sig.Results().Len() != 2 || sig.Variadic() || !isNamed(sig.Params().At(0).Type(), "context", "Context") {
		return nil, nil
	}
	call, ok := sig.Params().At(1).Type().(*types.Pointer)
	if !ok || !isNamed(call.Elem(), servicesPath, "Call") || !types.Identical(sig.Results().At(1).Type(), types.Universe.Lookup("error").Type()) {
		return nil, nil
	}
	return sig.Params().At(2).Type(), sig.Results().At(0).Type()
}

// bodyOf finds the source of a function.
func bodyOf(pkg *packages.Package, f *types.Func) *ast.BlockStmt {
	if f == nil {
		return nil
	}
	for _, file := range pkg.Syntax {
		for _, d := range file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && pkg.TypesInfo.Defs[fn.Name] == f {
				return fn.Body
			}
		}
	}
	return nil
}

// returned finds what a function returns that read makes something of.
func returned[T any](pkg *packages.Package, f *types.Func, read func(ast.Expr) *T) (found *T) {
	body := bodyOf(pkg, f)
	if body == nil {
		return nil
	}
	ast.Inspect(body, func(n ast.Node) bool {
		if r, ok := n.(*ast.ReturnStmt); ok && len(r.Results) == 1 && found == nil {
			found = read(r.Results[0])
		}
		return found == nil
	})
	return found
}

func infoLiteral(pkg *packages.Package, e ast.Expr) *ast.CompositeLit {
	if l, ok := ast.Unparen(e).(*ast.CompositeLit); ok && isNamed(pkg.TypesInfo.TypeOf(l), servicesPath, "Info") {
		return l
	}
	return nil
}

// prices are the constructors of prices.
var prices = map[string]string{"Free": "free", "Fixed": "fixed", "PerUnit": "per unit", "Table": "table", "Metered": "metered", "Computed": "computed"}

func priceOf(pkg *packages.Package, call *ast.CallExpr) string {
	if call == nil {
		return ""
	}
	return prices[calledOf(pkg, call)]
}

// calledOf is the name of the function of the services package that a call calls, or "".
func calledOf(pkg *packages.Package, call *ast.CallExpr) string {
	fun := ast.Unparen(call.Fun)
	switch index := fun.(type) {
	case *ast.IndexExpr:
		fun = index.X
	case *ast.IndexListExpr:
		fun = index.X
	}
	s, ok := fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if f, ok := pkg.TypesInfo.Uses[s.Sel].(*types.Func); ok && f.Pkg() != nil && f.Pkg().Path() == servicesPath {
		return f.Name()
	}
	return ""
}

// readInfo takes what is written out in a services.Info.
func (p *Project) readInfo(s *Service) {
	if s.info == nil {
		return
	}
	s.nameAt = s.info.Pos()
	for _, e := range s.info.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		key, ok := kv.Key.(*ast.Ident)
		value := s.pkg.TypesInfo.Types[kv.Value].Value
		if !ok || value == nil || value.Kind() != constant.String {
			continue
		}
		text := constant.StringVal(value)
		switch key.Name {
		case "Name":
			s.Name, s.nameAt = text, kv.Value.Pos()
		case "Title":
			s.Title = text
		case "Version":
			s.Version = text
		case "Summary":
			s.summary = text
		}
	}
}

// findFuncs finds the services that are made of functions.
func (p *Project) findFuncs(pkg *packages.Package) {
	for _, file := range pkg.Syntax {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 3 || calledOf(pkg, call) != "Func" {
				return true
			}
			at := p.where(pkg, call.Pos())
			s := &Service{Package: pkg.PkgPath, File: at.Filename, Line: at.Line, pos: call.Pos(), pkg: pkg, nameAt: call.Pos(), complete: true, info: infoLiteral(pkg, call.Args[0])}
			if sig, ok := pkg.TypesInfo.TypeOf(call.Args[2]).(*types.Signature); ok {
				s.in, s.out = executes(sig)
			}
			if price, ok := ast.Unparen(call.Args[1]).(*ast.CallExpr); ok {
				s.Price = priceOf(pkg, price)
			}
			if fn, ok := ast.Unparen(call.Args[2]).(*ast.FuncLit); ok {
				s.execute = fn.Body
			}
			p.readInfo(s)
			p.Services = append(p.Services, s)
			return true
		})
	}
}

// findRegistrations notes where services are registered.
func (p *Project) findRegistrations(pkg *packages.Package) {
	for _, file := range pkg.Syntax {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 2 || pkg.TypesInfo == nil || calledOf(pkg, call) != "Register" {
				return true
			}
			at := p.where(pkg, call.Pos())
			t := pkg.TypesInfo.TypeOf(call.Args[1])
			if ptr, ok := t.(*types.Pointer); ok {
				t = ptr.Elem()
			}
			for _, s := range p.Services {
				named, isType := types.Unalias(t).(*types.Named)
				same := isType && s.Type != "" && named.Obj().Name() == s.Type && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == s.Package
				inside := s.Type == "" && s.pkg == pkg && call.Args[1].Pos() <= s.pos && s.pos < call.Args[1].End()
				if same || inside {
					s.Registered = fmt.Sprintf("%s:%d", at.Filename, at.Line)
				}
			}
			return true
		})
	}
}
