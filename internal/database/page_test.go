package database_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

func TestPage_PagesHoldTheWholeListOnceInOrder(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Of(counters(t)), func(t *testing.T, db *database.DB) {
		const all = 7
		for i := range all {
			insert(t, db, fmt.Sprintf("c%d", i))
		}
		page := func(before string, limit int) (names []string, more bool) {
			l := database.NewList(`SELECT name FROM counters`)
			l.If(before != "", `name < ?`, before)
			names, more, err := database.Page(t.Context(), db, l, "name DESC", limit, func(name string) string { return name })
			require.NoError(t, err)
			return names, more
		}
		for size := 1; size <= all+1; size++ {
			var names []string
			before, more := "", true
			for more {
				var next []string
				next, more = page(before, size)
				require.NotEmpty(t, next, "a page that was said to follow")
				assert.Equal(t, !more, len(names)+len(next) == all, "size %d", size)
				names = append(names, next...)
				before = next[len(next)-1]
			}
			assert.Equal(t, []string{"c6", "c5", "c4", "c3", "c2", "c1", "c0"}, names, "size %d", size)
		}
		none, more := page("c0", 3)
		assert.Equal(t, []string{}, none)
		assert.False(t, more)
	})
}

func TestList_AllConditionsHoldAndKeepTheirArguments(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Of(counters(t)), func(t *testing.T, db *database.DB) {
		insert(t, db, "a", "b", "c", "d")
		l := database.NewList(`SELECT name || CAST(? AS VARCHAR(9)) FROM counters`, "!")
		l.And(`name <> ?`, "b")
		l.If(false, `name = ?`, "nobody")
		l.If(true, `(name = ? OR name > ?)`, "b", "c")
		for range 2 { // it can be read again
			rows, more, err := database.Rows[string](t.Context(), db, l, "name", 0)
			require.NoError(t, err)
			assert.False(t, more)
			assert.Equal(t, []string{"d!"}, rows)
		}
		_, _, err := database.Page(t.Context(), db, database.NewList(`SELECT nothing FROM counters`), "name", 0, func(s string) string { return s })
		assert.Error(t, err)
	})
}

func TestPageSize_HasADefaultAndABound(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]int{-1: 50, 0: 50, 1: 1, 499: 499, 500: 500, 501: 500} {
		assert.Equal(t, want, database.PageSize(limit), "%d", limit)
	}
}
