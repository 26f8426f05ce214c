package admin

import (
	"io/fs"

	"github.com/quickscale/quickscale/internal/web"
)

// pageData has for each page a value of the type that it is drawn with, by which templates that replace it are checked.
func pageData() map[string]any {
	return map[string]any{
		"account":        accountPage{},
		"acted":          actedPage{},
		"adjust":         adjustPage{},
		"approval":       approvalPage{},
		"approvals":      approvalsPage{},
		"audit":          auditPage{},
		"dispute":        disputePage{},
		"disputes":       disputesPage{},
		"investigation":  investigationPage{},
		"jobs":           jobsPage{},
		"ledger":         ledgerPage{},
		"overview":       overviewPage{},
		"payment":        paymentPage{},
		"payments":       paymentsPage{},
		"products":       productsPage{},
		"reconcile":      reconcilePage{},
		"refund":         refundPage{},
		"refund_preview": refundPreviewPage{},
		"refund_stats":   refundStatsPage{},
		"refunds":        refundsPage{},
		"service":        servicePage{},
		"services":       servicesPage{},
		"user":           userPage{},
		"users":          usersPage{},
		"webhook":        eventPage{},
		"webhook_span":   spanPage{},
		"webhook_stats":  statsPage{},
		"webhooks":       eventsPage{},
	}
}

// PageTemplates are the templates of the pages, by their file names.
func PageTemplates() fs.FS { return web.SubTemplates(templates) }
