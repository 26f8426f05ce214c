package credits

import (
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/internal/database"
)

// column is a column that a [bulk] writes, with its type on PostgreSQL.
type column struct{ name, kind string }

// bulk writes many rows of one table with one statement on PostgreSQL, and with prepared statements of few rows or one on
// SQLite, where statements cost no way to a server. With keys it updates the rows that match its first keys
// columns, and inserts otherwise.
type bulk struct {
	table  string
	keys   int
	cols   []column
	sqlite string
	// several is sqlite for severalRows rows; empty for updates.
	several string
}

const severalRows = 8

func newBulk(table string, keys int, spec string) *bulk {
	b := &bulk{table: table, keys: keys}
	for part := range strings.SplitSeq(spec, ",") {
		name, kind, _ := strings.Cut(strings.TrimSpace(part), " ")
		b.cols = append(b.cols, column{name, kind})
	}
	b.sqlite = b.forSQLite()
	if _, values, ok := strings.Cut(b.sqlite, " VALUES "); ok {
		b.several = b.sqlite + strings.Repeat(", "+values, severalRows-1)
	}
	return b
}

func (b *bulk) names(prefix string) string {
	names := make([]string, len(b.cols))
	for i, c := range b.cols {
		names[i] = prefix + c.name
	}
	return strings.Join(names, ", ")
}

func (b *bulk) forSQLite() string {
	if b.keys == 0 {
		return "INSERT INTO " + b.table + " (" + b.names("") + ") VALUES (?" + strings.Repeat(", ?", len(b.cols)-1) + ")"
	}
	var set, where []string
	for i, c := range b.cols {
		text := c.name + " = ?" + strconv.Itoa(i+1)
		if i < b.keys {
			where = append(where, text)
		} else {
			set = append(set, text)
		}
	}
	return "UPDATE " + b.table + " SET " + strings.Join(set, ", ") + " WHERE " + strings.Join(where, " AND ")
}

// forPostgres is the statement whose first parameter is number first: an array per column.
func (b *bulk) forPostgres(first int) string {
	arrays := make([]string, len(b.cols))
	for i, c := range b.cols {
		arrays[i] = "$" + strconv.Itoa(first+i) + "::" + c.kind + "[]"
	}
	from := "unnest(" + strings.Join(arrays, ", ") + ")"
	if b.keys == 0 {
		return "INSERT INTO " + b.table + " (" + b.names("") + ") SELECT * FROM " + from
	}
	var set, where []string
	for i, c := range b.cols {
		if i < b.keys {
			where = append(where, "t."+c.name+" = v."+c.name)
		} else {
			set = append(set, c.name+" = v."+c.name)
		}
	}
	return "UPDATE " + b.table + " AS t SET " + strings.Join(set, ", ") + " FROM " + from + " AS v(" + b.names("") + ") WHERE " + strings.Join(where, " AND ")
}

// rows are the values for a [bulk], row after row.
type rows struct {
	values []any
	n      int
}

func (r *rows) add(values ...any) {
	r.values = append(r.values, values...)
	r.n++
}

// arrays returns one array literal per column.
func (r *rows) arrays(b *bulk) ([]any, error) {
	width := len(b.cols)
	out := make([]any, width)
	var buf []byte
	for c := range width {
		buf = append(buf[:0], '{')
		for i := c; i < len(r.values); i += width {
			if i > c {
				buf = append(buf, ',')
			}
			var err error
			if buf, err = appendElement(buf, r.values[i]); err != nil {
				return nil, err
			}
		}
		out[c] = string(append(buf, '}'))
	}
	return out, nil
}

// appendElement writes a value as an element of an array literal (PostgreSQL documentation, "Array Input and Output
// Syntax"). As text an array means the same to every driver.
func appendElement(buf []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(buf, "NULL"...), nil
	case Amount:
		return strconv.AppendInt(buf, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(buf, v, 10), nil
	case int:
		return strconv.AppendInt(buf, int64(v), 10), nil
	case bool:
		return strconv.AppendBool(buf, v), nil
	case string:
		return appendQuoted(buf, v), nil
	case uuid.UUID:
		return append(buf, v.String()...), nil
	case *Amount:
		if v == nil {
			return append(buf, "NULL"...), nil
		}
		return strconv.AppendInt(buf, int64(*v), 10), nil
	case *string:
		if v == nil {
			return append(buf, "NULL"...), nil
		}
		return appendQuoted(buf, *v), nil
	case *uuid.UUID:
		if v == nil {
			return append(buf, "NULL"...), nil
		}
		return append(buf, v.String()...), nil
	case *database.Time:
		if v == nil {
			return append(buf, "NULL"...), nil
		}
		return appendElement(buf, *v)
	case driver.Valuer:
		plain, err := v.Value()
		if err != nil {
			return nil, err
		}
		text, ok := plain.(string)
		if !ok {
			return nil, fmt.Errorf("credits: a %T in an array", plain)
		}
		return appendQuoted(buf, text), nil
	}
	return nil, fmt.Errorf("credits: a %T in an array", value)
}

func appendQuoted(buf []byte, s string) []byte {
	buf = append(buf, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			buf = append(buf, '\\')
		}
		buf = append(buf, s[i])
	}
	return append(buf, '"')
}

// arrays are array literals, one per column, that are filled row after row, cell after cell.
type arrays struct {
	parts []part
	cells int
}

// part is a literal on its way. Some tells that it is not all empty texts and NULL.
type part struct {
	text []byte
	some bool
}

func newArrays(columns []column) *arrays { return &arrays{parts: make([]part, len(columns))} }

func (a *arrays) rows() int { return a.cells / len(a.parts) }

// literals appends the literals to parameters. One without any value has no elements.
func (a *arrays) literals(args []any) []any {
	for _, p := range a.parts {
		if !p.some {
			args = append(args, "{}")
			continue
		}
		p.text[0] = '{'
		args = append(args, string(append(p.text, '}')))
	}
	return args
}

// cell begins the next element.
func (a *arrays) cell(some bool) *part {
	p := &a.parts[a.cells%len(a.parts)]
	a.cells++
	p.some = p.some || some
	p.text = append(p.text, ',') // the first becomes the brace
	return p
}

func (a *arrays) null() *arrays {
	p := a.cell(false)
	p.text = append(p.text, "NULL"...)
	return a
}

func (a *arrays) int(v int64) *arrays {
	p := a.cell(true)
	p.text = strconv.AppendInt(p.text, v, 10)
	return a
}

func (a *arrays) uuid(v uuid.UUID) *arrays {
	p := a.cell(true)
	p.text = hex.AppendEncode(p.text, v[:])
	return a
}

func (a *arrays) words(v string) *arrays {
	p := a.cell(v != "")
	p.text = appendQuoted(p.text, v)
	return a
}

func (a *arrays) wordsOrNull(v string) *arrays {
	if v == "" {
		return a.null()
	}
	return a.words(v)
}
