package services

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
)

// Info says what a service is.
type Info struct {
	// Name is the service in URLs: lower-case letters and digits, in words joined by hyphens, at most 63 bytes,
	// unique. Required.
	Name string `json:"name"`
	// Title is its name for people. Required.
	Title string `json:"title"`
	// Summary says in a sentence what it does.
	Summary string `json:"summary"`
	// Version is recorded with each call.
	Version string `json:"version,omitempty"`
	// PriceText is what a call costs, in words, such as "0.5 credits". Empty: the price is said to depend on the input.
	PriceText string `json:"price"`
	// Tags group services.
	Tags []string `json:"tags,omitempty"`
}

// Service is a product whose every call costs credits. In is a struct: its fields have json names, `validate` rules of
// go-playground/validator, and for the form `title`, `description`, `enum:"a,b"` and `format:"textarea"` tags. Out is
// a struct or a map that encodes as a JSON object.
type Service[In, Out any] interface {
	// Info is asked once, at registration.
	Info() Info
	// Price is what a call with this input costs, zero or more. It is called with valid input only, and must be quick
	// and without effect.
	Price(in In) (credits.Amount, error)
	// Execute does the work. ctx ends with the service's time limit, or when the caller is gone; Execute should then
	// return. An error or a panic makes the call fail. The caller is told the message of a [Failure] and a general
	// sentence for any other error.
	Execute(ctx context.Context, call *Call, in In) (Out, error)
}

// Call is one use of a service, as Execute sees it.
type Call struct {
	ID      uuid.UUID
	Service string
	// Account pays for the call.
	Account string
	// Logger adds the call's id to each line.
	Logger *slog.Logger
}

// Func makes a service of plain functions.
func Func[In, Out any](info Info, price func(in In) (credits.Amount, error), fn func(ctx context.Context, call *Call, in In) (Out, error)) Service[In, Out] {
	return function[In, Out]{info, price, fn}
}

type function[In, Out any] struct {
	info  Info
	price func(In) (credits.Amount, error)
	fn    func(context.Context, *Call, In) (Out, error)
}

func (f function[In, Out]) Info() Info                          { return f.info }
func (f function[In, Out]) Price(in In) (credits.Amount, error) { return f.price(in) }
func (f function[In, Out]) Execute(ctx context.Context, call *Call, in In) (Out, error) {
	return f.fn(ctx, call, in)
}

// Failure is an error of Price or Execute whose message the caller is shown, with the code execution_failed. It must
// hold no secrets.
func Failure(message string) error { return problem.New(codeFailed, message) }

// How long a call may take: unless [Timeout] says otherwise, and at most. Credits stay set aside that long when the
// process dies in the middle of a call.
const (
	DefaultTimeout = 30 * time.Second
	MaxTimeout     = 24 * time.Hour
)

// Option changes how a service is metered.
type Option func(*options)

type options struct {
	timeout         time.Duration
	chargeOnFailure bool
	inactive        bool
}

// ChargeOnFailure keeps the charge when a call fails, for work that costs whether or not it succeeds. A call that was
// charged keeps its idempotency key: the same key gives the same failure again and no second charge.
func ChargeOnFailure() Option { return func(o *options) { o.chargeOnFailure = true } }

// Timeout is how long a call may take, above zero and at most a day. The default is 30 seconds.
func Timeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// Inactive switches the service off: it is listed, and its calls are refused before any charge.
func Inactive() Option { return func(o *options) { o.inactive = true } }

// registered is a service without its types.
type registered struct {
	info    Info
	opts    options
	input   *input
	inJSON  json.RawMessage
	outJSON json.RawMessage
	price   func(in any) (credits.Amount, error)
	execute func(ctx context.Context, call *Call, in any) (any, error)
}

const maxName = 63

var namePattern = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// Register adds a service. All that is wrong with it is told here, joined: its name, a name that is taken, options out
// of range, and fields of its types that a form or JSON cannot carry.
func Register[In, Out any](s *Services, svc Service[In, Out], opts ...Option) error {
	r := &registered{info: svc.Info(), opts: options{timeout: DefaultTimeout}}
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
	if r.opts.timeout <= 0 || r.opts.timeout > MaxTimeout {
		fault("the timeout must be above zero and at most %s", MaxTimeout)
	}
	if r.info.PriceText == "" {
		r.info.PriceText = "Price depends on the input"
	}
	var err error
	if r.input, r.inJSON, err = describeInput(s.validate, reflect.TypeFor[In]()); err != nil {
		faults = append(faults, err)
	}
	if r.outJSON, err = describeOutput(reflect.TypeFor[Out]()); err != nil {
		faults = append(faults, err)
	}
	r.price = func(in any) (credits.Amount, error) { return svc.Price(in.(In)) }
	r.execute = func(ctx context.Context, call *Call, in any) (any, error) { return svc.Execute(ctx, call, in.(In)) }

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byName[r.info.Name] != nil {
		fault("the name is taken")
	}
	if len(faults) > 0 {
		return fmt.Errorf("services: register %q: %w", r.info.Name, errors.Join(faults...))
	}
	s.byName[r.info.Name] = r
	s.all = append(s.all, r)
	return nil
}

func (s *Services) find(name string) (*registered, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := s.byName[name]; r != nil {
		return r, nil
	}
	return nil, ErrNotFound
}

// Description is a service as it is listed.
type Description struct {
	Info
	Active bool `json:"active"`
	// InputSchema and OutputSchema are JSON Schema, draft 2020-12.
	InputSchema  json.RawMessage `json:"input_schema"`
	OutputSchema json.RawMessage `json:"output_schema"`
}

func (r *registered) description() Description {
	return Description{r.info, !r.opts.inactive, r.inJSON, r.outJSON}
}

// List returns all services in the order of their registration.
func (s *Services) List() []Description {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]Description, len(s.all))
	for i, r := range s.all {
		list[i] = r.description()
	}
	return list
}
