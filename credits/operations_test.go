package credits_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

func balance(t *testing.T, l *credits.Ledger, account string) credits.Balance {
	t.Helper()
	b, err := l.Balance(t.Context(), account)
	require.NoError(t, err)
	return b
}

func TestSettle_AboveTheHoldIsChargedWholeAndTheRestIsDebt(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, _ *clock) {
		grant(t, l, credits.Purchase, 10, nil)
		h := reserve(t, l, 6, time.Hour)
		e, err := l.Settle(t.Context(), h.ID, 15)
		require.NoError(t, err)
		assert.Equal(t, credits.Amount(-15), e.Amount)
		assert.Equal(t, credits.Amount(5), e.Debt)
		assert.Equal(t, credits.Amount(-5), e.Balance)
		require.Len(t, e.Allocations, 1)
		assert.Equal(t, credits.Amount(-10), e.Allocations[0].Amount)
		b := balance(t, l, acc)
		assert.Equal(t, []credits.Amount{0, 0, 5}, []credits.Amount{b.Available, b.Held, b.Debt})

		_, err = l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: 1, Reason: "use"})
		var short *credits.InsufficientError
		require.ErrorAs(t, err, &short)
		assert.Equal(t, credits.InsufficientError{Required: 1, Debt: 5}, *short)
		assert.Equal(t, credits.Amount(6), short.Shortfall())

		grant(t, l, credits.Purchase, 3, nil)
		b = balance(t, l, acc)
		assert.Equal(t, []credits.Amount{0, 2}, []credits.Amount{b.Available, b.Debt}, "new credits pay debt first")
		grant(t, l, credits.Purchase, 3, nil)
		b = balance(t, l, acc)
		assert.Equal(t, []credits.Amount{1, 0}, []credits.Amount{b.Available, b.Debt})
		repaid, _, err := l.History(t.Context(), credits.HistoryParams{Account: acc, Kind: credits.KindRepay})
		require.NoError(t, err)
		require.Len(t, repaid, 2)
		assert.Equal(t, credits.Amount(-2), repaid[0].Debt)
		debit(t, l, 1)

		again, err := l.Settle(t.Context(), h.ID, 15)
		require.NoError(t, err)
		assert.Equal(t, e, again)
	})
}

func TestSettle_AboveTheHoldCanBeCappedOrRefused(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, _ *clock) {
		grant(t, l, credits.Purchase, 20, nil)
		hold := func(over credits.Over) credits.Hold {
			h, err := l.Reserve(t.Context(), credits.ReserveParams{Account: acc, Amount: 5, TTL: time.Hour, Reason: "work", Over: over})
			require.NoError(t, err)
			return h
		}
		capped := hold(credits.OverCap)
		e, err := l.Settle(t.Context(), capped.ID, 8)
		require.NoError(t, err)
		assert.Equal(t, credits.Amount(-5), e.Amount)
		assert.Equal(t, "0.000008", e.Metadata["actual"])
		again, err := l.Settle(t.Context(), capped.ID, 8)
		require.NoError(t, err)
		assert.Equal(t, e.ID, again.ID)
		_, err = l.Settle(t.Context(), capped.ID, 5)
		require.ErrorIs(t, err, credits.ErrHoldSettled)

		strict := hold(credits.OverRefuse)
		_, err = l.Settle(t.Context(), strict.ID, 6)
		require.ErrorIs(t, err, credits.ErrOverHold)
		_, err = l.Settle(t.Context(), strict.ID, 5)
		require.NoError(t, err, "the hold has stayed")
		_, err = l.Reserve(t.Context(), credits.ReserveParams{Account: acc, Amount: 5, TTL: time.Hour, Reason: "work", Over: "shrug"})
		require.ErrorIs(t, err, credits.ErrUnknownOver)
	})
}

