package services

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/credits"
)

// RunParams are one call.
type RunParams struct {
	// Account pays. Required.
	Account string
	// Service is the name of a registered service. Required.
	Service string
	// Version is one of its versions. Empty: the one that was registered last.
	Version string
	// Input is a value of the service's In, or JSON as json.RawMessage or []byte.
	Input any
	// IdempotencyKey makes a repetition with the same input return the first answer and no second charge, in any
	// process, until [Services.Prune] removes it. Keys are the account's own, 1 to 255 characters. A call that failed for
	// free gives its key free. Empty: none.
	IdempotencyKey string
	// Tags are for the caller's own accounting: up to 10, with names of 1 to 40 and values of 1 to 100 characters.
	Tags map[string]string
}

// Result is the answer of a call that succeeded.
type Result struct {
	Service string    `json:"service"`
	Version string    `json:"version,omitempty"`
	CallID  uuid.UUID `json:"call_id"`
	// Output is the service's Out as JSON.
	Output json.RawMessage `json:"result"`
	// Charged is what the call cost.
	Charged credits.Amount `json:"credits_charged"`
	// Balance is what the account can spend after the call; for a repeated call, now.
	Balance credits.Amount `json:"balance"`
	// Units are what was metered, or priced.
	Units Units `json:"units,omitempty"`
	// Cached says that an earlier call with an equal input made the output.
	Cached bool `json:"cached,omitempty"`
	// Incomplete says why the output is not complete. Nil: it is.
	Incomplete *Incomplete `json:"incomplete,omitempty"`
}

// MarshalJSON implements json.Marshaler. It writes what encoding/json would by the tags, without looking for it in the
// type: every call ends here.
func (r Result) MarshalJSON() ([]byte, error) {
	buf := make([]byte, 0, len(r.Output)+240)
	buf = append(append(append(buf, `{"service":"`...), r.Service...), '"') // its letters need no escape
	if r.Version != "" {
		version, err := json.Marshal(r.Version)
		if err != nil {
			return nil, fmt.Errorf("services: write a result: %w", err)
		}
		buf = append(append(buf, `,"version":`...), version...)
	}
	buf = append(append(buf, `,"call_id":"`...), r.CallID.String()...)
	buf = append(buf, `","result":`...)
	if r.Output == nil {
		buf = append(buf, "null"...)
	}
	buf = append(append(buf, r.Output...), `,"credits_charged":"`...)
	buf = append(append(buf, r.Charged.String()...), `","balance":"`...)
	buf = append(append(buf, r.Balance.String()...), '"')
	rest := struct {
		Units      Units       `json:"units,omitempty"`
		Cached     bool        `json:"cached,omitempty"`
		Incomplete *Incomplete `json:"incomplete,omitempty"`
	}{r.Units, r.Cached, r.Incomplete}
	if len(r.Units) == 0 && !r.Cached && r.Incomplete == nil {
		return append(buf, '}'), nil
	}
	text, err := json.Marshal(rest)
	if err != nil {
		return nil, fmt.Errorf("services: write a result: %w", err)
	}
	text[0] = ','
	return append(buf, text...), nil
}

// Incomplete says why an output is not complete: partial (the service said so), out_of_credits, canceled (the caller of
// a stream went away) or timeout.
type Incomplete struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Bounds of what a call names.
const (
	maxKey      = 255
	maxAccount  = 200
	maxTags     = 10
	maxTagName  = 40
	maxTagValue = 100
)

// Run calls a service and charges for it. Nothing is recorded or charged when it is refused: by [ErrNotFound], input
// that is malformed or invalid, [ErrInactive], [ErrGone], [ErrPlan], [ErrBusy], [*credits.InsufficientError],
// [ErrKeyInvalid], [ErrKeyMismatch], [ErrTagsInvalid] or [ErrInProgress]. A call that began and failed returns a
// [*CallError]. [ErrOutcomeUnknown] says that the work succeeded and its charge could not be recorded in time; then its
// result is kept back, and what was set aside for it comes back by itself if the charge indeed was not made.
func (s *Services) Run(ctx context.Context, p RunParams) (Result, error) {
	c, err := s.prepare(ctx, p)
	if err != nil {
		return Result{}, err
	}
	return s.run(ctx, c)
}

