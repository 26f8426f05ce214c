package servicegen

import (
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/tools/go/packages"
)

// Severity is how bad a finding is.
type Severity string

// The severities. A service with an error cannot be registered or does not compile; a warning is nearly always a mistake;
// a tip makes a service better.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Tip     Severity = "tip"
)

// Finding is something to mend.
type Finding struct {
	Severity Severity `json:"severity"`
	// File is below the module's folder. Line and Column are from 1, or 0 where the place is not known.
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	// Fix says how to mend it.
	Fix string `json:"fix"`
}

func (p *Project) add(severity Severity, pkg *packages.Package, pos token.Pos, message, fix string) {
	at := p.where(pkg, pos)
	p.Findings = append(p.Findings, Finding{severity, at.Filename, at.Line, at.Column, message, fix})
}

func (p *Project) fault(pkg *packages.Package, pos token.Pos, message, fix string) {
	p.add(Error, pkg, pos, message, fix)
}

// remedies are what to do about errors of the compiler, the first that matches.
var remedies = []struct {
	message *regexp.Regexp
	fix     string
}{
	{regexp.MustCompile(`imported and not used`), "Remove the import, or use the package."},
	{regexp.MustCompile(`declared and not used`), "Remove the variable, or use it."},
	{regexp.MustCompile(`no required module provides package|could not import|cannot find package|cannot find module`), "Run `go mod tidy`, or `go get` the module; check the path for a slip of the pen."},
	{regexp.MustCompile(`undefined:`), "Declare the name, import its package, or mend its spelling."},
	{regexp.MustCompile(`has no field or method`), "Mend the spelling of the field or method."},
	{regexp.MustCompile(`does not implement|missing method|wrong type for method`), "Give the type the methods of services.Service: Info, Pricing and Execute."},
	{regexp.MustCompile(`cannot infer|in call to services\.(Register|Func)`), "The price and Execute must be of one input type; see services.Service."},
	{regexp.MustCompile(`cannot use|mismatched types|assignment mismatch|not enough|too many`), "Make the value and the type that is asked for agree."},
	{regexp.MustCompile(`missing return`), "Return an output and an error at the end of the function."},
	{regexp.MustCompile(`expected|unexpected|illegal|not terminated`), "This is not Go; look for a missing bracket, comma or quote here or on the line before."},
}

const noRemedy = "Mend what the Go compiler says."

var position = regexp.MustCompile(`^(.*?):(\d+)(?::(\d+))?$`)

// broken notes what the parser and the type checker say.
func (p *Project) broken(pkg *packages.Package) {
	for _, e := range pkg.Errors {
		f := Finding{Severity: Error, Message: strings.TrimSpace(e.Msg), Fix: noRemedy}
		for _, r := range remedies {
			if r.message.MatchString(e.Msg) {
				f.Fix = r.fix
				break
			}
		}
		if m := position.FindStringSubmatch(e.Pos); m != nil {
			f.File = m[1]
			f.Line, _ = strconv.Atoi(m[2]) // digits
			f.Column, _ = strconv.Atoi(m[3])
		}
		if rel, err := filepath.Rel(p.Module.Dir, f.File); err == nil && filepath.IsAbs(f.File) {
			f.File = rel
		}
		if f.File == "" && len(pkg.GoFiles) > 0 {
			if rel, err := filepath.Rel(p.Module.Dir, pkg.GoFiles[0]); err == nil {
				f.File = rel
			}
		}
		p.Findings = append(p.Findings, f)
	}
}
