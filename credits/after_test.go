package credits_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

func TestEntriesAfter_PagesThroughAllAccounts(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		l := newLedger(t, db, newClock())
		var want []uuid.UUID
		for _, account := range []string{"b", "a", "c", "a"} {
			grantTo(t, l, account, 5)
			e, err := l.Debit(t.Context(), credits.DebitParams{Account: account, Amount: 1, Reason: "use", Metadata: map[string]string{"k": account}})
			require.NoError(t, err)
			want = append(want, e.ID)
		}
		var debits []uuid.UUID
		var after uuid.UUID
		for {
			page, err := l.EntriesAfter(t.Context(), credits.EntriesAfterParams{After: after, Limit: 3})
			require.NoError(t, err)
			if len(page) == 0 {
				break
			}
			assert.LessOrEqual(t, len(page), 3)
			for _, e := range page {
				after = e.ID
				if e.Kind == credits.KindDebit {
					debits = append(debits, e.ID)
					assert.Equal(t, map[string]string{"k": e.Account}, e.Metadata)
				}
			}
		}
		assert.Equal(t, want, debits, "in the order in which they were made")
		all, err := l.EntriesAfter(t.Context(), credits.EntriesAfterParams{Until: time.Now().Add(time.Minute)})
		require.NoError(t, err)
		assert.Len(t, all, 8)
		none, err := l.EntriesAfter(t.Context(), credits.EntriesAfterParams{Until: time.Now().Add(-time.Minute)})
		require.NoError(t, err)
		assert.Empty(t, none)
	})
}
