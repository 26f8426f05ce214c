package quickscale_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/services"
)

// toolbox is an application with services, on a server of its own, and somebody who uses it.
type toolbox struct {
	t    *testing.T
	app  *quickscale.App
	url  string
	user auth.User

	mu       sync.Mutex
	progress []mcp.ProgressNotificationParams
}

// say is what the services of the toolbox take and give.
type say struct {
	Text string `json:"text" validate:"required,max=20"`
}

func runToolbox(t *testing.T, fn func(t *testing.T, b *toolbox)) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		app := newApp(t, db, func(c *quickscale.Config) {
			c.JobPoll = 10 * time.Millisecond
			c.KeyScopes = []string{quickscale.ScopeAPI, quickscale.ScopeService + "echo", "reports"}
		})
		require.NoError(t, app.Migrate(t.Context()))
		add := func(name string, price services.Pricing, fn func(ctx context.Context, call *services.Call, in say) (say, error), opts ...services.Option) {
			info := services.Info{Name: name, Title: "Title of " + name, Summary: "Says it."}
			require.NoError(t, services.Register(app.Services, services.Func(info, price, fn), opts...))
		}
		echo := func(_ context.Context, _ *services.Call, in say) (say, error) { return in, nil }
		add("echo", services.Fixed(credits.MustAmount("0.5")), echo)
		add("dear", services.Fixed(1000*credits.Credit), echo)
		add("off", services.Free(), echo, services.Inactive())
		add("later", services.Fixed(credits.Credit), echo, services.Background())
		add("breaks", services.Fixed(credits.Credit), func(context.Context, *services.Call, say) (say, error) {
			return say{}, services.Failure("The moon is in the way.")
		})
		rates := services.Rates{"words": services.Each(credits.MustAmount("0.1"))}
		add("words", services.Metered(rates, func(say) services.Units { return services.Units{"words": 10} }), func(_ context.Context, call *services.Call, in say) (say, error) {
			for word := range strings.FieldsSeq(in.Text) {
				if err := call.Meter("words", 1); err != nil {
					return say{}, err
				}
				if err := call.Send(say{word}); err != nil {
					return say{}, err
				}
			}
			return in, nil
		})
		require.NoError(t, app.Start(t.Context()))
		t.Cleanup(func() { assert.NoError(t, app.Stop(context.Background())) })
		u, err := app.Auth.CreateUser(t.Context(), auth.CreateUserParams{Email: "ada@example.com", Password: "correct horse battery", Verified: true, Role: auth.RoleUser})
		require.NoError(t, err)
		_, err = app.Credits.Grant(t.Context(), credits.GrantParams{Account: u.ID, Amount: 10 * credits.Credit, Source: credits.Purchase, Reason: "test"})
		require.NoError(t, err)
		server := httptest.NewServer(app.Handler())
		t.Cleanup(server.Close)
		fn(t, &toolbox{t: t, app: app, url: server.URL, user: u})
	})
}

// key makes an API key with scopes.
func (b *toolbox) key(scopes ...string) string {
	b.t.Helper()
	_, token, err := b.app.Auth.CreateAPIKey(b.t.Context(), auth.CreateAPIKeyParams{UserID: b.user.ID, Name: "test", Scopes: scopes})
	require.NoError(b.t, err)
	return token
}

// bearer sends a key with every request.
type bearer string

func (k bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(k))
	return http.DefaultTransport.RoundTrip(r)
}

// connect is the official client.
func (b *toolbox) connect(key string) (*mcp.ClientSession, error) {
	c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.progress = append(b.progress, *r.Params)
		},
	})
	session, err := c.Connect(b.t.Context(), &mcp.StreamableClientTransport{Endpoint: b.url + "/mcp", HTTPClient: &http.Client{Transport: bearer(key)}, MaxRetries: -1}, nil)
	if err == nil {
		b.t.Cleanup(func() { assert.NoError(b.t, session.Close()) })
	}
	return session, err
}

func (b *toolbox) session(scopes ...string) *mcp.ClientSession {
	b.t.Helper()
	session, err := b.connect(b.key(scopes...))
	require.NoError(b.t, err)
	return session
}

