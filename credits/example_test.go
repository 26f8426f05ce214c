package credits_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/quickscale/quickscale/credits"
)

func Example() {
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := sqlx.Open("sqlite", "file:"+filepath.Join(dir, "ledger.db")+"?_txlock=immediate&_pragma=foreign_keys(1)")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)

	ctx := context.Background()
	ledger, err := credits.New(credits.Config{DB: db})
	if err != nil {
		log.Fatal(err)
	}
	if err := ledger.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	if _, err := ledger.Grant(ctx, credits.GrantParams{
		Account: "ada", Amount: 10 * credits.Credit, Source: credits.Purchase, Reason: "Pack of 10", IdempotencyKey: "payment-1",
	}); err != nil {
		log.Fatal(err)
	}

	// Work whose price is known only after it is reserved for first.
	hold, err := ledger.Reserve(ctx, credits.ReserveParams{Account: "ada", Amount: credits.MustAmount("2.5"), TTL: time.Minute, Reason: "Summary"})
	if err != nil {
		log.Fatal(err)
	}
	entry, err := ledger.Settle(ctx, hold.ID, credits.MustAmount("1.75"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(entry.Reason, entry.Amount, "leaves", entry.Available)

	_, err = ledger.Debit(ctx, credits.DebitParams{Account: "ada", Amount: 100 * credits.Credit, Reason: "Too much"})
	fmt.Println(err)
	// Output:
	// Summary -1.75 leaves 8.25
	// credits: 100 required, 8.25 available
}
