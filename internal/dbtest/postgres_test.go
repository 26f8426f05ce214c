package dbtest

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { Main(m) }

func fails(name string) way {
	return way{name, func(settings) (string, func() error, error) { return "", nil, errors.New(name + " is not here") }}
}

func TestFirst_TakesTheFirstWayThatWorks(t *testing.T) {
	t.Parallel()
	works := way{"works", func(settings) (string, func() error, error) {
		return "postgres://here", func() error { return nil }, nil
	}}
	given, _, err := first(fast, []way{fails("a"), works, fails("b")})
	require.NoError(t, err)
	assert.Equal(t, "postgres://here", given)
}

func TestFirst_TellsHowToGetAServerWhenNoWayWorks(t *testing.T) {
	t.Parallel()
	_, _, err := first(fast, []way{fails("Docker"), fails("local"), fails("download")})
	for _, said := range []string{"Docker is not here", "local is not here", "download is not here", URLVariable, "start Docker", "install PostgreSQL"} {
		require.ErrorContains(t, err, said)
	}
}

// The server that the tests of this run use is a real one, and a test's database is its own and gone afterwards.
func TestPostgres_EachTestHasADatabaseOfItsOwn(t *testing.T) {
	var names []string
	for range 2 {
		t.Run("one", func(t *testing.T) {
			db := Postgres(t, Empty)
			var name string
			require.NoError(t, db.Get(t.Context(), &name, "SELECT current_database()"))
			names = append(names, name)
		})
	}
	require.Len(t, names, 2)
	assert.NotEqual(t, names[0], names[1])
	s, err := shared()
	require.NoError(t, err)
	var left int
	require.NoError(t, s.admin.GetContext(t.Context(), &left, "SELECT COUNT(*) FROM pg_database WHERE datname IN ($1, $2)", names[0], names[1]))
	assert.Zero(t, left)
}
