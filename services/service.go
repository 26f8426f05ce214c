package services

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"

	"github.com/quickscale/quickscale/internal/problem"
)

// Info says what a service is.
type Info struct {
	// Name is the service in URLs: lower-case letters and digits, in words joined by hyphens, at most 63 bytes. Required.
	Name string `json:"name"`
	// Title is its name for people. Required.
	Title string `json:"title"`
	// Summary says in a sentence what it does.
	Summary string `json:"summary"`
	// Version is recorded with each call. A name may be registered once for each version; callers get the one that was
	// registered last unless they name another.
	Version string `json:"version,omitempty"`
	// PriceText is what a call costs, in words, such as "0.5 credits". Empty: it is made of the price. It is not shown
	// while the database overrides the price.
	PriceText string `json:"price"`
	// Tags group services.
	Tags []string `json:"tags,omitempty"`
}

// Service is a product whose calls cost credits. In is a struct: its fields have json names, `validate` rules of
// go-playground/validator, and for the form `title`, `description`, `enum:"a,b"` and `format:"textarea"` tags; a [File]
// is uploaded. Out is a struct or a map that encodes as a JSON object.
type Service[In, Out any] interface {
	// Info is asked once, at registration.
	Info() Info
	// Pricing is asked once, at registration.
	Pricing() Pricing
	// Execute does the work. ctx ends with the service's time limit, when the caller is gone, or when the credits set
	// aside for a metered price are used up; Execute should then return. An error or a panic makes the call fail. The
	// caller is told the message of a [Failure] and a general sentence for any other error. With an error made by
	// [Partial] the output counts.
	Execute(ctx context.Context, call *Call, in In) (Out, error)
}

// Func makes a service of a plain function.
func Func[In, Out any](info Info, pricing Pricing, fn func(ctx context.Context, call *Call, in In) (Out, error)) Service[In, Out] {
	return function[In, Out]{info, pricing, fn}
}

type function[In, Out any] struct {
	info    Info
	pricing Pricing
	fn      func(context.Context, *Call, In) (Out, error)
}

func (f function[In, Out]) Info() Info       { return f.info }
func (f function[In, Out]) Pricing() Pricing { return f.pricing }
func (f function[In, Out]) Execute(ctx context.Context, call *Call, in In) (Out, error) {
	return f.fn(ctx, call, in)
}

// Failure is an error of Execute, or of a computed price, whose message the caller is shown, with the code
// execution_failed. It must hold no secrets.
func Failure(message string) error { return problem.New(codeFailed, message) }

// Partial is an error of Execute that says that its output is not complete: the caller gets the output with the message,
// and is charged what the call has metered or [Call.Charge] has set, and otherwise the whole price. The message must
// hold no secrets.
func Partial(message string) error { return &partialError{message} }

type partialError struct{ message string }

// Error implements error.
func (e *partialError) Error() string { return "services: the output is not complete: " + e.message }

// registered is a service without its types.
type registered struct {
	info    Info
	opts    options
	pricing Pricing
	input   *input
	inJSON  json.RawMessage
	outJSON json.RawMessage
	execute Next
}

const maxName = 63

var namePattern = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// Register adds a service. All that is wrong with it is told here, joined: its name, a name that is taken in this
// version, its price, options out of range, and fields of its types that a form or JSON cannot carry.
func Register[In, Out any](s *Services, svc Service[In, Out], opts ...Option) error {
	r := &registered{info: svc.Info(), pricing: svc.Pricing(), opts: options{timeout: DefaultTimeout}}
	for _, o := range opts {
		o(&r.opts)
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(r.info.Name) > maxName || !namePattern.MatchString(r.info.Name) {
		fault("the name must be lower-case letters and digits, in words joined by hyphens, at most %d bytes", maxName)
	}
	if r.info.Title == "" {
		fault("Info.Title is required")
	}
	if err := r.pricing.check(reflect.TypeFor[In]()); err != nil {
		faults = append(faults, err)
	}
	faults = append(faults, r.opts.check(r.pricing.kind)...)
	if r.opts.background && s.cfg.Jobs == nil {
		fault("Background needs Config.Jobs")
	}
	if len(r.opts.features) > 0 && s.cfg.Entitled == nil {
		fault("ForPlans needs Config.Entitled")
	}
	var err error
	if r.input, r.inJSON, err = describeInput(s.validate, reflect.TypeFor[In]()); err != nil {
		faults = append(faults, err)
	}
	if r.outJSON, err = describeOutput(reflect.TypeFor[Out]()); err != nil {
		faults = append(faults, err)
	}
	r.execute = func(ctx context.Context, call *Call, in any) (any, error) { return svc.Execute(ctx, call, in.(In)) }
	for _, wrap := range slices.Backward(r.opts.wrap) {
		r.execute = wrap(r.execute)
	}
	if r.opts.maxBody == 0 {
		r.opts.maxBody = MaxBody
		if r.input != nil && r.input.root.hasFile() {
			r.opts.maxBody = MaxFiles
		}
	}
	return s.add(r, faults)
}
