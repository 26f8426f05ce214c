package admin

import (
	"net/http"
	"strconv"
	"time"
)

// point is a figure of one day.
type point struct {
	Day   time.Time
	Count int64
}

// dayChart is a row of bars, one per day, in the units of its view box, and the days in which something happened, for the
// table that says the same.
type dayChart struct {
	Width, Height int
	Bars          []bar
	Days          []point
}

func newDayChart(points []point) dayChart {
	c := dayChart{Width: max(1, len(points)) * barWidth, Height: chartHeight}
	most := int64(1)
	for _, p := range points {
		most = max(most, p.Count)
	}
	for i, p := range points {
		if p.Count > 0 {
			c.Days = append(c.Days, p)
		}
		height := int(p.Count * chartHeight / most)
		c.Bars = append(c.Bars, bar{X: i * barWidth, Y: chartHeight - height, Height: height})
	}
	return c
}

// daySpan is a choice of how many days the figures go back.
type daySpan struct {
	Label   string
	Days    int
	Current bool
}

// daySpans are the choices; what the request does not name is the first.
func daySpans(r *http.Request) (days int, spans []daySpan) {
	spans = []daySpan{{"30 days", 30, false}, {"90 days", 90, false}, {"1 year", 365, false}}
	chosen := &spans[0]
	for i := range spans {
		if r.URL.Query().Get("days") == strconv.Itoa(spans[i].Days) {
			chosen = &spans[i]
		}
	}
	chosen.Current = true
	return chosen.Days, spans
}