// Stream is [Services.Run] for a service that sends its output in parts ([Call.Send]): send gets each of them, one after
// the other. When send fails, or ctx ends, the caller counts as gone: the work is stopped, and what it has used is
// charged. A repetition under the same key gives the first result without its parts.
func (s *Services) Stream(ctx context.Context, p RunParams, send func(part Part) error) (Result, error) {
	c, err := s.prepare(ctx, p)
	if err != nil {
		return Result{}, err
	}
	c.sink = send
	return s.run(ctx, c)
}

// prepared is a call that may begin as far as its caller's words go.
type prepared struct {
	RunParams

	r     *registered
	set   Setting
	in    any
	mark  string
	quote Quote
	tags  string
	// refusal says why the call may not begin, unless it is a repetition of one that did.
	refusal error
	// sink gets the parts of a stream. Nil: it is none.
	sink func(part Part) error
	// background and notify are those of a call that another process will run.
	background, notify bool
}

// prepare checks everything that can be checked without the ledger.
func (s *Services) prepare(ctx context.Context, p RunParams) (*prepared, error) {
	r, err := s.find(p.Service, p.Version)
	if err != nil {
		return nil, err
	}
	if p.Account == "" || len(p.Account) > maxAccount {
		return nil, credits.ErrAccountRequired
	}
	if p.IdempotencyKey != "" && !validKey(p.IdempotencyKey) {
		return nil, ErrKeyInvalid
	}
	c := &prepared{RunParams: p, r: r}
	if c.tags, err = tagsText(p.Tags); err != nil {
		return nil, err
	}
	if c.in, err = r.accept(p.Input); err != nil {
		return nil, err
	}
	if c.set, err = s.settings.of(ctx, r.info.Name); err != nil {
		return nil, err
	}
	if c.quote, err = r.quote(c.in, r.rates(c.set)); err != nil {
		return nil, err
	}
	if c.refusal = s.admit(ctx, r, p.Account, c.set); c.refusal != nil && p.IdempotencyKey == "" {
		return nil, c.refusal
	}
	return c, nil
}

func (s *Services) run(ctx context.Context, c *prepared) (Result, error) {
	if c.direct() {
		return s.runDirect(ctx, c)
	}
	if err := c.compare(); err != nil {
		return Result{}, err
	}
	began, err := s.begin(ctx, c)
	if err != nil {
		return Result{}, err
	}
	if began.Status != Running {
		return s.replay(ctx, began)
	}
	return s.carryOut(ctx, c, began)
}

// compare makes what equal inputs are known by. A call that is charged in one step is compared with no other.
func (c *prepared) compare() (err error) {
	c.mark, err = fingerprint(c.r.info.Name, c.in)
	return err
}

// tagsText writes tags as they are stored.
func tagsText(tags map[string]string) (string, error) {
	if len(tags) == 0 {
		return emptyObject, nil
	}
	if len(tags) > maxTags {
		return "", ErrTagsInvalid
	}
	for name, value := range tags {
		if !isLine(name, maxTagName) || !isLine(value, maxTagValue) {
			return "", ErrTagsInvalid
		}
	}
	text, err := json.Marshal(tags)
	if err != nil {
		return "", fmt.Errorf("services: write tags: %w", err)
	}
	return string(text), nil
}

func validKey(key string) bool { return isLine(key, maxKey) }

// isLine tells that text has 1 to most characters, none of them a control character.
func isLine(text string, most int) bool {
	if !utf8.ValidString(text) || utf8.RuneCountInString(text) > most || text == "" {
		return false
	}
	for _, c := range text {
		if unicode.IsControl(c) {
			return false
		}
	}
	return true
}

// accept makes a valid In of what Run was given.
func (r *registered) accept(given any) (any, error) {
	switch v := given.(type) {
	case json.RawMessage:
		return r.input.decode(v)
	case []byte:
		return r.input.decode(v)
	}
	if reflect.TypeOf(given) != r.input.goType {
		return nil, fmt.Errorf("services: the input of %s is a %s or JSON, not %T", r.info.Name, r.input.goType, given)
	}
	// A value passes through JSON as well, so that every front end has the same rules.
	text, err := json.Marshal(given)
	if err != nil {
		return nil, fmt.Errorf("services: write the input of %s: %w", r.info.Name, err)
	}
	return r.input.decode(text)
}

// marshal writes what a service has made. A part that was JSON already is passed on as it was, and PostgreSQL takes no
// text that is not UTF-8.
func marshal(out any) (json.RawMessage, error) {
	text, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("services: write the output: %w", err)
	}
	return bytes.ToValidUTF8(text, []byte("\uFFFD")), nil
}
