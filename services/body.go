package services

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/quickscale/quickscale/internal/web"
)

// MaxBody is the largest request that a service takes unless [MaxInput] says otherwise, in bytes.
const MaxBody = 1 << 20

// DefaultBodyTime is how long a request's body may take to arrive.
const DefaultBodyTime = time.Minute

// body is what was sent to a service.
type body struct {
	raw json.RawMessage
	// typed are the fields of a form, nil when JSON was sent.
	typed url.Values
}

// readInput reads the input of a service: JSON, or where forms are taken a form, or fields and files by
// multipart/form-data.
func (s *Services) readInput(w http.ResponseWriter, r *http.Request, svc *registered, forms bool) (in body, err error) {
	defer s.hurry(w)(&err)
	r.Body = http.MaxBytesReader(w, r.Body, svc.opts.maxBody)
	header := r.Header.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(header)
	if err != nil && header != "" && forms {
		return in, web.ErrUnsupported
	}
	switch {
	case kind == "multipart/form-data":
		return readMultipart(r, svc)
	case strings.HasPrefix(kind, "multipart/"):
		return in, web.ErrUnsupported
	case !forms || kind == "application/json":
		if in.raw, err = io.ReadAll(r.Body); err != nil {
			return in, bodyError(err)
		}
		return in, nil
	case kind != "application/x-www-form-urlencoded" && kind != "":
		return in, web.ErrUnsupported
	}
	if err := r.ParseForm(); err != nil {
		return in, bodyError(err)
	}
	in.typed = r.PostForm
	in.raw, err = formInput(svc.input.schema, in.typed, nil)
	return in, err
}

// hurry bounds how long the body of a request may take. What it returns lifts the bound, but not after an error: the
// server would wait for the rest of the body, without end, before it sends the answer.
func (s *Services) hurry(w http.ResponseWriter) (lift func(err *error)) {
	control := http.NewResponseController(w)
	if control.SetReadDeadline(time.Now().Add(s.cfg.BodyTime)) != nil {
		return func(*error) {} // a handler of a test may know no deadlines
	}
	return func(err *error) {
		if *err == nil {
			*err = control.SetReadDeadline(time.Time{})
		}
	}
}

func readMultipart(r *http.Request, svc *registered) (in body, err error) {
	// All of it stays in memory: the request is bounded.
	if err := r.ParseMultipartForm(svc.opts.maxBody); err != nil {
		return in, bodyError(err)
	}
	files := map[string]*File{}
	for name, sent := range r.MultipartForm.File {
		if files[name], err = readFile(sent[0]); err != nil {
			return in, bodyError(err)
		}
	}
	in.typed = r.MultipartForm.Value
	in.raw, err = formInput(svc.input.schema, in.typed, files)
	return in, err
}

// readFile returns nil for a control that was left empty, as browsers send it.
func readFile(sent *multipart.FileHeader) (file *File, err error) {
	if sent.Filename == "" && sent.Size == 0 {
		return nil, nil
	}
	f, err := sent.Open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(f)
	return &File{Name: sent.Filename, Data: data}, err
}

// readKey returns the Idempotency-Key header, or "" when there is none.
func readKey(r *http.Request) (string, error) {
	switch values := r.Header.Values("Idempotency-Key"); {
	case len(values) == 0:
		return "", nil
	case len(values) > 1 || !validKey(values[0]):
		return "", ErrKeyInvalid
	default:
		return values[0], nil
	}
}

// readTags returns the X-Usage-Tags header: project=alpha, team=search.
func readTags(r *http.Request) (map[string]string, error) {
	given := r.Header.Values("X-Usage-Tags")
	if len(given) == 0 {
		return nil, nil
	}
	tags := map[string]string{}
	for part := range strings.SplitSeq(strings.Join(given, ","), ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, ErrTagsInvalid
		}
		tags[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return tags, nil
}

func bodyError(err error) error {
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return web.ErrTooLarge
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w (%w)", ErrSlow, err)
	}
	return fmt.Errorf("%w (%w)", web.ErrMalformed, err)
}
