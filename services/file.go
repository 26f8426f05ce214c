package services

import (
	"encoding/base64"
	"net/http"
	"path"
	"slices"
	"strings"
)

// MaxFiles is the largest request to a service whose input has a [File], unless [MaxInput] says otherwise, in bytes.
const MaxFiles = 10 << 20

// File is a field of an input that is uploaded. In a form and by multipart/form-data it is a file; in JSON it is an object
// whose data is base64. The tag `accept:"image/png,image/jpeg"` names the types of content that it may have.
type File struct {
	// Name is what the caller called it, without folders. It is a label, never a path to write to.
	Name string `json:"name"`
	// Type is the type of its content, found out from its first bytes (WHATWG MIME sniffing), not what the caller said.
	Type string `json:"type"`
	// Data is the content.
	Data []byte `json:"data"`
}

// checkFile compares a decoded JSON value with what a field of a file takes.
func (f *field) checkFile(object map[string]any, at string, wrong map[string]string) {
	for name := range object {
		if name != "name" && name != "type" && name != "data" {
			wrong[joinPath(at, name)] = "There is no such field."
		}
	}
	name, _ := object["name"].(string)
	text, ok := object["data"].(string)
	if !ok {
		wrong[at] = f.wants()
		return
	}
	data, err := base64.StdEncoding.DecodeString(text)
	switch {
	case err != nil:
		wrong[at] = f.wants()
		return
	case len(data) == 0 && f.required:
		wrong[at] = "This is required."
		return
	}
	kind, _, _ := strings.Cut(http.DetectContentType(data), ";")
	if len(f.accept) > 0 && !slices.Contains(f.accept, kind) {
		wrong[at] = "This must be a file of the type " + strings.Join(f.accept, " or ") + "."
		return
	}
	object["name"], object["type"] = path.Base(strings.ReplaceAll(name, `\`, "/")), kind
}

// hasFile tells whether a field is a file or has one.
func (f *field) hasFile() bool {
	return f.kind == kindFile || slices.ContainsFunc(f.fields, (*field).hasFile)
}
