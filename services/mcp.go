package services

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

// The tools for calls in the background. A service's name has no underscore.
const (
	toolFindCall   = "get_call"
	toolCancelCall = "cancel_call"
)

// The names in _meta of a call.
const (
	metaKey  = "idempotencyKey"
	metaTags = "usageTags"
)

// tools are what one request by MCP may use.
type tools struct {
	s       *Services
	who     Caller
	request context.Context //nolint:containedctx // it lives as long as the request that it is of
}

// list tells all tools at once: a catalogue of services is small.
func (t *tools) list(ctx context.Context) *mcp.ListToolsResult {
	result := &mcp.ListToolsResult{Tools: []*mcp.Tool{}}
	background := false
	for _, d := range t.s.List(ctx) {
		if !d.Active || t.who.may(d.Name) != nil {
			continue
		}
		background = background || d.Background
		result.Tools = append(result.Tools, toolOf(d))
	}
	if background {
		schema := json.RawMessage(`{"type":"object","required":["call_id"],"additionalProperties":false,"properties":{"call_id":{"type":"string","format":"uuid"}}}`)
		result.Tools = append(result.Tools,
			&mcp.Tool{Name: toolFindCall, Title: "Look at a call", Description: "Tells where a call stands that runs in the background, with its result at the end. Free.",
				InputSchema: schema, Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}},
			&mcp.Tool{Name: toolCancelCall, Title: "Cancel a call", Description: "Ends a call that runs in the background. Free.",
				InputSchema: schema, Annotations: &mcp.ToolAnnotations{IdempotentHint: true}},
		)
	}
	return result
}

// toolOf is a service as a tool.
func toolOf(d Description) *mcp.Tool {
	tool := &mcp.Tool{
		Meta: mcp.Meta{"price": d.PriceText, "pricing": d.Pricing}, Name: d.Name, Title: d.Title, Description: about(d), InputSchema: d.InputSchema,
	}
	if len(d.Rates) > 0 {
		tool.Meta["rates"] = d.Rates
	}
	if !d.Background { // which answers with the call
		tool.OutputSchema = d.OutputSchema
	}
	return tool
}

// call calls a tool. What a service refuses or fails at is told as the tool's error; other errors are the protocol's.
func (t *tools) call(ctx context.Context, req *mcp.CallToolRequest) (mcp.Result, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(t.request, stop)()
	name := req.Params.Name
	if name == toolFindCall || name == toolCancelCall {
		return t.byID(ctx, name, req.Params.Arguments), nil
	}
	svc, err := t.s.find(name, "")
	if err != nil {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: fmt.Sprintf("There is no tool %q.", name)}
	}
	p, err := t.params(ctx, svc, req.Params)
	if err != nil {
		return t.failed(ctx, err), nil
	}
	if svc.opts.background {
		record, err := t.s.Enqueue(ctx, EnqueueParams{RunParams: p})
		if err != nil {
			return t.failed(ctx, err), nil
		}
		return t.told(ctx, record), nil
	}
	result, err := t.run(ctx, req, p)
	switch {
	case err != nil:
		return t.failed(ctx, err), nil
	case result.Output == nil && result.Incomplete != nil:
		return t.failed(ctx, &CallError{Call: result.CallID, Charged: result.Charged, Code: result.Incomplete.Code, Message: result.Incomplete.Message}), nil
	}
	return &mcp.CallToolResult{
		Meta: metaOf(result), Content: []mcp.Content{&mcp.TextContent{Text: string(result.Output)}}, StructuredContent: result.Output,
	}, nil
}

// params read a call, under the same rules as over HTTP.
func (t *tools) params(ctx context.Context, svc *registered, p *mcp.CallToolParamsRaw) (RunParams, error) {
	call := RunParams{Account: t.who.Account, Service: svc.info.Name, Input: p.Arguments}
	if len(p.Arguments) == 0 {
		call.Input = json.RawMessage(`{}`)
	}
	if err := t.who.may(svc.info.Name); err != nil {
		return call, err
	}
	if err := t.spend(ctx); err != nil {
		return call, err
	}
	if int64(len(p.Arguments)) > svc.opts.maxBody {
		return call, web.ErrTooLarge
	}
	if given, ok := p.Meta[metaKey]; ok {
		if call.IdempotencyKey, ok = given.(string); !ok || !validKey(call.IdempotencyKey) {
			return call, ErrKeyInvalid
		}
	}
	if given, ok := p.Meta[metaTags]; ok {
		tags, ok := given.(map[string]any)
		if !ok {
			return call, ErrTagsInvalid
		}
		call.Tags = make(map[string]string, len(tags))
		for name, value := range tags {
			if call.Tags[name], ok = value.(string); !ok {
				return call, ErrTagsInvalid
			}
		}
	}
	return call, nil
}

