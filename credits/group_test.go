package credits_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

func grantTo(t *testing.T, l *credits.Ledger, account string, amount credits.Amount) {
	t.Helper()
	_, err := l.Grant(t.Context(), credits.GrantParams{Account: account, Amount: amount, Source: credits.Purchase, Reason: "opening"})
	require.NoError(t, err)
}

// together runs n calls that queue behind one another, in order: while a transaction of its own holds the account acc,
// the first call waits for it, and all others wait for the first.
func together(t *testing.T, db *database.DB, n int, call func(i int) error) []error {
	t.Helper()
	errs := make([]error, n)
	var all sync.WaitGroup
	err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		// SQLite's only writer is this transaction itself.
		if _, err := db.ExecTx(ctx, tx, `UPDATE qs_credit_accounts SET held = held WHERE id = ?`, acc); err != nil {
			return err
		}
		for i := range n {
			before := runtime.NumGoroutine()
			all.Go(func() { errs[i] = call(i) })
			for runtime.NumGoroutine() <= before && i > 0 {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(25 * time.Millisecond) // until it has queued, on a busy machine too: there is nothing to be seen of it
		}
		return nil
	})
	require.NoError(t, err)
	all.Wait()
	return errs
}

func TestGroup_RefusalsAreExactInTheOrderOfArrival(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		l := newLedger(t, db, newClock())
		grantTo(t, l, acc, 10)
		// The one of 8 does not fit, and takes nothing away from those that do.
		amounts := []credits.Amount{3, 2, 8, 4, 1, 1}
		errs := together(t, db, len(amounts), func(i int) error {
			_, err := l.Debit(context.Background(), credits.DebitParams{Account: acc, Amount: amounts[i], Reason: "use"})
			return err
		})
		for i, err := range errs {
			if i == 2 || i == 5 {
				require.ErrorIs(t, err, credits.ErrInsufficient)
			} else {
				require.NoError(t, err)
			}
		}
		var short *credits.InsufficientError
		require.ErrorAs(t, errs[2], &short)
		assert.Equal(t, credits.Amount(5), short.Available)
		assert.Zero(t, available(t, l))
		entries, _, err := l.History(t.Context(), credits.HistoryParams{Account: acc, Kind: credits.KindDebit})
		require.NoError(t, err)
		var got []credits.Amount
		for _, e := range entries {
			got = append(got, -e.Amount)
		}
		assert.Equal(t, []credits.Amount{1, 4, 2, 3}, got, "newest first")
		check(t, db)
	})
}

func TestGroup_MixesOperationsAndAccounts(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		l := newLedger(t, db, newClock())
		grantTo(t, l, acc, 10)
		grantTo(t, l, "b", 5)
		ctx := context.Background()
		var h credits.Hold
		calls := []func() error{
			func() error {
				_, err := l.Debit(ctx, credits.DebitParams{Account: acc, Amount: 10, Reason: "all"})
				return err
			},
			func() error {
				_, err := l.Debit(ctx, credits.DebitParams{Account: acc, Amount: 1, Reason: "too much"})
				return err
			},
			func() error {
				_, err := l.Grant(ctx, credits.GrantParams{Account: acc, Amount: 7, Source: credits.Bonus, Reason: "more"})
				return err
			},
			func() (err error) {
				h, err = l.Reserve(ctx, credits.ReserveParams{Account: acc, Amount: 4, TTL: time.Hour, Reason: "work"})
				return err
			},
			func() error {
				_, err := l.Debit(ctx, credits.DebitParams{Account: acc, Amount: 3, Reason: "rest"})
				return err
			},
			func() error {
				_, err := l.Debit(ctx, credits.DebitParams{Account: "b", Amount: 5, Reason: "all"})
				return err
			},
			func() error {
				_, err := l.Debit(ctx, credits.DebitParams{Account: "new", Amount: 0, Reason: "free"})
				return err
			},
			func() error {
				_, err := l.Debit(ctx, credits.DebitParams{Account: "none", Amount: 1, Reason: "use"})
				return err
			},
		}
		errs := together(t, db, len(calls), func(i int) error { return calls[i]() })
		for i, err := range errs {
			if i == 1 || i == 7 {
				require.ErrorIs(t, err, credits.ErrInsufficient)
			} else {
				require.NoError(t, err)
			}
		}
		calls = []func() error{
			func() error {
				_, err := l.Debit(ctx, credits.DebitParams{Account: acc, Amount: 1, Reason: "too early"})
				return err
			},
			func() error { _, err := l.Settle(ctx, h.ID, 1); return err },
			func() error { _, err := l.Settle(ctx, h.ID, 1); return err },
			func() error { _, err := l.Settle(ctx, h.ID, 2); return err },
			func() error {
				_, err := l.Debit(ctx, credits.DebitParams{Account: acc, Amount: 3, Reason: "what came back"})
				return err
			},
		}
		errs = together(t, db, len(calls), func(i int) error { return calls[i]() })
		require.ErrorIs(t, errs[0], credits.ErrInsufficient)
		require.NoError(t, errs[1])
		require.NoError(t, errs[2])
		require.ErrorIs(t, errs[3], credits.ErrHoldSettled)
		require.NoError(t, errs[4])
		check(t, db)
	})
}