func (b *toolbox) call(session *mcp.ClientSession, tool string, arguments any, meta mcp.Meta) *mcp.CallToolResult {
	b.t.Helper()
	result, err := session.CallTool(b.t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments, Meta: meta})
	require.NoError(b.t, err)
	return result
}

func (b *toolbox) balance() string {
	b.t.Helper()
	balance, err := b.app.Credits.Balance(b.t.Context(), b.user.ID)
	require.NoError(b.t, err)
	return balance.Available.String()
}

// failure is the error of a tool: its code and message.
func failure(t *testing.T, result *mcp.CallToolResult) (code, message string) {
	t.Helper()
	require.True(t, result.IsError)
	var told struct{ Code, Message string }
	require.NoError(t, json.Unmarshal([]byte(result.Content[0].(*mcp.TextContent).Text), &told))
	return told.Code, told.Message
}

func TestMCP_EachEnabledServiceIsATool(t *testing.T) {
	runToolbox(t, func(t *testing.T, b *toolbox) {
		session := b.session(quickscale.ScopeAPI)
		listed, err := session.ListTools(t.Context(), nil)
		require.NoError(t, err)
		tools := map[string]*mcp.Tool{}
		for _, tool := range listed.Tools {
			tools[tool.Name] = tool
		}
		require.Contains(t, tools, "echo")
		assert.NotContains(t, tools, "off", "it is switched off")
		assert.Contains(t, tools, "get_call", "some calls are jobs")
		echo := tools["echo"]
		assert.Equal(t, "Title of echo", echo.Title)
		assert.Contains(t, echo.Description, "Says it. Price: 0.5 credits.")
		assert.Equal(t, "0.5 credits", echo.Meta["price"])
		schema := echo.InputSchema.(map[string]any)
		assert.Equal(t, []any{"text"}, schema["required"])
		assert.NotNil(t, echo.OutputSchema)

		on := true
		require.NoError(t, b.app.Services.SetEnabled(t.Context(), "off", &on))
		listed, err = session.ListTools(t.Context(), nil)
		require.NoError(t, err)
		assert.Len(t, listed.Tools, len(tools)+1, "it is switched on")
	})
}

func TestMCP_ACallIsChargedAsByHTTP(t *testing.T) {
	runToolbox(t, func(t *testing.T, b *toolbox) {
		session := b.session(quickscale.ScopeAPI)
		key := mcp.Meta{"idempotencyKey": "once", "usageTags": map[string]any{"team": "search"}}
		first := b.call(session, "echo", say{"hi"}, key)
		require.False(t, first.IsError)
		assert.Equal(t, map[string]any{"text": "hi"}, first.StructuredContent)
		assert.JSONEq(t, `{"text":"hi"}`, first.Content[0].(*mcp.TextContent).Text)
		assert.Equal(t, "0.5", first.Meta["credits_charged"])
		assert.Equal(t, "9.5", first.Meta["balance"])

		again := b.call(session, "echo", say{"hi"}, key)
		assert.Equal(t, first.Meta["call_id"], again.Meta["call_id"], "the first answer again")
		r := httptest.NewRequest(http.MethodPost, "/api/v1/services/echo", strings.NewReader(`{"text":"hi"}`))
		r.Header.Set("Authorization", "Bearer "+b.key(quickscale.ScopeAPI))
		r.Header.Set("Idempotency-Key", "once")
		w := httptest.NewRecorder()
		b.app.Handler().ServeHTTP(w, r)
		assert.Contains(t, w.Body.String(), first.Meta["call_id"], "over HTTP too")
		assert.Equal(t, "9.5", b.balance(), "charged once")

		b.call(session, "echo", say{"hi"}, nil)
		assert.Equal(t, "9", b.balance(), "another call without the key")
		calls, _, err := b.app.Services.Usage(t.Context(), services.UsageParams{Account: b.user.ID, Tag: "team", Value: "search"})
		require.NoError(t, err)
		assert.Len(t, calls, 1)
	})
}