func TestSettle_StreamIsChargedAsItGoes(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Subscription, 4, in(c, day))
		grant(t, l, credits.Purchase, 20, nil)
		h := reserve(t, l, 10, time.Hour)
		part := credits.SettleParams{Hold: h.ID, Amount: 3, Partial: true, IdempotencyKey: "chunk-1"}
		first, err := l.SettleWith(t.Context(), part)
		require.NoError(t, err)
		same, err := l.SettleWith(t.Context(), part)
		require.NoError(t, err)
		assert.Equal(t, first, same)
		part.Amount = 4
		_, err = l.SettleWith(t.Context(), part)
		require.ErrorIs(t, err, credits.ErrIdempotencyMismatch)
		part.IdempotencyKey = "chunk-2"
		second, err := l.SettleWith(t.Context(), part)
		require.NoError(t, err)
		assert.Len(t, second.Allocations, 2, "the rest of the subscription lot, then the other")
		open, err := l.Holds(t.Context(), acc)
		require.NoError(t, err)
		require.Len(t, open, 1)
		assert.Equal(t, credits.Amount(3), open[0].Remaining)
		assert.Equal(t, credits.Amount(14), available(t, l))

		_, err = l.Settle(t.Context(), h.ID, 1)
		require.NoError(t, err)
		b := balance(t, l, acc)
		assert.Equal(t, []credits.Amount{16, 0}, []credits.Amount{b.Available, b.Held})

		h = reserve(t, l, 10, time.Hour)
		_, err = l.SettleWith(t.Context(), credits.SettleParams{Hold: h.ID, Amount: 9, Partial: true})
		require.NoError(t, err)
		require.NoError(t, l.Release(t.Context(), h.ID), "the rest of a stream that broke off")
		assert.Equal(t, credits.Amount(7), available(t, l))
	})
}

func TestAdjust_GoesBothWaysAndSaysWho(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, _ *clock) {
		p := credits.AdjustParams{Account: acc, Amount: 10, By: "staff-1", Reason: "goodwill", IdempotencyKey: "k"}
		e, err := l.Adjust(t.Context(), p)
		require.NoError(t, err)
		assert.Equal(t, credits.KindAdjust, e.Kind)
		assert.Equal(t, credits.Admin, e.Source)
		assert.Equal(t, "staff-1", e.Metadata["by"])
		again, err := l.Adjust(t.Context(), p)
		require.NoError(t, err)
		assert.Equal(t, e, again)
		require.NoError(t, l.Freeze(t.Context(), acc, "dispute"))
		_, err = l.Adjust(t.Context(), credits.AdjustParams{Account: acc, Amount: -4, By: "staff-1", Reason: "mistake"})
		require.NoError(t, err)
		assert.Equal(t, credits.Amount(6), available(t, l))
		for _, wrong := range []struct {
			change func(*credits.AdjustParams)
			want   error
		}{
			{func(p *credits.AdjustParams) { p.Amount = -7 }, credits.ErrInsufficient},
			{func(p *credits.AdjustParams) { p.Amount = 0 }, credits.ErrAmountZero},
			{func(p *credits.AdjustParams) { p.By = " " }, credits.ErrReasonRequired},
			{func(p *credits.AdjustParams) { p.Reason = "" }, credits.ErrReasonRequired},
			{func(p *credits.AdjustParams) { p.Account = "" }, credits.ErrAccountRequired},
		} {
			p := credits.AdjustParams{Account: acc, Amount: 1, By: "staff-1", Reason: "r"}
			wrong.change(&p)
			_, err := l.Adjust(t.Context(), p)
			require.ErrorIs(t, err, wrong.want)
		}
	})
}

// A plan change turns what is left of the subscription into credits that stay.
func TestTransfer_BetweenSourcesChangesWhatExpires(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Purchase, 5, nil)
		grant(t, l, credits.Subscription, 100, in(c, day))
		debit(t, l, 30)
		p := credits.TransferParams{Account: acc, From: credits.Subscription, Into: credits.Purchase, All: true, Reason: "plan change", IdempotencyKey: "change-1"}
		done, err := l.Transfer(t.Context(), p)
		require.NoError(t, err)
		assert.Equal(t, credits.Amount(-70), done.Out.Amount)
		assert.Equal(t, credits.Amount(70), done.In.Amount)
		again, err := l.Transfer(t.Context(), p)
		require.NoError(t, err)
		assert.Equal(t, done, again)
		c.Advance(2 * day)
		assert.Equal(t, map[credits.Source]credits.Amount{credits.Purchase: 75}, balance(t, l, acc).BySource)

		p.IdempotencyKey = ""
		nothing, err := l.Transfer(t.Context(), p)
		require.NoError(t, err)
		assert.Zero(t, nothing, "all of nothing")
	})
}

