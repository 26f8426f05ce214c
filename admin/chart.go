package admin

import (
	"net/http"
	"strconv"
)

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
