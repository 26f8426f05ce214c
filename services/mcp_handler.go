package services

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/quickscale/quickscale/internal/problem"
)

// DefaultMCPPath is where the host mounts [Services.MCPHandler] unless it has another place for it.
const DefaultMCPPath = "/mcp"

// mcpMargin is what a request by MCP may have around the input of a tool, in bytes.
const mcpMargin = 64 << 10

// MCPHandler offers each enabled service as a tool of the Model Context Protocol, over streamable HTTP, to callers with
// an API key. A call of a tool is a call of the service: with the same rules, price and record. It keeps no sessions, so
// any process answers any request; it is mounted at one path, such as /mcp.
//
// Of the protocol's _meta a call of a tool reads idempotencyKey (text) and usageTags (an object of texts). The ids of
// requests are no such keys, since they are a connection's own.
func (s *Services) MCPHandler() http.Handler {
	inner := mcp.NewStreamableHTTPHandler(func(r *http.Request) *mcp.Server {
		server, _ := r.Context().Value(mcpKey{}).(*mcp.Server)
		return server
	}, &mcp.StreamableHTTPOptions{
		Stateless: true, PropagateRequestCancellation: true, MaxRequestBodyBytes: -1, // bounded below
		Logger: s.cfg.Logger,
		// A proxy on this machine passes the host's public name on. No site that a browser is lured to has a key.
		DisableLocalhostProtection: true,
	})
	return s.cfg.Site.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := s.mcpCaller(r)
		if err != nil {
			if c := problem.From(err); c != nil && c.ErrorCode() == problem.CodeUnauthenticated {
				w.Header().Set("WWW-Authenticate", "Bearer") // RFC 9110, section 11.6.1
			}
			s.cfg.Site.FailJSON(w, r, err)
			return
		}
		body, err := s.mcpBody(w, r)
		if err != nil {
			s.cfg.Site.FailJSON(w, r, err)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		// The server's limit is for answers that come at once. Where there is none to lift, it did not bind either.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.longest() + streamMargin))
		server := s.mcpServer(r.Context(), who)
		inner.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), mcpKey{}, server)))
	}))
}

type mcpKey struct{}

// mcpCaller tells whose key it is. The session of a browser does not count here.
func (s *Services) mcpCaller(r *http.Request) (Caller, error) {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || strings.TrimSpace(key) == "" {
		return Caller{}, ErrUnauthenticated
	}
	return s.cfg.API(r)
}

// mcpBody reads a request whole, so that a slow sender holds up nothing else.
func (s *Services) mcpBody(w http.ResponseWriter, r *http.Request) (body []byte, err error) {
	defer s.hurry(w)(&err)
	body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, s.largest()+mcpMargin))
	if err != nil {
		return nil, bodyError(err)
	}
	return body, nil
}

// largest is the largest input that any service takes.
func (s *Services) largest() (most int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, versions := range s.byName {
		for _, r := range versions {
			most = max(most, r.opts.maxBody)
		}
	}
	return most
}

// mcpServer answers one request.
func (s *Services) mcpServer(ctx context.Context, who Caller) *mcp.Server {
	// Where the protocol keeps the work of a call apart from its request, the end of the request ends the work.
	t := &tools{s: s, who: who, request: ctx}
	server := mcp.NewServer(&mcp.Implementation{Name: s.cfg.Site.Name(), Version: "1"}, &mcp.ServerOptions{
		Logger:       s.cfg.Logger,
		Instructions: "Each tool costs credits, as its description says. A call that fails costs nothing unless its tool says otherwise.",
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}},
	})
	server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			switch req := req.(type) {
			case *mcp.ListToolsRequest:
				return t.list(ctx), nil
			case *mcp.CallToolRequest:
				return t.call(ctx, req)
			}
			return next(ctx, method, req)
		}
	})
	return server
}
