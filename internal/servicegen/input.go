package servicegen

import (
	"fmt"
	"go/token"
	"go/types"
	"reflect"
	"slices"
	"strings"

	"github.com/go-playground/validator/v10"
)

// inputChecker looks at an input as services.Register does, by its source. The rules are those of the services package's
// input.go.
type inputChecker struct {
	p *Project
	s *Service
}

func (p *Project) checkInput(s *Service) {
	c := &inputChecker{p, s}
	structure, ok := s.in.Underlying().(*types.Struct)
	if _, param := s.in.(*types.TypeParam); param {
		return
	}
	if !ok {
		p.fault(s.pkg, s.pos, "The input "+types.TypeString(s.in, types.RelativeTo(s.pkg.Types))+" of "+s.label()+" is not a struct.",
			"Take a struct whose fields have json names: type Input struct { Text string `json:\"text\"` }.")
		return
	}
	c.structure(structure, "")
	c.rules(structure)
}

// at is where a field is, or the service where its struct is of another module.
func (c *inputChecker) at(f *types.Var) token.Pos {
	if f.Pkg() == c.s.pkg.Types {
		return f.Pos()
	}
	return c.s.pos
}

func (c *inputChecker) structure(t *types.Struct, path string) bool {
	ok := true
	names := map[string]bool{}
	for i := range t.NumFields() {
		f, tag := t.Field(i), reflect.StructTag(t.Tag(i))
		at := join(path, f.Name())
		fault := func(message, fix string) {
			ok = false
			c.p.fault(c.s.pkg, c.at(f), "The input's field "+at+": "+message, fix)
		}
		name, settings, _ := strings.Cut(tag.Get("json"), ",")
		switch {
		case name == "-" && settings == "":
			continue
		case f.Embedded():
			fault("embedded fields are not supported.", "Write its fields out, or give it a name and a json tag.")
			continue
		case !f.Exported():
			fault("it is not exported, so JSON cannot fill it.", "Begin its name with a capital letter, or give it the tag `json:\"-\"`.")
			continue
		case name == "" || strings.ContainsAny(name, ".[]"):
			fault("it needs a json name without points and brackets.", "Add the tag `json:\""+snake(f.Name())+"\"`.")
			continue
		case strings.Contains(settings, "string"):
			fault("the json setting string is not supported.", "Leave ,string out.")
			continue
		case names[name]:
			fault("its json name "+name+" stands twice.", "Give it another.")
			continue
		}
		names[name] = true
		ok = c.kind(f, f.Type(), at, false) && ok
		c.tips(f, tag, at)
	}
	return ok
}

func join(parent, name string) string {
	if parent == "" {
		return name
	}
	return parent + "." + name
}