func TestGroup_HoldsLeaveTheNumbersThatTheirOrderGives(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		c := newClock()
		l := newLedger(t, db, c)
		grantTo(t, l, acc, 1000)
		grantTo(t, l, "b", 5)
		ctx := context.Background()
		holds := make([]credits.Hold, 8)
		errs := together(t, db, len(holds), func(i int) (err error) {
			p := credits.ReserveParams{Account: acc, Amount: credits.Amount(10 * (i + 1)), TTL: time.Hour, Service: "s", Reason: "work", Reference: "job"}
			switch i {
			case 5:
				p.IdempotencyKey = "once"
			case 6: // does not fit
				p.Account = "b"
			case 7:
				p.Account, p.Amount = "b", 4
			}
			holds[i], err = l.Reserve(ctx, p)
			return err
		})
		require.ErrorIs(t, errs[6], credits.ErrInsufficient)
		require.NoError(t, errors.Join(slices.Delete(errs, 6, 7)...))
		again, err := l.Reserve(ctx, credits.ReserveParams{Account: acc, Amount: 60, TTL: time.Hour, Service: "s", Reason: "work", Reference: "job",
			IdempotencyKey: "once"})
		require.NoError(t, err)
		assert.Equal(t, holds[5], again)
		assert.Equal(t, credits.Hold{ID: holds[1].ID, Account: acc, Amount: 20, Remaining: 20, Status: credits.HoldOpen, Over: credits.OverDebt, Service: "s",
			Reason: "work", Reference: "job", ExpiresAt: c.Now().Add(time.Hour), CreatedAt: c.Now()}, holds[1])

		entries := make([]credits.Entry, 7)
		errs = together(t, db, len(entries), func(i int) (err error) {
			switch i {
			case 3:
				entries[i], err = l.Debit(ctx, credits.DebitParams{Account: acc, Amount: 7, Reason: "use"})
			case 4:
				err = l.Release(ctx, holds[4].ID)
			case 6:
				entries[i], err = l.SettleWith(ctx, credits.SettleParams{Hold: holds[7].ID, Amount: 3, Metadata: map[string]string{"model": "m"}})
			default:
				entries[i], err = l.Settle(ctx, holds[i].ID, credits.Amount(i+1))
			}
			return err
		})
		require.NoError(t, errors.Join(errs...))
		// 1000 less 210 in holds; each settlement returns 10n-n.
		for i, want := range map[int]credits.Amount{0: 799, 1: 817, 2: 844, 3: 837, 5: 941} {
			assert.Equal(t, want, entries[i].Available, i)
			assert.Equal(t, acc, entries[i].Account)
		}
		assert.Equal(t, credits.Amount(1000-1-2-3-7-6), entries[5].Balance)
		assert.Equal(t, map[string]string{"model": "m", "hold": holds[7].ID.String()}, entries[6].Metadata)
		found, _, err := l.History(ctx, credits.HistoryParams{Account: acc, Kind: credits.KindDebit})
		require.NoError(t, err)
		require.Len(t, found, 5)
		for n, i := range []int{5, 3, 2, 1, 0} {
			as, err := l.Allocations(ctx, entries[i].ID)
			require.NoError(t, err)
			assert.Equal(t, as, entries[i].Allocations)
			entries[i].Allocations = nil
			assert.Equal(t, entries[i], found[n], "newest first")
		}

		// Repetitions, and what needs a longer look, within one group.
		errs = together(t, db, 5, func(i int) (err error) {
			switch i {
			case 0, 1:
				_, err = l.Settle(ctx, holds[0].ID, 1)
			case 2:
				_, err = l.Settle(ctx, holds[0].ID, 2)
			case 3:
				err = l.Release(ctx, holds[5].ID)
			case 4:
				_, err = l.Settle(ctx, uuid.New(), 1)
			}
			return err
		})
		require.NoError(t, errors.Join(errs[:2]...))
		require.ErrorIs(t, errs[2], credits.ErrHoldSettled)
		require.ErrorIs(t, errs[3], credits.ErrHoldSettled)
		require.ErrorIs(t, errs[4], credits.ErrHoldNotFound)
		check(t, db)
	})
}

