package web

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
)

// Download answers a CSV file of the name, which write sends piece by piece as it is made, so that its length costs no
// memory. An error before the first piece is told as by [Site.Fail]; after that it is logged and the connection is cut, so
// that the file is not taken for whole.
func (s *Site) Download(w http.ResponseWriter, r *http.Request, name string, write func(w io.Writer) error) {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
	w.Header().Add("Vary", "Accept")
	out := &sent{Writer: w}
	err := write(out)
	switch {
	case err == nil:
	case !out.begun:
		w.Header().Del("Content-Disposition")
		s.Fail(w, r, err)
	default:
		s.cfg.Logger.ErrorContext(r.Context(), "a download broke off", slog.String("file", name), slog.Any("error", err))
		panic(http.ErrAbortHandler)
	}
}

// sent knows whether anything was written.
type sent struct {
	io.Writer
	begun bool
}

// Write implements io.Writer.
func (s *sent) Write(b []byte) (int, error) {
	s.begun = true
	return s.Writer.Write(b)
}

// CSVText keeps spreadsheets from taking a text for a formula (OWASP, "CSV Injection").
func CSVText(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r\n", rune(s[0])) {
		return "'" + s
	}
	return s
}
