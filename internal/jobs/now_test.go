package jobs_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

func TestRunTx_QueuesATaskOnceAndWithItsTransaction(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		e := newEngine(t, db, func(context.Context, int) error { return nil })
		require.NoError(t, e.Every("tidy", time.Hour, func(context.Context) error { return nil }))
		ask := func(name string, after error) (added bool, err error) {
			err = db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) (err error) {
				if added, err = e.RunTx(ctx, tx, name); err != nil {
					return err
				}
				return after
			})
			return added, err
		}
		undone := errors.New("undone")
		_, err := ask("tidy", undone)
		require.ErrorIs(t, err, undone)
		added, err := ask("tidy", nil)
		require.NoError(t, err)
		assert.True(t, added, "what was rolled back does not wait")
		added, err = ask("tidy", nil)
		require.NoError(t, err)
		assert.False(t, added)
		_, err = ask("nothing", nil)
		require.ErrorContains(t, err, "nothing")
	})
}
