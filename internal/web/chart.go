package web

// The units of a chart's view box.
const (
	barStep     = 10
	barWidth    = 9
	chartHeight = 120
)

// Column is a column of a [Table].
type Column struct {
	Label string
	// Number has its cells aligned to the right.
	Number bool
}

// Table is what the component "table" draws. Each row has a cell for each column.
type Table struct {
	// Caption names the table for screen readers.
	Caption string
	Columns []Column
	Rows    [][]any
}

// Point is one bar of a chart.
type Point struct {
	// Label says which one it is, such as a day.
	Label string
	// Value is its height, in any unit, 0 or more.
	Value int64
	// Text is the value as people read it.
	Text string
}

// Bar is a bar in the units of the chart's view box.
type Bar struct{ X, Y, Width, Height int }

// Chart is what the component "chart" draws: a row of bars, and the table that says the same to who cannot see them.
type Chart struct {
	Title         string
	Width, Height int
	// Bars are those of points above 0.
	Bars []Bar
	// From and To are the labels of the first and the last point.
	From, To string
	// Table has a row for each point above 0.
	Table Table
}

// NewChart draws points as bars, the highest over the whole height, and none above 0 lower than one unit. label and value
// head the columns of the table.
func NewChart(title, label, value string, points []Point) Chart {
	c := Chart{Title: title, Width: max(1, len(points)) * barStep, Height: chartHeight,
		Table: Table{Caption: title, Columns: []Column{{Label: label}, {Label: value, Number: true}}}}
	if len(points) > 0 {
		c.From, c.To = points[0].Label, points[len(points)-1].Label
	}
	most := int64(1)
	for _, p := range points {
		most = max(most, p.Value)
	}
	for i, p := range points {
		if p.Value <= 0 {
			continue
		}
		// As a fraction, since a value in millionths of a credit times the height may not fit.
		height := max(1, int(float64(p.Value)/float64(most)*chartHeight))
		c.Bars = append(c.Bars, Bar{X: i * barStep, Y: chartHeight - height, Width: barWidth, Height: height})
		c.Table.Rows = append(c.Table.Rows, []any{p.Label, p.Text})
	}
	return c
}
