package credits_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// The sums by day are those of all sealed entries, and what is outstanding is what all accounts own.
func TestFigures_AreTheFullSums(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Of(credits.Migrations()), func(t *testing.T, db *database.DB) {
		now := time.Date(2026, 1, 30, 1, 0, 0, 0, time.UTC)
		l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader(), Clock: func() time.Time { return now }})
		require.NoError(t, err)
		r := rand.New(rand.NewPCG(3, 5))
		accounts := []string{"a", "b", "c", "d"}
		for i := range 150 {
			now = now.Add(time.Hour)
			account, amount := accounts[r.IntN(len(accounts))], credits.Amount(1+r.IntN(5_000_000))
			switch r.IntN(6) {
			case 0, 1:
				_, err = l.Grant(t.Context(), credits.GrantParams{Account: account, Amount: 4 * amount, Source: []credits.Source{credits.Purchase, credits.Bonus}[r.IntN(2)], Reason: "in"})
			case 2, 3:
				_, err = l.Debit(t.Context(), credits.DebitParams{Account: account, Amount: amount, Reason: "out"})
			case 4:
				_, err = l.Revoke(t.Context(), credits.RevokeParams{Account: account, Amount: amount, Reason: "back"})
			case 5:
				_, err = l.Transfer(t.Context(), credits.TransferParams{Account: account, To: accounts[r.IntN(len(accounts))], Amount: amount, Reason: "over"})
			}
			if err != nil { // a refusal changes nothing
				require.True(t, errors.Is(err, credits.ErrInsufficient) || errors.Is(err, credits.ErrSameSource), "%v", err)
			}
			if i%20 == 0 {
				_, err = l.Seal(t.Context())
				require.NoError(t, err)
			}
		}
		_, err = l.Seal(t.Context())
		require.NoError(t, err)
		want, owned, owed := map[string]credits.Amount{}, credits.Amount(0), credits.Amount(0)
		for _, account := range accounts {
			entries, more, err := l.History(t.Context(), credits.HistoryParams{Account: account, Limit: credits.MaxPage})
			require.NoError(t, err)
			require.False(t, more)
			for _, e := range entries {
				want[fmt.Sprint(e.CreatedAt.Format(time.DateOnly), e.Kind, e.Source)] += e.Amount
			}
			b, err := l.Balance(t.Context(), account)
			require.NoError(t, err)
			owned, owed = owned+b.Available+b.Held, owed+b.Debt
		}
		f, err := l.Figures(t.Context(), credits.FiguresParams{From: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
		require.NoError(t, err)
		got := map[string]credits.Amount{}
		for _, d := range f.Days {
			got[fmt.Sprint(d.Day, d.Kind, d.Source)] += d.Amount
		}
		assert.Equal(t, want, got)
		assert.Equal(t, owned, f.Outstanding)
		assert.Equal(t, owed, f.Debt)
		require.NotNil(t, f.AsOf)
		assert.Equal(t, now, *f.AsOf)
		f, err = l.Figures(t.Context(), credits.FiguresParams{From: now})
		require.NoError(t, err)
		for _, d := range f.Days {
			assert.Equal(t, now.Format(time.DateOnly), d.Day)
		}
	})
}