func TestTransfer_BetweenAccountsKeepsWhatTheCreditsAre(t *testing.T) {
	run(t, func(t *testing.T, db *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Subscription, 10, in(c, day))
		grant(t, l, credits.Purchase, 10, nil)
		p := credits.TransferParams{Account: acc, To: "other", Amount: 15, Reason: "share", Reference: "team-1"}
		done, err := l.Transfer(t.Context(), p)
		require.NoError(t, err)
		assert.Equal(t, "other", done.In.Account)
		assert.Equal(t, "team-1", done.In.Reference)
		assert.Equal(t, map[credits.Source]credits.Amount{credits.Subscription: 10, credits.Purchase: 5}, balance(t, l, "other").BySource)
		assert.Equal(t, in(c, day), balance(t, l, "other").NextExpiry)
		_, err = l.Transfer(t.Context(), p)
		require.ErrorIs(t, err, credits.ErrInsufficient)

		_, err = l.Transfer(t.Context(), credits.TransferParams{Account: acc, Amount: 1, Reason: "r"})
		require.ErrorIs(t, err, credits.ErrSameSource)
		_, err = l.Transfer(t.Context(), credits.TransferParams{Account: acc, To: "other", Amount: 1, All: true, Reason: "r"})
		require.ErrorIs(t, err, credits.ErrAmountNotPositive)
		require.NoError(t, l.Freeze(t.Context(), acc, "dispute"))
		_, err = l.Transfer(t.Context(), credits.TransferParams{Account: acc, To: "other", Amount: 1, Reason: "r"})
		require.ErrorIs(t, err, credits.ErrFrozen)
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := l.TransferTx(ctx, tx, credits.TransferParams{Account: "other", To: acc, From: credits.Purchase, Amount: 5, Reason: "back"})
			return err
		}))
		assert.Equal(t, credits.Amount(10), available(t, l))
	})
}

func TestRevoke_TakesTheNamedGrantFirst(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Subscription, 50, in(c, day))
		pack := grant(t, l, credits.Purchase, 100, nil)
		debit(t, l, 70) // 50 of the subscription and 20 of the pack
		grant(t, l, credits.Bonus, 30, nil)

		left, err := l.Revoke(t.Context(), credits.RevokeParams{Account: acc, Grant: pack.ID, Amount: 90, Reason: "refund"})
		require.NoError(t, err)
		assert.Equal(t, credits.Amount(-80), left.Amount, "only what was left of it")
		assert.Equal(t, map[credits.Source]credits.Amount{credits.Bonus: 30}, balance(t, l, acc).BySource)

		p := credits.RevokeParams{Account: acc, Grant: pack.ID, Amount: 100, IntoDebt: true, Reason: "dispute", IdempotencyKey: "du_1"}
		all, err := l.Revoke(t.Context(), p)
		require.NoError(t, err)
		assert.Equal(t, credits.Amount(-100), all.Amount)
		assert.Equal(t, credits.Amount(70), all.Debt)
		again, err := l.Revoke(t.Context(), p)
		require.NoError(t, err)
		assert.Equal(t, all, again)
		assert.Equal(t, credits.Amount(70), balance(t, l, acc).Debt)
		grant(t, l, credits.Purchase, 75, nil)
		assert.Equal(t, credits.Amount(5), available(t, l))

		p.Grant, p.IdempotencyKey = uuid.New(), ""
		_, err = l.Revoke(t.Context(), p)
		require.ErrorIs(t, err, credits.ErrEntryNotFound)
		p.Account, p.Grant = "other", pack.ID
		_, err = l.Revoke(t.Context(), p)
		require.ErrorIs(t, err, credits.ErrEntryNotFound, "another account's grant is no grant of this one")
	})
}

