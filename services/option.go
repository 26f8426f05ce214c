package services

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quickscale/quickscale/credits"
)

// How long a call may take: unless [Timeout] says otherwise, and at most. Credits stay set aside that long when the
// process dies in the middle of a call.
const (
	DefaultTimeout = 30 * time.Second
	MaxTimeout     = 24 * time.Hour
)

// Option changes how a service is run, metered or offered.
type Option func(*options)

type options struct {
	timeout         time.Duration
	chargeOnFailure bool
	chargeAfter     bool
	inactive        bool
	background      bool
	perAccount      int
	inAll           int
	retries         Retries
	cache           Caching
	deprecation     *Deprecation
	features        []string
	least           credits.Amount
	maxBody         int64
	wrap            []Middleware
}

// ChargeOnFailure keeps the charge when a call fails, for work that costs whether or not it succeeds; of a metered
// price, what was used. A call that was charged keeps its idempotency key: the same key gives the same failure again and
// no second charge.
func ChargeOnFailure() Option { return func(o *options) { o.chargeOnFailure = true } }

// ChargeAfter sets nothing aside: a call is charged in one step when its work has succeeded, together with other calls
// that end in that moment. It is several times as fast, and meant for quick work that costs the host next to nothing. An
// account that starts more calls at once than it can pay for gets the answers only of those that it could; before the
// work, its balance is looked at by each process for itself. Calls with an idempotency key, streams, jobs and calls of
// services with a metered price or limits of concurrency set their price aside all the same.
//
// The usage row of such a call is written within a moment after its answer, together with others. A process that dies
// before loses the row and not the charge, whose ledger entry has all that the row has but the latency: [Services.Recover]
// makes the row again.
func ChargeAfter() Option { return func(o *options) { o.chargeAfter = true } }

// Timeout is how long a call may take, above zero and at most a day. The default is 30 seconds.
func Timeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// Inactive switches the service off unless the database says otherwise: it is listed, and its calls are refused before
// any charge.
func Inactive() Option { return func(o *options) { o.inactive = true } }

// Background makes every call over HTTP a job: it is answered with 202 and where to ask for the result. Callers of other
// services ask for that with Prefer: respond-async. It needs [Config.Jobs].
func Background() Option { return func(o *options) { o.background = true } }

// MaxConcurrent bounds how many calls run at once, in all processes together: of one account, and in all. 0: no bound.
// A call beyond is refused with [ErrBusy].
func MaxConcurrent(perAccount, inAll int) Option {
	return func(o *options) { o.perAccount, o.inAll = perAccount, inAll }
}

// Retries say how often work is tried again.
type Retries struct {
	// Max is how many more tries there are after the first, at most 10.
	Max int
	// Pause is the time before the second try, which doubles from try to try. 0: 100 ms.
	Pause time.Duration
	// If tells which errors are worth another try. Nil: those that [Temporary] made.
	If func(err error) bool
}

// Retry tries failed work again, all within the time limit of the call. The units that a failed try had metered do not
// count. A stream that has begun is not tried again.
func Retry(r Retries) Option { return func(o *options) { o.retries = r } }

// Temporary marks an error of Execute as one that another try may not meet; see [Retry].
func Temporary(err error) error { return temporaryError{err} }

type temporaryError struct{ error }

// Unwrap returns the error that was marked.
func (e temporaryError) Unwrap() error { return e.error }

func isTemporary(err error) bool {
	_, ok := errors.AsType[temporaryError](err)
	return ok
}

// Caching keeps answers for equal inputs.
type Caching struct {
	// For is how long an answer is given again, in every process. Required.
	For time.Duration
	// Shared gives an answer to other accounts too. The service must then answer everybody alike.
	Shared bool
	// Charge takes the price for a kept answer too; of a metered price, what the first call used. False: it is free.
	Charge bool
}

// Cache answers equal inputs with the answer that the same version of the service gave before, without doing the work.
func Cache(c Caching) Option { return func(o *options) { o.cache = c } }

// Deprecation announces the end of a service.
type Deprecation struct {
	// Since is when it was deprecated; the header Deprecation (RFC 9745) says so. Required.
	Since time.Time
	// Sunset is when its calls begin to be refused; the header Sunset (RFC 8594) says so. Zero: not decided.
	Sunset time.Time
	// Note says what to use in its place.
	Note string
}

// Deprecated announces the end of a service. Its calls are refused with [ErrGone] from the sunset on.
func Deprecated(d Deprecation) Option { return func(o *options) { o.deprecation = &d } }

// ForPlans lets only accounts in whose plan one of the features is. [Config.Entitled] tells. Others are refused with
// [ErrPlan].
func ForPlans(features ...string) Option { return func(o *options) { o.features = features } }

// StartWith lets a call of a metered price begin when the account cannot cover the most that it may use, but at least
// this much: all that the account has is set aside then, and the work is stopped when that is used up.
func StartWith(least credits.Amount) Option { return func(o *options) { o.least = least } }

// MaxInput is the largest request that the service takes, in bytes. The default is [MaxBody], and [MaxFiles] for a
// service whose input has a [File].
func MaxInput(bytes int64) Option { return func(o *options) { o.maxBody = bytes } }

// Next does the work of a call, or what is left of it.
type Next func(ctx context.Context, call *Call, in any) (any, error)

// Middleware wraps the work of calls.
type Middleware func(next Next) Next

// Wrap adds behaviour of the host's own around the work; the first of the list is the outermost. It sees the input and
// output in the service's own types. The built-in behaviour lies around all of it: cache, time limit, retries, recovery.
func Wrap(m ...Middleware) Option { return func(o *options) { o.wrap = append(o.wrap, m...) } }

const maxRetries = 10

// check finds options that are out of their range or do not go together.
func (o *options) check(kind PriceKind) (faults []error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if o.timeout <= 0 || o.timeout > MaxTimeout {
		fault("the timeout must be above zero and at most %s", MaxTimeout)
	}
	if o.perAccount < 0 || o.inAll < 0 {
		fault("MaxConcurrent takes no negative numbers")
	}
	if o.retries.Max < 0 || o.retries.Max > maxRetries || o.retries.Pause < 0 {
		fault("Retry takes 0 to %d tries and no negative pause", maxRetries)
	}
	if o.cache.For < 0 || (o.cache.For == 0 && o.cache != Caching{}) {
		fault("Cache needs a time above zero")
	}
	if o.deprecation != nil && o.deprecation.Since.IsZero() {
		fault("Deprecated needs Since")
	}
	if o.least < 0 || (o.least > 0 && kind != PriceMetered) {
		fault("StartWith takes an amount above zero and is for metered prices")
	}
	if o.maxBody < 0 {
		fault("MaxInput takes a size above zero")
	}
	return faults
}
