package credits_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// model is the ledger of one account as simply as it can be told: every question goes through all lots.
type model struct {
	lots  []*modelLot
	holds map[uuid.UUID]*modelHold
}

type modelLot struct {
	source  credits.Source
	seq     int
	expires *time.Time
	free    credits.Amount
}

type modelHold struct {
	until  time.Time
	shares map[*modelLot]credits.Amount
	amount credits.Amount
}

func (m *model) open(now time.Time) []*modelLot {
	for id, h := range m.holds {
		if !h.until.After(now) {
			m.release(id)
		}
	}
	var lots []*modelLot
	for _, l := range m.lots {
		if l.expires == nil || l.expires.After(now) {
			lots = append(lots, l)
		}
	}
	slices.SortFunc(lots, func(a, b *modelLot) int {
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
	})
	return lots
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

func (m *model) take(now time.Time, amount credits.Amount) map[*modelLot]credits.Amount {
	shares := map[*modelLot]credits.Amount{}
	for _, l := range m.open(now) {
		share := min(amount, l.free)
		if share > 0 {
			l.free -= share
			amount -= share
			shares[l] = share
		}
	}
	return shares
}

func (m *model) release(id uuid.UUID) {
	for l, share := range m.holds[id].shares {
		l.free += share
	}
	delete(m.holds, id)
}

// settle uses up actual of the hold's shares in the order of use and returns the others.
func (m *model) settle(id uuid.UUID, actual credits.Amount) {
	h := m.holds[id]
	lots := (&model{lots: m.lots}).open(time.Time{}) // in the order of use, expired ones too
	for _, l := range lots {
		share, ok := h.shares[l]
		if !ok {
			continue
		}
		used := min(actual, share)
		actual -= used
		l.free += share - used
	}
	delete(m.holds, id)
}

func TestLedger_AgreesWithTheModel(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		ctx := context.Background()
		rapid.Check(t, func(rt *rapid.T) {
			account := uuid.NewString()
			c := newClock()
			l := newLedger(t, db, c)
			m := &model{holds: map[uuid.UUID]*modelHold{}}
			amounts := rapid.Int64Range(1, 50)
			minutes := func(rt *rapid.T, label string) time.Duration {
				return time.Duration(rapid.IntRange(1, 30).Draw(rt, label)) * time.Minute
			}
			anyHold := func(rt *rapid.T) uuid.UUID {
				if len(m.holds) == 0 {
					rt.Skip("no hold is open")
				}
				ids := make([]uuid.UUID, 0, len(m.holds))
				for id := range m.holds {
					ids = append(ids, id)
				}
				slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
				return rapid.SampledFrom(ids).Draw(rt, "hold")
			}
			expectRefusal := func(rt *rapid.T, err error, amount credits.Amount) bool {
				if amount <= m.available(c.Now()) {
					require.NoError(rt, err)
					return false
				}
				var short *credits.InsufficientError
				require.True(rt, errors.As(err, &short))
				require.Equal(rt, m.available(c.Now()), short.Available)
				return true
			}
			rt.Repeat(map[string]func(*rapid.T){
				"grant": func(rt *rapid.T) {
					lot := &modelLot{
						source: rapid.SampledFrom([]credits.Source{credits.Subscription, credits.Purchase, credits.Bonus}).Draw(rt, "source"),
						free:   credits.Amount(amounts.Draw(rt, "amount")), seq: len(m.lots),
					}
					if rapid.Bool().Draw(rt, "expires") {
						lot.expires = in(c, minutes(rt, "minutes"))
					}
					_, err := l.Grant(ctx, credits.GrantParams{Account: account, Amount: lot.free, Source: lot.source, Reason: "r", ExpiresAt: lot.expires})
					require.NoError(rt, err)
					m.lots = append(m.lots, lot)
				},
				"debit": func(rt *rapid.T) {
					amount := credits.Amount(amounts.Draw(rt, "amount"))
					e, err := l.Debit(ctx, credits.DebitParams{Account: account, Amount: amount, Reason: "r"})
					if expectRefusal(rt, err, amount) {
						return
					}
					require.Len(rt, e.Allocations, len(m.take(c.Now(), amount)))
				},
				"reserve": func(rt *rapid.T) {
					amount, ttl := credits.Amount(amounts.Draw(rt, "amount")), minutes(rt, "ttl")
					h, err := l.Reserve(ctx, credits.ReserveParams{Account: account, Amount: amount, TTL: ttl, Reason: "r"})
					if expectRefusal(rt, err, amount) {
						return
					}
					m.holds[h.ID] = &modelHold{until: c.Now().Add(ttl), amount: amount, shares: m.take(c.Now(), amount)}
				},
				"settle": func(rt *rapid.T) {
					m.open(c.Now())
					id := anyHold(rt)
					actual := credits.Amount(rapid.Int64Range(0, int64(m.holds[id].amount)).Draw(rt, "actual"))
					_, err := l.Settle(ctx, id, actual)
					require.NoError(rt, err)
					m.settle(id, actual)
				},
				"release": func(rt *rapid.T) {
					m.open(c.Now())
					id := anyHold(rt)
					require.NoError(rt, l.Release(ctx, id))
					m.release(id)
				},
				"wait": func(rt *rapid.T) { c.Advance(minutes(rt, "minutes")) },
				"sweep": func(rt *rapid.T) {
					_, err := l.Expire(ctx)
					require.NoError(rt, err)
				},
				"": func(rt *rapid.T) {
					b, err := l.Balance(ctx, account)
					require.NoError(rt, err)
					require.Equal(rt, m.available(c.Now()), b.Available)
					require.Equal(rt, m.held(), b.Held)
				},
			})
		})
		check(t, db)
	})
}