func TestLimits_BoundADayAndAMonth(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Purchase, 1000, nil)
		debit(t, l, 30)
		perDay, perMonth := credits.Amount(100), credits.Amount(150)
		require.NoError(t, l.SetLimits(t.Context(), acc, credits.Limits{PerDay: &perDay, PerMonth: &perMonth}))
		h := reserve(t, l, 40, time.Hour)
		_, err := l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: 31, Reason: "use"})
		var limit *credits.LimitError
		require.ErrorAs(t, err, &limit)
		assert.Equal(t, credits.LimitError{Period: "day", Limit: 100, Used: 70, Required: 31}, *limit, "what was used before and what is held counts")
		_, err = l.Settle(t.Context(), h.ID, 70)
		require.NoError(t, err, "work that is done is charged")
		_, err = l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: 1, Reason: "use"})
		require.ErrorIs(t, err, credits.ErrLimit)
		_, err = l.Reserve(t.Context(), credits.ReserveParams{Account: acc, Amount: 1, TTL: time.Minute, Reason: "use"})
		require.ErrorIs(t, err, credits.ErrLimit)
		debit(t, l, 0)

		c.Advance(day)
		debit(t, l, 50)
		_, err = l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: 1, Reason: "use"})
		require.ErrorAs(t, err, &limit)
		assert.Equal(t, "month", limit.Period)
		c.Advance(31 * day)
		debit(t, l, 100)
		require.NoError(t, l.SetLimits(t.Context(), acc, credits.Limits{}))
		debit(t, l, 500)

		stored, frozen, err := l.Limits(t.Context(), acc)
		require.NoError(t, err)
		assert.Equal(t, credits.Limits{}, stored)
		assert.Empty(t, frozen)
		negative := credits.Amount(-1)
		require.ErrorIs(t, l.SetLimits(t.Context(), acc, credits.Limits{PerDay: &negative}), credits.ErrAmountNegative)
	})
}

func TestFreeze_RefusesUseAndNothingElse(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, _ *clock) {
		grant(t, l, credits.Purchase, 10, nil)
		h := reserve(t, l, 5, time.Hour)
		require.NoError(t, l.Freeze(t.Context(), acc, "dispute dp_1"))
		_, err := l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: 1, Reason: "use"})
		var frozen *credits.FrozenError
		require.ErrorAs(t, err, &frozen)
		assert.Equal(t, "dispute dp_1", frozen.Reason)
		assert.NotContains(t, frozen.ErrorMessage(), "dp_1", "the owner is not told why")
		_, err = l.Reserve(t.Context(), credits.ReserveParams{Account: acc, Amount: 1, TTL: time.Minute, Reason: "use"})
		require.ErrorIs(t, err, credits.ErrFrozen)
		assert.True(t, balance(t, l, acc).Frozen)
		_, err = l.Settle(t.Context(), h.ID, 2)
		require.NoError(t, err)
		grant(t, l, credits.Purchase, 1, nil)
		require.NoError(t, l.Unfreeze(t.Context(), acc))
		debit(t, l, 9)
		require.ErrorIs(t, l.Freeze(t.Context(), acc, " "), credits.ErrReasonRequired)
		require.NoError(t, l.Unfreeze(t.Context(), "nobody"))
	})
}

func TestGrant_PriorityCanBeChosen(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Subscription, 10, in(c, day))
		_, err := l.Grant(t.Context(), credits.GrantParams{Account: acc, Amount: 5, Source: credits.Bonus, Reason: "first", Priority: 1})
		require.NoError(t, err)
		e := debit(t, l, 6)
		require.Len(t, e.Allocations, 2)
		assert.Equal(t, credits.Bonus, e.Allocations[0].Source)
		_, err = l.Grant(t.Context(), credits.GrantParams{Account: acc, Amount: 5, Source: credits.Bonus, Reason: "first", Priority: credits.MaxPriority + 1})
		require.ErrorIs(t, err, credits.ErrPriority)
	})
}