func TestMCP_ErrorsAreTheTools(t *testing.T) {
	runToolbox(t, func(t *testing.T, b *toolbox) {
		session := b.session(quickscale.ScopeAPI)
		for _, c := range []struct {
			tool      string
			arguments any
			meta      mcp.Meta
			code      string
			message   string
		}{
			{"echo", map[string]any{"text": "hi", "more": 1}, nil, "invalid", "another look"},
			{"echo", nil, nil, "invalid", "another look"},
			{"dear", say{"hi"}, nil, "insufficient_credits", ""},
			{"off", say{"hi"}, nil, "service_inactive", "Nothing was charged"},
			{"breaks", say{"hi"}, nil, "execution_failed", "The moon is in the way. Nothing was charged."},
			{"echo", say{"hi"}, mcp.Meta{"idempotencyKey": ""}, "invalid", "idempotency key"},
			{"echo", say{"hi"}, mcp.Meta{"idempotencyKey": 7}, "invalid", "idempotency key"},
			{"echo", say{"hi"}, mcp.Meta{"usageTags": "team"}, "invalid", "tags"},
			{"echo", say{"hi"}, mcp.Meta{"usageTags": map[string]any{"team": 1}}, "invalid", "tags"},
			{"get_call", map[string]any{"call_id": "0195d3a0-0000-7000-8000-000000000000"}, nil, "not_found", ""},
			{"get_call", map[string]any{"call_id": "seven"}, nil, "invalid", ""},
		} {
			code, message := failure(t, b.call(session, c.tool, c.arguments, c.meta))
			assert.Equal(t, c.code, code, c.tool)
			assert.Contains(t, message, c.message, c.tool)
		}
		result := b.call(session, "dear", say{"hi"}, nil)
		assert.Equal(t, map[string]any{"available": "10", "required": "1000", "shortfall": "990"}, result.Meta["error"].(map[string]any)["details"])
		assert.Equal(t, "10", b.balance(), "nothing was charged")

		_, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "nothing"})
		var refused *jsonrpc.Error
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, int64(jsonrpc.CodeInvalidParams), refused.Code)
	})
}

func TestMCP_PartsOfAStreamAreProgress(t *testing.T) {
	runToolbox(t, func(t *testing.T, b *toolbox) {
		session := b.session(quickscale.ScopeAPI)
		p := &mcp.CallToolParams{Name: "words", Arguments: say{"one two three"}}
		p.SetProgressToken("words-1")
		result, err := session.CallTool(t.Context(), p)
		require.NoError(t, err)
		assert.Equal(t, "0.3", result.Meta["credits_charged"])
		assert.Equal(t, map[string]any{"words": 3.0}, result.Meta["units"])
		assert.Equal(t, "9.7", b.balance())
		assert.Eventually(t, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.progress) == 3 }, 10*time.Second, 5*time.Millisecond)
		for i, word := range []string{"one", "two", "three"} {
			assert.Equal(t, "words-1", b.progress[i].ProgressToken)
			assert.InDelta(t, float64(i+1), b.progress[i].Progress, 0)
			assert.JSONEq(t, `{"text":"`+word+`"}`, b.progress[i].Message)
		}
		assert.Equal(t, "0.3", b.call(session, "words", say{"one two three"}, nil).Meta["credits_charged"], "without progress too")
	})
}

func TestMCP_AJobIsLookedAtByItsCall(t *testing.T) {
	runToolbox(t, func(t *testing.T, b *toolbox) {
		session := b.session(quickscale.ScopeAPI)
		began := b.call(session, "later", say{"hi"}, nil)
		require.False(t, began.IsError)
		id := began.StructuredContent.(map[string]any)["call_id"]
		var got map[string]any
		require.Eventually(t, func() bool {
			got = b.call(session, "get_call", map[string]any{"call_id": id}, nil).StructuredContent.(map[string]any)
			return got["finished_at"] != nil
		}, 20*time.Second, 20*time.Millisecond)
		assert.Equal(t, "succeeded", got["status"])
		assert.Equal(t, map[string]any{"text": "hi"}, got["result"])
		assert.Equal(t, "9", b.balance())
		canceled := b.call(session, "cancel_call", map[string]any{"call_id": id}, nil)
		assert.Equal(t, "succeeded", canceled.StructuredContent.(map[string]any)["status"], "too late")
	})
}

