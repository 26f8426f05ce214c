package credits_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// model is the ledger of one account as simply as it can be told: every question goes through all lots.
type model struct {
	lots       []*modelLot
	holds      map[uuid.UUID]*modelHold
	debt       credits.Amount
	frozen     bool
	day, month *credits.Amount
	used       map[string]credits.Amount // by day, "2006-01-02", and by month, "2006-01"
}

type modelLot struct {
	entry   uuid.UUID
	source  credits.Source
	seq     int
	expires *time.Time
	free    credits.Amount
}

type modelHold struct {
	until  time.Time
	over   credits.Over
	shares map[*modelLot]credits.Amount
	amount credits.Amount
}

func byUse(a, b *modelLot) int {
	if (a.source == credits.Subscription) != (b.source == credits.Subscription) {
		if a.source == credits.Subscription {
			return -1
		}
		return 1
	}
	switch {
	case a.expires != nil && b.expires == nil:
		return -1
	case a.expires == nil && b.expires != nil:
		return 1
	case a.expires != nil && !a.expires.Equal(*b.expires):
		return a.expires.Compare(*b.expires)
	}
	return a.seq - b.seq
}

// open lets happen what the clock has brought, in its order, and returns the lots that count, in the order of use.
func (m *model) open(now time.Time) []*modelLot {
	var due []*modelHold
	for id, h := range m.holds {
		if !h.until.After(now) {
			due = append(due, h)
			delete(m.holds, id)
		}
	}
	slices.SortFunc(due, func(a, b *modelHold) int { return a.until.Compare(b.until) })
	for _, h := range due {
		m.expire(h.until)
		m.giveBack(h.until, h)
	}
	m.expire(now)
	lots := slices.Clone(m.lots)
	slices.SortFunc(lots, byUse)
	return lots
}

// expire forgets what is free in lots whose time is over.
func (m *model) expire(now time.Time) {
	for _, l := range m.lots {
		if l.expires != nil && !l.expires.After(now) {
			l.free = 0
		}
	}
}

func (m *model) giveBack(now time.Time, h *modelHold) {
	for l, share := range h.shares {
		l.free += share
	}
	m.expire(now)
	m.pay()
}

// pay lets what is free pay debt.
func (m *model) pay() {
	lots := slices.Clone(m.lots)
	slices.SortFunc(lots, byUse)
	for _, l := range lots {
		part := min(l.free, m.debt)
		l.free -= part
		m.debt -= part
	}
}

func (m *model) available(now time.Time) (sum credits.Amount) {
	for _, l := range m.open(now) {
		sum += l.free
	}
	return sum
}

func (m *model) held() (sum credits.Amount) {
	for _, h := range m.holds {
		sum += h.amount
	}
	return sum
}

// take uses amount of the lots that fit, in the order of use.
func (m *model) take(now time.Time, amount credits.Amount, fits func(*modelLot) bool) map[*modelLot]credits.Amount {
	shares := map[*modelLot]credits.Amount{}
	for _, l := range m.open(now) {
		share := min(amount, l.free)
		if share > 0 && fits(l) {
			l.free -= share
			amount -= share
			shares[l] = share
		}
	}
	return shares
}

func anyLot(*modelLot) bool { return true }

func (m *model) grant(l *modelLot) {
	l.seq = len(m.lots)
	m.lots = append(m.lots, l)
	m.pay()
}

// settle uses amount of the hold's shares in the order of use, then of the account, and then makes debt.
func (m *model) settle(now time.Time, id uuid.UUID, amount credits.Amount, partial bool) {
	h := m.holds[id]
	lots := slices.Clone(m.lots)
	slices.SortFunc(lots, byUse)
	m.use(now, amount)
	for _, l := range lots {
		part := min(amount, h.shares[l])
		h.shares[l] -= part
		h.amount -= part
		amount -= part
	}
	covered := min(amount, m.available(now))
	m.take(now, covered, anyLot)
	m.debt += amount - covered
	if !partial {
		delete(m.holds, id)
		m.giveBack(now, h)
	}
}

func (m *model) use(now time.Time, amount credits.Amount) {
	m.used[now.Format("2006-01-02")] += amount
	m.used[now.Format("2006-01")] += amount
}

func (m *model) overLimit(now time.Time, amount credits.Amount) bool {
	return m.day != nil && amount+m.held()+m.used[now.Format("2006-01-02")] > *m.day ||
		m.month != nil && amount+m.held()+m.used[now.Format("2006-01")] > *m.month
}