func TestHistory_FiltersNarrowIt(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Purchase, 100, nil)
		c.Advance(time.Hour)
		_, err := l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: 1, Reason: "Summary of 100% wool_socks", Service: "summarize", Reference: "call-1"})
		require.NoError(t, err)
		c.Advance(time.Hour)
		grant(t, l, credits.Bonus, 7, nil)
		for name, test := range map[string]struct {
			p    credits.HistoryParams
			want []int64
		}{
			"all":       {credits.HistoryParams{}, []int64{3, 2, 1}},
			"kind":      {credits.HistoryParams{Kind: credits.KindDebit}, []int64{2}},
			"source":    {credits.HistoryParams{Source: credits.Purchase}, []int64{2, 1}},
			"service":   {credits.HistoryParams{Service: "summarize"}, []int64{2}},
			"reference": {credits.HistoryParams{Reference: "call-1"}, []int64{2}},
			"from":      {credits.HistoryParams{From: start.Add(time.Hour)}, []int64{3, 2}},
			"until":     {credits.HistoryParams{Until: start.Add(time.Hour)}, []int64{1}},
			"between":   {credits.HistoryParams{From: start.Add(time.Minute), Until: start.Add(2 * time.Hour)}, []int64{2}},
			"never":     {credits.HistoryParams{From: start.Add(3 * time.Hour)}, nil},
			"text":      {credits.HistoryParams{Text: "SUMMARY"}, []int64{2}},
			"escaped":   {credits.HistoryParams{Text: "100% w"}, []int64{2}},
			"literal":   {credits.HistoryParams{Text: "wool%socks"}, nil},
			"both":      {credits.HistoryParams{Text: "test", Source: credits.Bonus}, []int64{3}},
		} {
			test.p.Account = acc
			entries, more, err := l.History(t.Context(), test.p)
			require.NoError(t, err, name)
			assert.False(t, more, name)
			var got []int64
			for _, e := range entries {
				got = append(got, e.Seq)
			}
			assert.Equal(t, test.want, got, name)
		}
	})
}

func TestHistoryCSV_WritesAllPagesAndNoFormulas(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, _ *clock) {
		grant(t, l, credits.Purchase, 1000, nil)
		for range credits.MaxPage {
			debit(t, l, 1)
		}
		_, err := l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: 1, Reason: "=1+1"})
		require.NoError(t, err)
		var out bytes.Buffer
		require.NoError(t, l.HistoryCSV(t.Context(), &out, credits.HistoryParams{Account: acc, Limit: 3}))
		records, err := csv.NewReader(&out).ReadAll()
		require.NoError(t, err)
		require.Len(t, records, credits.MaxPage+3)
		assert.Equal(t, "'=1+1", records[1][9])
		assert.Equal(t, "-0.000001", records[1][3])
	})
}

func TestStatement_OpeningAndMovementsAddUpToClosing(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Purchase, 100, nil)
		debit(t, l, 10)
		c.Advance(40 * day) // April
		debit(t, l, 20)
		grant(t, l, credits.Bonus, 5, nil)
		debit(t, l, 1)
		c.Advance(40 * day) // May
		debit(t, l, 4)
		april, err := l.Statement(t.Context(), acc, start.Add(40*day))
		require.NoError(t, err)
		assert.Equal(t, credits.Amount(90), april.Opening)
		assert.Equal(t, credits.Amount(74), april.Closing)
		assert.Equal(t, []credits.Movement{{Kind: credits.KindDebit, Entries: 2, Amount: -21}, {Kind: credits.KindGrant, Entries: 1, Amount: 5}}, april.Movements)
		for at, want := range map[time.Duration][2]credits.Amount{-40 * day: {0, 0}, 0: {0, 90}, 80 * day: {74, 70}, 120 * day: {70, 70}} {
			s, err := l.Statement(t.Context(), acc, start.Add(at))
			require.NoError(t, err)
			assert.Equal(t, want, [2]credits.Amount{s.Opening, s.Closing}, at)
		}
	})
}

