package web_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/quickscale/quickscale/internal/web"
)

func TestNewChart_BarsAndTheTableThatSaysTheSame(t *testing.T) {
	t.Parallel()
	c := web.NewChart("Used", "Day", "Credits", []web.Point{{"Mon", 50, "50"}, {"Tue", 0, "0"}, {"Wed", 100, "100"}, {"Thu", 1, "1"}, {"Fri", -5, "-5"}})
	assert.Equal(t, []web.Bar{{0, 60, 9, 60}, {20, 0, 9, 120}, {30, 119, 9, 1}}, c.Bars)
	assert.Equal(t, [][]any{{"Mon", "50"}, {"Wed", "100"}, {"Thu", "1"}}, c.Table.Rows)
	assert.Equal(t, "Mon", c.From)
	assert.Equal(t, "Fri", c.To)
	assert.Equal(t, 50, c.Width)

	c = web.NewChart("Used", "Day", "Credits", []web.Point{{"Mon", math.MaxInt64, "much"}, {"Tue", math.MaxInt64 / 2, "half"}})
	assert.Equal(t, []web.Bar{{0, 0, 9, 120}, {10, 60, 9, 60}}, c.Bars, "no overflow")

	assert.Empty(t, web.NewChart("Used", "Day", "Credits", nil).Bars)
}
