package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

// Input is one request for a chat completion.
type Input struct {
	Request string `json:"request" title:"Chat completion request, as JSON" validate:"required,max=1048576"`
}

// Output is the answer, in one piece or in the parts in which it was streamed.
type Output struct {
	Response any   `json:"response,omitempty"`
	Parts    []any `json:"parts,omitempty"`
	// Broken says why a stream ended before its end.
	Broken string `json:"broken,omitempty"`
}

// holds tells what is set aside for a call; *credits.Ledger does.
type holds interface {
	Holds(ctx context.Context, account string) ([]credits.Hold, error)
}

// gateway is the service: a chat completion, priced by the tokens of its model.
type gateway struct {
	models   []Model
	upstream *upstream
	holds    holds
}

const (
	serviceName = "chat-completions"
	timeLimit   = 10 * time.Minute
)

// Info implements services.Service.
func (g *gateway) Info() services.Info {
	return services.Info{Name: serviceName, Title: "Chat completions", Summary: "Answers of language models, priced by the token.", Version: "1.0.0", Tags: []string{"llm"}}
}

// Pricing implements services.Service. What is set aside is the price of every byte of the request as a token, and of
// the longest answer.
func (g *gateway) Pricing() services.Pricing {
	return services.Metered(rates(g.models), func(in Input) services.Units {
		r, m, err := g.read(in)
		if err != nil {
			return nil // Execute says what is wrong, for nothing
		}
		return services.Units{m.inputUnit(): r.maxInput(), m.outputUnit(): r.maxOutput(m) * r.choices()}
	})
}

func (g *gateway) read(in Input) (*chatRequest, Model, error) {
	r, err := parseRequest([]byte(in.Request))
	if err != nil {
		return nil, Model{}, err
	}
	m, ok := findModel(g.models, r.Model)
	if !ok {
		return nil, Model{}, noModel(r.Model)
	}
	return r, m, nil
}

// Execute implements services.Service.
func (g *gateway) Execute(ctx context.Context, call *services.Call, in Input) (Output, error) {
	r, m, err := g.read(in)
	if err != nil {
		return Output{}, err
	}
	c := &completion{call: call, r: r, m: m, most: r.maxOutput(m)}
	if err := g.afford(ctx, c); err != nil {
		return Output{}, err
	}
	body, err := r.body(m, c.most)
	if err != nil {
		return Output{}, err
	}
	if r.Stream {
		return c.stream(ctx, g.upstream, body)
	}
	return c.complete(ctx, g.upstream, body)
}

// afford shortens the answer to what was set aside, which is less than its whole price when the account has less.
func (g *gateway) afford(ctx context.Context, c *completion) error {
	prompt, err := c.m.Input.MulDiv(c.r.maxInput(), perMillion)
	if err != nil {
		return err
	}
	answers, err := c.m.Output.MulDiv(c.most*c.r.choices(), perMillion)
	if err != nil {
		return err
	}
	whole, err := prompt.Add(answers)
	if err != nil || whole == 0 {
		return err
	}
	open, err := g.holds.Holds(ctx, c.call.Account)
	if err != nil {
		return err
	}
	for _, h := range open {
		if h.Reference != "service-call:"+c.call.ID.String() {
			continue
		}
		if h.Amount >= whole {
			return nil
		}
		c.short = true
		if c.most, err = reach(h.Amount-min(prompt, h.Amount), c.m.Output, c.most*c.r.choices()); err != nil {
			return err
		}
		if c.most /= c.r.choices(); c.most < 1 {
			return &credits.InsufficientError{Required: whole, Available: h.Amount}
		}
		return nil
	}
	return fmt.Errorf("nothing is set aside for call %s", c.call.ID)
}

// reach is how many tokens, up to most, credits pay for at a price for a million.
func reach(amount, price credits.Amount, most int64) (int64, error) {
	if price == 0 {
		return most, nil
	}
	tokens, err := amount.MulDiv(perMillion, int64(price))
	if err != nil {
		return 0, fmt.Errorf("tokens for %s: %w", amount, err)
	}
	n := min(int64(tokens), most)
	// MulDiv rounds up, and so does the price of the tokens.
	for ; n > 0; n-- {
		costs, err := price.MulDiv(n, perMillion)
		if err != nil {
			return 0, fmt.Errorf("price of %d tokens: %w", n, err)
		}
		if costs <= amount {
			break
		}
	}
	return n, nil
}

