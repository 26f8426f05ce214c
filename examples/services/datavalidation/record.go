package datavalidation

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// record is one to check.
type record struct {
	number int
	line   int
	fields map[string]any
}

// readCSV reads records below a header line.
func readCSV(data string, r *report, each func(record) error) error {
	reader := csv.NewReader(strings.NewReader(strings.TrimPrefix(data, "\ufeff")))
	reader.FieldsPerRecord = -1
	header, err := reader.Read()
	if err != nil {
		r.fault(csvFault(err))
		return nil
	}
	seen := map[string]bool{}
	for i, name := range header {
		header[i] = strings.TrimSpace(name)
		if header[i] == "" || seen[header[i]] {
			r.fault(Fault{Line: 1, Field: header[i], Rule: "header", Message: fmt.Sprintf("Column %d needs a name of its own.", i+1)})
		}
		seen[header[i]] = true
	}
	r.Fields = header
	for {
		row, err := reader.Read()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			r.fault(csvFault(err))
			return nil // what follows cannot be told apart
		}
		line, _ := reader.FieldPos(0)
		r.Checked++
		rec := record{r.Checked, line, map[string]any{}}
		for i, name := range header {
			if i < len(row) {
				rec.fields[name] = row[i]
			}
		}
		if len(row) != len(header) {
			r.fault(Fault{Line: line, Record: rec.number, Rule: "columns", Message: fmt.Sprintf("There are %d columns, and %d in the header.", len(row), len(header))})
		}
		if err := each(rec); err != nil {
			return err
		}
	}
}

func csvFault(err error) Fault {
	if wrong, ok := errors.AsType[*csv.ParseError](err); ok {
		return Fault{Line: wrong.Line, Rule: "syntax", Message: "This is not CSV: " + wrong.Err.Error() + "."}
	}
	return Fault{Line: 1, Rule: "syntax", Message: "There is no header line."}
}

// readJSON reads a list of objects, or objects one after the other.
func readJSON(data string, r *report, each func(record) error) error {
	d := json.NewDecoder(strings.NewReader(data))
	d.UseNumber()
	at := lines{text: data, line: 1}
	list := strings.HasPrefix(strings.TrimSpace(data), "[")
	if list {
		if _, err := d.Token(); err != nil {
			r.fault(at.syntax(d, err))
			return nil
		}
	}
	fields := map[string]bool{}
	defer func() { r.Fields = slices.Sorted(maps.Keys(fields)) }()
	for d.More() {
		line := at.next(d.InputOffset())
		var value any
		if err := d.Decode(&value); err != nil {
			r.fault(at.syntax(d, err))
			return nil
		}
		r.Checked++
		object, ok := value.(map[string]any)
		if !ok {
			r.fault(Fault{Line: line, Record: r.Checked, Rule: "object", Message: "A record is an object in braces."})
			r.Invalid++
			continue
		}
		for name := range object {
			fields[name] = true
		}
		if err := each(record{r.Checked, line, object}); err != nil {
			return err
		}
	}
	if list {
		if _, err := d.Token(); err != nil {
			r.fault(at.syntax(d, err))
			return nil
		}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		r.fault(Fault{Line: at.next(d.InputOffset()), Rule: "syntax", Message: "There is more after the end of the list."})
	}
	return nil
}

// lines counts lines up to offsets that grow.
type lines struct {
	text string
	from int64
	line int
}

// next is the line of what comes after an offset, past white space and commas.
func (l *lines) next(offset int64) int {
	rest := l.text[offset:]
	to := min(offset+int64(len(rest)-len(strings.TrimLeft(rest, " \t\r\n,"))), int64(len(l.text)))
	if to > l.from {
		l.line += strings.Count(l.text[l.from:to], "\n")
		l.from = to
	}
	return l.line
}

func (l *lines) syntax(d *json.Decoder, err error) Fault {
	offset := d.InputOffset()
	if wrong, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = wrong.Offset
	}
	message := "This is not JSON: " + err.Error() + "."
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		message, offset = "The data breaks off.", int64(len(l.text))
	}
	offset = min(max(offset, l.from), int64(len(l.text)))
	return Fault{Line: l.line + strings.Count(l.text[l.from:offset], "\n"), Rule: "syntax", Message: message}
}