func openHolds(m *model) []uuid.UUID {
	ids := make([]uuid.UUID, 0, len(m.holds))
	for id := range m.holds {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

func TestLedger_AgreesWithTheModel(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		rapid.Check(t, func(rt *rapid.T) { agree(rt, t, db) })
		check(t, db)
	})
}

//nolint:gocyclo // one action after the other
func agree(rt *rapid.T, t *testing.T, db *database.DB) {
	ctx := context.Background()
	c := newClock()
	l := newLedger(t, db, c)
	names := []string{uuid.NewString(), uuid.NewString()}
	models := map[string]*model{}
	for _, name := range names {
		models[name] = &model{holds: map[uuid.UUID]*modelHold{}, used: map[string]credits.Amount{}}
	}
	amount := func(rt *rapid.T) credits.Amount { return credits.Amount(rapid.Int64Range(1, 50).Draw(rt, "amount")) }
	minutes := func(rt *rapid.T, label string) time.Duration {
		return time.Duration(rapid.IntRange(1, 30).Draw(rt, label)) * time.Minute
	}
	pick := func(rt *rapid.T) (string, *model) {
		name := rapid.SampledFrom(names).Draw(rt, "account")
		models[name].open(c.Now())
		return name, models[name]
	}
	source := func(rt *rapid.T, label string) credits.Source {
		return rapid.SampledFrom([]credits.Source{credits.Subscription, credits.Purchase, credits.Bonus}).Draw(rt, label)
	}
	anyHold := func(rt *rapid.T, m *model) uuid.UUID {
		if len(m.holds) == 0 {
			rt.Skip("no hold is open")
		}
		return rapid.SampledFrom(openHolds(m)).Draw(rt, "hold")
	}
	// refused tells whether a use of amount has to be refused, and checks that it was for the right reason.
	refused := func(rt *rapid.T, m *model, amount, available credits.Amount, limited bool, err error) bool {
		switch {
		case m.frozen:
			require.ErrorIs(rt, err, credits.ErrFrozen)
		case amount > available:
			var short *credits.InsufficientError
			require.ErrorAs(rt, err, &short)
			require.Equal(rt, available, short.Available)
			require.Equal(rt, m.debt, short.Debt)
		case limited && m.overLimit(c.Now(), amount):
			require.ErrorIs(rt, err, credits.ErrLimit)
		default:
			require.NoError(rt, err)
			return false
		}
		return true
	}
	rt.Repeat(map[string]func(*rapid.T){
		"grant": func(rt *rapid.T) {
			name, m := pick(rt)
			lot := &modelLot{source: source(rt, "source"), free: amount(rt)}
			if rapid.Bool().Draw(rt, "expires") {
				lot.expires = in(c, minutes(rt, "minutes"))
			}
			e, err := l.Grant(ctx, credits.GrantParams{Account: name, Amount: lot.free, Source: lot.source, Reason: "r", ExpiresAt: lot.expires})
			require.NoError(rt, err)
			lot.entry = e.ID
			m.grant(lot)
		},
		"debit": func(rt *rapid.T) {
			name, m := pick(rt)
			amount := amount(rt)
			e, err := l.Debit(ctx, credits.DebitParams{Account: name, Amount: amount, Reason: "r"})
			if refused(rt, m, amount, m.available(c.Now()), true, err) {
				return
			}
			m.use(c.Now(), amount)
			require.Len(rt, e.Allocations, len(m.take(c.Now(), amount, anyLot)))
		},
		"reserve": func(rt *rapid.T) {
			name, m := pick(rt)
			amount, ttl := amount(rt), minutes(rt, "ttl")
			over := rapid.SampledFrom([]credits.Over{credits.OverDebt, credits.OverCap, credits.OverRefuse}).Draw(rt, "over")
			h, err := l.Reserve(ctx, credits.ReserveParams{Account: name, Amount: amount, TTL: ttl, Reason: "r", Over: over})
			if refused(rt, m, amount, m.available(c.Now()), true, err) {
				return
			}
			m.holds[h.ID] = &modelHold{until: c.Now().Add(ttl), amount: amount, over: over, shares: m.take(c.Now(), amount, anyLot)}
		},
		"settle": func(rt *rapid.T) {
			_, m := pick(rt)
			id := anyHold(rt, m)
			h := m.holds[id]
			actual := credits.Amount(rapid.Int64Range(0, int64(h.amount)+20).Draw(rt, "actual"))
			partial := rapid.Bool().Draw(rt, "partial")
			e, err := l.SettleWith(ctx, credits.SettleParams{Hold: id, Amount: actual, Partial: partial})
			switch {
			case actual > h.amount && h.over == credits.OverRefuse:
				require.ErrorIs(rt, err, credits.ErrOverHold)
				return
			case h.over == credits.OverCap:
				actual = min(actual, h.amount)
			}
			require.NoError(rt, err)
			require.Equal(rt, -actual, e.Amount)
			m.settle(c.Now(), id, actual, partial)
		},
		// All of one lot, and all alike, so that their order does not matter.
		"reserve together": func(rt *rapid.T) {
			name, m := pick(rt)
			n, amount := rapid.IntRange(2, 6).Draw(rt, "holds"), credits.Amount(rapid.Int64Range(1, 9).Draw(rt, "amount"))
			ttl := minutes(rt, "ttl")
			total := credits.Amount(n) * amount
			lots := slices.DeleteFunc(m.open(c.Now()), func(l *modelLot) bool { return l.free == 0 })
			if m.frozen || len(lots) == 0 || lots[0].free < total || m.overLimit(c.Now(), total) {
				rt.Skip("they would not be alike")
			}
			holds := make([]credits.Hold, n)
			var group errgroup.Group
			for i := range holds {
				group.Go(func() (err error) {
					holds[i], err = l.Reserve(ctx, credits.ReserveParams{Account: name, Amount: amount, TTL: ttl, Reason: "r"})
					return err
				})
			}
			require.NoError(rt, group.Wait())
			for _, h := range holds {
				require.Equal(rt, c.Now().Add(ttl), h.ExpiresAt)
				m.holds[h.ID] = &modelHold{until: c.Now().Add(ttl), amount: amount, over: credits.OverDebt, shares: m.take(c.Now(), amount, anyLot)}
			}
		},
		"end together": func(rt *rapid.T) {
			_, m := pick(rt)
			if m.debt > 0 {
				rt.Skip("the order decides which lots pay it")
			}
			var group errgroup.Group
			for _, id := range openHolds(m) {
				h := m.holds[id]
				if h.amount == 0 || rapid.Bool().Draw(rt, "release") {
					group.Go(func() error { return l.Release(ctx, id) })
					delete(m.holds, id)
					m.giveBack(c.Now(), h)
					continue
				}
				actual := credits.Amount(rapid.Int64Range(1, int64(h.amount)).Draw(rt, "actual"))
				group.Go(func() error { _, err := l.Settle(ctx, id, actual); return err })
				m.settle(c.Now(), id, actual, false)
			}
			require.NoError(rt, group.Wait())
		},
		"release": func(rt *rapid.T) {
			_, m := pick(rt)
			id := anyHold(rt, m)
			require.NoError(rt, l.Release(ctx, id))
			h := m.holds[id]
			delete(m.holds, id)
			m.giveBack(c.Now(), h)
		},
		"adjust": func(rt *rapid.T) {
			name, m := pick(rt)
			amount := credits.Amount(rapid.Int64Range(-30, 30).Filter(func(n int64) bool { return n != 0 }).Draw(rt, "amount"))
			_, err := l.Adjust(ctx, credits.AdjustParams{Account: name, Amount: amount, By: "staff", Reason: "r"})
			switch {
			case amount > 0:
				require.NoError(rt, err)
				m.grant(&modelLot{source: credits.Admin, free: amount})
			case -amount > m.available(c.Now()):
				require.ErrorIs(rt, err, credits.ErrInsufficient)
			default:
				require.NoError(rt, err)
				m.take(c.Now(), -amount, anyLot)
			}
		},
		"transfer": func(rt *rapid.T) {
			name, m := pick(rt)
			other := rapid.SampledFrom(names).Draw(rt, "to")
			to := models[other]
			to.open(c.Now())
			p := credits.TransferParams{Account: name, To: other, Amount: amount(rt), Reason: "r"}
			fits := anyLot
			if rapid.Bool().Draw(rt, "from a source") {
				p.From = source(rt, "from")
				fits = func(l *modelLot) bool { return l.source == p.From }
			}
			if other == name || rapid.Bool().Draw(rt, "into a source") {
				p.Into = source(rt, "into")
			}
			var available credits.Amount
			for _, l := range m.open(c.Now()) {
				if fits(l) {
					available += l.free
				}
			}
			done, err := l.Transfer(ctx, p)
			if other == name && p.Into == p.From {
				require.ErrorIs(rt, err, credits.ErrSameSource)
				return
			}
			if refused(rt, m, p.Amount, available, false, err) {
				return
			}
			shares := m.take(c.Now(), p.Amount, fits)
			require.Len(rt, done.Out.Allocations, len(shares))
			if p.Into != "" {
				to.grant(&modelLot{source: p.Into, free: p.Amount, entry: done.In.ID})
				return
			}
			lots := make([]*modelLot, 0, len(shares))
			for l := range shares {
				lots = append(lots, l)
			}
			slices.SortFunc(lots, byUse)
			debt := to.debt
			to.debt = 0 // the entry is written whole before debt is paid
			for _, l := range lots {
				to.grant(&modelLot{source: l.source, free: shares[l], expires: l.expires, entry: done.In.ID})
			}
			to.debt = debt
			to.pay()
		},
		"revoke": func(rt *rapid.T) {
			name, m := pick(rt)
			p := credits.RevokeParams{Account: name, Amount: amount(rt), IntoDebt: rapid.Bool().Draw(rt, "into debt"), Reason: "r"}
			fits := anyLot
			if rapid.Bool().Draw(rt, "named") {
				var granted []*modelLot
				for _, l := range m.lots {
					if l.entry != uuid.Nil {
						granted = append(granted, l)
					}
				}
				if len(granted) == 0 {
					rt.Skip("nothing was granted")
				}
				p.Grant = granted[rapid.IntRange(0, len(granted)-1).Draw(rt, "grant")].entry
				fits = func(l *modelLot) bool { return l.entry == p.Grant }
			}
			e, err := l.Revoke(ctx, p)
			require.NoError(rt, err)
			left := p.Amount
			for _, share := range m.take(c.Now(), left, fits) {
				left -= share
			}
			if p.IntoDebt {
				for _, share := range m.take(c.Now(), left, anyLot) {
					left -= share
				}
				m.debt += left
				left = 0
			}
			require.Equal(rt, left-p.Amount, e.Amount)
		},
		"freeze": func(rt *rapid.T) {
			name, m := pick(rt)
			if m.frozen = !m.frozen; m.frozen {
				require.NoError(rt, l.Freeze(ctx, name, "dispute"))
			} else {
				require.NoError(rt, l.Unfreeze(ctx, name))
			}
		},
		"limit": func(rt *rapid.T) {
			name, m := pick(rt)
			limit := func(label string) *credits.Amount {
				if !rapid.Bool().Draw(rt, label) {
					return nil
				}
				a := credits.Amount(rapid.Int64Range(0, 300).Draw(rt, label))
				return &a
			}
			m.day, m.month = limit("day"), limit("month")
			require.NoError(rt, l.SetLimits(ctx, name, credits.Limits{PerDay: m.day, PerMonth: m.month}))
		},
		"wait":      func(rt *rapid.T) { c.Advance(minutes(rt, "minutes")) },
		"wait long": func(rt *rapid.T) { c.Advance(time.Duration(rapid.IntRange(1, 20).Draw(rt, "days")) * day) },
		"sweep": func(rt *rapid.T) {
			_, err := l.Expire(ctx)
			require.NoError(rt, err)
		},
		"": func(rt *rapid.T) {
			for _, name := range names {
				m := models[name]
				b, err := l.Balance(ctx, name)
				require.NoError(rt, err)
				require.Equal(rt, m.available(c.Now()), b.Available)
				require.Equal(rt, m.held(), b.Held)
				require.Equal(rt, m.debt, b.Debt)
				sources := map[credits.Source]credits.Amount{}
				var next *time.Time
				for _, l := range m.open(c.Now()) {
					if l.free == 0 {
						continue
					}
					sources[l.source] += l.free
					if l.expires != nil && (next == nil || l.expires.Before(*next)) {
						next = l.expires
					}
				}
				require.Equal(rt, sources, b.BySource)
				require.Equal(rt, next, b.NextExpiry)
			}
		},
	})
	_, err := l.Expire(ctx)
	require.NoError(rt, err)
	found, err := l.VerifyAll(ctx, nil)
	require.NoError(rt, err)
	require.Empty(rt, found)
}
