package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Third-party files stand in folders named with their version, each with its licence; CHECKSUMS lists what npm
// delivered. Beside each file is what brotli and gzip make of it.
//
//go:generate go run ./compress
//go:embed assets
var assetFiles embed.FS

// contentTypes are those of assets, by ending.
var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
	// Of a host's theme.
	".png":   "image/png",
	".webp":  "image/webp",
	".woff":  "font/woff",
	".woff2": "font/woff2",
}

// encodings are what assets are compressed by, the best first, with the endings of their files.
var encodings = []struct{ name, ending string }{{"br", ".br"}, {"gzip", ".gz"}}

// assets are served under names that contain a part of their hash.
type assets struct {
	prefix string
	urls   map[string]string // by logical name, such as app/app.css
	files  map[string]asset  // by hashed name
}

// asset is a file, plain and by the name of each encoding that makes it smaller.
type asset struct {
	content    []byte
	compressed map[string][]byte
}

func loadAssets(prefix string) (*assets, error) {
	a := &assets{prefix: prefix, urls: map[string]string{}, files: map[string]asset{}}
	root, err := fs.Sub(assetFiles, "assets")
	if err != nil {
		return nil, err
	}
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if contentTypes[path.Ext(name)] == "" {
			return nil // licences, checksums and what is compressed
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		compressed := map[string][]byte{}
		for _, e := range encodings {
			smaller, err := fs.ReadFile(root, name+e.ending)
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return err
			case len(smaller) < len(content):
				compressed[e.name] = smaller
			}
		}
		a.add(name, asset{content, compressed})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("web: load the assets: %w", err)
	}
	return a, nil
}

// add keeps a file by its logical name and returns its address.
func (a *assets) add(name string, file asset) string {
	sum := sha256.Sum256(file.content)
	ext := path.Ext(name)
	hashed := strings.TrimSuffix(name, ext) + "-" + hex.EncodeToString(sum[:6]) + ext
	a.urls[name], a.files[hashed] = a.prefix+hashed, file
	return a.urls[name]
}

// url is the address of an asset by its logical name.
func (a *assets) url(name string) (string, error) {
	u, ok := a.urls[name]
	if !ok {
		return "", fmt.Errorf("web: there is no asset %q", name)
	}
	return u, nil
}

// ServeHTTP implements http.Handler.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	file, ok := a.files[strings.TrimPrefix(r.URL.Path, a.prefix)]
	if !ok || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	if kind := contentTypes[path.Ext(r.URL.Path)]; kind != "" {
		h.Set("Content-Type", kind) // that of a host's picture is known by its ending
	}
	h.Set("Vary", "Accept-Encoding")
	for _, e := range encodings {
		body, ok := file.compressed[e.name]
		if !ok || !acceptsEncoding(r, e.name) {
			continue
		}
		h.Set("Content-Encoding", e.name)
		h.Set("Content-Length", strconv.Itoa(len(body)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(body) // the client is gone; there is nobody to tell
		}
		return
	}
	http.ServeContent(w, r, r.URL.Path, time.Time{}, bytes.NewReader(file.content))
}

// acceptsEncoding tells that the request names the encoding and does not refuse it (RFC 9110, 12.5.3).
func acceptsEncoding(r *http.Request, encoding string) bool {
	return slices.ContainsFunc(strings.Split(strings.Join(r.Header.Values("Accept-Encoding"), ","), ","), func(part string) bool {
		name, weight, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), encoding) {
			return false
		}
		q, given := strings.CutPrefix(strings.TrimSpace(weight), "q=")
		value, err := strconv.ParseFloat(q, 64)
		return !given || err == nil && value > 0
	})
}
