package services_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

// What the entry of a charge keeps makes the whole row again, but for how long the work took.
func TestRecover_MakesTheRowsAsTheyWere(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.add("free", "0", echo, services.ChargeAfter())
		s.add("whole", "1", echo, services.ChargeAfter())
		s.add("part", "2", func(_ context.Context, call *services.Call, _ job) (done, error) {
			return done{"half"}, errors.Join(call.Meter("words", 1), call.Charge(credits.Credit), services.Partial("Only the first half."))
		}, services.ChargeAfter())
		s.add("fails", "3", func(context.Context, *services.Call, job) (done, error) {
			return done{}, services.Failure("The picture cannot be read.")
		}, services.ChargeAfter(), services.ChargeOnFailure())
		for _, service := range []string{"free", "whole", "part", "fails"} {
			p := params(ada, service, "")
			p.Tags = map[string]string{"project": `a "quoted" \ one`}
			if _, err := s.Run(t.Context(), p); service != "fails" {
				require.NoError(t, err)
			}
		}
		// One that sets its price aside keeps its row.
		s.add("aside", "1", echo)
		_, err := s.Run(t.Context(), params(ada, "aside", ""))
		require.NoError(t, err)
		want := s.calls(ada)
		require.Len(t, want, 5)
		exec := func(query string) {
			t.Helper()
			_, err := s.db.Writer().ExecContext(t.Context(), query)
			require.NoError(t, err)
		}
		exec(`DELETE FROM qs_service_call_tags`)
		exec(`DELETE FROM qs_service_calls WHERE service <> 'aside'`)
		made, err := s.Recover(t.Context(), time.Hour)
		require.NoError(t, err)
		assert.Zero(t, made)
		made, err = s.Recover(t.Context(), -time.Minute)
		require.NoError(t, err)
		assert.EqualValues(t, 4, made)
		got := s.calls(ada)
		for i := range want {
			want[i].LatencyMS, got[i].LatencyMS = 0, 0
		}
		assert.Equal(t, want, got)
		tagged, _, err := s.Usage(t.Context(), services.UsageParams{Account: ada, Tag: "project", Value: `a "quoted" \ one`})
		require.NoError(t, err)
		assert.Len(t, tagged, 4)
		// It goes on where it was, in another process too.
		other := s.process()
		made, err = other.Recover(t.Context(), -time.Minute)
		require.NoError(t, err)
		assert.Zero(t, made)
	})
}