// completion is one request under way.
type completion struct {
	call *services.Call
	r    *chatRequest
	m    Model
	// most is the longest answer that is paid for, in tokens; short says that credits shortened it.
	most  int64
	short bool
}

// cutShort is what the caller is told of an answer that credits have shortened.
const cutShort = "The account's credits reached for a part of the answer only."

// complete gets an answer in one piece. Who does not wait for it pays all the same: the upstream generates it whole.
func (c *completion) complete(ctx context.Context, u *upstream, body []byte) (Output, error) {
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeLimit)
	defer cancel()
	raw, a, err := u.complete(asking, body)
	if err != nil {
		return Output{}, err
	}
	used := a.Usage
	if used == nil {
		used = &usage{c.r.estimatedInput(), a.estimatedOutput()}
	}
	if err := c.settle(ctx, *used); err != nil {
		return Output{}, err
	}
	out := Output{Response: raw}
	if c.short && a.cut() {
		return out, services.Partial(cutShort)
	}
	return out, nil
}

// settle meters what was used: what the upstream counted, within what was set aside for it.
func (c *completion) settle(ctx context.Context, used usage) error {
	most := usage{c.r.maxInput(), c.most * c.r.choices()}
	if used.Prompt > most.Prompt || used.Completion > most.Completion {
		c.call.Logger.WarnContext(ctx, "the upstream counted more than can be: the rest is not charged", slog.Int64("prompt_tokens", used.Prompt),
			slog.Int64("completion_tokens", used.Completion), slog.String("model", c.m.Name))
	}
	return errors.Join(c.call.Meter(c.m.inputUnit(), max(0, min(used.Prompt, most.Prompt))),
		c.call.Meter(c.m.outputUnit(), max(0, min(used.Completion, most.Completion))))
}

// errRunaway says that the upstream goes on beyond the bound that it was given.
var errRunaway = errors.New("the upstream goes on beyond its bound")

func (c *completion) stream(ctx context.Context, u *upstream, body []byte) (Output, error) {
	var (
		out           Output
		used          *usage
		parts         int64
		finished, cut bool
	)
	done, err := u.stream(ctx, body, func(data []byte) error {
		var a answer
		if err := json.Unmarshal(data, &a); err != nil || a.Error != nil {
			return fmt.Errorf("%w: a part of the stream is %.200s", errBroken, data)
		}
		if a.Usage != nil {
			used = a.Usage
			if len(a.Choices) == 0 && !c.r.wantsUsage() {
				return nil // we asked for it, and not the caller
			}
		}
		finished, cut = finished || a.finished(), cut || a.cut()
		n := a.parts()
		if parts+n > c.most*c.r.choices() {
			return errRunaway
		}
		out.Parts = append(out.Parts, json.RawMessage(data))
		// What cannot be sent was generated all the same.
		parts += n
		return c.call.Send(json.RawMessage(data))
	})
	if err != nil && len(out.Parts) == 0 {
		if errors.Is(ctx.Err(), context.Canceled) { // the caller is gone, and the prompt is read
			return Output{}, errors.Join(err, c.settle(context.WithoutCancel(ctx), usage{Prompt: c.r.estimatedInput()}))
		}
		if errors.Is(err, errBroken) {
			err = fmt.Errorf("%w: %w", badUpstream("The model's server broke off. Nothing was charged; try again."), err)
		}
		return Output{}, err
	}
	if used == nil {
		// A part is a token at least, so this is never more than was used.
		used = &usage{c.r.estimatedInput(), parts}
	}
	if meter := c.settle(context.WithoutCancel(ctx), *used); meter != nil {
		return Output{}, errors.Join(err, meter)
	}
	switch {
	case errors.Is(err, errRunaway) && c.short:
		out.Broken = cutShort
		return out, services.Partial(cutShort)
	case errors.Is(err, errRunaway):
		return out, services.Partial("The model went on beyond the bound of its answer and was stopped.")
	case ctx.Err() != nil || errors.Is(err, services.ErrLeft):
		return Output{}, errors.Join(err, ctx.Err()) // what was metered is charged
	case err != nil || (!done && !finished):
		c.call.Logger.ErrorContext(ctx, "the upstream broke off", slog.Any("error", err))
		out.Broken = "The model's server broke off. What it had sent until then was charged."
		return out, services.Partial(out.Broken)
	case c.short && cut:
		return out, services.Partial(cutShort)
	}
	return out, nil
}
