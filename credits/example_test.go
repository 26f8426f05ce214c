package credits_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/quickscale/quickscale/credits"
)

// exampleLedger is a ledger in a file of its own.
func exampleLedger() (ledger *credits.Ledger, done func()) {
	dir, err := os.MkdirTemp("", "ledger")
	must(err)
	db, err := sqlx.Open("sqlite", "file:"+filepath.Join(dir, "ledger.db")+"?_txlock=immediate&_pragma=foreign_keys(1)")
	must(err)
	db.SetMaxOpenConns(1)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ledger, err = credits.New(credits.Config{DB: db, Clock: func() time.Time { return now }, SigningKey: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))})
	must(err)
	must(ledger.Migrate(context.Background()))
	return ledger, func() {
		must(db.Close())
		must(os.RemoveAll(dir))
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// sold is an example ledger where ada has bought a pack of ten.
func sold() (ledger *credits.Ledger, pack credits.Entry, done func()) {
	ledger, done = exampleLedger()
	pack, err := ledger.Grant(context.Background(), credits.GrantParams{Account: "ada", Amount: 10 * credits.Credit, Source: credits.Purchase,
		Reason: "Pack of 10", Reference: "pi_1", IdempotencyKey: "pi_1"})
	must(err)
	return ledger, pack, done
}

func Example() {
	ledger, _, done := sold()
	defer done()
	ctx := context.Background()

	// Work whose price is known only after it is reserved for first.
	hold, err := ledger.Reserve(ctx, credits.ReserveParams{Account: "ada", Amount: credits.MustAmount("2.5"), TTL: time.Minute, Reason: "Summary"})
	must(err)
	entry, err := ledger.Settle(ctx, hold.ID, credits.MustAmount("1.75"))
	must(err)
	fmt.Println(entry.Reason, entry.Amount, "leaves", entry.Available)

	_, err = ledger.Debit(ctx, credits.DebitParams{Account: "ada", Amount: 100 * credits.Credit, Reason: "Too much"})
	fmt.Println(err)
	// Output:
	// Summary -1.75 leaves 8.25
	// credits: 100 required, 8.25 available
}

func ExampleLedger_Grant() {
	ledger, done := exampleLedger()
	defer done()
	until := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	grant := credits.GrantParams{Account: "ada", Amount: 100 * credits.Credit, Source: credits.Subscription, Reason: "March", ExpiresAt: &until, IdempotencyKey: "in_1"}
	for range 2 { // the invoice is told of twice
		e, err := ledger.Grant(context.Background(), grant)
		must(err)
		fmt.Println(e.Seq, e.Amount, e.Balance)
	}
	// Output:
	// 1 100 100
	// 1 100 100
}

func ExampleLedger_Debit() {
	ledger, _, done := sold()
	defer done()
	e, err := ledger.Debit(context.Background(), credits.DebitParams{Account: "ada", Amount: credits.MustAmount("0.5"), Service: "count_words", Reason: "Count words"})
	must(err)
	fmt.Println(e.Amount, e.Available, e.Allocations[0].Source)
	// Output: -0.5 9.5 purchase
}

func ExampleLedger_Reserve() {
	ledger, _, done := sold()
	defer done()
	ctx := context.Background()
	hold, err := ledger.Reserve(ctx, credits.ReserveParams{Account: "ada", Amount: 4 * credits.Credit, TTL: time.Hour, Reason: "Video", Over: credits.OverCap})
	must(err)
	e, err := ledger.Settle(ctx, hold.ID, 6*credits.Credit)
	must(err)
	fmt.Println(e.Amount, "of", e.Metadata["actual"])
	// Output: -4 of 6
}

func ExampleLedger_Settle() {
	ledger, _, done := sold()
	defer done()
	ctx := context.Background()
	hold, err := ledger.Reserve(ctx, credits.ReserveParams{Account: "ada", Amount: 8 * credits.Credit, TTL: time.Hour, Reason: "Video"})
	must(err)
	e, err := ledger.Settle(ctx, hold.ID, 12*credits.Credit) // the work is done, and cost more
	must(err)
	fmt.Println(e.Amount, "leaves a debt of", e.Debt)
	// Output: -12 leaves a debt of 2
}

func ExampleLedger_SettleWith() {
	ledger, _, done := sold()
	defer done()
	ctx := context.Background()
	hold, err := ledger.Reserve(ctx, credits.ReserveParams{Account: "ada", Amount: 5 * credits.Credit, TTL: time.Hour, Reason: "Chat"})
	must(err)
	for range 3 { // a stream is charged as it goes
		e, err := ledger.SettleWith(ctx, credits.SettleParams{Hold: hold.ID, Amount: credits.Credit, Partial: true})
		must(err)
		fmt.Println(e.Balance)
	}
	must(ledger.Release(ctx, hold.ID))
	// Output:
	// 9
	// 8
	// 7
}

func ExampleLedger_Release() {
	ledger, _, done := sold()
	defer done()
	ctx := context.Background()
	hold, err := ledger.Reserve(ctx, credits.ReserveParams{Account: "ada", Amount: 5 * credits.Credit, TTL: time.Hour, Reason: "Chat"})
	must(err)
	must(ledger.Release(ctx, hold.ID))
	b, err := ledger.Balance(ctx, "ada")
	must(err)
	fmt.Println(b.Available, b.Held)
	// Output: 10 0
}

func ExampleLedger_Adjust() {
	ledger, _, done := sold()
	defer done()
	e, err := ledger.Adjust(context.Background(), credits.AdjustParams{Account: "ada", Amount: -credits.Credit, By: "staff-7", Reason: "Granted twice"})
	must(err)
	fmt.Println(e.Kind, e.Amount, e.Metadata["by"])
	// Output: adjust -1 staff-7
}

func ExampleLedger_Transfer() {
	ledger, done := exampleLedger()
	defer done()
	ctx := context.Background()
	until := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	_, err := ledger.Grant(ctx, credits.GrantParams{Account: "ada", Amount: 30 * credits.Credit, Source: credits.Subscription, Reason: "March", ExpiresAt: &until})
	must(err)
	// A plan change: what is left of the subscription stays, without an expiry.
	moved, err := ledger.Transfer(ctx, credits.TransferParams{Account: "ada", From: credits.Subscription, Into: credits.Purchase, All: true, Reason: "Plan change"})
	must(err)
	fmt.Println(moved.Out.Amount, moved.In.Amount, moved.In.Source)
	// Output: -30 30 purchase
}

func ExampleLedger_Revoke() {
	ledger, pack, done := sold()
	defer done()
	ctx := context.Background()
	_, err := ledger.Debit(ctx, credits.DebitParams{Account: "ada", Amount: 4 * credits.Credit, Reason: "Video"})
	must(err)
	e, err := ledger.Revoke(ctx, credits.RevokeParams{Account: "ada", Grant: pack.ID, Amount: 10 * credits.Credit, IntoDebt: true, Reason: "Payment disputed"})
	must(err)
	fmt.Println(e.Amount, "leaves", e.Balance)
	// Output: -10 leaves -4
}

func ExampleLedger_Expire() {
	ledger, _, done := sold()
	defer done()
	n, err := ledger.Expire(context.Background()) // the periodic jobs do this every minute
	must(err)
	fmt.Println(n, "accounts had something to expire")
	// Output: 0 accounts had something to expire
}

func ExampleLedger_Balance() {
	ledger, _, done := sold()
	defer done()
	b, err := ledger.Balance(context.Background(), "ada")
	must(err)
	fmt.Println(b.Available, b.Held, b.Debt, b.BySource)
	// Output: 10 0 0 map[purchase:10]
}

func ExampleLedger_History() {
	ledger, _, done := sold()
	defer done()
	entries, more, err := ledger.History(context.Background(), credits.HistoryParams{Account: "ada", Text: "pack"})
	must(err)
	for _, e := range entries {
		fmt.Println(e.Seq, e.Kind, e.Amount, e.Reason, more)
	}
	// Output: 1 grant 10 Pack of 10 false
}

func ExampleLedger_HistoryCSV() {
	ledger, _, done := sold()
	defer done()
	var out bytes.Buffer
	must(ledger.HistoryCSV(context.Background(), &out, credits.HistoryParams{Account: "ada"}))
	fmt.Println(strings.SplitN(out.String(), "\n", 2)[0])
	// Output: seq,time,kind,amount,debt,balance,available,source,service,reason,reference,id
}

func ExampleLedger_Statement() {
	ledger, _, done := sold()
	defer done()
	s, err := ledger.Statement(context.Background(), "ada", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	must(err)
	fmt.Println(s.Opening, s.Movements[0].Kind, s.Movements[0].Amount, s.Closing)
	// Output: 0 grant 10 10
}

func ExampleLedger_SetLimits() {
	ledger, _, done := sold()
	defer done()
	ctx := context.Background()
	perDay := 3 * credits.Credit
	must(ledger.SetLimits(ctx, "ada", credits.Limits{PerDay: &perDay}))
	_, err := ledger.Debit(ctx, credits.DebitParams{Account: "ada", Amount: 4 * credits.Credit, Reason: "Video"})
	fmt.Println(errors.Is(err, credits.ErrLimit), err)
	// Output: true credits: limit of 3 a day: 0 used, 4 required
}

func ExampleLedger_Freeze() {
	ledger, _, done := sold()
	defer done()
	ctx := context.Background()
	must(ledger.Freeze(ctx, "ada", "dispute dp_1"))
	_, err := ledger.Debit(ctx, credits.DebitParams{Account: "ada", Amount: 1, Reason: "Video"})
	fmt.Println(err)
	must(ledger.Unfreeze(ctx, "ada"))
	// Output: credits: the account is frozen: dispute dp_1
}

func ExampleLedger_Import() {
	ledger, done := exampleLedger()
	defer done()
	file := "account,amount,source\nada,12.5,purchase\nbob,3,bonus\n"
	report, err := ledger.Import(context.Background(), strings.NewReader(file), credits.ImportParams{Name: "opening", DryRun: true})
	must(err)
	fmt.Println(report.Lines, report.Total, report.Granted)
	report, err = ledger.Import(context.Background(), strings.NewReader(file), credits.ImportParams{Name: "opening"})
	must(err)
	fmt.Println(report.Lines, report.Total, report.Granted)
	// Output:
	// 2 15.5 0
	// 2 15.5 2
}

func ExampleLedger_Export() {
	ledger, _, done := sold()
	defer done()
	var out bytes.Buffer
	must(ledger.Export(context.Background(), &out, "ada"))
	fmt.Println(strings.HasPrefix(out.String(), `{"account":"ada","balance":{"available":"10"`))
	// Output: true
}

func ExampleLedger_Erase() {
	ledger, _, done := sold()
	defer done()
	ctx := context.Background()
	must(ledger.Erase(ctx, "ada"))
	entries, _, err := ledger.History(ctx, credits.HistoryParams{Account: "ada"})
	must(err)
	for _, e := range entries {
		fmt.Println(e.Kind, e.Amount, e.Reason)
	}
	// Output:
	// revoke -10 Erased
	// grant 10 Erased
}

func ExampleLedger_Verify() {
	ledger, _, done := sold()
	defer done()
	for next, first := "", true; first || next != ""; first = false {
		report, err := ledger.Verify(context.Background(), credits.VerifyParams{After: next})
		must(err)
		fmt.Println(report.Accounts, len(report.Discrepancies))
		next = report.Next
	}
	// Output: 1 0
}

func ExampleLedger_SealReceipt() {
	ledger, _, done := sold()
	defer done()
	ctx := context.Background()
	_, err := ledger.Seal(ctx) // the periodic jobs do this every ten minutes
	must(err)
	receipt, err := ledger.SealReceipt(ctx) // keep it where the database's owner cannot reach it
	must(err)
	public := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	fmt.Println(receipt.Seal, receipt.Entries, ledger.CheckReceipt(ctx, receipt, public))
	// Output: 1 1 <nil>
}
