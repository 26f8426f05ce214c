// Command ledger shows the credit ledger by itself, on SQLite and without the rest of the library: a pack is sold, work
// is paid for, a stream is charged as it goes, and the books are checked and sealed.
//
//	go run ./examples/ledger [FILE]
//
// FILE is the database, ledger.db by default; each run adds to it.
package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/quickscale/quickscale/credits"
)

func main() {
	file := "ledger.db"
	if len(os.Args) > 1 {
		file = os.Args[1]
	}
	if err := run(context.Background(), log.New(os.Stdout, "", 0), file); err != nil {
		log.Fatal(err)
	}
}

// open opens the file twice: SQLite has one writer, and readers beside it.
func open(file string) (write, read *sqlx.DB, err error) {
	dsn := "file:" + (&url.URL{Path: file}).EscapedPath() + "?" + url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)",
		"foreign_keys(1)"}}.Encode()
	if write, err = sqlx.Open("sqlite", dsn+"&_txlock=immediate"); err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", file, err)
	}
	write.SetMaxOpenConns(1)
	if read, err = sqlx.Open("sqlite", dsn); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open %s to read: %w", file, err), write.Close())
	}
	return write, read, nil
}

func run(ctx context.Context, out *log.Logger, file string) (err error) {
	write, read, err := open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, read.Close(), write.Close()) }()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return fmt.Errorf("make a signing key: %w", err)
	}
	ledger, err := credits.New(credits.Config{DB: write, ReadDB: read, SigningKey: private})
	if err != nil {
		return err
	}
	if err := ledger.Migrate(ctx); err != nil {
		return err
	}
	account := "customer-" + uuid.NewString()
	for _, step := range []func(context.Context, *log.Logger, *credits.Ledger, string) error{sell, work, stream, look} {
		if err := step(ctx, out, ledger, account); err != nil {
			return err
		}
	}
	return audit(ctx, out, ledger, public)
}

// sell grants a pack and a bonus that expires. The key is the payment's: were it told of twice, it would count once.
func sell(ctx context.Context, out *log.Logger, ledger *credits.Ledger, account string) error {
	if _, err := ledger.Grant(ctx, credits.GrantParams{Account: account, Amount: 100 * credits.Credit, Source: credits.Purchase, Reason: "Pack of 100",
		Reference: "payment-1", IdempotencyKey: "payment-1"}); err != nil {
		return err
	}
	expires := time.Now().AddDate(0, 0, 5)
	e, err := ledger.Grant(ctx, credits.GrantParams{Account: account, Amount: 5 * credits.Credit, Source: credits.Bonus, Reason: "Welcome", ExpiresAt: &expires})
	if err != nil {
		return err
	}
	out.Printf("sold: %s credits available", e.Available)
	return nil
}

// work debits a price that is known, and is refused what the account does not have.
func work(ctx context.Context, out *log.Logger, ledger *credits.Ledger, account string) error {
	e, err := ledger.Debit(ctx, credits.DebitParams{Account: account, Amount: credits.MustAmount("7.5"), Service: "summarize", Reason: "Summary"})
	if err != nil {
		return err
	}
	for _, share := range e.Allocations {
		out.Printf("debited: %s of %s", share.Amount, share.Source)
	}
	_, err = ledger.Debit(ctx, credits.DebitParams{Account: account, Amount: 1000 * credits.Credit, Service: "train", Reason: "Training"})
	var short *credits.InsufficientError
	if !errors.As(err, &short) {
		return fmt.Errorf("a debit of more than there is was not refused: %w", err)
	}
	out.Printf("refused: %s", short.ErrorMessage())
	return nil
}

// stream holds the most that an answer may cost and charges it as it comes.
func stream(ctx context.Context, out *log.Logger, ledger *credits.Ledger, account string) error {
	hold, err := ledger.Reserve(ctx, credits.ReserveParams{Account: account, Amount: 20 * credits.Credit, TTL: 10 * time.Minute, Service: "chat", Reason: "Chat"})
	if err != nil {
		return err
	}
	for range 3 {
		if _, err := ledger.SettleWith(ctx, credits.SettleParams{Hold: hold.ID, Amount: 2 * credits.Credit, Partial: true}); err != nil {
			return err
		}
	}
	e, err := ledger.Settle(ctx, hold.ID, credits.MustAmount("0.25"))
	if err != nil {
		return err
	}
	out.Printf("streamed: %s credits available", e.Available)
	return nil
}

// look prints what the account's owner would see.
func look(ctx context.Context, out *log.Logger, ledger *credits.Ledger, account string) error {
	b, err := ledger.Balance(ctx, account)
	if err != nil {
		return err
	}
	out.Printf("balance: %s available, %s held, %s owed", b.Available, b.Held, b.Debt)
	entries, _, err := ledger.History(ctx, credits.HistoryParams{Account: account})
	if err != nil {
		return err
	}
	for _, e := range entries {
		out.Printf("%3d %-6s %8s -> %8s  %s", e.Seq, e.Kind, e.Amount, e.Balance, e.Reason)
	}
	return nil
}

// audit recomputes every account, seals the entries and signs a receipt of the seal.
func audit(ctx context.Context, out *log.Logger, ledger *credits.Ledger, public ed25519.PublicKey) error {
	if _, err := ledger.Seal(ctx); err != nil {
		return err
	}
	found, err := ledger.VerifyAll(ctx, nil)
	if err != nil {
		return err
	}
	receipt, err := ledger.SealReceipt(ctx)
	if err != nil {
		return err
	}
	if err := ledger.CheckReceipt(ctx, receipt, public); err != nil {
		return err
	}
	out.Printf("verified: %d discrepancies, receipt checked", len(found))
	return nil
}
