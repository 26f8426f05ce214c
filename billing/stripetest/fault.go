package stripetest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// FaultKind is what goes wrong.
type FaultKind string

// The faults of calls to the API.
const (
	// FaultLatency delays the answer, which is made at once, by Fault.Delay. Who sends the same idempotency key meanwhile, to
	// the same process, gets 409.
	FaultLatency FaultKind = "latency"
	// FaultRateLimit answers 429 and does nothing. The idempotency key stays free.
	FaultRateLimit FaultKind = "rate_limit"
	// FaultLockTimeout is a 429 too: somebody else holds the object. Clients may try again.
	FaultLockTimeout FaultKind = "lock_timeout"
	// FaultErrorBefore answers 500 and does nothing; FaultErrorAfter does the work and answers 500. Under the same
	// idempotency key the 500 is answered again.
	FaultErrorBefore FaultKind = "error_before"
	FaultErrorAfter  FaultKind = "error_after"
	// FaultDropBefore cuts the connection and does nothing; FaultDropAfter does the work and cuts the connection. Under
	// the same idempotency key the next call gets the answer.
	FaultDropBefore FaultKind = "drop_before"
	FaultDropAfter  FaultKind = "drop_after"
)

// The faults of webhooks.
const (
	// FaultLose sends nothing. The event can be listed, as one that was not delivered.
	FaultLose FaultKind = "webhook_lose"
	// FaultDuplicate sends the event twice; FaultTwin makes two events, with ids of their own, of one change.
	FaultDuplicate FaultKind = "webhook_duplicate"
	FaultTwin      FaultKind = "webhook_twin"
	// FaultDelay sends after Fault.Delay; FaultReorder after a part of it that is drawn anew for each event.
	FaultDelay   FaultKind = "webhook_delay"
	FaultReorder FaultKind = "webhook_reorder"
)

var (
	callFaults    = []FaultKind{FaultLatency, FaultRateLimit, FaultLockTimeout, FaultErrorBefore, FaultErrorAfter, FaultDropBefore, FaultDropAfter}
	webhookFaults = []FaultKind{FaultLose, FaultDuplicate, FaultTwin, FaultDelay, FaultReorder}
)

// FaultKinds returns all kinds, those of the API first.
func FaultKinds() []FaultKind { return slices.Concat(callFaults, webhookFaults) }

// Fault is something that goes wrong on demand.
type Fault struct {
	Kind FaultKind
	// Route is what it strikes: for calls a route such as "POST /v1/customers" or "GET /v1/invoices/{id}", for webhooks
	// an event type; a star at the end matches any rest. Empty: everything.
	Route string
	// Probability of striking each time, above 0 and up to 1. 0: 1.
	Probability float64
	// Seed decides when it strikes: the same seed and the same calls give the same faults.
	Seed uint64
	// Times is how often it strikes at most. 0: until it is removed.
	Times int
	// Delay is for those kinds that delay. 0: a second.
	Delay time.Duration
}

const faultKind = "fault"

// Inject makes a fault happen, in all processes that share the store, and returns its id. What a call that is refused
// for another reason would have met does not count.
func (s *Server) Inject(ctx context.Context, f Fault) (id string, err error) {
	if !slices.Contains(FaultKinds(), f.Kind) {
		return "", fmt.Errorf("stripetest: there is no fault %q", f.Kind)
	}
	if f.Probability == 0 {
		f.Probability = 1
	}
	if f.Probability < 0 || f.Probability > 1 || f.Times < 0 || f.Delay < 0 {
		return "", fmt.Errorf("stripetest: fault %s: probability is at most 1, and nothing is below 0", f.Kind)
	}
	if f.Delay == 0 {
		f.Delay = time.Second
	}
	if f.Route == "" {
		f.Route = "*"
	}
	id = newID("fault")
	return id, s.do(ctx, func(tx *work) error {
		return tx.put(id, faultKind, object{"id": id, "kind": f.Kind, "route": f.Route, "probability": f.Probability, "seed": strconv.FormatUint(f.Seed, 10),
			"times": f.Times, "delay": f.Delay.Milliseconds(), "draws": 0, "strikes": 0})
	})
}

