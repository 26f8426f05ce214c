package services

import (
	"bytes"
	"encoding/json"
	"sync"

	"github.com/quickscale/quickscale/internal/web"
)

// trees decode JSON texts one after the other, each as if the stream began with it, so that a text costs no decoder of
// its own. One that has met an error is not used again.
var trees = sync.Pool{New: func() any {
	t := &treeDecoder{}
	t.decoder = json.NewDecoder(&t.text)
	t.decoder.UseNumber()
	return t
}}

type treeDecoder struct {
	text    bytes.Reader
	decoder *json.Decoder
	end     int64 // of all texts together
}

// maxPooled bounds the texts whose decoder, with its buffer, is kept, in bytes.
const maxPooled = 64 << 10

// treeOf decodes a JSON text that is one object, with numbers as they are written. The error is [web.ErrMalformed].
func treeOf(raw []byte) (map[string]any, error) {
	raw = bytes.TrimRight(raw, " \t\r\n")
	t := trees.Get().(*treeDecoder)
	t.text.Reset(raw)
	t.end += int64(len(raw))
	var tree any
	if err := t.decoder.Decode(&tree); err != nil {
		return nil, web.ErrMalformed
	}
	object, ok := tree.(map[string]any)
	if !ok || t.decoder.InputOffset() != t.end {
		return nil, web.ErrMalformed
	}
	if t.text.Reset(nil); len(raw) <= maxPooled {
		trees.Put(t)
	}
	return object, nil
}
