package servicegen

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const servicesPath = library + "/services"

// place is where a project registers its services: the last of its calls of services.Register.
type place struct {
	file string
	text []byte
	fset *token.FileSet
	tree *ast.File
	// call is the registration, and around the nodes that it lies in, the innermost last.
	call   *ast.CallExpr
	around []ast.Node
}

// register plans the registration, beside the last one of the project. Where there is none that can be followed the plan
// stays without.
func (p *Plan) register(m Module, pkg, expression string) error {
	at, err := findPlace(m.Dir)
	if err != nil || at == nil {
		return err
	}
	name := pkg
	if at.taken(name) {
		name += "service"
	}
	text, ok := at.insert(name + "." + expression)
	if !ok {
		return nil
	}
	if text, err = addImport(at.file, text, name, pkg, p.Import); err != nil {
		return err
	}
	p.Statement = at.source(at.call.Fun) + "(" + at.source(at.call.Args[0]) + ", " + name + "." + expression + ")"
	p.Registration, p.before = &File{at.file, string(text)}, at.text
	return nil
}

// findPlace looks through the module's own files, in the order of their paths.
func findPlace(root string) (found *place, err error) {
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return skip(root, file, d.Name())
		case filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(file) //nolint:gosec // the developer's own source tree
		if err != nil || !bytes.Contains(text, []byte(servicesPath)) {
			return err
		}
		p := &place{file: file, text: text, fset: token.NewFileSet()}
		if p.tree, err = parser.ParseFile(p.fset, file, text, parser.ParseComments); err != nil {
			return fmt.Errorf("servicegen: read %s to register the service: %w", file, err)
		}
		if p.find() {
			found = p
			return filepath.SkipAll
		}
		return nil
	})
	return found, err
}

// skip leaves out folders that are not the module's own code.
func skip(root, dir, name string) error {
	if dir == root {
		return nil
	}
	if name == "vendor" || name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
		return filepath.SkipDir
	}
	return nil
}

// importName is the name by which a file knows a package; empty: it does not import it.
func importName(file *ast.File, path string) string {
	for _, spec := range file.Imports {
		if value, err := strconv.Unquote(spec.Path.Value); err != nil || value != path {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path[strings.LastIndex(path, "/")+1:]
	}
	return ""
}

func (p *place) find() bool {
	name := importName(p.tree, servicesPath)
	if name == "" {
		return false
	}
	var around []ast.Node
	ast.Inspect(p.tree, func(n ast.Node) bool {
		if n == nil {
			around = around[:len(around)-1]
			return true
		}
		if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > 1 && isSelector(call.Fun, name, "Register") {
			p.call, p.around = call, slices.Clone(around)
		}
		around = append(around, n)
		return true
	})
	return p.call != nil
}

func isSelector(e ast.Expr, pkg, name string) bool {
	if index, ok := e.(*ast.IndexListExpr); ok { // with its types
		e = index.X
	}
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	id, ok := s.X.(*ast.Ident)
	return ok && id.Name == pkg
}

func (p *place) offset(at token.Pos) int { return p.fset.Position(at).Offset }

func (p *place) source(n ast.Node) string { return string(p.text[p.offset(n.Pos()):p.offset(n.End())]) }

// taken tells that a name means something else in the file.
func (p *place) taken(name string) bool {
	found := false
	ast.Inspect(p.tree, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		found = found || (ok && id.Name == name)
		return !found
	})
	for _, spec := range p.tree.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		found = found || (err == nil && spec.Name == nil && path[strings.LastIndex(path, "/")+1:] == name)
	}
	return found
}

// insert adds a registration after the one that was found: as another argument where that is one, such as of
// errors.Join, and as another statement where it is one by itself.
func (p *place) insert(service string) (text []byte, ok bool) {
	fun, target := p.call.Fun, p.source(p.call.Args[0])
	if index, ok := fun.(*ast.IndexListExpr); ok {
		fun = index.X
	}
	next := p.source(fun) + "(" + target + ", " + service + ")"
	if len(p.around) == 0 {
		return nil, false
	}
	switch parent := p.around[len(p.around)-1].(type) {
	case *ast.CallExpr:
		return splice(p.text, p.offset(p.call.End()), ",\n"+next), true
	case *ast.AssignStmt:
		if len(p.around) < 2 {
			return nil, false
		}
		statement, ok := p.around[len(p.around)-2].(*ast.IfStmt)
		if !ok || statement.Init != parent || statement.Else != nil {
			return nil, false
		}
		whole := p.source(statement)
		from, to := p.offset(p.call.Pos())-p.offset(statement.Pos()), p.offset(p.call.End())-p.offset(statement.Pos())
		return splice(p.text, p.offset(statement.End()), "\n"+whole[:from]+next+whole[to:]), true
	default:
		return nil, false
	}
}

func splice(text []byte, at int, more string) []byte {
	return slices.Concat(text[:at], []byte(more), text[at:])
}

// addImport adds an import to a file and formats it.
func addImport(file string, text []byte, name, pkg, path string) ([]byte, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, file, text, parser.ImportsOnly)
	if err != nil {
		return nil, fmt.Errorf("servicegen: %s: %w", file, err)
	}
	line := strconv.Quote(path)
	if name != pkg {
		line = name + " " + line
	}
	last := tree.Decls[len(tree.Decls)-1].(*ast.GenDecl) // there is one: that of the services package
	if last.Rparen.IsValid() {
		text = splice(text, fset.Position(last.Rparen).Offset, "\t"+line+"\n")
	} else {
		text = splice(text, fset.Position(last.End()).Offset, "\nimport "+line)
	}
	formatted, err := format.Source(text)
	if err != nil {
		return nil, fmt.Errorf("servicegen: %s: %w", file, err)
	}
	return formatted, nil
}