// RemoveFaults ends the faults of these ids; without any, all.
func (s *Server) RemoveFaults(ctx context.Context, ids ...string) error {
	return s.do(ctx, func(tx *work) error {
		faults, err := all(tx, query{kind: faultKind})
		if err != nil {
			return err
		}
		for _, f := range faults {
			if id := text(f["id"]); len(ids) == 0 || slices.Contains(ids, id) {
				if err := tx.put(id, "removed_"+faultKind, f); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// strikes returns the faults of these kinds that strike now, and counts.
func (s *Server) strikes(tx *work, name string, kinds []FaultKind) ([]object, error) {
	faults, err := all(tx, query{kind: faultKind, oldestFirst: true})
	if err != nil {
		return nil, err
	}
	var out []object
	for _, f := range faults {
		if !slices.Contains(kinds, FaultKind(text(f["kind"]))) || !matches(text(f["route"]), name) {
			continue
		}
		draw := number(f["draws"])
		f["draws"] = draw + 1
		probability, _ := f["probability"].(float64)
		hit := drawn(f, draw, "strikes") < probability
		kind := faultKind
		if hit {
			f["strikes"] = number(f["strikes"]) + 1
			out = append(out, f)
			if times := number(f["times"]); times > 0 && number(f["strikes"]) >= times {
				kind = "removed_" + faultKind
			}
		}
		if err := tx.put(text(f["id"]), kind, f); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// drawn is the n-th draw of a fault, from 0 to 1: the same for the same seed, in whatever process.
func drawn(f object, n int64, what string) float64 {
	sum := sha256.Sum256([]byte(text(f["seed"]) + " " + itoa(n) + " " + what))
	return float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53)
}

// verdict is what faults make of a call.
type verdict struct {
	latency time.Duration
	fail    *apiError
	before  bool
	drop    bool
}

func (s *Server) judge(tx *work, route string) (v verdict, err error) {
	struck, err := s.strikes(tx, route, callFaults)
	if err != nil {
		return v, err
	}
	for _, f := range struck {
		switch kind := FaultKind(text(f["kind"])); kind {
		case FaultLatency:
			v.latency += time.Duration(number(f["delay"])) * time.Millisecond
		case FaultRateLimit:
			v.before, v.fail = true, &apiError{status: http.StatusTooManyRequests, Type: invalidRequest, Code: "rate_limit",
				Message: "Request rate limit exceeded. The Stripe double was told to say so."}
		case FaultLockTimeout:
			v.before, v.fail = true, &apiError{status: http.StatusTooManyRequests, Type: invalidRequest, Code: "lock_timeout",
				Message: "This object cannot be accessed right now because another API request or Stripe process is currently accessing it."}
		case FaultErrorBefore, FaultErrorAfter:
			v.before = v.before || kind == FaultErrorBefore
			v.fail = &apiError{status: http.StatusInternalServerError, Type: "api_error", Message: "The Stripe double was told to fail."}
		case FaultDropBefore, FaultDropAfter:
			v.drop, v.before = true, v.before || kind == FaultDropBefore
		}
	}
	return v, nil
}

// fate is what faults make of an event.
type fate struct {
	events, copies int
	delay          time.Duration
}

func (s *Server) fate(tx *work, eventType string) (fate, error) {
	f := fate{events: 1, copies: 1}
	struck, err := s.strikes(tx, eventType, webhookFaults)
	if err != nil {
		return f, err
	}
	for _, fault := range struck {
		delay := time.Duration(number(fault["delay"])) * time.Millisecond
		switch FaultKind(text(fault["kind"])) {
		case FaultLose:
			f.copies = 0
		case FaultDuplicate:
			f.copies *= 2
		case FaultTwin:
			f.events = 2
		case FaultDelay:
			f.delay += delay
		case FaultReorder:
			f.delay += time.Duration(drawn(fault, number(fault["draws"]), "delays") * float64(delay))
		}
	}
	return f, nil
}
