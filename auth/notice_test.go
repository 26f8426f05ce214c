package auth_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/mail"
)

// brokenQueue is a mailbox that fails in the database while it is broken, as when a table of jobs is missing: on
// PostgreSQL a transaction does not survive that by itself.
type brokenQueue struct {
	mailbox

	broken *atomic.Bool
}

func (q brokenQueue) EnqueueTx(ctx context.Context, tx *sqlx.Tx, m mail.Message) error {
	if err := q.mailbox.EnqueueTx(ctx, tx, m); err != nil || !q.broken.Load() {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO no_such_table (n) VALUES (1)`)
	return errors.Join(errors.New("the queue is broken"), err)
}

func withBrokenQueue(t *testing.T, fn func(t *testing.T, k *kit, broken *atomic.Bool)) {
	t.Helper()
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		broken := &atomic.Bool{}
		fn(t, newKit(t, db, func(c *auth.Config) { c.Mail = brokenQueue{mailbox{db}, broken} }), broken)
	})
}

// What an account's owner must hear of happens although the queue fails, and they hear of it when it works again: once.
func TestNotice_NoLogInWaitsForAQueueThatFailsAndNoneIsLost(t *testing.T) {
	withBrokenQueue(t, func(t *testing.T, k *kit, broken *atomic.Bool) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		broken.Store(true)
		stranger := k.browser()
		stranger.logIn(email, password).leadsTo(t, "/account/")
		assert.True(t, stranger.in())
		assert.Contains(t, k.events(u.ID), auth.EventNewDevice, "the person sees it at once")
		assert.Equal(t, http.StatusSeeOther, b.post("/account/security/password", "current", password, "password", "brand new words").StatusCode)
		assert.False(t, stranger.in(), "the new password holds")
		k.phone(u)
		require.NoError(t, k.ResetFactors(t.Context(), u.ID, auth.Client{}))
		assert.Empty(t, k.mails())
		assert.Contains(t, k.log.String(), `level=ERROR msg="security notice not queued; it is kept and tried again" kind=auth.device user=`+u.ID)

		sent, err := k.SendNotices(t.Context())
		require.ErrorContains(t, err, "the queue is broken")
		assert.Zero(t, sent)
		assert.Equal(t, 4, k.count(`SELECT COUNT(*) FROM qs_auth_notices`))

		broken.Store(false)
		total, group := atomic.Int64{}, sync.WaitGroup{}
		for range 5 {
			group.Go(func() {
				sent, err := k.SendNotices(t.Context())
				assert.NoError(t, err) //nolint:testifylint // not the test's goroutine
				total.Add(int64(sent))
			})
		}
		group.Wait()
		assert.EqualValues(t, 4, total.Load())
		mails := k.mails()
		require.Len(t, mails, 4)
		kinds := map[string]string{}
		for _, m := range mails {
			assert.Equal(t, email, m.Recipient)
			kinds[m.Kind] = m.Text
		}
		assert.Contains(t, kinds["auth.device"], "browser that we have not seen before: Test/1.0, from the address 192.0.2.1")
		assert.Contains(t, kinds["auth.password"], "was just changed")
		assert.Contains(t, kinds["auth.change"], "taken off your account by our staff")
		assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_notices`))
	})
}

// Other ways in tell of what happened too, and do not wait either; what waits goes with the account.
func TestNotice_ABackupCodeLetsInWhileTheQueueFails(t *testing.T) {
	withBrokenQueue(t, func(t *testing.T, k *kit, broken *atomic.Bool) {
		u := k.user(email)
		_, codes := k.phone(u)
		broken.Store(true)
		b := k.browser()
		b.logIn(email, password).leadsTo(t, "/auth/2fa")
		b.post("/auth/2fa", "code", codes[0]).leadsTo(t, "/account/")
		assert.True(t, b.in())
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_notices WHERE kind = 'auth.change'`))
		_, err := k.db.Writer().Exec(`DELETE FROM qs_auth_users`)
		require.NoError(t, err)
		assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_notices`))
	})
}
