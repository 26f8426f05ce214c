package mail

import (
	"io/fs"

	"github.com/quickscale/quickscale/internal/web"
)

// pageData has for each page a value of the type that it is drawn with, by which templates that replace it are checked.
func pageData() map[string]any {
	return map[string]any{
		"message": messagePage{},
		"outbox":  outboxPage{},
		"preview": previewPage{},
	}
}

// PageTemplates are the templates of the pages, by their file names.
func PageTemplates() fs.FS { return web.SubTemplates(templates) }