func TestDailyUse_AddsUpTheDays(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		none, since, err := l.DailyUse(t.Context(), credits.DailyUseParams{Account: acc, From: start})
		require.NoError(t, err)
		assert.Empty(t, none)
		midnight := start.Truncate(day)
		assert.Equal(t, midnight, since)
		grant(t, l, credits.Purchase, 100, nil)
		debit(t, l, 1) // 1 of the day
		debit(t, l, 2)
		c.Advance(2 * day)
		debit(t, l, 10)
		held, err := l.Reserve(t.Context(), credits.ReserveParams{Account: acc, Amount: 5, Reason: "a run", TTL: time.Hour})
		require.NoError(t, err)
		_, err = l.Settle(t.Context(), held.ID, 4)
		require.NoError(t, err)
		c.Advance(day)
		grant(t, l, credits.Bonus, 7, nil)
		_, err = l.Grant(t.Context(), credits.GrantParams{Account: "other", Amount: 5, Source: credits.Bonus, Reason: "first"})
		require.NoError(t, err)
		_, err = l.Debit(t.Context(), credits.DebitParams{Account: "other", Amount: 5, Reason: "not ours"})
		require.NoError(t, err)

		first, third := credits.DayUse{Day: midnight, Used: 3}, credits.DayUse{Day: midnight.Add(2 * day), Used: 14}
		for name, test := range map[string]struct {
			p     credits.DailyUseParams
			want  []credits.DayUse
			since time.Time
		}{
			"all":                {credits.DailyUseParams{From: start}, []credits.DayUse{first, third}, midnight},
			"later":              {credits.DailyUseParams{From: start.Add(day)}, []credits.DayUse{third}, midnight.Add(day)},
			"as many as are":     {credits.DailyUseParams{From: start, Entries: 6}, []credits.DayUse{first, third}, midnight},
			"whole days only":    {credits.DailyUseParams{From: start, Entries: 4}, []credits.DayUse{third}, midnight.Add(day)},
			"fewer than a day's": {credits.DailyUseParams{From: start, Entries: 2}, []credits.DayUse{}, midnight.Add(3 * day)},
		} {
			test.p.Account = acc
			days, since, err := l.DailyUse(t.Context(), test.p)
			require.NoError(t, err, name)
			assert.Equal(t, test.want, days, name)
			assert.Equal(t, test.since, since, name)
		}
	})
}

func TestEntry_IsFoundByItsIDAndByItsKey(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, _ *clock) {
		want, err := l.Grant(t.Context(), credits.GrantParams{Account: acc, Amount: 3, Source: credits.Bonus, Reason: "r", IdempotencyKey: "k"})
		require.NoError(t, err)
		got, err := l.Entry(t.Context(), acc, want.ID)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		got, err = l.EntryByKey(t.Context(), acc, "k")
		require.NoError(t, err)
		assert.Equal(t, want, got)
		_, err = l.Entry(t.Context(), "other", want.ID)
		require.ErrorIs(t, err, credits.ErrEntryNotFound)
	})
}

func TestImport_ChecksAllBeforeItWritesAndRunsAgain(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		file := "account,amount,source,expires_at\nada,12.5,,\nbob,3,subscription,2026-04-01\n\"quoted, name\",0.000001,bonus,2027-01-01T00:00:00Z\nada,1,,\n"
		p := credits.ImportParams{Name: "2026-03", DryRun: true}
		report, err := l.Import(t.Context(), strings.NewReader(file), p)
		require.NoError(t, err)
		want := credits.ImportReport{Lines: 4, Accounts: 3, Total: credits.MustAmount("16.500001"), Problems: []credits.ImportProblem{},
			BySource: map[credits.Source]credits.Amount{credits.Purchase: credits.MustAmount("13.5"), credits.Subscription: 3 * credits.Credit, credits.Bonus: 1}}
		assert.Equal(t, want, report)
		assert.Zero(t, balance(t, l, "ada").Available)

		p.DryRun = false
		for range 2 {
			report, err = l.Import(t.Context(), strings.NewReader(file), p)
			require.NoError(t, err)
			assert.Equal(t, 4, report.Granted)
			assert.Equal(t, credits.MustAmount("13.5"), balance(t, l, "ada").Available, "a second run changes nothing")
		}
		assert.Equal(t, time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC), *balance(t, l, "bob").NextExpiry)

		p.Name = "wrong"
		report, err = l.Import(t.Context(), strings.NewReader("account,amount,expires_at\neve,5,\n,5,\neve,-5,\neve,1.0000001,\neve,1,yesterday\neve,1,2020-01-01\n"), p)
		require.ErrorIs(t, err, credits.ErrImport)
		require.Len(t, report.Problems, 5)
		assert.Equal(t, 3, report.Problems[0].Line)
		assert.Zero(t, balance(t, l, "eve").Available)
		for _, text := range []string{"", "account\nada\n", "account,amount,shoe size\n", "account,amount\n\"ada,1\n"} {
			_, err := l.Import(t.Context(), strings.NewReader(text), p)
			require.Error(t, err)
			require.NotErrorIs(t, err, credits.ErrImport)
		}
	})
}

