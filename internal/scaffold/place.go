package scaffold

import (
	"bytes"
	"go/format"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff"
)

// edit replaces a part of a text by a part of the edited text.
type edit struct{ from, to, newFrom, newTo int }

// placer finds out where in a template an edit of the file that it made belongs.
type placer struct {
	pieces []piece
	text   string // the template
	// later has what is inserted between two parts go to the later one.
	later bool
	// becomes is the new text of an edit as the template gets it.
	becomes func(e edit) string
}

// edits are those of the template that lead from the rendered text to the edited one, in their order: of whole lines,
// and of words where lines hold what actions have printed. False when one has no place in the template.
func (p placer) edits(rendered, edited string) ([]edit, bool) {
	var all []edit
	for _, lines := range numbered(udiff.Lines(rendered, edited)) {
		if e, ok := p.place(lines); ok {
			all = append(all, e)
			continue
		}
		for _, w := range wordEdits(rendered[lines.from:lines.to], edited[lines.newFrom:lines.newTo]) {
			e, ok := p.place(edit{lines.from + w.from, lines.from + w.to, lines.newFrom + w.newFrom, lines.newFrom + w.newTo})
			if !ok {
				return nil, false
			}
			all = append(all, e)
		}
	}
	for i := 1; i < len(all); i++ {
		if all[i].from < all[i-1].to {
			return nil, false
		}
	}
	return all, true
}

// numbered tells of edits where their text is in the edited one.
func numbered(edits []udiff.Edit) []edit {
	all := make([]edit, len(edits))
	shift := 0
	for i, e := range edits {
		all[i] = edit{e.Start, e.End, e.Start + shift, e.Start + shift + len(e.New)}
		shift += len(e.New) - (e.End - e.Start)
	}
	return all
}

// wordEdits are the edits between two texts, by words: each word becomes one character, and those are compared.
func wordEdits(before, after string) []edit {
	numbers := map[string]rune{}
	next := firstRune
	encode := func(text string) (encoded string, at []int) {
		var out strings.Builder
		pos := 0
		for _, word := range splitWords(text) {
			if _, ok := numbers[word]; !ok {
				numbers[word] = next
				next++
			}
			// Each character takes four bytes.
			out.WriteRune(numbers[word])
			at = append(at, pos)
			pos += len(word)
		}
		return out.String(), append(at, pos)
	}
	x, xAt := encode(before)
	y, yAt := encode(after)
	all := numbered(udiff.Strings(x, y))
	for i, e := range all {
		all[i] = edit{xAt[e.from/runeBytes], xAt[e.to/runeBytes], yAt[e.newFrom/runeBytes], yAt[e.newTo/runeBytes]}
	}
	return all
}

// firstRune is the first character of four bytes in UTF-8.
const (
	firstRune = rune(0x10000)
	runeBytes = utf8.UTFMax
)

// splitWords splits a text into words and single other characters.
func splitWords(text string) []string {
	var all []string
	start := -1
	for i, c := range text {
		if unicode.IsLetter(c) || unicode.IsDigit(c) || c == '_' {
			if start < 0 {
				start = i
			}
			continue
		}
		if start >= 0 {
			all = append(all, text[start:i])
			start = -1
		}
		all = append(all, text[i:i+utf8.RuneLen(c)])
	}
	if start >= 0 {
		all = append(all, text[start:])
	}
	return all
}

// place finds the part of the template that an edit of the file belongs to. An action is not lost: it may be taken out,
// and moved, but nothing else takes its place.
func (p placer) place(e edit) (edit, bool) {
	if e.from == e.to {
		at, ok := p.insertion(e.from)
		return edit{at, at, e.newFrom, e.newTo}, ok
	}
	first := slices.IndexFunc(p.pieces, func(one piece) bool { return one.from <= e.from && e.from < one.to })
	last := slices.IndexFunc(p.pieces, func(one piece) bool { return one.from < e.to && e.to <= one.to })
	if first < 0 || last < first {
		return e, false
	}
	from, to := p.pieces[first].source, p.pieces[last].ending
	if p.pieces[first].verbatim {
		from += e.from - p.pieces[first].from
	}
	if p.pieces[last].verbatim {
		to -= p.pieces[last].to - e.to
	}
	placed := edit{from, to, e.newFrom, e.newTo}
	becomes := p.becomes(placed)
	for i, one := range p.pieces[first : last+1] {
		whole := e.from <= one.from && one.to <= e.to && (becomes == "" || strings.Contains(becomes, p.text[one.source:one.ending]))
		// A part that was not rendered, or a condition, would be lost between two that do not follow each other.
		if one.repeated || !one.verbatim && !whole || one.list != p.pieces[first].list || one.index != p.pieces[first].index+i {
			return e, false
		}
	}
	return placed, true
}

// insertion finds where in the template text goes that is inserted: to the part that is under fewest conditions, and of
// two such ones to text rather than an action, and to the earlier or the later one.
func (p placer) insertion(at int) (source int, ok bool) {
	rank := func(one piece) int {
		if one.verbatim {
			return 2 * one.depth
		}
		return 2*one.depth + 1
	}
	var best piece
	for _, one := range p.pieces {
		if at < one.from || one.to < at || one.repeated || !one.verbatim && one.from < at && at < one.to {
			continue
		}
		if ok && (rank(one) > rank(best) || rank(one) == rank(best) && !p.later) {
			continue
		}
		best, ok = one, true
		switch {
		case one.verbatim:
			source = one.source + at - one.from
		case at == one.from:
			source = one.source
		default:
			source = one.ending
		}
	}
	return source, ok
}

// isFormatted tells whether Go code is as gofmt has it.
func isFormatted(content []byte) bool {
	formatted, err := format.Source(content)
	return err == nil && bytes.Equal(formatted, content)
}
