package billing

import (
	"io/fs"

	"github.com/quickscale/quickscale/internal/web"
)

// pageData has for each page a value of the type that it is drawn with, by which templates that replace it are checked.
func pageData() map[string]any {
	return map[string]any{
		"auto-topup":      topUpPage{},
		"cancel":          cancelPage{},
		"change":          changePage{},
		"offers":          offersPage{},
		"payment":         paymentPage{},
		"payment-methods": methodsPage{},
		"payments":        paymentsPage{},
		"receipt":         paymentPage{},
		"subscription":    subscriptionPage{},
		"success":         successPage{},
	}
}

// PageTemplates are the templates of the pages, by their file names.
func PageTemplates() fs.FS { return web.SubTemplates(templates) }
