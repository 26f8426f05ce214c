package scaffold

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/template/parse"
)

// piece is a part of a rendered file, and the part of the template that it comes from.
type piece struct {
	from, to       int // in the file
	source, ending int // in the template
	// verbatim is text of the template; what is not is the output of an action.
	verbatim bool
	// list is the list of nodes that the part of the template stands in, and index its place there. The template's own
	// list is 0, at depth 0.
	list, index, depth int
	// repeated tells that the part of the template has made several pieces.
	repeated bool
}

// The marks that pieces are put in while a template is traced. None may stand in a template.
const (
	markStart = "\x00"
	markText  = "\x01"
	markEnd   = "\x02"
)

// tracer numbers the parts of a template.
type tracer struct {
	text  string
	parts []piece
	lists int
	err   error
}

// trace fills in a template and tells where each part of the file comes from.
func trace(name, text string, v view) (file string, pieces []piece, err error) {
	if strings.ContainsAny(text, markStart+markText+markEnd) {
		return "", nil, errors.New("scaffold: " + name + " has control characters")
	}
	t, err := parseTemplate(name, text)
	if err != nil {
		return "", nil, err
	}
	tr := &tracer{text: text}
	if tr.list(t.Root, 0); tr.err != nil {
		return "", nil, fmt.Errorf("scaffold: trace %s: %w", name, tr.err)
	}
	var marked bytes.Buffer
	if err := t.Execute(&marked, v); err != nil {
		return "", nil, fmt.Errorf("scaffold: %w", err)
	}
	file, pieces, err = tr.pieces(marked.String())
	if err != nil {
		return "", nil, fmt.Errorf("scaffold: trace %s: %w", name, err)
	}
	return file, pieces, nil
}

// list puts marks around the text and the actions of a list of nodes.
func (t *tracer) list(l *parse.ListNode, depth int) {
	if l == nil {
		return
	}
	number := t.lists
	t.lists++
	var marked []parse.Node
	for i, node := range l.Nodes {
		part := piece{list: number, index: i, depth: depth}
		switch n := node.(type) {
		case *parse.TextNode:
			part.verbatim, part.source = true, int(n.Pos)
			part.ending = part.source + len(n.Text)
			if part.ending > len(t.text) || t.text[part.source:part.ending] != string(n.Text) {
				t.err = fmt.Errorf("the text at byte %d is not where it is said to be", part.source)
				return
			}
			marked = append(marked, t.mark(part), n, &parse.TextNode{NodeType: parse.NodeText, Text: []byte(markEnd)})
			continue
		case *parse.ActionNode:
			part.source = strings.LastIndex(t.text[:n.Pos], left)
			part.ending = int(n.Pos) + strings.Index(t.text[n.Pos:], right) + len(right)
			marked = append(marked, t.mark(part), n, &parse.TextNode{NodeType: parse.NodeText, Text: []byte(markEnd)})
			continue
		case *parse.IfNode:
			t.branch(&n.BranchNode, depth)
		case *parse.RangeNode:
			t.branch(&n.BranchNode, depth)
		case *parse.WithNode:
			t.branch(&n.BranchNode, depth)
		}
		marked = append(marked, node)
	}
	l.Nodes = marked
}

func (t *tracer) branch(b *parse.BranchNode, depth int) {
	t.list(b.List, depth+1)
	t.list(b.ElseList, depth+1)
}

// mark is the text before a part's output.
func (t *tracer) mark(part piece) parse.Node {
	t.parts = append(t.parts, part)
	return &parse.TextNode{NodeType: parse.NodeText, Text: []byte(markStart + strconv.Itoa(len(t.parts)-1) + markText)}
}

// pieces takes the marks out again.
func (t *tracer) pieces(marked string) (file string, pieces []piece, err error) {
	var out strings.Builder
	seen := map[int]int{}
	for rest := marked; rest != ""; {
		head, body, ok := strings.Cut(strings.TrimPrefix(rest, markStart), markText)
		number, numberErr := strconv.Atoi(head)
		text, after, ended := strings.Cut(body, markEnd)
		if !ok || !ended || numberErr != nil || number >= len(t.parts) {
			return "", nil, errors.New("its output is not that of its parts")
		}
		p := t.parts[number]
		p.from = out.Len()
		out.WriteString(text)
		p.to = out.Len()
		pieces = append(pieces, p)
		seen[number]++
		rest = after
	}
	for i := range pieces {
		for number, part := range t.parts {
			if part.source == pieces[i].source && seen[number] > 1 {
				pieces[i].repeated = true
			}
		}
	}
	return out.String(), pieces, nil
}