// spend takes a call of the account's quota.
func (t *tools) spend(ctx context.Context) error {
	if t.s.cfg.RateLimit.Calls == 0 {
		return nil
	}
	q, err := t.s.spend(ctx, t.who.Account)
	if err == nil && q.refused {
		return &rateError{max(seconds(q.next), 1)}
	}
	return err
}

// rateError is [ErrRate] where there is no header to say when the next call may be.
type rateError struct{ after int64 }

// Error implements error.
func (e *rateError) Error() string { return ErrRate.Error() }

// ErrorCode implements problem.Coder.
func (e *rateError) ErrorCode() string { return problem.CodeTooMany }

// ErrorMessage implements problem.Coder.
func (e *rateError) ErrorMessage() string {
	return fmt.Sprintf("This account makes too many calls. Try again after %d seconds.", e.after)
}

// ErrorDetails implements problem.Coder.
func (e *rateError) ErrorDetails() map[string]any { return map[string]any{"retry_after": e.after} }

// run makes a call. Who asks for progress gets each part of a stream as a notification of it.
func (t *tools) run(ctx context.Context, req *mcp.CallToolRequest, p RunParams) (Result, error) {
	token := req.Params.GetProgressToken()
	if token == nil {
		return t.s.Run(ctx, p)
	}
	parts := 0.0
	return t.s.Stream(ctx, p, func(part Part) error {
		parts++
		return req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: parts, Message: string(part.Data)})
	})
}

// byID looks at a call in the background, or cancels it.
func (t *tools) byID(ctx context.Context, tool string, arguments json.RawMessage) *mcp.CallToolResult {
	var in struct {
		ID uuid.UUID `json:"call_id"`
	}
	if err := json.Unmarshal(arguments, &in); err != nil {
		return t.failed(ctx, problem.Invalid(map[string]string{"call_id": "This must be the call_id of a call."}))
	}
	do := t.s.FindCall
	if tool == toolCancelCall {
		do = t.s.Cancel
	}
	record, err := t.s.recordFor(ctx, t.who, in.ID, do)
	if err != nil {
		return t.failed(ctx, err)
	}
	return t.told(ctx, record)
}

// told answers with a call.
func (t *tools) told(ctx context.Context, record Record) *mcp.CallToolResult {
	text, err := json.Marshal(record)
	if err != nil {
		return t.failed(ctx, fmt.Errorf("services: write call %s: %w", record.ID, err))
	}
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(text)}}, StructuredContent: json.RawMessage(text)}
}

// metaOf is what a call cost.
func metaOf(r Result) mcp.Meta {
	meta := mcp.Meta{"call_id": r.CallID, "credits_charged": r.Charged, "balance": r.Balance}
	if len(r.Units) > 0 {
		meta["units"] = r.Units
	}
	if r.Cached {
		meta["cached"] = true
	}
	if r.Incomplete != nil {
		meta["incomplete"] = r.Incomplete
	}
	return meta
}

// failed is an error as the tool's: the text is the error as the HTTP API has it, and _meta has it too.
func (t *tools) failed(ctx context.Context, err error) *mcp.CallToolResult {
	c := problem.From(err)
	if c == nil {
		t.s.cfg.Logger.ErrorContext(ctx, "tool failed", slog.Any("error", err))
		c = problem.New(problem.CodeInternal, "Something went wrong on our side. Try again in a moment.")
	}
	told := map[string]any{"code": c.ErrorCode(), "message": c.ErrorMessage()}
	if details := c.ErrorDetails(); details != nil {
		told["details"] = details
	}
	text, err := json.Marshal(told)
	if err != nil {
		panic(err) // facts of errors are made to be written
	}
	return &mcp.CallToolResult{IsError: true, Meta: mcp.Meta{"error": json.RawMessage(text)}, Content: []mcp.Content{&mcp.TextContent{Text: string(text)}}}
}
