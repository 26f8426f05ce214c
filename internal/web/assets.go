package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// Third-party files stand in folders named with their version, each with its licence; CHECKSUMS lists what npm
// delivered.
//
//go:embed assets
var assetFiles embed.FS

// assets are served under names that contain a part of their hash.
type assets struct {
	prefix string
	urls   map[string]string // by logical name, such as app/app.css
	files  map[string][]byte // by hashed name
}

func loadAssets(prefix string) (*assets, error) {
	a := &assets{prefix: prefix, urls: map[string]string{}, files: map[string][]byte{}}
	root, err := fs.Sub(assetFiles, "assets")
	if err != nil {
		return nil, err
	}
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		ext := path.Ext(name)
		if ext != ".css" && ext != ".js" && ext != ".svg" {
			return nil // licences and checksums
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		a.add(name, content)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("web: load the assets: %w", err)
	}
	return a, nil
}

// add keeps a file by its logical name and returns its address.
func (a *assets) add(name string, content []byte) string {
	sum := sha256.Sum256(content)
	ext := path.Ext(name)
	hashed := strings.TrimSuffix(name, ext) + "-" + hex.EncodeToString(sum[:6]) + ext
	a.urls[name], a.files[hashed] = a.prefix+hashed, content
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
	content, ok := a.files[strings.TrimPrefix(r.URL.Path, a.prefix)]
	if !ok || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, r.URL.Path, time.Time{}, bytes.NewReader(content))
}
