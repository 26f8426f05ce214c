package stripetest

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// params are the form-encoded parameters of a request, nested by brackets: line_items[0][price]. What nobody asked for
// by the end is an unknown parameter.
type params struct {
	values url.Values
	prefix string
	used   map[string]bool
}

func newParams(values url.Values) *params { return &params{values: values, used: map[string]bool{}} }

// key is the full name of a parameter below the prefix.
func (p *params) key(name string) string {
	if p.prefix == "" {
		return name
	}
	first, rest, nested := strings.Cut(name, "[")
	if nested {
		return p.prefix + "[" + first + "][" + rest
	}
	return p.prefix + "[" + name + "]"
}

func (p *params) has(name string) bool { return p.values.Has(p.key(name)) }

// str returns a parameter, empty when it was not sent.
func (p *params) str(name string) string {
	k := p.key(name)
	p.used[k] = true
	return p.values.Get(k)
}

func (p *params) required(name string) (string, error) {
	v := p.str(name)
	if v == "" {
		return "", missing(p.key(name))
	}
	return v, nil
}

// oneOf returns a parameter that must be one of the choices; the first is the default.
func (p *params) oneOf(name string, choices ...string) (string, error) {
	v := p.str(name)
	if v == "" {
		return choices[0], nil
	}
	if !slices.Contains(choices, v) {
		return "", invalid(p.key(name), "Invalid %s: must be one of %s", p.key(name), strings.Join(choices, ", "))
	}
	return v, nil
}

// active is the boolean parameter of that name.
func (p *params) active(fallback bool) (bool, error) { return p.boolean("active", fallback) }

func (p *params) boolean(name string, fallback bool) (bool, error) {
	switch v := p.str(name); v {
	case "":
		return fallback, nil
	case "true", "false":
		return v == "true", nil
	default:
		return false, invalid(p.key(name), "Invalid boolean: %s", v)
	}
}

// between is an integer within bounds.
func (p *params) between(name string, fallback, least, most int64) (int64, error) {
	n, err := p.integer(name, fallback)
	if err != nil {
		return 0, err
	}
	if p.has(name) && (n < least || n > most) {
		return 0, coded("parameter_invalid_integer", p.key(name), "Invalid %s: must be between %d and %d", p.key(name), least, most)
	}
	return n, nil
}

// timestamp is a time in seconds.
func (p *params) timestamp(name string, fallback int64) (int64, error) {
	return p.between(name, fallback, 1, maxTimestamp)
}

// maxTimestamp is the end of the year 9999.
const maxTimestamp = 253402300799

func (p *params) decimal(name string) (float64, error) {
	v := p.str(name)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(v, 64)
	if err != nil {
		return 0, invalid(p.key(name), "Invalid decimal: %s", v)
	}
	return n, nil
}

// window is a range of times; the zero window holds all.
type window struct{ from, to int64 }

func (w window) holds(at int64) bool { return at >= w.from && (w.to == 0 || at <= w.to) }

// window reads a range filter: name itself, or name[gt], [gte], [lt] and [lte].
func (p *params) window(name string) (w window, err error) {
	if at, err := p.timestamp(name, 0); at != 0 || err != nil {
		return window{at, at}, err
	}
	bounds := p.sub(name)
	if bounds == nil {
		return w, nil
	}
	for _, bound := range []string{"gt", "gte", "lt", "lte"} {
		at, err := bounds.integer(bound, 0)
		if err != nil {
			return w, err
		}
		switch {
		case !bounds.has(bound):
		case bound == "gt":
			w.from = max(w.from, at+1)
		case bound == "gte":
			w.from = max(w.from, at)
		case bound == "lt":
			w.to = least(w.to, at-1)
		case bound == "lte":
			w.to = least(w.to, at)
		}
	}
	return w, nil
}

// least is the smaller end of a window, of which 0 is none.
func least(a, b int64) int64 {
	if a == 0 {
		return b
	}
	return min(a, b)
}

func (p *params) integer(name string, fallback int64) (int64, error) {
	v := p.str(name)
	if v == "" {
		return fallback, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, &apiError{status: 400, Type: invalidRequest, Code: "parameter_invalid_integer", Param: p.key(name), Message: "Invalid integer: " + v}
	}
	return n, nil
}

// table returns the parameters name[key].
func (p *params) table(name string) map[string]string {
	k, out := p.key(name), map[string]string{}
	for full := range p.values {
		if rest, ok := strings.CutPrefix(full, k+"["); ok && strings.HasSuffix(rest, "]") && !strings.Contains(rest, "][") {
			p.used[full] = true
			out[strings.TrimSuffix(rest, "]")] = p.values.Get(full)
		}
	}
	return out
}

// sub returns the parameters below name, nil when there are none.
func (p *params) sub(name string) *params {
	k := p.key(name)
	for full := range p.values {
		if strings.HasPrefix(full, k+"[") {
			return &params{values: p.values, prefix: k, used: p.used}
		}
	}
	return nil
}

// items returns the parameters name[0], name[1] and so on.
func (p *params) items(name string) []*params {
	var out []*params
	for i := 0; ; i++ {
		item := p.sub(name + "[" + strconv.Itoa(i) + "]")
		if item == nil {
			return out
		}
		out = append(out, item)
	}
}

// strings returns the values name[0], name[1] and so on, or name[] repeated.
func (p *params) strings(name string) []string {
	k := p.key(name)
	p.used[k+"[]"] = true
	out := slices.Clone(p.values[k+"[]"])
	for i := 0; p.has(name + "[" + strconv.Itoa(i) + "]"); i++ {
		out = append(out, p.str(name+"["+strconv.Itoa(i)+"]"))
	}
	return out
}

// finish refuses what nobody asked for.
func (p *params) finish() error {
	var left []string
	for k := range p.values {
		if !p.used[k] {
			left = append(left, k)
		}
	}
	if len(left) == 0 {
		return nil
	}
	slices.Sort(left)
	return unknown(left[0])
}

// metadata merges what was sent into old: an empty value removes its key (docs.stripe.com/api/metadata).
func (p *params) metadata(old any) map[string]any {
	merged := map[string]any{}
	if o, ok := old.(map[string]any); ok {
		maps.Copy(merged, o)
	}
	for k, v := range p.table("metadata") {
		if v == "" {
			delete(merged, k)
		} else {
			merged[k] = v
		}
	}
	return merged
}

// first returns the first of the parameters that was sent, with whatever is below it.
func (p *params) first(names ...string) string {
	for _, name := range names {
		if p.has(name) {
			return name
		}
		for full := range p.values {
			if strings.HasPrefix(full, p.key(name)+"[") {
				return name
			}
		}
	}
	return ""
}
