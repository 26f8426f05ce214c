package auth

import (
	"time"

	"github.com/quickscale/quickscale/internal/web"
)

// Step is one of the first things to do with an account.
type Step struct {
	Label string `json:"label"`
	URL   string `json:"url"`
	Done  bool   `json:"done"`
}

// DayFigure is a figure of one day, in any unit.
type DayFigure struct {
	Day   time.Time `json:"day"`
	Value int64     `json:"-"`
	// Text is the value as people read it.
	Text string `json:"value"`
}

// Activity is something that happened, such as a purchase or a use.
type Activity struct {
	Text string    `json:"text"`
	Note string    `json:"note,omitempty"`
	At   time.Time `json:"at"`
}

// Overview is what others know of an account for its dashboard.
type Overview struct {
	// Steps are first steps that come after the account's own; the list goes when all are done.
	Steps []Step
	// Use are the credits used by day, a figure for each of some days, oldest first. Nil: no chart.
	Use []DayFigure
	// Expiring are the credits that expire soon, by day.
	Expiring []DayFigure
	// Activity is what happened last, newest first, and ActivityURL the page that has all of it.
	Activity    []Activity
	ActivityURL string
}

// useChart draws the use of a dashboard. Nil: there is none to draw.
func useChart(use []DayFigure) *web.Chart {
	if len(use) == 0 {
		return nil
	}
	points := make([]web.Point, len(use))
	for i, u := range use {
		points[i] = web.Point{Label: u.Day.Format("2 Jan"), Value: u.Value, Text: u.Text}
	}
	chart := web.NewChart("Credits used by day", "Day", "Credits", points)
	return &chart
}
