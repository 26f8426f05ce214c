package database

import (
	"database/sql/driver"
	"fmt"
	"time"
)

// timeLayout has a fixed width, so that SQLite's text columns sort as times do; PostgreSQL reads it as timestamptz.
const timeLayout = "2006-01-02 15:04:05.000000-07:00"

// Time is a column that holds a time: TIMESTAMPTZ on PostgreSQL, TEXT on SQLite. It is stored in UTC and cut to
// microseconds, the grain that both keep. For a column that may be NULL use *Time.
type Time struct{ time.Time }

// At makes a column value of t.
func At(t time.Time) Time { return Time{Canonical(t)} }

// AtPtr is [At] for a column that may be NULL: nil stays nil.
func AtPtr(t *time.Time) *Time {
	if t == nil {
		return nil
	}
	v := At(*t)
	return &v
}

// Std is the opposite of [AtPtr].
func (t *Time) Std() *time.Time {
	if t == nil {
		return nil
	}
	v := t.Time
	return &v
}

// Canonical is t as the database keeps it: UTC, whole microseconds, no monotonic reading.
func Canonical(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Value implements driver.Valuer. Years that do not have four digits are refused: they would neither sort as text nor
// be read back.
func (t Time) Value() (driver.Value, error) {
	at := Canonical(t.Time)
	if at.Year() < 1 || at.Year() > 9999 {
		return nil, fmt.Errorf("database: the year %d cannot be stored", at.Year())
	}
	return at.Format(timeLayout), nil
}

// Scan implements sql.Scanner. NULL is an error; a column that may be NULL is scanned into *Time.
func (t *Time) Scan(src any) error {
	switch v := src.(type) {
	case time.Time:
		t.Time = Canonical(v)
		return nil
	case string:
		return t.parse(v)
	case []byte:
		return t.parse(string(v))
	default:
		return fmt.Errorf("database: cannot scan %T into a time", src)
	}
}

func (t *Time) parse(s string) error {
	parsed, err := time.Parse(timeLayout, s)
	if err != nil {
		return fmt.Errorf("database: parse the time %q: %w", s, err)
	}
	t.Time = Canonical(parsed)
	return nil
}