// Two ledgers stand for two processes, of which each ends every hold in a way of its own.
func TestConcurrency_AHoldEndsOnce(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		c := newClock()
		ledgers := []*credits.Ledger{newLedger(t, db, c), newLedger(t, db, c)}
		grantTo(t, ledgers[0], acc, 10_000)
		ctx := context.Background()
		var used atomic.Int64
		var group errgroup.Group
		for range 150 {
			h, err := ledgers[0].Reserve(ctx, credits.ReserveParams{Account: acc, Amount: 10, TTL: time.Hour, Reason: "use"})
			require.NoError(t, err)
			var winners atomic.Int64
			var both errgroup.Group
			for i, l := range ledgers {
				both.Go(func() error {
					_, err := l.Settle(ctx, h.ID, credits.Amount(i+3))
					if errors.Is(err, credits.ErrHoldSettled) {
						return nil
					}
					winners.Add(1)
					used.Add(int64(i + 3))
					return err
				})
			}
			group.Go(func() error {
				if err := both.Wait(); err != nil {
					return err
				}
				if n := winners.Load(); n != 1 {
					return fmt.Errorf("%d settlements of a hold were taken", n)
				}
				return nil
			})
		}
		require.NoError(t, group.Wait())
		b := balance(t, ledgers[0], acc)
		assert.Equal(t, credits.Amount(10_000-used.Load()), b.Available)
		assert.Zero(t, b.Held)
		check(t, db)
	})
}

func TestGroup_KeysHoldWithinOne(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		l := newLedger(t, db, newClock())
		grantTo(t, l, acc, 100)
		entries := make([]credits.Entry, 9)
		errs := together(t, db, len(entries), func(i int) (err error) {
			p := credits.DebitParams{Account: acc, Amount: 5, Reason: "use", IdempotencyKey: []string{"a", "b", "c"}[i%3]}
			if i == 8 {
				p.Amount = 6
			}
			entries[i], err = l.Debit(context.Background(), p)
			return err
		})
		for i, err := range errs[:8] {
			require.NoError(t, err)
			assert.Equal(t, entries[i%3], entries[i])
		}
		require.ErrorIs(t, errs[8], credits.ErrIdempotencyMismatch)
		assert.Equal(t, credits.Amount(85), available(t, l))
		check(t, db)
	})
}

