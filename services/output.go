package services

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// shown is a JSON value as a page shows it: a text, or parts with labels (an object) or without (a list).
type shown struct {
	Label string
	Text  string
	Parts []shown
	// Object says that the parts have labels.
	Object bool
}

// show reads JSON in the order in which it is written.
func show(raw json.RawMessage) (shown, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := showNext(d)
	if err != nil {
		return shown{}, fmt.Errorf("services: read the output: %w", err)
	}
	return v, nil
}

func showNext(d *json.Decoder) (shown, error) {
	token, err := d.Token()
	if err != nil {
		return shown{}, err
	}
	switch t := token.(type) {
	case json.Delim:
		return showParts(d, t == '{')
	case bool:
		if t {
			return shown{Text: "Yes"}, nil
		}
		return shown{Text: "No"}, nil
	case nil:
		return shown{Text: "–"}, nil
	default:
		return shown{Text: fmt.Sprint(t)}, nil
	}
}

func showParts(d *json.Decoder, object bool) (shown, error) {
	v := shown{Object: object}
	for d.More() {
		label := ""
		if object {
			name, err := d.Token()
			if err != nil {
				return shown{}, err
			}
			label = humanize(fmt.Sprint(name))
		}
		part, err := showNext(d)
		if err != nil {
			return shown{}, err
		}
		part.Label = label
		v.Parts = append(v.Parts, part)
	}
	if _, err := d.Token(); err != nil { // the end of the object or list
		return shown{}, err
	}
	if len(v.Parts) == 0 {
		return shown{Text: "–"}, nil
	}
	return v, nil
}
