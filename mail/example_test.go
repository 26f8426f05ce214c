package mail_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing/fstest"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	_ "modernc.org/sqlite"

	"github.com/quickscale/quickscale/mail"
)

// client lets the queue have the client that is made after its workers.
type client struct{ *river.Client[*sql.Tx] }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// An application with a River client of its own composes a message, queues it, and finds it in the outbox.
func Example() {
	dir, err := os.MkdirTemp("", "mail")
	must(err)
	defer os.RemoveAll(dir)
	db, err := sqlx.Open("sqlite", "file:"+filepath.Join(dir, "mail.db")+"?_txlock=immediate&_pragma=foreign_keys(1)")
	must(err)
	defer db.Close()
	db.SetMaxOpenConns(1)

	ctx := context.Background()
	driver := riversqlite.New(db.DB)
	quiet := slog.New(slog.DiscardHandler)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: quiet})
	must(err)
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	must(err)
	outbox, err := mail.NewOutbox(mail.OutboxConfig{DB: db}) // or mail.NewSMTP
	must(err)
	must(outbox.Migrate(ctx))

	jobs, workers := &client{}, river.NewWorkers()
	queue, err := mail.NewQueue(mail.QueueConfig{DB: db, Mailer: outbox, Jobs: jobs, Secret: []byte("32 bytes or more, from the environment"), Logger: quiet})
	must(err)
	must(queue.AddWorkers(workers))
	jobs.Client, err = river.NewClient(driver, &river.Config{
		Workers: workers, Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 1}}, FetchPollInterval: 100 * time.Millisecond, Logger: quiet,
	})
	must(err)
	done, unsubscribe := jobs.Subscribe(river.EventKindJobCompleted)
	defer unsubscribe()
	must(jobs.Start(ctx))

	templates, err := mail.NewTemplates(mail.TemplatesConfig{Site: "Acme", Files: fstest.MapFS{
		"welcome.txt": {Data: []byte("Subject: Welcome to {{site}}\n\nHello {{.}},\nbegin at https://acme.example/start.\n")},
	}})
	must(err)
	m, err := templates.Compose("welcome", "ada@example.com", "Ada Lovelace", "Ada")
	must(err)
	must(queue.Enqueue(ctx, m))
	<-done
	must(jobs.Stop(ctx))

	caught, _, err := outbox.List(ctx, mail.ListParams{})
	must(err)
	fmt.Println(caught[0].Subject, caught[0].Links)
	// Output:
	// Welcome to Acme [https://acme.example/start]
}