func TestMCP_AsksForAKey(t *testing.T) {
	runToolbox(t, func(t *testing.T, b *toolbox) {
		const hello = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
		for name, header := range map[string]string{"no key": "", "a wrong key": "Bearer qs_test_wrong", "another scheme": "Basic YTpi"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/mcp", strings.NewReader(hello))
			require.NoError(t, err)
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Accept", "application/json, text/event-stream")
			if header != "" {
				r.Header.Set("Authorization", header)
			}
			res, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode, name)
			assert.Equal(t, "Bearer", res.Header.Get("WWW-Authenticate"), name)
		}
		_, err := b.connect("qs_test_wrong")
		require.Error(t, err)
	})
}

// The scopes of a key count for MCP and for the API over HTTP alike.
func TestMCP_KeysReachAsFarAsTheirScopes(t *testing.T) {
	runToolbox(t, func(t *testing.T, b *toolbox) {
		key := b.key(quickscale.ScopeService + "echo")
		session, err := b.connect(key)
		require.NoError(t, err)
		listed, err := session.ListTools(t.Context(), nil)
		require.NoError(t, err)
		require.Len(t, listed.Tools, 1)
		assert.Equal(t, "echo", listed.Tools[0].Name)
		result := b.call(session, "echo", say{"hi"}, nil)
		assert.False(t, result.IsError)
		code, _ := failure(t, b.call(session, "words", say{"hi"}, nil))
		assert.Equal(t, "forbidden", code)

		_, err = b.app.Services.Run(t.Context(), services.RunParams{Account: b.user.ID, Service: "words", Input: say{"hi"}, IdempotencyKey: "k"})
		require.NoError(t, err)
		other, _, err := b.app.Services.Usage(t.Context(), services.UsageParams{Account: b.user.ID, Service: "words"})
		require.NoError(t, err)
		ask := func(method, path, body, key string) int {
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+key)
			w := httptest.NewRecorder()
			b.app.Handler().ServeHTTP(w, r)
			return w.Code
		}
		mine := result.Meta["call_id"].(string)
		for _, c := range []struct {
			method, path string
			status       int
		}{
			{"POST", "/api/v1/services/echo", 200},
			{"POST", "/api/v1/services/echo/quote", 200},
			{"POST", "/api/v1/services/words", 403},
			{"POST", "/api/v1/services/words/quote", 403},
			{"GET", "/api/v1/calls/" + mine, 200},
			{"GET", "/api/v1/calls/" + other[0].ID.String(), 404},
			{"POST", "/api/v1/calls/" + other[0].ID.String() + "/cancel", 404},
			{"GET", "/api/v1/credits", 403},
			{"GET", "/api/v1/usage", 403},
		} {
			assert.Equal(t, c.status, ask(c.method, c.path, `{"text":"hi"}`, key), c.path)
		}
		code, _ = failure(t, b.call(session, "get_call", map[string]any{"call_id": other[0].ID}, nil))
		assert.Equal(t, "not_found", code)

		// A scope of the host's own opens nothing here.
		reports := b.key("reports")
		assert.Equal(t, http.StatusForbidden, ask(http.MethodGet, "/api/v1/services", "", reports))
		_, err = b.connect(reports)
		require.Error(t, err)
	})
}

// A proxy on the same machine passes the public name on.
func TestMCP_AnswersUnderAPublicName(t *testing.T) {
	runToolbox(t, func(t *testing.T, b *toolbox) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
		require.NoError(t, err)
		r.Host = "app.example.com"
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		r.Header.Set("Authorization", "Bearer "+b.key(quickscale.ScopeAPI))
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		assert.Equal(t, http.StatusOK, res.StatusCode)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Body = http.NoBody
		res, err = http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		assert.Equal(t, http.StatusForbidden, res.StatusCode, "no page of another site calls a tool")
	})
}
