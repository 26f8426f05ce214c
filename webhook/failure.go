package webhook

import (
	"errors"
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// Class is what an error of a handler means for its event.
type Class string

// The classes.
const (
	// ClassRetry is what an error is unless it is wrapped: the event is tried again, and is dead after the last try.
	ClassRetry Class = "retry"
	// ClassPermanent is for events that make no sense: dead at once. See [Permanent].
	ClassPermanent Class = "permanent"
	// ClassPerson is for events that will work once somebody has mended something: dead at once, to be retried then.
	// See [NeedsPerson].
	ClassPerson Class = "person"
)

type classedError struct {
	error

	class Class
}

func (e classedError) Unwrap() error { return e.error }

// Permanent marks an error of a handler as final: the event is dead at once, since trying again cannot help. Nil stays
// nil.
func Permanent(err error) error { return classed(err, ClassPermanent) }

// NeedsPerson marks an error of a handler as one that somebody has to act on, such as a product without its settings:
// the event is dead at once, so that the alert goes out now and not in days, and is retried by hand. Nil stays nil.
func NeedsPerson(err error) error { return classed(err, ClassPerson) }

func classed(err error, c Class) error {
	if err == nil {
		return nil
	}
	return classedError{err, c}
}

func classOf(err error) Class {
	if e, ok := errors.AsType[classedError](err); ok {
		return e.class
	}
	return ClassRetry
}

// The default schedule: the pauses grow threefold from two seconds to twelve hours, and fifteen tries with them last
// between two days and a half and three.
const (
	firstPause  = 2 * time.Second
	pauseFactor = 3
	longestWait = 12 * time.Hour
	jitter      = 0.1
)

// DefaultBackoff is the pause after the given failed try, 1 being the first: 2 s, 6 s, 18 s and so on up to 12 hours,
// each up to a tenth more or less, so that events that failed together do not come back together. With
// [DefaultMaxAttempts] the last try is within three days of the first, as long as Stripe itself would go on.
func DefaultBackoff(attempt int) time.Duration {
	pause := math.Min(float64(firstPause)*math.Pow(pauseFactor, float64(max(attempt, 1)-1)), float64(longestWait))
	return time.Duration(pause * (1 - jitter + 2*jitter*rand.Float64()))
}

// Bounds of what a failure leaves in the database, in bytes.
const (
	maxErrorBytes  = 2000
	maxReasonBytes = 160
)

// plain is text as a column takes it: valid, without NUL, and bounded.
func plain(s string, limit int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// particulars are the parts of an error's text that differ between events of one failure: ids, addresses, numbers.
var particulars = regexp.MustCompile(`[a-z]+_[A-Za-z0-9_]*[0-9][A-Za-z0-9_]*|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|0x[0-9a-f]+|[0-9]+(\.[0-9]+)*`)

// reasonOf is the first line of an error's text with the particulars taken out, so that failures can be counted by it.
func reasonOf(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return plain(particulars.ReplaceAllString(line, "…"), maxReasonBytes)
}
