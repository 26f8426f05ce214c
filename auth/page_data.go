package auth

import (
	"io/fs"

	"github.com/quickscale/quickscale/internal/web"
)

// pageData has for each page a value of the type that it is drawn with, by which templates that replace it are checked.
func pageData() map[string]any {
	return map[string]any{
		"api-keys":            keysPage{},
		"backup-codes":        codesPage{},
		"confirm":             confirmPage{},
		"dashboard":           dashboardPage{},
		"delete":              exportPage{},
		"email-confirm":       changePage{},
		"email-undo":          changePage{},
		"export":              exportPage{},
		"forgot":              entryPage{},
		"invitation":          invitationPage{},
		"leave":               leavePage{},
		"link":                linkPage{},
		"login":               entryPage{},
		"magic":               entryPage{},
		"magic-code":          entryPage{},
		"magic-link":          entryPage{},
		"organisation":        organisationPage{},
		"organisation-delete": organisationEndPage{},
		"organisation-keys":   memberKeysPage{},
		"unsubscribe":         unsubscribePage{},
		"passkey":             passkeyPage{},
		"profile":             profilePage{},
		"resend":              entryPage{},
		"reset":               entryPage{},
		"second-step":         secondPage{},
		"security":            securityPage{},
		"sent":                sentPage{},
		"signup":              entryPage{},
		"strength":            Strength{},
		"totp":                totpPage{},
		"verify":              entryPage{},
	}
}

// PageTemplates are the templates of the pages, by their file names.
func PageTemplates() fs.FS { return web.SubTemplates(templates) }