func TestExport_IsAllThatIsKept(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, _ *clock) {
		grant(t, l, credits.Purchase, 1000, nil)
		for range credits.MaxPage {
			debit(t, l, 1)
		}
		reserve(t, l, 100, time.Hour)
		var out bytes.Buffer
		require.NoError(t, l.Export(t.Context(), &out, acc))
		var got credits.Exported
		require.NoError(t, json.Unmarshal(out.Bytes(), &got))
		require.Len(t, got.Entries, credits.MaxPage+1)
		assert.Equal(t, int64(1), got.Entries[0].Seq)
		assert.Equal(t, credits.Amount(-1), got.Entries[1].Allocations[0].Amount)
		assert.Equal(t, credits.Amount(400), got.Balance.Available)
		assert.Equal(t, credits.Amount(500), got.Lots[0].Remaining)
		assert.Equal(t, credits.Amount(100), got.Holds[0].Remaining)
		out.Reset()
		require.NoError(t, l.Export(t.Context(), &out, "nobody"))
		require.NoError(t, json.Unmarshal(out.Bytes(), &got))
		assert.Empty(t, got.Entries)
	})
}

func TestErase_KeepsSumsAndSealsAndNoTexts(t *testing.T) {
	run(t, func(t *testing.T, db *database.DB, l *credits.Ledger, _ *clock) {
		_, err := l.Grant(t.Context(), credits.GrantParams{Account: acc, Amount: 10, Source: credits.Purchase, Reason: "for Ada", Reference: "pi_1",
			Metadata: map[string]string{"email": "ada@example.com"}, IdempotencyKey: "pi_1"})
		require.NoError(t, err)
		h := reserve(t, l, 4, time.Hour)
		_, err = l.Seal(t.Context())
		require.NoError(t, err)
		require.NoError(t, l.Erase(t.Context(), acc))
		require.NoError(t, l.Erase(t.Context(), acc), "twice is once")
		var out bytes.Buffer
		require.NoError(t, l.Export(t.Context(), &out, acc))
		assert.NotContains(t, strings.ToLower(out.String()), "ada")
		assert.NotContains(t, out.String(), "work")
		b := balance(t, l, acc)
		assert.Equal(t, []credits.Amount{0, 0}, []credits.Amount{b.Available, b.Held})
		entries, _, err := l.History(t.Context(), credits.HistoryParams{Account: acc})
		require.NoError(t, err)
		require.Len(t, entries, 2)
		assert.Equal(t, credits.Amount(-10), entries[0].Amount)
		_, err = l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: 0, Reason: "use"})
		require.ErrorIs(t, err, credits.ErrErased)
		_, err = l.Grant(t.Context(), credits.GrantParams{Account: acc, Amount: 1, Source: credits.Bonus, Reason: "use"})
		require.ErrorIs(t, err, credits.ErrErased)
		_, err = l.Settle(t.Context(), h.ID, 1)
		require.ErrorIs(t, err, credits.ErrHoldReleased)
		found, err := l.VerifyAll(t.Context(), nil)
		require.NoError(t, err)
		assert.Empty(t, found, "the seal still holds")
		_, err = db.Writer().ExecContext(t.Context(), "UPDATE qs_credit_entries SET erased = 'x', reason = 'Erased', reference = '', metadata = '{}'")
		require.ErrorContains(t, err, "append-only", "texts are erased once")
	})
}
