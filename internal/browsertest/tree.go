package browsertest

import (
	"context"
	"encoding/json"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
)

// Node is an element as assistive software is told of it.
type Node struct {
	Role, Name, Description string
	// Properties are its states, such as invalid, required and live, as text.
	Properties map[string]string
}

// Tree is the page as assistive software is told of it, in reading order, without what is hidden from it.
func (b *Browser) Tree() []Node {
	b.tb.Helper()
	found := read(b, "read the accessibility tree", func(ctx context.Context, t *chromedp.Target) (accessibility.GetFullAXTreeResult, error) {
		return cdp.Call(ctx, t, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	})
	nodes := make([]Node, 0, len(found.Nodes))
	for _, n := range found.Nodes {
		if n.Ignored {
			continue
		}
		node := Node{Role: valueOf(n.Role), Name: valueOf(n.Name), Description: valueOf(n.Description), Properties: map[string]string{}}
		for _, p := range n.Properties {
			node.Properties[string(p.Name)] = valueOf(p.Value)
		}
		nodes = append(nodes, node)
	}
	return nodes
}

func valueOf(v *accessibility.Value) string {
	if v == nil {
		return ""
	}
	var text string
	if err := json.Unmarshal(v.Value, &text); err == nil {
		return text
	}
	return string(v.Value) // a number, a truth value or a list
}