func TestGroup_ACallerWhoLeavesWhileItWaitsChangesNothing(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		l := newLedger(t, db, newClock())
		grantTo(t, l, acc, 100)
		ctx, leave := context.WithCancel(context.Background())
		errs := together(t, db, 5, func(i int) error {
			use := context.Background()
			switch i {
			case 2:
				use = ctx
			case 4:
				leave()
			}
			_, err := l.Debit(use, credits.DebitParams{Account: acc, Amount: 1, Reason: "use"})
			return err
		})
		require.ErrorIs(t, errs[2], context.Canceled)
		require.NoError(t, errors.Join(errs[0], errs[1], errs[3], errs[4]))
		assert.Equal(t, credits.Amount(96), available(t, l))
		_, err := l.Debit(ctx, credits.DebitParams{Account: acc, Amount: 1, Reason: "use"})
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestGroup_APanicIsAnErrorOfItsCallers(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		var broken atomic.Bool
		c := newClock()
		l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader(), Logger: slog.New(slog.DiscardHandler), Clock: func() time.Time {
			if broken.Load() {
				panic("no time")
			}
			return c.Now()
		}})
		require.NoError(t, err)
		grantTo(t, l, acc, 100)
		use := func() (err error) {
			defer func() {
				if own := recover(); own != nil { // of the caller who went alone
					err = fmt.Errorf("%v", own)
				}
			}()
			_, err = l.Debit(context.Background(), credits.DebitParams{Account: acc, Amount: 1, Reason: "use"})
			return err
		}
		errs := together(t, db, 4, func(i int) error {
			if i == 3 {
				broken.Store(true)
			}
			return use()
		})
		for _, err := range errs[1:] {
			require.ErrorContains(t, err, "credits: panic: no time")
		}
		broken.Store(false)
		before := available(t, l)
		require.NoError(t, use(), "the ledger goes on")
		assert.Equal(t, before-1, available(t, l))
		check(t, db)
	})
}

// Two ledgers stand for two processes: they share nothing but the database.
func TestConcurrency_SumsAreConservedOnOneAccountAndOnMany(t *testing.T) {
	t.Parallel()
	for name, accounts := range map[string]int{"one": 1, "many": 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
				c := newClock()
				ledgers := []*credits.Ledger{newLedger(t, db, c), newLedger(t, db, c)}
				const opening = 500
				for n := range accounts {
					for range 5 {
						grantTo(t, ledgers[0], crashAccount(n), opening/5)
					}
				}
				var mu sync.Mutex
				var used, granted credits.Amount
				count := func(to *credits.Amount, amount credits.Amount, err error) error {
					if errors.Is(err, credits.ErrInsufficient) {
						return nil
					}
					if err == nil {
						mu.Lock()
						*to += amount
						mu.Unlock()
					}
					return err
				}
				var group errgroup.Group
				for caller := range 64 {
					group.Go(func() error {
						l := ledgers[caller%2]
						for i := range 12 {
							account := crashAccount((caller*7 + i) % accounts)
							var err error
							switch i % 6 {
							case 0, 1, 2:
								_, err = l.Debit(context.Background(), credits.DebitParams{Account: account, Amount: 3, Reason: "use"})
								err = count(&used, 3, err)
							case 3:
								h, reserveErr := l.Reserve(context.Background(), credits.ReserveParams{Account: account, Amount: 6, TTL: time.Hour, Reason: "use"})
								if reserveErr == nil {
									_, reserveErr = l.Settle(context.Background(), h.ID, 2)
								}
								err = count(&used, 2, reserveErr)
							case 4:
								_, err = l.Grant(context.Background(), credits.GrantParams{Account: account, Amount: 1, Source: credits.Bonus, Reason: "more"})
								err = count(&granted, 1, err)
							case 5:
								if accounts > 1 {
									_, err = l.Transfer(context.Background(), credits.TransferParams{Account: account, To: crashAccount((caller + i) % accounts), Amount: 2,
										Into: credits.Bonus, Reason: "move"})
									err = count(new(credits.Amount), 2, err)
								}
							}
							if err != nil {
								return err
							}
						}
						return nil
					})
				}
				require.NoError(t, group.Wait())
				var owned credits.Amount
				require.NoError(t, db.Get(t.Context(), &owned, `SELECT SUM(available + held) FROM qs_credit_accounts`))
				assert.Equal(t, credits.Amount(accounts*opening)+granted, owned+used)
				check(t, db)
			})
		})
	}
}
