package auth_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

func TestAllEvents_ShowStaffWhatHappenedToWhom(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		ada, eve := k.user(email), k.user("eve@example.com")
		b := k.browser()
		b.logIn(email, password)
		b.logIn(eve.Email, "wrong password")
		b.logIn("nobody@example.com", "wrong password")
		all, more, err := k.AllEvents(t.Context(), auth.AllEventsParams{})
		require.NoError(t, err)
		assert.False(t, more)
		require.Len(t, all, 7)
		assert.Equal(t, auth.EventLogInFailed, all[0].Kind)
		assert.Empty(t, all[0].UserID, "who was tried is not known")
		assert.Equal(t, eve.ID, all[1].UserID)
		assert.Equal(t, "192.0.2.1", all[1].IP)
		assert.Equal(t, "Test/1.0", all[1].Agent)
		assert.Equal(t, start, all[1].CreatedAt)

		for _, c := range []struct {
			p    auth.AllEventsParams
			want int
		}{
			{auth.AllEventsParams{UserID: ada.ID}, 3}, {auth.AllEventsParams{Kind: auth.EventLogInFailed}, 2}, {auth.AllEventsParams{Kind: auth.EventLogInFailed, UserID: eve.ID}, 1},
			{auth.AllEventsParams{Kind: auth.EventLocked}, 0}, {auth.AllEventsParams{UserID: "x' OR '1'='1"}, 0}, {auth.AllEventsParams{Kind: "' OR 1=1 --"}, 0}, {auth.AllEventsParams{Before: "x"}, 7},
		} {
			got, _, err := k.AllEvents(t.Context(), c.p)
			require.NoError(t, err)
			assert.NotNil(t, got)
			assert.Len(t, got, c.want, "%+v", c.p)
		}
		var seen []auth.UserEvent
		for before := ""; ; before = seen[len(seen)-1].ID {
			page, more, err := k.AllEvents(t.Context(), auth.AllEventsParams{Limit: 2, Before: before})
			require.NoError(t, err)
			seen = append(seen, page...)
			if !more {
				break
			}
			require.Len(t, page, 2)
		}
		assert.Equal(t, all, seen)
	})
}
