package database

import (
	"context"
	"slices"
	"strings"
)

// Sizes of a page.
const (
	DefaultPage = 50
	MaxPage     = 500
)

// PageSize is how many rows a page has of which limit were asked for: 50 for 0 and less, and 500 at most.
func PageSize(limit int) int {
	if limit <= 0 {
		return DefaultPage
	}
	return min(limit, MaxPage)
}

// List is a list that is read in pages: the rows that meet all its conditions. The page after one is the list with
// one condition more, that rows come after its last one in the order that it is read in. It is used by one goroutine.
type List struct {
	text strings.Builder
	join string
	args []any
}

// NewList begins a list with its "SELECT … FROM …", which has no WHERE, and the arguments of that.
func NewList(selection string, args ...any) *List {
	l := &List{join: " WHERE ", args: args}
	l.text.WriteString(selection)
	return l
}

// And adds a condition and its arguments.
func (l *List) And(condition string, args ...any) {
	l.text.WriteString(l.join)
	l.text.WriteString(condition)
	l.join = " AND "
	l.args = append(l.args, args...)
}

// If adds a condition that matters only when one holds: that a filter is set.
func (l *List) If(set bool, condition string, args ...any) {
	if set {
		l.And(condition, args...)
	}
}

// Rows reads a page of a list in an order such as "id DESC", and tells whether further rows follow. How many it has at
// most is [PageSize] of limit.
func Rows[Row any](ctx context.Context, db *DB, l *List, order string, limit int) (rows []Row, more bool, err error) {
	limit = PageSize(limit)
	args := slices.Concat(l.args, []any{limit + 1})
	if err := db.Select(ctx, &rows, l.text.String()+" ORDER BY "+order+" LIMIT ?", args...); err != nil {
		return nil, false, err
	}
	if more = len(rows) > limit; more {
		rows = rows[:limit]
	}
	return rows, more, nil
}

// Page is [Rows] of which each is turned into what a caller of the list gets; never nil but with an error.
func Page[Row, T any](ctx context.Context, db *DB, l *List, order string, limit int, of func(Row) T) (page []T, more bool, err error) {
	rows, more, err := Rows[Row](ctx, db, l, order, limit)
	if err != nil {
		return nil, false, err
	}
	page = make([]T, len(rows))
	for i, r := range rows {
		page[i] = of(r)
	}
	return page, more, nil
}
