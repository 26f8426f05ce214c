package web

import (
	"fmt"
	"html/template"
	"maps"
	"reflect"
	"slices"
	"strings"
	"text/template/parse"
)

// shape is what is known of a value before there is one.
type shape struct {
	// t is its type. Nil: not known, or a dict.
	t reflect.Type
	// keys are those of a dict, or the fields of a page.
	keys map[string]shape
	// closed says that there are no other keys, unlike in a dict, where an absent one reads as nothing.
	closed bool
}

// pageType is the shape of a page whose own data has the type of data. Nil: any type.
func pageType(data any) shape {
	s := shape{keys: map[string]shape{}, closed: true}
	for f := range reflect.TypeFor[Page]().Fields() {
		s.keys[f.Name] = shape{t: f.Type}
	}
	s.keys["Data"] = shape{t: reflect.TypeOf(data)}
	return s
}

// String tells two shapes apart.
func (s shape) String() string {
	if s.keys == nil {
		return fmt.Sprint(s.t)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.keys)) {
		fmt.Fprintf(&b, "%s:%s,", name, s.keys[name])
	}
	return "{" + b.String() + "}"
}

// name is the type as an error tells it.
func (s shape) name() string {
	if s.t == nil {
		return "a page"
	}
	return s.t.String()
}

// indirect is the type without pointers; nil when nothing is known of it.
func (s shape) indirect() reflect.Type {
	t := s.t
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() == reflect.Interface && t.NumMethod() == 0 {
		return nil
	}
	return t
}

// field is the shape of what s has under a name, as text/template looks it up: a method, a field, or a key. ok is false
// when there can be none.
func (s shape) field(name string) (found shape, ok bool) {
	if s.keys != nil {
		found, ok = s.keys[name]
		return found, ok || !s.closed
	}
	t := s.indirect()
	if t == nil {
		return shape{}, true
	}
	method, ok := t.MethodByName(name)
	if !ok && t.Kind() != reflect.Interface {
		method, ok = reflect.PointerTo(t).MethodByName(name)
	}
	if ok {
		if method.Type.NumOut() == 0 {
			return shape{}, false
		}
		return shape{t: method.Type.Out(0)}, true
	}
	switch t.Kind() {
	case reflect.Struct:
		f, ok := t.FieldByName(name)
		return shape{t: f.Type}, ok && f.IsExported()
	case reflect.Map:
		return shape{t: t.Elem()}, t.Key().Kind() == reflect.String
	case reflect.Interface: // what is inside may have more
		return shape{}, true
	default:
		return shape{}, false
	}
}

// elements are the shapes of the keys and values that a range over s gives. ok is false when it can give none.
func (s shape) elements() (key, value shape, ok bool) {
	t := s.indirect()
	if t == nil {
		return shape{}, shape{}, s.keys == nil || !s.closed
	}
	number := shape{t: reflect.TypeFor[int]()}
	switch t.Kind() {
	case reflect.Slice, reflect.Array, reflect.Chan:
		return number, shape{t: t.Elem()}, true
	case reflect.Map:
		return shape{t: t.Key()}, shape{t: t.Elem()}, true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return s, s, true
	case reflect.Func, reflect.Interface: // an iterator, or anything
		return shape{}, shape{}, true
	default:
		return shape{}, shape{}, false
	}
}

// checker walks a template as its execution would, with types in the place of values.
type checker struct {
	set  *template.Template
	tree *parse.Tree
	vars []variable
	// seen are templates with the shapes that they were walked with, since they may call themselves.
	seen map[string]bool
}

type variable struct {
	name  string
	shape shape
}

// fault is an error on its way up.
type fault struct{ error }

// check finds in the template name of set, and in all that it calls, what cannot be with a value of the shape: a field or
// method that the type does not have, a template that is not defined, a range over what has no elements. What depends on
// an interface or a function's result of any type is not known before it is executed, and passes.
func check(set *template.Template, name string, dot shape) (err error) {
	defer func() {
		switch cause := recover().(type) {
		case nil:
		case fault:
			err = cause.error
		default:
			panic(cause)
		}
	}()
	c := &checker{set: set, seen: map[string]bool{}}
	c.call(nil, name, dot)
	return nil
}

func (c *checker) failf(node parse.Node, format string, args ...any) {
	where := ""
	if node != nil {
		location, _ := c.tree.ErrorContext(node)
		where = location + ": "
	}
	panic(fault{fmt.Errorf("web: the template "+where+format, args...)})
}

// call walks a template by its name.
func (c *checker) call(from parse.Node, name string, dot shape) {
	t := c.set.Lookup(name)
	if t == nil || t.Tree == nil {
		c.failf(from, "{{template %q}}: no file defines this template", name)
	}
	key := name + " " + dot.String()
	if c.seen[key] {
		return
	}
	c.seen[key] = true
	tree, vars := c.tree, c.vars
	c.tree, c.vars = t.Tree, []variable{{"$", dot}}
	c.walk(dot, t.Tree.Root)
	c.tree, c.vars = tree, vars
}

