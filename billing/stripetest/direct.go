package stripetest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
)

// direct is a transport that calls a handler in place of a network.
type direct struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	// The client's base URL may have a path, which is the mount point.
	if i := strings.Index(in.URL.Path, "/v1/"); i > 0 {
		in.URL.Path = in.URL.Path[i:]
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &recorder{header: http.Header{}, status: http.StatusOK}
	if !d.serve(w, in) {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r}, nil
}

// serve tells whether the connection held.
func (d direct) serve(w http.ResponseWriter, r *http.Request) (held bool) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // a panic's value, compared as net/http does
			panic(p)
		}
	}()
	d.handler.ServeHTTP(w, r)
	return true
}

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) { r.status = status }

func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
