package services

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/quickscale/quickscale/credits"
)

// add puts a service into the registry, unless something is wrong with it.
func (s *Services) add(r *registered, faults []error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := func(o *registered) bool { return o.info.Version == r.info.Version }
	if slices.ContainsFunc(s.byName[r.info.Name], same) {
		faults = append(faults, errors.New("the name is taken"))
	}
	if len(faults) > 0 {
		return fmt.Errorf("services: register %q: %w", r.info.Name, errors.Join(faults...))
	}
	if len(s.byName[r.info.Name]) == 0 {
		s.names = append(s.names, r.info.Name)
	}
	s.byName[r.info.Name] = append(s.byName[r.info.Name], r)
	return nil
}

// find returns a service in a version; "" is the one that was registered last.
func (s *Services) find(name, version string) (*registered, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, r := range slices.Backward(s.byName[name]) {
		if version == "" || r.info.Version == version {
			return r, nil
		}
	}
	return nil, ErrNotFound
}

// Description is a service as it is listed, with what the database says of it.
type Description struct {
	Info
	Active bool `json:"active"`
	// Pricing and Rates are how calls are priced; the rates are those in force. Amounts are decimal strings.
	Pricing PriceKind `json:"pricing"`
	Rates   Rates     `json:"rates,omitempty"`
	// Versions are all, in the order of their registration, when there are several.
	Versions []string `json:"versions,omitempty"`
	// Background says that calls over HTTP are jobs.
	Background bool `json:"background,omitempty"`
	// Files says that the input has files, and so comes by multipart/form-data too.
	Files bool `json:"files,omitempty"`
	// Plans are the features of which the account's plan must have one; empty: all accounts may call it.
	Plans []string `json:"plans,omitempty"`
	// DeprecatedSince, Sunset and DeprecationNote are set for a service that comes to its end.
	DeprecatedSince *time.Time `json:"deprecated_since,omitempty"`
	Sunset          *time.Time `json:"sunset,omitempty"`
	DeprecationNote string     `json:"deprecation_note,omitempty"`
	// TimeoutSeconds is how long a call may take.
	TimeoutSeconds float64 `json:"timeout_seconds"`
	// MaxInputBytes is the largest request.
	MaxInputBytes int64 `json:"max_input_bytes"`
	// InputSchema and OutputSchema are JSON Schema, draft 2020-12.
	InputSchema  json.RawMessage `json:"input_schema"`
	OutputSchema json.RawMessage `json:"output_schema"`
}

func (r *registered) description(set Setting, versions []string) Description {
	d := Description{
		Info: r.info, Active: r.active(set), Pricing: r.pricing.kind, Rates: maps.Clone(r.rates(set)), Background: r.opts.background, Files: r.input.root.hasFile(),
		Plans: r.opts.features, TimeoutSeconds: r.opts.timeout.Seconds(), MaxInputBytes: r.opts.maxBody, InputSchema: r.inJSON, OutputSchema: r.outJSON,
	}
	if len(versions) > 1 {
		d.Versions = versions
	}
	if d.PriceText == "" || set.Rates != nil {
		d.PriceText = r.pricing.text(d.Rates)
	}
	if dep := r.opts.deprecation; dep != nil {
		d.DeprecatedSince, d.DeprecationNote = &dep.Since, dep.Note
		if !dep.Sunset.IsZero() {
			d.Sunset = &dep.Sunset
		}
	}
	return d
}

// List returns all services in the order of their registration, each in the version that was registered last. What the
// database says of them is at most some seconds old; where it does not answer, it is what it said last.
func (s *Services) List(ctx context.Context) []Description {
	settings := s.settings.last(ctx)
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]Description, len(s.names))
	for i, name := range s.names {
		list[i] = s.describe(name, "", settings)
	}
	return list
}

// Find returns a service in a version; an empty version is the one that was registered last. The error is
// [ErrNotFound].
func (s *Services) Find(ctx context.Context, name, version string) (Description, error) {
	if _, err := s.find(name, version); err != nil {
		return Description{}, err
	}
	settings := s.settings.last(ctx)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.describe(name, version, settings), nil
}

// describe is called under the lock, for a service that there is.
func (s *Services) describe(name, version string, settings map[string]Setting) Description {
	all := s.byName[name]
	versions := make([]string, len(all))
	found := all[len(all)-1]
	for i, r := range all {
		versions[i] = r.info.Version
		if version != "" && r.info.Version == version {
			found = r
		}
	}
	return found.description(settings[name], versions)
}

// active tells whether a service takes calls.
func (r *registered) active(set Setting) bool {
	if set.Enabled != nil {
		return *set.Enabled
	}
	return !r.opts.inactive
}

// rates are those in force, which nobody changes. An override counts for the rates that it names.
func (r *registered) rates(set Setting) Rates {
	if len(set.Rates) == 0 {
		return r.pricing.rates
	}
	rates := r.pricing.Rates()
	for name, rate := range set.Rates {
		if _, ok := rates[name]; ok {
			rates[name] = rate
		}
	}
	return rates
}

// admit tells whether an account may call the service now.
func (s *Services) admit(ctx context.Context, r *registered, account string, set Setting) error {
	if !r.active(set) {
		return ErrInactive
	}
	if d := r.opts.deprecation; d != nil && !d.Sunset.IsZero() && !s.now().Before(d.Sunset) {
		return ErrGone
	}
	if len(r.opts.features) == 0 {
		return nil
	}
	for _, feature := range r.opts.features {
		ok, err := s.cfg.Entitled(ctx, account, feature)
		if err != nil {
			return fmt.Errorf("services: ask for the plan of account %s: %w", account, err)
		}
		if ok {
			return nil
		}
	}
	return ErrPlan
}

// Quote is what a call would cost.
type Quote struct {
	Service string `json:"service"`
	Version string `json:"version,omitempty"`
	// Credits is what the call costs, for a metered price at most.
	Credits credits.Amount `json:"credits"`
	// Exact is false for a metered price.
	Exact bool `json:"exact"`
	// Units are those that are priced, for a metered price the most.
	Units Units `json:"units,omitempty"`
	Rates Rates `json:"rates,omitempty"`
}

// QuoteParams name a call that is not made.
type QuoteParams struct {
	// Service is the name of a registered service. Required.
	Service string
	// Version is one of its versions. Empty: the one that was registered last.
	Version string
	// Input is a value of the service's In, or JSON as json.RawMessage or []byte.
	Input any
}

// Quote says what a call would cost now. It changes nothing. The errors are [ErrNotFound] and those of inputs that are
// malformed or invalid.
func (s *Services) Quote(ctx context.Context, p QuoteParams) (Quote, error) {
	r, err := s.find(p.Service, p.Version)
	if err != nil {
		return Quote{}, err
	}
	in, err := r.accept(p.Input)
	if err != nil {
		return Quote{}, err
	}
	set, err := s.settings.of(ctx, r.info.Name)
	if err != nil {
		return Quote{}, err
	}
	quote, err := r.quote(in, r.rates(set))
	quote.Units, quote.Rates = maps.Clone(quote.Units), maps.Clone(quote.Rates)
	return quote, err
}

func (r *registered) quote(in any, rates Rates) (Quote, error) {
	amount, units, err := r.pricing.of(in, rates)
	if err != nil {
		return Quote{}, fmt.Errorf("services: price of %s: %w", r.info.Name, err)
	}
	return Quote{Service: r.info.Name, Version: r.info.Version, Credits: amount, Exact: r.pricing.kind != PriceMetered, Units: units, Rates: rates}, nil
}