func (c *checker) walk(dot shape, node parse.Node) {
	switch n := node.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, one := range n.Nodes {
				c.walk(dot, one)
			}
		}
	case *parse.ActionNode:
		c.pipe(dot, n.Pipe)
	case *parse.TemplateNode:
		c.call(n, n.Name, c.pipe(dot, n.Pipe))
	case *parse.IfNode:
		c.branch(func() {
			c.pipe(dot, n.Pipe)
			c.branch(func() { c.walk(dot, n.List) })
			c.branch(func() { c.walk(dot, n.ElseList) })
		})
	case *parse.WithNode:
		c.branch(func() {
			with := c.pipe(dot, n.Pipe)
			c.branch(func() { c.walk(with, n.List) })
			c.branch(func() { c.walk(dot, n.ElseList) })
		})
	case *parse.RangeNode:
		c.branch(func() { c.loop(dot, n) })
	}
}

// branch forgets the variables that fn declares.
func (c *checker) branch(fn func()) {
	mark := len(c.vars)
	fn()
	c.vars = c.vars[:mark]
}

func (c *checker) loop(dot shape, n *parse.RangeNode) {
	decl := n.Pipe.Decl
	over := c.commands(dot, n.Pipe)
	key, value, ok := over.elements()
	if !ok {
		c.failf(n.Pipe, "{{range %s}}: %s has no elements", n.Pipe, over.name())
	}
	c.branch(func() {
		switch len(decl) {
		case 1:
			c.assign(n.Pipe, decl[0].Ident[0], value)
		case 2:
			c.assign(n.Pipe, decl[0].Ident[0], key)
			c.assign(n.Pipe, decl[1].Ident[0], value)
		}
		c.walk(value, n.List)
	})
	c.branch(func() { c.walk(dot, n.ElseList) })
}

// assign keeps the shape of a variable. One that is given values of two shapes has none.
func (c *checker) assign(pipe *parse.PipeNode, name string, s shape) {
	if !pipe.IsAssign {
		c.vars = append(c.vars, variable{name, s})
		return
	}
	for i := len(c.vars) - 1; i >= 0; i-- {
		if c.vars[i].name == name {
			if c.vars[i].shape.String() != s.String() {
				c.vars[i].shape = shape{}
			}
			return
		}
	}
}

// pipe is the shape of a pipeline's value.
func (c *checker) pipe(dot shape, pipe *parse.PipeNode) shape {
	if pipe == nil {
		return shape{}
	}
	s := c.commands(dot, pipe)
	for _, v := range pipe.Decl {
		c.assign(pipe, v.Ident[0], s)
	}
	return s
}

func (c *checker) commands(dot shape, pipe *parse.PipeNode) (s shape) {
	for _, cmd := range pipe.Cmds {
		var args []shape
		for _, arg := range cmd.Args[1:] {
			args = append(args, c.value(dot, arg))
		}
		if name, ok := cmd.Args[0].(*parse.IdentifierNode); ok {
			s = c.result(name.Ident, cmd.Args[1:], args)
		} else {
			s = c.value(dot, cmd.Args[0])
		}
	}
	return s
}

// value is the shape of an operand.
func (c *checker) value(dot shape, node parse.Node) shape {
	switch n := node.(type) {
	case *parse.DotNode:
		return dot
	case *parse.FieldNode:
		return c.chain(n, dot, n.Ident)
	case *parse.VariableNode:
		for _, v := range slices.Backward(c.vars) {
			if v.name == n.Ident[0] {
				return c.chain(n, v.shape, n.Ident[1:])
			}
		}
		return shape{}
	case *parse.ChainNode:
		return c.chain(n, c.value(dot, n.Node), n.Field)
	case *parse.PipeNode:
		return c.pipe(dot, n)
	case *parse.IdentifierNode:
		return c.result(n.Ident, nil, nil)
	case *parse.StringNode:
		return shape{t: reflect.TypeFor[string]()}
	case *parse.BoolNode:
		return shape{t: reflect.TypeFor[bool]()}
	default: // numbers, which fit several types, and nil
		return shape{}
	}
}

func (c *checker) chain(node parse.Node, s shape, names []string) shape {
	for _, name := range names {
		found, ok := s.field(name)
		if !ok {
			c.failf(node, "%s: %s has no field or method %s", node, s.name(), name)
		}
		s = found
	}
	return s
}

// result is the shape of what a function gives. Those of text/template give one of their arguments, or nothing with fields.
func (c *checker) result(name string, nodes []parse.Node, args []shape) shape {
	switch name {
	case "dict":
		return dictShape(nodes, args)
	case "and", "or":
		for _, a := range args {
			if a.String() != args[0].String() {
				return shape{}
			}
		}
		if len(args) > 0 {
			return args[0]
		}
	case "index":
		if len(args) == 2 {
			if _, value, ok := args[0].elements(); ok {
				return value
			}
		}
	}
	return shape{}
}

// dictShape is the shape of a dict, whose names stand in the template.
func dictShape(nodes []parse.Node, args []shape) shape {
	s := shape{keys: map[string]shape{}}
	for i := 0; i+1 < len(nodes); i += 2 {
		if name, ok := nodes[i].(*parse.StringNode); ok {
			s.keys[name.Text] = args[i+1]
		}
	}
	return s
}
