package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// chatRequest is a request for a chat completion (OpenAI API reference, "Create chat completion"), as far as the price
// depends on it. The rest is passed on as it came.
type chatRequest struct {
	Model               string          `json:"model"`
	Messages            []message       `json:"messages"`
	Stream              bool            `json:"stream"`
	StreamOptions       *streamOptions  `json:"stream_options"`
	N                   *int64          `json:"n"`
	MaxTokens           *int64          `json:"max_tokens"`
	MaxCompletionTokens *int64          `json:"max_completion_tokens"`
	Raw                 json.RawMessage `json:"-"`

	fields map[string]json.RawMessage
}

type message struct {
	Content json.RawMessage `json:"content"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

const (
	maxRequest  = 1 << 20
	maxChoices  = 8
	maxMessages = 1000
)

// passed are the fields that are taken. Others might make the upstream do work that the price does not know of, such
// as searching the web or speaking, and are refused.
var passed = []string{
	"frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "messages", "model", "n", "parallel_tool_calls",
	"presence_penalty", "reasoning_effort", "response_format", "seed", "stop", "stream", "stream_options", "temperature", "tool_choice", "tools",
	"top_logprobs", "top_p", "user",
}

// parseRequest reads a request and refuses what cannot be priced. The errors are [*apiError].
func parseRequest(raw []byte) (*chatRequest, error) {
	r := &chatRequest{Raw: raw}
	if err := decodeOne(raw, &r.fields); err != nil {
		return nil, badRequest("", "The body must be one JSON object.")
	}
	for _, name := range slices.Sorted(maps.Keys(r.fields)) {
		if !slices.Contains(passed, name) {
			return nil, badRequest(name, "This gateway does not take the parameter "+name+".")
		}
	}
	// encoding/json takes names in any case and keys twice; written anew there is one of each, in lower case.
	clean, err := json.Marshal(r.fields)
	if err != nil {
		return nil, fmt.Errorf("write the request anew: %w", err)
	}
	if err := json.Unmarshal(clean, r); err != nil {
		param := ""
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			param = wrong.Field
		}
		return nil, badRequest(param, "A parameter has the wrong type.")
	}
	return r, r.check()
}

func decodeOne(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the first value")
	}
	return nil
}

func (r *chatRequest) check() error {
	switch {
	case r.fields == nil:
		return badRequest("", "The body must be one JSON object.")
	case r.Model == "":
		return badRequest("model", "Name a model.")
	case len(r.Messages) == 0 || len(r.Messages) > maxMessages:
		return badRequest("messages", fmt.Sprintf("There must be 1 to %d messages.", maxMessages))
	case r.N != nil && (*r.N < 1 || *r.N > maxChoices):
		return badRequest("n", fmt.Sprintf("This must be 1 to %d.", maxChoices))
	case r.MaxTokens != nil && *r.MaxTokens < 1:
		return badRequest("max_tokens", "This must be 1 or more.")
	case r.MaxCompletionTokens != nil && *r.MaxCompletionTokens < 1:
		return badRequest("max_completion_tokens", "This must be 1 or more.")
	case r.MaxTokens != nil && r.MaxCompletionTokens != nil:
		return badRequest("max_tokens", "Give max_tokens or max_completion_tokens, not both.")
	case r.StreamOptions != nil && !r.Stream:
		return badRequest("stream_options", "This is for streams.")
	}
	for i, m := range r.Messages {
		if err := m.check(fmt.Sprintf("messages[%d].content", i)); err != nil {
			return err
		}
	}
	return nil
}

// check refuses content whose tokens its bytes do not bound: pictures, sound and files.
func (m message) check(at string) error {
	text := bytes.TrimSpace(m.Content)
	if len(text) == 0 || text[0] == '"' || bytes.Equal(text, []byte("null")) {
		return nil
	}
	var parts []struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(text, &parts); err != nil {
		return badRequest(at, "Content is text or a list of parts.")
	}
	for _, p := range parts {
		if p.Type != "text" && p.Type != "refusal" {
			return badRequest(at, "This gateway takes text, and no parts of the type "+p.Type+".")
		}
	}
	return nil
}

// A token is a byte or more, so a prompt has no more tokens than bytes, and those that the upstream puts around each
// message and the whole.
const (
	aroundMessage = 16
	aroundPrompt  = 256
)

// maxInput is the most tokens that the prompt can have.
func (r *chatRequest) maxInput() int64 {
	return int64(len(r.Raw)) + aroundMessage*int64(len(r.Messages)) + aroundPrompt
}

// bytesPerToken is the rule of thumb for text where nobody counted.
const bytesPerToken = 4

func tokensOf(bytes int) int64 { return int64((bytes + bytesPerToken - 1) / bytesPerToken) }

// estimatedInput is how many tokens the prompt has, where the upstream does not tell.
func (r *chatRequest) estimatedInput() int64 {
	n := 0
	for _, m := range r.Messages {
		n += len(m.Content)
	}
	return min(tokensOf(n+len(r.fields["tools"])), r.maxInput())
}

// choices is how many answers are asked for.
func (r *chatRequest) choices() int64 {
	if r.N == nil {
		return 1
	}
	return *r.N
}

// maxOutput is the most tokens of one answer.
func (r *chatRequest) maxOutput(m Model) int64 {
	most := m.MaxOutput
	for _, asked := range []*int64{r.MaxTokens, r.MaxCompletionTokens} {
		if asked != nil {
			most = min(most, *asked)
		}
	}
	return most
}

// wantsUsage tells whether a stream is to end with what it used.
func (r *chatRequest) wantsUsage() bool {
	return r.StreamOptions != nil && r.StreamOptions.IncludeUsage
}

// body is the request to the upstream: it always has a bound for the answer, and streams always tell what they used.
func (r *chatRequest) body(m Model, most int64) ([]byte, error) {
	fields := maps.Clone(r.fields)
	bound := "max_tokens"
	if r.MaxCompletionTokens != nil {
		bound = "max_completion_tokens"
	}
	set := map[string]any{"model": m.Upstream, bound: most}
	if r.Stream {
		set["stream_options"] = streamOptions{IncludeUsage: true}
	}
	for name, value := range set {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		fields[name] = text
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("write the request to the upstream: %w", err)
	}
	return text, nil
}

// usage is what the upstream counted.
type usage struct {
	Prompt     int64 `json:"prompt_tokens"`
	Completion int64 `json:"completion_tokens"`
}

// answer is a completion, or a part of a streamed one, as far as the gateway looks at it.
type answer struct {
	Choices []struct {
		Message      delta   `json:"message"`
		Delta        delta   `json:"delta"`
		FinishReason *string `json:"finish_reason"`
	} `json:"choices"`
	Usage *usage `json:"usage"`
	// Error is what a stream says when it fails in the middle.
	Error any `json:"error"`
}

// delta is what a model said.
type delta struct {
	Content   string          `json:"content"`
	Refusal   string          `json:"refusal"`
	Reasoning string          `json:"reasoning_content"`
	ToolCalls json.RawMessage `json:"tool_calls"`
}

func (d delta) size() int {
	n := len(d.Content) + len(d.Refusal) + len(d.Reasoning)
	if tools := strings.TrimSpace(string(d.ToolCalls)); tools != "null" && tools != "[]" {
		n += len(tools)
	}
	return n
}

// estimatedOutput is how many tokens a whole answer has, where the upstream does not tell.
func (a answer) estimatedOutput() int64 {
	n := 0
	for _, c := range a.Choices {
		n += c.Message.size()
	}
	return tokensOf(n)
}

// parts is how many choices say something in this part of a stream. Each is a token at least.
func (a answer) parts() (n int64) {
	for _, c := range a.Choices {
		if c.Delta.size() > 0 {
			n++
		}
	}
	return n
}

// cut tells that an answer ended at its bound.
func (a answer) cut() bool {
	for _, c := range a.Choices {
		if c.FinishReason != nil && *c.FinishReason == "length" {
			return true
		}
	}
	return false
}

// finished tells that a choice has come to its end.
func (a answer) finished() bool {
	for _, c := range a.Choices {
		if c.FinishReason != nil {
			return true
		}
	}
	return false
}
