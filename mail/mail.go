// Package mail composes an application's messages, sends them reliably, and shows them while developing.
//
// A message is composed by [Templates], queued by [Queue] in the transaction of its cause, and sent later by a
// [Mailer]: [SMTP] in production, [Outbox] in development. The packages that send mail need only the queue's EnqueueTx.
//
// Messages hold links that let their reader in, so what waits in the queue is sealed, and what is logged is a message's
// kind and its job, never a word of it. The outbox alone keeps messages in clear: it is for development only.
package mail

import (
	"embed"

	"github.com/quickscale/quickscale/internal/database"
)

var (
	//go:embed migrations
	migrations embed.FS
	//go:embed templates
	templates embed.FS
	//go:embed layout/_layout.html
	plainLayout []byte
	//go:embed layout/_text.html
	textContent []byte
)

// Migrations are the schema changes, for those who migrate several packages at once. Only the [Outbox] has a table.
func Migrations() database.Migrations { return database.Migrations{Name: "mail", FS: migrations} }