// snake is a Go name as a JSON name: WordCount becomes word_count.
func snake(name string) string {
	var out strings.Builder
	for i, r := range name {
		if r >= 'A' && r <= 'Z' {
			if i > 0 && (name[i-1] < 'A' || name[i-1] > 'Z') {
				out.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		out.WriteRune(r)
	}
	return out.String()
}

// kind tells whether a form and JSON can carry a type.
func (c *inputChecker) kind(f *types.Var, t types.Type, path string, inList bool) bool {
	fault := func(message, fix string) bool {
		c.p.fault(c.s.pkg, c.at(f), "The input's field "+path+": "+message, fix)
		return false
	}
	if isNamed(t, servicesPath, "File") {
		if inList {
			return fault("a list holds text, numbers or booleans.", "Take one field of the type services.File for each file.")
		}
		return true
	}
	text := types.TypeString(t, types.RelativeTo(c.s.pkg.Types))
	for _, name := range []string{"UnmarshalJSON", "UnmarshalText"} {
		if object, _, _ := types.LookupFieldOrMethod(types.NewPointer(t), true, nil, name); object != nil {
			return fault(text+" decodes itself, which a form cannot.", "Use text or a number, and parse it in Execute.")
		}
	}
	switch u := t.Underlying().(type) {
	case *types.Basic:
		if u.Info()&(types.IsString|types.IsInteger|types.IsFloat|types.IsBoolean) != 0 && u.Kind() != types.Uintptr {
			return true
		}
	case *types.Pointer:
		if _, basic := u.Elem().Underlying().(*types.Basic); basic && !inList {
			return c.kind(f, u.Elem(), path, true)
		}
		return fault("a pointer may lead to text, a number or a boolean only.", "Take the value itself.")
	case *types.Slice:
		elem, basic := u.Elem().Underlying().(*types.Basic)
		switch {
		case inList || !basic:
			return fault("a list holds text, numbers or booleans.", "Take a text of JSON, and decode it in Execute.")
		case elem.Kind() == types.Uint8:
			return fault("bytes are not supported.", "Use services.File for a file, and a string for text.")
		}
		return c.kind(f, u.Elem(), path, true)
	case *types.Struct:
		return c.structure(u, path)
	}
	return fault(text+" is not supported.", "Use text, a number, a boolean, a list of these, a struct, or services.File.")
}

// tips are about fields that would be better with a bound.
func (c *inputChecker) tips(f *types.Var, tag reflect.StructTag, path string) {
	rules := strings.Split(tag.Get("validate"), ",")
	bounded := slices.ContainsFunc(rules, func(r string) bool {
		name, _, _ := strings.Cut(r, "=")
		return slices.Contains([]string{"max", "lte", "lt", "len", "oneof", "eq"}, name)
	})
	_, enum := tag.Lookup("enum")
	basic, isBasic := f.Type().Underlying().(*types.Basic)
	_, isList := f.Type().Underlying().(*types.Slice)
	if (isList || (isBasic && basic.Info()&types.IsString != 0)) && !bounded && !enum {
		c.p.add(Tip, c.s.pkg, c.at(f), "The input's field "+path+" has no bound.", "Add validate:\"max=…\", so that nobody sends more than the price covers.")
	}
	if tag.Get("title") == "" && tag.Get("description") == "" {
		c.p.add(Tip, c.s.pkg, c.at(f), "The input's field "+path+" explains itself by its name only.", "Add title:\"…\" and description:\"…\", which the form, the API's description and AI agents show.")
	}
}

// file stands for services.File where the validator looks at a field.
type file struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Data []byte `json:"data"`
}

var (
	basics = map[types.BasicKind]reflect.Type{
		types.Bool: reflect.TypeFor[bool](), types.String: reflect.TypeFor[string](),
		types.Int: reflect.TypeFor[int](), types.Int8: reflect.TypeFor[int8](), types.Int16: reflect.TypeFor[int16](), types.Int32: reflect.TypeFor[int32](), types.Int64: reflect.TypeFor[int64](),
		types.Uint: reflect.TypeFor[uint](), types.Uint8: reflect.TypeFor[uint8](), types.Uint16: reflect.TypeFor[uint16](), types.Uint32: reflect.TypeFor[uint32](), types.Uint64: reflect.TypeFor[uint64](),
		types.Float32: reflect.TypeFor[float32](), types.Float64: reflect.TypeFor[float64](),
	}
)

// typeOf is a type as reflect has it, for those that an input may have; nil for others.
func typeOf(t types.Type) reflect.Type {
	if isNamed(t, servicesPath, "File") {
		return reflect.TypeFor[file]()
	}
	switch u := t.Underlying().(type) {
	case *types.Basic:
		return basics[u.Kind()]
	case *types.Pointer:
		if elem := typeOf(u.Elem()); elem != nil {
			return reflect.PointerTo(elem)
		}
	case *types.Slice:
		if elem := typeOf(u.Elem()); elem != nil {
			return reflect.SliceOf(elem)
		}
	}
	return nil
}

// rules lets the validator look at each field with the rules that it has, and tells of those that it does not know.
func (c *inputChecker) rules(t *types.Struct) {
	for i := range t.NumFields() {
		f, tag := t.Field(i), reflect.StructTag(t.Tag(i))
		if inner, ok := f.Type().Underlying().(*types.Struct); ok && !isNamed(f.Type(), servicesPath, "File") {
			c.rules(inner)
			continue
		}
		rule, has := tag.Lookup("validate")
		goType := typeOf(f.Type())
		if !has || goType == nil || !f.Exported() {
			continue
		}
		if cause := probe(goType, rule); cause != "" {
			c.p.fault(c.s.pkg, c.at(f), "The input's field "+f.Name()+": the rule validate:\""+rule+"\" cannot be read: "+cause+".",
				"Use the rules of github.com/go-playground/validator that fit a "+types.TypeString(f.Type(), types.RelativeTo(c.s.pkg.Types))+", such as required, min=1 or max=100.")
		}
	}
}

// probe says why the validator cannot use a rule, at which it panics. It reads some rules only when it meets a value.
func probe(t reflect.Type, rule string) (cause string) {
	defer func() {
		if said := recover(); said != nil {
			cause = strings.TrimSpace(fmt.Sprint(said))
		}
	}()
	v := validator.New(validator.WithRequiredStructEnabled())
	filled := reflect.New(t).Elem()
	fill(filled)
	for _, value := range []reflect.Value{reflect.Zero(t), filled} {
		// Whether the value is valid does not matter here.
		_ = v.Var(value.Interface(), rule)
	}
	return ""
}

// fill gives a value what is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Struct:
		for _, f := range v.Fields() {
			fill(f)
		}
	default:
		switch {
		case v.CanInt():
			v.SetInt(1)
		case v.CanUint():
			v.SetUint(1)
		case v.CanFloat():
			v.SetFloat(1)
		}
	}
}
